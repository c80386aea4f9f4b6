package encoding

import (
	"encoding/binary"
	"math/bits"
)

// The sparse coder is for columns that rarely change. Only residuals other than
// zero are written:
//
//	count uvarint, rice u8, base varint, width u8, then for each of them, as bits:
//	gap (zeros before it; gap>>rice in unary as ones and a zero, then rice bits),
//	residual - base in width bits
const (
	sparseMaxUnary = 40
	sparseMaxRice  = 20
)

// sparsePlan is how the sparse coder will write.
type sparsePlan struct {
	count int
	rice  uint
	base  int64
	width uint
}

// planSparse returns the plan and its size in bytes; ok is false if residuals
// other than zero are not rare.
func planSparse(resid []int64, zeros int) (p sparsePlan, size int, ok bool) {
	p.count = len(resid) - zeros
	if p.count == 0 || p.count > len(resid)/5 {
		return p, 0, false
	}
	first := true
	lo, hi := int64(0), int64(0)
	for _, r := range resid {
		if r == 0 {
			continue
		}
		if first {
			lo, hi, first = r, r, false
		}
		lo, hi = min(lo, r), max(hi, r)
	}
	p.base = lo
	p.width = uint(bits.Len64(uint64(hi - lo)))
	// The mean gap's own length, less one, is a good parameter.
	p.rice = uint(max(bits.Len(uint(zeros/p.count))-1, 0))
	total := p.count * int(1+p.rice+p.width)
	gap := 0
	for _, r := range resid {
		if r == 0 {
			gap++
			continue
		}
		if gap>>p.rice > sparseMaxUnary {
			return p, 0, false
		}
		total += gap >> p.rice
		gap = 0
	}
	head := 2 + varintLen(lo) + (bits.Len(uint(p.count))+6)/7
	return p, head + (total+7)/8, true
}

func appendSparse(dst []byte, resid []int64, p sparsePlan) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.count))
	dst = append(dst, byte(p.rice))
	dst = appendVarint(dst, p.base)
	dst = append(dst, byte(p.width))
	w := bitWriter{dst: dst}
	gap := uint64(0)
	for _, r := range resid {
		if r == 0 {
			gap++
			continue
		}
		ones := uint(gap >> p.rice)
		w.write(lowMask(ones), ones+1)
		w.write(gap&lowMask(p.rice), p.rice)
		w.write(uint64(r-p.base), p.width)
		gap = 0
	}
	return w.flush()
}

func decodeSparse(resid []int64, src []byte, c Codec) error {
	count, used := binary.Uvarint(src)
	if used <= 0 || count > uint64(len(resid)) || len(src)-used < 3 {
		return corrupt("ints", c, "bad sparse header")
	}
	src = src[used:]
	rice := uint(src[0])
	base, used := varint(src[1:])
	if used == 0 || len(src) == 1+used || rice > sparseMaxRice || src[1+used] > 64 {
		return corrupt("ints", c, "bad sparse header")
	}
	width := uint(src[1+used])
	src = src[2+used:]
	clear(resid)
	pos, at, end := uint(0), uint64(0), uint(len(src))*8
	for range count {
		ones := uint(bits.TrailingZeros64(^loadBits(src, pos, sparseMaxUnary+1)))
		if ones > sparseMaxUnary {
			return corrupt("ints", c, "gap too long")
		}
		pos += ones + 1
		at += uint64(ones)<<rice + loadBits(src, pos, rice)
		pos += rice
		if at >= uint64(len(resid)) || pos+width > end {
			return corrupt("ints", c, "sparse residual at %d of %d, bit %d of %d", at, len(resid), pos+width, end)
		}
		resid[at] = int64(loadBits(src, pos, width)) + base
		at++
		pos += width
	}
	if end-pos >= 8 {
		return corrupt("ints", c, "sparse bytes left over")
	}
	return nil
}
