package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Reasons for which messages are dropped.
const (
	dropFull    = "queue_full"
	dropAge     = "too_old"
	dropRefused = "refused"
	dropRestart = "restart"
)

// loss is what was dropped.
type loss struct {
	messages, bytes, items int
	minTime, maxTime       int64 // unix milliseconds; 0 if not known
}

func (l *loss) add(m *buffer.Message, items int) {
	if m.Format == buffer.FormatPosition {
		return
	}
	l.messages++
	l.bytes += len(m.Payload)
	l.items += items
	if m.MinTime != 0 && (l.minTime == 0 || m.MinTime < l.minTime) {
		l.minTime = m.MinTime
	}
	l.maxTime = max(l.maxTime, m.MaxTime)
}

// attrs tells a loss to the log.
func (l *loss) attrs(topic string) []any {
	a := []any{"messages", l.messages, "bytes", l.bytes, kindOf(topic), l.items}
	if l.minTime != 0 {
		a = append(a, "from", time.UnixMilli(l.minTime).UTC().Format(time.RFC3339Nano), "to", time.UnixMilli(l.maxTime).UTC().Format(time.RFC3339Nano))
	}
	return a
}

// kindOf names what a topic's messages hold.
func kindOf(topic string) string {
	switch topic {
	case buffer.TopicTraces:
		return "spans"
	case buffer.TopicLogs:
		return "log_records"
	}
	return "samples"
}

// saidFile remembers which offsets were said to be lost, so that the next start,
// which finds a gap behind the committed offset, does not say it again.
type saidFile struct {
	fs  vfs.FS
	dir string

	mu   sync.Mutex // guards what follows
	said map[string]span
}

// span are offsets from From on, To excluded.
type span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

const saidName = "dropped.json"

func (s *saidFile) load() error {
	s.said = map[string]span{}
	b, err := vfs.ReadFile(s.fs, filepath.Join(s.dir, saidName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was dropped: %w", err)
	}
	if json.Unmarshal(b, &s.said) != nil || s.said == nil {
		s.said = map[string]span{} // it only keeps a loss from being told twice
	}
	return nil
}

// add notes that a lane's offsets are told.
func (s *saidFile) add(k laneKey, from, to int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.said[k.String()]; ok && from <= old.To {
		from = min(from, old.From)
	}
	s.said[k.String()] = span{from, to}
	b, err := json.Marshal(s.said)
	if err == nil {
		err = vfs.WriteFile(s.fs, filepath.Join(s.dir, saidName), b)
	}
	if err != nil {
		return fmt.Errorf("note what was dropped: %w", err)
	}
	return nil
}

// untold returns how many offsets between committed and oldest were not told.
func (s *saidFile) untold(k laneKey, committed, oldest int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.said[k.String()]
	n := oldest - committed
	if from, to := max(told.From, committed), min(told.To, oldest); from < to {
		n -= to - from
	}
	return max(n, 0)
}
