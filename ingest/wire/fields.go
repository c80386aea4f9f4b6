package wire

import "encoding/binary"

// Fields goes through the fields of a protobuf message one by one.
type Fields struct {
	Num   int32  // of the field at hand
	Wire  int    // its wire type
	Value uint64 // if that is Varint, Fixed64 or Fixed32
	Bytes []byte // if that is Bytes; aliases the message

	b   []byte
	i   int
	bad bool
}

// FieldsOf returns the fields of a message; Next goes to the first.
func FieldsOf(message []byte) Fields { return Fields{b: message} }

// Next goes to the next field and reports whether there is one.
func (f *Fields) Next() bool {
	if f.i >= len(f.b) || f.bad {
		return false
	}
	num, wire, i := Field(f.b, f.i)
	if i < 0 {
		f.bad = true
		return false
	}
	end := i
	switch wire {
	case Varint:
		f.Value, end = Uvarint(f.b, i)
	case Bytes:
		var start int
		if start, end = Span(f.b, i); start >= 0 {
			f.Bytes = f.b[start:end:end]
		}
	default:
		if end = Skip(f.b, i, wire); end < 0 {
			break
		}
		switch wire {
		case Fixed64:
			f.Value = binary.LittleEndian.Uint64(f.b[i:])
		case Fixed32:
			f.Value = uint64(binary.LittleEndian.Uint32(f.b[i:]))
		}
	}
	if end < 0 {
		f.bad = true
		return false
	}
	f.Num, f.Wire, f.i = num, wire, end
	return true
}

// Is reports whether the field at hand has a number and a wire type.
func (f *Fields) Is(num int32, wire int) bool { return f.Num == num && f.Wire == wire }

// Bad reports whether Next has ended at bytes that are no field.
func (f *Fields) Bad() bool { return f.bad }

// Offset returns where Next has come to.
func (f *Fields) Offset() int { return f.i }
