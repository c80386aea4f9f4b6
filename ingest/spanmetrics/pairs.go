package spanmetrics

import (
	"encoding/binary"
	"math/bits"

	"github.com/vedette-io/vedette/internal/signal"
)

const (
	// maxHalves is how many spans with the same key wait at once: consumers of one
	// message, say.
	maxHalves = 32
	// slabHalves is how many halves an empty store keeps the memory of.
	slabHalves = 1024
)

// half is one side of an edge, which waits for the other one under the trace and
// the span id of the client's span.
type half struct {
	trace    signal.TraceID
	key      signal.SpanID // the client's span
	self     signal.SpanID // the span itself
	service  uint32
	peer     uint32 // what a client's attributes call the other side; noName if nothing
	duration int64
	end      int64
	deadline int64

	older, newer int32

	client    bool
	failed    bool
	messaging bool
	paired    bool // a producer's that has found a consumer, and waits for others
}

// pairs holds the halves of a tenant and partition, at most max, in the order in
// which they came. Slots are an open-addressed table of indexes of halves plus
// one; equal keys are allowed, and are all of the same side.
type pairs struct {
	max   int
	seed  uint64
	slots []int32
	list  []half
	free  []int32
	n     int

	oldest, newest int32 // indexes; -1 is none
}

func newPairs(maxHalves int, seed uint64) pairs {
	return pairs{max: maxHalves, seed: seed, oldest: -1, newest: -1}
}

// home returns the slot at which the search for a key begins. Ids are the
// senders' choice, so the seed keeps them from choosing slots.
func (p *pairs) home(trace *signal.TraceID, key *signal.SpanID) int {
	a := binary.LittleEndian.Uint64(trace[:8]) ^ p.seed
	b := binary.LittleEndian.Uint64(trace[8:]) ^ bits.RotateLeft64(p.seed, 32)
	hi, lo := bits.Mul64(a|1, b^0x9e3779b97f4a7c15)
	hi, lo = bits.Mul64(hi^lo^p.seed, binary.LittleEndian.Uint64(key[:])^0xd6e8feb86659fd93)
	return int(hi^lo) & (len(p.slots) - 1)
}

// find returns the slot of a half with the key, or -1.
func (p *pairs) find(trace *signal.TraceID, key *signal.SpanID) int {
	if p.n == 0 {
		return -1
	}
	mask := len(p.slots) - 1
	for i := p.home(trace, key); p.slots[i] != 0; i = (i + 1) & mask {
		if h := &p.list[p.slots[i]-1]; h.key == *key && h.trace == *trace {
			return i
		}
	}
	return -1
}

// at returns the half in a slot; it is valid until the next add.
func (p *pairs) at(slot int) *half { return &p.list[p.slots[slot]-1] }

// add returns a new half with the key, or nil if too many have it. There must be
// room.
func (p *pairs) add(trace *signal.TraceID, key *signal.SpanID) *half {
	if 2*(p.n+1) > len(p.slots) {
		p.grow()
	}
	mask, same := len(p.slots)-1, 0
	i := p.home(trace, key)
	for ; p.slots[i] != 0; i = (i + 1) & mask {
		if h := p.at(i); h.key == *key && h.trace == *trace {
			if same++; same == maxHalves {
				return nil
			}
		}
	}
	var at int32
	if k := len(p.free); k > 0 {
		at, p.free = p.free[k-1], p.free[:k-1]
	} else {
		at = int32(len(p.list))
		p.list = append(p.list, half{})
	}
	p.slots[i] = at + 1
	h := &p.list[at]
	*h = half{trace: *trace, key: *key, older: p.newest, newer: -1}
	if p.newest >= 0 {
		p.list[p.newest].newer = at
	} else {
		p.oldest = at
	}
	p.newest = at
	p.n++
	return h
}

func (p *pairs) grow() {
	old := p.slots
	p.slots = make([]int32, max(2*len(old), 64))
	mask := len(p.slots) - 1
	for _, v := range old {
		if v != 0 {
			h := &p.list[v-1]
			i := p.home(&h.trace, &h.key)
			for p.slots[i] != 0 {
				i = (i + 1) & mask
			}
			p.slots[i] = v
		}
	}
}

// remove takes the half in a slot out.
func (p *pairs) remove(slot int) {
	at := p.slots[slot] - 1
	h := &p.list[at]
	if h.older >= 0 {
		p.list[h.older].newer = h.newer
	} else {
		p.oldest = h.newer
	}
	if h.newer >= 0 {
		p.list[h.newer].older = h.older
	} else {
		p.newest = h.older
	}
	p.free = append(p.free, at)
	p.n--

	// Move what was pushed behind this slot forward, so that no search breaks off.
	mask := len(p.slots) - 1
	hole := slot
	for i := (slot + 1) & mask; p.slots[i] != 0; i = (i + 1) & mask {
		o := p.at(i)
		if home := p.home(&o.trace, &o.key); (i-home)&mask >= (i-hole)&mask {
			p.slots[hole] = p.slots[i]
			hole = i
		}
	}
	p.slots[hole] = 0
}

// removeOldest takes the oldest half out.
func (p *pairs) removeOldest() {
	h := &p.list[p.oldest]
	mask := len(p.slots) - 1
	for i := p.home(&h.trace, &h.key); ; i = (i + 1) & mask {
		if p.slots[i] == p.oldest+1 {
			p.remove(i)
			return
		}
	}
}

// shrink gives the memory of an empty store back.
func (p *pairs) shrink() {
	if p.n == 0 && len(p.list) > slabHalves {
		*p = newPairs(p.max, p.seed)
	}
}
