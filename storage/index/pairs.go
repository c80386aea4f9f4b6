package index

import (
	"bytes"
	"encoding/binary"

	"github.com/zeebo/xxh3"
)

// Pair numbers a label pair of a window, counting from 0 in order of first
// appearance.
type Pair uint32

// pairTable interns label pairs by the bytes of their canonical label message
// (0x0a nameLen name 0x12 valueLen value). Bytes live in one arena.
type pairTable struct {
	arena []byte
	ends  []uint32 // pair i is arena[ends[i-1]:ends[i]]

	slots []uint32 // open addressing; 0 is free, else pair+1
	mask  uint32
}

func (t *pairTable) len() int { return len(t.ends) }

func (t *pairTable) bytes(p Pair) []byte {
	var start uint32
	if p > 0 {
		start = t.ends[p-1]
	}
	return t.arena[start:t.ends[p]:t.ends[p]]
}

// split returns name and value of p; they alias the arena.
func (t *pairTable) split(p Pair) (name, value []byte) {
	b := t.bytes(p)[1:]
	n, w := binary.Uvarint(b)
	name = b[w : w+int(n)]
	b = b[w+int(n)+1:]
	n, w = binary.Uvarint(b)
	return name, b[w : w+int(n)]
}

// intern returns the number of the pair with these bytes, adding it if need be.
func (t *pairTable) intern(msg []byte) (p Pair, added bool) {
	if len(t.ends)*2 >= len(t.slots) {
		t.grow()
	}
	i := uint32(xxh3.Hash(msg)) & t.mask
	for {
		s := t.slots[i]
		if s == 0 {
			break
		}
		if bytes.Equal(t.bytes(Pair(s-1)), msg) {
			return Pair(s - 1), false
		}
		i = (i + 1) & t.mask
	}
	p = Pair(len(t.ends))
	t.arena = append(t.arena, msg...)
	t.ends = append(t.ends, uint32(len(t.arena)))
	t.slots[i] = uint32(p) + 1
	return p, true
}

// find returns the pair with these bytes.
func (t *pairTable) find(msg []byte) (Pair, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	i := uint32(xxh3.Hash(msg)) & t.mask
	for {
		s := t.slots[i]
		if s == 0 {
			return 0, false
		}
		if bytes.Equal(t.bytes(Pair(s-1)), msg) {
			return Pair(s - 1), true
		}
		i = (i + 1) & t.mask
	}
}

func (t *pairTable) grow() {
	n := max(1024, len(t.slots)*2)
	t.slots = make([]uint32, n)
	t.mask = uint32(n - 1)
	for p := range t.ends {
		if len(t.bytes(Pair(p))) == 0 {
			continue
		}
		i := uint32(xxh3.Hash(t.bytes(Pair(p)))) & t.mask
		for t.slots[i] != 0 {
			i = (i + 1) & t.mask
		}
		t.slots[i] = uint32(p) + 1
	}
}

// addHole adds a pair whose bytes are lost.
func (t *pairTable) addHole() { t.ends = append(t.ends, uint32(len(t.arena))) }
