package rows

import "github.com/vedette-io/vedette/internal/signal"

// MaxGroupRows is how many rows a group has at most.
const MaxGroupRows = 8192

// GroupInfo sums a group up.
type GroupInfo struct {
	Rows, Traces, Events, Links int

	MinStart, MaxStart           int64 // of its spans' starts, unix nanoseconds
	MinTraceStart, MaxTraceStart int64 // of the starts of its traces, by the rows that the source has of them
	MinDuration, MaxDuration     int64
	Errors                       int // rows with status error
}

// Group is up to MaxGroupRows rows of a source. It does not change.
type Group struct {
	info GroupInfo
	data columns
}

// Info sums the group up.
func (g *Group) Info() GroupInfo { return g.info }

// Space returns what the group's indexes mean.
func (g *Group) Space() (*Space, error) { return g.data.space() }

// Columns returns the columns that the group has values in, rising; nil if that
// is not known. They must not be changed.
func (g *Group) Columns() []uint32 { return g.data.columnSet() }

// Shapes returns the shapes of all levels that the group's rows have, rising;
// nil if that is not known. They must not be changed.
func (g *Group) Shapes() []uint32 { return g.data.shapeSet() }

// Resources returns the resources that the group's rows have, rising; nil if
// that is not known. They must not be changed.
func (g *Group) Resources() []uint32 { return g.data.resourceSet() }

// MayHave reports whether column col may have the value in this group: bytes for
// types that are InBuf, num for others. True if that is not known.
func (g *Group) MayHave(col int, value []byte, num uint64) bool {
	return g.data.mayHave(uint32(col), value, num)
}

// field names a column that every group has, apart from statuses and parents,
// which are the only ones of their types.
type field uint8

const (
	// uint32
	fieldShapes    field = iota // of rows
	fieldResources              // of rows
	fieldTraceRows              // traces+1: first row of every trace, then Rows
	fieldEventRows              // rows+1: first event of every row, then Events
	fieldLinkRows               // rows+1
	fieldEventShapes
	fieldLinkShapes
	// int64
	fieldStarts
	fieldDurations
	fieldEventTimes
	// signal.SpanID
	fieldSpanIDs
	fieldParentIDs
	fieldLinkSpanIDs
	// signal.TraceID
	fieldTraceIDs // of traces
	fieldLinkTraceIDs
)

// columns is where a group has its columns: memory or a block. Methods of
// columns return the values [lo:hi) of one: what lies in memory as it is, what
// lies on disk decoded into *buf, which they may replace by a longer one. lo is 0
// and hi the number of values for scans; a narrower range asks for a trace, for
// which nothing more should be decoded where that is cheaper. Cursor c is for
// other columns that are needed (c.Shapes, …), for scratch, and to be told of the
// bytes that were read (c.inspect). Whoever calls trusts what comes back: indexes
// lie within the space and the group, first rows never fall, types fit. Errors are
// block.CorruptionErrors.
type columns interface {
	space() (*Space, error)
	columnSet() []uint32
	shapeSet() []uint32
	resourceSet() []uint32
	mayHave(col uint32, value []byte, num uint64) bool

	// number returns how many values a column has in the group.
	number(c *Cursor, col uint32) (int, error)

	uints(c *Cursor, f field, lo, hi int, buf *[]uint32) ([]uint32, error)
	ints(c *Cursor, f field, lo, hi int, buf *[]int64) ([]int64, error)
	spanIDs(c *Cursor, f field, lo, hi int, buf *[]signal.SpanID) ([]signal.SpanID, error)
	traceIDs(c *Cursor, f field, lo, hi int, buf *[]signal.TraceID) ([]signal.TraceID, error)
	statuses(c *Cursor, lo, hi int, buf *[]uint8) ([]uint8, error)
	// parents returns rows of the group whatever lo is.
	parents(c *Cursor, lo, hi int, buf *[]int32) ([]int32, error)

	// column sets dst's values; Info and N are set already. It may use dst's
	// unexported buffers, which are kept from one time to the next.
	column(c *Cursor, col uint32, lo, hi int, dst *Column) error
}
