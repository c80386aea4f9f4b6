package otlp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"

	"github.com/vedette-io/vedette/ingest/wire"
)

// attribute is a KeyValue with its value as text.
type attribute struct{ key, value []byte }

// maxDepth bounds how deep lists and maps may lie in each other.
const maxDepth = 100

// keyValue splits a KeyValue message, which begins at the given offset of the
// body, into its key and its AnyValue message.
func (r *Request) keyValue(b []byte, at int) (key, val []byte, err error) {
	// Nearly every one is a short key followed by a short value.
	if len(b) > 3 && b[0] == 0x0a && b[1] < 0x80 {
		k := 2 + int(b[1])
		if k+2 <= len(b) && b[k] == 0x12 && b[k+1] < 0x80 && k+2+int(b[k+1]) == len(b) {
			return b[2:k], b[k+2:], nil
		}
	}
	const what = "attribute"
	for i := 0; i < len(b); {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return nil, nil, shift(err, at)
		}
		if num == 1 || num == 2 {
			if wt != wire.Bytes {
				return nil, nil, r.wrongType(at+i, what, num, wt, wire.Bytes)
			}
			switch {
			case num == 1:
				key = b[s:e]
			case val == nil:
				val = b[s:e]
			default: // pieces of one message
				val = append(append([]byte{}, val...), b[s:e]...)
			}
		}
		i = e
	}
	return key, val, nil
}

// shift moves the offset of a syntax error in a part of the body that begins at
// off.
func shift(err error, off int) error {
	if s, ok := err.(*wire.SyntaxError); ok {
		s.Offset += off
	}
	return err
}

// text returns an AnyValue message, which begins at the given offset of the
// body, as text, as the Collector writes it. What is not a string is appended to
// buf.
func (r *Request) text(b []byte, at int, buf *[]byte) ([]byte, error) {
	if len(b) > 1 && b[0] == 0x0a && b[1] < 0x80 && 2+int(b[1]) == len(b) {
		return b[2:], nil
	}
	n := len(*buf)
	if len(b) > 1 && b[0] == 3<<3|wire.Varint {
		if v, next := wire.Uvarint(b, 1); next == len(b) {
			*buf = strconv.AppendInt(*buf, int64(v), 10)
			return (*buf)[n:], nil
		}
	}
	v, err := r.anyValue(b, at)
	if err != nil {
		return nil, err
	}
	switch v.kind {
	case 1:
		return v.bytes, nil
	case 2:
		*buf = strconv.AppendBool(*buf, v.bits != 0)
	case 3:
		*buf = strconv.AppendInt(*buf, int64(v.bits), 10)
	case 4:
		*buf = appendFloat(*buf, math.Float64frombits(v.bits))
	case 7:
		if err := r.budget.Charge(2 * len(v.bytes)); err != nil {
			return nil, err
		}
		*buf = base64.StdEncoding.AppendEncode(*buf, v.bytes)
	case 5, 6:
		tree, err := r.tree(v, at, 0)
		if err != nil {
			return nil, err
		}
		*buf = append(*buf, marshalJSON(tree)...)
	}
	return (*buf)[n:], nil
}

// anyValue is an AnyValue message: which of its fields is set, and the content.
type anyValue struct {
	kind  int32 // field number; 0 is no value
	bits  uint64
	bytes []byte
	off   int // of bytes in the body
}

func (r *Request) anyValue(b []byte, at int) (anyValue, error) {
	const what = "attribute value"
	var v anyValue
	for i := 0; i < len(b); {
		num, wt, s, e, err := r.field(b, i, what)
		if err != nil {
			return v, shift(err, at)
		}
		want := wt
		switch num {
		case 1, 5, 6, 7:
			want = wire.Bytes
			v = anyValue{kind: num, bytes: b[s:e], off: at + s}
		case 2, 3:
			want = wire.Varint
			bits, _ := wire.Uvarint(b, s)
			v = anyValue{kind: num, bits: bits}
		case 4:
			want = wire.Fixed64
			if wt == want {
				v = anyValue{kind: num, bits: binary.LittleEndian.Uint64(b[s:])}
			}
		}
		if wt != want {
			return v, r.wrongType(at+i, what, num, wt, want)
		}
		i = e
	}
	return v, nil
}

// tree turns a list or a map into what encoding/json makes the Collector's text
// of.
func (r *Request) tree(v anyValue, at, depth int) (any, error) {
	if depth > maxDepth {
		return nil, r.syntax(at, "attribute value: lists and maps lie more than %d deep", maxDepth)
	}
	if err := r.budget.Charge(64 + len(v.bytes)); err != nil {
		return nil, err
	}
	switch v.kind {
	case 1:
		return string(v.bytes), nil
	case 2:
		return v.bits != 0, nil
	case 3:
		return int64(v.bits), nil
	case 4:
		return math.Float64frombits(v.bits), nil
	case 7:
		return append([]byte(nil), v.bytes...), nil // none is null
	case 5:
		list := []any{}
		err := r.elements(v, func(b []byte, off int) error {
			e, err := r.anyValue(b, off)
			if err != nil {
				return err
			}
			node, err := r.tree(e, off, depth+1)
			list = append(list, node)
			return err
		})
		return list, err
	case 6:
		m := map[string]any{}
		err := r.elements(v, func(b []byte, off int) error {
			key, val, err := r.keyValue(b, off)
			if err != nil {
				return err
			}
			e, err := r.anyValue(val, off)
			if err != nil {
				return err
			}
			m[string(key)], err = r.tree(e, off, depth+1)
			return err
		})
		return m, err
	}
	return nil, nil
}

// elements calls f with every message of a list or map.
func (r *Request) elements(v anyValue, f func(b []byte, off int) error) error {
	const what = "attribute value"
	for i := 0; i < len(v.bytes); {
		num, wt, s, e, err := r.field(v.bytes, i, what)
		if err != nil {
			return shift(err, v.off)
		}
		if num == 1 {
			if wt != wire.Bytes {
				return r.wrongType(v.off+i, what, num, wt, wire.Bytes)
			}
			if err := f(v.bytes[s:e], v.off+s); err != nil {
				return err
			}
		}
		i = e
	}
	return nil
}

// marshalJSON returns v without escapes for HTML; what JSON has no form for, as
// NaN, gives nothing.
func marshalJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return nil
	}
	return bytes.TrimRight(buf.Bytes(), "\n")
}

// appendFloat writes a float as JavaScript does.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
