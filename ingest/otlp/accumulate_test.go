package otlp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// delta is a row of one sample.
type delta struct {
	series      string
	start, time int64
	value       float64
}

func deltaBatch(tenant string, rows ...delta) *signal.Metrics {
	b := &signal.Metrics{Tenant: tenant}
	for i, d := range rows {
		off := len(b.Buf)
		b.Buf = labels.Append(b.Buf, "__name__", d.series)
		b.Hash = append(b.Hash, labels.HashCanonical(b.Buf[off:]))
		b.Labels = append(b.Labels, signal.RangeOf(off, len(b.Buf)))
		b.Times = append(b.Times, d.time)
		b.Values = append(b.Values, d.value)
		b.Starts = append(b.Starts, d.start)
		b.SampleEnd = append(b.SampleEnd, uint32(len(b.Times)))
		b.Deltas = append(b.Deltas, uint32(i))
	}
	return b
}

// rows lists what is left of a batch made by deltaBatch.
func rows(b *signal.Metrics) (out []delta) {
	begin := uint32(0)
	for i, end := range b.SampleEnd {
		_, name, _, _ := labels.Next(b.Bytes(b.Labels[i]))
		for ; begin < end; begin++ {
			out = append(out, delta{string(name), b.Starts[begin], b.Times[begin], b.Values[begin]})
		}
	}
	return out
}

func TestAccumulator(t *testing.T) {
	clock := time.UnixMilli(now)
	stale := math.Float64frombits(value.StaleNaN)
	for _, tc := range []struct {
		name string
		max  int
		in   []delta
		want []delta
		res  AccumulateResult
	}{
		{"adds", 0, []delta{{"a", 1, 2, 5}, {"a", 2, 3, 7}, {"b", 2, 3, 1}}, []delta{{"a", 1, 2, 5}, {"a", 1, 3, 12}, {"b", 2, 3, 1}}, AccumulateResult{Added: 3}},
		{"falls, too", 0, []delta{{"a", 1, 2, 5}, {"a", 2, 3, -7}}, []delta{{"a", 1, 2, 5}, {"a", 1, 3, -2}}, AccumulateResult{Added: 2}},
		{"again", 0, []delta{{"a", 1, 2, 5}, {"a", 1, 2, 5}, {"a", 2, 3, 1}}, []delta{{"a", 1, 2, 5}, {"a", 1, 3, 6}}, AccumulateResult{Added: 2, OutOfOrder: 1}},
		{"out of order", 0, []delta{{"a", 1, 5, 5}, {"a", 2, 3, 1}}, []delta{{"a", 1, 5, 5}}, AccumulateResult{Added: 1, OutOfOrder: 1}},
		{"older start", 0, []delta{{"a", 4, 5, 5}, {"a", 3, 6, 1}}, []delta{{"a", 4, 5, 5}}, AccumulateResult{Added: 1, OlderStart: 1}},
		{"gap", 0, []delta{{"a", 1, 2, 5}, {"a", 8, 9, 1}}, []delta{{"a", 1, 2, 5}, {"a", 1, 9, 6}}, AccumulateResult{Added: 2}},
		{"no start", 0, []delta{{"a", 1, 2, 5}, {"a", 0, 9, 1}}, []delta{{"a", 1, 2, 5}, {"a", 1, 9, 6}}, AccumulateResult{Added: 2}},
		{"too many", 1, []delta{{"a", 1, 2, 5}, {"b", 1, 2, 5}, {"a", 2, 3, 1}}, []delta{{"a", 1, 2, 5}, {"a", 1, 3, 6}}, AccumulateResult{Added: 2, StreamLimit: 1}},
		{"end of nothing", 0, []delta{{"a", 1, 2, stale}}, []delta{{"a", 1, 2, stale}}, AccumulateResult{}},
		{"end", 0, []delta{{"a", 1, 2, 5}, {"a", 2, 3, stale}, {"a", 3, 4, 2}}, []delta{{"a", 1, 2, 5}, {"a", 1, 3, stale}, {"a", 1, 4, 7}}, AccumulateResult{Added: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// In one batch, and each in a batch of its own.
			b := deltaBatch("x", tc.in...)
			require.Equal(t, tc.res, NewAccumulator(tc.max).Apply(b, clock))
			require.Equal(t, fmt.Sprint(tc.want), fmt.Sprint(rows(b)))
			require.Len(t, b.SampleEnd, len(tc.in))
			require.Empty(t, b.Deltas)
			require.Equal(t, AccumulateResult{}, NewAccumulator(0).Apply(b, clock), "again")

			a := NewAccumulator(tc.max)
			var got []delta
			var sum AccumulateResult
			for _, d := range tc.in {
				b := deltaBatch("x", d)
				res := a.Apply(b, clock)
				sum.Added += res.Added
				sum.OutOfOrder += res.OutOfOrder
				sum.OlderStart += res.OlderStart
				sum.StreamLimit += res.StreamLimit
				got = append(got, rows(b)...)
			}
			require.Equal(t, tc.res, sum)
			require.Equal(t, fmt.Sprint(tc.want), fmt.Sprint(got))
		})
	}
}

func TestAccumulatorTellsTenantsApart(t *testing.T) {
	a := NewAccumulator(0)
	clock := time.UnixMilli(now)
	a.Apply(deltaBatch("x", delta{"a", 1, 2, 5}), clock)
	b := deltaBatch("y", delta{"a", 1, 2, 7})
	require.Equal(t, AccumulateResult{Added: 1}, a.Apply(b, clock))
	require.Equal(t, []delta{{"a", 1, 2, 7}}, rows(b))
	require.Equal(t, 2, a.Streams())
}

func TestAccumulatorForgets(t *testing.T) {
	a := NewAccumulator(1)
	clock := time.UnixMilli(now)
	a.Apply(deltaBatch("x", delta{"a", 1, 2, 5}), clock)
	clock = clock.Add(4 * time.Minute)
	b := deltaBatch("x", delta{"a", 2, 3, 5})
	a.Apply(b, clock)
	require.Equal(t, []delta{{"a", 1, 3, 10}}, rows(b))
	clock = clock.Add(staleAfter + time.Second)
	b = deltaBatch("x", delta{"b", 9, 10, 1}, delta{"a", 9, 10, 1})
	require.Equal(t, AccumulateResult{Added: 1, StreamLimit: 1}, a.Apply(b, clock))
	require.Equal(t, []delta{{"b", 9, 10, 1}}, rows(b))
	require.Equal(t, 1, a.Streams())
}

// Rows that are no deltas, and exemplars of rows that keep a sample, stay.
func TestAccumulatorCompacts(t *testing.T) {
	b := deltaBatch("x", delta{"a", 1, 5, 5}, delta{"a", 1, 5, 5}, delta{"gauge", 0, 5, 3}, delta{"a", 5, 6, 1})
	b.Deltas = []uint32{0, 1, 3}
	b.Exemplars = []signal.Exemplar{{Series: 0}, {Series: 1}, {Series: 2}, {Series: 3}}
	require.Equal(t, AccumulateResult{Added: 2, OutOfOrder: 1}, NewAccumulator(0).Apply(b, time.UnixMilli(now)))
	require.Equal(t, []delta{{"a", 1, 5, 5}, {"gauge", 0, 5, 3}, {"a", 1, 6, 6}}, rows(b))
	require.Equal(t, []uint32{1, 1, 2, 3}, b.SampleEnd)
	require.Equal(t, []signal.Exemplar{{Series: 0}, {Series: 2}, {Series: 3}}, b.Exemplars)
}

// A sum of native histograms is valid whatever scales and bounds come.
func TestAccumulatorHistograms(t *testing.T) {
	a := NewAccumulator(0)
	clock := time.UnixMilli(now)
	total := uint64(0)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range int64(200) {
		h := &histogram.Histogram{Schema: int32(rnd.IntN(9)), ZeroThreshold: zeroThreshold, ZeroCount: 1, Sum: 2}
		d := denseBuckets{offset: int32(rnd.IntN(100) - 50)}
		for range rnd.IntN(50) {
			d.counts = append(d.counts, rnd.Uint64N(4))
		}
		h.Count = 1
		for _, c := range d.counts {
			h.Count += c
		}
		total += h.Count
		h.PositiveSpans, h.PositiveBuckets, _ = d.sparse(0, 1)
		require.NoError(t, h.Validate())
		b := deltaBatch("x", delta{"h", 1, 1, 0})
		b.Times, b.Values, b.Starts, b.SampleEnd = nil, nil, nil, []uint32{0}
		b.Histograms = []signal.HistogramSample{{Time: 10 + i, Start: 9 + i, Int: h}}
		require.Equal(t, AccumulateResult{Added: 1}, a.Apply(b, clock))
		got := b.Histograms[0]
		require.NoError(t, got.Int.Validate())
		require.Equal(t, total, got.Int.Count)
		require.Equal(t, float64(2*(i+1)), got.Int.Sum)
		require.Equal(t, int64(9), got.Start)
		require.LessOrEqual(t, len(got.Int.PositiveBuckets), maxNativeBuckets)
	}
	custom := func(at int64, bounds ...float64) *signal.Metrics {
		b := deltaBatch("x", delta{"c", 1, 1, 0})
		b.Times, b.Values, b.Starts, b.SampleEnd = nil, nil, nil, []uint32{0}
		h := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 1, CustomValues: bounds, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{3}}
		b.Histograms = []signal.HistogramSample{{Time: at, Start: at - 1, Int: h}}
		return b
	}
	for _, tc := range []struct {
		b     *signal.Metrics
		count uint64
		start int64
	}{{custom(10, 1, 2), 3, 9}, {custom(11, 1, 2), 6, 9}, {custom(12, 1, 3), 3, 11}, {custom(13, 1, 3), 6, 11}} {
		require.Equal(t, 1, a.Apply(tc.b, clock).Added)
		require.Equal(t, tc.count, tc.b.Histograms[0].Int.Count)
		require.Equal(t, tc.start, tc.b.Histograms[0].Start)
	}
	b := custom(13, 1, 3)
	require.Equal(t, AccumulateResult{OutOfOrder: 1}, a.Apply(b, clock))
	require.Empty(t, b.Histograms)
}

type recordingAppendable struct{ rec *recorder }

func (a recordingAppendable) AppenderV2(context.Context) storage.AppenderV2 { return a.rec }

// Prometheus's receiver with its conversion of deltas stores what Decode and an
// Accumulator make of the same requests.
func TestDeltasEqualToPrometheus(t *testing.T) {
	rec := &recorder{}
	c := DefaultConfig()
	handler := remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), recordingAppendable{rec},
		func() config.Config { return config.Config{OTLPConfig: config.DefaultOTLPConfig} }, remote.OTLPOptions{ConvertDelta: true, LookbackDelta: 5 * time.Minute})
	r, a := New(c), NewAccumulator(0)
	rnd := rand.New(rand.NewPCG(5, 5))
	for i := range uint64(60) {
		body := marshal(t, deltaPayload(rnd, i))
		rec.lines, rec.metadata = nil, nil
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/x-protobuf")
		handler.ServeHTTP(w, req)
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())

		require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
		require.False(t, r.Rejects.Any())
		a.Apply(&r.Metrics, time.UnixMilli(now))
		got := dump(&r.Metrics)
		slices.Sort(got)
		slices.Sort(rec.lines)
		require.Equal(t, rec.lines, got, "request %d", i)
	}
}

// deltaPayload is the i-th request of some delta streams, each with a point
// after the last one's, most of the time.
func deltaPayload(rnd *rand.Rand, i uint64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	step := uint64(10_000_000_000)
	times := func(jitter uint64) (pcommon.Timestamp, pcommon.Timestamp) {
		at := nowNs + (i+1)*step + jitter
		return pcommon.Timestamp(at - step), pcommon.Timestamp(at)
	}
	for k, monotonic := range []bool{true, false} {
		s := ms.AppendEmpty()
		s.SetName(fmt.Sprintf("sum.%d", k))
		s.SetEmptySum().SetIsMonotonic(monotonic)
		s.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		for n := range 3 {
			p := s.Sum().DataPoints().AppendEmpty()
			p.Attributes().PutInt("n", int64(n))
			start, at := times(rnd.Uint64N(3) * step)
			p.SetStartTimestamp(start)
			p.SetTimestamp(at)
			p.SetIntValue(rnd.Int64N(20) - 5)
		}
	}
	h := ms.AppendEmpty()
	h.SetName("classic")
	h.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	p := h.Histogram().DataPoints().AppendEmpty()
	start, at := times(0)
	p.SetStartTimestamp(start)
	p.SetTimestamp(at)
	p.ExplicitBounds().FromRaw([]float64{1, 2})
	p.BucketCounts().FromRaw([]uint64{rnd.Uint64N(5), 1, 2})
	p.SetCount(p.BucketCounts().At(0) + 3)
	p.SetSum(float64(rnd.IntN(100)))
	x := ms.AppendEmpty()
	x.SetName("exponential")
	x.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	e := x.ExponentialHistogram().DataPoints().AppendEmpty()
	e.SetStartTimestamp(start)
	e.SetTimestamp(at)
	e.SetScale(2)
	e.Positive().SetOffset(int32(rnd.IntN(5)))
	for range 1 + rnd.IntN(4) {
		c := 1 + rnd.Uint64N(3)
		e.Positive().BucketCounts().Append(c)
		e.SetCount(e.Count() + c)
	}
	e.SetSum(3)
	return md
}
