package encoding

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe" // for one reinterpretation, see decodeFloatColumn
)

// AppendFloats appends the encoding of vals, which it restores bit for bit, and
// returns it with its codec. It takes at most MaxValues values; none give no
// bytes and CodecZero.
func AppendFloats(dst []byte, vals []float64, s *Scratch) ([]byte, Codec) {
	if len(vals) > MaxValues {
		panic("BUG: encode floats: more than MaxValues")
	}
	return appendFloats(dst, vals, s)
}

func appendFloats(dst []byte, vals []float64, s *Scratch) ([]byte, Codec) {
	if constFloats(vals) {
		if len(vals) == 0 {
			return dst, CodecZero
		}
		return appendConstFloat(dst, vals[0], s)
	}
	ms := grown(s.ints, len(vals))
	s.ints = ms
	if allInts(ms, vals) {
		return appendInts(dst, ms, transformInt, s)
	}
	scale, ok := toDecimal(ms, vals, s)
	if !ok {
		scale, ok = toBinary(ms, vals, s)
	}
	if !ok {
		scale = scaleBits
		s.except = s.except[:0]
		for i, v := range vals {
			ms[i] = int64(math.Float64bits(v))
		}
	}
	start := len(dst)
	dst = append(dst, scale)
	transform := transformScaled
	if len(s.except) > 0 {
		transform = transformExcept
		dst = appendExceptions(dst, s.except)
	}
	dst, c := appendInts(dst, ms, transform, s)
	if len(dst)-start >= 8*len(vals) {
		return appendRaw(dst[:start], vals), CodecRaw
	}
	return dst, c
}

// DecodeFloats appends the n values of payload src to dst. src must be the
// payload exactly. On error dst is returned as it came.
func DecodeFloats(dst []float64, src []byte, c Codec, n int) ([]float64, error) {
	if n < 0 || n > MaxValues {
		return dst, corrupt("floats", c, "%d values, want 0..%d", n, MaxValues)
	}
	out, part := extend(dst, n)
	if err := decodeFloats(part, src, c); err != nil {
		return dst, err
	}
	return out, nil
}

func decodeFloats(dst []float64, src []byte, c Codec) error {
	switch {
	case c == CodecZero && len(src) == 0:
		clear(dst)
		return nil
	case len(dst) == 0:
		return corrupt("floats", c, "no values, but a payload")
	case c == CodecConstInt && len(src) <= 8:
		fill(dst, float64(unzigzag(loadTail(src, 0))))
		return nil
	case c == CodecConstDec && len(src) >= 1 && len(src) <= 9 && scaleKnown(src[0]):
		fill(dst, unscaleOne(unzigzag(loadTail(src, 1)), src[0]))
		return nil
	case c == CodecConstBits && len(src) <= 8:
		fill(dst, math.Float64frombits(loadTail(src, 0)<<(64-8*len(src))))
		return nil
	case c == CodecRaw && len(src) == 8*len(dst):
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:]))
		}
		return nil
	case c >= codecColumn && len(dst) >= 2:
		return decodeFloatColumn(dst, src, c)
	}
	return corrupt("floats", c, "%d bytes for %d values", len(src), len(dst))
}

func decodeFloatColumn(dst []float64, src []byte, c Codec) error {
	if len(dst) == 2 && c.order() == 2 {
		return corrupt("floats", c, "order 2 of two values")
	}
	scale := uint8(scaleDiv)
	var except []byte
	if c.transform() != transformInt {
		if len(src) == 0 || !scaleKnown(src[0]) || c.transform() > transformExcept {
			return corrupt("floats", c, "unknown scale or transform")
		}
		scale = src[0]
		src = src[1:]
		if c.transform() == transformExcept {
			rest, ok := readExceptions(nil, src, len(dst))
			if !ok {
				return corrupt("floats", c, "bad exceptions")
			}
			except, src = src, rest
		}
	}
	// The integers are unpacked where the floats go: same size, no second buffer.
	ms := unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst))
	if err := decodeInts(ms, src, c); err != nil {
		return err
	}
	unscale(dst, ms, scale)
	if except != nil {
		readExceptions(dst, except, len(dst))
	}
	return nil
}

func constFloats(vals []float64) bool {
	for i := 1; i < len(vals); i++ {
		if math.Float64bits(vals[i]) != math.Float64bits(vals[0]) {
			return false
		}
	}
	return true
}

func appendConstFloat(dst []byte, v float64, s *Scratch) ([]byte, Codec) {
	b := math.Float64bits(v)
	if b == 0 {
		return dst, CodecZero
	}
	if m, ok := asInt(v); ok {
		return appendTrimmed(dst, zigzag(m)), CodecConstInt
	}
	trimmed := 8
	for ; b&0xff == 0; b >>= 8 {
		trimmed--
	}
	if trimmed > 3 {
		if e, ok := decimalExponent(v, 1); ok {
			ms, one := [1]int64{}, [1]float64{v}
			ms[0], _ = nearInt(v, e)
			if scale, ok := bestVariant(ms[:], one[:], e, 0, s); ok {
				return appendTrimmed(append(dst, scale), zigzag(ms[0])), CodecConstDec
			}
		}
	}
	for range trimmed { // also its high bytes that are zero
		dst = append(dst, byte(b))
		b >>= 8
	}
	return dst, CodecConstBits
}

func appendRaw(dst []byte, vals []float64) []byte {
	dst = slices.Grow(dst, 8*len(vals))
	for _, v := range vals {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// Exceptions are stored as
//
//	count uvarint, then count times: gap uvarint, kind u8, [bits u64 if kind is exceptBits]
//
// where gap is how many values lie between an exception and the one before it.
// The usual ones have a kind of their own.
const (
	exceptBits = iota
	exceptStale
	exceptNaN
	exceptPosInf
	exceptNegInf
	exceptNegZero
	exceptKinds
)

var exceptKindBits = [exceptKinds]uint64{
	exceptStale:   0x7ff0000000000002, // Prometheus's staleness marker
	exceptNaN:     0x7ff8000000000001, // Go's and Prometheus's NaN
	exceptPosInf:  0x7ff0000000000000,
	exceptNegInf:  0xfff0000000000000,
	exceptNegZero: 0x8000000000000000,
}

func appendExceptions(dst []byte, except []exception) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(except)))
	next := 0
	for _, x := range except {
		dst = binary.AppendUvarint(dst, uint64(x.index-next))
		next = x.index + 1
		kind := slices.Index(exceptKindBits[:], x.bits)
		if kind <= exceptBits {
			dst = append(dst, exceptBits)
			dst = binary.LittleEndian.AppendUint64(dst, x.bits)
			continue
		}
		dst = append(dst, byte(kind))
	}
	return dst
}

// readExceptions reads the exceptions at the start of src and returns the bytes
// after them, ok false if they are not well formed for a chunk of n values. If
// dst is not nil it also puts them there.
func readExceptions(dst []float64, src []byte, n int) (rest []byte, ok bool) {
	count, used := binary.Uvarint(src)
	if used <= 0 || count > uint64(n) {
		return nil, false
	}
	src = src[used:]
	next := uint64(0)
	for range count {
		gap, used := binary.Uvarint(src)
		if used <= 0 || gap >= uint64(n)-next || len(src) == used || src[used] >= exceptKinds {
			return nil, false
		}
		index, kind := next+gap, src[used]
		next = index + 1
		src = src[used+1:]
		b := exceptKindBits[kind]
		if kind == exceptBits {
			if len(src) < 8 {
				return nil, false
			}
			b = binary.LittleEndian.Uint64(src)
			src = src[8:]
		}
		if dst != nil {
			dst[index] = math.Float64frombits(b)
		}
	}
	return src, true
}
