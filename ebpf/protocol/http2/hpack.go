package http2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// Bounds of a dynamic table.
const (
	initialTable = 4096
	maxTable     = 64 << 10
	entryCost    = 32 // of each entry, by RFC 7541
)

// name is a header field that is of interest.
type name uint8

const (
	otherName name = iota
	methodName
	pathName
	statusName
	contentTypeName
	grpcStatusName
	traceparentName
	unknownName // inserted before the connection was joined
)

// nameOf finds a name among those of interest.
func nameOf(b []byte) name {
	switch string(b) {
	case ":method":
		return methodName
	case ":path":
		return pathName
	case ":status":
		return statusName
	case "content-type":
		return contentTypeName
	case "grpc-status":
		return grpcStatusName
	case "traceparent":
		return traceparentName
	}
	return otherName
}

// entry is what is kept of an inserted field: values of no interest are not.
type entry struct {
	name     name
	value    []byte
	nameSize int
	size     int // in the table
}

// dynamicTable is the end of one direction's table that was inserted since the
// connection was joined. An index is counted from the newest entry, so one that
// falls behind the oldest means an entry that is not known.
type dynamicTable struct {
	entries []entry // a ring: the newest is at (start+count-1)
	start   int
	count   int
	size    int
	limit   int // 0: initialTable
}

// forget says that entries may have been inserted that were not seen.
func (t *dynamicTable) forget() {
	t.start, t.count, t.size = 0, 0, 0
}

// at gives the entry i places behind the newest; nil: it is not known.
func (t *dynamicTable) at(i int) *entry {
	if i >= t.count {
		return nil
	}
	return &t.entries[(t.start+t.count-1-i)%len(t.entries)]
}

func (t *dynamicTable) insert(n name, value []byte, nameSize, valueSize int) {
	size := entryCost + nameSize + valueSize
	limit := t.limit
	if limit == 0 {
		limit = initialTable
	}
	if size > limit {
		t.forget()
		return
	}
	for t.count > 0 && t.size+size > limit {
		t.evict()
	}
	if t.count == len(t.entries) {
		grown := make([]entry, max(16, 2*len(t.entries)))
		for i := range t.count {
			grown[i] = t.entries[(t.start+i)%len(t.entries)]
		}
		t.entries, t.start = grown, 0
	}
	e := &t.entries[(t.start+t.count)%len(t.entries)]
	e.name, e.nameSize, e.size = n, nameSize, size
	e.value = append(e.value[:0], value...)
	t.count++
	t.size += size
}

func (t *dynamicTable) evict() {
	t.size -= t.entries[t.start].size
	t.start = (t.start + 1) % len(t.entries)
	t.count--
}

func (t *dynamicTable) resize(n int) {
	// 0 is kept as 1: no entry fits either.
	t.limit = min(max(n, 1), maxTable)
	for t.count > 0 && t.size > t.limit {
		t.evict()
	}
}

// staticEntry is one of RFC 7541's.
type staticEntry struct {
	name   name
	value  []byte
	length int // of the name
}

const staticEntries = 61

// static is the table of RFC 7541, read once out of the decoder that has it.
var static = func() (t [staticEntries + 1]staticEntry) {
	i := 1
	d := hpack.NewDecoder(0, func(f hpack.HeaderField) {
		t[i] = staticEntry{nameOf([]byte(f.Name)), []byte(f.Value), len(f.Name)}
	})
	for ; i <= staticEntries; i++ {
		if _, err := d.Write([]byte{0x80 | byte(i)}); err != nil {
			panic("BUG: static table of HPACK: " + err.Error())
		}
	}
	return t
}()

// decoder reads header blocks. Its buffers are reused.
type decoder struct {
	name, value bytes.Buffer
}

// decode reads a block, and calls field for each field whose name is of interest
// or not known. It returns false when the block is broken; the table is then not
// to be trusted.
func (d *decoder) decode(t *dynamicTable, b []byte, field func(n name, value []byte, known bool)) bool {
	for len(b) > 0 {
		first := b[0]
		var ok bool
		switch {
		case first&0x80 != 0: // indexed
			var i int
			if i, b, ok = integer(b, 7); !ok || i == 0 {
				return false
			}
			if i <= staticEntries {
				field(static[i].name, static[i].value, true)
			} else if e := t.at(i - staticEntries - 1); e != nil {
				field(e.name, e.value, true)
			} else {
				field(unknownName, nil, false)
			}
		case first&0xe0 == 0x20: // size update
			var n int
			if n, b, ok = integer(b, 5); !ok {
				return false
			}
			t.resize(n)
		default:
			if b, ok = d.literal(t, b, field); !ok {
				return false
			}
		}
	}
	return true
}

// literal reads a field whose value is spelt out.
func (d *decoder) literal(t *dynamicTable, b []byte, field func(n name, value []byte, known bool)) ([]byte, bool) {
	insert := b[0]&0xc0 == 0x40
	bits := 4
	if insert {
		bits = 6
	}
	i, b, ok := integer(b, bits)
	if !ok {
		return nil, false
	}
	var n name
	var nameSize int
	switch {
	case i == 0:
		var s []byte
		if s, b, ok = text(&d.name, b); !ok {
			return nil, false
		}
		n, nameSize = nameOf(s), len(s)
	case i <= staticEntries:
		n, nameSize = static[i].name, static[i].length
	default:
		n = unknownName
		if e := t.at(i - staticEntries - 1); e != nil {
			n, nameSize = e.name, e.nameSize
		}
	}
	value, b, ok := text(&d.value, b)
	if !ok {
		return nil, false
	}
	if insert {
		kept := value
		if n == otherName {
			kept = nil
		}
		t.insert(n, kept, nameSize, len(value))
	}
	field(n, value, n != unknownName)
	return b, true
}

// integer reads a number whose prefix has n bits.
func integer(b []byte, n int) (int, []byte, bool) {
	mask := byte(1<<n - 1)
	v := int(b[0] & mask)
	b = b[1:]
	if v < int(mask) {
		return v, b, true
	}
	for shift := 0; len(b) > 0 && shift <= 21; shift += 7 {
		c := b[0]
		b = b[1:]
		v += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return v, b, true
		}
	}
	return 0, nil, false
}

// text reads a string. It is valid until buf is used again.
func text(buf *bytes.Buffer, b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	huffman := b[0]&0x80 != 0
	n, b, ok := integer(b, 7)
	if !ok || n > len(b) {
		return nil, nil, false
	}
	s, rest = b[:n], b[n:]
	if !huffman {
		return s, rest, true
	}
	buf.Reset()
	if _, err := hpack.HuffmanDecode(buf, s); err != nil {
		return nil, nil, false
	}
	return buf.Bytes(), rest, true
}
