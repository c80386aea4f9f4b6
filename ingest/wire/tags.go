package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Tagged reads the field at b[i:]: its tag (the number, shifted, and the wire
// type) and the bounds of its content, which is without its length; end is where
// the next field begins, or -1. A group is passed over as one field. Decoders that
// remember places in the message call it for every field; Fields is for the rest.
func Tagged(b []byte, i int) (tag uint64, s, end int) {
	if i+1 < len(b) && b[i] < 0x80 && b[i] > 7 { // nearly every field
		switch next := b[i+1]; b[i] & 7 {
		case Bytes:
			if next < 0x80 {
				s, end = i+2, i+2+int(next)
				if end > len(b) {
					return 0, 0, -1
				}
				return uint64(b[i]), s, end
			}
		case Varint:
			if next < 0x80 {
				return uint64(b[i]), i + 1, i + 2
			}
		case Fixed64:
			if i+9 <= len(b) {
				return uint64(b[i]), i + 1, i + 9
			}
		}
	}
	return anyTagged(b, i)
}

func anyTagged(b []byte, i int) (tag uint64, s, end int) {
	num, wt, s := Field(b, i)
	if s < 0 {
		return 0, 0, -1
	}
	tag = uint64(num)<<3 | uint64(wt)
	switch wt {
	case Bytes:
		if s, end = Span(b, s); s < 0 {
			return 0, 0, -1
		}
	case Varint, Fixed64, Fixed32:
		end = Skip(b, s, wt)
	default: // a group
		n := protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(wt), b[s:])
		if n < 0 {
			return 0, 0, -1
		}
		end = s + n
	}
	return tag, s, end
}

// TaggedFault says what is wrong with the field at b[i:], which Tagged has refused.
func TaggedFault(b []byte, i int) string {
	num, wt, s := Field(b, i)
	switch {
	case s < 0:
		return "no valid field tag"
	case wt != Bytes && wt > Fixed64 && wt < Fixed32:
		return fmt.Sprintf("field %d is a group that does not end", num)
	}
	return fmt.Sprintf("field %d is cut short", num)
}
