package rows

import (
	"encoding/binary"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// A group has a filter over the values of its columns whose values are mostly
// distinct, so that a search for one of them passes over the other groups:
//
//	uvarint columns, uvarint column minus the one before …, bits

const (
	bloomBits   = 10 // per distinct value
	bloomHashes = 6
	// sketchBits is the size of the bitmap that estimates how many values of a
	// column are distinct.
	sketchBits = 1 << 15
	// minDistinct is the part of a column's values, 1/n, that must be distinct.
	minDistinct = 4
)

// bloomHash is the hash of a value; it is part of the format.
func bloomHash(col uint32, value []byte) uint64 {
	return xxh3.HashSeed(value, uint64(col))
}

func bloomHashNum(col uint32, num uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], num)
	return xxh3.HashSeed(b[:], uint64(col))
}

// bloomBuilder gathers a group's filter.
type bloomBuilder struct {
	columns  []uint32
	hashes   []uint64
	distinct int
	sketch   [sketchBits / 64]uint64
}

// add takes over the values of a column, of which the hashes are those from
// first on, if enough of them are distinct; columns come in rising order.
func (b *bloomBuilder) add(col uint32, first int) {
	clear(b.sketch[:])
	for _, h := range b.hashes[first:] {
		h >>= 64 - 15
		b.sketch[h>>6] |= 1 << (h & 63)
	}
	set := 0
	for _, w := range b.sketch {
		set += bits.OnesCount64(w)
	}
	if n := len(b.hashes) - first; set*minDistinct < min(n, sketchBits) {
		b.hashes = b.hashes[:first]
		return
	}
	b.distinct += set
	b.columns = append(b.columns, col)
}

// append appends the filter's page and empties b.
func (b *bloomBuilder) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b.columns)))
	before := uint32(0)
	for _, c := range b.columns {
		dst = binary.AppendUvarint(dst, uint64(c-before))
		before = c
	}
	start := len(dst)
	size := (b.distinct*bloomBits + 7) / 8
	dst = append(dst, make([]byte, size)...)
	filter := dst[start:]
	m := uint64(size) * 8
	for _, h := range b.hashes {
		step := h<<32 | h>>32 | 1
		for range bloomHashes {
			bit, _ := bits.Mul64(h, m)
			filter[bit>>3] |= 1 << (bit & 7)
			h += step
		}
	}
	b.columns, b.hashes, b.distinct = b.columns[:0], b.hashes[:0], 0
	return dst
}

// bloomMayHave reports whether the filter in page may have the value with a
// hash; true of columns that are not in the filter.
func bloomMayHave(page []byte, col uint32, hash uint64) bool {
	p := parser{b: page}
	n := p.count()
	c, has := uint64(0), false
	for range n {
		c += p.uvarint()
		has = has || c == uint64(col)
	}
	if p.bad || !has || len(p.b) == 0 {
		return true
	}
	m := uint64(len(p.b)) * 8
	step := hash<<32 | hash>>32 | 1
	for range bloomHashes {
		bit, _ := bits.Mul64(hash, m)
		if p.b[bit>>3]>>(bit&7)&1 == 0 {
			return false
		}
		hash += step
	}
	return true
}
