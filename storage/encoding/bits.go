package encoding

import (
	"encoding/binary"
	"math/bits"
)

// Bits are stored least significant first: bit i of a stream is bit i&7 of
// byte i>>3.

// bitWriter appends bits to dst. flush must be called at the end.
type bitWriter struct {
	dst []byte
	acc uint64
	n   uint // bits in acc, always < 64 between calls
}

// write appends the low width bits of v; width <= 64, the bits above are zero.
func (w *bitWriter) write(v uint64, width uint) {
	w.acc |= v << w.n
	w.n += width
	if w.n >= 64 {
		w.dst = binary.LittleEndian.AppendUint64(w.dst, w.acc)
		w.n -= 64
		w.acc = v >> (width - w.n) // a shift by 64 gives 0
	}
}

// flush writes what is left, padded with zero bits to a whole byte.
func (w *bitWriter) flush() []byte {
	for n := int(w.n); n > 0; n -= 8 {
		w.dst = append(w.dst, byte(w.acc))
		w.acc >>= 8
	}
	w.acc, w.n = 0, 0
	return w.dst
}

// load64 returns the eight bytes at off, zeros beyond the end of src.
func load64(src []byte, off int) uint64 {
	if off+8 <= len(src) {
		return binary.LittleEndian.Uint64(src[off:])
	}
	return loadTail(src, off)
}

func loadTail(src []byte, off int) uint64 {
	var v uint64
	for i := len(src) - 1; i >= off; i-- {
		v = v<<8 | uint64(src[i])
	}
	return v
}

// loadBits returns width bits at bit pos; width <= 64. Bits past the end are zero.
func loadBits(src []byte, pos, width uint) uint64 {
	off := int(pos >> 3)
	sh := pos & 7
	v := load64(src, off) >> sh
	if sh+width > 64 && off+8 < len(src) {
		v |= uint64(src[off+8]) << (64 - sh)
	}
	return v & lowMask(width)
}

// lowMask returns a mask of the low width bits; width <= 64.
func lowMask(width uint) uint64 { return 1<<width - 1 }

// unpackAdd fills dst with len(dst) width-bit numbers of src, each plus base.
// The caller has checked that src holds them all.
func unpackAdd(dst []int64, src []byte, width uint, base int64) {
	if width == 0 {
		for i := range dst {
			dst[i] = base
		}
		return
	}
	i := 0
	if width <= 56 {
		mask := lowMask(width)
		// The last numbers, whose eight bytes would reach past the end, are left
		// to the slow loop.
		safe := 0
		if len(src) >= 8 {
			safe = min(len(dst), int((uint(len(src)-8)*8)/width)+1)
		}
		pos := uint(0)
		for ; i+4 <= safe; i += 4 {
			d := dst[i : i+4 : i+4]
			p0, p1, p2, p3 := pos, pos+width, pos+2*width, pos+3*width
			d[0] = int64(binary.LittleEndian.Uint64(src[p0>>3:])>>(p0&7)&mask) + base
			d[1] = int64(binary.LittleEndian.Uint64(src[p1>>3:])>>(p1&7)&mask) + base
			d[2] = int64(binary.LittleEndian.Uint64(src[p2>>3:])>>(p2&7)&mask) + base
			d[3] = int64(binary.LittleEndian.Uint64(src[p3>>3:])>>(p3&7)&mask) + base
			pos += 4 * width
		}
	}
	for ; i < len(dst); i++ {
		dst[i] = int64(loadBits(src, uint(i)*width, width)) + base
	}
}

// appendPacked appends vals[i]-base as width-bit numbers.
func appendPacked(dst []byte, vals []int64, base int64, width uint) []byte {
	w := bitWriter{dst: dst}
	for _, v := range vals {
		w.write(uint64(v-base), width)
	}
	return w.flush()
}

func packedBytes(n int, width uint) int { return (n*int(width) + 7) / 8 }

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// appendTrimmed appends u little-endian without its zero high bytes.
func appendTrimmed(dst []byte, u uint64) []byte {
	for ; u != 0; u >>= 8 {
		dst = append(dst, byte(u))
	}
	return dst
}

// varintLen returns the length of zigzag(v) as a varint.
func varintLen(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }

// varint reads a zigzag varint at the start of src; n is 0 if there is none.
func varint(src []byte) (v int64, n int) {
	u, n := binary.Uvarint(src)
	return unzigzag(u), max(n, 0)
}

func appendVarint(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, zigzag(v))
}
