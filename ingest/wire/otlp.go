package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/signal"
)

// maxDepth is how deep arrays and maps of OTLP may lie in each other.
const maxDepth = 64

// Fault says why what a message holds is refused; the zero value says nothing.
type Fault struct {
	Reason Reason
	What   string
	Got    int
}

// Walk is where the decoder of an OTLP request stands: what it needs to say what
// is wrong with the bytes, which ends the decode, or with the message at hand,
// which is refused. It checks what no decoder keeps.
type Walk struct {
	Format  buffer.Format // of the request
	TooDeep Reason        // refuses values that are nested deeper than 64 levels
	Fault   Fault         // the first one of the message at hand
}

// Refuse notes a fault of the message at hand; the first one counts.
func (w *Walk) Refuse(reason Reason, what string, got int) {
	if w.Fault.Reason == ReasonNone {
		w.Fault = Fault{reason, what, got}
	}
}

func (w *Walk) syntax(off int, format string, args ...any) error {
	return &SyntaxError{Message: MessageName(w.Format), Offset: off, Detail: fmt.Sprintf(format, args...)}
}

// Malformed builds the error for the field at b[i:], which Tagged has refused.
func (w *Walk) Malformed(b []byte, i int, what string) error {
	return w.syntax(i, "%s: %s", what, TaggedFault(b, i))
}

// Unknown passes over the field at i that is no known one; one whose number is
// known, up to the given one, has the wrong wire type.
func (w *Walk) Unknown(i int, what string, tag, known uint64) error {
	if tag>>3 <= known {
		return w.syntax(i, "%s: field %d has wire type %d", what, tag>>3, tag&7)
	}
	return nil
}

// Text checks what protobuf calls a string.
func (w *Walk) Text(b []byte, what string) {
	if !utf8.Valid(b) {
		w.Refuse(ReasonInvalidUTF8, what, 0)
	}
}

// KeyValue checks the KeyValue message at b[off:end], at the given depth of nesting.
func (w *Walk) KeyValue(b []byte, off, end, depth int) error {
	const what = "attribute"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := Tagged(b, i)
		if e < 0 {
			return w.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | Bytes:
			if !utf8.Valid(b[s:e]) {
				w.Refuse(ReasonInvalidUTF8, "key of an attribute", 0)
			}
		case 2<<3 | Bytes:
			err = w.Value(b, s, e, depth, "value of an attribute")
		case 3<<3 | Varint: // an index of profiles
		default:
			err = w.Unknown(i, what, tag, 3)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// Value checks the AnyValue message at b[off:end], or one of several pieces.
func (w *Walk) Value(b []byte, off, end, depth int, of string) error {
	const what = "value"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := Tagged(b, i)
		if e < 0 {
			return w.Malformed(b, i, what)
		}
		var err error
		switch tag {
		case 1<<3 | Bytes:
			if !utf8.Valid(b[s:e]) {
				w.Refuse(ReasonInvalidUTF8, of, 0)
			}
		case 2<<3 | Varint, 3<<3 | Varint, 4<<3 | Fixed64, 7<<3 | Bytes:
		case 5<<3 | Bytes, 6<<3 | Bytes:
			err = w.List(b, s, e, depth+1, tag>>3 == 6, of)
		case 8<<3 | Varint: // an index of profiles
		default:
			err = w.Unknown(i, what, tag, 8)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// List checks the ArrayValue or, with pairs, the KeyValueList at b[off:end].
func (w *Walk) List(b []byte, off, end, depth int, pairs bool, of string) error {
	const what = "list of values"
	if depth > maxDepth {
		w.Refuse(w.TooDeep, of+" is nested too deep", depth)
		return nil
	}
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := Tagged(b, i)
		if e < 0 {
			return w.Malformed(b, i, what)
		}
		var err error
		switch {
		case tag != 1<<3|Bytes:
			err = w.Unknown(i, what, tag, 1)
		case pairs:
			err = w.KeyValue(b, s, e, depth)
		default:
			err = w.Value(b, s, e, depth, of)
		}
		if err != nil {
			return err
		}
		i = e
	}
	return nil
}

// Entity checks the EntityRef at b[off:end].
func (w *Walk) Entity(b []byte, off, end int) error {
	const what = "entity reference"
	b = b[:end]
	for i := off; i < end; {
		tag, s, e := Tagged(b, i)
		if e < 0 {
			return w.Malformed(b, i, what)
		}
		if tag&7 == Bytes && tag>>3 <= 4 {
			w.Text(b[s:e], what)
		} else if err := w.Unknown(i, what, tag, 4); err != nil {
			return err
		}
		i = e
	}
	return nil
}

// Envelope is what surrounds messages: the fields beside them are Extras[Begin:End].
type Envelope struct {
	Begin, End uint32
	Size       uint32 // of these fields
}

// Extras are the fields of a request's envelopes, where they lie in its body.
type Extras []signal.ByteRange

// Envelope returns one that is empty, at the end.
func (x Extras) Envelope() Envelope { return Envelope{Begin: uint32(len(x)), End: uint32(len(x))} }

// Add adds the field at [off, end) to e, the last envelope.
func (x *Extras) Add(b *Budget, e *Envelope, off, end int) (err error) {
	all := *x
	if n := len(all); n > int(e.Begin) && all[n-1].Off+all[n-1].Len == uint32(off) {
		all[n-1].Len += uint32(end - off)
	} else {
		if all, err = Grow(b, all, 8); err != nil {
			return err
		}
		all = append(all, signal.RangeOf(off, end))
	}
	*x = all
	e.End = uint32(len(all))
	e.Size += uint32(end - off)
	return nil
}

// Append appends what an envelope holds beside the messages.
func (x Extras) Append(dst, body []byte, e *Envelope) []byte {
	for _, r := range x[e.Begin:e.End] {
		dst = append(dst, body[r.Off:r.Off+r.Len]...)
	}
	return dst
}

// OpenMessage begins a message in the given field and returns where its content
// begins; CloseMessage ends it.
func OpenMessage(dst []byte, field uint64) (out []byte, content int) {
	dst = binary.AppendUvarint(dst, field<<3|Bytes)
	dst = append(dst, 0, 0, 0, 0, 0)
	return dst, len(dst)
}

// CloseMessage sets the length of the message whose content begins at the given
// index, and moves the content to where the length ends.
func CloseMessage(dst []byte, content int) []byte {
	size := len(dst) - content
	var b [5]byte
	n := binary.PutUvarint(b[:], uint64(size))
	if n < len(b) {
		copy(dst[content-len(b)+n:], dst[content:])
		dst = dst[:len(dst)-len(b)+n]
	}
	copy(dst[content-len(b):], b[:n])
	return dst
}

// Home mixes two halves of a key as
//
//	h = high*0x9e3779b97f4a7c15 + low
//	h = (h ^ h>>32) * 0xd6e8feb86659fd93
//	h = h ^ h>>32
//
// modulo 2^64, and returns the upper half of the 128-bit product h*n: which of n
// partitions the key belongs to. Every producer must use the same; keys are often
// not random in one of the halves.
func Home(high, low uint64, n int) int {
	h := high*0x9e3779b97f4a7c15 + low
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h ^= h >> 32
	partition, _ := bits.Mul64(h, uint64(n))
	return int(partition)
}
