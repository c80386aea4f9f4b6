package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/vfs"
)

// tried is what is known of when messages of a lane may have been sent before. It is
// used by the lane's shipper alone.
type tried struct {
	below  int64     // messages below this offset may have been sent
	first  time.Time // when the oldest of them that are not acknowledged were; zero if unknown
	latest time.Time // when any was, at the latest

	left triedNote // by the process before this one, if it has Again

	away   bool // the last attempt has failed
	closed bool // the file says that nothing from some offset on was sent
}

// triedNote is what the file has of a lane. Times are unix milliseconds.
type triedNote struct {
	Below int64 `json:"below"` // the first offset that was not sent before Again
	First int64 `json:"first"` // when what is below it and not acknowledged was sent first; 0 if unknown
	Last  int64 `json:"last"`  // when any of that was sent last, at the latest
	Again int64 `json:"again"` // since when what is not below it is sent; 0: nothing of it was
}

// newTried returns what a process knows that finds messages below an offset.
func newTried(begin int64, left triedNote, known bool) *tried {
	t := &tried{below: begin, latest: time.Now()}
	now := t.latest.UnixMilli()
	if left.First > now { // the clock was ahead then
		left.First = 0
	}
	switch left.Below = min(left.Below, begin); {
	case !known || left.Below < 0 || left.Again > now:
	case left.Again > 0:
		t.left = left
	default:
		t.below, t.closed = left.Below, true
		if left.First > 0 {
			t.first = time.UnixMilli(left.First)
		}
		if last := time.UnixMilli(left.Last); last.Before(t.latest) {
			t.latest = last
		}
	}
	return t
}

// of returns when any of the messages may have been sent before.
func (t *tried) of(messages []buffer.Message) buffer.Tries {
	switch {
	case messages[0].Offset >= t.below:
		return buffer.Tries{}
	case t.first.IsZero():
		return buffer.Tries{From: t.earliest(messages), To: t.latest}
	}
	return buffer.Tries{From: t.first, To: t.latest}
}

// earliest returns when messages that another process has left may have been sent first:
// not before they were put into the queue, and not before it has noted that it began to send
// such.
func (t *tried) earliest(messages []buffer.Message) time.Time {
	at := messages[0].Appended
	switch {
	case t.left.Again == 0:
	case messages[0].Offset >= t.left.Below:
		at = max(at, t.left.Again)
	default:
		at = max(at, t.left.First)
	}
	return time.UnixMilli(at)
}

// note takes down an attempt that began at some time, and its outcome.
func (t *tried) note(messages []buffer.Message, began time.Time, err error) {
	next := messages[len(messages)-1].Offset + 1
	var retry *RetryError
	var cut *CutError
	t.away = err != nil
	switch {
	case errors.As(err, &retry) && retry.Unsent:
		return
	case errors.As(err, &cut) && messages[0].Offset >= t.below: // it was too large, so nothing of it was taken
		return
	}
	t.latest = time.Now()
	if err == nil {
		if t.below = max(t.below, next); next == t.below {
			t.first = time.Time{}
		}
		return
	}
	if t.first.IsZero() {
		if t.first = began; messages[0].Offset < t.below {
			t.first = t.earliest(messages)
		}
	}
	t.below = max(t.below, next)
}

// closing is the note of a lane of which nothing is being sent.
func (t *tried) closing() triedNote {
	n := triedNote{Below: t.below, Last: t.latest.UnixMilli()}
	if !t.first.IsZero() {
		n.First = t.first.UnixMilli()
	}
	return n
}

// triedFile keeps of each lane what a process after this one has to know of what was sent. It
// is written when an attempt has failed, before each further one, and before those that follow when
// one succeeds, so never while all goes well. Without the file all that is left may have been
// sent at any time since it was put into the queue.
type triedFile struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger

	mu    sync.Mutex // guards what follows
	lanes map[string]triedNote
}

const triedName = "tried.json"

func (f *triedFile) load() error {
	f.lanes = map[string]triedNote{}
	b, err := vfs.ReadFile(f.fs, filepath.Join(f.dir, triedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was sent: %w", err)
	}
	if json.Unmarshal(b, &f.lanes) != nil || f.lanes == nil {
		f.lanes = map[string]triedNote{}
	}
	return nil
}

// of returns what was noted of a lane.
func (f *triedFile) of(k laneKey) (n triedNote, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok = f.lanes[k.String()]
	return n, ok
}

// unsent returns the offset from which on the process before this one has sent nothing. A session
// begins there: should that process not have been the last one, since its directory was put back to
// an earlier state, then those messages come twice, and are not taken for what it has sent.
func (f *triedFile) unsent(k laneKey) (offset int64, ok bool) {
	n, ok := f.of(k)
	return n.Below, ok && n.Again == 0 && n.Below >= 0
}

// before is called with every attempt, before it leaves. An attempt takes at most lasts.
func (f *triedFile) before(k laneKey, t *tried, messages []buffer.Message, lasts time.Duration) {
	if !t.closed {
		return
	}
	now := time.Now()
	n := t.closing()
	if t.away {
		n.Below = max(n.Below, messages[len(messages)-1].Offset+1)
		n.Last = now.Add(lasts).UnixMilli()
		if n.First == 0 {
			n.First = t.firstOf(messages, now).UnixMilli()
		}
	} else {
		n.Again = now.UnixMilli()
		t.closed = false
	}
	f.put(k, n)
}

// firstOf returns when messages that are sent now were sent first.
func (t *tried) firstOf(messages []buffer.Message, now time.Time) time.Time {
	if messages[0].Offset < t.below {
		return t.earliest(messages)
	}
	return now
}

// rest is called when nothing is being sent: after an attempt that has failed, and at the end.
func (f *triedFile) rest(k laneKey, t *tried) {
	t.closed = true
	f.put(k, t.closing())
}

// put writes a note. A file that cannot be written must not say what was: it is removed, which
// needs no room.
func (f *triedFile) put(k laneKey, n triedNote) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.lanes[k.String()]; ok && old == n {
		return
	}
	f.lanes[k.String()] = n
	file := filepath.Join(f.dir, triedName)
	b, err := json.Marshal(f.lanes)
	if err == nil {
		err = vfs.WriteFile(f.fs, file, b)
	}
	if err == nil {
		return
	}
	clear(f.lanes)
	if gone := f.fs.Remove(file); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	} else if gone == nil {
		err = errors.Join(err, f.fs.SyncDir(f.dir))
	}
	f.logger.Debug("What was sent cannot be noted: after a restart the destination looks for all that is left", "err", err)
}
