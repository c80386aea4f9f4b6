package probe

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// together is one collector of several features, which may have metrics in common,
// and of the graph of services, which several of them tell edges of. Each reads what
// it has counted once in a collection. One that does not answer in time is left out
// of it, whole, unless it has answered an earlier one late: one that is slow, and does
// not hang, is late by a collection. In sums with others the last answer of
// one that is left out stands in for it, so that no sum falls and rises again.
type together struct {
	sources []source
	states  *states
	edges   *edges
	descs   []*prometheus.Desc
	shared  map[*prometheus.Desc]int // those that several sources describe, numbered by what they say

	mu   sync.Mutex // held in a collection: edges compare it with the one before
	last []answer   // of each source, the last whole one: shared metrics and edges alone; under mu

	cameMu sync.Mutex // taken while mu is held, or alone
	came   []came     // of each source, what came too late; under cameMu
}

// source is a feature, or what else counts.
type source struct {
	prometheus.Collector
	*caller
}

// answer is what a source has said in one collection.
type answer struct {
	metrics []prometheus.Metric
	edges   map[pair]*feature.Edge
	err     error // not all was read
}

// keepLate is how old an answer may be that came too late for its collection.
const keepLate = 2 * time.Minute

// came is an answer, and when it came; the zero value is none.
type came struct {
	answer
	at time.Time
}

// newTogether asks the sources for their descriptions.
func newTogether(sources []source, s *states, e *edges) *together {
	t := &together{sources: sources, states: s, edges: e, shared: make(map[*prometheus.Desc]int), last: make([]answer, len(sources)), came: make([]came, len(sources))}
	type told struct {
		descs   []*prometheus.Desc
		sources map[int]bool
	}
	byText := make(map[string]*told)
	for i, f := range sources {
		for d := range drain(f.Describe) {
			one := byText[d.String()]
			if one == nil {
				one = &told{sources: make(map[int]bool)}
				byText[d.String()] = one
				t.descs = append(t.descs, d)
			}
			one.descs = append(one.descs, d)
			one.sources[i] = true
		}
	}
	number := 0
	for _, one := range byText {
		if len(one.sources) < 2 {
			continue
		}
		for _, d := range one.descs {
			t.shared[d] = number
		}
		number++
	}
	for d := range drain(e.describe) {
		t.descs = append(t.descs, d)
	}
	t.descs = append(t.descs, s.desc)
	return t
}

// Describe sends each description once.
func (t *together) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range t.descs {
		ch <- d
	}
}

// Collect collects from each of the sources that is ready. Those that see the same
// protocol in different places, inside TLS and outside, may have series of the same
// labels, as of a database that is asked both ways at one port: these are added up.
// States come last, for this collection may find one that hangs.
func (t *together) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	callers, answers := make([]*caller, len(t.sources)), make([]answer, len(t.sources))
	for i, s := range t.sources {
		if s.ready.Load() {
			callers[i] = s.caller
		}
	}
	calls := askAll(context.Background(), callers, "collect", func(i int) error {
		t.ask(i, &answers[i])
		t.cameMu.Lock()
		defer t.cameMu.Unlock()
		t.came[i] = came{answers[i], time.Now()}
		return nil
	})
	sums, whole := make(map[pair]*feature.Edge), true
	shared := make(map[int]*senders)
	for i := range t.sources {
		a, answered := &t.last[i], calls[i] != nil
		late, isLate := t.take(i, callers[i] == nil || answered)
		switch {
		case callers[i] == nil:
			*a = answer{} // it has ended
		case answered:
			a = &answers[i]
		case isLate:
			a, answered = &late, true
			t.states.hang(t.sources[i].name, "late answer to collect")
		}
		whole = whole && (!answered || a.err == nil)
		both := a.metrics[:0]
		for _, m := range a.metrics {
			if number, ok := t.shared[m.Desc()]; ok {
				both = append(both, m)
				if shared[number] == nil {
					shared[number] = &senders{first: i}
				}
				shared[number].take(i, m, answered)
			} else {
				ch <- m
			}
		}
		for p, one := range a.edges {
			addTo(sums, p, one)
		}
		if answered && a.err == nil {
			clear(a.metrics[len(both):])
			t.last[i] = answer{metrics: both, edges: a.edges}
		}
	}
	for _, s := range shared {
		s.send(ch)
	}
	if whole {
		t.edges.collect(ch, sums)
	}
	t.states.collect(ch)
}

// take gives what came of a source too late, to each of those that collect until it
// answers in time or has ended; done says that it has.
func (t *together) take(i int, done bool) (answer, bool) {
	t.cameMu.Lock()
	defer t.cameMu.Unlock()
	one := t.came[i]
	if done || time.Since(one.at) >= keepLate {
		t.came[i] = came{}
		return answer{}, false
	}
	one.metrics = slices.Clone(one.metrics)
	return one.answer, true
}

// ask collects from a source.
func (t *together) ask(i int, a *answer) {
	a.edges = make(map[pair]*feature.Edge)
	collect := func(ch chan<- prometheus.Metric) {
		a.err = guard(func() error {
			if asker, ok := t.sources[i].Collector.(feature.Asker); ok {
				return asker.CollectEdges(ch, func(one *feature.Edge) { addEdge(a.edges, one) })
			}
			t.sources[i].Collect(ch)
			return nil
		})
		if _, torn := a.err.(*panicked); torn {
			ch <- prometheus.NewInvalidMetric(t.edges.requests, a.err)
		}
	}
	for m := range drain(collect) {
		a.metrics = append(a.metrics, m)
	}
}

// senders are the sources that have sent metrics of one description, and these.
type senders struct {
	first   int
	several bool
	metrics []sent
}

// sent is a metric, and whether it is of this collection.
type sent struct {
	prometheus.Metric
	fresh bool
}

func (s *senders) take(from int, m prometheus.Metric, fresh bool) {
	s.several = s.several || s.first != from
	s.metrics = append(s.metrics, sent{m, fresh})
}

// send adds up the series of the same labels, which one source has none of. What
// only those have that did not answer is left out.
func (s *senders) send(ch chan<- prometheus.Metric) {
	if !s.several {
		for _, m := range s.metrics {
			if m.fresh {
				ch <- m.Metric
			}
		}
		return
	}
	twice := make(map[string]*sum)
	for _, m := range s.metrics {
		var v dto.Metric
		if err := m.Write(&v); err != nil {
			if m.fresh {
				ch <- m.Metric // whoever gathers is told
			}
			continue
		}
		k := labelsOf(&v)
		if twice[k] == nil {
			twice[k] = &sum{first: m.Metric}
		}
		twice[k].add(&v)
		twice[k].fresh = twice[k].fresh || m.fresh
	}
	for _, s := range twice {
		if s.fresh {
			ch <- s.metric()
		}
	}
}

// drain gives what a function sends.
func drain[T any](send func(chan<- T)) <-chan T {
	ch := make(chan T, 64)
	go func() {
		send(ch)
		close(ch)
	}()
	return ch
}

func labelsOf(v *dto.Metric) string {
	var b strings.Builder
	for _, l := range v.Label {
		b.WriteString("\x00" + l.GetName() + "\x00" + l.GetValue())
	}
	return b.String()
}

// sum is a series that several features may have counted in.
type sum struct {
	first prometheus.Metric
	total *dto.Metric // nil: only first
	n     int
	fresh bool // one of them is of this collection
}

func (s *sum) add(v *dto.Metric) {
	if s.n++; s.n == 1 {
		s.total = v
		return
	}
	switch h, o := s.total.Histogram, v.Histogram; {
	case h != nil && o != nil:
		*h.SampleCount += o.GetSampleCount()
		*h.SampleSum += o.GetSampleSum()
		for i, b := range o.Bucket {
			if i < len(h.Bucket) && h.Bucket[i].GetUpperBound() == b.GetUpperBound() {
				*h.Bucket[i].CumulativeCount += b.GetCumulativeCount()
			}
		}
	case s.total.Counter != nil && v.Counter != nil:
		n := s.total.Counter.GetValue() + v.Counter.GetValue()
		s.total.Counter = &dto.Counter{Value: &n} // the other is the metric's own
	}
}

func (s *sum) metric() prometheus.Metric {
	if s.n == 1 {
		return s.first
	}
	return s
}

// Desc gives the description.
func (s *sum) Desc() *prometheus.Desc { return s.first.Desc() }

// Write gives the sums.
func (s *sum) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Histogram = s.total.Label, s.total.Counter, s.total.Histogram
	return nil
}
