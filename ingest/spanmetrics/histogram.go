package spanmetrics

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vedette-io/vedette/internal/signal"
)

const (
	// nativeSchema is the resolution of native histograms: 8 buckets for a factor of
	// two.
	nativeSchema = 3
	// zeroNanos is the longest duration that is in a native histogram's zero bucket.
	zeroNanos = 1000

	// maxExemplars is how many examples a histogram has for a flush.
	maxExemplars = 4
)

// fractions are the bounds of nativeSchema between 0.5 and 1.
var fractions = func() (f [1 << nativeSchema]float64) {
	for i := range f {
		f[i] = math.Exp2(float64(i)/(1<<nativeSchema) - 1)
	}
	return f
}()

// nativeBucket returns the index of the native bucket that holds v > 0: it is at
// most 2^(index/8) and above 2^((index-1)/8).
func nativeBucket(v float64) int32 {
	frac, exp := math.Frexp(v)
	i := 0
	for i < len(fractions) && frac > fractions[i] {
		i++
	}
	return int32((exp-1)<<nativeSchema + i)
}

// layout is how durations are put into buckets.
type layout struct {
	bounds []int64 // nanoseconds; nil of native histograms
	les    []string
}

func newLayout(c *Config) *layout {
	l := &layout{}
	if c.Histograms == HistogramsNative {
		return l
	}
	for _, b := range c.Buckets {
		l.bounds = append(l.bounds, int64(math.Round(b*1e9)))
		l.les = append(l.les, formatFloat(b))
	}
	l.les = append(l.les, "+Inf")
	return l
}

func (l *layout) native() bool { return l.bounds == nil }

// formatFloat writes a bound as values of le are written: integers end in ".0".
func formatFloat(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	for _, c := range s {
		if c == '.' || c == 'e' {
			return s
		}
	}
	return s + ".0"
}

// example is a span that stands for the others of its bucket.
type example struct {
	trace    signal.TraceID
	span     signal.SpanID
	bucket   int32 // the classic one, or the native one's power of two
	duration int64
	end      int64
}

// examples holds the slowest span of each of the slowest buckets.
type examples struct {
	list [maxExemplars]example
	n    int
}

// offer returns where an example of a bucket and duration goes, or nil.
func (x *examples) offer(bucket int32, duration int64) *example {
	low := 0
	for i := range x.n {
		e := &x.list[i]
		if e.bucket == bucket {
			if duration >= e.duration {
				return e
			}
			return nil
		}
		if e.bucket < x.list[low].bucket {
			low = i
		}
	}
	if x.n < maxExemplars {
		x.n++
		return &x.list[x.n-1]
	}
	if bucket > x.list[low].bucket {
		return &x.list[low]
	}
	return nil
}

// sorted returns the examples by time.
func (x *examples) sorted() []example {
	list := x.list[:x.n]
	slices.SortFunc(list, func(a, b example) int { return cmp.Compare(a.end, b.end) })
	return list
}

// hist is a histogram of durations: of a shard since the last flush, or of a
// series since its start.
type hist struct {
	count  uint64
	sum    float64 // seconds
	zero   uint64  // in a native histogram's zero bucket
	lo     int32   // index of a native histogram's counts[0]
	counts []uint64
	ex     examples
}

// observe adds a span's duration, as that of n spans.
func (h *hist) observe(l *layout, s *spanRef, n uint64) {
	h.count += n
	h.sum += float64(s.duration) / 1e9 * float64(n)
	bucket := int32(0)
	if l.native() {
		if s.duration <= zeroNanos {
			h.zero += n
			bucket = math.MinInt32
		} else {
			i := nativeBucket(float64(s.duration) / 1e9)
			h.counts[h.reach(i)] += n
			bucket = i >> nativeSchema
		}
	} else {
		i := 0
		for i < len(l.bounds) && s.duration > l.bounds[i] {
			i++
		}
		if h.counts == nil {
			h.counts = make([]uint64, len(l.les))
		}
		h.counts[i] += n
		bucket = int32(i)
	}
	if e := h.ex.offer(bucket, s.duration); e != nil {
		*e = example{trace: *s.trace, span: *s.span, bucket: bucket, duration: s.duration, end: s.end}
	}
}

// reach makes room for a native bucket and returns its position. Durations span
// 63 powers of two, so there are never more than 424.
func (h *hist) reach(bucket int32) int {
	if i := bucket - h.lo; i >= 0 && int(i) < len(h.counts) {
		return int(i)
	}
	const more = 4
	lo, hi := bucket-more, bucket+more
	if len(h.counts) > 0 {
		lo, hi = min(lo, h.lo), max(hi, h.lo+int32(len(h.counts))-1)
	}
	counts := make([]uint64, hi-lo+1)
	if len(h.counts) > 0 {
		copy(counts[h.lo-lo:], h.counts)
	}
	h.lo, h.counts = lo, counts
	return int(bucket - lo)
}

// take adds what from holds, and empties from.
func (h *hist) take(from *hist) {
	if from.count == 0 {
		return
	}
	h.count += from.count
	h.sum += from.sum
	h.zero += from.zero
	if len(from.counts) > 0 {
		if h.counts == nil {
			h.lo, h.counts = from.lo, make([]uint64, len(from.counts))
		}
		h.reach(from.lo)
		at := h.reach(from.lo+int32(len(from.counts))-1) - len(from.counts) + 1
		for i, n := range from.counts {
			h.counts[at+i] += n
		}
		clear(from.counts)
	}
	for i := range from.ex.n {
		e := &from.ex.list[i]
		if to := h.ex.offer(e.bucket, e.duration); to != nil {
			*to = *e
		}
	}
	from.count, from.sum, from.zero, from.ex.n = 0, 0, 0, 0
}

// histogram returns a native histogram.
func (h *hist) histogram() *histogram.Histogram {
	out := &histogram.Histogram{Schema: nativeSchema, ZeroThreshold: zeroNanos * 1e-9, ZeroCount: h.zero, Count: h.count, Sum: h.sum}
	next, last := int32(0), int64(0)
	for i, n := range h.counts {
		if n == 0 {
			continue
		}
		at := h.lo + int32(i)
		gap := at - next
		if len(out.PositiveSpans) == 0 || gap > 2 {
			out.PositiveSpans = append(out.PositiveSpans, histogram.Span{Offset: gap})
			gap = 0
		}
		run := &out.PositiveSpans[len(out.PositiveSpans)-1]
		for range gap { // an empty bucket or two cost less than a new run
			run.Length++
			out.PositiveBuckets = append(out.PositiveBuckets, -last)
			last = 0
		}
		run.Length++
		out.PositiveBuckets = append(out.PositiveBuckets, int64(n)-last)
		last, next = int64(n), at+1
	}
	return out
}
