package traceql

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

func metricsStage(t testing.TB, text string) *Metrics {
	q, err := Parse("{} | " + text)
	require.NoError(t, err)
	return q.Metrics
}

func TestRange(t *testing.T) {
	r, err := NewRange(100, 130, 10)
	require.NoError(t, err)
	require.Equal(t, []int64{100, 110, 120, 130}, r.Times())
	first, last := r.Bounds()
	require.Equal(t, []int64{91, 130}, []int64{first, last})
	for _, c := range []struct{ at, bin int64 }{{90, -1}, {91, 0}, {100, 0}, {101, 1}, {110, 1}, {130, 3}, {131, -1}} {
		require.EqualValues(t, c.bin, r.Bin(c.at), c.at)
	}
	b := newBinner(r)
	for range 1000 {
		at := rand.Int64N(60) + 80
		require.Equal(t, r.Bin(at), b.find(at))
	}

	r, err = NewRange(100, 130, 30) // instant
	require.NoError(t, err)
	require.Equal(t, []int64{130}, r.Times())
	first, last = r.Bounds()
	require.Equal(t, []int64{101, 130}, []int64{first, last})

	for _, c := range [][3]int64{{0, 10, 0}, {10, 0, 1}, {-1, 10, 1}, {0, 1e9, 1}} {
		_, err = NewRange(c[0], c[1], c[2])
		require.Error(t, err)
	}
	start, end := AlignRange(101, 128, 10)
	require.Equal(t, []int64{100, 130}, []int64{start, end})
	require.EqualValues(t, 15e9, DefaultStep(0, 3600e9))
}

func TestSketch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, draw := range []func() float64{
		func() float64 { return math.Exp(rnd.NormFloat64() * 3) },
		func() float64 { return rnd.NormFloat64() * 1e6 },
		func() float64 { return float64(rnd.IntN(5)) },
		func() float64 { return 42 },
	} {
		var s, a, b sketch
		var all []float64
		for i := range 20_000 {
			v := draw()
			all = append(all, v)
			s.add(v)
			if i%3 == 0 {
				a.add(v)
			} else {
				b.add(v)
			}
		}
		a.merge(&b)
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1} {
			want := all[min(int(math.Ceil(q*float64(len(all))))-min(1, int(math.Ceil(q*2))), len(all)-1)]
			got := s.quantile(q)
			require.InDelta(t, want, got, math.Abs(want)*0.04+1e-9, "quantile %g", q)
			require.Equal(t, got, a.quantile(q))
		}
	}
	require.True(t, math.IsNaN((&sketch{}).quantile(0.5)))
	var s sketch
	s.add(math.MaxFloat64)
	require.Equal(t, math.MaxFloat64, s.quantile(0))
}

func TestSketchBuckets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		v := math.Float64frombits(rnd.Uint64())
		if !finite(v) {
			continue
		}
		key, bucket := place(v)
		from, to := bounds(key, bucket)
		require.True(t, from <= v && v <= to, "%g in [%g, %g]", v, from, to)
		power := powerOfTwo(v)
		if v > 0 {
			require.True(t, v <= math.Ldexp(1, int(power)))
			if up := math.Ldexp(1, int(power)-1); up > 0 {
				require.True(t, up < v)
			}
		}
	}
	require.EqualValues(t, 0, powerOfTwo(1))
	require.EqualValues(t, 2, powerOfTwo(4))
	require.EqualValues(t, 3, powerOfTwo(4.5))
	require.EqualValues(t, lowestPower, powerOfTwo(0))
}

// TestMerge checks that observations divided over accumulators, one by one or in
// batches, give what one accumulator gives.
func TestMerge(t *testing.T) {
	r, err := NewRange(0, 100, 10)
	require.NoError(t, err)
	for _, text := range []string{
		"rate()", "count_over_time()", "min_over_time(.a)", "max_over_time(.a)", "avg_over_time(.a)", "sum_over_time(duration)",
		"quantile_over_time(.a, 0.5, 0.9)", "histogram_over_time(.a)", "count_over_time() | topk(2) > 1",
	} {
		m := metricsStage(t, text)
		rnd := rand.New(rand.NewPCG(1, 1))
		one := NewAccumulator(m, r, Limits{Exemplars: 5})
		parts := [2]*Accumulator{NewAccumulator(m, r, Limits{Exemplars: 5}), NewAccumulator(m, r, Limits{Exemplars: 5})}
		for range 50 {
			part := parts[rnd.IntN(2)]
			var series, oneSeries []int32
			var starts []int64
			var values []float64
			for range rnd.IntN(20) {
				label := Int(int64(rnd.IntN(4)))
				labels := func() []KeyValue { return []KeyValue{{Key: "l", Value: label}} }
				series = append(series, part.Series(label.AppendKey(nil), labels))
				oneSeries = append(oneSeries, one.Series(label.AppendKey(nil), labels))
				starts = append(starts, int64(rnd.IntN(140))-20)
				values = append(values, float64(rnd.IntN(1000)-100))
			}
			for _, i := range part.ObserveBatch(series, starts, values, nil) {
				part.AddExemplar(series[i], signal.TraceID{1}, signal.SpanID{byte(i)}, starts[i], values[i])
			}
			for i := range starts {
				if one.Observe(oneSeries[i], starts[i], values[i]) {
					one.AddExemplar(oneSeries[i], signal.TraceID{1}, signal.SpanID{byte(i)}, starts[i], values[i])
				}
			}
		}
		parts[0].Merge(parts[1])
		want, got := one.Result(), parts[0].Result()
		require.Len(t, got.Series, len(want.Series), text)
		exemplars := 0
		for i, s := range want.Series {
			require.Equal(t, s.Labels, got.Series[i].Labels, text)
			require.InDeltaSlice(t, zeroNaN(s.Values), zeroNaN(got.Series[i].Values), 1e-9, text)
			exemplars += len(got.Series[i].Exemplars)
		}
		require.LessOrEqual(t, exemplars, 5)
		require.Greater(t, exemplars, 0, text)
	}
}

func zeroNaN(values []float64) []float64 {
	out := slices.Clone(values)
	for i, v := range out {
		if v != v {
			out[i] = -12345
		}
	}
	return out
}

func TestLimitsOfSeries(t *testing.T) {
	r, err := NewRange(0, 100, 10)
	require.NoError(t, err)
	a := NewAccumulator(metricsStage(t, "rate()"), r, Limits{MaxSeries: 2})
	none := func() []KeyValue { return nil }
	require.EqualValues(t, 0, a.Series([]byte("a"), none))
	require.EqualValues(t, 1, a.Series([]byte("b"), none))
	require.EqualValues(t, NoSeries, a.Series([]byte("c"), none))
	require.EqualValues(t, 0, a.Series([]byte("a"), none))
	require.False(t, a.Observe(NoSeries, 50, 1))
	require.Equal(t, "more than 2 series", a.Result().Stats.Partial)

	for _, text := range []string{"quantile_over_time(.a, 0.5)", "histogram_over_time(.a)", "sum_over_time(.a)"} {
		a = NewAccumulator(metricsStage(t, text), r, Limits{MaxBytes: 2000})
		for i := range 100 {
			s := a.Series([]byte{byte(i)}, none)
			a.Observe(s, 50, math.Exp(float64(i)))
		}
		require.Equal(t, "series take more than 2000 bytes", a.Partial(), text)
	}

	c := NewComparison(metricsStage(t, "compare({ .a })"), r, Limits{MaxBytes: 2000})
	for i := range 100 {
		c.Observe(c.Value(c.Attribute(Attribute{Name: "x"}), Int(int64(i))), i%2 == 0, 50)
	}
	require.Equal(t, "series take more than 2000 bytes", c.Result().Stats.Partial)
}

func TestComparisonMerge(t *testing.T) {
	r, err := NewRange(0, 100, 50)
	require.NoError(t, err)
	m := metricsStage(t, "compare({ .a }, 2)")
	one, a, b := NewComparison(m, r, Limits{}), NewComparison(m, r, Limits{}), NewComparison(m, r, Limits{})
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		part := a
		if rnd.IntN(2) == 0 {
			part = b
		}
		attr, v := Attribute{Name: string(rune('a' + rnd.IntN(3)))}, Int(int64(rnd.IntN(5)))
		start, selected := int64(rnd.IntN(120)), rnd.IntN(2) == 0
		for _, c := range []*Comparison{one, part} {
			c.Observe(c.Value(c.Attribute(attr), v), selected, start)
		}
	}
	a.Merge(b)
	require.Equal(t, one.Result(), a.Result())
}

// TestObserveAllocates checks that observations of known series do not allocate.
func TestObserveAllocates(t *testing.T) {
	r, err := NewRange(0, 100, 10)
	require.NoError(t, err)
	for _, text := range []string{"rate()", "max_over_time(.a)", "quantile_over_time(.a, 0.5)", "histogram_over_time(.a)"} {
		a := NewAccumulator(metricsStage(t, text), r, Limits{})
		key := []byte("key")
		labels := func() []KeyValue { return nil }
		observe := func() {
			s := a.Series(key, labels)
			for i := range 100 {
				a.Observe(s, int64(i), float64(i))
			}
		}
		observe()
		require.Zero(t, testing.AllocsPerRun(100, observe), text)
	}
}

// TestReservoir checks that all observations are kept about as often.
func TestReservoir(t *testing.T) {
	kept := make([]int, 100)
	r := newReservoir(10)
	for round := range 2000 {
		r = reservoir{size: 10, w: 1, rand: rand.New(rand.NewPCG(uint64(round), 1))}
		for i := range kept {
			if r.pick() {
				r.put(candidate{start: int64(i)})
			}
		}
		require.Len(t, r.kept, 10)
		for _, c := range r.kept {
			kept[c.start]++
		}
	}
	for i, n := range kept {
		require.InDelta(t, 200, n, 80, "observation %d", i)
	}
}

func BenchmarkObserveBatch(b *testing.B) {
	r, err := NewRange(0, 3600e9, 60e9)
	require.NoError(b, err)
	const n = 8192
	series, starts, values := make([]int32, n), make([]int64, n), make([]float64, n)
	for _, text := range []string{"rate()", "max_over_time(duration)", "quantile_over_time(duration, 0.99)", "histogram_over_time(duration)"} {
		b.Run(text, func(b *testing.B) {
			a := NewAccumulator(metricsStage(b, text), r, Limits{Exemplars: 100})
			for i := range n {
				series[i] = a.Series([]byte{byte(i % 20)}, func() []KeyValue { return nil })
				starts[i] = int64(i) * 1e6
				values[i] = math.Exp(rand.NormFloat64()*2 + 16)
			}
			var picked []int32
			b.ReportAllocs()
			for b.Loop() {
				picked = a.ObserveBatch(series, starts, values, picked[:0])
				for _, i := range picked {
					a.AddExemplar(series[i], signal.TraceID{}, signal.SpanID{}, starts[i], values[i])
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/span")
		})
	}
}
