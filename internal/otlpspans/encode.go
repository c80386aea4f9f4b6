package otlpspans

import (
	"encoding/binary"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// Wire types of protobuf.
const (
	varint  = 0
	fixed64 = 1
	bytes   = 2
	fixed32 = 5
)

// Rooms for the length of a message that is begun before its size is known; a
// message that needs another width is moved.
const (
	shortRoom = 1
	spanRoom  = 2
	groupRoom = 4
)

// AppendRequest appends all of s as an ExportTraceServiceRequest, whose bytes are
// also those of TracesData. Resources and scopes without spans are left out.
func AppendRequest(dst []byte, s *signal.Spans) []byte {
	rows := make([]uint32, s.Len())
	for i := range rows {
		rows[i] = uint32(i)
	}
	return AppendRows(dst, s, rows)
}

// AppendRows appends some spans of s as AppendRequest does. Where rows do not
// follow each other by resource and scope, spans of one scope are put together,
// in the order in which rows names them.
func AppendRows(dst []byte, s *signal.Spans, rows []uint32) []byte {
	rows = grouped(s, rows)
	for i := 0; i < len(rows); {
		resource := s.Scopes[s.Scope[rows[i]]].Resource
		var outer int
		dst, outer = open(dst, 1<<3|bytes, groupRoom)
		var inner int
		dst, inner = open(dst, 1<<3|bytes, spanRoom)
		dst = closeMessage(AppendResource(dst, s, &s.Resources[resource]), inner, spanRoom)
		for i < len(rows) && s.Scopes[s.Scope[rows[i]]].Resource == resource {
			dst, i = appendScopeSpans(dst, s, rows, i)
		}
		dst = appendBytes(dst, 3<<3|bytes, s.Bytes(s.Resources[resource].SchemaURL))
		dst = closeMessage(dst, outer, groupRoom)
	}
	return dst
}

// appendScopeSpans appends the spans from the i-th of rows on that belong to one
// scope, and returns the index of the next one.
func appendScopeSpans(dst []byte, s *signal.Spans, rows []uint32, i int) ([]byte, int) {
	scope := s.Scope[rows[i]]
	dst, outer := open(dst, 2<<3|bytes, groupRoom)
	dst, inner := open(dst, 1<<3|bytes, shortRoom)
	dst = closeMessage(AppendScope(dst, s, &s.Scopes[scope]), inner, shortRoom)
	for ; i < len(rows) && s.Scope[rows[i]] == scope; i++ {
		dst, inner = open(dst, 2<<3|bytes, spanRoom)
		dst = closeMessage(AppendSpan(dst, s, int(rows[i])), inner, spanRoom)
	}
	dst = appendBytes(dst, 3<<3|bytes, s.Bytes(s.Scopes[scope].SchemaURL))
	return closeMessage(dst, outer, groupRoom), i
}

// grouped returns rows, or a copy of them in which the rows of one resource and of
// one scope follow each other.
func grouped(s *signal.Spans, rows []uint32) []uint32 {
	order := func(a, b uint32) int {
		x, y := s.Scope[a], s.Scope[b]
		if x == y {
			return 0
		}
		if d := int(s.Scopes[x].Resource) - int(s.Scopes[y].Resource); d != 0 {
			return d
		}
		return int(x) - int(y)
	}
	if slices.IsSortedFunc(rows, order) {
		return rows
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, order)
	return rows
}

// AppendResource appends the content of a Resource message.
func AppendResource(dst []byte, s *signal.Spans, r *signal.Resource) []byte {
	dst = appendAttrs(dst, s, 1, r.AttrBegin, r.AttrEnd)
	return appendVarint(dst, 2<<3|varint, uint64(r.DroppedAttrs))
}

// AppendScope appends the content of an InstrumentationScope message.
func AppendScope(dst []byte, s *signal.Spans, c *signal.Scope) []byte {
	dst = appendBytes(dst, 1<<3|bytes, s.Bytes(c.Name))
	dst = appendBytes(dst, 2<<3|bytes, s.Bytes(c.Version))
	dst = appendAttrs(dst, s, 3, c.AttrBegin, c.AttrEnd)
	return appendVarint(dst, 4<<3|varint, uint64(c.DroppedAttrs))
}

// AppendSpan appends the content of the Span message of row i.
func AppendSpan(dst []byte, s *signal.Spans, i int) []byte {
	dst = append(dst, 1<<3|bytes, 16)
	dst = append(dst, s.TraceIDs[i][:]...)
	dst = append(dst, 2<<3|bytes, 8)
	dst = append(dst, s.SpanIDs[i][:]...)
	dst = appendBytes(dst, 3<<3|bytes, s.Bytes(s.States[i]))
	if !s.Parents[i].IsZero() {
		dst = append(dst, 4<<3|bytes, 8)
		dst = append(dst, s.Parents[i][:]...)
	}
	dst = appendBytes(dst, 5<<3|bytes, s.Bytes(s.Names[i]))
	dst = appendVarint(dst, 6<<3|varint, uint64(s.Kinds[i]))
	dst = appendFixed64(dst, 7<<3|fixed64, uint64(s.Starts[i]))
	dst = appendFixed64(dst, 8<<3|fixed64, uint64(s.Ends[i]))
	dst = appendAttrs(dst, s, 9, s.AttrBegin[i], s.AttrEnd[i])
	dst = appendVarint(dst, 10<<3|varint, uint64(s.DroppedAttrs[i]))
	for k := s.EventBegin[i]; k < s.EventEnd[i]; k++ {
		dst = appendEvent(dst, s, &s.Events[k])
	}
	dst = appendVarint(dst, 12<<3|varint, uint64(s.DroppedEvents[i]))
	for k := s.LinkBegin[i]; k < s.LinkEnd[i]; k++ {
		dst = appendLink(dst, s, &s.Links[k])
	}
	dst = appendVarint(dst, 14<<3|varint, uint64(s.DroppedLinks[i]))
	if message := s.Bytes(s.Messages[i]); len(message) > 0 || s.Statuses[i] != 0 {
		var outer int
		dst, outer = open(dst, 15<<3|bytes, shortRoom)
		dst = appendBytes(dst, 2<<3|bytes, message)
		dst = appendVarint(dst, 3<<3|varint, uint64(s.Statuses[i]))
		dst = closeMessage(dst, outer, shortRoom)
	}
	if s.Flags[i] != 0 {
		dst = append(dst, 0x80|16<<3&0x7f|fixed32, 1)
		dst = binary.LittleEndian.AppendUint32(dst, s.Flags[i])
	}
	return dst
}

func appendEvent(dst []byte, s *signal.Spans, e *signal.Event) []byte {
	dst, outer := open(dst, 11<<3|bytes, spanRoom)
	dst = appendFixed64(dst, 1<<3|fixed64, uint64(e.Time))
	dst = appendBytes(dst, 2<<3|bytes, s.Bytes(e.Name))
	dst = appendAttrs(dst, s, 3, e.AttrBegin, e.AttrEnd)
	dst = appendVarint(dst, 4<<3|varint, uint64(e.DroppedAttrs))
	return closeMessage(dst, outer, spanRoom)
}

func appendLink(dst []byte, s *signal.Spans, l *signal.Link) []byte {
	dst, outer := open(dst, 13<<3|bytes, shortRoom)
	if l.TraceID != (signal.TraceID{}) {
		dst = append(dst, 1<<3|bytes, 16)
		dst = append(dst, l.TraceID[:]...)
	}
	if !l.SpanID.IsZero() {
		dst = append(dst, 2<<3|bytes, 8)
		dst = append(dst, l.SpanID[:]...)
	}
	dst = appendBytes(dst, 3<<3|bytes, s.Bytes(l.State))
	dst = appendAttrs(dst, s, 4, l.AttrBegin, l.AttrEnd)
	dst = appendVarint(dst, 5<<3|varint, uint64(l.DroppedAttrs))
	if l.Flags != 0 {
		dst = append(dst, 6<<3|fixed32)
		dst = binary.LittleEndian.AppendUint32(dst, l.Flags)
	}
	return closeMessage(dst, outer, shortRoom)
}

func appendAttrs(dst []byte, s *signal.Spans, field byte, begin, end uint32) []byte {
	for _, a := range s.Attrs[begin:end] {
		v := Value{Type: a.Type, Num: a.Num}
		if a.Type.InBuf() {
			v.Bytes = s.Bytes(a.Range())
		}
		dst = AppendAttr(dst, field, s.Bytes(a.Key), v)
	}
	return dst
}

// AppendAttr appends an attribute as a KeyValue in the given field, whose number
// is below 16.
func AppendAttr(dst []byte, field byte, key []byte, v Value) []byte {
	value := v.size()
	size := 1 + uvarintSize(uint64(value)) + value
	if len(key) > 0 {
		size += 1 + uvarintSize(uint64(len(key))) + len(key)
	}
	dst = append(dst, field<<3|bytes)
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = appendBytes(dst, 1<<3|bytes, key)
	dst = append(dst, 2<<3|bytes)
	dst = binary.AppendUvarint(dst, uint64(value))
	return v.append(dst)
}

// open begins a message with the given tag and returns where its content begins.
func open(dst []byte, tag byte, room int) ([]byte, int) {
	dst = append(dst, tag)
	for range room {
		dst = append(dst, 0)
	}
	return dst, len(dst)
}

// closeMessage sets the length of the message whose content begins at the given
// index, behind as much room as open has left.
func closeMessage(dst []byte, content, room int) []byte {
	size := len(dst) - content
	var b [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(b[:], uint64(size))
	for k := room; k < n; k++ {
		dst = append(dst, 0)
	}
	if n != room {
		copy(dst[content-room+n:], dst[content:content+size])
	}
	copy(dst[content-room:], b[:n])
	return dst[:content-room+n+size]
}

// appendBytes appends a field of bytes unless there are none.
func appendBytes(dst []byte, tag byte, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendVarint appends a field unless it is zero.
func appendVarint(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, tag), v)
}

func appendFixed64(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(append(dst, tag), v)
}
