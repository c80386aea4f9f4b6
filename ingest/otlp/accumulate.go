package otlp

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	// staleAfter is how long a stream may be silent before its sum is forgotten.
	staleAfter = 5 * time.Minute

	sweepEvery = time.Minute

	// maxNativeBuckets is how many buckets a sum of native histograms has at most;
	// beyond, its resolution is halved.
	maxNativeBuckets = 160
)

// Accumulator turns deltas into cumulative values: it keeps the sum of every
// stream, which is a series of a tenant. It belongs to one partition, whose
// batches it is given in order, and is used by one goroutine.
//
// Nothing of it is durable. After a restart every sum begins at zero again, with
// the start timestamp of the first delta that is seen: to a query this is a
// counter reset, as it is when a stream comes back after five silent minutes.
type Accumulator struct {
	max     int
	streams map[streamKey]*stream
	swept   time.Time
	drops   []uint32 // indexes of samples, rising
}

type streamKey struct {
	tenant string
	hash   labels.Hash
}

// stream is the sum of a series' deltas so far.
type stream struct {
	value       float64
	hist        *histogram.FloatHistogram // instead of value
	start, time int64                     // of the sum, and of the last delta
	seen        time.Time
}

// AccumulateResult counts what Apply did with the samples of delta rows.
type AccumulateResult struct {
	Added       int // made cumulative
	OutOfOrder  int // dropped: not newer than the last delta of the stream, duplicates among them
	OlderStart  int // dropped: of an interval that began before the stream did
	StreamLimit int // dropped: of a stream beyond the limit
}

// Dropped returns how many samples were taken out of the batch.
func (r AccumulateResult) Dropped() int { return r.OutOfOrder + r.OlderStart + r.StreamLimit }

// NewAccumulator returns an Accumulator that keeps at most maxStreams sums; 0 is
// no limit.
func NewAccumulator(maxStreams int) *Accumulator {
	if maxStreams <= 0 {
		maxStreams = math.MaxInt
	}
	return &Accumulator{max: maxStreams, streams: make(map[streamKey]*stream)}
}

// Streams returns how many sums are kept.
func (a *Accumulator) Streams() int { return len(a.streams) }

// Apply makes the rows in b.Deltas cumulative, in place, and empties the list.
// Samples that do not continue their stream are taken out of the batch, and the
// exemplars of rows that have none left; rows stay, so that nothing else changes
// its place. now is the time by which streams are forgotten.
func (a *Accumulator) Apply(b *signal.Metrics, now time.Time) AccumulateResult {
	var res AccumulateResult
	a.sweep(now)
	if len(b.Deltas) == 0 {
		return res
	}
	a.drops = a.drops[:0]
	for _, row := range b.Deltas {
		begin := uint32(0)
		if row > 0 {
			begin = b.SampleEnd[row-1]
		}
		key := streamKey{b.Tenant, b.Hash[row]}
		for i := begin; i < b.SampleEnd[row]; i++ {
			if !a.number(b, key, i, now, &res) {
				a.drops = append(a.drops, i)
			}
		}
	}
	histograms := b.Histograms[:0]
	for _, h := range b.Histograms {
		if _, isDelta := slices.BinarySearch(b.Deltas, h.Series); isDelta {
			if !a.histogram(&h, streamKey{b.Tenant, b.Hash[h.Series]}, now, &res) {
				continue
			}
		}
		histograms = append(histograms, h)
	}
	clear(b.Histograms[len(histograms):])
	b.Histograms = histograms
	if res.Dropped() > 0 {
		a.compact(b)
	}
	b.Deltas = b.Deltas[:0]
	return res
}

// sweep forgets streams that have been silent for too long.
func (a *Accumulator) sweep(now time.Time) {
	if now.Sub(a.swept) < sweepEvery {
		return
	}
	a.swept = now
	for key, s := range a.streams {
		if now.Sub(s.seen) > staleAfter {
			delete(a.streams, key)
		}
	}
}

// admit finds the stream of a delta. isNew says that the delta is its first one;
// nil that the delta is to be dropped.
func (a *Accumulator) admit(key streamKey, start, t int64, now time.Time, res *AccumulateResult) (s *stream, isNew bool) {
	s, ok := a.streams[key]
	switch {
	case ok && now.Sub(s.seen) > staleAfter:
		*s = stream{start: start}
		isNew = true
	case ok && start != 0 && start < s.start:
		res.OlderStart++
		return nil, false
	case ok && t <= s.time:
		res.OutOfOrder++
		return nil, false
	case !ok && len(a.streams) >= a.max:
		res.StreamLimit++
		return nil, false
	case !ok:
		s, isNew = &stream{start: start}, true
		a.streams[key] = s
	}
	s.time, s.seen = t, now
	res.Added++
	return s, isNew
}

// number adds the float sample i to its stream and makes it the sum.
func (a *Accumulator) number(b *signal.Metrics, key streamKey, i uint32, now time.Time, res *AccumulateResult) bool {
	start := int64(0)
	if len(b.Starts) > 0 {
		start = b.Starts[i]
	}
	v := b.Values[i]
	if value.IsStaleNaN(v) && a.streams[key] == nil {
		return true // the end of nothing
	}
	s, _ := a.admit(key, start, b.Times[i], now, res)
	if s == nil {
		return false
	}
	if !value.IsStaleNaN(v) {
		s.hist = nil
		s.value += v
		b.Values[i] = s.value
	}
	if len(b.Starts) == 0 && s.start != 0 {
		b.Starts = append(b.Starts, make([]int64, len(b.Times))...)
	}
	if len(b.Starts) > 0 {
		b.Starts[i] = s.start
	}
	return true
}

// histogram adds a native histogram to its stream and makes it the sum.
func (a *Accumulator) histogram(h *signal.HistogramSample, key streamKey, now time.Time, res *AccumulateResult) bool {
	delta := h.Float
	if h.Int != nil {
		delta = h.Int.ToFloat(nil)
	}
	isStale := value.IsStaleNaN(delta.Sum)
	if isStale && a.streams[key] == nil {
		return true
	}
	s, isNew := a.admit(key, h.Start, h.Time, now, res)
	if s == nil {
		return false
	}
	if isStale {
		h.Start = s.start
		return true
	}
	if isNew || s.hist == nil || !s.add(delta) {
		// The first one, or one with other boundaries: the stream starts anew.
		if !isNew {
			s.start = h.Start
		}
		s.value, s.hist = 0, delta.Copy()
	}
	s.limitBuckets()
	h.Start = s.start
	if h.Int != nil {
		h.Int = toInt(s.hist)
	} else {
		h.Float = s.hist.Copy()
	}
	return true
}

// add adds delta to the sum; false says that they do not go together.
func (s *stream) add(delta *histogram.FloatHistogram) bool {
	if s.hist.UsesCustomBuckets() != delta.UsesCustomBuckets() ||
		s.hist.UsesCustomBuckets() && !slices.Equal(s.hist.CustomValues, delta.CustomValues) {
		return false
	}
	_, _, _, err := s.hist.Add(delta)
	return err == nil
}

// limitBuckets lowers the resolution until there are not too many buckets.
func (s *stream) limitBuckets() {
	h := s.hist
	for !h.UsesCustomBuckets() && h.Schema > histogram.ExponentialSchemaMin &&
		max(len(h.PositiveBuckets), len(h.NegativeBuckets)) > maxNativeBuckets {
		if h.ReduceResolution(h.Schema-1) != nil {
			return
		}
	}
}

// toInt returns a float histogram of whole numbers as an integer one.
func toInt(f *histogram.FloatHistogram) *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.UnknownCounterReset,
		Schema:           f.Schema, ZeroThreshold: f.ZeroThreshold,
		ZeroCount: uint64(f.ZeroCount), Count: uint64(f.Count), Sum: f.Sum,
		PositiveSpans: slices.Clone(f.PositiveSpans), PositiveBuckets: deltasOf(f.PositiveBuckets),
		NegativeSpans: slices.Clone(f.NegativeSpans), NegativeBuckets: deltasOf(f.NegativeBuckets),
		CustomValues: slices.Clone(f.CustomValues),
	}
}

func deltasOf(counts []float64) []int64 {
	if len(counts) == 0 {
		return nil
	}
	out := make([]int64, len(counts))
	last := int64(0)
	for i, c := range counts {
		out[i] = int64(c) - last
		last = int64(c)
	}
	return out
}

// compact takes the samples in a.drops out of the batch, and the exemplars of
// rows that have none left.
func (a *Accumulator) compact(b *signal.Metrics) {
	rows := make([]bool, len(b.Hash)) // that have something
	n, d, i := 0, 0, 0
	for row := range b.SampleEnd {
		for ; i < int(b.SampleEnd[row]); i++ {
			if d < len(a.drops) && a.drops[d] == uint32(i) {
				d++
				continue
			}
			b.Times[n], b.Values[n] = b.Times[i], b.Values[i]
			if len(b.Starts) > 0 {
				b.Starts[n] = b.Starts[i]
			}
			n++
			rows[row] = true
		}
		b.SampleEnd[row] = uint32(n)
	}
	b.Times, b.Values = b.Times[:n], b.Values[:n]
	if len(b.Starts) > 0 {
		b.Starts = b.Starts[:n]
	}
	for _, h := range b.Histograms {
		rows[h.Series] = true
	}
	b.Exemplars = slices.DeleteFunc(b.Exemplars, func(e signal.Exemplar) bool { return !rows[e.Series] })
}
