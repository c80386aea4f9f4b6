package rows

import (
	"sync"

	"github.com/vedette-io/vedette/internal/signal"
)

// Config bounds a table.
type Config struct {
	// MaxColumns is how many columns the table has at most; attributes with keys
	// beyond them are packed.
	MaxColumns int
}

// DefaultConfig returns a configuration for a server.
func DefaultConfig() Config { return Config{MaxColumns: 1024} }

// Table is the head: spans in memory, in row groups that are complete as soon as
// a batch was appended. One goroutine appends; Snapshot may be called by others.
type Table struct {
	mu sync.Mutex
}

// NewTable returns an empty table.
func NewTable(c Config) *Table { return &Table{} }

// Append copies the batch's spans into the table, except for those of which the
// table has an exact duplicate: same trace, id, kind, start, end and name. A view
// that is taken afterwards has them.
func (t *Table) Append(b *signal.Spans) (added, duplicates int, err error) { return 0, 0, nil }

// Rows returns how many spans the table has.
func (t *Table) Rows() int { return 0 }

// Bytes returns about how much memory the table takes.
func (t *Table) Bytes() int { return 0 }

// Snapshot returns the table as it is now.
func (t *Table) Snapshot() *TableView { return &TableView{} }

// TableView is a table at one moment. It is a Source.
type TableView struct {
	sp     *Space
	groups []*Group
}

// Space returns what the groups' indexes mean.
func (v *TableView) Space() (*Space, error) { return v.sp, nil }

// Groups returns the groups.
func (v *TableView) Groups() []*Group { return v.groups }

// FindTrace appends the runs of a trace to dst.
func (v *TableView) FindTrace(id signal.TraceID, dst []Run) ([]Run, error) { return dst, nil }
