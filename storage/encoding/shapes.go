package encoding

import "math/bits"

// Magnitude classes are written with one of a few static prefix codes, so that
// a chunk of 120 values needs one byte, not ten, to say how its classes are
// distributed. The codes are part of the format: they may be added to, never
// changed. They were found by clustering the class distributions of recorded
// counters, gauges and durations, and of exponential, normal and log-normal noise.
const (
	shapeCount     = 32
	shapeFirstZero = 24 // shapes from here on have a symbol for zero
	shapeSymbols   = 16
	shapeEscape    = shapeSymbols - 1 // its value follows in 64 bits
	shapeMaxLen    = 8
)

// shapeLens are the lengths of each shape's codes in bits, by symbol. Codes are
// canonical: by length, then by symbol, and complete.
var shapeLens = [shapeCount][shapeSymbols]uint8{
	{2, 3, 3, 4, 4, 4, 4, 3, 4, 6, 6, 7, 8, 7, 7, 8},
	{5, 3, 2, 3, 4, 3, 3, 4, 5, 7, 7, 7, 7, 7, 7, 6},
	{5, 3, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7},
	{4, 4, 5, 4, 5, 4, 3, 2, 2, 5, 8, 8, 8, 8, 7, 7},
	{5, 5, 4, 4, 3, 2, 3, 4, 4, 3, 5, 7, 7, 7, 8, 8},
	{4, 4, 4, 4, 4, 3, 3, 3, 3, 4, 4, 5, 6, 7, 8, 8},
	{1, 4, 5, 6, 5, 6, 8, 5, 4, 5, 5, 3, 5, 7, 6, 8},
	{3, 2, 2, 2, 4, 6, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8},
	{4, 3, 2, 2, 3, 4, 8, 6, 5, 5, 6, 8, 8, 7, 7, 8},
	{6, 5, 3, 2, 2, 3, 3, 5, 6, 8, 8, 7, 8, 8, 8, 8},
	{5, 4, 4, 3, 2, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8, 8},
	{5, 5, 4, 3, 3, 3, 3, 3, 3, 4, 5, 7, 7, 8, 7, 8},
	{1, 2, 3, 7, 6, 5, 6, 6, 7, 8, 8, 8, 8, 8, 8, 7},
	{3, 1, 3, 4, 3, 8, 8, 8, 8, 8, 8, 7, 7, 7, 7, 7},
	{5, 2, 1, 3, 5, 6, 7, 8, 8, 7, 8, 8, 8, 8, 8, 8},
	{6, 4, 3, 1, 3, 4, 6, 4, 8, 8, 8, 8, 8, 8, 8, 8},
	{5, 4, 3, 2, 2, 4, 4, 8, 4, 5, 5, 8, 8, 8, 7, 7},
	{6, 5, 4, 3, 2, 2, 3, 4, 5, 6, 7, 8, 8, 7, 8, 8},
	{1, 2, 3, 4, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8},
	{2, 1, 3, 4, 6, 8, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8},
	{4, 3, 1, 2, 6, 8, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8},
	{5, 4, 3, 1, 3, 4, 6, 8, 8, 6, 5, 8, 8, 8, 8, 7},
	{5, 5, 3, 2, 2, 3, 4, 6, 7, 8, 6, 6, 6, 6, 5, 8},
	{4, 5, 3, 3, 3, 2, 3, 4, 5, 6, 7, 6, 7, 8, 7, 8},
	{4, 2, 1, 3, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8},
	{2, 4, 3, 3, 4, 4, 5, 5, 3, 4, 5, 8, 6, 8, 8, 8},
	{2, 7, 2, 2, 4, 4, 6, 7, 7, 7, 5, 5, 8, 8, 8, 8},
	{2, 4, 4, 3, 2, 3, 4, 6, 7, 7, 8, 8, 8, 8, 7, 7},
	{1, 2, 3, 5, 7, 8, 8, 7, 7, 7, 7, 7, 6, 7, 7, 7},
	{1, 7, 2, 4, 8, 4, 4, 8, 8, 6, 8, 8, 8, 8, 8, 7},
	{1, 5, 4, 3, 3, 4, 5, 7, 8, 8, 7, 7, 7, 7, 7, 7},
	{1, 4, 5, 4, 3, 4, 4, 5, 6, 7, 6, 8, 8, 7, 8, 8},
}

// shape is a prefix code ready for use.
type shape struct {
	lens  [shapeSymbols]uint8
	codes [shapeSymbols]uint8     // bit-reversed: the first bit is the lowest
	table [1 << shapeMaxLen]uint8 // by the next eight bits: symbol<<4 | length
}

var shapes = buildShapes() // never written after

func buildShapes() *[shapeCount]shape {
	all := new([shapeCount]shape)
	for i := range all {
		sh := &all[i]
		sh.lens = shapeLens[i]
		code := 0
		for length := uint8(1); length <= shapeMaxLen; length++ {
			for symbol, l := range sh.lens {
				if l != length {
					continue
				}
				rev := bits.Reverse8(uint8(code << (8 - length)))
				sh.codes[symbol] = rev
				for j := int(rev); j < len(sh.table); j += 1 << length {
					sh.table[j] = uint8(symbol)<<4 | length
				}
				code++
			}
			code <<= 1
		}
	}
	return all
}
