package spanbuild

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/wire"
)

// Writer encodes fields of protobuf messages one behind the other. Fields with
// no value are left out, as proto3 does it.
type Writer struct {
	buf   []byte
	open  [4]int // where the open messages start
	depth int
}

// Len returns how many bytes were written.
func (w *Writer) Len() int { return len(w.buf) }

// Open begins a message within the one that is written; every Open has its
// Close.
func (w *Writer) Open(field int) {
	w.tag(field, wire.Bytes)
	w.buf = append(w.buf, 0) // enough for lengths below 128
	w.open[w.depth] = len(w.buf)
	w.depth++
}

// Close ends the message that was opened last.
func (w *Writer) Close() {
	w.depth--
	start := w.open[w.depth]
	n := len(w.buf) - start
	if n < 0x80 {
		w.buf[start-1] = byte(n)
		return
	}
	var length [binary.MaxVarintLen64]byte
	extra := binary.PutUvarint(length[:], uint64(n)) - 1
	w.buf = append(w.buf, length[:extra]...) // room
	copy(w.buf[start+extra:], w.buf[start:start+n])
	copy(w.buf[start-1:], length[:extra+1])
}

// Varint writes a number.
func (w *Writer) Varint(field int, v uint64) {
	if v != 0 {
		w.tag(field, wire.Varint)
		w.buf = binary.AppendUvarint(w.buf, v)
	}
}

// Fixed64 writes a number in eight bytes.
func (w *Writer) Fixed64(field int, v uint64) {
	if v != 0 {
		w.tag(field, wire.Fixed64)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, v)
	}
}

// Fixed32 writes a number in four bytes.
func (w *Writer) Fixed32(field int, v uint32) {
	if v != 0 {
		w.tag(field, wire.Fixed32)
		w.buf = binary.LittleEndian.AppendUint32(w.buf, v)
	}
}

// ID writes the bytes of a span's id; 0 is none.
func (w *Writer) ID(field int, id uint64) {
	if id != 0 {
		w.length(field, 8)
		w.buf = binary.BigEndian.AppendUint64(w.buf, id)
	}
}

// TraceID writes the bytes of a trace's id.
func (w *Writer) TraceID(field int, high, low uint64) {
	w.length(field, 16)
	w.buf = binary.BigEndian.AppendUint64(w.buf, high)
	w.buf = binary.BigEndian.AppendUint64(w.buf, low)
}

// String writes text.
func (w *Writer) String(field int, value []byte) { w.raw(field, Valid(value)) }

func (w *Writer) raw(field int, value []byte) {
	if len(value) > 0 {
		w.length(field, len(value))
		w.buf = append(w.buf, value...)
	}
}

// Fields of KeyValue and AnyValue.
const (
	kvKey   = 1
	kvValue = 2

	anyString = 1
	anyBool   = 2
	anyInt    = 3
	anyDouble = 4
	anyArray  = 5
	anyBytes  = 7

	arrayValue = 1
)

// StringAttr writes an attribute in the given field of the message.
func (w *Writer) StringAttr(field int, key, value []byte) {
	w.bytesAttr(field, key, anyString, Valid(value))
}

// BytesAttr writes an attribute.
func (w *Writer) BytesAttr(field int, key, value []byte) { w.bytesAttr(field, key, anyBytes, value) }

func (w *Writer) bytesAttr(field int, key []byte, kind int, value []byte) {
	w.attr(field, key, 1+varintLen(len(value))+len(value))
	w.length(kind, len(value))
	w.buf = append(w.buf, value...)
}

// IntAttr writes an attribute.
func (w *Writer) IntAttr(field int, key []byte, v int64) {
	w.attr(field, key, 1+varintLen64(uint64(v)))
	w.tag(anyInt, wire.Varint)
	w.buf = binary.AppendUvarint(w.buf, uint64(v))
}

// BoolAttr writes an attribute.
func (w *Writer) BoolAttr(field int, key []byte, v bool) {
	w.attr(field, key, 2)
	b := byte(0)
	if v {
		b = 1
	}
	w.tag(anyBool, wire.Varint)
	w.buf = append(w.buf, b)
}

// DoubleAttr writes an attribute.
func (w *Writer) DoubleAttr(field int, key []byte, v float64) {
	w.attr(field, key, 9)
	w.tag(anyDouble, wire.Fixed64)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, math.Float64bits(v))
}

// StringsAttr writes an attribute that is an array.
func (w *Writer) StringsAttr(field int, key []byte, values [][]byte) {
	w.Open(field)
	w.String(kvKey, key)
	w.Open(kvValue)
	w.Open(anyArray)
	for _, v := range values {
		v = Valid(v)
		w.length(arrayValue, 1+varintLen(len(v))+len(v))
		w.length(anyString, len(v))
		w.buf = append(w.buf, v...)
	}
	w.Close()
	w.Close()
	w.Close()
}

// attr writes a KeyValue up to its value, whose length it is given.
func (w *Writer) attr(field int, key []byte, value int) {
	key = Valid(key)
	w.length(field, lengthOf(key)+1+varintLen(value)+value)
	w.raw(kvKey, key)
	w.length(kvValue, value)
}

func (w *Writer) tag(field, kind int) {
	if field < 16 {
		w.buf = append(w.buf, byte(field<<3|kind))
		return
	}
	w.buf = binary.AppendUvarint(w.buf, uint64(field<<3|kind))
}

// length writes the head of a field with bytes.
func (w *Writer) length(field, n int) {
	w.tag(field, wire.Bytes)
	w.buf = binary.AppendUvarint(w.buf, uint64(n))
}

func varintLen(n int) int { return varintLen64(uint64(n)) }

func varintLen64(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// Valid returns text as UTF-8: bytes that are not become U+FFFD.
func Valid(text []byte) []byte {
	if utf8.Valid(text) {
		return text
	}
	return []byte(strings.ToValidUTF8(string(text), "\uFFFD"))
}
