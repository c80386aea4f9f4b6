package encoding

import "encoding/binary"

// AppendUints appends a column of unsigned integers that describes itself but
// for the number of values: codec byte, length of the payload as a varint,
// payload. Constant, regularly growing, run-length, small-range and slowly
// growing columns each find their form.
func AppendUints[T ~uint8 | ~uint16 | ~uint32 | ~uint64](dst []byte, vals []T, s *Scratch) []byte {
	s.ints = grown(s.ints, len(vals))
	for i, v := range vals {
		s.ints[i] = int64(v)
	}
	start := len(dst)
	dst = append(dst, 0, 0) // codec, one byte of length: enough for most columns
	dst, c := AppendTimes(dst, s.ints, s)
	dst[start] = byte(c)
	size := len(dst) - start - 2
	if size < 0x80 {
		dst[start+1] = byte(size)
		return dst
	}
	var head [binary.MaxVarintLen64]byte
	used := binary.PutUvarint(head[:], uint64(size))
	dst = append(dst, head[1:used]...) // room
	copy(dst[start+1+used:], dst[start+2:start+2+size])
	copy(dst[start+1:], head[:used])
	return dst
}

// DecodeUints appends the n values of the column at the start of src to dst and
// returns it with the bytes after the column. The caller bounds n, of which at
// most 8n bytes are allocated. On error dst is returned as it came.
func DecodeUints[T ~uint8 | ~uint16 | ~uint32 | ~uint64](dst []T, src []byte, n int, s *Scratch) ([]T, []byte, error) {
	if len(src) < 2 || n < 0 {
		return dst, src, corrupt("uints", CodecInvalid, "%d bytes, %d values", len(src), n)
	}
	c := Codec(src[0])
	size, used := binary.Uvarint(src[1:])
	if used <= 0 || size > uint64(len(src)-1-used) {
		return dst, src, corrupt("uints", c, "payload of %d bytes, want <= %d", size, len(src))
	}
	payload := src[1+used:][:size]
	rest := src[1+used+int(size):]
	s.ints = grown(s.ints, n)
	if err := decodeIntColumn(s.ints, payload, c); err != nil {
		return dst, src, err
	}
	out, part := extend(dst, n)
	for i, v := range s.ints {
		if uint64(T(v)) != uint64(v) {
			return dst, src, corrupt("uints", c, "value %d overflows: %d", i, uint64(v))
		}
		part[i] = T(v)
	}
	return out, rest, nil
}
