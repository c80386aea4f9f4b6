package otlp

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// cacheBytes bounds what a Request remembers of earlier ones: label bytes, rows
// and the table that finds them.
const cacheBytes = 4 << 20

// series is one row's identity. Its label bytes lie in the batch's Buf.
type series struct {
	hash   labels.Hash
	labels signal.ByteRange
}

// measures are the largest numbers of a point's rows, which limits are checked
// against: those of tenants differ.
type measures struct{ labels, name, value uint32 }

// entry says which rows a point has.
type entry struct {
	key      labels.Hash // of resource, scope, metric and attributes
	first, n uint32      // in cache.rows; both 0 in a free slot, only n if there are none
	measures
}

// cache finds the rows of points that were seen before. rows and the first bytes
// of the batch's Buf are what it holds; both only grow until all is cleared. A
// hash of 128 bits is the identity of a point, as it is that of a series in the
// store.
type cache struct {
	slots []entry // a power of two, by linear probing
	used  int
	rows  []series
	kept  int // rows that entries point to
	bytes int // length of Buf that rows point to
}

func (c *cache) find(key labels.Hash) *entry {
	if len(c.slots) == 0 {
		return nil
	}
	mask := uint64(len(c.slots) - 1)
	for i := key.Lo & mask; ; i = (i + 1) & mask {
		e := &c.slots[i]
		if e.key == key && e.n|e.first != 0 {
			return e
		}
		if e.n|e.first == 0 {
			return nil
		}
	}
}

// full reports whether nothing more is to be remembered beside a Buf of the
// given length.
func (c *cache) full(bufBytes int) bool {
	return bufBytes+24*len(c.rows)+40*len(c.slots) > cacheBytes
}

// put adds an entry; there is a free slot.
func (c *cache) put(e entry) {
	mask := uint64(len(c.slots) - 1)
	i := e.key.Lo & mask
	for c.slots[i].n|c.slots[i].first != 0 {
		i = (i + 1) & mask
	}
	c.slots[i] = e
	c.used++
}

// needsSlots returns the number of slots to grow to, or 0.
func (c *cache) needsSlots() int {
	if 2*(c.used+1) <= len(c.slots) {
		return 0
	}
	return max(2*len(c.slots), 256)
}

func (c *cache) rehash(n int) {
	old := c.slots
	c.slots = make([]entry, n)
	mask := uint64(n - 1)
	for _, e := range old {
		if e.n|e.first == 0 {
			continue
		}
		i := e.key.Lo & mask
		for c.slots[i].n|c.slots[i].first != 0 {
			i = (i + 1) & mask
		}
		c.slots[i] = e
	}
}

// clear forgets everything and keeps the memory.
func (c *cache) clear() {
	clear(c.slots)
	c.rows = c.rows[:0]
	c.used, c.kept, c.bytes = 0, 0, 0
}

func (c *cache) capBytes() int { return 40*cap(c.slots) + 24*cap(c.rows) }

// with returns the hash of the bytes b in the context k.
func with(k labels.Hash, b []byte) labels.Hash {
	const odd = 0x9e3779b97f4a7c15
	h := xxh3.Hash128Seed(b, k.Lo)
	return labels.Hash{Hi: h.Hi + k.Hi*odd, Lo: h.Lo}
}

// join returns the hash of several hashes, in order.
func join(hashes ...labels.Hash) labels.Hash {
	var room [64]byte
	b := room[:0]
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint64(b, h.Hi)
		b = binary.LittleEndian.AppendUint64(b, h.Lo)
	}
	return labels.HashCanonical(b)
}
