package probe

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// together is one collector of several features, which may have metrics in
// common.
type together []prometheus.Collector

// Describe sends each description once.
func (t together) Describe(ch chan<- *prometheus.Desc) {
	sent := make(map[string]bool)
	for _, f := range t {
		for d := range drain(f.Describe) {
			if !sent[d.String()] {
				sent[d.String()] = true
				ch <- d
			}
		}
	}
}

// Collect collects from each of the features. Those that see the same protocol in
// different places, inside TLS and outside, may have series of the same labels,
// as of a database that is asked both ways at one port: these are added up.
func (t together) Collect(ch chan<- prometheus.Metric) {
	described := make(map[string]int)
	for _, f := range t {
		for d := range drain(f.Describe) {
			described[d.String()]++
		}
	}
	twice := make(map[string]*sum)
	for _, f := range t {
		for m := range drain(f.Collect) {
			if described[m.Desc().String()] < 2 {
				ch <- m
				continue
			}
			var v dto.Metric
			if err := m.Write(&v); err != nil {
				ch <- m // whoever gathers is told
				continue
			}
			k := m.Desc().String() + labelsOf(&v)
			if twice[k] == nil {
				twice[k] = &sum{first: m}
			}
			twice[k].add(&v)
		}
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
