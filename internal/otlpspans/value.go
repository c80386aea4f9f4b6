package otlpspans

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"iter"
	"math"
	"math/bits"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/internal/signal"
)

// Value is the value of an attribute, or one within an array or a map.
type Value struct {
	Type  signal.AttrType
	Num   uint64 // as in a signal.Attr, of an AttrBool, AttrInt or AttrDouble
	Bytes []byte // of the types whose values are in a batch's Buf
}

// ValueOf returns the value of an attribute of s.
func ValueOf(s *signal.Spans, a signal.Attr) Value {
	if a.Type.InBuf() {
		return Value{Type: a.Type, Bytes: s.Bytes(a.Range())}
	}
	return Value{Type: a.Type, Num: a.Num}
}

// size returns the size of the content of v's AnyValue message.
func (v Value) size() int {
	switch v.Type {
	case signal.AttrBool:
		return 2
	case signal.AttrInt:
		return 1 + uvarintSize(v.Num)
	case signal.AttrDouble:
		return 9
	case signal.AttrString, signal.AttrBytes, signal.AttrArray, signal.AttrMap:
		return 1 + uvarintSize(uint64(len(v.Bytes))) + len(v.Bytes)
	}
	return 0
}

// append appends the content of v's AnyValue message.
func (v Value) append(dst []byte) []byte {
	switch v.Type {
	case signal.AttrBool:
		return append(dst, 2<<3|varint, byte(min(v.Num, 1)))
	case signal.AttrInt:
		return binary.AppendUvarint(append(dst, 3<<3|varint), v.Num)
	case signal.AttrDouble:
		return binary.LittleEndian.AppendUint64(append(dst, 4<<3|fixed64), v.Num)
	case signal.AttrString:
		dst = append(dst, 1<<3|bytes)
	case signal.AttrArray:
		dst = append(dst, 5<<3|bytes)
	case signal.AttrMap:
		dst = append(dst, 6<<3|bytes)
	case signal.AttrBytes:
		dst = append(dst, 7<<3|bytes)
	default:
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(v.Bytes)))
	return append(dst, v.Bytes...)
}

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// fields calls yield with every field of a message until it says false; bytes that
// are not well-formed end it. num is the content of a field that is no bytes.
func fields(b []byte, yield func(tag uint64, num uint64, content []byte) bool) {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		var num uint64
		var content []byte
		switch wire {
		case protowire.VarintType:
			num, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			num, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, wire, b)
		}
		if n < 0 || !yield(uint64(number)<<3|uint64(wire), num, content) {
			return
		}
		b = b[n:]
	}
}

// Messages lists the contents of the fields of bytes that have the given number in
// a message. Bytes that are not well-formed end the list.
func Messages(b []byte, number int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		fields(b, func(tag, _ uint64, content []byte) bool {
			return tag != uint64(number)<<3|bytes || yield(content)
		})
	}
}

// Elements lists the values of an AttrArray. Bytes that are not well-formed end
// the list; a decoder lets none into a batch.
func Elements(array []byte) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		for content := range Messages(array, 1) {
			var v Value
			v.read(content)
			if !yield(v) {
				return
			}
		}
	}
}

// Entries lists the keys and values of an AttrMap, in the order of the sender and
// with duplicates. Bytes that are not well-formed end the list.
func Entries(list []byte) iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) {
		for content := range Messages(list, 1) {
			var key []byte
			var v Value
			fields(content, func(tag, _ uint64, content []byte) bool {
				switch tag {
				case 1<<3 | bytes:
					key = content
				case 2<<3 | bytes:
					v.read(content)
				}
				return true
			})
			if !yield(key, v) {
				return
			}
		}
	}
}

// read sets v to what an AnyValue message says: the last of several counts.
func (v *Value) read(b []byte) {
	fields(b, func(tag, num uint64, content []byte) bool {
		switch tag {
		case 1<<3 | bytes:
			*v = Value{Type: signal.AttrString, Bytes: content}
		case 2<<3 | varint:
			*v = Value{Type: signal.AttrBool, Num: min(num, 1)}
		case 3<<3 | varint:
			*v = Value{Type: signal.AttrInt, Num: num}
		case 4<<3 | fixed64:
			*v = Value{Type: signal.AttrDouble, Num: num}
		case 5<<3 | bytes:
			*v = Value{Type: signal.AttrArray, Bytes: content}
		case 6<<3 | bytes:
			*v = Value{Type: signal.AttrMap, Bytes: content}
		case 7<<3 | bytes:
			*v = Value{Type: signal.AttrBytes, Bytes: content}
		case 8<<3 | varint: // an index of profiles
			*v = Value{}
		}
		return true
	})
}

// AppendText appends the value as text, as the Collector does for protocols
// whose attributes are strings: numbers in decimal, bytes in base64, arrays and
// maps as JSON with the keys of a map in order, and nothing for AttrEmpty.
func (v Value) AppendText(dst []byte) []byte {
	switch v.Type {
	case signal.AttrString:
		return append(dst, v.Bytes...)
	case signal.AttrBool:
		return strconv.AppendBool(dst, v.Num != 0)
	case signal.AttrInt:
		return strconv.AppendInt(dst, int64(v.Num), 10)
	case signal.AttrDouble:
		return appendDouble(dst, math.Float64frombits(v.Num))
	case signal.AttrBytes:
		return base64.StdEncoding.AppendEncode(dst, v.Bytes)
	case signal.AttrArray, signal.AttrMap:
		w := writer{dst}
		enc := json.NewEncoder(&w)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v.Raw()) // Raw makes only what can be encoded
		return w.b[:len(w.b)-1] // the newline
	}
	return dst
}

type writer struct{ b []byte }

func (w *writer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// Raw returns the value as Go's encoding/json writes it: nil, string, bool, int64,
// float64 (as a string where JSON has no number for it), []byte, []any or
// map[string]any, in which the last of several entries of one key counts.
func (v Value) Raw() any {
	switch v.Type {
	case signal.AttrString:
		return string(v.Bytes)
	case signal.AttrBool:
		return v.Num != 0
	case signal.AttrInt:
		return int64(v.Num)
	case signal.AttrDouble:
		f := math.Float64frombits(v.Num)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return string(appendDouble(nil, f))
		}
		return f
	case signal.AttrBytes:
		return v.Bytes
	case signal.AttrArray:
		list := []any{}
		for e := range Elements(v.Bytes) {
			list = append(list, e.Raw())
		}
		return list
	case signal.AttrMap:
		m := map[string]any{}
		for k, e := range Entries(v.Bytes) {
			m[string(k)] = e.Raw()
		}
		return m
	}
	return nil
}

// appendDouble writes a number as ECMAScript does.
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	if abs := math.Abs(f); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
