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

// Role says what a column's values are.
type Role uint8

// Roles. The numbers are part of the format of blocks. All but RoleAttr have an
// empty Key, and stand at the end of a shape's columns, except for RoleRest.
const (
	RoleAttr          Role = iota // values of an attribute
	RoleRest                      // AttrBytes: attributes without a column, see ParseRest
	RoleMessage                   // AttrString: a span's status message
	RoleState                     // AttrString: trace state of a span or link
	RoleDroppedAttrs              // AttrInt, not zero
	RoleDroppedEvents             // AttrInt, of spans, not zero
	RoleDroppedLinks              // AttrInt, of spans, not zero
	NumRoles
)

// ColumnInfo describes one typed column: the values that one attribute key has
// with one type at one level. The same key with another type is another column.
type ColumnInfo struct {
	Level Level
	Role  Role // zero for attributes
	Key   string
	Type  signal.AttrType
}

// Shape is what many rows of a level have in common. Spans that one line of code
// makes usually share a shape, so that a row says its shape in a few bits and
// everything here costs nothing more.
type Shape struct {
	Level Level
	Kind  uint8  // of a span, as signal.Spans.Kinds
	Scope uint32 // of a span: index of Space.Scopes
	Flags uint32 // of a span or link
	Name  string // of a span or event; empty for links

	// Columns lists the columns of the row's attributes in the sender's order,
	// then those of other roles. A row has one value in each, and two in a column
	// that is listed twice. Shapes with equal lists share one slice.
	Columns []uint32
}

// ScopeInfo is an instrumentation scope. Its resource is not part of it.
type ScopeInfo struct {
	Name, Version string
	SchemaURL     string
	Attrs         []Attribute
	DroppedAttrs  uint32
}

// ResourceInfo is a resource. Service is its first attribute service.name that is
// a string, or empty.
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
	Text string // of types that are InBuf: string, bytes; the message of arrays and maps
}

// Space is what the row groups of one source share. It does not change once a
// reader has it.
type Space struct {
	Columns   []ColumnInfo
	Shapes    []Shape
	Scopes    []ScopeInfo
	Resources []ResourceInfo

	dicts    []*Dictionary                         // by column; nil if it has none, or is not read yet
	loadDict func(col uint32) (*Dictionary, error) // of a block; nil if dicts are all there
	byColumn map[ColumnInfo]uint32                 // nil: search Columns

	producers shapeProducers // of a block
}

// FindColumn returns the index of a column.
func (s *Space) FindColumn(c ColumnInfo) (int, bool) {
	if s.byColumn != nil {
		i, ok := s.byColumn[c]
		return int(i), ok
	}
	for i := range s.Columns {
		if s.Columns[i] == c {
			return i, true
		}
	}
	return 0, false
}

// FindKey appends the columns that attribute key has at a level, one for each
// type, to dst.
func (s *Space) FindKey(level Level, key string, dst []int) []int {
	for i := range s.Columns {
		if c := &s.Columns[i]; c.Key == key && c.Level == level && c.Role == RoleAttr {
			dst = append(dst, i)
		}
	}
	return dst
}

// Dictionary returns the dictionary of a column, nil if it has none. A column may
// have a dictionary and yet groups whose values lie there as they are.
func (s *Space) Dictionary(col int) (*Dictionary, error) {
	if s.loadDict != nil {
		return s.loadDict(uint32(col))
	}
	return s.dicts[col], nil
}
