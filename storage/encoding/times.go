package encoding

// AppendTimes appends the encoding of ts, unix milliseconds in any order, and
// returns it with its codec. It takes at most MaxValues times; none give no
// bytes and CodecZero.
func AppendTimes(dst []byte, ts []int64, s *Scratch) ([]byte, Codec) {
	if len(ts) > MaxValues {
		panic("BUG: encode times: more than MaxValues")
	}
	return appendIntColumn(dst, ts, s)
}

// appendIntColumn appends a column whose values are integers.
func appendIntColumn(dst []byte, vals []int64, s *Scratch) ([]byte, Codec) {
	if constInts(vals) {
		if len(vals) == 0 || vals[0] == 0 {
			return dst, CodecZero
		}
		return appendTrimmed(dst, zigzag(vals[0])), CodecConstInt
	}
	return appendInts(dst, vals, transformInt, s)
}

// DecodeTimes appends the n times of payload src to dst. src must be the
// payload exactly. On error dst is returned as it came.
func DecodeTimes(dst []int64, src []byte, c Codec, n int) ([]int64, error) {
	if n < 0 || n > MaxValues {
		return dst, corrupt("times", c, "%d values, want 0..%d", n, MaxValues)
	}
	out, part := extend(dst, n)
	if err := decodeIntColumn(part, src, c); err != nil {
		return dst, err
	}
	return out, nil
}

// decodeIntColumn fills dst from a payload whose values are integers.
func decodeIntColumn(dst []int64, src []byte, c Codec) error {
	switch {
	case c == CodecZero && len(src) == 0:
		clear(dst)
		return nil
	case len(dst) == 0:
		return corrupt("ints", c, "no values, but a payload")
	case c == CodecConstInt && len(src) <= 8:
		fill(dst, unzigzag(loadTail(src, 0)))
		return nil
	case c >= codecColumn && c.transform() == transformInt && len(dst) >= 2:
		if len(dst) == 2 && c.order() == 2 {
			return corrupt("ints", c, "order 2 of two values")
		}
		return decodeInts(dst, src, c)
	}
	return corrupt("ints", c, "%d bytes for %d values", len(src), len(dst))
}

func constInts(vals []int64) bool {
	for i := 1; i < len(vals); i++ {
		if vals[i] != vals[0] {
			return false
		}
	}
	return true
}

func fill[T any](dst []T, v T) {
	for i := range dst {
		dst[i] = v
	}
}
