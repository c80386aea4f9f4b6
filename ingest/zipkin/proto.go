package zipkin

import (
	"encoding/binary"
	"fmt"

	"github.com/vedette-io/vedette/ingest/spanbuild"
	"github.com/vedette-io/vedette/ingest/wire"
)

// proto3 reads a zipkin.proto3.ListOfSpans.
func (d *decoder) proto3(body []byte) error {
	m := wire.FieldsOf(body)
	for m.Next() {
		if !m.Is(1, wire.Bytes) {
			continue
		}
		d.index++
		d.field = ""
		s := &d.span
		s.reset()
		if bad := d.spanProto(m.Bytes); bad != nil {
			return d.refuse(bad)
		}
		if bad := d.add(s); bad != nil {
			return d.refuse(bad)
		}
		if d.err != nil {
			return d.err
		}
	}
	if m.Bad() {
		return d.refuse(&invalid{"", "Malformed"})
	}
	return nil
}

// spanProto reads a zipkin.proto3.Span into d.span.
func (d *decoder) spanProto(b []byte) *invalid {
	s := &d.span
	m := wire.FieldsOf(b)
	for m.Next() {
		var bad *invalid
		switch {
		case m.Is(1, wire.Bytes):
			s.traceHigh, s.traceLow, bad = traceIDOf(m.Bytes)
		case m.Is(2, wire.Bytes):
			s.parent, bad = idOf("parentId", m.Bytes)
		case m.Is(3, wire.Bytes):
			s.id, bad = idOf("id", m.Bytes)
		case m.Is(4, wire.Varint):
			s.kind = kindOf(m.Value)
		case m.Is(5, wire.Bytes):
			s.name = m.Bytes
		case m.Is(6, wire.Fixed64):
			s.time = int64(m.Value)
		case m.Is(7, wire.Varint):
			s.duration = int64(m.Value)
		case m.Is(8, wire.Bytes):
			bad = endpointOf("localEndpoint", m.Bytes, &s.local)
		case m.Is(9, wire.Bytes):
			bad = endpointOf("remoteEndpoint", m.Bytes, &s.remote)
		case m.Is(10, wire.Bytes):
			bad = s.annotationProto(m.Bytes)
		case m.Is(11, wire.Bytes):
			bad = s.tagProto(m.Bytes)
		case m.Is(12, wire.Varint):
			s.debug = m.Value != 0
		case m.Is(13, wire.Varint):
			s.shared = m.Value != 0
		}
		if bad != nil {
			return bad
		}
	}
	if m.Bad() {
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
	m := wire.FieldsOf(b)
	for m.Next() {
		switch {
		case m.Is(1, wire.Bytes):
			e.service = m.Bytes
		case m.Is(2, wire.Bytes), m.Is(3, wire.Bytes):
			e.setIPBytes(m.Bytes)
		case m.Is(4, wire.Varint):
			if port := int64(int32(m.Value)); !e.setPort(port) {
				return &invalid{field, fmt.Sprintf("invalid port %d", port)}
			}
		}
	}
	if m.Bad() {
		return &invalid{field, "Malformed"}
	}
	return nil
}

func (s *span) annotationProto(b []byte) *invalid {
	if len(s.annotations) == maxAnnotations {
		return &invalid{"annotations", fmt.Sprintf("more than %d annotations", maxAnnotations)}
	}
	var a annotation
	m := wire.FieldsOf(b)
	for m.Next() {
		switch {
		case m.Is(1, wire.Fixed64):
			a.time = int64(m.Value)
		case m.Is(2, wire.Bytes):
			a.value = m.Bytes
		}
	}
	if m.Bad() {
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
	m := wire.FieldsOf(b)
	for m.Next() {
		switch {
		case m.Is(1, wire.Bytes):
			t.key = m.Bytes
		case m.Is(2, wire.Bytes):
			t.value = m.Bytes
		}
	}
	if m.Bad() {
		return &invalid{"tags", "Malformed"}
	}
	if len(t.key) > 0 { // Zipkin leaves others out
		s.tags = append(s.tags, t)
	}
	return nil
}
