package rows

import (
	"encoding/binary"

	"github.com/vedette-io/vedette/internal/signal"
)

// AppendRest appends an attribute to dst as a value of RoleRest: type u8, length
// of the key uvarint, key, and the value: bytes for types that are InBuf, 8 bytes
// little-endian for bools, ints and doubles, nothing for AttrEmpty.
func AppendRest(dst []byte, key []byte, t signal.AttrType, num uint64, value []byte) []byte {
	dst = append(dst, byte(t))
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	dst = append(dst, key...)
	switch {
	case t.InBuf():
		return append(dst, value...)
	case t == signal.AttrEmpty:
		return dst
	}
	return binary.LittleEndian.AppendUint64(dst, num)
}

// ParseRest takes a value of RoleRest apart. Key and value point into v. It
// reports false if v is no such value.
func ParseRest(v []byte) (key []byte, t signal.AttrType, num uint64, value []byte, ok bool) {
	if len(v) < 2 || v[0] >= byte(signal.NumAttrTypes) {
		return nil, 0, 0, nil, false
	}
	t = signal.AttrType(v[0])
	n, used := binary.Uvarint(v[1:])
	if used <= 0 || n > uint64(len(v)-1-used) {
		return nil, 0, 0, nil, false
	}
	key, v = v[1+used:1+used+int(n)], v[1+used+int(n):]
	switch {
	case t.InBuf():
		return key, t, 0, v, true
	case t == signal.AttrEmpty:
		return key, t, 0, nil, len(v) == 0
	case len(v) != 8:
		return nil, 0, 0, nil, false
	}
	return key, t, binary.LittleEndian.Uint64(v), nil, true
}
