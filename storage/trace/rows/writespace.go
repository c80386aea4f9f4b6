package rows

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

const (
	// maxBlockColumns is how many attribute columns a block has at most; values of
	// others go to the column of RoleRest.
	maxBlockColumns = 4096
	// A column has no dictionary any more once that has minRaw strings, or as many
	// bytes, and a third of its values were new ones.
	minRaw      = 512
	minRawBytes = 1 << 20
)

// outSpace is the space of a block that is being written. Everything is numbered
// in the order in which the block's spans need it, so that nothing is in it that
// no span has.
type outSpace struct {
	columns   []ColumnInfo
	dicts     []outDict // by column
	columnOf  map[ColumnInfo]uint32
	layouts   [][]uint32
	layoutOf  map[string]uint32
	shapes    []outShape
	shapeOf   map[string]uint32
	scopes    [][]byte // as written
	scopeOf   map[string]uint32
	resources [][]byte
	resOf     map[string]uint32

	key []byte
}

type outShape struct {
	level     Level
	kind      uint8
	scope     uint32
	flags     uint32
	layout    uint32
	name      string
	producers []uint32 // resources in the order in which they appeared with it
	rankOf    map[uint32]uint32
}

// outDict is a dictionary that grows.
type outDict struct {
	codes  map[string]uint32
	offs   []uint32
	data   []byte
	values int  // of the column that came by the dictionary
	raw    bool // later groups have the strings as they are
}

func newOutSpace() *outSpace {
	return &outSpace{
		columnOf: make(map[ColumnInfo]uint32), layoutOf: make(map[string]uint32), shapeOf: make(map[string]uint32),
		scopeOf: make(map[string]uint32), resOf: make(map[string]uint32),
	}
}

// column returns the number of a column; the level's column of RoleRest if there
// are too many.
func (s *outSpace) column(c ColumnInfo) uint32 {
	if i, ok := s.columnOf[c]; ok {
		return i
	}
	if c.Role == RoleAttr && len(s.columns) >= maxBlockColumns {
		return s.column(ColumnInfo{Level: c.Level, Role: RoleRest, Type: signal.AttrBytes})
	}
	i := uint32(len(s.columns))
	s.columns = append(s.columns, c)
	s.dicts = append(s.dicts, outDict{})
	s.columnOf[c] = i
	return i
}

// shape returns the number of a shape of src, whose columns are those of cols
// here and whose scope is scope here.
func (s *outSpace) shape(src *Shape, scope uint32, cols []uint32) uint32 {
	s.key = s.key[:0]
	for _, c := range cols {
		s.key = binary.AppendUvarint(s.key, uint64(c))
	}
	layout, ok := s.layoutOf[string(s.key)]
	if !ok {
		layout = uint32(len(s.layouts))
		s.layouts = append(s.layouts, cols)
		s.layoutOf[string(s.key)] = layout
	}
	s.key = append(s.key[:0], byte(src.Level), src.Kind)
	s.key = binary.AppendUvarint(s.key, uint64(scope))
	s.key = binary.AppendUvarint(s.key, uint64(src.Flags))
	s.key = binary.AppendUvarint(s.key, uint64(layout))
	s.key = append(s.key, src.Name...)
	i, ok := s.shapeOf[string(s.key)]
	if !ok {
		i = uint32(len(s.shapes))
		s.shapes = append(s.shapes, outShape{level: src.Level, kind: src.Kind, scope: scope, flags: src.Flags, layout: layout, name: src.Name})
		s.shapeOf[string(s.key)] = i
	}
	return i
}

func (s *outSpace) scope(src *ScopeInfo) uint32 {
	b := appendString(s.key[:0], src.Name)
	b = appendString(b, src.Version)
	b = appendString(b, src.SchemaURL)
	s.key = appendAttributes(b, src.Attrs, src.DroppedAttrs)
	return internRecord(&s.scopes, s.scopeOf, s.key)
}

func (s *outSpace) resource(src *ResourceInfo) uint32 {
	b := appendString(s.key[:0], src.Service)
	b = appendString(b, src.SchemaURL)
	s.key = appendAttributes(b, src.Attrs, src.DroppedAttrs)
	return internRecord(&s.resources, s.resOf, s.key)
}

func internRecord(list *[][]byte, of map[string]uint32, record []byte) uint32 {
	i, ok := of[string(record)]
	if !ok {
		i = uint32(len(*list))
		record = append([]byte(nil), record...)
		*list = append(*list, record)
		of[string(record)] = i
	}
	return i
}

// rank returns the place of a resource among the shape's producers.
func (s *outSpace) rank(shape, resource uint32) uint32 {
	sh := &s.shapes[shape]
	if sh.rankOf == nil {
		for i, r := range sh.producers {
			if r == resource {
				return uint32(i)
			}
		}
		if len(sh.producers) >= 16 {
			sh.rankOf = make(map[uint32]uint32)
			for i, r := range sh.producers {
				sh.rankOf[r] = uint32(i)
			}
		}
	}
	i, ok := sh.rankOf[resource]
	if !ok {
		i = uint32(len(sh.producers))
		sh.producers = append(sh.producers, resource)
		if sh.rankOf != nil {
			sh.rankOf[resource] = i
		}
	}
	return i
}

// code returns the code of a string.
func (d *outDict) code(v []byte) uint32 {
	if c, ok := d.codes[string(v)]; ok {
		return c
	}
	if d.codes == nil {
		d.codes = make(map[string]uint32)
		d.offs = []uint32{0}
	}
	c := uint32(len(d.offs) - 1)
	d.data = append(d.data, v...)
	d.offs = append(d.offs, uint32(len(d.data)))
	d.codes[string(v)] = c
	return c
}

func (d *outDict) at(code uint32) []byte { return d.data[d.offs[code]:d.offs[code+1]] }

// settle decides whether the groups to come use the dictionary.
func (d *outDict) settle() {
	n := len(d.codes)
	d.raw = d.raw || (n > minRaw || len(d.data) > minRawBytes) && n > d.values/3 || len(d.data) > maxTextBytes/2
}

func appendAttributes(dst []byte, attrs []Attribute, dropped uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(dropped))
	dst = binary.AppendUvarint(dst, uint64(len(attrs)))
	for i := range attrs {
		a := &attrs[i]
		dst = appendString(dst, a.Key)
		dst = append(dst, byte(a.Type))
		if a.Type.InBuf() {
			dst = appendString(dst, a.Text)
		} else {
			dst = binary.AppendUvarint(dst, a.Num)
		}
	}
	return dst
}

// spaceWriter writes an outSpace.
type spaceWriter struct {
	w    *block.Writer
	ints intEncoder
	text textEncoder
	b    []byte
}

func (sw *spaceWriter) write(s *outSpace) {
	sw.columns(s)
	sw.shapes(s)
	sw.records(sectionScopes, s.scopes)
	sw.records(sectionResources, s.resources)
}

// columns writes columns and their dictionaries.
func (sw *spaceWriter) columns(s *outSpace) {
	head := binary.AppendUvarint(nil, uint64(len(s.columns)))
	for i := range s.columns {
		c, d := &s.columns[i], &s.dicts[i]
		head = append(head, byte(c.Level), byte(c.Role), byte(c.Type))
		head = appendString(head, c.Key)
		n := max(len(d.offs)-1, 0)
		head = binary.AppendUvarint(head, uint64(n))
		for first := 0; first < n; {
			end := first + 1
			for end < n && end-first < stringsPerPage && d.offs[end+1]-d.offs[first] <= stringsBytes {
				end++
			}
			head = binary.AppendUvarint(head, uint64(end-first))
			sw.b = sw.text.append(sw.b[:0], d.offs[first:end+1], d.data)
			sw.w.Page(sectionStrings, sw.b)
			first = end
		}
	}
	sw.w.CompressedPage(sectionColumns, head)
}

func (sw *spaceWriter) shapes(s *outSpace) {
	b := binary.AppendUvarint(sw.b[:0], uint64(len(s.layouts)))
	for _, l := range s.layouts {
		b = binary.AppendUvarint(b, uint64(len(l)))
		for _, c := range l {
			b = binary.AppendUvarint(b, uint64(c))
		}
	}
	sw.w.CompressedPage(sectionShapes, b)
	for rest := s.shapes; len(rest) > 0; {
		n := min(len(rest), shapesPerPage)
		var levels, kinds []uint8
		var scopes, flags, layouts, counts, producers []uint32
		offs, names := []uint32{0}, []byte(nil)
		for i := range rest[:n] {
			sh := &rest[i]
			levels, kinds = append(levels, uint8(sh.level)), append(kinds, sh.kind)
			scopes, flags, layouts = append(scopes, sh.scope), append(flags, sh.flags), append(layouts, sh.layout)
			names = append(names, sh.name...)
			offs = append(offs, uint32(len(names)))
			counts = append(counts, uint32(len(sh.producers)))
			producers = append(producers, sh.producers...)
		}
		b = binary.AppendUvarint(b[:0], uint64(n))
		b = appendFramed(b, levels, &sw.ints)
		b = appendFramed(b, kinds, &sw.ints)
		b = appendFramed(b, scopes, &sw.ints)
		b = appendFramed(b, flags, &sw.ints)
		b = appendFramed(b, layouts, &sw.ints)
		b = sw.text.append(b, offs, names)
		sw.w.CompressedPage(sectionShapes, b)

		b = appendFramed(b[:0], counts, &sw.ints)
		b = appendInts(b, producers, &sw.ints)
		sw.w.Page(sectionProducers, b)
		rest = rest[n:]
	}
	sw.b = b
}

// records writes records of bytes, some of them to a page.
func (sw *spaceWriter) records(section string, records [][]byte) {
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size+len(records[n]) <= stringsBytes) {
			size += len(records[n])
			n++
		}
		b := binary.AppendUvarint(sw.b[:0], uint64(n))
		for _, r := range records[:n] {
			b = append(b, r...)
		}
		sw.w.CompressedPage(section, b)
		sw.b = b
		records = records[n:]
	}
}
