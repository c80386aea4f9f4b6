// Package labels holds the canonical byte form of a label set, its identity.
//
// The canonical form is the one that Prometheus remote write 1.0 puts on the
// wire for a well-behaved sender, so that a known series is found by hashing the
// bytes of a request without parsing them: for each label, sorted by name in
// byte order, no name twice and no empty value,
//
//	0x0a <len> 0x0a <nameLen> name 0x12 <valueLen> value
//
// where the lengths are minimal protobuf varints (field 1 of TimeSeries holding
// a Label message whose field 1 is the name and field 2 the value).
package labels

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zeebo/xxh3"
)

// Hash is the 128-bit identity of a label set. It is never written to disk, so
// the function may change between versions.
type Hash struct{ Hi, Lo uint64 }

// HashCanonical hashes canonical label bytes.
func HashCanonical(b []byte) Hash {
	h := xxh3.Hash128(b)
	return Hash{h.Hi, h.Lo}
}

// Append appends one label in canonical form to dst. The caller appends labels
// in order of their names.
func Append[S ~string | ~[]byte](dst []byte, name, value S) []byte {
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(messageSize(len(name), len(value))))
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0x12)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// Size returns how many bytes Append appends for a name and a value of these
// lengths.
func Size(name, value int) int {
	n := messageSize(name, value)
	return 1 + uvarintLen(n) + n
}

// messageSize returns the size of a Label message.
func messageSize(name, value int) int {
	return 2 + uvarintLen(name) + name + uvarintLen(value) + value
}

func uvarintLen(n int) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

// ErrNotCanonical reports bytes that are not a canonical label set.
var ErrNotCanonical = errors.New("labels are not in canonical form")

// Next splits the first label off canonical bytes. It accepts only the form
// that Append writes; order between labels is the caller's to check.
func Next(b []byte) (name, value, rest []byte, err error) {
	if len(b) < 4 || b[0] != 0x0a {
		return nil, nil, nil, ErrNotCanonical
	}
	total, n := binary.Uvarint(b[1:])
	if n <= 0 || total > uint64(len(b)-1-n) {
		return nil, nil, nil, ErrNotCanonical
	}
	msg := b[1+n : 1+n+int(total)]
	rest = b[1+n+int(total):]
	if name, msg, err = field(msg, 0x0a); err != nil {
		return nil, nil, nil, err
	}
	if value, msg, err = field(msg, 0x12); err != nil {
		return nil, nil, nil, err
	}
	if len(msg) != 0 {
		return nil, nil, nil, fmt.Errorf("%w: %d bytes after the value", ErrNotCanonical, len(msg))
	}
	return name, value, rest, nil
}

func field(b []byte, tag byte) (val, rest []byte, err error) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, ErrNotCanonical
	}
	l, n := binary.Uvarint(b[1:])
	if n <= 0 || l > uint64(len(b)-1-n) {
		return nil, nil, ErrNotCanonical
	}
	return b[1+n : 1+n+int(l)], b[1+n+int(l):], nil
}
