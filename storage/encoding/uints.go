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
	return appendIntFrame(dst, s.ints, s)
}

// DecodeUints appends the n values of the column at the start of src to dst and
// returns it with the bytes after the column. The caller bounds n, of which at
// most 8n bytes are allocated. On error dst is returned as it came.
func DecodeUints[T ~uint8 | ~uint16 | ~uint32 | ~uint64](dst []T, src []byte, n int, s *Scratch) ([]T, []byte, error) {
	c, payload, rest, err := readFrame(src)
	if err != nil {
		return dst, src, err
	}
	if n < 0 {
		return dst, src, corrupt("uints", c, "%d values", n)
	}
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

// A framed column is codec u8, length of the payload uvarint, payload.

// appendIntFrame appends vals as a framed column.
func appendIntFrame(dst []byte, vals []int64, s *Scratch) []byte {
	start := len(dst)
	dst, c := appendIntColumn(append(dst, 0, 0), vals, s)
	return closeFrame(dst, start, c)
}

// appendFloatFrame appends vals as a framed column.
func appendFloatFrame(dst []byte, vals []float64, s *Scratch) []byte {
	start := len(dst)
	dst, c := appendFloats(append(dst, 0, 0), vals, s)
	return closeFrame(dst, start, c)
}

// closeFrame puts codec and length before the payload that follows the two
// bytes at start; only a payload of 128 bytes or more must be moved for it.
func closeFrame(dst []byte, start int, c Codec) []byte {
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

// readFrame cuts the framed column at the start of src off.
func readFrame(src []byte) (c Codec, payload, rest []byte, err error) {
	if len(src) < 2 {
		return 0, nil, nil, corrupt("column frame", CodecInvalid, "%d bytes, want >= 2", len(src))
	}
	c = Codec(src[0])
	size, used := binary.Uvarint(src[1:])
	if used <= 0 || size > uint64(len(src)-1-used) {
		return 0, nil, nil, corrupt("column frame", c, "payload of %d bytes, want <= %d", size, len(src)-2)
	}
	end := 1 + used + int(size)
	return c, src[1+used : end : end], src[end:], nil
}
