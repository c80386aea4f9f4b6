package feature

import (
	"time"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Tally keeps the series of a feature whose events come to user space one by one:
// a bounded number of them, each with its totals and the processes that have
// counted in it. It is not safe for use by several goroutines.
type Tally[S comparable, T any] struct {
	max    int
	series map[S]*tallied[T]
}

type tallied[T any] struct {
	total     T
	processes map[identity.Key]struct{} // those not known to be gone
	gone      time.Time                 // when the last one was swept; zero: some live
}

// NewTally returns an empty tally of at most limit series.
func NewTally[S comparable, T any](limit int) *Tally[S, T] {
	return &Tally[S, T]{max: limit, series: make(map[S]*tallied[T])}
}

// Of gives the totals of a series, for process k to count in; nil: there is no
// room for another series.
func (t *Tally[S, T]) Of(s S, k identity.Key) *T {
	e := t.series[s]
	if e == nil {
		if len(t.series) >= t.max {
			return nil
		}
		e = &tallied[T]{processes: make(map[identity.Key]struct{})}
		t.series[s] = e
	}
	e.processes[k] = struct{}{}
	e.gone = time.Time{}
	return &e.total
}

// Has says whether the series is there.
func (t *Tally[S, T]) Has(s S) bool { return t.series[s] != nil }

// Len is how many series there are.
func (t *Tally[S, T]) Len() int { return len(t.series) }

// Each visits the series.
func (t *Tally[S, T]) Each(visit func(S, *T)) {
	for s, e := range t.series {
		visit(s, &e.total)
	}
}

// Sweep forgets the series that have had no process for KeepRetired.
func (t *Tally[S, T]) Sweep(now time.Time, resolver *identity.Resolver) {
	alive := make(map[identity.Key]bool)
	for s, e := range t.series {
		for k := range e.processes {
			if _, known := alive[k]; !known {
				alive[k] = resolver.Alive(k)
			}
			if !alive[k] {
				delete(e.processes, k)
			}
		}
		switch {
		case len(e.processes) > 0:
		case e.gone.IsZero():
			e.gone = now
		case now.Sub(e.gone) > KeepRetired:
			delete(t.series, s)
		}
	}
}
