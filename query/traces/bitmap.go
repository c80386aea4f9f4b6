package traces

import "math/bits"

// bitmap is a set of rows of a group. Bits beyond the rows are zero.
type bitmap []uint64

func words(n int) int { return (n + 63) / 64 }

func (b bitmap) set(i int) { b[i>>6] |= 1 << (i & 63) }

func (b bitmap) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }

// fill sets the first n bits.
func (b bitmap) fill(n int) {
	for i := range n >> 6 {
		b[i] = ^uint64(0)
	}
	if n&63 != 0 {
		b[n>>6] = 1<<(n&63) - 1
	}
}

func (b bitmap) and(o bitmap) {
	o = o[:len(b)]
	for i := range b {
		b[i] &= o[i]
	}
}

func (b bitmap) or(o bitmap) {
	o = o[:len(b)]
	for i := range b {
		b[i] |= o[i]
	}
}

func (b bitmap) andNot(o bitmap) {
	o = o[:len(b)]
	for i := range b {
		b[i] &^= o[i]
	}
}

// not inverts the first n bits.
func (b bitmap) not(n int) {
	for i := range b {
		b[i] = ^b[i]
	}
	if n&63 != 0 {
		b[n>>6] &= 1<<(n&63) - 1
	}
}

func (b bitmap) empty() bool {
	for _, w := range b {
		if w != 0 {
			return false
		}
	}
	return true
}

func (b bitmap) count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// ends returns the words that [from, to) begins and ends in, and the bits of both
// that it has. The range is not empty.
func ends(from, to int) (first, last int, head, tail uint64) {
	return from >> 6, (to - 1) >> 6, ^uint64(0) << (from & 63), ^uint64(0) >> (63 - (to-1)&63)
}

// countIn returns how many bits in [from, to) are set.
func (b bitmap) countIn(from, to int) int {
	if from >= to {
		return 0
	}
	first, last, head, tail := ends(from, to)
	if first == last {
		return bits.OnesCount64(b[first] & head & tail)
	}
	return bits.OnesCount64(b[first]&head) + bits.OnesCount64(b[last]&tail) + b[first+1:last].count()
}

// clearIn clears the bits in [from, to).
func (b bitmap) clearIn(from, to int) {
	if from >= to {
		return
	}
	first, last, head, tail := ends(from, to)
	if first == last {
		b[first] &^= head & tail
		return
	}
	b[first] &^= head
	b[last] &^= tail
	clear(b[first+1 : last])
}

// anyIn reports whether a bit in [from, to) is set.
func (b bitmap) anyIn(from, to int) bool {
	if from >= to {
		return false
	}
	first, last, head, tail := ends(from, to)
	if first == last {
		return b[first]&head&tail != 0
	}
	if b[first]&head != 0 || b[last]&tail != 0 {
		return true
	}
	for _, w := range b[first+1 : last] {
		if w != 0 {
			return true
		}
	}
	return false
}

// rows appends the numbers of the set bits to dst.
func (b bitmap) rows(dst []uint32) []uint32 {
	for i, w := range b {
		for w != 0 {
			dst = append(dst, uint32(i<<6+bits.TrailingZeros64(w)))
			w &= w - 1
		}
	}
	return dst
}

func trailing(w uint64) int { return bits.TrailingZeros64(w) }
