package rows

import "github.com/vedette-io/vedette/internal/signal"

// Column holds the values of one column in one group, one for every occurrence
// in a row's shape, in row order. Rows whose shape does not list the column have
// none. Exactly one of Codes, Ends and Nums is set, by type.
type Column struct {
	Info ColumnInfo

	// Codes are indexes into Dict, for strings that have a dictionary.
	Codes []uint32
	Dict  *Dictionary

	// Value i of strings without a dictionary, of bytes, arrays and maps is
	// Bytes[Ends[i-1]:Ends[i]].
	Ends  []uint32
	Bytes []byte

	// Nums are the values of bools, ints and doubles, as signal.Attr has them.
	Nums []uint64
}

// Cursor reads the columns of one group after another. A column is decoded when
// it is first asked for, and kept until Seek moves to another group; its slices
// are valid until then and must not be changed. Columns of a group in memory are
// not copied. It is used by one goroutine; buffers are reused.
//
// The methods of columns that every group has (one value per row):
//
//	Shapes     []uint32  index into Space.Shapes
//	Resources  []uint32  index into Space.Resources
//	Starts     []int64   unix nanoseconds
//	Durations  []int64   end minus start, nanoseconds; negative as the sender said
//	Statuses   []uint8
//	SpanIDs    []signal.SpanID
//	Parents    []int32   row of the parent in this group; ParentNone, ParentElsewhere
//	ParentIDs  []signal.SpanID  zero is a root
//	EventEnds, LinkEnds []uint32  end of the row's events and links; nil if there are none
//
// Traces: rows of one trace lie together, ordered by start.
//
//	TraceIDs   []signal.TraceID  one per trace
//	TraceEnds  []uint32          end of its rows
//
// Sparse (nil if no row has one): Messages, States as *Column of strings, dense
// over rows.
//
// Events and links are rows of their own: EventShapes, EventTimes, LinkShapes,
// LinkTraceIDs, LinkSpanIDs; their attributes are columns of their level.
type Cursor struct {
	group *Group
	state cursorState
}

// Values of Parents.
const (
	ParentNone      int32 = -1 // a root
	ParentElsewhere int32 = -2 // not in this group; ParentIDs has it
)

var _ = signal.TraceID{}
