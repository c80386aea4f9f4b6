package zipkin

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/vedette-io/vedette/ingest/thrift"
)

// thriftList reads a list of zipkincore.Span.
func (d *decoder) thriftList(body []byte) error {
	d.thrift = thrift.NewReader(body)
	r := &d.thrift
	want := byte(thrift.Struct)
	if body[0] == thrift.String {
		want = thrift.String // a known mistake of some clients; they are structs all the same
	}
	for n := r.List(want); n > 0; n-- {
		d.index++
		d.field = ""
		bad := d.spanThrift(r)
		if r.Err() != nil {
			break
		}
		if bad == nil {
			d.field = ""
			bad = d.addV1(&d.v1)
		}
		if bad != nil {
			return d.refuse(bad)
		}
		if d.err != nil {
			return d.err
		}
	}
	if err := r.Err(); err != nil {
		var at *thrift.Error
		errors.As(err, &at)
		return d.refuse(&invalid{d.field, fmt.Sprintf("Malformed at byte %d: %s", at.Offset, at.Detail)})
	}
	return nil
}

// field is the number and type of a field of a struct.
type field struct {
	id   int16
	kind byte
}

func (d *decoder) spanThrift(r *thrift.Reader) (bad *invalid) {
	s := &d.v1
	s.reset()
	for bad == nil {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			return nil
		case field{1, thrift.I64}:
			s.traceLow = uint64(r.Int64())
		case field{12, thrift.I64}:
			s.traceHigh = uint64(r.Int64())
		case field{3, thrift.String}:
			s.name = r.Bytes()
		case field{4, thrift.I64}:
			s.id = uint64(r.Int64())
		case field{5, thrift.I64}:
			s.parent = uint64(r.Int64())
		case field{6, thrift.List}:
			d.field = "annotations"
			for n := r.List(thrift.Struct); n > 0 && bad == nil && r.Err() == nil; n-- {
				bad = s.annotationThrift(r)
			}
		case field{8, thrift.List}:
			d.field = "binaryAnnotations"
			for n := r.List(thrift.Struct); n > 0 && bad == nil && r.Err() == nil; n-- {
				bad = s.binaryThrift(r)
			}
		case field{9, thrift.Bool}:
			s.debug = r.Bool()
		case field{10, thrift.I64}:
			s.time = r.Int64()
		case field{11, thrift.I64}:
			s.duration = r.Int64()
		default:
			r.Skip(kind)
		}
	}
	return bad
}

func (s *v1Span) annotationThrift(r *thrift.Reader) *invalid {
	var a annotation
	var e endpoint
	for {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			if r.Err() != nil || a.time == 0 || a.value == nil {
				return nil // as Zipkin
			}
			return s.addAnnotation(a, e)
		case field{1, thrift.I64}:
			a.time = r.Int64()
		case field{2, thrift.String}:
			a.value = r.Bytes()
		case field{3, thrift.Struct}:
			e = endpointThrift(r)
		default:
			r.Skip(kind)
		}
	}
}

func endpointThrift(r *thrift.Reader) (e endpoint) {
	for {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			return e
		case field{1, thrift.I32}:
			if v := uint32(r.Int32()); v != 0 {
				e.setIPBytes(binary.BigEndian.AppendUint32(nil, v))
			}
		case field{2, thrift.I16}:
			e.port = uint16(r.Int16())
		case field{3, thrift.String}:
			e.service = r.Bytes()
		case field{4, thrift.String}:
			e.setIPBytes(r.Bytes())
		default:
			r.Skip(kind)
		}
	}
}

// Types of binary annotations.
const (
	typeBool = iota
	typeBytes
	typeI16
	typeI32
	typeI64
	typeDouble
	typeString
)

func (s *v1Span) binaryThrift(r *thrift.Reader) *invalid {
	var b v1Binary
	kindOf := int32(-1)
	for {
		kind, id := r.Field()
		switch (field{id, kind}) {
		case field{0, thrift.Stop}:
			if r.Err() != nil || b.key == nil || b.value == nil {
				return nil // as Zipkin
			}
			if isAddress(b.key) && (b.endpoint.isEmpty() || kindOf == typeBool && string(b.value) != "\x01") {
				return nil
			}
			var ok bool
			if b.value, ok = valueText(kindOf, b.value); !ok {
				return nil
			}
			return s.addBinary(b)
		case field{1, thrift.String}:
			b.key = r.Bytes()
		case field{2, thrift.String}:
			b.value = r.Bytes()
		case field{3, thrift.I32}:
			kindOf = r.Int32()
		case field{4, thrift.Struct}:
			b.endpoint = endpointThrift(r)
		default:
			r.Skip(kind)
		}
	}
}

// valueText returns the value of a binary annotation as a tag has it.
func valueText(kind int32, v []byte) (text []byte, ok bool) {
	switch {
	case kind == typeString:
		return v, true
	case kind == typeBytes:
		return base64.StdEncoding.AppendEncode(nil, v), true
	case kind == typeBool && len(v) == 1:
		return strconv.AppendBool(nil, v[0] == 1), true
	case kind == typeI16 && len(v) == 2:
		return strconv.AppendInt(nil, int64(int16(binary.BigEndian.Uint16(v))), 10), true
	case kind == typeI32 && len(v) == 4:
		return strconv.AppendInt(nil, int64(int32(binary.BigEndian.Uint32(v))), 10), true
	case kind == typeI64 && len(v) == 8:
		return strconv.AppendInt(nil, int64(binary.BigEndian.Uint64(v)), 10), true
	case kind == typeDouble && len(v) == 8:
		return strconv.AppendFloat(nil, math.Float64frombits(binary.BigEndian.Uint64(v)), 'g', -1, 64), true
	}
	return nil, false
}
