package metric

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Selector says which data of a tenant is meant: series that satisfy every
// matcher, samples with MinTime <= time <= MaxTime (unix milliseconds, both
// inclusive).
type Selector struct {
	Tenant   string
	MinTime  int64
	MaxTime  int64
	Matchers []*labels.Matcher
	// Limit bounds how many series, names or values are returned; 0 is no limit.
	Limit int
	// Charge, if set, is told about how many bytes of memory Select takes for
	// series, before it takes them; its error ends the Select.
	Charge func(bytes int64) error
}

// Histogram is a native histogram sample's value; exactly one field is set.
type Histogram struct {
	Int   *histogram.Histogram
	Float *histogram.FloatHistogram
}

// Samples is one series' data in columns, sorted by time, no timestamp twice
// within or across the two kinds.
type Samples struct {
	Times  []int64 // unix milliseconds
	Values []float64

	HistogramTimes []int64
	Histograms     []Histogram

	// Starts and HistogramStarts hold each sample's start timestamp (the time at
	// which its cumulative series was zero; 0 is unknown) beside Times and
	// HistogramTimes. Either is empty when none of its samples has one.
	Starts          []int64
	HistogramStarts []int64
}

// Reset empties s and keeps its capacity.
func (s *Samples) Reset() {
	clear(s.Histograms)
	*s = Samples{
		Times:           s.Times[:0],
		Values:          s.Values[:0],
		HistogramTimes:  s.HistogramTimes[:0],
		Histograms:      s.Histograms[:0],
		Starts:          s.Starts[:0],
		HistogramStarts: s.HistogramStarts[:0],
	}
}

// Exemplar is a stored exemplar.
type Exemplar struct {
	Time   int64 // unix milliseconds
	Value  float64
	Labels labels.Labels
}

// SeriesExemplars are the exemplars of one series, oldest first.
type SeriesExemplars struct {
	Series    labels.Labels
	Exemplars []Exemplar
}

// FamilyMetadata is what was last said about a metric family.
type FamilyMetadata struct {
	Family string
	Type   string
	Help   string
	Unit   string
}
