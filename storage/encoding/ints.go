package encoding

import (
	"math"
	"math/bits"
)

// This file holds the column of integers that every other column becomes: an
// optional power-of-two shift, a difference order (0, 1 or 2) and a coder for
// the residuals. All arithmetic wraps modulo 2^64, so any integers round-trip.
//
//	[shift u8, if flagged] first varint, [second-first varint, if order 2] residuals
//
// Residuals are what is left of values 1.. (order 2: 2..).

const smallChunk = 8 // up to this many values varints are used: least work

// appendInts appends the column xs of two or more values and returns its codec
// for the given transform.
func appendInts(dst []byte, xs []int64, transform int, s *Scratch) ([]byte, Codec) {
	if len(xs) <= smallChunk {
		return appendVarints(dst, xs), columnCodec(1, transform, coderVarint, 0)
	}
	p := plan{}
	if s.Quick {
		p = planQuick(xs, s)
	} else {
		p = planInts(xs, s)
	}
	if p.shift > 0 {
		dst = append(dst, byte(p.shift))
	}
	dst = appendVarint(dst, xs[0])
	if p.order == 2 {
		dst = appendVarint(dst, s.resid[1][0])
	}
	resid := s.resid[p.order]
	switch p.coder {
	case coderClass:
		dst = appendClass(dst, resid, &p.class)
	case coderSparse:
		dst = appendSparse(dst, resid, p.sparse)
	default:
		dst = appendVarint(dst, p.min)
		dst = append(dst, byte(p.width))
		dst = appendPacked(dst, resid, p.min, p.width)
	}
	return dst, columnCodec(p.order, transform, p.coder, p.shift)
}

func appendVarints(dst []byte, xs []int64) []byte {
	prev := int64(0)
	for _, x := range xs {
		dst = appendVarint(dst, x-prev)
		prev = x
	}
	return dst
}

// decodeInts fills dst (two or more values) from src, which must hold exactly one column.
func decodeInts(dst []int64, src []byte, c Codec) error {
	if c.coder() == coderVarint {
		return decodeVarints(dst, src, c)
	}
	shift := uint(0)
	if c.shifted() {
		if len(src) == 0 || src[0] > 63 {
			return corrupt("ints", c, "bad shift")
		}
		shift = uint(src[0])
		src = src[1:]
	}
	first, used := varint(src)
	if used == 0 {
		return corrupt("ints", c, "first value cut short")
	}
	src = src[used:]
	order := c.order()
	second := int64(0)
	resid := dst[1:]
	switch order {
	case 0, 1:
	case 2:
		if second, used = varint(src); used == 0 {
			return corrupt("ints", c, "second value cut short")
		}
		src = src[used:]
		resid = dst[2:]
	default:
		return corrupt("ints", c, "order %d, want <= 2", order)
	}
	var err error
	switch c.coder() {
	case coderPacked:
		err = decodePacked(resid, src, c)
	case coderClass:
		err = decodeClass(resid, src, c)
	case coderSparse:
		err = decodeSparse(resid, src, c)
	}
	if err != nil {
		return err
	}
	integrate(dst, resid, order, first, second, shift)
	return nil
}

func decodePacked(resid []int64, src []byte, c Codec) error {
	lo, used := varint(src)
	if used == 0 || len(src) == used {
		return corrupt("ints", c, "packed header cut short")
	}
	width := uint(src[used])
	src = src[used+1:]
	if width > 64 || len(src) != packedBytes(len(resid), width) {
		return corrupt("ints", c, "%d bytes for %d numbers of %d bits", len(src), len(resid), width)
	}
	unpackAdd(resid, src, width, lo)
	return nil
}

// integrate turns the residuals at the end of dst into values.
func integrate(dst, resid []int64, order int, first, second int64, shift uint) {
	dst[0] = first
	switch order {
	case 0:
		for i, r := range resid {
			resid[i] = first + r<<(shift&63)
		}
	case 1:
		x := first
		for i, r := range resid {
			x += r << (shift & 63)
			resid[i] = x
		}
	case 2:
		d := second << (shift & 63)
		x := first + d
		dst[1] = x
		for i, r := range resid {
			d += r << (shift & 63)
			x += d
			resid[i] = x
		}
	}
}

func decodeVarints(dst []int64, src []byte, c Codec) error {
	if c.shifted() || c.order() != 1 {
		return corrupt("ints", c, "unknown variant")
	}
	x := int64(0)
	for i := range dst {
		var v int64
		if len(src) > 0 && src[0] < 0x80 {
			v = unzigzag(uint64(src[0]))
			src = src[1:]
		} else {
			d, used := varint(src)
			if used == 0 {
				return corrupt("ints", c, "value %d of %d cut short", i, len(dst))
			}
			v = d
			src = src[used:]
		}
		x += v
		dst[i] = x
	}
	if len(src) != 0 {
		return corrupt("ints", c, "%d bytes left over", len(src))
	}
	return nil
}

// plan is what planInts decided.
type plan struct {
	order  int
	coder  int
	shift  uint
	min    int64 // smallest residual
	width  uint  // bits of the largest residual minus min
	class  classPlan
	sparse sparsePlan
}

// planInts computes the residuals of xs in s.resid and picks order and coder.
func planInts(xs []int64, s *Scratch) (p plan) {
	p.shift = residuals(xs, s)
	best := math.MaxInt // bytes of the packed or sparse form
	// With and without a bitmap are judged apart: the ideal coder needs none.
	class, mapped := classChoice{bits: math.MaxFloat32}, classChoice{bits: math.MaxFloat32}
	for order, resid := range s.resid {
		var st residStats
		st.gather(resid)
		if size := packedSize(len(resid), st.min, st.width) + order; size < best {
			best = size
			p.order, p.coder, p.min, p.width = order, coderPacked, st.min, st.width
		}
		zeros := int(st.zigzag[0])
		if sp, size, ok := planSparse(resid, zeros); ok && size+order < best {
			best = size + order
			p.order, p.coder, p.sparse = order, coderSparse, sp
		}
		class.consider(&st.zigzag, classPlan{zigzag: true}, order, len(resid))
		class.consider(&st.above, classPlan{base: st.min}, order, len(resid))
		if zeros*8 > len(resid) && zeros < len(resid) {
			// Zeros are many: a bit for each residual and classes for the others.
			cp, h := classPlan{zigzag: true, bitmap: true}, &st.zigzag
			if st.min == 0 {
				cp, h = classPlan{bitmap: true}, &st.above
			}
			h[0] = 0
			mapped.consider(h, cp, order, len(resid))
		}
	}
	// The class coder costs more CPU than packing: it must save a thirty-second.
	limit := best - best/32
	for _, cc := range []*classChoice{&class, &mapped} {
		if cc.bits/8 >= float32(limit) {
			continue
		}
		if cp, size := cc.fit(); size < limit {
			limit = size
			p.order, p.coder, p.class = cc.order, coderClass, cp
		}
	}
	return p
}

// planQuick computes the residuals of xs in s.resid and picks the order whose
// packed or sparse form is the smallest.
func planQuick(xs []int64, s *Scratch) (p plan) {
	p.shift = residuals(xs, s)
	best := math.MaxInt
	for order, resid := range s.resid {
		lo, hi := resid[0], resid[0]
		zeros := 0
		for _, r := range resid {
			lo, hi = min(lo, r), max(hi, r)
			if r == 0 {
				zeros++
			}
		}
		width := uint(bits.Len64(uint64(hi - lo)))
		if size := packedSize(len(resid), lo, width) + order; size < best {
			best = size
			p.order, p.coder, p.min, p.width = order, coderPacked, lo, width
		}
		if sp, size, ok := planSparse(resid, zeros); ok && size+order < best {
			best = size + order
			p.order, p.coder, p.sparse = order, coderSparse, sp
		}
	}
	return p
}

// classChoice is the most promising use of the class coder so far.
type classChoice struct {
	bits   float32 // an ideal coder's, and those beside the classes
	hist   classHist
	plan   classPlan
	order  int
	n      int // values in hist
	lo, hi int // classes in use
	beside int // bytes besides the classes
}

// consider takes the plan cp if its n residuals, counted in h, promise to be smaller.
func (cc *classChoice) consider(h *classHist, cp classPlan, order, n int) {
	beside := 2 + order
	if !cp.zigzag {
		beside += varintLen(cp.base)
	}
	if cp.bitmap {
		beside += (n + 7) / 8
		n = 0
		for _, c := range h {
			n += int(c)
		}
	}
	lo, hi := h.span()
	if bits := h.bound(n, lo, hi) + float32(8*beside); bits < cc.bits {
		*cc = classChoice{bits, *h, cp, order, n, lo, hi, beside}
	}
}

// fit completes the plan and returns it with its size in bytes.
func (cc *classChoice) fit() (classPlan, int) {
	cp := cc.plan
	total := cc.hist.fit(&cp, cc.n, cc.lo, cc.hi)
	return cp, cc.beside + (total+7)/8
}

// residuals fills s.resid with the residuals of xs by order and returns the
// shift that was taken out of them.
func residuals(xs []int64, s *Scratch) (shift uint) {
	n := len(xs)
	for i := range s.resid {
		s.resid[i] = grown(s.resid[i], n-1)
	}
	r0, r1, r2 := s.resid[0], s.resid[1], s.resid[2][:n-2]
	s.resid[2] = r2
	all := uint64(0)
	first, prev := xs[0], xs[0]
	for i, x := range xs[1:] {
		all |= uint64(x - prev)
		prev = x
		r0[i] = x - first
	}
	if all != 0 {
		shift = uint(bits.TrailingZeros64(all))
	}
	prev, slope := int64(0), int64(0)
	for i, y := range r0 {
		y >>= shift & 63
		r0[i] = y
		d := y - prev
		r1[i] = d
		if i > 0 {
			r2[i-1] = d - slope
		}
		prev, slope = y, d
	}
	return shift
}

// residStats is what the choice of a coder needs to know of residuals.
type residStats struct {
	min    int64
	width  uint
	zigzag classHist // of zigzag(r)
	above  classHist // of r - min
}

func (st *residStats) gather(resid []int64) {
	lo, hi := resid[0], resid[0]
	for _, r := range resid {
		lo, hi = min(lo, r), max(hi, r)
		st.zigzag[bits.Len64(zigzag(r))]++
	}
	for _, r := range resid {
		st.above[bits.Len64(uint64(r-lo))]++
	}
	st.min = lo
	st.width = uint(bits.Len64(uint64(hi - lo)))
}

// packedSize returns the bytes of n packed residuals.
func packedSize(n int, lo int64, width uint) int {
	return packedBytes(n, width) + varintLen(lo) + 1
}
