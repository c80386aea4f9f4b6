package encoding

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
)

// histogramChunk makes n samples of one growing histogram.
func histogramChunk(n, buckets int, float bool) []Histogram {
	rng := rand.New(rand.NewPCG(5, uint64(n)))
	abs := make([]int64, buckets)
	zero, sum := uint64(0), 0.0
	hs := make([]Histogram, n)
	for i := range hs {
		h := &histogram.Histogram{Schema: 3, ZeroThreshold: 0x1p-128, Sum: sum, CounterResetHint: histogram.NotCounterReset}
		if i == 0 {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		h.PositiveSpans = []histogram.Span{{Offset: -5, Length: uint32(buckets / 2)}, {Offset: 3, Length: uint32(buckets - buckets/2)}}
		prev := int64(0)
		for b := range abs {
			abs[b] += rng.Int64N(5)
			h.PositiveBuckets = append(h.PositiveBuckets, abs[b]-prev)
			prev = abs[b]
			h.Count += uint64(abs[b])
		}
		zero += rng.Uint64N(3)
		h.ZeroCount = zero
		h.Count += zero
		sum += rng.ExpFloat64()
		hs[i] = Histogram{Int: h}
		if float {
			hs[i] = Histogram{Float: h.ToFloat(nil)}
		}
	}
	return hs
}

func histogramCases() map[string][]Histogram {
	stale := Histogram{Int: &histogram.Histogram{Sum: staleNaN}}
	custom := Histogram{Int: &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 10, Sum: 3.5, CustomValues: []float64{0.005, 0.01, 0.025, 1, 10},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 6}}, PositiveBuckets: []int64{1, 0, 1, -1, 2, 1},
	}}
	negative := Histogram{Float: &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: -4, ZeroThreshold: 0.001, ZeroCount: 0.5, Count: 7.25, Sum: math.Inf(-1),
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}}, PositiveBuckets: []float64{1.25},
		NegativeSpans: []histogram.Span{{Offset: -3, Length: 2}}, NegativeBuckets: []float64{math.Pi, 2},
	}}
	odd := Histogram{Int: &histogram.Histogram{
		Schema: math.MinInt32, ZeroThreshold: math.NaN(), ZeroCount: math.MaxUint64, Count: 3, Sum: math.Copysign(0, -1),
		PositiveSpans: []histogram.Span{{Offset: math.MaxInt32, Length: math.MaxUint32}}, NegativeBuckets: []int64{math.MinInt64, math.MaxInt64},
	}}
	mixed := append(histogramChunk(20, 12, false), stale, custom, custom, negative, odd)
	mixed = append(mixed, histogramChunk(15, 7, true)...)
	return map[string][]Histogram{
		"empty":    {},
		"one":      histogramChunk(1, 10, false),
		"few":      histogramChunk(4, 20, false),
		"ints":     histogramChunk(120, 20, false),
		"floats":   histogramChunk(120, 20, true),
		"stale":    {stale},
		"custom":   {custom},
		"negative": {negative},
		"odd":      {odd, odd},
		"wide":     histogramChunk(2, histFlatBuckets+5, false),
		"mixed":    mixed,
	}
}

// noneIfEmpty is what decoding makes of an empty slice.
func noneIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// sameHistogram compares bit for bit: the struct's floats by their bits.
func sameHistogram(a, b Histogram) bool {
	bitsOf := func(h Histogram) [5]uint64 {
		if f := h.Float; f != nil {
			return [5]uint64{math.Float64bits(f.Sum), math.Float64bits(f.ZeroThreshold), math.Float64bits(f.Count), math.Float64bits(f.ZeroCount), 1}
		}
		return [5]uint64{math.Float64bits(h.Int.Sum), math.Float64bits(h.Int.ZeroThreshold)}
	}
	if (a.Int == nil) != (b.Int == nil) || (a.Float == nil) != (b.Float == nil) || bitsOf(a) != bitsOf(b) {
		return false
	}
	if a.Float != nil {
		x, y := *a.Float, *b.Float
		x.Sum, y.Sum, x.ZeroThreshold, y.ZeroThreshold, x.Count, y.Count, x.ZeroCount, y.ZeroCount = 0, 0, 0, 0, 0, 0, 0, 0
		same := sameBits(x.PositiveBuckets, y.PositiveBuckets) == nil && sameBits(x.NegativeBuckets, y.NegativeBuckets) == nil
		x.PositiveBuckets, y.PositiveBuckets, x.NegativeBuckets, y.NegativeBuckets = nil, nil, nil, nil
		x.PositiveSpans, x.NegativeSpans, x.CustomValues = noneIfEmpty(x.PositiveSpans), noneIfEmpty(x.NegativeSpans), noneIfEmpty(x.CustomValues)
		return same && reflect.DeepEqual(x, y)
	}
	x, y := *a.Int, *b.Int
	x.PositiveSpans, x.NegativeSpans, x.CustomValues = noneIfEmpty(x.PositiveSpans), noneIfEmpty(x.NegativeSpans), noneIfEmpty(x.CustomValues)
	x.PositiveBuckets, x.NegativeBuckets = noneIfEmpty(x.PositiveBuckets), noneIfEmpty(x.NegativeBuckets)
	x.Sum, y.Sum, x.ZeroThreshold, y.ZeroThreshold = 0, 0, 0, 0
	return reflect.DeepEqual(x, y)
}

func TestHistograms(t *testing.T) {
	for name, hs := range histogramCases() {
		t.Run(name, func(t *testing.T) {
			var s Scratch
			payload, c := AppendHistograms(nil, hs, &s)
			t.Logf("%s: %d samples, %d bytes", c, len(hs), len(payload))
			got, err := DecodeHistograms(nil, payload, c, len(hs), &s)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(hs) {
				t.Fatalf("got %d samples, want %d", len(got), len(hs))
			}
			for i := range hs {
				if !sameHistogram(hs[i], got[i]) {
					t.Fatalf("sample %d: got %v %v, want %v %v", i, got[i].Int, got[i].Float, hs[i].Int, hs[i].Float)
				}
			}
			for cut := 0; cut < len(payload); cut += 1 + len(payload)/200 {
				if _, err := DecodeHistograms(nil, payload[:cut:cut], c, len(hs), &s); err != nil && !errors.Is(err, ErrCorruption) {
					t.Fatalf("cut to %d bytes: got error %v, want ErrCorruption", cut, err)
				}
			}
		})
	}
}
