package probe

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// together is one collector of several features, which may have metrics in common,
// and of the graph of services, which several of them tell edges of. Each reads what
// it has counted once in a collection.
type together struct {
	features []prometheus.Collector
	edges    *edges
	descs    []*prometheus.Desc
	shared   map[*prometheus.Desc]int // those that several features describe, numbered by what they say
	sharing  []bool                   // of features: describes one of them

	mu sync.Mutex // held in a collection: edges compare it with the one before
}

// newTogether asks the features for their descriptions.
func newTogether(features []prometheus.Collector, e *edges) *together {
	t := &together{features: features, edges: e, shared: make(map[*prometheus.Desc]int), sharing: make([]bool, len(features))}
	type told struct {
		descs    []*prometheus.Desc
		features map[int]bool
	}
	byText := make(map[string]*told)
	for i, f := range features {
		for d := range drain(f.Describe) {
			one := byText[d.String()]
			if one == nil {
				one = &told{features: make(map[int]bool)}
				byText[d.String()] = one
				t.descs = append(t.descs, d)
			}
			one.descs = append(one.descs, d)
			one.features[i] = true
		}
	}
	number := 0
	for _, one := range byText {
		if len(one.features) < 2 {
			continue
		}
		for _, d := range one.descs {
			t.shared[d] = number
		}
		for i := range one.features {
			t.sharing[i] = true
		}
		number++
	}
	for d := range drain(e.describe) {
		t.descs = append(t.descs, d)
	}
	return t
}

// Describe sends each description once.
func (t *together) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range t.descs {
		ch <- d
	}
}

// Collect collects from each of the features. Those that see the same protocol in
// different places, inside TLS and outside, may have series of the same labels,
// as of a database that is asked both ways at one port: these are added up.
func (t *together) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums, whole := make(map[pair]*feature.Edge), true
	shared := make(map[int]*senders)
	for i, f := range t.features {
		collect := func(ch chan<- prometheus.Metric) {
			asker, asks := f.(feature.Asker)
			err := guard(func() error {
				if asks {
					return asker.CollectEdges(ch, func(one *feature.Edge) { addEdge(sums, one) })
				}
				f.Collect(ch)
				return nil
			})
			whole = whole && err == nil
			if _, torn := err.(*panicked); torn {
				ch <- prometheus.NewInvalidMetric(t.edges.requests, err)
			}
		}
		if !t.sharing[i] {
			collect(ch)
			continue
		}
		for m := range drain(collect) {
			number, ok := t.shared[m.Desc()]
			if !ok {
				ch <- m
				continue
			}
			s := shared[number]
			if s == nil {
				s = &senders{first: i}
				shared[number] = s
			}
			s.several = s.several || s.first != i
			s.metrics = append(s.metrics, m)
		}
	}
	for _, s := range shared {
		s.send(ch)
	}
	if whole {
		t.edges.collect(ch, sums)
	}
}

// senders are the features that have sent metrics of one description, and these.
type senders struct {
	first   int
	several bool
	metrics []prometheus.Metric
}

// send adds up the series of the same labels, which one feature has none of.
func (s *senders) send(ch chan<- prometheus.Metric) {
	if !s.several {
		for _, m := range s.metrics {
			ch <- m
		}
		return
	}
	twice := make(map[string]*sum)
	for _, m := range s.metrics {
		var v dto.Metric
		if err := m.Write(&v); err != nil {
			ch <- m // whoever gathers is told
			continue
		}
		k := labelsOf(&v)
		if twice[k] == nil {
			twice[k] = &sum{first: m}
		}
		twice[k].add(&v)
	}
	for _, s := range twice {
		ch <- s.metric()
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
		*s.total.Counter.Value += v.Counter.GetValue()
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
