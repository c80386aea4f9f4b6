package zipkin

import (
	"encoding/binary"
	"fmt"

	"github.com/vedette-io/vedette/ingest/spanbuild"
	"github.com/vedette-io/vedette/ingest/wire"
)

// proto3 reads a zipkin.proto3.ListOfSpans.
func (d *decoder) proto3(body []byte) error {
	m := message{b: body}
	for m.next() {
		if m.num != 1 || m.kind != wire.Bytes {
			continue
		}
		d.index++
		d.field = ""
		s := &d.span
		s.reset()
		if bad := d.spanProto(m.bytes); bad != nil {
			return d.refuse(bad)
		}
		if bad := d.add(s); bad != nil {
			return d.refuse(bad)
		}
		if d.err != nil {
			return d.err
		}
	}
	if m.bad {
		return d.refuse(&invalid{"", "Malformed"})
	}
	return nil
}

// message iterates over the fields of a protobuf message.
type message struct {
	b []byte
	i int

	num   int32
	kind  int
	v     uint64 // of numbers
	bytes []byte // of all else
	bad   bool
}

func (m *message) next() bool {
	if m.i >= len(m.b) || m.bad {
		return false
	}
	num, kind, i := wire.Field(m.b, m.i)
	if i < 0 {
		m.bad = true
		return false
	}
	end := i
	switch kind {
	case wire.Varint:
		m.v, end = wire.Uvarint(m.b, i)
	case wire.Bytes:
		var start int
		if start, end = wire.Span(m.b, i); start >= 0 {
			m.bytes = m.b[start:end:end]
		}
	default:
		if end = wire.Skip(m.b, i, kind); end == i+8 && kind == wire.Fixed64 {
			m.v = binary.LittleEndian.Uint64(m.b[i:])
		}
	}
	if end < 0 {
		m.bad = true
		return false
	}
	m.num, m.kind, m.i = num, kind, end
	return true
}

// is reports whether the field has a number and a wire type.
func (m *message) is(num int32, kind int) bool { return m.num == num && m.kind == kind }

// spanProto reads a zipkin.proto3.Span into d.span.
func (d *decoder) spanProto(b []byte) *invalid {
	s := &d.span
	m := message{b: b}
	for m.next() {
		var bad *invalid
		switch {
		case m.is(1, wire.Bytes):
			s.traceHigh, s.traceLow, bad = traceIDOf(m.bytes)
		case m.is(2, wire.Bytes):
			s.parent, bad = idOf("parentId", m.bytes)
		case m.is(3, wire.Bytes):
			s.id, bad = idOf("id", m.bytes)
		case m.is(4, wire.Varint):
			s.kind = kindOf(m.v)
		case m.is(5, wire.Bytes):
			s.name = m.bytes
		case m.is(6, wire.Fixed64):
			s.time = int64(m.v)
		case m.is(7, wire.Varint):
			s.duration = int64(m.v)
		case m.is(8, wire.Bytes):
			bad = endpointOf("localEndpoint", m.bytes, &s.local)
		case m.is(9, wire.Bytes):
			bad = endpointOf("remoteEndpoint", m.bytes, &s.remote)
		case m.is(10, wire.Bytes):
			bad = s.annotationProto(m.bytes)
		case m.is(11, wire.Bytes):
			bad = s.tagProto(m.bytes)
		case m.is(12, wire.Varint):
			s.debug = m.v != 0
		case m.is(13, wire.Varint):
			s.shared = m.v != 0
		}
		if bad != nil {
			return bad
		}
	}
	if m.bad {
		return &invalid{"", "Malformed"}
	}
	return nil
}

// kindOf maps zipkin.proto3.Span.Kind; what is unknown is none.
func kindOf(v uint64) uint8 {
	switch v {
	case 1:
		return spanbuild.KindClient
	case 2:
		return spanbuild.KindServer
	case 3:
		return spanbuild.KindProducer
	case 4:
		return spanbuild.KindConsumer
	}
	return 0
}

func traceIDOf(b []byte) (high, low uint64, bad *invalid) {
	switch len(b) {
	case 8:
		return 0, binary.BigEndian.Uint64(b), nil
	case 16:
		return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), nil
	}
	return 0, 0, &invalid{"traceId", fmt.Sprintf("traceId: got %d bytes, want 8 or 16", len(b))}
}

func idOf(field string, b []byte) (uint64, *invalid) {
	if len(b) == 0 && field == "parentId" {
		return 0, nil
	}
	if len(b) != 8 {
		return 0, &invalid{field, fmt.Sprintf("%s: got %d bytes, want 8", field, len(b))}
	}
	return binary.BigEndian.Uint64(b), nil
}

func endpointOf(field string, b []byte, e *endpoint) *invalid {
	m := message{b: b}
	for m.next() {
		switch {
		case m.is(1, wire.Bytes):
			e.service = m.bytes
		case m.is(2, wire.Bytes), m.is(3, wire.Bytes):
			e.setIPBytes(m.bytes)
		case m.is(4, wire.Varint):
			if port := int64(int32(m.v)); !e.setPort(port) {
				return &invalid{field, fmt.Sprintf("invalid port %d", port)}
			}
		}
	}
	if m.bad {
		return &invalid{field, "Malformed"}
	}
	return nil
}

func (s *span) annotationProto(b []byte) *invalid {
	if len(s.annotations) == maxAnnotations {
		return &invalid{"annotations", fmt.Sprintf("more than %d annotations", maxAnnotations)}
	}
	var a annotation
	m := message{b: b}
	for m.next() {
		switch {
		case m.is(1, wire.Fixed64):
			a.time = int64(m.v)
		case m.is(2, wire.Bytes):
			a.value = m.bytes
		}
	}
	if m.bad {
		return &invalid{"annotations", "Malformed"}
	}
	if a.time != 0 && len(a.value) > 0 { // Zipkin leaves others out
		s.annotations = append(s.annotations, a)
	}
	return nil
}

func (s *span) tagProto(b []byte) *invalid {
	if len(s.tags) == maxTags {
		return &invalid{"tags", fmt.Sprintf("more than %d tags", maxTags)}
	}
	var t tag
	m := message{b: b}
	for m.next() {
		switch {
		case m.is(1, wire.Bytes):
			t.key = m.bytes
		case m.is(2, wire.Bytes):
			t.value = m.bytes
		}
	}
	if m.bad {
		return &invalid{"tags", "Malformed"}
	}
	if len(t.key) > 0 { // Zipkin leaves others out
		s.tags = append(s.tags, t)
	}
	return nil
}
