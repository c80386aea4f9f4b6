package traceql

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/vedette-io/vedette/internal/signal"
)

// Limits bound what an accumulator takes.
type Limits struct {
	MaxSeries int // 0 is DefaultMaxSeries
	MaxBytes  int // of counters; 0 is DefaultMaxBytes
	Exemplars int // of all series together; 0 is none
}

// Default limits.
const (
	DefaultMaxSeries = 10_000
	DefaultMaxBytes  = 256 << 20
)

func (l Limits) orDefault() Limits {
	if l.MaxSeries <= 0 {
		l.MaxSeries = DefaultMaxSeries
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	return l
}

// Accumulator makes series of observations for every metrics function but
// compare(), which Comparison is for. Series are looked up once by key; an
// observation then costs an index, and no allocation:
//
//	s := a.Series(key, labels)
//	if a.Observe(s, start, value) { a.AddExemplar(s, …) }
//
// Observations that the limits leave no room for are ignored, and Partial says
// so. An accumulator belongs to one goroutine; Merge joins those of several.
type Accumulator struct {
	m      *Metrics
	r      Range
	limits Limits
	bins   binner

	index  map[string]int32
	keys   []string
	labels [][]KeyValue

	// Per series and bin, the series one after another.
	counts   []uint64  // of all but quantile and histogram
	numbers  []float64 // sums, minimums or maximums
	sketches []sketch
	hists    []histogram // per series

	bytes     int
	partial   string
	exemplars reservoir
}

// NewAccumulator returns an accumulator for a metrics stage.
func NewAccumulator(m *Metrics, r Range, l Limits) *Accumulator {
	l = l.orDefault()
	return &Accumulator{
		m: m, r: r, limits: l, bins: newBinner(r),
		index: map[string]int32{}, exemplars: newReservoir(l.Exemplars),
	}
}

// NoSeries stands for a series that the limits left no room for. Observations of
// it are ignored.
const NoSeries = -1

// Series returns the series with a key, which is made if it is new; then labels
// is called. Keys are any bytes that differ where labels do.
func (a *Accumulator) Series(key []byte, labels func() []KeyValue) int32 {
	if s, ok := a.index[string(key)]; ok {
		return s
	}
	return a.addSeries(string(key), labels)
}

func (a *Accumulator) addSeries(key string, labels func() []KeyValue) int32 {
	if len(a.keys) >= a.limits.MaxSeries {
		a.leaveOut(fmt.Sprintf("more than %d series", a.limits.MaxSeries))
		return NoSeries
	}
	n := a.r.len
	perBin := 8
	switch a.m.Func {
	case MetricsMin, MetricsMax, MetricsAvg, MetricsSum:
		perBin = 16
	case MetricsQuantile:
		perBin = int(unsafe.Sizeof(sketch{}))
	case MetricsHistogram:
		perBin = 0
	}
	if !a.take(n*perBin + len(key) + 128) {
		return NoSeries
	}
	s := int32(len(a.keys))
	a.index[key] = s
	a.keys = append(a.keys, key)
	a.labels = append(a.labels, labels())
	switch a.m.Func {
	case MetricsQuantile:
		a.sketches = appendZeros(a.sketches, n)
	case MetricsHistogram:
		a.hists = append(a.hists, histogram{})
	case MetricsMin, MetricsMax, MetricsAvg, MetricsSum:
		a.numbers = appendZeros(a.numbers, n)
		fallthrough
	default:
		a.counts = appendZeros(a.counts, n)
	}
	return s
}

func appendZeros[T any](s []T, n int) []T {
	s = slices.Grow(s, n)
	s = s[:len(s)+n]
	clear(s[len(s)-n:])
	return s
}

// take accounts for bytes; false if the limit leaves no room.
func (a *Accumulator) take(bytes int) bool {
	if a.bytes+bytes > a.limits.MaxBytes {
		a.leaveOut(fmt.Sprintf("series take more than %d bytes", a.limits.MaxBytes))
		return false
	}
	a.bytes += bytes
	return true
}

func (a *Accumulator) leaveOut(why string) {
	if a.partial == "" {
		a.partial = why
	}
}

// Partial says what was left out, if anything was.
func (a *Accumulator) Partial() string { return a.partial }

// Range returns the points in time of the series.
func (a *Accumulator) Range() Range { return a.r }

// Observe counts a span with a start and a value: a number, or nanoseconds of a
// duration; of rate and count_over_time any. It reports whether the span should
// be an exemplar: then AddExemplar follows.
func (a *Accumulator) Observe(series int32, start int64, v float64) (exemplar bool) {
	bin := a.bins.find(start)
	if bin < 0 || series < 0 {
		return false
	}
	i := int(series)*a.r.len + bin
	switch a.m.Func {
	case MetricsRate, MetricsCount:
		a.counts[i]++
	case MetricsQuantile:
		if !finite(v) || !a.observeSketch(i, v) {
			return false
		}
	case MetricsHistogram:
		if !finite(v) || !a.observeHistogram(series, bin, v) {
			return false
		}
	default:
		if v != v {
			return false
		}
		a.observeNumber(i, v)
	}
	return a.exemplars.pick()
}

// ObserveBatch does what Observe does for many spans: series and values are
// beside starts; values may be nil of rate and count_over_time. It appends the
// indexes of those that should be exemplars to picked.
func (a *Accumulator) ObserveBatch(series []int32, starts []int64, values []float64, picked []int32) []int32 {
	switch a.m.Func {
	case MetricsRate, MetricsCount:
		return a.countBatch(series, starts, picked)
	case MetricsQuantile:
		return a.sketchBatch(series, starts, values, picked)
	}
	for i, start := range starts {
		if a.Observe(series[i], start, values[i]) {
			picked = append(picked, int32(i))
		}
	}
	return picked
}

func (a *Accumulator) countBatch(series []int32, starts []int64, picked []int32) []int32 {
	n := a.r.len
	bins := a.bins
	series = series[:len(starts)]
	for i, start := range starts {
		bin := bins.find(start)
		if bin < 0 || series[i] < 0 {
			continue
		}
		a.counts[int(series[i])*n+bin]++
		if a.exemplars.pick() {
			picked = append(picked, int32(i))
		}
	}
	return picked
}

func (a *Accumulator) sketchBatch(series []int32, starts []int64, values []float64, picked []int32) []int32 {
	n := a.r.len
	bins := a.bins
	series, values = series[:len(starts)], values[:len(starts)]
	for i, start := range starts {
		bin := bins.find(start)
		if bin < 0 || series[i] < 0 || !finite(values[i]) || !a.observeSketch(int(series[i])*n+bin, values[i]) {
			continue
		}
		if a.exemplars.pick() {
			picked = append(picked, int32(i))
		}
	}
	return picked
}

func finite(v float64) bool { return v-v == 0 }

func (a *Accumulator) observeNumber(i int, v float64) {
	first := a.counts[i] == 0
	a.counts[i]++
	switch {
	case a.m.Func == MetricsAvg || a.m.Func == MetricsSum:
		a.numbers[i] += v
	case first:
		a.numbers[i] = v
	case a.m.Func == MetricsMin:
		a.numbers[i] = min(a.numbers[i], v)
	default:
		a.numbers[i] = max(a.numbers[i], v)
	}
}

func (a *Accumulator) observeSketch(i int, v float64) bool {
	if a.bytes > a.limits.MaxBytes {
		a.take(0)
		return false
	}
	a.bytes += a.sketches[i].add(v)
	return true
}

func (a *Accumulator) observeHistogram(series int32, bin int, v float64) bool {
	h := &a.hists[series]
	b := h.find(powerOfTwo(v))
	if b < 0 {
		if !a.take(8*a.r.len + 32) {
			return false
		}
		b = h.insert(powerOfTwo(v), a.r.len)
	}
	h.buckets[b].counts[bin]++
	return true
}

// histogram counts values by powers of two and bins.
type histogram struct {
	buckets []histogramBucket // rising
	first   int32             // power of index[0]
	index   []int16           // of buckets, by power; -1 is none
}

type histogramBucket struct {
	power  int32
	counts []uint64 // per bin
}

// find returns the bucket of a power, -1 if there is none.
func (h *histogram) find(power int32) int {
	if i := int(power - h.first); uint(i) < uint(len(h.index)) {
		return int(h.index[i])
	}
	return -1
}

func (h *histogram) insert(power int32, bins int) int {
	i := 0
	for i < len(h.buckets) && h.buckets[i].power < power {
		i++
	}
	h.buckets = slices.Insert(h.buckets, i, histogramBucket{power: power, counts: make([]uint64, bins)})
	h.first = h.buckets[0].power
	h.index = make([]int16, h.buckets[len(h.buckets)-1].power-h.first+1)
	for p := range h.index {
		h.index[p] = -1
	}
	for b := range h.buckets {
		h.index[h.buckets[b].power-h.first] = int16(b)
	}
	return i
}

// AddExemplar keeps a span that Observe picked.
func (a *Accumulator) AddExemplar(series int32, trace signal.TraceID, span signal.SpanID, start int64, v float64) {
	a.exemplars.put(candidate{series: series, trace: trace, span: span, start: start, value: v})
}

// Merge adds what b, an accumulator of the same stage and range, observed. B is
// not used afterwards.
func (a *Accumulator) Merge(b *Accumulator) {
	to := make([]int32, len(b.keys))
	n := a.r.len
	for s, key := range b.keys {
		series, ok := a.index[key]
		if !ok {
			series = a.addSeries(key, func() []KeyValue { return b.labels[s] })
		}
		if to[s] = series; series == NoSeries {
			continue
		}
		if a.m.Func == MetricsHistogram {
			a.mergeHistogram(&a.hists[series], &b.hists[s])
			continue
		}
		for bin := range n {
			a.mergeBin(int(series)*n+bin, b, s*n+bin)
		}
	}
	if b.partial != "" {
		a.leaveOut(b.partial)
	}
	for i := range b.exemplars.kept {
		b.exemplars.kept[i].series = to[b.exemplars.kept[i].series]
	}
	a.exemplars.merge(&b.exemplars)
}

func (a *Accumulator) mergeBin(i int, b *Accumulator, j int) {
	if a.m.Func == MetricsQuantile {
		a.bytes += a.sketches[i].merge(&b.sketches[j])
		return
	}
	switch n := b.counts[j]; {
	case n == 0 || a.m.Func == MetricsRate || a.m.Func == MetricsCount:
	case a.m.Func == MetricsAvg || a.m.Func == MetricsSum:
		a.numbers[i] += b.numbers[j]
	case a.counts[i] == 0:
		a.numbers[i] = b.numbers[j]
	case a.m.Func == MetricsMin:
		a.numbers[i] = min(a.numbers[i], b.numbers[j])
	default:
		a.numbers[i] = max(a.numbers[i], b.numbers[j])
	}
	a.counts[i] += b.counts[j]
}

func (a *Accumulator) mergeHistogram(h, o *histogram) {
	for i := range o.buckets {
		from := &o.buckets[i]
		b := h.find(from.power)
		if b < 0 {
			if !a.take(8*a.r.len + 32) {
				return
			}
			b = h.insert(from.power, a.r.len)
		}
		for bin, n := range from.counts {
			h.buckets[b].counts[bin] += n
		}
	}
}

// candidate is a span that may be an exemplar.
type candidate struct {
	series int32
	trace  signal.TraceID
	span   signal.SpanID
	start  int64
	value  float64
}

// reservoir keeps some of the observations, each with the same probability. It
// draws how many to pass over rather than a number for each.
type reservoir struct {
	size int
	kept []candidate
	seen int64
	skip int64   // observations to pass over before the next that is picked
	w    float64 // state of the draw
	rand *rand.Rand
}

func newReservoir(size int) reservoir {
	if size <= 0 {
		return reservoir{skip: math.MaxInt64}
	}
	return reservoir{size: size, w: 1, rand: rand.New(rand.NewPCG(1, 2))}
}

// pick reports whether the next observation is to be kept.
func (r *reservoir) pick() bool {
	if r.skip > 0 {
		r.skip--
		return false
	}
	return true
}

// put keeps an observation, in the place of another if there is no room, and
// draws how many to pass over: Li's algorithm L.
func (r *reservoir) put(c candidate) {
	switch {
	case r.size == 0:
		return
	case len(r.kept) < r.size:
		r.kept = append(r.kept, c)
		r.seen++
		if len(r.kept) < r.size {
			return
		}
	default:
		r.kept[r.rand.IntN(r.size)] = c
		r.seen++
	}
	r.w *= math.Exp(math.Log(1-r.rand.Float64()) / float64(r.size))
	skip := math.Floor(math.Log(1-r.rand.Float64()) / math.Log1p(-r.w))
	if r.skip = math.MaxInt64 / 2; skip < float64(r.skip) {
		r.skip = int64(skip)
	}
	r.seen += r.skip
}

// merge takes from each reservoir in proportion to what it has seen.
func (r *reservoir) merge(o *reservoir) {
	o.kept = slices.DeleteFunc(o.kept, func(c candidate) bool { return c.series < 0 })
	if len(r.kept)+len(o.kept) <= r.size {
		r.kept = append(r.kept, o.kept...)
		r.seen += o.seen
		return
	}
	var kept []candidate
	all := float64(r.seen + o.seen)
	for len(kept) < r.size && len(r.kept)+len(o.kept) > 0 {
		from := &r.kept
		if len(r.kept) == 0 || len(o.kept) > 0 && r.rand.Float64()*all < float64(o.seen) {
			from = &o.kept
		}
		last := len(*from) - 1
		i := r.rand.IntN(last + 1)
		kept = append(kept, (*from)[i])
		(*from)[i] = (*from)[last]
		*from = (*from)[:last]
	}
	r.kept = kept
	r.seen += o.seen
}
