package host

import (
	"errors"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

const (
	// maxSamples bounds what one part yields in a collection. Nothing real comes
	// near it; it keeps a machine gone wrong from flooding the store.
	maxSamples = 20_000

	// maxNames bounds the families whose names come out of files.
	maxNames = 4_000
)

// errTooMany is what a part fails with that has yielded maxSamples samples.
var errTooMany = errors.New("got too many samples, the rest is left out")

// family is a metric with all its series.
type family struct {
	name   string
	help   string
	kind   dto.MetricType
	labels []string
	desc   *prometheus.Desc

	known map[string]*series // by label values
	round uint64             // when it was last yielded
	live  int                // series yielded in that round
}

// series is one label set of a family; it does not change once it is made, but
// for round, which only its part looks at.
type series struct {
	of    *family
	pairs []*dto.LabelPair
	round uint64
}

func counter(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_COUNTER, name, help, labels)
}

func gauge(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_GAUGE, name, help, labels)
}

func untyped(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_UNTYPED, name, help, labels)
}

func newFamily(kind dto.MetricType, name, help string, labels []string) *family {
	name = validName(name)
	help = strings.ToValidUTF8(help, "\uFFFD")
	return &family{
		name: name, help: help, kind: kind, labels: labels,
		desc:  prometheus.NewDesc(name, help, labels, nil),
		known: map[string]*series{},
	}
}

// validName replaces what a metric name may not hold.
func validName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == ':' {
			return r
		}
		return '_'
	}, name)
}

// forget drops the series that the round did not yield, once they are many.
func (f *family) forget() {
	if len(f.known) <= 2*f.live+16 {
		return
	}
	for key, s := range f.known {
		if s.round != f.round {
			delete(f.known, key)
		}
	}
}

func (f *family) series(key []byte, values []string) *series {
	if s := f.known[string(key)]; s != nil {
		return s
	}
	s := &series{of: f, pairs: make([]*dto.LabelPair, len(values))}
	for i, v := range values {
		s.pairs[i] = &dto.LabelPair{Name: proto.String(f.labels[i]), Value: proto.String(strings.ToValidUTF8(v, "\uFFFD"))}
	}
	slices.SortFunc(s.pairs, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	f.known[string(key)] = s
	return s
}

// names makes families of names that come out of files.
type names struct {
	make func(name string) *family // nil: not wanted
	have map[string]*family
}

func newNames(f func(name string) *family) *names { return &names{f, map[string]*family{}} }

func (n *names) get(name []byte) *family {
	f, ok := n.have[string(name)]
	if !ok {
		if len(n.have) >= maxNames {
			clear(n.have)
		}
		f = n.make(string(name))
		n.have[string(name)] = f
	}
	return f
}

// sample is one value of one series.
type sample struct {
	series *series
	value  float64
}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.series.of.desc }

// Write implements prometheus.Metric. The label pairs are shared, the capacity of
// their slice is not.
func (s *sample) Write(m *dto.Metric) error {
	m.Label = slices.Clip(s.series.pairs)
	switch s.series.of.kind {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: &s.value}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: &s.value}
	default:
		m.Untyped = &dto.Untyped{Value: &s.value}
	}
	return nil
}

// batch is what a part yields in one collection, its round.
type batch struct {
	round   uint64
	samples []sample
	other   []textMetric // of text files, see textfile.go
	touched []*family
	full    bool
	key     []byte
}

// add yields a value of the series with these label values; the first one counts
// if there are several.
func (b *batch) add(f *family, value float64, labels ...string) {
	if len(labels) != len(f.labels) {
		panic("BUG: " + f.name + " wants other labels")
	}
	if len(b.samples) >= maxSamples {
		b.full = true
		return
	}
	if f.round != b.round {
		f.round, f.live = b.round, 0
		b.touched = append(b.touched, f)
	}
	b.key = b.key[:0]
	for _, v := range labels {
		b.key = append(append(b.key, v...), 0xff)
	}
	s := f.series(b.key, labels)
	if s.round == b.round {
		return
	}
	s.round = b.round
	f.live++
	b.samples = append(b.samples, sample{s, value})
}

// finish ends the round.
func (b *batch) finish() error {
	for _, f := range b.touched {
		f.forget()
	}
	if b.full {
		return errTooMany
	}
	return nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
