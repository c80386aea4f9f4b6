package rows

import "github.com/vedette-io/vedette/internal/signal"

// Level says what a column's attributes belong to.
type Level uint8

// Levels. The numbers are part of the format of blocks.
const (
	LevelSpan Level = iota
	LevelEvent
	LevelLink
	NumLevels
)

// ColumnInfo describes one typed column: the values that one attribute key has
// with one type at one level. The same key with another type is another column.
type ColumnInfo struct {
	Level Level
	Key   string
	Type  signal.AttrType
}

// Shape is what many rows of a level have in common. Spans that one line of code
// makes usually share a shape, so that a row says its shape in a few bits and
// everything here costs nothing more.
type Shape struct {
	Level Level
	Name  string // of the span or event; empty for links

	Kind  uint8  // of a span, as signal.Spans.Kinds
	Scope uint32 // of a span: index of Space.Scopes
	Flags uint32 // of a span or link

	// Columns lists the columns of the row's attributes in the sender's order. A
	// row has one value in each, and two if a column is listed twice.
	Columns []uint32
}

// ScopeInfo is an instrumentation scope. Resources are not part of it.
type ScopeInfo struct {
	Name, Version string
	SchemaURL     string
	Attrs         []Attribute
	DroppedAttrs  uint32
}

// ResourceInfo is a resource. Service is its attribute service.name if that is a
// string, or empty.
type ResourceInfo struct {
	Service      string
	SchemaURL    string
	Attrs        []Attribute
	DroppedAttrs uint32
}

// Attribute is an attribute outside of columns: of a resource or scope.
type Attribute struct {
	Key  string
	Type signal.AttrType
	Num  uint64 // bool, int, double as signal.Attr has them
	Text string // string and bytes; the message of arrays and maps
}

// Space is what the row groups of one head or of one block share: dictionaries
// that only grow. Indexes into it mean nothing in another Space. Reading is safe
// while a Table appends, up to the lengths that were seen under its lock:
// snapshot takes them.
type Space struct {
	Columns   []ColumnInfo
	Shapes    []Shape
	Scopes    []ScopeInfo
	Resources []ResourceInfo

	// Dicts holds, for every column of strings, the strings that its codes stand
	// for; a column whose values are mostly distinct has none (nil), and its
	// values lie in the groups as they are. In a block a dictionary is read when
	// it is first asked for: use Dict.
	dicts []dict

	byColumn map[ColumnInfo]uint32
}

// FindColumn returns the column of a key at a level with a type.
func (s *Space) FindColumn(c ColumnInfo) (int, bool) {
	i, ok := s.byColumn[c]
	return int(i), ok
}
