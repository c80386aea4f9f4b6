package rows

import (
	"sync"

	"github.com/vedette-io/vedette/internal/signal"
)

// Config bounds a table.
type Config struct {
	// MaxColumns is how many columns the table has at most for attributes; those
	// with keys beyond them are packed.
	MaxColumns int
}

// DefaultConfig returns a configuration for a server.
func DefaultConfig() Config { return Config{MaxColumns: 1024} }

// Table is the head: spans in memory, in row groups that are complete as soon as
// a batch was appended. One goroutine appends; the other methods may be called
// by others meanwhile.
type Table struct {
	mu   sync.Mutex
	w    appender
	live []*memGroup
	rows int
	view *TableView // nil if it is out of date
}

// NewTable returns an empty table.
func NewTable(c Config) *Table {
	t := &Table{}
	t.w.spaceBuilder = newSpaceBuilder(c.MaxColumns)
	return t
}

// Append copies the batch's spans into the table, except for those of which the
// table has an exact duplicate: same trace, id, kind, start, end and name. A view
// that is taken afterwards has them. On error nothing was appended.
func (t *Table) Append(b *signal.Spans) (added, duplicates int, err error) {
	if b.Len() == 0 {
		return 0, 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live, err = t.w.append(b, t.live)
	if err != nil {
		return 0, 0, err
	}
	added = len(t.w.keys)
	if added > 0 {
		t.rows += added
		t.view = nil
	}
	return added, t.w.dups, nil
}

// Rows returns how many spans the table has.
func (t *Table) Rows() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows
}

// Bytes returns about how much memory the table takes.
func (t *Table) Bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.memory() + t.w.size + 8*len(t.w.seen.slots) + 20*len(t.w.groups)
}

// Snapshot returns the table as it is now.
func (t *Table) Snapshot() *TableView {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view == nil {
		t.view = newView(t.w.view(), t.live)
	}
	return t.view
}
