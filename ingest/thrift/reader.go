// Package thrift reads Thrift's binary protocol from bytes in memory, for doors
// that take messages of clients.
//
// It takes no memory of its own: strings are parts of the input, and a list is
// as long as there are bytes for its elements. So a hostile length costs
// nothing. The first error sticks: after it every read returns zero, Field says
// that the struct has ended, and List that nothing is in it.
package thrift

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Types of values.
const (
	Stop   = 0
	Bool   = 2
	Byte   = 3
	Double = 4
	I16    = 6
	I32    = 8
	I64    = 10
	String = 11
	Struct = 12
	Map    = 13
	Set    = 14
	List   = 15
)

// maxDepth is how deep what is skipped may be nested.
const maxDepth = 64

// Error says what is wrong with a message, and where.
type Error struct {
	Offset int
	Detail string
}

func (e *Error) Error() string { return fmt.Sprintf("thrift: byte %d: %s", e.Offset, e.Detail) }

// Reader reads values one behind the other.
type Reader struct {
	b   []byte
	i   int
	err *Error
}

// NewReader returns a reader of b, whose bytes the strings that are read alias.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Offset returns how many bytes were read.
func (r *Reader) Offset() int { return r.i }

// Seek goes to where Offset once was.
func (r *Reader) Seek(offset int) {
	if r.err == nil {
		r.i = offset
	}
}

// Fail makes detail the error, unless there is one.
func (r *Reader) Fail(detail string) {
	if r.err == nil {
		r.err = &Error{r.i, detail}
	}
	r.i = len(r.b)
}

// take returns the next n bytes, or nil.
func (r *Reader) take(n int) []byte {
	if uint(n) > uint(len(r.b)-r.i) || r.err != nil {
		r.Fail("cut short")
		return nil
	}
	p := r.b[r.i : r.i+n : r.i+n]
	r.i += n
	return p
}

// Byte reads a byte.
func (r *Reader) Byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// Bool reads a bool.
func (r *Reader) Bool() bool { return r.Byte() == 1 }

// Int16 reads an i16.
func (r *Reader) Int16() int16 {
	if p := r.take(2); p != nil {
		return int16(binary.BigEndian.Uint16(p))
	}
	return 0
}

// Int32 reads an i32.
func (r *Reader) Int32() int32 {
	if p := r.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

// Int64 reads an i64.
func (r *Reader) Int64() int64 {
	if p := r.take(8); p != nil {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

// Double reads a double.
func (r *Reader) Double() float64 { return math.Float64frombits(uint64(r.Int64())) }

// Bytes reads a string or binary.
func (r *Reader) Bytes() []byte {
	n := r.Int32()
	if n < 0 {
		r.Fail(fmt.Sprintf("length of a string: got %d, want 0 or more", n))
		return nil
	}
	return r.take(int(n))
}

// Field reads the head of a struct's next field; its type is Stop if there is
// none.
func (r *Reader) Field() (kind byte, id int16) {
	kind = r.Byte()
	if kind == Stop {
		return Stop, 0
	}
	return kind, r.Int16()
}

// List reads the head of a list or set of elements of a type, and returns how
// many they are.
func (r *Reader) List(want byte) int {
	at := r.i
	kind := r.Byte()
	n := r.size()
	if n > 0 && kind != want {
		r.i = at
		r.Fail(fmt.Sprintf("list: got elements of type %d, want %d", kind, want))
		return 0
	}
	return n
}

// size reads how many elements there are; each takes a byte at least.
func (r *Reader) size() int {
	n := r.Int32()
	if n < 0 || int(n) > len(r.b)-r.i {
		r.Fail(fmt.Sprintf("list: got %d elements in %d bytes", n, len(r.b)-r.i))
		return 0
	}
	return int(n)
}

// Skip passes over a value.
func (r *Reader) Skip(kind byte) { r.skip(kind, maxDepth) }

func (r *Reader) skip(kind byte, depth int) {
	if depth == 0 {
		r.Fail(fmt.Sprintf("nested deeper than %d", maxDepth))
		return
	}
	switch kind {
	case Bool, Byte:
		r.take(1)
	case I16:
		r.take(2)
	case I32:
		r.take(4)
	case Double, I64:
		r.take(8)
	case String:
		r.Bytes()
	case Struct:
		for {
			field, _ := r.Field()
			if field == Stop {
				return
			}
			r.skip(field, depth-1)
		}
	case Map:
		k, v := r.Byte(), r.Byte()
		for n := r.size(); n > 0 && r.err == nil; n-- {
			r.skip(k, depth-1)
			r.skip(v, depth-1)
		}
	case Set, List:
		element := r.Byte()
		for n := r.size(); n > 0 && r.err == nil; n-- {
			r.skip(element, depth-1)
		}
	default:
		r.Fail(fmt.Sprintf("type: got %d", kind))
	}
}
