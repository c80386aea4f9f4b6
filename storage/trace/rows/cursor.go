package rows

import (
	"fmt"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// Column holds the values of one column in one group, one for every occurrence
// in a row's shape, in row order; rows whose shape does not list the column have
// none. N is their number. At most one of Codes, Offsets and Nums is set; values
// of AttrEmpty have none.
type Column struct {
	Info ColumnInfo
	N    int

	// Codes are indexes into Dict. A column of a type that is InBuf has either
	// these or Offsets, in every group anew.
	Codes []uint32
	Dict  *Dictionary

	// Value i is Bytes[Offsets[i]:Offsets[i+1]].
	Offsets []uint32
	Bytes   []byte

	// Nums are the values of bools, ints and doubles, as signal.Attr has them.
	Nums []uint64

	codeBuf []uint32 // what a block decodes into
	offBuf  []uint32
	byteBuf []byte
	numBuf  []uint64
}

// At returns value i of a type that is InBuf. It must not be changed.
func (c *Column) At(i int) []byte {
	if c.Codes != nil {
		return c.Dict.At(c.Codes[i])
	}
	return c.Bytes[c.Offsets[i]:c.Offsets[i+1]:c.Offsets[i+1]]
}

// Values of Parents.
const (
	ParentNone      int32 = -1 // a root
	ParentElsewhere int32 = -2 // no row of the trace in this group; ParentIDs has it
)

// Cursor reads the columns of one group after another. A column is decoded when
// it is first asked for and kept until Seek moves to another group; slices are
// valid until then and must not be changed. It belongs to one goroutine at a
// time; its buffers are reused. The zero value is ready for Seek.
type Cursor struct {
	// Wanted says which columns AppendRun reads; what lies in others is left out of
	// the spans. nil wants all.
	Wanted func(c *ColumnInfo) bool

	group     *Group
	sp        *Space
	info      GroupInfo
	epoch     uint64 // of Seek; what was loaded in another one is stale
	inspected int64

	uints    [fieldLinkShapes + 1]lane[uint32]
	ints     [fieldEventTimes - fieldStarts + 1]lane[int64]
	spanIDs  [fieldLinkSpanIDs - fieldSpanIDs + 1]lane[signal.SpanID]
	traceIDs [fieldLinkTraceIDs - fieldTraceIDs + 1]lane[signal.TraceID]
	statuses lane[uint8]
	parents  lane[int32]

	columns []cursorColumn          // by column of the space
	owners  [NumLevels]lane[uint32] // of events and links
	parts   parts                   // of AppendRun
	block   blockState              // of a block's group
	finder  parentFinder
}

// lane is one column of a cursor.
type lane[T any] struct {
	epoch uint64
	vals  []T
	buf   []T
}

type cursorColumn struct {
	epoch     uint64
	col       Column
	rowsEpoch uint64
	rows      []uint32
	perShape  []uint32 // how often shapes list the column; for the cursor's space
}

// Seek moves to a group.
func (c *Cursor) Seek(g *Group) error {
	sp, err := g.Space()
	if err != nil {
		return err
	}
	c.epoch++
	c.group, c.info = g, g.info
	if sp != c.sp {
		c.sp = sp
		for i := range c.columns {
			c.columns[i].perShape = nil
		}
	}
	if len(c.columns) < len(sp.Columns) {
		grown := make([]cursorColumn, len(sp.Columns))
		copy(grown, c.columns)
		c.columns = grown
	}
	return nil
}

// Group returns where the cursor is.
func (c *Cursor) Group() *Group { return c.group }

// Space returns what the group's indexes mean.
func (c *Cursor) Space() *Space { return c.sp }

// InspectedBytes returns how many bytes of encoded columns were read since the
// cursor was made, of groups in memory as they lie there.
func (c *Cursor) InspectedBytes() int64 { return c.inspected }

func (c *Cursor) inspect(bytes int) { c.inspected += int64(bytes) }

func (c *Cursor) uint(f field, n int) ([]uint32, error) {
	l := &c.uints[f-fieldShapes]
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.uints(c, f, 0, n, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

func (c *Cursor) int(f field, n int) ([]int64, error) {
	l := &c.ints[f-fieldStarts]
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.ints(c, f, 0, n, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

func (c *Cursor) spanID(f field, n int) ([]signal.SpanID, error) {
	l := &c.spanIDs[f-fieldSpanIDs]
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.spanIDs(c, f, 0, n, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

func (c *Cursor) traceID(f field, n int) ([]signal.TraceID, error) {
	l := &c.traceIDs[f-fieldTraceIDs]
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.traceIDs(c, f, 0, n, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

// Shapes returns every row's index of Space.Shapes.
func (c *Cursor) Shapes() ([]uint32, error) { return c.uint(fieldShapes, c.info.Rows) }

// Resources returns every row's index of Space.Resources.
func (c *Cursor) Resources() ([]uint32, error) { return c.uint(fieldResources, c.info.Rows) }

// Starts returns every row's start, unix nanoseconds.
func (c *Cursor) Starts() ([]int64, error) { return c.int(fieldStarts, c.info.Rows) }

// Durations returns every row's end minus its start, in nanoseconds: negative if
// the sender said so, with wrap-around if it is beyond 63 bits.
func (c *Cursor) Durations() ([]int64, error) { return c.int(fieldDurations, c.info.Rows) }

// Statuses returns every row's status: 0 unset, 1 ok, 2 error.
func (c *Cursor) Statuses() ([]uint8, error) {
	l := &c.statuses
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.statuses(c, 0, c.info.Rows, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

// SpanIDs returns every row's span id.
func (c *Cursor) SpanIDs() ([]signal.SpanID, error) { return c.spanID(fieldSpanIDs, c.info.Rows) }

// ParentIDs returns every row's parent span id; zero is a root.
func (c *Cursor) ParentIDs() ([]signal.SpanID, error) { return c.spanID(fieldParentIDs, c.info.Rows) }

// Parents returns the row of every row's parent in this group, or ParentNone or
// ParentElsewhere. If several rows of the trace have the parent's id, as client
// and server have with Zipkin, it is the first server's, else the first one. Such
// chains may be circles: senders can write anything.
func (c *Cursor) Parents() ([]int32, error) {
	l := &c.parents
	if l.epoch == c.epoch {
		return l.vals, nil
	}
	vals, err := c.group.data.parents(c, 0, c.info.Rows, &l.buf)
	if err != nil {
		return nil, err
	}
	l.vals, l.epoch = vals, c.epoch
	return vals, nil
}

// TraceIDs returns the ids of the group's traces.
func (c *Cursor) TraceIDs() ([]signal.TraceID, error) { return c.traceID(fieldTraceIDs, c.info.Traces) }

// TraceRows returns where traces begin: trace i has the rows
// [TraceRows[i]:TraceRows[i+1]).
func (c *Cursor) TraceRows() ([]uint32, error) { return c.uint(fieldTraceRows, c.info.Traces+1) }

// EventRows returns where rows' events begin: row i has the events
// [EventRows[i]:EventRows[i+1]). Nil if the group has no events.
func (c *Cursor) EventRows() ([]uint32, error) {
	if c.info.Events == 0 {
		return nil, nil
	}
	return c.uint(fieldEventRows, c.info.Rows+1)
}

// EventShapes returns every event's index of Space.Shapes.
func (c *Cursor) EventShapes() ([]uint32, error) { return c.uint(fieldEventShapes, c.info.Events) }

// EventTimes returns every event's time, unix nanoseconds.
func (c *Cursor) EventTimes() ([]int64, error) { return c.int(fieldEventTimes, c.info.Events) }

// LinkRows returns where rows' links begin: row i has the links
// [LinkRows[i]:LinkRows[i+1]). Nil if the group has no links.
func (c *Cursor) LinkRows() ([]uint32, error) {
	if c.info.Links == 0 {
		return nil, nil
	}
	return c.uint(fieldLinkRows, c.info.Rows+1)
}

// LinkShapes returns every link's index of Space.Shapes.
func (c *Cursor) LinkShapes() ([]uint32, error) { return c.uint(fieldLinkShapes, c.info.Links) }

// LinkTraceIDs returns the traces that links point to.
func (c *Cursor) LinkTraceIDs() ([]signal.TraceID, error) {
	return c.traceID(fieldLinkTraceIDs, c.info.Links)
}

// LinkSpanIDs returns the spans that links point to.
func (c *Cursor) LinkSpanIDs() ([]signal.SpanID, error) {
	return c.spanID(fieldLinkSpanIDs, c.info.Links)
}

// Column returns the values of a column, nil if the group has none.
func (c *Cursor) Column(col int) (*Column, error) {
	e := &c.columns[col]
	if e.epoch == c.epoch {
		if e.col.N == 0 {
			return nil, nil
		}
		return &e.col, nil
	}
	n, err := c.group.data.number(c, uint32(col))
	if err != nil {
		return nil, err
	}
	if err := c.load(uint32(col), 0, n, &e.col); err != nil {
		return nil, err
	}
	e.epoch = c.epoch
	if n == 0 {
		return nil, nil
	}
	return &e.col, nil
}

// load sets dst to the values [lo:hi) of a column.
func (c *Cursor) load(col uint32, lo, hi int, dst *Column) error {
	dst.Info, dst.N = c.sp.Columns[col], hi-lo
	dst.Codes, dst.Dict, dst.Offsets, dst.Bytes, dst.Nums = nil, nil, nil, nil, nil
	if lo == hi {
		return nil
	}
	return c.group.data.column(c, col, lo, hi, dst)
}

// RowsOf returns what every value of a column belongs to, beside Column's
// values: rows, or events or links for columns of those levels.
func (c *Cursor) RowsOf(col int) ([]uint32, error) {
	e := &c.columns[col]
	if e.rowsEpoch == c.epoch {
		return e.rows, nil
	}
	n, err := c.group.data.number(c, uint32(col))
	if err != nil {
		return nil, err
	}
	var shapes []uint32
	switch c.sp.Columns[col].Level {
	case LevelSpan:
		shapes, err = c.Shapes()
	case LevelEvent:
		shapes, err = c.EventShapes()
	case LevelLink:
		shapes, err = c.LinkShapes()
	}
	if err != nil {
		return nil, err
	}
	if e.perShape == nil {
		e.perShape = perShape(c.sp, uint32(col))
	}
	rows, ok := spread(e.rows, shapes, e.perShape, n)
	if !ok {
		return nil, c.corrupt("column %d (%q) has %d values, not as many as its shapes say", col, c.sp.Columns[col].Key, n)
	}
	e.rows, e.rowsEpoch = rows, c.epoch
	return rows, nil
}

// corrupt says what is wrong with the group; the error names its block.
func (c *Cursor) corrupt(format string, args ...any) error {
	g, ok := c.group.data.(*blockGroup)
	if !ok {
		panic("BUG: group in memory: " + fmt.Sprintf(format, args...))
	}
	return g.b.corrupt(sectionRows, g.head.firstPage, format, args...)
}

// perShape counts how often each shape lists a column.
func perShape(sp *Space, col uint32) []uint32 {
	out := make([]uint32, len(sp.Shapes))
	level := sp.Columns[col].Level
	for i := range sp.Shapes {
		if sp.Shapes[i].Level != level {
			continue
		}
		for _, k := range sp.Shapes[i].Columns {
			if k == col {
				out[i]++
			}
		}
	}
	return out
}

// spread repeats the index of every shape in shapes as often as times says; it
// reports whether that makes n entries. dst's memory is used.
func spread(dst, shapes, times []uint32, n int) ([]uint32, bool) {
	// One entry more than needed, and written every time: no branch per row.
	dst = slices.Grow(dst[:0], n+1)[:n+1]
	k := 0
	for i, s := range shapes {
		t := int(times[s])
		if t > 1 {
			if k+t > n {
				return dst, false
			}
			for range t - 1 {
				dst[k] = uint32(i)
				k++
			}
			t = 1
		}
		if k > n {
			return dst, false
		}
		dst[k] = uint32(i)
		k += t
	}
	return dst[:min(k, n)], k == n
}

// EventOwners returns the row of every event.
func (c *Cursor) EventOwners() ([]uint32, error) {
	rows, err := c.EventRows()
	if err != nil {
		return nil, err
	}
	return c.ownersOf(LevelEvent, rows, c.info.Events), nil
}

// LinkOwners returns the row of every link.
func (c *Cursor) LinkOwners() ([]uint32, error) {
	rows, err := c.LinkRows()
	if err != nil {
		return nil, err
	}
	return c.ownersOf(LevelLink, rows, c.info.Links), nil
}

func (c *Cursor) ownersOf(level Level, rows []uint32, n int) []uint32 {
	l := &c.owners[level]
	if n == 0 || l.epoch == c.epoch {
		return l.vals[:n]
	}
	l.buf = slices.Grow(l.buf[:0], n)[:n]
	for row := range len(rows) - 1 {
		for i := rows[row]; i < rows[row+1]; i++ {
			l.buf[i] = uint32(row)
		}
	}
	l.vals, l.epoch = l.buf, c.epoch
	return l.vals
}
