package promql

import (
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/vedette-io/vedette/storage/metric"
)

// maxReusedSamples bounds the buffers that an iterator hands on to the next.
const maxReusedSamples = 1 << 20

// millis is a time in unix milliseconds. As a name of its own it also tells vet
// that Seek is not io.Seeker's.
type millis = int64

// columnIterator walks one series' columns. Floats and histograms are two runs
// sorted by time that are merged on the way; f and h are the positions in them,
// and cur says which of the two is the current sample.
type columnIterator struct {
	samples metric.Samples
	f, h    int
	cur     chunkenc.ValueType
	err     error

	series series // what is walked

	// prev caches the float form of histogram prevIndex for reset detection, and
	// hint the outcome for that same one.
	prev      histogram.FloatHistogram
	prevIndex int
	hint      histogram.CounterResetHint
	scratch   histogram.FloatHistogram
}

var _ chunkenc.Iterator = (*columnIterator)(nil)

// reset decodes s into it.
func (it *columnIterator) reset(s series) {
	it.series = s
	it.f, it.h, it.cur, it.prevIndex = -1, -1, chunkenc.ValNone, -1
	if cap(it.samples.Times) > maxReusedSamples || cap(it.samples.Histograms) > maxReusedSamples {
		it.samples = metric.Samples{}
	}
	it.samples.Reset()
	if it.err = s.set.ctx.Err(); it.err != nil {
		return
	}
	if it.err = s.set.set.Samples(s.index, &it.samples); it.err != nil {
		it.samples.Reset()
		return
	}
	if it.err = s.set.budget.Charge(sizeOf(&it.samples)); it.err != nil {
		it.samples.Reset()
	}
}

// sizeOf returns about how many bytes of memory s's samples take.
func sizeOf(s *metric.Samples) int64 {
	n := 16*len(s.Times) + 8*len(s.Starts) + 24*len(s.HistogramTimes) + 8*len(s.HistogramStarts)
	for i := range s.Histograms {
		switch h := &s.Histograms[i]; {
		case h.Int != nil:
			n += 160 + 8*(len(h.Int.PositiveBuckets)+len(h.Int.NegativeBuckets)+
				len(h.Int.PositiveSpans)+len(h.Int.NegativeSpans)+len(h.Int.CustomValues))
		case h.Float != nil:
			n += 160 + 8*(len(h.Float.PositiveBuckets)+len(h.Float.NegativeBuckets)+
				len(h.Float.PositiveSpans)+len(h.Float.NegativeSpans)+len(h.Float.CustomValues))
		}
	}
	return int64(n)
}

// settle makes the earlier of the samples at f and h the current one.
func (it *columnIterator) settle() chunkenc.ValueType {
	s := &it.samples
	switch {
	case it.h >= len(s.HistogramTimes):
		if it.f >= len(s.Times) {
			it.cur = chunkenc.ValNone
		} else {
			it.cur = chunkenc.ValFloat
		}
	case it.f < len(s.Times) && s.Times[it.f] < s.HistogramTimes[it.h]:
		it.cur = chunkenc.ValFloat
	case s.Histograms[it.h].Int != nil:
		it.cur = chunkenc.ValHistogram
	default:
		it.cur = chunkenc.ValFloatHistogram
	}
	return it.cur
}

// Next implements chunkenc.Iterator.
func (it *columnIterator) Next() chunkenc.ValueType {
	if len(it.samples.HistogramTimes) == 0 { // fast path: floats alone
		it.h = 0
		if it.f+1 < len(it.samples.Times) {
			it.f++
			it.cur = chunkenc.ValFloat
			return chunkenc.ValFloat
		}
		it.f, it.cur = len(it.samples.Times), chunkenc.ValNone
		return chunkenc.ValNone
	}
	if it.f < 0 {
		it.f, it.h = 0, 0
		return it.settle()
	}
	switch it.cur {
	case chunkenc.ValFloat:
		it.f++
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		it.h++
	}
	return it.settle()
}

// Seek implements chunkenc.Iterator.
func (it *columnIterator) Seek(t millis) chunkenc.ValueType {
	if it.f < 0 {
		it.f, it.h = 0, 0
		it.settle()
	}
	if it.cur == chunkenc.ValNone || it.AtT() >= t {
		return it.cur
	}
	it.f = gallop(it.samples.Times, it.f, t)
	it.h = gallop(it.samples.HistogramTimes, it.h, t)
	return it.settle()
}

// gallop returns the first position from on where times is at least t. Steps
// double before a binary search, as most seeks move by a few samples.
func gallop(times []int64, from int, t int64) int {
	if from >= len(times) || times[from] >= t {
		return from
	}
	step := 1
	low := from // times[low] < t
	for low+step < len(times) && times[low+step] < t {
		low += step
		step *= 2
	}
	high := min(low+step, len(times))
	return low + 1 + sort.Search(high-low-1, func(i int) bool { return times[low+1+i] >= t })
}

// At implements chunkenc.Iterator.
func (it *columnIterator) At() (int64, float64) {
	return it.samples.Times[it.f], it.samples.Values[it.f]
}

// AtT implements chunkenc.Iterator.
func (it *columnIterator) AtT() int64 {
	if it.cur == chunkenc.ValFloat {
		return it.samples.Times[it.f]
	}
	return it.samples.HistogramTimes[it.h]
}

// AtST implements chunkenc.Iterator.
func (it *columnIterator) AtST() int64 {
	if it.cur == chunkenc.ValFloat {
		if len(it.samples.Starts) > 0 {
			return it.samples.Starts[it.f]
		}
	} else if len(it.samples.HistogramStarts) > 0 {
		return it.samples.HistogramStarts[it.h]
	}
	return 0
}

// AtHistogram implements chunkenc.Iterator. The histogram is a copy.
func (it *columnIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, src := it.samples.HistogramTimes[it.h], it.samples.Histograms[it.h].Int
	if value.IsStaleNaN(src.Sum) {
		return t, &histogram.Histogram{Sum: src.Sum}
	}
	if h == nil {
		h = src.Copy()
	} else {
		src.CopyTo(h)
	}
	h.CounterResetHint = it.resetHint()
	return t, h
}

// AtFloatHistogram implements chunkenc.Iterator. The histogram is a copy.
func (it *columnIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, src := it.samples.HistogramTimes[it.h], it.samples.Histograms[it.h]
	if src.Int != nil {
		if value.IsStaleNaN(src.Int.Sum) {
			return t, &histogram.FloatHistogram{Sum: src.Int.Sum}
		}
		fh = src.Int.ToFloat(fh)
	} else {
		if value.IsStaleNaN(src.Float.Sum) {
			return t, &histogram.FloatHistogram{Sum: src.Float.Sum}
		}
		if fh == nil {
			fh = src.Float.Copy()
		} else {
			src.Float.CopyTo(fh)
		}
	}
	fh.CounterResetHint = it.resetHint()
	return t, fh
}

// Err implements chunkenc.Iterator.
func (it *columnIterator) Err() error { return it.err }

// resetHint says what is known about the current histogram relative to the
// sample before it. A hint that a sender gave is only kept if it says "gauge":
// any other may be wrong here, where samples have been dropped, merged or cut.
// What is found by comparing is NotCounterReset or nothing; the engine compares
// for itself where nothing is known.
func (it *columnIterator) resetHint() histogram.CounterResetHint {
	cur := it.samples.Histograms[it.h]
	if hintOf(cur) == histogram.GaugeType {
		return histogram.GaugeType
	}
	if it.prevIndex == it.h {
		return it.hint
	}
	if it.f > 0 && (it.h == 0 || it.samples.Times[it.f-1] > it.samples.HistogramTimes[it.h-1]) {
		return histogram.UnknownCounterReset // a float lies between
	}
	var before metric.Histogram
	if it.h > 0 {
		before = it.samples.Histograms[it.h-1]
	} else {
		before = it.series.set.predecessor(it.series.index)
	}
	if !continues(before, cur) {
		return histogram.UnknownCounterReset
	}
	if it.h == 0 || it.prevIndex != it.h-1 {
		toFloat(before, &it.prev)
	}
	toFloat(cur, &it.scratch)
	it.prev.CounterResetHint = histogram.UnknownCounterReset
	it.scratch.CounterResetHint = histogram.UnknownCounterReset
	it.hint = histogram.NotCounterReset
	if it.scratch.DetectReset(&it.prev) {
		it.hint = histogram.UnknownCounterReset
	}
	it.prev, it.scratch = it.scratch, it.prev
	it.prevIndex = it.h
	return it.hint
}

// continues reports whether cur can be the next state of the counter that was
// at before: same kind, same buckets, neither a gauge nor stale. A zero before is
// no histogram.
func continues(before, cur metric.Histogram) bool {
	if before == (metric.Histogram{}) || hintOf(before) == histogram.GaugeType || hintOf(cur) == histogram.CounterReset {
		return false
	}
	switch {
	case before.Int != nil && cur.Int != nil:
		return !value.IsStaleNaN(before.Int.Sum) &&
			before.Int.Schema == cur.Int.Schema && before.Int.ZeroThreshold == cur.Int.ZeroThreshold &&
			slices.Equal(before.Int.CustomValues, cur.Int.CustomValues)
	case before.Float != nil && cur.Float != nil:
		return !value.IsStaleNaN(before.Float.Sum) &&
			before.Float.Schema == cur.Float.Schema && before.Float.ZeroThreshold == cur.Float.ZeroThreshold &&
			slices.Equal(before.Float.CustomValues, cur.Float.CustomValues)
	}
	return false
}

func hintOf(h metric.Histogram) histogram.CounterResetHint {
	if h.Int != nil {
		return h.Int.CounterResetHint
	}
	return h.Float.CounterResetHint
}

func toFloat(h metric.Histogram, dst *histogram.FloatHistogram) {
	if h.Int != nil {
		h.Int.ToFloat(dst)
	} else {
		h.Float.CopyTo(dst)
	}
}
