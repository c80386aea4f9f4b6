package signal

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vedette-io/vedette/internal/labels"
)

// ByteRange is a run of bytes in a batch's Buf.
type ByteRange struct{ Off, Len uint32 }

// RangeOf returns the range [off, end).
func RangeOf(off, end int) ByteRange { return ByteRange{Off: uint32(off), Len: uint32(end - off)} }

// Metrics is one tenant's batch of metric data in columns. Rows of the series
// columns (Hash, Labels, SampleEnd) describe one series each, in the order in
// which the sender wrote them; series i owns the samples
// Times[SampleEnd[i-1]:SampleEnd[i]] and the Values beside them. Histograms,
// exemplars and metadata are rare and therefore sparse.
type Metrics struct {
	Tenant string

	// Buf holds the bytes that ByteRanges point into. It may alias the decoder's
	// input buffer and is only valid until Reset.
	Buf []byte

	Hash      []labels.Hash // identity of the series: labels.HashCanonical of its label bytes
	Labels    []ByteRange   // canonical label bytes, see internal/labels
	SampleEnd []uint32      // end of the series' samples in Times and Values

	Times  []int64 // unix milliseconds
	Values []float64

	// Starts holds the start (created) timestamp of each sample beside Times, the
	// time at which its cumulative series was zero; 0 is unknown. It is empty if
	// no float sample of the batch has one.
	Starts []int64 // unix milliseconds

	// Deltas lists the series rows, rising, whose samples say what has happened
	// since their start timestamps rather than since the series' own. Somebody has
	// to add them up before a store takes the batch.
	Deltas []uint32

	Histograms []HistogramSample
	Exemplars  []Exemplar
	Metadata   []Metadata
}

// HistogramSample is a native histogram of series Series (an index into the
// series columns). Exactly one of Int and Float is set; a store may keep them
// beyond the batch, so a decoder makes new ones.
type HistogramSample struct {
	Series uint32
	Time   int64 // unix milliseconds
	Start  int64 // start (created) timestamp, unix milliseconds; 0 is unknown
	Int    *histogram.Histogram
	Float  *histogram.FloatHistogram
}

// Exemplar is an exemplar of series Series. Labels is in the same canonical
// form as a series' labels and may be empty.
type Exemplar struct {
	Series uint32
	Time   int64 // unix milliseconds
	Value  float64
	Labels ByteRange
}

// Metadata describes a metric family. Type is Prometheus's name of the type
// ("counter", "gauge", "histogram", …, "unknown").
type Metadata struct {
	Family string
	Type   string
	Help   string
	Unit   string
}

// Reset empties m for reuse and keeps its capacity.
func (m *Metrics) Reset() {
	clear(m.Histograms)
	clear(m.Metadata)
	*m = Metrics{
		Buf:        m.Buf[:0],
		Hash:       m.Hash[:0],
		Labels:     m.Labels[:0],
		SampleEnd:  m.SampleEnd[:0],
		Times:      m.Times[:0],
		Values:     m.Values[:0],
		Histograms: m.Histograms[:0],
		Exemplars:  m.Exemplars[:0],
		Metadata:   m.Metadata[:0],
		Starts:     m.Starts[:0],
		Deltas:     m.Deltas[:0],
	}
}

// Bytes returns the bytes of r.
func (m *Metrics) Bytes(r ByteRange) []byte {
	return m.Buf[r.Off : r.Off+r.Len : r.Off+r.Len]
}

// Samples returns how many samples, float and histogram, the batch holds.
func (m *Metrics) Samples() int { return len(m.Times) + len(m.Histograms) }

// AppendResult says what a store did with a batch. Counts are of samples
// unless the name says otherwise.
type AppendResult struct {
	Appended   int // floats and histograms that became queryable
	Histograms int // of Appended, those that are histograms
	Exemplars  int // exemplars that were stored

	Duplicates  int // same series, timestamp and value as a stored sample: dropped, not an error
	Conflicts   int // same series and timestamp, other value: the first one stays
	TooOld      int // older than the series' newest sample by more than the out-of-order window
	OutOfBounds int // outside retention, or too far in the future
	SeriesLimit int // of series that a cardinality limit refused

	// FirstError describes the first rejected sample for a person; empty if
	// nothing was rejected.
	FirstError string
}

// Rejected returns how many samples were refused for a reason the sender
// should hear of.
func (r AppendResult) Rejected() int {
	return r.Conflicts + r.TooOld + r.OutOfBounds + r.SeriesLimit
}
