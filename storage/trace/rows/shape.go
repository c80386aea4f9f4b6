package rows

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/internal/signal"
)

// noColumn stands for a column that the space does not have yet.
const noColumn = ^uint32(0)

// spaceBuilder is a Space that grows as batches arrive.
type spaceBuilder struct {
	Space
	hash       hasher
	maxColumns int

	dicts     []dictBuilder // by column
	columnOf  map[ColumnInfo]uint32
	rest      [NumLevels]uint32 // columns of RoleRest
	layoutOf  map[string]uint32 // by signature, see layout
	layouts   [][]uint32        // column lists
	shapeOf   tagIndex
	shapes    []shapeKey // beside Shapes
	resources map[string]uint32
	scopes    map[string]uint32

	sig   []byte // scratch
	added int    // bytes of what was added
}

// shapeKey is what the index of shapes compares and duplicates need.
type shapeKey struct {
	layout uint32
	what   uint64 // hash of name and kind
}

func newSpaceBuilder(maxColumns int) *spaceBuilder {
	s := &spaceBuilder{
		hash: newHasher(), maxColumns: maxColumns,
		columnOf: make(map[ColumnInfo]uint32), layoutOf: make(map[string]uint32),
		resources: make(map[string]uint32), scopes: make(map[string]uint32),
	}
	for l := range s.rest {
		s.rest[l] = noColumn
	}
	return s
}

// extras are what few rows have, each a column of its own role.
type extras struct {
	message, state                            signal.ByteRange
	droppedAttrs, droppedEvents, droppedLinks uint32
}

// bits says which of them a row has.
func (e *extras) bits() byte {
	if *e == (extras{}) {
		return 0
	}
	var b byte
	for i, has := range [...]bool{e.message.Len > 0, e.state.Len > 0, e.droppedAttrs > 0, e.droppedEvents > 0, e.droppedLinks > 0} {
		if has {
			b |= 1 << i
		}
	}
	return b
}

// extraColumns are the columns of extras.bits, by bit.
var extraColumns = [...]struct {
	role Role
	typ  signal.AttrType
}{
	{RoleMessage, signal.AttrString}, {RoleState, signal.AttrString},
	{RoleDroppedAttrs, signal.AttrInt}, {RoleDroppedEvents, signal.AttrInt}, {RoleDroppedLinks, signal.AttrInt},
}

// layout returns the number of the column list of a row with these attributes
// and extras.
func (s *spaceBuilder) layout(level Level, buf []byte, attrs []signal.Attr, extra byte) uint32 {
	sig := append(s.sig[:0], byte(level), extra)
	for i := range attrs {
		a := &attrs[i]
		if a.Key.Len < 0x80 {
			sig = append(sig, byte(a.Type), byte(a.Key.Len))
		} else {
			sig = binary.AppendUvarint(append(sig, byte(a.Type)), uint64(a.Key.Len))
		}
		sig = append(sig, buf[a.Key.Off:a.Key.Off+a.Key.Len]...)
	}
	s.sig = sig
	if l, ok := s.layoutOf[string(sig)]; ok {
		return l
	}
	list := make([]uint32, 0, len(attrs)+5)
	for i := range attrs {
		key := buf[attrs[i].Key.Off : attrs[i].Key.Off+attrs[i].Key.Len]
		list = append(list, s.attrColumn(level, key, attrs[i].Type))
	}
	for i, c := range extraColumns {
		if extra&(1<<i) != 0 {
			list = append(list, s.column(ColumnInfo{Level: level, Role: c.role, Type: c.typ}))
		}
	}
	n := uint32(len(s.layouts))
	s.layouts = append(s.layouts, list)
	s.layoutOf[string(sig)] = n
	s.added += len(sig) + 4*cap(list) + 80
	return n
}

// attrColumn returns the column of an attribute, or that of the rest.
func (s *spaceBuilder) attrColumn(level Level, key []byte, t signal.AttrType) uint32 {
	if c, ok := s.columnOf[ColumnInfo{Level: level, Key: string(key), Type: t}]; ok {
		return c
	}
	if len(s.Columns) < s.maxColumns {
		return s.column(ColumnInfo{Level: level, Key: string(key), Type: t})
	}
	if s.rest[level] == noColumn {
		s.rest[level] = s.column(ColumnInfo{Level: level, Role: RoleRest, Type: signal.AttrBytes})
		s.dicts[s.rest[level]].raw = true
	}
	return s.rest[level]
}

func (s *spaceBuilder) column(c ColumnInfo) uint32 {
	n, ok := s.columnOf[c]
	if !ok {
		n = uint32(len(s.Columns))
		s.Columns = append(s.Columns, c)
		s.dicts = append(s.dicts, dictBuilder{})
		s.columnOf[c] = n
		s.added += len(c.Key) + 400
	}
	return n
}

// shape returns the number of a shape, of which layout is Columns.
func (s *spaceBuilder) shape(w Shape, name []byte, layout uint32) uint32 {
	what := s.hash.mix(s.hash.bytes(name), uint64(w.Kind))
	h := s.hash.mix(what, uint64(w.Scope)<<32|uint64(layout))
	h = s.hash.mix(h, uint64(w.Flags))
	s.shapeOf.reserve()
	at := s.shapeOf.probe(h)
	for ; s.shapeOf.slots[at] != 0; at = s.shapeOf.next(at) {
		if !sameTag(s.shapeOf.slots[at], h) {
			continue
		}
		n := number(s.shapeOf.slots[at])
		if x := &s.Shapes[n]; s.shapes[n].layout == layout && x.Name == string(name) &&
			x.Level == w.Level && x.Kind == w.Kind && x.Scope == w.Scope && x.Flags == w.Flags {
			return n
		}
	}
	n := uint32(len(s.Shapes))
	w.Name, w.Columns = string(name), s.layouts[layout]
	s.Shapes = append(s.Shapes, w)
	s.shapes = append(s.shapes, shapeKey{layout: layout, what: what})
	s.shapeOf.set(at, h, n)
	s.added += len(name) + 120
	return n
}

// resource returns the number of a batch's resource.
func (s *spaceBuilder) resource(b *signal.Spans, r *signal.Resource) uint32 {
	attrs := b.Attrs[r.AttrBegin:r.AttrEnd]
	sig := binary.LittleEndian.AppendUint32(s.sig[:0], r.DroppedAttrs)
	sig = appendText(sig, b.Bytes(r.SchemaURL))
	s.sig = appendAttrs(sig, b, attrs)
	if n, ok := s.resources[string(s.sig)]; ok {
		return n
	}
	info := ResourceInfo{SchemaURL: string(b.Bytes(r.SchemaURL)), DroppedAttrs: r.DroppedAttrs}
	info.Attrs = s.attributes(b, attrs)
	info.Service = serviceOf(info.Attrs)
	n := uint32(len(s.Resources))
	s.Resources = append(s.Resources, info)
	s.resources[string(s.sig)] = n
	s.added += 2*len(s.sig) + 150
	return n
}

// serviceOf returns the service.name among a resource's attributes.
func serviceOf(attrs []Attribute) string {
	for i := range attrs {
		if attrs[i].Key == "service.name" && attrs[i].Type == signal.AttrString {
			return attrs[i].Text
		}
	}
	return ""
}

// scope returns the number of a batch's scope.
func (s *spaceBuilder) scope(b *signal.Spans, c *signal.Scope) uint32 {
	attrs := b.Attrs[c.AttrBegin:c.AttrEnd]
	sig := binary.LittleEndian.AppendUint32(s.sig[:0], c.DroppedAttrs)
	sig = appendText(sig, b.Bytes(c.SchemaURL))
	sig = appendText(sig, b.Bytes(c.Name))
	sig = appendText(sig, b.Bytes(c.Version))
	s.sig = appendAttrs(sig, b, attrs)
	if n, ok := s.scopes[string(s.sig)]; ok {
		return n
	}
	n := uint32(len(s.Scopes))
	s.Scopes = append(s.Scopes, ScopeInfo{
		Name: string(b.Bytes(c.Name)), Version: string(b.Bytes(c.Version)), SchemaURL: string(b.Bytes(c.SchemaURL)),
		Attrs: s.attributes(b, attrs), DroppedAttrs: c.DroppedAttrs,
	})
	s.scopes[string(s.sig)] = n
	s.added += 2*len(s.sig) + 150
	return n
}

func (s *spaceBuilder) attributes(b *signal.Spans, attrs []signal.Attr) []Attribute {
	if len(attrs) == 0 {
		return nil
	}
	out := make([]Attribute, len(attrs))
	for i, a := range attrs {
		out[i] = Attribute{Key: string(b.Bytes(a.Key)), Type: a.Type}
		switch {
		case a.Type.InBuf():
			out[i].Text = string(b.Bytes(a.Range()))
		case a.Type != signal.AttrEmpty:
			out[i].Num = a.Num
		}
	}
	s.added += 64 * len(out)
	return out
}

func appendText(dst, text []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// appendAttrs appends attributes to dst so that equal bytes mean equal ones.
func appendAttrs(dst []byte, b *signal.Spans, attrs []signal.Attr) []byte {
	for _, a := range attrs {
		dst = appendText(append(dst, byte(a.Type)), b.Bytes(a.Key))
		if a.Type.InBuf() {
			dst = appendText(dst, b.Bytes(a.Range()))
		} else {
			dst = binary.LittleEndian.AppendUint64(dst, a.Num)
		}
	}
	return dst
}

// view returns the space as it is now, for readers.
func (s *spaceBuilder) view() *Space {
	v := s.Space
	v.dicts = make([]*Dictionary, len(s.Columns))
	own := make([]Dictionary, len(s.Columns))
	for i := range s.dicts {
		if s.dicts[i].Len() > 0 {
			own[i] = s.dicts[i].Dictionary
			v.dicts[i] = &own[i]
		}
	}
	return &v
}

// memory returns about how much memory the space takes.
func (s *spaceBuilder) memory() int {
	n := s.added + 8*len(s.shapeOf.slots)
	for i := range s.dicts {
		n += s.dicts[i].bytes()
	}
	return n
}
