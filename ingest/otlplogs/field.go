package otlplogs

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// Tags of fields: the number, shifted, and the wire type.
const (
	asVarint  = wire.Varint
	asFixed64 = wire.Fixed64
	asBytes   = wire.Bytes
	asFixed32 = wire.Fixed32
)

// field reads the field at b[i:]: its tag and the bounds of its content, which is
// without its length; end is where the next field begins, or -1.
func field(b []byte, i int) (tag uint64, s, end int) {
	if i+1 < len(b) && b[i] < 0x80 && b[i] > 7 { // nearly every field
		switch next := b[i+1]; b[i] & 7 {
		case asBytes:
			if next < 0x80 {
				s, end = i+2, i+2+int(next)
				if end > len(b) {
					return 0, 0, -1
				}
				return uint64(b[i]), s, end
			}
		case asVarint:
			if next < 0x80 {
				return uint64(b[i]), i + 1, i + 2
			}
		case asFixed64:
			if i+9 <= len(b) {
				return uint64(b[i]), i + 1, i + 9
			}
		}
	}
	return anyField(b, i)
}

func anyField(b []byte, i int) (tag uint64, s, end int) {
	num, wt, s := wire.Field(b, i)
	if s < 0 {
		return 0, 0, -1
	}
	tag = uint64(num)<<3 | uint64(wt)
	switch wt {
	case asBytes:
		if s, end = wire.Span(b, s); s < 0 {
			return 0, 0, -1
		}
	case asVarint, asFixed64, asFixed32:
		end = wire.Skip(b, s, wt)
	default: // a group
		n := protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(wt), b[s:])
		if n < 0 {
			return 0, 0, -1
		}
		end = s + n
	}
	return tag, s, end
}

func rangeOf(off, end int) signal.ByteRange {
	return signal.ByteRange{Off: uint32(off), Len: uint32(end - off)}
}

// malformed builds the error for the field at b[i:], which field has refused.
func (r *Request) malformed(b []byte, i int, what string) error {
	num, wt, s := wire.Field(b, i)
	switch {
	case s < 0:
		return r.syntax(i, "%s: no valid field tag", what)
	case wt != asBytes && wt > asFixed64 && wt < asFixed32:
		return r.syntax(i, "%s: field %d is a group that does not end", what, num)
	}
	return r.syntax(i, "%s: field %d is cut short", what, num)
}

// unknown passes over a field that is no known one; one whose number is known, up
// to the given one, has the wrong wire type.
func (r *Request) unknown(i int, what string, tag, known uint64) error {
	if tag>>3 <= known {
		return r.syntax(i, "%s: field %d has wire type %d", what, tag>>3, tag&7)
	}
	return nil
}
