package vfs

import (
	"math/rand/v2"
)

// CrashClone returns the file system as it could look after a power failure
// now. What Sync and SyncDir made durable is there. Of the rest, chosen by
// seed, some is there and some is not: names that appeared, went or were
// renamed; whole files' bytes; single sectors of 512 bytes (a torn write); a
// file's new size with zeros instead of its bytes. Changes of one name stay in
// order, and a rename happens wholly or not at all.
//
// The clone is independent of m, holds no locks, and everything in it is
// durable.
func (m *Mem) CrashClone(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := &crash{
		rng:    rand.New(rand.NewPCG(seed, 0x5eed)),
		kept:   map[*memChange]bool{},
		clones: map[*memNode]*memNode{},
	}
	// The extremes, all of it kept or lost, are as likely as the mixtures.
	c.keep = []float64{0, 1, c.rng.Float64()}[c.rng.IntN(3)]
	return &Mem{root: c.clone(m.root), locks: map[string]bool{}}
}

type crash struct {
	rng    *rand.Rand
	keep   float64 // probability with which a name's change survives
	kept   map[*memChange]bool
	clones map[*memNode]*memNode
}

func (c *crash) clone(n *memNode) *memNode {
	if done := c.clones[n]; done != nil {
		return done
	}
	if !n.dir {
		data := c.content(n)
		out := &memNode{modTime: n.modTime, data: data, diskSize: int64(len(data)), unsynced: map[int64]memSector{}}
		c.clones[n] = out
		return out
	}
	out := newMemDir()
	c.clones[n] = out
	names := make(map[string]*memNode, len(n.onDisk))
	for name, child := range n.onDisk {
		names[name] = child
	}
	for _, change := range n.pending {
		if !c.keeps(change) {
			continue
		}
		for _, s := range change.sets {
			if s.dir != n {
				continue
			}
			if s.node == nil {
				delete(names, s.name)
			} else {
				names[s.name] = s.node
			}
		}
	}
	for _, name := range sortedNames(names) {
		child := c.clone(names[name])
		out.entries[name], out.onDisk[name] = child, child
	}
	return out
}

// keeps decides once about each change; one that builds on a lost change of
// the same name is lost too.
func (c *crash) keeps(change *memChange) bool {
	if k, ok := c.kept[change]; ok {
		return k
	}
	keep := c.rng.Float64() < c.keep
	for _, s := range change.sets {
		for _, older := range s.dir.pending {
			if older == change {
				break
			}
			if older.touches(s) && !c.keeps(older) {
				keep = false
			}
		}
	}
	c.kept[change] = keep
	return keep
}

// content returns a file's bytes as the disk could hold them.
func (c *crash) content(n *memNode) []byte {
	size := n.diskSize
	if now := int64(len(n.data)); now != size {
		switch c.rng.IntN(3) {
		case 0:
			size = now
		case 1:
			low, high := min(size, now), max(size, now)
			size = low + c.rng.Int64N(high-low+1)
		}
	}
	out := make([]byte, size)
	copy(out, n.data)
	keep := []float64{0, 1, c.rng.Float64()}[c.rng.IntN(3)]
	for i := int64(0); i*sectorBytes < size; i++ {
		s, ok := n.unsynced[i]
		if !ok {
			continue
		}
		sector := out[i*sectorBytes : min((i+1)*sectorBytes, size)]
		from := 0
		if !s.lost && c.rng.Float64() < keep {
			// The new bytes are there; but bytes that a truncation cut off come back
			// with the old size, they were not overwritten.
			from = int(min(max(int64(len(n.data))-i*sectorBytes, 0), int64(len(sector))))
		}
		clear(sector[from:])
		if from < len(s.old) {
			copy(sector[from:], s.old[from:])
		}
	}
	return out
}
