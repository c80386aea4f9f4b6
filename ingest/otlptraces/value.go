package otlptraces

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// attribute appends the attribute of a KeyValue message.
func (r *Request) attribute(b []byte, s, e int) (err error) {
	attrs := &r.Spans.Attrs
	if len(*attrs) == cap(*attrs) {
		if *attrs, err = wire.Grow(&r.budget, *attrs, attrBytes); err != nil {
			return err
		}
	}
	a, ok := usual(b, s, e)
	if !ok {
		a = signal.Attr{}
		if err := r.keyValue(b, s, e, &a); err != nil {
			return err
		}
		*attrs = append(*attrs, a)
		return nil
	}
	if !utf8.Valid(b[a.Key.Off : a.Key.Off+a.Key.Len]) {
		r.walk.Refuse(wire.ReasonInvalidUTF8, "key of an attribute", 0)
	}
	if a.Type == signal.AttrString {
		v := a.Range()
		if !utf8.Valid(b[v.Off : v.Off+v.Len]) {
			r.walk.Refuse(wire.ReasonInvalidUTF8, "value of an attribute", 0)
		}
		r.longest = max(r.longest, int(v.Len))
	}
	*attrs = append(*attrs, a)
	return nil
}

// usual reads a KeyValue message of the shape that nearly all have: a short key,
// and a short value that is a string or a number. SDKs write the key first, the
// Collector the value.
func usual(b []byte, s, e int) (a signal.Attr, ok bool) {
	if e-s < 6 || b[s+1] >= 0x80 {
		return a, false
	}
	first := s + 2
	second := first + int(b[s+1]) // its tag
	if second+2 > e || b[second+1] >= 0x80 || second+2+int(b[second+1]) != e {
		return a, false
	}
	v, end := second+2, e // the value
	switch {
	case b[s] == 1<<3|wire.Bytes && b[second] == 2<<3|wire.Bytes:
		a.Key = signal.RangeOf(first, second)
	case b[s] == 2<<3|wire.Bytes && b[second] == 1<<3|wire.Bytes:
		a.Key = signal.RangeOf(v, end)
		v, end = first, second
	default:
		return a, false
	}
	if end-v < 2 {
		return a, false
	}
	switch c := v + 1; b[v] {
	case 1<<3 | wire.Bytes:
		if b[c] >= 0x80 || c+1+int(b[c]) != end {
			return a, false
		}
		a.Type, a.Num = signal.AttrString, signal.PackRange(signal.RangeOf(c+1, end))
	case 3<<3 | wire.Varint:
		n, next := wire.Uvarint(b, c)
		if next != end {
			return a, false
		}
		a.Type, a.Num = signal.AttrInt, n
	case 2<<3 | wire.Varint:
		if b[c] > 1 || c+1 != end {
			return a, false
		}
		a.Type, a.Num = signal.AttrBool, uint64(b[c])
	case 4<<3 | wire.Fixed64:
		if c+8 != end {
			return a, false
		}
		a.Type, a.Num = signal.AttrDouble, binary.LittleEndian.Uint64(b[c:])
	default:
		return a, false
	}
	return a, true
}

// keyValue reads any KeyValue message into a.
func (r *Request) keyValue(b []byte, off, end int, a *signal.Attr) error {
	const what = "attribute"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			if !utf8.Valid(b[s:e]) {
				r.walk.Refuse(wire.ReasonInvalidUTF8, "key of an attribute", 0)
			}
			a.Key = signal.RangeOf(s, e)
		case 2<<3 | wire.Bytes:
			err = r.anyValue(b, s, e, a)
		case 3<<3 | wire.Varint: // an index of profiles
		default:
			err = r.walk.Unknown(i, what, tag, 3)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// anyValue reads an AnyValue message, or one of several pieces, into a: the last
// value counts.
func (r *Request) anyValue(b []byte, off, end int, a *signal.Attr) error {
	const what = "value"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.walk.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | wire.Bytes:
			a.Type, a.Num = signal.AttrString, signal.PackRange(r.text(b, s, e, "value of an attribute"))
		case 2<<3 | wire.Varint:
			a.Type, a.Num = signal.AttrBool, min(varintAt(b, s), 1)
		case 3<<3 | wire.Varint:
			a.Type, a.Num = signal.AttrInt, varintAt(b, s)
		case 4<<3 | wire.Fixed64:
			a.Type, a.Num = signal.AttrDouble, binary.LittleEndian.Uint64(b[s:])
		case 5<<3 | wire.Bytes, 6<<3 | wire.Bytes:
			a.Type, a.Num = signal.AttrArray, signal.PackRange(signal.RangeOf(s, e))
			if tag>>3 == 6 {
				a.Type = signal.AttrMap
			}
			r.longest = max(r.longest, e-s)
			err = r.walk.List(b, s, e, 1, tag>>3 == 6, "value of an attribute")
		case 7<<3 | wire.Bytes:
			a.Type, a.Num = signal.AttrBytes, signal.PackRange(signal.RangeOf(s, e))
			r.longest = max(r.longest, e-s)
		case 8<<3 | wire.Varint: // an index of profiles
			a.Type, a.Num = signal.AttrEmpty, 0
		default:
			err = r.walk.Unknown(i, what, tag, 8)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

func varintAt(b []byte, i int) uint64 {
	v, _ := wire.Uvarint(b, i)
	return v
}
