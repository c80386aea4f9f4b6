package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// This file turns columns of integers into bytes and back; docs/format/spans.md
// draws them. parseInts checks every length of hostile bytes once, so that the
// loops that decode have nothing left to find out but the places of exceptions.

// errColumn is wrapped by every error that the bytes of a column cause.
var errColumn = errors.New("corrupt column")

func badColumn(format string, args ...any) error {
	return fmt.Errorf("decode column: %s: %w", fmt.Sprintf(format, args...), errColumn)
}

// Forms of a column.
const (
	formConst   = 0 // one value for all
	formFlat    = 1 // every value in the same number of bits
	formBlocks  = 2 // blocks of blockValues values with exceptions
	formByShape = 3 // a constant for some shapes, an inner column for the others
	formFloats  = 4 // chunks of storage/encoding
)

const (
	blockValues = 128
	blockHeader = 3 // bytes: width, exceptions, width of their high bits
)

// integer is a type that columns of integers decode to. Differences to the base
// wrap, so that any values round-trip.
type integer interface {
	~uint8 | ~int32 | ~uint32 | ~int64
}

// intEncoder holds what encoding columns of integers reuses; one goroutine's.
type intEncoder struct {
	frame []byte
	vals  []uint64
	heads []byte
}

// appendInts appends vals as one column. No values take no bytes.
func appendInts[T integer](dst []byte, vals []T, e *intEncoder) []byte {
	if len(vals) == 0 {
		return dst
	}
	lo, hi := vals[0], vals[0]
	for _, v := range vals {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo == hi {
		return binary.AppendVarint(append(dst, formConst), int64(lo))
	}
	e.vals = grown(e.vals, len(vals))
	base := uint64(int64(lo))
	for i, v := range vals {
		e.vals[i] = uint64(int64(v)) - base
	}
	scale := unscaleAll(e.vals)
	flat := uint(bits.Len64((uint64(int64(hi)) - base) / scale))
	size := e.plan()
	form := byte(formFlat)
	if size < packedSize(len(vals), flat)+1 {
		form = formBlocks
	}
	dst = binary.AppendVarint(append(dst, form), int64(lo))
	dst = binary.AppendUvarint(dst, scale)
	if form == formFlat {
		return appendPacked(append(dst, byte(flat)), e.vals, flat)
	}
	return e.appendBlocks(append(dst, e.heads...))
}

// unscaleAll divides vals by the power of a thousand that they share and
// returns it.
func unscaleAll(vals []uint64) uint64 {
	for _, scale := range [...]uint64{1_000_000_000, 1_000_000, 1000} {
		if !divides(vals, scale) {
			continue
		}
		for i, u := range vals {
			vals[i] = u / scale
		}
		return scale
	}
	return 1
}

func divides(vals []uint64, by uint64) bool {
	for _, u := range vals {
		if u%by != 0 {
			return false
		}
	}
	return true
}

// plan chooses the widths of each block of e.vals, puts their headers into
// e.heads and returns the bytes of headers and blocks.
func (e *intEncoder) plan() int {
	e.heads = e.heads[:0]
	size := 0
	for rest := e.vals; len(rest) > 0; {
		n := min(len(rest), blockValues)
		var count [65]uint16
		for _, u := range rest[:n] {
			count[bits.Len64(u)]++
		}
		top := 64
		for count[top] == 0 && top > 0 {
			top--
		}
		// Narrower by a bit saves n bits and makes exceptions of those that need it.
		width, except := top, 0
		best := packedSize(n, uint(top))
		over := 0
		for w := top - 1; w >= 0; w-- {
			over += int(count[w+1])
			if over >= n/2 {
				break
			}
			if s := packedSize(n, uint(w)) + over + packedSize(over, uint(top-w)); s < best {
				best, width, except = s, w, over
			}
		}
		high := top - width
		if except == 0 {
			high = 0
		}
		e.heads = append(e.heads, byte(width), byte(except), byte(high))
		size += best + blockHeader
		rest = rest[n:]
	}
	return size
}

// appendBlocks appends the blocks of e.vals as e.heads has them.
func (e *intEncoder) appendBlocks(dst []byte) []byte {
	var low, high [blockValues]uint64
	rest := e.vals
	for h := e.heads; len(h) > 0; h = h[blockHeader:] {
		n := min(len(rest), blockValues)
		width := uint(h[0])
		if h[1] == 0 {
			dst = appendPacked(dst, rest[:n], width)
			rest = rest[n:]
			continue
		}
		k := 0
		var at [blockValues]byte
		mask := uint64(1)<<width - 1
		for i, u := range rest[:n] {
			low[i] = u & mask
			if u > mask {
				at[k], high[k] = byte(i), u>>width
				k++
			}
		}
		dst = appendPacked(dst, low[:n], width)
		dst = append(dst, at[:k]...)
		dst = appendPacked(dst, high[:k], uint(h[2]))
		rest = rest[n:]
	}
	return dst
}

// intColumn is a parsed column of integers.
type intColumn struct {
	form  byte
	n     int
	base  uint64
	scale uint64
	width uint   // flat
	heads []byte // blocks
	body  []byte
}

// parseInts reads the column of n values that src holds exactly.
func parseInts(src []byte, n int) (intColumn, error) {
	c := intColumn{n: n, scale: 1}
	if n == 0 {
		if len(src) != 0 {
			return c, badColumn("%d bytes for no values", len(src))
		}
		return c, nil
	}
	if len(src) == 0 {
		return c, badColumn("no bytes for %d values", n)
	}
	c.form = src[0]
	base, used := binary.Varint(src[1:])
	if used <= 0 {
		return c, badColumn("base cut short")
	}
	c.base = uint64(base)
	src = src[1+used:]
	if c.form == formConst {
		if len(src) != 0 {
			return c, badColumn("%d bytes left over", len(src))
		}
		return c, nil
	}
	if c.scale, used = binary.Uvarint(src); used <= 0 {
		return c, badColumn("scale cut short")
	}
	src = src[used:]
	switch c.form {
	case formFlat:
		if len(src) == 0 || src[0] > 64 || len(src)-1 != packedSize(n, uint(src[0])) {
			return c, badColumn("%d bytes for %d values of equal width", len(src), n)
		}
		c.width, c.body = uint(src[0]), src[1:]
	case formBlocks:
		size := (n + blockValues - 1) / blockValues * blockHeader
		if len(src) < size {
			return c, badColumn("%d bytes, want %d of block headers", len(src), size)
		}
		c.heads, c.body = src[:size:size], src[size:]
		want, err := c.offset(n)
		if err != nil || want != len(c.body) {
			return c, badColumn("%d bytes of blocks, want %d", len(c.body), want)
		}
	default:
		return c, badColumn("unknown form %d", c.form)
	}
	return c, nil
}

// offset returns where the block of value i begins in the body; n gives the end.
func (c *intColumn) offset(i int) (int, error) {
	off := 0
	end := len(c.heads)
	if i < c.n {
		end = i / blockValues * blockHeader
	}
	left := c.n
	for h := c.heads[:end]; len(h) > 0; h = h[blockHeader:] {
		m := min(left, blockValues)
		if h[0] > 64 || h[1] > blockValues || h[2] > 64 {
			return 0, badColumn("block header %v", h[:blockHeader])
		}
		off += packedSize(m, uint(h[0])) + int(h[1]) + packedSize(int(h[1]), uint(h[2]))
		left -= m
	}
	return off, nil
}

// decodeInts fills dst with the values from first on, which the column has.
func decodeInts[T integer](dst []T, c *intColumn, first int) error {
	switch c.form {
	case formConst:
		fill(dst, T(c.base))
		return nil
	case formFlat:
		unpack(dst, c.body, uint(first)*c.width, c.width)
	default:
		if err := decodeBlocks(dst, c, first); err != nil {
			return err
		}
	}
	rescale(dst, T(c.base), T(c.scale))
	return nil
}

func decodeBlocks[T integer](dst []T, c *intColumn, first int) error {
	block := first / blockValues
	skip := first % blockValues
	off, err := c.offset(block * blockValues)
	if err != nil {
		return err
	}
	body := c.body[off:]
	var part [blockValues]T
	for len(dst) > 0 {
		h := c.heads[block*blockHeader : block*blockHeader+blockHeader]
		m := min(c.n-block*blockValues, blockValues)
		width, except, high := uint(h[0]), int(h[1]), uint(h[2])
		size := packedSize(m, width)
		out := part[:m]
		whole := skip == 0 && len(dst) >= m
		if whole {
			out = dst[:m]
		}
		unpack(out, body, 0, width)
		if except > 0 {
			if err := addExceptions(out, body[size:], width, except, high); err != nil {
				return err
			}
		}
		if whole {
			dst = dst[m:]
		} else {
			dst = dst[copy(dst, part[skip:m]):]
			skip = 0
		}
		body = body[size+except+packedSize(except, high):]
		block++
	}
	return nil
}

// rescale turns what was packed into values.
func rescale[T integer](dst []T, base, scale T) {
	switch {
	case scale == 1 && base == 0:
	case scale == 1:
		for i := range dst {
			dst[i] += base
		}
	default:
		for i, v := range dst {
			dst[i] = v*scale + base
		}
	}
}

// addExceptions adds their high bits to the values that have more than width.
func addExceptions[T integer](dst []T, src []byte, width uint, n int, high uint) error {
	at := src[:n]
	for k, p := range at {
		if int(p) >= len(dst) {
			return badColumn("exception at %d of %d values", p, len(dst))
		}
		dst[p] |= T(loadBits(src[n:], uint(k)*high, high) << width)
	}
	return nil
}

// unpack fills dst with numbers of width bits that begin at bit pos of src. The
// caller has checked that src holds them all.
func unpack[T integer](dst []T, src []byte, pos, width uint) {
	if width == 0 {
		clear(dst)
		return
	}
	i := 0
	if width <= 56 {
		mask := uint64(1)<<width - 1
		// The last numbers, whose eight bytes would reach past the end, are left
		// to the slow loop.
		safe := 0
		if room := len(src)*8 - 64; room >= int(pos) {
			safe = min(len(dst), (room-int(pos))/int(width)+1)
		}
		if width <= 14 {
			for ; i+4 <= safe; i += 4 {
				d := dst[i : i+4 : i+4]
				w := binary.LittleEndian.Uint64(src[pos>>3:]) >> (pos & 7)
				d[0] = T(w & mask)
				d[1] = T(w >> (width & 63) & mask)
				d[2] = T(w >> (2 * width & 63) & mask)
				d[3] = T(w >> (3 * width & 63) & mask)
				pos += 4 * width
			}
		}
		for ; i < safe; i++ {
			dst[i] = T(binary.LittleEndian.Uint64(src[pos>>3:]) >> (pos & 7) & mask)
			pos += width
		}
	}
	for ; i < len(dst); i++ {
		dst[i] = T(loadBits(src, pos, width))
		pos += width
	}
}

// appendPacked appends vals in width bits each, least significant first.
func appendPacked(dst []byte, vals []uint64, width uint) []byte {
	dst = slices.Grow(dst, packedSize(len(vals), width))
	var acc uint64
	n := uint(0)
	for _, v := range vals {
		acc |= v << n
		n += width
		if n >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, acc)
			n -= 64
			acc = v >> (width - n) // a shift by 64 gives 0
		}
	}
	for ; int(n) > 0; n -= min(n, 8) {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

func packedSize(n int, width uint) int { return (n*int(width) + 7) / 8 }

// loadBits returns width bits of src from bit pos on; bits past the end are zero.
func loadBits(src []byte, pos, width uint) uint64 {
	off := int(pos >> 3)
	shift := pos & 7
	v := load64(src, off) >> shift
	if shift+width > 64 && off+8 < len(src) {
		v |= uint64(src[off+8]) << (64 - shift)
	}
	if width >= 64 {
		return v
	}
	return v & (1<<width - 1)
}

// load64 returns the eight bytes at off, zeros beyond the end of src.
func load64(src []byte, off int) uint64 {
	if off+8 <= len(src) {
		return binary.LittleEndian.Uint64(src[off:])
	}
	var v uint64
	for i := len(src) - 1; i >= off; i-- {
		v = v<<8 | uint64(src[i])
	}
	return v
}

func fill[T any](dst []T, v T) {
	for i := range dst {
		dst[i] = v
	}
}

// grown returns buf with length n, its content undefined.
func grown[T any](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n, n+n/4)
	}
	return buf[:n]
}
