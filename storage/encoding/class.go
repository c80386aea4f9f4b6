package encoding

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The class coder writes of each residual, made unsigned, how many bits it has
// (its class, by a prefix code) and the bits below the highest. Noise of any
// kind comes within some percent of what an adaptive entropy coder needs.
//
//	head u8: shape in bits 0..4, bit 5: residuals are zigzag, bit 6: zeros are left out
//	low u8: classes up to this many bits are one symbol
//	[base varint, if not zigzag: the smallest residual]
//	[one bit a residual, if zeros are left out: set if it is not zero]
//	for each block of up to 128 residuals: all symbols, then all bits below
//
// Symbols stand in front of the bits below them so that a decoder's chain of
// dependent loads is short.
const (
	classZigzag = 1 << 5
	classBitmap = 1 << 6
	classBlock  = 128
)

// classPlan is how the class coder will write.
type classPlan struct {
	shape  int
	low    uint
	zigzag bool
	bitmap bool
	base   int64
}

// classHist counts unsigned residuals by their number of bits.
type classHist [65]uint32

// entropyTable[c] is c*log2(c).
var entropyTable = func() (t [512]float32) {
	for c := 2; c < len(t); c++ {
		t[c] = float32(c) * float32(math.Log2(float64(c)))
	}
	return t
}()

func entropyTerm(c uint32) float32 {
	if int(c) < len(entropyTable) {
		return entropyTable[c]
	}
	return float32(c) * float32(math.Log2(float64(c)))
}

// bound returns about how many bits an ideal class coder needs for the n
// values of h, which lie in classes lo..hi.
func (h *classHist) bound(n, lo, hi int) float32 {
	total := entropyTerm(uint32(n))
	for class := lo; class <= hi; class++ {
		c := h[class]
		total += float32(int(c)*max(class-1, 0)) - entropyTerm(c)
	}
	return total
}

// span returns the lowest and highest class in use.
func (h *classHist) span() (lo, hi int) {
	for lo < 64 && h[lo] == 0 {
		lo++
	}
	hi = 64
	for hi > lo && h[hi] == 0 {
		hi--
	}
	return lo, hi
}

// fit picks the shape and low that need the fewest bits for the n values of h, and
// returns that number.
func (h *classHist) fit(p *classPlan, n, lo, hi int) int {
	best := math.MaxInt
	below := 0 // values of fewer bits than low
	for low := lo; low <= hi; low++ {
		below += int(h[low])
		if low+4 < hi && below*24 < n {
			continue // a longer low loses little and keeps symbols for the top
		}
		symbols, raw := h.symbols(low, lo, hi)
		for i := range shapeFirstZero {
			if cost := raw + dot(&symbols, &shapes[i].lens); cost < best {
				best, p.shape, p.low = cost, i, uint(low)
			}
		}
		if lo == 0 && low > 0 {
			zero := int(h[0])
			symbols[shapeEscape] += symbols[shapeEscape-1]
			raw += int(symbols[shapeEscape-1]) * (66 - low - shapeEscape)
			copy(symbols[1:shapeEscape], symbols[:shapeEscape-1])
			symbols[0] = uint32(zero)
			symbols[1] -= uint32(zero)
			raw -= zero * low
			for i := shapeFirstZero; i < shapeCount; i++ {
				if cost := raw + dot(&symbols, &shapes[i].lens); cost < best {
					best, p.shape, p.low = cost, i, uint(low)
				}
			}
		}
		if below*2 > n && low > lo+1 {
			break // every further low adds a bit to half of the values
		}
	}
	return best
}

// symbols counts the symbols of h for a shape without a zero symbol, and the bits below them.
func (h *classHist) symbols(low, lo, hi int) (counts [shapeSymbols]uint32, raw int) {
	for class := lo; class <= hi; class++ {
		c := h[class]
		switch symbol := class - low; {
		case symbol <= 0:
			counts[0] += c
			raw += int(c) * low
		case symbol < shapeEscape:
			counts[symbol] += c
			raw += int(c) * (class - 1)
		default:
			counts[shapeEscape] += c
			raw += int(c) * 64
		}
	}
	return counts, raw
}

func dot(counts *[shapeSymbols]uint32, lens *[shapeSymbols]uint8) int {
	a, b, c, d := 0, 0, 0, 0
	for i := 0; i < shapeSymbols; i += 4 {
		a += int(counts[i] * uint32(lens[i]))
		b += int(counts[i+1] * uint32(lens[i+1]))
		c += int(counts[i+2] * uint32(lens[i+2]))
		d += int(counts[i+3] * uint32(lens[i+3]))
	}
	return a + b + c + d
}

// classWidths fills in, by symbol, how many bits follow and what to add to them.
func classWidths(widths *[shapeSymbols]uint8, tops *[shapeSymbols]uint64, shape int, low uint) {
	first := 0
	if shape >= shapeFirstZero {
		first = 1 // widths[0] and tops[0] are zero
	}
	widths[first] = uint8(low)
	for symbol := first + 1; symbol < shapeEscape; symbol++ {
		width := low + uint(symbol-first) - 1
		widths[symbol] = uint8(min(width, 63))
		tops[symbol] = 1 << min(width, 63)
	}
	widths[shapeEscape] = 64
}

// appendClass may overwrite resid.
func appendClass(dst []byte, resid []int64, p *classPlan) []byte {
	head := byte(p.shape)
	if p.bitmap {
		head |= classBitmap
	}
	if p.zigzag {
		head |= classZigzag
	}
	dst = append(dst, head, byte(p.low))
	if !p.zigzag {
		dst = appendVarint(dst, p.base)
	}
	if p.bitmap {
		dst, resid = appendBitmap(dst, resid)
	}
	var (
		widths [shapeSymbols]uint8
		tops   [shapeSymbols]uint64
		block  [classBlock]uint8
		vals   [classBlock]uint64
	)
	classWidths(&widths, &tops, p.shape, p.low)
	sh := &shapes[p.shape]
	first := 0
	if p.shape >= shapeFirstZero {
		first = 1
	}
	w := bitWriter{dst: dst}
	for len(resid) > 0 {
		n := min(len(resid), classBlock)
		for i, r := range resid[:n] {
			u := uint64(r - p.base)
			if p.zigzag {
				u = zigzag(r)
			}
			vals[i] = u
			symbol := min(max(bits.Len64(u)-int(p.low), 0)+first, shapeEscape)
			if u == 0 {
				symbol = 0
			}
			block[i] = uint8(symbol)
			w.write(uint64(sh.codes[symbol]), uint(sh.lens[symbol]))
		}
		for i, symbol := range block[:n] {
			w.write(vals[i]-tops[symbol&15], uint(widths[symbol&15]))
		}
		resid = resid[n:]
	}
	return w.flush()
}

// appendBitmap appends a bit for each of resid, set if it is not zero, and
// returns resid without its zeros.
func appendBitmap(dst []byte, resid []int64) ([]byte, []int64) {
	start := len(dst)
	dst, bitmap := extend(dst, (len(resid)+7)/8)
	clear(bitmap)
	kept := resid[:0]
	for i, r := range resid {
		if r != 0 {
			dst[start+i>>3] |= 1 << (i & 7)
			kept = append(kept, r)
		}
	}
	return dst, kept
}

// cutBitmap cuts the bitmap of n bits off src; set is how many bits are set.
func cutBitmap(src []byte, n int) (bitmap, rest []byte, set int, ok bool) {
	size := (n + 7) / 8
	if len(src) < size {
		return nil, nil, 0, false
	}
	bitmap, rest = src[:size], src[size:]
	for _, b := range bitmap {
		set += bits.OnesCount8(b)
	}
	if n&7 != 0 && bitmap[size-1]>>(n&7) != 0 {
		return nil, nil, 0, false // bits past the end
	}
	return bitmap, rest, set, true
}

// spread moves the first set values of resid to where bitmap has its bits and
// puts zeros between them.
func spread(resid []int64, bitmap []byte, set int) {
	for i := len(resid) - 1; i >= 0; i-- {
		if bitmap[i>>3]>>(i&7)&1 == 0 {
			resid[i] = 0
			continue
		}
		set--
		resid[i] = resid[set]
	}
}

func decodeClass(resid []int64, src []byte, c Codec) error {
	if len(src) < 2 || src[0] >= 2*classBitmap || src[1] > 64 {
		return corrupt("ints", c, "bad class header")
	}
	head, low := src[0], uint(src[1])
	src = src[2:]
	base := int64(0)
	if head&classZigzag == 0 {
		used := 0
		if base, used = varint(src); used == 0 {
			return corrupt("ints", c, "class base cut short")
		}
		src = src[used:]
	}
	if head&classBitmap != 0 {
		bitmap, rest, set, ok := cutBitmap(src, len(resid))
		if !ok {
			return corrupt("ints", c, "bad bitmap")
		}
		if err := decodeClassed(resid[:set], rest, c, head, low, base); err != nil {
			return err
		}
		spread(resid, bitmap, set)
		return nil
	}
	return decodeClassed(resid, src, c, head, low, base)
}

// decodeClassed fills resid from the symbols and bits of src.
func decodeClassed(resid []int64, src []byte, c Codec, head byte, low uint, base int64) error {
	// Every symbol has a bit at least: bounds the work for a hostile count.
	if len(src)*8 < len(resid) {
		return corrupt("ints", c, "%d bytes for %d symbols", len(src), len(resid))
	}
	var (
		widths [shapeSymbols]uint8
		tops   [shapeSymbols]uint64
		block  [classBlock]uint8
	)
	number := int(head & (shapeCount - 1))
	classWidths(&widths, &tops, number, low)
	table := &shapes[number].table
	pos := uint(0)
	for rest := resid; len(rest) > 0; {
		n := min(len(rest), classBlock)
		pos = decodeSymbols(block[:n], src, pos, table)
		pos = decodeBelow(rest[:n], block[:n], src, pos, &widths, &tops)
		rest = rest[n:]
	}
	if pos > uint(len(src))*8 || uint(len(src))*8-pos >= 8 {
		return corrupt("ints", c, "%d bits of classes in %d bytes", pos, len(src))
	}
	if head&classZigzag != 0 {
		for i, r := range resid {
			resid[i] = unzigzag(uint64(r))
		}
		return nil
	}
	for i := range resid {
		resid[i] += base
	}
	return nil
}

// decodeSymbols reads len(block) symbols at bit pos and returns the position after them.
func decodeSymbols(block []uint8, src []byte, pos uint, table *[1 << shapeMaxLen]uint8) uint {
	i := 0
	for ; i+7 <= len(block); i += 7 { // seven codes of eight bits fit the 57 that are sure
		w := load64(src, int(pos>>3)) >> (pos & 7)
		b := block[i : i+7 : i+7]
		t0 := table[uint8(w)]
		w >>= t0 & 15
		t1 := table[uint8(w)]
		w >>= t1 & 15
		t2 := table[uint8(w)]
		w >>= t2 & 15
		t3 := table[uint8(w)]
		w >>= t3 & 15
		t4 := table[uint8(w)]
		w >>= t4 & 15
		t5 := table[uint8(w)]
		w >>= t5 & 15
		t6 := table[uint8(w)]
		b[0], b[1], b[2], b[3], b[4], b[5], b[6] = t0>>4, t1>>4, t2>>4, t3>>4, t4>>4, t5>>4, t6>>4
		pos += uint(t0&15) + uint(t1&15) + uint(t2&15) + uint(t3&15) + uint(t4&15) + uint(t5&15) + uint(t6&15)
	}
	for ; i < len(block); i++ {
		t := table[uint8(load64(src, int(pos>>3))>>(pos&7))]
		block[i] = t >> 4
		pos += uint(t & 15)
	}
	return pos
}

// decodeBelow reads the bits below each symbol of block and fills dst with the
// unsigned numbers.
func decodeBelow(dst []int64, block []uint8, src []byte, pos uint, widths *[shapeSymbols]uint8, tops *[shapeSymbols]uint64) uint {
	dst = dst[:len(block)]
	for i, symbol := range block {
		width := uint(widths[symbol&15])
		off := int(pos >> 3)
		if width <= 56 && off+8 <= len(src) {
			v := binary.LittleEndian.Uint64(src[off:]) >> (pos & 7) & (1<<(width&63) - 1)
			dst[i] = int64(v + tops[symbol&15])
		} else {
			dst[i] = int64(loadBits(src, pos, width) + tops[symbol&15])
		}
		pos += width
	}
	return pos
}
