package encoding

import (
	"math"
	"math/bits"
)

// A scale byte says how an integer m becomes a float. What an exporter printed
// as a short decimal was an integer divided or multiplied by a power of ten,
// and which of the two it was decides the last bit of the float, so both exist.
const (
	scaleDiv    = 0   // +e, e 0..22: m / 10^e
	scaleMul    = 32  // +e, e 1..22: m * 10^-e
	scaleMilli2 = 64  // m / 1e3 / 1e3
	scaleBin    = 128 // +k, k 0..126: m * 2^-k
	scaleBits   = 255 // the float's bits, as an integer

	maxPow10 = 22
	maxBin   = 126
)

// maxExact bounds the integers that a decimal scale may use: all of them are floats.
const maxExact = 1 << 53

var pow10 = [maxPow10 + 1]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

var negPow10 = [maxPow10 + 1]float64{
	1e-0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11,
	1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22,
}

// scaleKnown reports whether scale is one that unscale understands.
func scaleKnown(scale uint8) bool {
	switch {
	case scale <= maxPow10, scale > scaleMul && scale <= scaleMul+maxPow10:
		return true
	case scale == scaleMilli2:
		return true
	}
	return scale >= scaleBin && scale <= scaleBin+maxBin || scale == scaleBits
}

// unscale fills dst with the floats of ms. It is the one place that knows what
// a scale means: encoding verifies its choice by the same expressions, in fits.
func unscale(dst []float64, ms []int64, scale uint8) {
	ms = ms[:len(dst)]
	switch {
	case scale == scaleDiv:
		for i, m := range ms {
			dst[i] = float64(m)
		}
	case scale <= maxPow10:
		p := pow10[scale]
		for i, m := range ms {
			dst[i] = float64(m) / p
		}
	case scale < scaleMilli2:
		p := negPow10[scale-scaleMul]
		for i, m := range ms {
			dst[i] = float64(m) * p
		}
	case scale == scaleMilli2:
		for i, m := range ms {
			dst[i] = float64(m) / 1e3 / 1e3
		}
	case scale < scaleBits:
		p := math.Float64frombits(uint64(1023-int(scale-scaleBin)) << 52)
		for i, m := range ms {
			dst[i] = float64(m) * p
		}
	default:
		for i, m := range ms {
			dst[i] = math.Float64frombits(uint64(m))
		}
	}
}

// unscaleOne is unscale for one integer.
func unscaleOne(m int64, scale uint8) float64 {
	var f [1]float64
	unscale(f[:], []int64{m}, scale)
	return f[0]
}

// asInt returns v as an integer if that is exact: no fraction, not -0, at most
// 2^53 in magnitude.
func asInt(v float64) (int64, bool) {
	m := int64(v)
	return m, math.Float64bits(float64(m)) == math.Float64bits(v) && m <= maxExact && m >= -maxExact
}

// allInts fills dst with vals if all of them are integers.
func allInts(dst []int64, vals []float64) bool {
	for i, v := range vals {
		m, ok := asInt(v)
		if !ok {
			return false
		}
		dst[i] = m
	}
	return true
}

// nearInt returns v*10^e rounded and whether it is that integer but for the
// rounding of the multiplication.
func nearInt(v float64, e int) (int64, bool) {
	t := v * pow10[e]
	if !(t <= maxExact && t >= -maxExact) {
		return 0, false
	}
	m := int64(t + math.Copysign(0.5, t))
	return m, math.Abs(t-float64(m)) <= math.Abs(t)*0x1p-50
}

// decimalExponent returns the smallest e, not below from, at which v is a
// decimal with e digits after the point.
func decimalExponent(v float64, from int) (int, bool) {
	for e := from; e <= 18; e++ {
		if _, ok := nearInt(v, e); ok {
			return e, true
		}
	}
	return 0, false
}

// exception is a value of a decimal column that is no such decimal: a stale
// marker, an infinity, a -0, or a float that took another path to be printed.
type exception struct {
	index int
	bits  uint64
}

// maxExceptions bounds the exceptions of a chunk of n values: beyond it, the
// column is not decimal at all.
func maxExceptions(n int) int { return 1 + n/8 }

// toDecimal fills dst with the integers of vals at the scale that it returns,
// and s.except with the values that do not fit. It gives up (ok is false) if those are many.
func toDecimal(dst []int64, vals []float64, s *Scratch) (scale uint8, ok bool) {
	e := 0
	limit := maxExceptions(len(vals))
	misfits := 0
	for i, v := range vals {
		m, ok := nearInt(v, e)
		if !ok {
			next, ok := decimalExponent(v, e+1)
			if !ok {
				if misfits++; misfits > limit || misfits > 2+i/4 {
					return 0, false
				}
				continue
			}
			e = next
			m, _ = nearInt(v, e)
		}
		dst[i] = m
	}
	// Values before the one that raised e last were scaled for a smaller one.
	p := pow10[e]
	for i, v := range vals {
		if t := v * p; t <= maxExact && t >= -maxExact {
			dst[i] = int64(t + math.Copysign(0.5, t))
		} else {
			dst[i] = dst[max(i-1, 0)] // an exception: as cheap as can be
		}
	}
	return bestVariant(dst, vals, e, limit, s)
}

// bestVariant picks, among the expressions that scale by 10^-e, the one that
// restores most of vals, and lists the others as exceptions.
func bestVariant(ms []int64, vals []float64, e, limit int, s *Scratch) (scale uint8, ok bool) {
	candidates := [3]uint8{uint8(scaleDiv + e), uint8(scaleMul + e), scaleMilli2}
	count := 3
	if e != 6 {
		count = 2
	}
	if e == 0 {
		count = 1
	}
	best := limit + 1
	for _, c := range candidates[:count] {
		if bad := countMisfits(ms, vals, c, best); bad < best {
			scale, best = c, bad
			if bad == 0 {
				s.except = s.except[:0]
				return scale, true
			}
		}
	}
	if best > limit {
		return 0, false
	}
	listExceptions(ms, vals, scale, s)
	return scale, true
}

// countMisfits returns how many vals are not restored, or limit if as many or more.
func countMisfits(ms []int64, vals []float64, scale uint8, limit int) int {
	var buf [64]float64
	bad := 0
	for i := 0; i < len(vals); i += len(buf) {
		part := vals[i:min(i+len(buf), len(vals))]
		out := buf[:len(part)]
		unscale(out, ms[i:], scale)
		for j, v := range part {
			if math.Float64bits(v) != math.Float64bits(out[j]) {
				bad++
			}
		}
		if bad >= limit {
			return limit
		}
	}
	return bad
}

// listExceptions puts the values that scale does not restore into s.except and
// gives their places the integer before, so that they cost the column nothing.
func listExceptions(ms []int64, vals []float64, scale uint8, s *Scratch) {
	s.except = s.except[:0]
	for i, v := range vals {
		if math.Float64bits(unscaleOne(ms[i], scale)) != math.Float64bits(v) {
			s.except = append(s.except, exception{i, math.Float64bits(v)})
			if i > 0 {
				ms[i] = ms[i-1]
			}
		}
	}
	if len(s.except) > 0 && s.except[0].index == 0 {
		backfill(ms, s.except)
	}
}

// backfill gives the exceptions at the head of the column the first integer that is none.
func backfill(ms []int64, except []exception) {
	k := 0
	for k < len(except) && except[k].index == k {
		k++
	}
	v := int64(0)
	if k < len(ms) {
		v = ms[k]
	}
	for i := range ms[:k] {
		ms[i] = v
	}
}

// toBinary fills dst with vals as fixed-point binary integers, which keeps
// neighbours of a similar magnitude close, if their magnitudes allow it.
func toBinary(dst []int64, vals []float64, s *Scratch) (scale uint8, ok bool) {
	low, high := math.MaxInt, math.MinInt // exponents of the lowest and the highest bit set
	limit := maxExceptions(len(vals))
	misfits := 0
	for _, v := range vals {
		b := math.Float64bits(v)
		exp := int(b>>52) & 0x7ff
		switch {
		case b == 0:
			continue
		case exp == 0x7ff, exp == 0: // not finite, or denormal, or -0
			if misfits++; misfits > limit {
				return 0, false
			}
			continue
		}
		mant := b&(1<<52-1) | 1<<52
		low = min(low, exp-1075+bits.TrailingZeros64(mant))
		high = max(high, exp-1023)
	}
	k := max(-low, 0)
	if low == math.MaxInt || k > maxBin || high+k > 61 {
		return 0, false
	}
	scale = uint8(scaleBin + k)
	p := math.Float64frombits(uint64(1023+k) << 52)
	for i, v := range vals {
		if t := v * p; t < 1<<62 && t > -1<<62 {
			dst[i] = int64(t)
		} else {
			dst[i] = 0
		}
	}
	s.except = s.except[:0]
	if misfits > 0 {
		listExceptions(dst, vals, scale, s)
	}
	return scale, true
}
