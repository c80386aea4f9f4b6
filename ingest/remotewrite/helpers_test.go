package remotewrite

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const now = int64(1_700_000_000_000)

// testSeries is a series in the naive form that tests compare in.
type testSeries struct {
	Labels     []prompb.Label
	Samples    []testSample
	Histograms []testHistogram
	Exemplars  []testExemplar
	Type       int32 // metadata, 2.0 only
	Help, Unit string
}

type testSample struct {
	Value       float64
	Time, Start int64
}

type testHistogram struct {
	Time, Start int64
	Int         *histogram.Histogram
	Float       *histogram.FloatHistogram
}

type testExemplar struct {
	Labels []prompb.Label
	Value  float64
	Time   int64
}

func marshalV1(t testing.TB, series []testSeries, meta ...prompb.MetricMetadata) []byte {
	t.Helper()
	req := prompb.WriteRequest{Metadata: meta}
	for _, s := range series {
		ts := prompb.TimeSeries{Labels: s.Labels}
		for _, v := range s.Samples {
			ts.Samples = append(ts.Samples, prompb.Sample{Value: v.Value, Timestamp: v.Time})
		}
		for _, h := range s.Histograms {
			if h.Int != nil {
				ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(h.Time, h.Int))
			} else {
				ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(h.Time, h.Float))
			}
		}
		for _, e := range s.Exemplars {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: e.Labels, Value: e.Value, Timestamp: e.Time})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	b, err := req.Marshal()
	require.NoError(t, err)
	return b
}

func marshalV2(t testing.TB, series []testSeries) []byte {
	t.Helper()
	syms := writev2.NewSymbolTable()
	refs := func(ls []prompb.Label) (out []uint32) {
		for _, l := range ls {
			out = append(out, syms.Symbolize(l.Name), syms.Symbolize(l.Value))
		}
		return out
	}
	var req writev2.Request
	for _, s := range series {
		ts := writev2.TimeSeries{
			LabelsRefs: refs(s.Labels),
			Metadata:   writev2.Metadata{Type: writev2.Metadata_MetricType(s.Type), HelpRef: syms.Symbolize(s.Help), UnitRef: syms.Symbolize(s.Unit)},
		}
		for _, v := range s.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Value: v.Value, Timestamp: v.Time, StartTimestamp: v.Start})
		}
		for _, h := range s.Histograms {
			if h.Int != nil {
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(h.Start, h.Time, h.Int))
			} else {
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(h.Start, h.Time, h.Float))
			}
		}
		for _, e := range s.Exemplars {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: refs(e.Labels), Value: e.Value, Timestamp: e.Time})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = syms.Symbols()
	b, err := req.Marshal()
	require.NoError(t, err)
	return b
}

func lbls(kv ...string) (out []prompb.Label) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, prompb.Label{Name: kv[i], Value: kv[i+1]})
	}
	return out
}

// canonical is the naive canonical form: sorted, without empty values.
func canonical(ls []prompb.Label) []byte {
	ls = slices.Clone(ls)
	slices.SortFunc(ls, func(a, b prompb.Label) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	var out []byte
	for _, l := range ls {
		if l.Value != "" {
			out = labels.Append(out, l.Name, l.Value)
		}
	}
	return out
}

// dump lists a batch in text, one line per item, so that two batches can be
// compared bit by bit whatever their layout is.
func dump(m *signal.Metrics) []string {
	var out []string
	starts := make([]int64, len(m.Times))
	copy(starts, m.Starts)
	begin := uint32(0)
	for i, end := range m.SampleEnd {
		name := fmt.Sprintf("%x", m.Bytes(m.Labels[i]))
		if m.Hash[i] != labels.HashCanonical(m.Bytes(m.Labels[i])) {
			out = append(out, "bad hash "+name)
		}
		for ; begin < end; begin++ {
			out = append(out, fmt.Sprintf("%s %d %x %d", name, m.Times[begin], math.Float64bits(m.Values[begin]), starts[begin]))
		}
	}
	for _, h := range m.Histograms {
		name := fmt.Sprintf("%x", m.Bytes(m.Labels[h.Series]))
		out = append(out, name+" "+dumpHistogram(h.Time, h.Start, h.Int, h.Float))
	}
	for _, e := range m.Exemplars {
		out = append(out, fmt.Sprintf("%x exemplar %d %x %x", m.Bytes(m.Labels[e.Series]), e.Time, math.Float64bits(e.Value), m.Bytes(e.Labels)))
	}
	for _, md := range m.Metadata {
		out = append(out, fmt.Sprintf("metadata %+v", md))
	}
	return out
}

func dumpHistogram(t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) string {
	if h != nil {
		return fmt.Sprintf("int %d %d %d %d %g %d %d %x %v %v %v %v %v", t, st, h.CounterResetHint, h.Schema, h.ZeroThreshold,
			h.ZeroCount, h.Count, math.Float64bits(h.Sum), h.PositiveSpans, h.NegativeSpans, h.PositiveBuckets, h.NegativeBuckets, h.CustomValues)
	}
	return fmt.Sprintf("float %d %d %d %d %g %g %g %x %v %v %v %v %v", t, st, fh.CounterResetHint, fh.Schema, fh.ZeroThreshold,
		fh.ZeroCount, fh.Count, math.Float64bits(fh.Sum), fh.PositiveSpans, fh.NegativeSpans, fh.PositiveBuckets, fh.NegativeBuckets, fh.CustomValues)
}

// dumpSeries is dump of the naive form.
func dumpSeries(series []testSeries, starts bool) []string {
	var samples, histograms, exemplars []string
	for _, s := range series {
		name := fmt.Sprintf("%x", canonical(s.Labels))
		for _, v := range s.Samples {
			st := v.Start
			if !starts {
				st = 0
			}
			samples = append(samples, fmt.Sprintf("%s %d %x %d", name, v.Time, math.Float64bits(v.Value), st))
		}
		for _, h := range s.Histograms {
			st := h.Start
			if !starts {
				st = 0
			}
			histograms = append(histograms, name+" "+dumpHistogram(h.Time, st, h.Int, h.Float))
		}
		for _, e := range s.Exemplars {
			exemplars = append(exemplars, fmt.Sprintf("%s exemplar %d %x %x", name, e.Time, math.Float64bits(e.Value), canonical(e.Labels)))
		}
	}
	return append(append(samples, histograms...), exemplars...)
}

func withoutMetadata(lines []string) []string {
	return slices.DeleteFunc(lines, func(s string) bool { return len(s) > 8 && s[:8] == "metadata" })
}

// randomSeries makes valid series: sorted and unsorted labels, empty values,
// long and non-ASCII ones, every kind of data.
func randomSeries(rnd *rand.Rand, n int) []testSeries {
	values := []string{"a", "prod", "é", "日本語", "x" + string(bytes.Repeat([]byte("y"), 200)), "", "10.0.0.1:9100"}
	floats := []float64{0, 1, -1.5, math.Inf(1), math.NaN(), math.Float64frombits(value.StaleNaN), 1e300}
	var out []testSeries
	for i := range n {
		s := testSeries{Labels: lbls("__name__", fmt.Sprintf("metric_%d", i))}
		for j := range rnd.IntN(8) {
			name := fmt.Sprintf("%c%d", 'A'+rnd.IntN(58), j)
			if rnd.IntN(10) == 0 {
				name = "ünï" + name
			}
			s.Labels = append(s.Labels, prompb.Label{Name: name, Value: values[rnd.IntN(len(values))]})
		}
		if rnd.IntN(2) == 0 {
			slices.SortFunc(s.Labels, func(a, b prompb.Label) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
		} else {
			rnd.Shuffle(len(s.Labels), func(a, b int) { s.Labels[a], s.Labels[b] = s.Labels[b], s.Labels[a] })
		}
		if rnd.IntN(4) == 0 {
			for range 1 + rnd.IntN(3) {
				h := testHistogram{Time: now + rnd.Int64N(1000), Start: rnd.Int64N(2) * (now - 5000)}
				if rnd.IntN(2) == 0 {
					h.Int = randomHistogram(rnd)
				} else {
					h.Float = randomHistogram(rnd).ToFloat(nil)
				}
				s.Histograms = append(s.Histograms, h)
			}
		} else {
			for range 1 + rnd.IntN(4) {
				s.Samples = append(s.Samples, testSample{
					Value: floats[rnd.IntN(len(floats))], Time: now + rnd.Int64N(2000) - 1000, Start: rnd.Int64N(2) * (now - 5000),
				})
			}
		}
		if rnd.IntN(4) == 0 {
			s.Exemplars = append(s.Exemplars, testExemplar{Labels: lbls("trace_id", fmt.Sprint(rnd.Int64()), "b", ""), Value: rnd.Float64(), Time: now})
		}
		if rnd.IntN(3) == 0 {
			s.Type, s.Help, s.Unit = int32(rnd.IntN(9)), fmt.Sprintf("help %d", i), "bytes"
		}
		out = append(out, s)
	}
	return out
}

func randomHistogram(rnd *rand.Rand) *histogram.Histogram {
	if rnd.IntN(3) == 0 {
		return &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, Count: 7, Sum: rnd.Float64(),
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []int64{3, 1},
			CustomValues: []float64{1, 2.5, 10},
		}
	}
	return &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(rnd.IntN(4)), Schema: int32(rnd.IntN(13) - 4),
		ZeroThreshold: 1e-128, ZeroCount: 2, Count: 2 + 1 + 3 + 2 + 4, Sum: -rnd.Float64(),
		PositiveSpans: []histogram.Span{{Offset: -3, Length: 1}, {Offset: 2, Length: 1}}, PositiveBuckets: []int64{1, 2},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 2}}, NegativeBuckets: []int64{2, 2},
	}
}

func decode(t testing.TB, r *Request, format buffer.Format, body []byte, limits wire.Limits) {
	t.Helper()
	require.NoError(t, r.Decode(format, s2.EncodeSnappy(nil, body), limits))
}

// checkReplay verifies that the parts of a decoded request decode, without
// limits, to exactly what they hold.
func checkReplay(t testing.TB, r *Request, compressed []byte, n int) {
	t.Helper()
	want := append([]string{}, withoutMetadata(dump(&r.Metrics))...)
	wantMeta := len(r.Metrics.Metadata) > 0
	parts, err := r.Parts(compressed, wire.PartOptions{Partitions: n})
	require.NoError(t, err)
	all := []string{}
	gotMeta := false
	for _, p := range parts {
		var again Request
		require.NoError(t, again.Decode(r.format, p.Payload, wire.Limits{}))
		require.False(t, again.Rejects.Any(), "replay refused: %v", again.Rejects.First)
		require.Equal(t, withoutMetadata(dump(p.Metrics)), withoutMetadata(dump(&again.Metrics)))
		all = append(all, withoutMetadata(dump(p.Metrics))...)
		gotMeta = gotMeta || len(again.Metrics.Metadata) > 0
		oldest, newest := wire.TimeRange(&again.Metrics)
		require.Equal(t, []int64{oldest, newest}, []int64{p.MinTime, p.MaxTime})
		for _, h := range p.Metrics.Hash {
			require.Equal(t, p.Partition, PartitionOf(h, n))
		}
	}
	slices.Sort(want)
	slices.Sort(all)
	require.Equal(t, want, all)
	require.Equal(t, wantMeta, gotMeta)
}
