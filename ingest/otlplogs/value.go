package otlplogs

import (
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
)

// maxDepth is how deep arrays and maps may lie in each other.
const maxDepth = 64

// keyValue checks a KeyValue message at the given depth of nesting.
func (r *Request) keyValue(b []byte, off, end, depth int) error {
	const what = "attribute"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | asBytes:
			if !utf8.Valid(b[s:e]) {
				r.refuse(wire.ReasonInvalidUTF8, "key of an attribute", 0)
			}
		case 2<<3 | asBytes:
			err = r.anyValue(b, s, e, depth, "value of an attribute")
		case 3<<3 | asVarint: // an index of profiles
		default:
			err = r.unknown(i, what, tag, 3)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// anyValue checks an AnyValue message, or one of several pieces.
func (r *Request) anyValue(b []byte, off, end, depth int, of string) error {
	const what = "value"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | asBytes:
			if !utf8.Valid(b[s:e]) {
				r.refuse(wire.ReasonInvalidUTF8, of, 0)
			}
		case 2<<3 | asVarint, 3<<3 | asVarint, 4<<3 | asFixed64, 7<<3 | asBytes:
		case 5<<3 | asBytes, 6<<3 | asBytes:
			err = r.list(b, s, e, depth+1, tag>>3 == 6, of)
		case 8<<3 | asVarint: // an index of profiles
		default:
			err = r.unknown(i, what, tag, 8)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// list checks an ArrayValue or a KeyValueList.
func (r *Request) list(b []byte, off, end, depth int, pairs bool, of string) error {
	const what = "list of values"
	if depth > maxDepth {
		r.refuse(wire.ReasonInvalidRecord, of+" is nested too deep", depth)
		return nil
	}
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := wire.Tagged(b, i)
		if e < 0 {
			return r.malformed(b, i, what)
		}
		var err error
		switch {
		case tag != 1<<3|asBytes:
			err = r.unknown(i, what, tag, 1)
		case pairs:
			err = r.keyValue(b, s, e, depth)
		default:
			err = r.anyValue(b, s, e, depth, of)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}
