package feature

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// LabelNames are the names of labels, from which the labels of many series are made
// with little memory.
type LabelNames struct {
	names []string
	order []int // indexes of names, sorted by name
}

// NewLabelNames takes the names in the order in which values are given.
func NewLabelNames(names ...string) LabelNames {
	n := LabelNames{names: names, order: make([]int, len(names))}
	for i := range names {
		n.order[i] = i
	}
	slices.SortFunc(n.order, func(a, b int) int { return cmp.Compare(names[a], names[b]) })
	return n
}

// Pairs are the labels of a series, for all of its metrics. What is not UTF-8 in a
// value is replaced.
func (n LabelNames) Pairs(values ...string) []*dto.LabelPair {
	if len(values) != len(n.names) {
		panic("BUG: labels without values, or values without labels")
	}
	made := make([]struct {
		pair  dto.LabelPair
		value string
	}, len(values))
	pairs := make([]*dto.LabelPair, len(values))
	for at, i := range n.order {
		m := &made[at]
		m.value = strings.ToValidUTF8(values[i], "\uFFFD")
		m.pair.Name, m.pair.Value = &n.names[i], &m.value
		pairs[at] = &m.pair
	}
	return pairs
}

// NewHistogram is prometheus.NewConstHistogram that takes less to make: cumulative
// has the counts at the bounds, in their order, n is the count of all. It keeps its
// arguments, none of which may change.
func NewHistogram(d *prometheus.Desc, labels []*dto.LabelPair, bounds []float64, cumulative []uint64, n uint64, sum float64) prometheus.Metric {
	return &histogram{desc: d, labels: labels, bounds: bounds, cumulative: cumulative, n: n, sum: sum}
}

type histogram struct {
	desc       *prometheus.Desc
	labels     []*dto.LabelPair
	bounds     []float64
	cumulative []uint64
	n          uint64
	sum        float64
}

// Desc gives the description.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write gives the histogram; what is written is the reader's.
func (h *histogram) Write(out *dto.Metric) error {
	made := make([]struct {
		bucket dto.Bucket
		bound  float64
		count  uint64
	}, len(h.bounds))
	buckets := make([]*dto.Bucket, len(h.bounds))
	for i := range made {
		m := &made[i]
		m.bound, m.count = h.bounds[i], h.cumulative[i]
		m.bucket.UpperBound, m.bucket.CumulativeCount = &m.bound, &m.count
		buckets[i] = &m.bucket
	}
	n, sum := h.n, h.sum
	out.Label = h.labels
	out.Histogram = &dto.Histogram{SampleCount: &n, SampleSum: &sum, Bucket: buckets}
	return nil
}

// NewCounter is prometheus.NewConstMetric of a counter with labels that are made
// already.
func NewCounter(d *prometheus.Desc, labels []*dto.LabelPair, v float64) prometheus.Metric {
	return &counter{desc: d, labels: labels, value: v}
}

type counter struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  float64
}

// Desc gives the description.
func (c *counter) Desc() *prometheus.Desc { return c.desc }

// Write gives the counter; what is written is the reader's.
func (c *counter) Write(out *dto.Metric) error {
	v := c.value
	out.Label, out.Counter = c.labels, &dto.Counter{Value: &v}
	return nil
}
