package tempo

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// appendUint appends a varint field; 0 only if zero says so.
func appendUint(dst []byte, field protowire.Number, v uint64, zero bool) []byte {
	if v == 0 && !zero {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

// appendDouble appends a double field, 0 as well.
func appendDouble(dst []byte, field protowire.Number, f float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), math.Float64bits(f))
}

// appendBytes appends a string or bytes field; an empty one only if empty says
// so.
func appendBytes(dst []byte, field protowire.Number, s string, empty bool) []byte {
	if s == "" && !empty {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

// appendMessage appends a field with a message that content writes.
func appendMessage(dst []byte, field protowire.Number, content func([]byte) []byte) []byte {
	dst = protowire.AppendTag(dst, field, protowire.BytesType)
	// A length of one byte is the usual case; a longer one moves the content.
	at := len(dst)
	dst = content(append(dst, 0))
	size := len(dst) - at - 1
	if size < 0x80 {
		dst[at] = byte(size)
		return dst
	}
	extra := protowire.SizeVarint(uint64(size)) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[at+1+extra:], dst[at+1:at+1+size])
	protowire.AppendVarint(dst[:at], uint64(size))
	return dst
}
