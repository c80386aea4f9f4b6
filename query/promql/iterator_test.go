package promql

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/vedette-io/vedette/storage/metric"
)

// fixedSet is a set of given series.
type fixedSet struct {
	labels  []labels.Labels
	samples []metric.Samples
	err     error
	warned  []error
	closed  int
}

func (s *fixedSet) Len() int                   { return len(s.samples) }
func (s *fixedSet) Labels(i int) labels.Labels { return s.labels[i] }
func (s *fixedSet) Close()                     { s.closed++ }
func (s *fixedSet) Warnings() []error          { return s.warned }
func (s *fixedSet) Samples(i int, dst *metric.Samples) error {
	dst.Reset()
	src := s.samples[i]
	dst.Times = append(dst.Times, src.Times...)
	dst.Values = append(dst.Values, src.Values...)
	dst.Starts = append(dst.Starts, src.Starts...)
	dst.HistogramTimes = append(dst.HistogramTimes, src.HistogramTimes...)
	dst.Histograms = append(dst.Histograms, src.Histograms...)
	dst.HistogramStarts = append(dst.HistogramStarts, src.HistogramStarts...)
	return s.err
}

// fixedStore answers every selection with set.
type fixedStore struct{ set *fixedSet }

func (s fixedStore) Select(ctx context.Context, sel metric.Selector) (SeriesSet, error) {
	if sel.MaxTime < 0 {
		return &fixedSet{}, nil // what lies behind
	}
	for _, l := range s.set.labels {
		if err := sel.Charge(int64(l.ByteSize())); err != nil {
			return nil, err
		}
	}
	return s.set, ctx.Err()
}
func (s fixedStore) LabelNames(context.Context, metric.Selector) ([]string, error) { return nil, nil }
func (s fixedStore) LabelValues(context.Context, string, metric.Selector) ([]string, error) {
	return nil, nil
}
func (s fixedStore) Exemplars(context.Context, string, int64, int64, [][]*labels.Matcher) ([]metric.SeriesExemplars, error) {
	return nil, nil
}

func iterate(t *testing.T, s metric.Samples, reuse chunkenc.Iterator) chunkenc.Iterator {
	t.Helper()
	set := &fixedSet{labels: []labels.Labels{labels.FromStrings("a", "b")}, samples: []metric.Samples{s}}
	q, err := NewQueryable(fixedStore{set}, 0).Querier(0, 1<<60)
	if err != nil {
		t.Fatal(err)
	}
	found := q.Select(t.Context(), false, nil)
	if !found.Next() {
		t.Fatal("no series")
	}
	return found.At().Iterator(reuse)
}

// mixedSamples makes n samples of either kind at rising times.
func mixedSamples(r *rand.Rand, n int) (s metric.Samples, times []int64) {
	t := int64(0)
	for range n {
		t += 1 + r.Int64N(5)
		times = append(times, t)
		switch r.IntN(4) {
		case 0:
			s.HistogramTimes = append(s.HistogramTimes, t)
			s.Histograms = append(s.Histograms, metric.Histogram{Int: tsdbutil.GenerateTestHistogram(t)})
		case 1:
			s.HistogramTimes = append(s.HistogramTimes, t)
			s.Histograms = append(s.Histograms, metric.Histogram{Float: tsdbutil.GenerateTestFloatHistogram(t)})
		default:
			s.Times = append(s.Times, t)
			s.Values = append(s.Values, float64(t))
		}
	}
	return s, times
}

func TestIteratorAgainstModel(t *testing.T) {
	var reuse chunkenc.Iterator
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		samples, times := mixedSamples(r, r.IntN(60))
		if seed%2 == 0 { // the fast path for floats alone
			samples.HistogramTimes, samples.Histograms = nil, nil
			times = samples.Times
		}
		it := iterate(t, samples, reuse)
		reuse = it
		at := -1 // position in times
		for range 80 {
			var got chunkenc.ValueType
			if r.IntN(2) == 0 {
				got = it.Next()
				at++
			} else {
				target := r.Int64N(200)
				got = it.Seek(target)
				at = max(at, 0)
				for at < len(times) && times[at] < target {
					at++
				}
			}
			if at >= len(times) {
				if got != chunkenc.ValNone {
					t.Fatalf("seed %d: got %v after the end", seed, got)
				}
				break
			}
			checkSample(t, seed, it, got, times[at], samples)
		}
		if it.Err() != nil {
			t.Fatalf("seed %d: %v", seed, it.Err())
		}
	}
}

func checkSample(t *testing.T, seed uint64, it chunkenc.Iterator, got chunkenc.ValueType, want int64, s metric.Samples) {
	t.Helper()
	if got == chunkenc.ValNone || it.AtT() != want {
		t.Fatalf("seed %d: got %v at %d, want time %d", seed, got, it.AtT(), want)
	}
	if got == chunkenc.ValFloat {
		if ts, v := it.At(); ts != want || v != float64(want) {
			t.Fatalf("seed %d: float %v at %d, want %d", seed, v, ts, want)
		}
		return
	}
	h := s.Histograms[slices.Index(s.HistogramTimes, want)]
	ts, fh := it.AtFloatHistogram(nil)
	fh.CounterResetHint = histogram.UnknownCounterReset
	if h.Int != nil {
		if got != chunkenc.ValHistogram || !fh.Equals(h.Int.ToFloat(nil)) {
			t.Fatalf("seed %d: got %v %v at %d, want %v", seed, got, fh, ts, h.Int)
		}
		return
	}
	if got != chunkenc.ValFloatHistogram || !fh.Equals(h.Float) {
		t.Fatalf("seed %d: got %v %v at %d, want %v", seed, got, fh, ts, h.Float)
	}
}

func TestGallop(t *testing.T) {
	times := []int64{1, 3, 5, 7, 9, 11, 13, 15, 17}
	for from := range len(times) + 1 {
		for target := range int64(20) {
			want := from
			for want < len(times) && times[want] < target {
				want++
			}
			if got := gallop(times, from, target); got != want {
				t.Errorf("gallop(from %d, %d) = %d, want %d", from, target, got, want)
			}
		}
	}
}

func TestResetHints(t *testing.T) {
	count := func(n int64) *histogram.Histogram { return tsdbutil.GenerateTestHistogram(n) }
	coarse := count(9).Copy()
	coarse.Schema--
	explicit := count(9).Copy()
	explicit.CounterResetHint = histogram.CounterReset
	check := func(name string, want []histogram.CounterResetHint, s metric.Samples, hs ...*histogram.Histogram) {
		t.Helper()
		for i, h := range hs {
			s.HistogramTimes = append(s.HistogramTimes, int64(10*i))
			s.Histograms = append(s.Histograms, metric.Histogram{Int: h})
		}
		it := iterate(t, s, nil)
		var got []histogram.CounterResetHint
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValHistogram {
				_, h := it.AtHistogram(nil)
				_, fh := it.AtFloatHistogram(nil)
				if h.CounterResetHint != fh.CounterResetHint {
					t.Errorf("%s: hints of one sample differ: %v, %v", name, h.CounterResetHint, fh.CounterResetHint)
				}
				got = append(got, h.CounterResetHint)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	const unknown, not, gauge = histogram.UnknownCounterReset, histogram.NotCounterReset, histogram.GaugeType
	hints := func(h ...histogram.CounterResetHint) []histogram.CounterResetHint { return h }
	none := metric.Samples{}
	check("rising", hints(unknown, not, not), none, count(1), count(2), count(3))
	check("reset", hints(unknown, not, unknown, not), none, count(5), count(6), count(1), count(2))
	check("other resolution", hints(unknown, unknown), none, count(1), coarse)
	check("sender says reset", hints(unknown, unknown), none, count(1), explicit)
	check("gauges", hints(gauge, gauge), none, tsdbutil.GenerateTestGaugeHistogram(1), tsdbutil.GenerateTestGaugeHistogram(2))
	check("float between", hints(unknown, unknown), metric.Samples{Times: []int64{5}, Values: []float64{1}}, count(1), count(2))
	check("float before", hints(unknown, not), metric.Samples{Times: []int64{-5}, Values: []float64{1}}, count(1), count(2))
}

func TestQuerierLimitsAndErrors(t *testing.T) {
	boom := errors.New("boom")
	set := &fixedSet{
		labels:  []labels.Labels{labels.FromStrings("a", "b"), labels.FromStrings("a", "c")},
		samples: []metric.Samples{{Times: make([]int64, 100), Values: make([]float64, 100)}, {}},
	}
	open := func(ctx context.Context, maxBytes int64) (chunkenc.Iterator, func() error) {
		q, err := NewQueryable(fixedStore{set}, maxBytes).Querier(0, 1)
		if err != nil {
			t.Fatal(err)
		}
		found := q.Select(ctx, true, nil)
		if !found.Next() {
			return nil, func() error { q.Close(); return found.Err() }
		}
		return found.At().Iterator(nil), q.Close
	}
	it, _ := open(t.Context(), 1000)
	var limit *LimitError
	if it.Next() != chunkenc.ValNone || !errors.As(it.Err(), &limit) {
		t.Errorf("reading over the limit: %v, want a LimitError", it.Err())
	}
	it, done := open(t.Context(), 5)
	if it != nil {
		t.Error("selecting over the limit gave a series")
	}
	if err := done(); !errors.As(err, &limit) {
		t.Errorf("selecting over the limit: %v, want a LimitError", err)
	}
	set.err = boom
	it, done = open(t.Context(), 0)
	if it.Next() != chunkenc.ValNone || !errors.Is(it.Err(), boom) {
		t.Errorf("reading a broken series: %v, want %v", it.Err(), boom)
	}
	set.closed = 0
	if done(); set.closed != 1 {
		t.Errorf("closed the set %d times, want once", set.closed)
	}
	set.err = nil
	set.warned = []error{boom}
	budget := NewBudget(0)
	if _, done = open(WithBudget(t.Context(), budget), 0); done() != nil || len(budget.Warnings().AsErrors()) != 1 {
		t.Errorf("warnings of a damaged block: %v, want one", budget.Warnings())
	}
	ctx, cancel := context.WithCancel(t.Context())
	q, _ := NewQueryable(fixedStore{set}, 0).Querier(0, 1)
	defer q.Close()
	found := q.Select(ctx, true, nil)
	found.Next()
	cancel()
	if it := found.At().Iterator(nil); it.Next() != chunkenc.ValNone || !errors.Is(it.Err(), context.Canceled) {
		t.Errorf("reading after cancel: %v, want canceled", it.Err())
	}
}
