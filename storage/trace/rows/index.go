package rows

import (
	"hash/maphash"
	"math/bits"
)

// hasher makes hashes that a sender can not foresee, so that nobody can write
// spans that all collide.
type hasher struct {
	seed maphash.Seed
	a, b uint64
}

func newHasher() hasher {
	h := hasher{seed: maphash.MakeSeed()}
	h.a, h.b = maphash.String(h.seed, "a"), maphash.String(h.seed, "b")
	return h
}

func (h *hasher) bytes(b []byte) uint64 { return maphash.Bytes(h.seed, b) }

// mix joins two numbers of which at least one is a hash.
func (h *hasher) mix(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x^h.a, y^h.b)
	return hi ^ lo
}

// tagIndex finds numbers by hash: a table with open addressing whose entries are
// the hash's upper half and the number plus one, so that growing needs neither
// keys nor hashes. Whoever finds a number compares the key.
type tagIndex struct {
	slots []uint64
	n     int
}

// probe starts a search for a hash:
//
//	for at := x.probe(h); x.slots[at] != 0; at = x.next(at) {
//		if sameTag(x.slots[at], h) && key is equal { number(x.slots[at]) is found }
//	}
func (x *tagIndex) probe(hash uint64) int { return int(hash>>32) & (len(x.slots) - 1) }

func (x *tagIndex) next(at int) int { return (at + 1) & (len(x.slots) - 1) }

func sameTag(slot, hash uint64) bool { return slot>>32 == hash>>32 }

func number(slot uint64) uint32 { return uint32(slot) - 1 }

// reserve makes room for one more entry. It comes before probe.
func (x *tagIndex) reserve() {
	if x.n*4 < len(x.slots)*3 {
		return
	}
	old := x.slots
	x.slots = make([]uint64, max(16, 2*len(old)))
	for _, s := range old {
		if s == 0 {
			continue
		}
		at := x.probe(s)
		for x.slots[at] != 0 {
			at = x.next(at)
		}
		x.slots[at] = s
	}
}

// set fills the empty slot where a search ended.
func (x *tagIndex) set(at int, hash uint64, number uint32) {
	x.slots[at] = hash>>32<<32 | uint64(number+1)
	x.n++
}

// arena cuts slices from larger pieces, which live as long as any slice does.
// Each piece is twice as large as the one before, so that a table with a few
// spans is small: there is one for each tenant.
type arena[T any] struct {
	piece []T
	size  int // of the last piece
}

const firstPiece, largestPiece = 1 << 5, 1 << 12

// take returns n zero values.
func (a *arena[T]) take(n int) []T {
	if n > len(a.piece) {
		a.size = min(max(2*a.size, firstPiece), largestPiece)
		if n >= a.size/2 {
			return make([]T, n)
		}
		a.piece = make([]T, a.size)
	}
	s := a.piece[:n:n]
	a.piece = a.piece[n:]
	return s
}
