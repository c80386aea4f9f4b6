package statsd

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

const (
	// fineSchema is the resolution of quantiles: 32 buckets for a factor of two, so
	// a value is known to 1.1%.
	fineSchema = 5
	// nativeSchema is the resolution that native histograms begin with.
	nativeSchema = 3
	// Widths at which a sketch goes to half its resolution.
	maxFineBuckets   = 512
	maxNativeBuckets = 160

	lowestSchema = -4
	zeroAbs      = 0x1p-128 // up to here a value counts as zero
)

// fractions are the bounds of fineSchema between 0.5 and 1.
var fractions = func() (f [1 << fineSchema]float64) {
	for i := range f {
		f[i] = math.Exp2(float64(i)/(1<<fineSchema) - 1)
	}
	return f
}()

// bucketOf returns the index of the bucket of fineSchema that holds v > 0: it is
// at most 2^(index/32) and above 2^((index-1)/32).
func bucketOf(v float64) int32 {
	frac, exp := math.Frexp(v)
	i, _ := slices.BinarySearch(fractions[:], frac)
	return int32((exp-1)<<fineSchema + i)
}

// window counts in a dense run of buckets.
type window[C uint32 | uint64] struct {
	lo     int32
	counts []C
}

// add adds to a bucket; it reports false if the window had to be wider than most.
func (w *window[C]) add(bucket int32, n C, most int) bool {
	i := int(bucket - w.lo)
	if uint(i) >= uint(len(w.counts)) {
		if i = w.widen(bucket, most); i < 0 {
			return false
		}
	}
	if sum := w.counts[i] + n; sum >= n {
		w.counts[i] = sum
	} else {
		w.counts[i] = ^C(0)
	}
	return true
}

// widen makes room for a bucket, and some more beside it, and returns its
// position, or -1.
func (w *window[C]) widen(bucket int32, most int) int {
	const more = 8
	lo, hi := bucket-more/2, bucket+more/2
	if len(w.counts) > 0 {
		last := w.lo + int32(len(w.counts)) - 1
		if int(max(last, bucket))-int(min(w.lo, bucket))+1 > most {
			return -1
		}
		lo, hi = min(w.lo, bucket), max(last, bucket)
		if bucket < w.lo {
			lo = max(bucket-more, hi-int32(most)+1)
		} else {
			hi = min(bucket+more, lo+int32(most)-1)
		}
	}
	counts := make([]C, hi-lo+1)
	if len(w.counts) > 0 {
		copy(counts[w.lo-lo:], w.counts)
	}
	w.lo, w.counts = lo, counts
	return int(bucket - lo)
}

// coarsen halves the resolution.
func (w *window[C]) coarsen() {
	if len(w.counts) == 0 {
		return
	}
	lo := (w.lo + 1) >> 1
	for i, n := range w.counts {
		to := (w.lo+int32(i)+1)>>1 - lo
		if int(to) == i {
			continue
		}
		w.counts[i] = 0
		w.counts[to] += n
	}
	hi := (w.lo + int32(len(w.counts))) >> 1 // of the last bucket
	w.lo, w.counts = lo, w.counts[:hi-lo+1]
}

// sketch is a histogram with exponential buckets, as native histograms have.
type sketch[C uint32 | uint64] struct {
	schema   int32
	most     int
	zero     C
	pos, neg window[C]
	min, max float64
	any      bool
}

// observe adds n observations of v.
func (k *sketch[C]) observe(v float64, n C) {
	if !k.any {
		k.any, k.min, k.max = true, v, v
	}
	k.min, k.max = min(k.min, v), max(k.max, v)
	abs := math.Abs(v)
	if abs <= zeroAbs {
		k.zero += n
		return
	}
	w := &k.pos
	if v < 0 {
		w = &k.neg
	}
	k.add(w, fineSchema, bucketOf(abs), n)
}

// add adds to a bucket of a schema that is at least the sketch's.
func (k *sketch[C]) add(w *window[C], schema, bucket int32, n C) {
	for {
		shift := schema - k.schema
		if w.add((bucket+1<<shift-1)>>shift, n, k.most) {
			return
		}
		if k.schema == lowestSchema {
			return // 16 powers of two a bucket: all floats fit in
		}
		k.schema--
		k.pos.coarsen()
		k.neg.coarsen()
	}
}

// bytes is the memory of the buckets.
func (k *sketch[C]) bytes() int {
	var c C
	size := 4
	if uint64(^c) > math.MaxUint32 {
		size = 8
	}
	return size * (cap(k.pos.counts) + cap(k.neg.counts))
}

// merge adds another sketch, whose schema is at least that of k.
func (k *sketch[C]) merge(o *sketch[C]) {
	if !o.any {
		return
	}
	if !k.any {
		k.any, k.min, k.max = true, o.min, o.max
	}
	k.min, k.max = min(k.min, o.min), max(k.max, o.max)
	k.zero += o.zero
	for i, n := range o.pos.counts {
		if n > 0 {
			k.add(&k.pos, o.schema, o.pos.lo+int32(i), n)
		}
	}
	for i, n := range o.neg.counts {
		if n > 0 {
			k.add(&k.neg, o.schema, o.neg.lo+int32(i), n)
		}
	}
}

// quantiles puts the quantiles of rising qs into dst; they are NaN of an empty
// sketch.
func (k *sketch[C]) quantiles(qs []float64, dst []float64) {
	total := uint64(k.zero)
	for _, n := range k.pos.counts {
		total += uint64(n)
	}
	for _, n := range k.neg.counts {
		total += uint64(n)
	}
	at, seen := 0, uint64(0)
	put := func(n C, v float64) {
		seen += uint64(n)
		for at < len(qs) && float64(seen) >= qs[at]*float64(total) && seen > 0 {
			dst[at] = min(max(v, k.min), k.max)
			at++
		}
	}
	middle := func(w *window[C], i int) float64 {
		return math.Exp2((float64(w.lo) + float64(i) - 0.5) * math.Exp2(-float64(k.schema)))
	}
	for i := len(k.neg.counts) - 1; i >= 0; i-- {
		put(k.neg.counts[i], -middle(&k.neg, i))
	}
	put(k.zero, 0)
	for i, n := range k.pos.counts {
		put(n, middle(&k.pos, i))
	}
	for ; at < len(qs); at++ {
		dst[at] = math.NaN()
	}
}

// native returns a sketch as a native histogram.
func native(k *sketch[uint64], count uint64, sum float64) *histogram.Histogram {
	h := &histogram.Histogram{Schema: k.schema, ZeroThreshold: zeroAbs, ZeroCount: k.zero, Count: count, Sum: sum}
	h.PositiveSpans, h.PositiveBuckets = spans(&k.pos)
	h.NegativeSpans, h.NegativeBuckets = spans(&k.neg)
	return h
}

// spans writes a window as native histograms do: runs of buckets, and counts as
// differences. An empty bucket or two inside a run cost less than a new run.
func spans(w *window[uint64]) (runs []histogram.Span, deltas []int64) {
	next, last := int32(0), int64(0)
	for i, n := range w.counts {
		if n == 0 {
			continue
		}
		at := w.lo + int32(i)
		gap := at - next
		switch {
		case len(runs) == 0 || gap > 2:
			runs = append(runs, histogram.Span{Offset: gap})
		default:
			for range gap {
				runs[len(runs)-1].Length++
				deltas = append(deltas, -last)
				last = 0
			}
		}
		runs[len(runs)-1].Length++
		deltas = append(deltas, int64(n)-last)
		last, next = int64(n), at+1
	}
	return runs, deltas
}

// ages of a summary: quantiles are those of the last window's five parts.
const (
	ages      = 5
	ageMillis = 2 * 60 * 1000
)

// summary holds the sketches that quantiles are made of.
type summary struct {
	parts [ages]sketch[uint32]
	epoch int64 // of the part that is filled
}

func newSummary(epoch int64) *summary {
	s := &summary{epoch: epoch}
	for i := range s.parts {
		s.parts[i] = sketch[uint32]{schema: fineSchema, most: maxFineBuckets}
	}
	return s
}

func (s *summary) current() *sketch[uint32] { return &s.parts[s.epoch%ages] }

// turn goes on to an epoch and forgets what is too old; it returns how many
// bytes that gives back.
func (s *summary) turn(epoch int64) (freed int) {
	if epoch <= s.epoch {
		return 0
	}
	for e := max(s.epoch+1, epoch-ages+1); e <= epoch; e++ {
		p := &s.parts[e%ages]
		freed += p.bytes()
		*p = sketch[uint32]{schema: fineSchema, most: maxFineBuckets}
	}
	s.epoch = epoch
	return freed
}

func (s *summary) bytes() (n int) {
	for i := range s.parts {
		n += s.parts[i].bytes()
	}
	return n
}

// merged adds all parts up into k.
func (s *summary) merged(k *sketch[uint32]) {
	schema := int32(fineSchema)
	for i := range s.parts {
		schema = min(schema, s.parts[i].schema)
	}
	*k = sketch[uint32]{schema: schema, most: maxFineBuckets}
	for i := range s.parts {
		k.merge(&s.parts[i])
	}
}
