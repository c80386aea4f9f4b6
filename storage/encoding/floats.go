package encoding

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"
)

// AppendFloats appends the encoding of vals, which it restores bit for bit, and
// returns it with its codec. It takes at most MaxValues values; none give no
// bytes and CodecZero.
func AppendFloats(dst []byte, vals []float64, s *Scratch) ([]byte, Codec) {
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
			size := exceptionsLen(src, len(dst))
			if size == 0 {
				return corrupt("floats", c, "bad exceptions")
			}
			except, src = src[:size], src[size:]
		}
	}
	// The integers are unpacked where the floats go: same size, no second buffer.
	ms := unsafe.Slice((*int64)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst))
	if err := decodeInts(ms, src, c); err != nil {
		return err
	}
	unscale(dst, ms, scale)
	if except != nil {
		applyExceptions(dst, except)
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
	return appendTrimmed(dst, b), CodecConstBits
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
//	count u16, then count times index u16, kind u8, [bits u64 if kind is exceptBits]
//
// in the order of their index. The usual ones have a kind of their own.
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
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(except)))
	for _, x := range except {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(x.index))
		kind := max(slices.Index(exceptKindBits[1:], x.bits)+1, exceptBits)
		dst = append(dst, byte(kind))
		if kind == exceptBits {
			dst = binary.LittleEndian.AppendUint64(dst, x.bits)
		}
	}
	return dst
}

// exceptionsLen returns the length of the exceptions at the start of src, 0 if
// they are not well formed for a chunk of n values.
func exceptionsLen(src []byte, n int) int {
	if len(src) < 2 {
		return 0
	}
	count, pos := int(binary.LittleEndian.Uint16(src)), 2
	for range count {
		if len(src)-pos < 3 || int(binary.LittleEndian.Uint16(src[pos:])) >= n || src[pos+2] >= exceptKinds {
			return 0
		}
		if src[pos+2] == exceptBits {
			pos += 8
		}
		pos += 3
	}
	if pos > len(src) {
		return 0
	}
	return pos
}

func applyExceptions(dst []float64, src []byte) {
	for pos := 2; pos < len(src); {
		index, kind := binary.LittleEndian.Uint16(src[pos:]), src[pos+2]
		pos += 3
		b := exceptKindBits[kind]
		if kind == exceptBits {
			b = binary.LittleEndian.Uint64(src[pos:])
			pos += 8
		}
		dst[index] = math.Float64frombits(b)
	}
}
