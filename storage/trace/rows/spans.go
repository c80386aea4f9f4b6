package rows

import (
	"fmt"
	"math"

	"github.com/vedette-io/vedette/internal/signal"
)

// Source is a table's view or a block.
type Source interface {
	// Space returns what indexes in the source's groups mean.
	Space() (*Space, error)
	// Groups returns the row groups. They must not be changed.
	Groups() []*Group
	// FindTrace appends the runs that the source has of a trace to dst.
	FindTrace(id signal.TraceID, dst []Run) ([]Run, error)
}

// Run is rows [First:End) of a group, of one trace.
type Run struct {
	Group      *Group
	First, End int
}

// TraceRun is a run of a source and its trace.
type TraceRun struct {
	ID         signal.TraceID
	Start      int64 // of the run's first row, which is its earliest
	Group      int   // index of Groups
	First, End int
}

// AppendTraceRuns appends every run of group g, which is number i of its source,
// to dst.
func AppendTraceRuns(dst []TraceRun, c *Cursor, g *Group, i int) ([]TraceRun, error) {
	if err := c.Seek(g); err != nil {
		return dst, err
	}
	ids, err := c.TraceIDs()
	if err != nil {
		return dst, err
	}
	rows, err := c.TraceRows()
	if err != nil {
		return dst, err
	}
	starts, err := c.Starts()
	if err != nil {
		return dst, err
	}
	for t, id := range ids {
		first, end := int(rows[t]), int(rows[t+1])
		dst = append(dst, TraceRun{ID: id, Start: starts[first], Group: i, First: first, End: end})
	}
	return dst, nil
}

// AppendRun appends the spans of a run to dst as they came in: grouped by
// resource and scope in order of first appearance, by start within a scope. The
// cursor moves to the run's group. On error dst is left in a state that is only
// good for Reset.
func AppendRun(dst *signal.Spans, c *Cursor, r Run) error {
	if c.group != r.Group {
		if err := c.Seek(r.Group); err != nil {
			return err
		}
	}
	if r.First >= r.End {
		return nil
	}
	p := &c.parts
	if err := p.load(c, r); err != nil {
		return err
	}
	if err := p.appendRows(dst, c, r); err != nil {
		return err
	}
	if len(dst.Buf) > math.MaxUint32 {
		return fmt.Errorf("append trace: %d bytes of text, want < 4 GiB", len(dst.Buf))
	}
	return nil
}
