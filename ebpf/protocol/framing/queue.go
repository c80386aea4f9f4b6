package framing

import "unsafe"

// Queue holds what waits for its answer, oldest first. Its elements are used
// again as they are, so that buffers in them need be allocated only once.
type Queue[T any] struct {
	ring []T
	head int
	n    int
}

// Len is how many wait.
func (q *Queue[T]) Len() int { return q.n }

// Bytes is the memory of all places, without what their elements point to.
func (q *Queue[T]) Bytes() int {
	var place T
	return len(q.ring) * int(unsafe.Sizeof(place))
}

// Places is how many there are, taken or not.
func (q *Queue[T]) Places() int { return len(q.ring) }

// Push adds an element at the end and gives it, with what its place held before;
// nil if limit elements wait already.
func (q *Queue[T]) Push(limit int) *T {
	if q.n >= limit {
		return nil
	}
	if q.n == len(q.ring) {
		bigger := make([]T, max(2, 2*len(q.ring)))
		for i := range q.n {
			bigger[i] = *q.At(i)
		}
		// The places left behind are dropped, so no buffer is in two places.
		q.ring, q.head = bigger, 0
	}
	q.n++
	return q.At(q.n - 1)
}

// At gives the element at a place, 0 being the oldest. It is valid until the
// next Push.
func (q *Queue[T]) At(i int) *T { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

// First gives the oldest, nil if none waits.
func (q *Queue[T]) First() *T {
	if q.n == 0 {
		return nil
	}
	return q.At(0)
}

// Last gives the newest, nil if none waits.
func (q *Queue[T]) Last() *T {
	if q.n == 0 {
		return nil
	}
	return q.At(q.n - 1)
}

// Pop drops the oldest.
func (q *Queue[T]) Pop() {
	if q.n > 0 {
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.n--
	}
}

// Drop drops the newest.
func (q *Queue[T]) Drop() {
	if q.n > 0 {
		q.n--
	}
}

// Clear drops all.
func (q *Queue[T]) Clear() { q.head, q.n = 0, 0 }
