// Package activity keeps a file of the queries that are running, so that a
// process that finds the file of one that died can tell what it was doing.
//
//	┌ slot 0, 1024 bytes ───────────┬ slot 1 ─┬ …
//	│ {"query":…,"tenant":…} 0 0 0… │ 0 0 0 … │
//	└───────────────────────────────┴─────────┴──
//
// A slot is zero, or a JSON object padded with zeros. Writes go to the page
// cache and are never synced: they outlive the process, not the machine.
package activity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// slotSize is the room for one running query in the activity log's file.
const slotSize = 1024

// Query is a query that runs.
type Query struct {
	Text      string    `json:"query"`
	Tenant    string    `json:"tenant"`
	Started   time.Time `json:"started"`
	Truncated bool      `json:"truncated,omitempty"`
}

// Log is an activity log. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger

	mu    sync.Mutex
	file  *os.File // nil: nothing is written down
	free  []int    // slots below slots that are not in use
	slots int
}

// Open logs the queries that path names as running and starts it
// afresh. With an empty path nothing is written down.
func Open(path string, logger *slog.Logger) (*Log, error) {
	a := &Log{logger: logger}
	if path == "" {
		return a, nil
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read activity log: %w", err)
	}
	for _, q := range decode(old) {
		logger.Warn("query was running when the previous process ended",
			"query", q.Text, "tenant", q.Tenant, "started", q.Started, "truncated", q.Truncated)
	}
	if a.file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o640); err != nil {
		return nil, fmt.Errorf("open activity log: %w", err)
	}
	return a, nil
}

// decode returns the queries in a log's bytes; slots that make no sense
// are left out.
func decode(b []byte) []Query {
	var out []Query
	for len(b) > 0 {
		slot := b[:min(slotSize, len(b))]
		b = b[len(slot):]
		slot = bytes.TrimRight(slot, "\x00")
		var q Query
		if len(slot) == 0 || json.Unmarshal(slot, &q) != nil {
			continue
		}
		out = append(out, q)
	}
	return out
}

// appendSlot appends q as a slot, its query cut as far as needed.
func appendSlot(dst []byte, q Query) []byte {
	for limit := slotSize / 2; ; limit /= 2 {
		body, err := json.Marshal(q)
		if err == nil && len(body) <= slotSize {
			dst = append(dst, body...)
			return append(dst, make([]byte, slotSize-len(body))...)
		}
		if limit == 0 {
			return append(dst, make([]byte, slotSize)...)
		}
		q.Text, q.Truncated = cut(q.Text, limit), true
	}
}

// cut shortens s to at most limit bytes without splitting a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// Begin writes q down and returns the slot to hand to End.
func (a *Log) Begin(q Query) (slot int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.free); n > 0 {
		slot, a.free = a.free[n-1], a.free[:n-1]
	} else {
		slot = a.slots
		a.slots++
	}
	if a.file != nil {
		a.writeLocked(slot, appendSlot(nil, q))
	}
	return slot
}

// End wipes slot.
func (a *Log) End(slot int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.writeLocked(slot, make([]byte, slotSize))
	}
	a.free = append(a.free, slot)
}

// writeLocked overwrites slot. A log that cannot be written is given up, since
// queries matter more than their record.
func (a *Log) writeLocked(slot int, b []byte) {
	if _, err := a.file.WriteAt(b, int64(slot)*slotSize); err != nil {
		a.logger.Error("write activity log: running queries are no longer written down", "err", err)
		a.file.Close()
		a.file = nil
	}
}

// Close releases the file. Queries that still run are no longer written down.
func (a *Log) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	return err
}
