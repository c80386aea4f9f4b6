package remotewrite

import (
	"fmt"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// Protobuf wire types.
const (
	wireVarint     = 0
	wireFixed64    = 1
	wireBytes      = 2
	wireStartGroup = 3
	wireEndGroup   = 4
	wireFixed32    = 5
)

// uvarint decodes the varint at b[i:] and returns the index behind it, or -1 if
// it is cut short or longer than ten bytes. Bits above 64 are dropped, as the
// generated decoders of Prometheus do.
func uvarint(b []byte, i int) (v uint64, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return uvarintLong(b, i)
}

func uvarintLong(b []byte, i int) (v uint64, next int) {
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(b) {
			return 0, -1
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, -1
}

// field decodes the tag at b[i:]; next is -1 if it is not a valid one.
func field(b []byte, i int) (num int32, wire int, next int) {
	v, next := uvarint(b, i)
	num, wire = int32(v>>3), int(v&7)
	if next < 0 || num <= 0 || wire == wireEndGroup || wire > wireFixed32 {
		return 0, 0, -1
	}
	return num, wire, next
}

// span decodes the length at b[i:] of a length-delimited field and returns the
// bounds of its content; start is -1 if it does not fit.
func span(b []byte, i int) (start, end int) {
	l, i := uvarint(b, i)
	if i < 0 || l > uint64(len(b)-i) {
		return -1, -1
	}
	return i, i + int(l)
}

// skip returns the index behind the value at b[i:] of a field with the given
// wire type, or -1.
func skip(b []byte, i, wire int) int {
	depth := 0
	for {
		switch wire {
		case wireVarint:
			_, i = uvarint(b, i)
		case wireFixed64:
			i += 8
		case wireBytes:
			_, i = span(b, i)
		case wireStartGroup:
			depth++
		case wireEndGroup:
			depth--
		case wireFixed32:
			i += 4
		default:
			return -1
		}
		if i < 0 || i > len(b) || depth < 0 {
			return -1
		}
		if depth == 0 {
			return i
		}
		var tag uint64
		if tag, i = uvarint(b, i); i < 0 {
			return -1
		}
		wire = int(tag & 7)
	}
}

func unzigzag32(v uint32) int32 { return int32(v>>1) ^ -int32(v&1) }

func unzigzag64(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// syntax builds the error for the bytes at offset off of the body.
func (r *Request) syntax(off int, format string, args ...any) error {
	return &SyntaxError{Message: messageName(r.format), Offset: off, Detail: fmt.Sprintf(format, args...)}
}

func messageName(f buffer.Format) string {
	switch f {
	case buffer.FormatRemoteWriteV1:
		return "prometheus.WriteRequest"
	case buffer.FormatRemoteWriteV2:
		return "io.prometheus.write.v2.Request"
	}
	return "request"
}
