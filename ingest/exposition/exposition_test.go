package exposition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const at = 1_700_000_000_000

// written decodes requests as the consumer does and prints their samples.
func written(t testing.TB, payloads [][]byte) (lines []string, meta []signal.Metadata) {
	t.Helper()
	var formats wire.Formats
	remotewrite.Register(&formats)
	for _, p := range payloads {
		d, err := formats.Decoders().For(buffer.FormatRemoteWriteV1)
		require.NoError(t, err)
		require.NoError(t, d.Decode(buffer.FormatRemoteWriteV1, p, wire.Limits{}))
		require.Nil(t, d.Result().Rejects.First)
		lines = append(lines, ingesttest.Lines(&d.Result().Metrics)...)
		meta = append(meta, d.Result().Metrics.Metadata...)
	}
	slices.Sort(lines)
	return lines, meta
}

// ours prints what we make of families.
func ours(t testing.TB, families []*dto.MetricFamily, set ...Label) (lines []string, meta []signal.Metadata) {
	t.Helper()
	var r Requests
	for _, f := range families {
		r.Metadata(f)
		series, err := AppendSeries(nil, f, set...)
		require.NoError(t, err)
		for i := range series {
			require.NoError(t, r.Add(&series[i], at))
		}
	}
	return written(t, r.Payloads())
}

// theirs prints what Prometheus's scraper makes of an exposition.
func theirs(t testing.TB, body []byte, contentType string) (lines []string, types map[string]string) {
	t.Helper()
	p, err := textparse.New(body, contentType, promlabels.NewSymbolTable(), textparse.ParserOptions{})
	require.NoError(t, err)
	var r Requests
	types = map[string]string{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		var s Series
		var ts *int64
		var ls promlabels.Labels
		switch entry {
		case textparse.EntryType:
			name, typ := p.Type()
			types[string(name)] = string(typ)
			continue
		case textparse.EntrySeries:
			_, ts, s.Value = p.Series()
		case textparse.EntryHistogram:
			_, ts, s.Int, s.Float = p.Histogram()
		default:
			continue
		}
		p.Labels(&ls)
		if ts != nil {
			s.Time = *ts
		}
		s.Start = p.StartTimestamp()
		ls.Range(func(l promlabels.Label) { s.Labels = labels.Append(s.Labels, l.Name, l.Value) })
		var e exemplar.Exemplar
		for p.Exemplar(&e) {
			s.Exemplars = append(s.Exemplars, e)
			e = exemplar.Exemplar{}
		}
		slices.SortStableFunc(s.Exemplars, exemplar.Compare)
		require.NoError(t, r.Add(&s, at))
	}
	lines, _ = written(t, r.Payloads())
	return lines, types
}

// registry is full of what a client library can expose.
func registry(t testing.TB) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "Requests, \"quoted\" \\ and\nbroken."}, []string{"code", "Upper"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "temperature_celsius", Help: "Heat."})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "latency_seconds", Objectives: map[float64]float64{0.5: 0.05, 0.99: 0.001, 1: 0}})
	bare := prometheus.NewSummary(prometheus.SummaryOpts{Name: "bare_seconds"})
	classic := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "size_bytes", Buckets: []float64{0.5, 1, 10, 1e6, 1e21}}, []string{"path"})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "native_seconds", NativeHistogramBucketFactor: 1.1})
	empty := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "empty_seconds", NativeHistogramBucketFactor: 1.1})
	untyped := prometheus.NewUntypedFunc(prometheus.UntypedOpts{Name: "whatever"}, func() float64 { return math.Inf(-1) })
	reg.MustRegister(counter, gauge, summary, bare, classic, native, empty, untyped)
	counter.WithLabelValues("200", `a"b\c`+"\nd").(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"trace_id": "abc"})
	counter.WithLabelValues("500", "").Add(1)
	gauge.Set(math.NaN())
	for i := range 40 {
		v := float64(i*i) / 7
		summary.Observe(v)
		classic.WithLabelValues("/a").Observe(v)
		native.Observe(v - 10)
	}
	classic.WithLabelValues("/b").(prometheus.ExemplarObserver).ObserveWithExemplar(2, prometheus.Labels{"trace_id": "x"})
	native.(prometheus.ExemplarObserver).ObserveWithExemplar(2, prometheus.Labels{"trace_id": "y"})
	native.Observe(0)
	return reg
}

func encode(t testing.TB, families []*dto.MetricFamily, format expfmt.Format) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := expfmt.NewEncoder(&out, format)
	for _, f := range families {
		require.NoError(t, enc.Encode(f))
	}
	return out.Bytes()
}

func parseText(t testing.TB, body []byte) []*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	byName, err := p.TextToMetricFamilies(bytes.NewReader(body))
	require.NoError(t, err)
	return slices.SortedFunc(maps.Values(byName), func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// From protobuf we make what Prometheus's scraper makes.
func TestProtobufAsPrometheus(t *testing.T) {
	families, err := registry(t).Gather()
	require.NoError(t, err)
	families = append(families, floatFamilies()...)
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	body := encode(t, families, format)

	var parsed []*dto.MetricFamily
	for in := bytes.NewReader(body); in.Len() > 0; {
		f := &dto.MetricFamily{}
		require.NoError(t, protodelim.UnmarshalFrom(in, f))
		parsed = append(parsed, f)
	}
	got, meta := ours(t, parsed)
	want, types := theirs(t, body, string(format))
	require.Equal(t, want, got)
	require.Greater(t, len(got), 40)
	require.Contains(t, strings.Join(got, "\n"), "trace_id")
	require.Contains(t, strings.Join(got, "\n"), "start=")
	for _, m := range meta {
		require.Equal(t, types[m.Family], m.Type, m.Family)
	}
	require.Len(t, meta, len(types))
}

// floatFamilies are what client libraries other than Go's expose: float and
// gauge histograms.
func floatFamilies() []*dto.MetricFamily {
	native := &dto.Histogram{
		SampleCountFloat: proto.Float64(6.5), SampleSum: proto.Float64(12), Schema: proto.Int32(3),
		ZeroThreshold: proto.Float64(0.001), ZeroCountFloat: proto.Float64(1),
		PositiveSpan:     []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(2)}, {Offset: proto.Int32(3), Length: proto.Uint32(1)}},
		PositiveCount:    []float64{1, 2.5, 0},
		NegativeSpan:     []*dto.BucketSpan{{Offset: proto.Int32(-2), Length: proto.Uint32(1)}},
		NegativeCount:    []float64{2},
		CreatedTimestamp: timestamppb.New(time.UnixMilli(at - 5000)),
		Exemplars: []*dto.Exemplar{
			{Value: proto.Float64(2), Timestamp: timestamppb.New(time.UnixMilli(at + 1)), Label: []*dto.LabelPair{{Name: proto.String("i"), Value: proto.String("2")}}},
			{Value: proto.Float64(1), Timestamp: timestamppb.New(time.UnixMilli(at)), Label: []*dto.LabelPair{{Name: proto.String("i"), Value: proto.String("1")}}},
		},
	}
	integer := &dto.Histogram{
		SampleCount: proto.Uint64(4), SampleSum: proto.Float64(3), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(1e-128), ZeroCount: proto.Uint64(1),
		PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(1), Length: proto.Uint32(2)}}, PositiveDelta: []int64{2, -1},
	}
	classic := &dto.Histogram{
		SampleCountFloat: proto.Float64(2.5), SampleSum: proto.Float64(4),
		Bucket: []*dto.Bucket{{UpperBound: proto.Float64(1), CumulativeCountFloat: proto.Float64(0.5)}, {UpperBound: proto.Float64(math.Inf(1)), CumulativeCountFloat: proto.Float64(2.5)}},
	}
	return []*dto.MetricFamily{
		{Name: proto.String("float_native"), Type: dto.MetricType_HISTOGRAM.Enum(), Unit: proto.String("seconds"), Metric: []*dto.Metric{{Histogram: native, TimestampMs: proto.Int64(at + 7)}}},
		{Name: proto.String("gauge_native"), Type: dto.MetricType_GAUGE_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: integer}}},
		{Name: proto.String("float_classic"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: classic}}},
		{Name: proto.String("bär.ü"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}, Label: []*dto.LabelPair{{Name: proto.String("ä b"), Value: proto.String("☃")}}}}},
	}
}

// From text we make what Prometheus's scraper makes.
func TestTextAsPrometheus(t *testing.T) {
	families, err := registry(t).Gather()
	require.NoError(t, err)
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "empty_seconds" })
	body := encode(t, families, expfmt.NewFormat(expfmt.TypeTextPlain))
	body = append(body, `# HELP odd A histogram written by hand.
# TYPE odd histogram
odd_bucket{le="1",a="z",Z="1"} 1
odd_bucket{le="2.50",a="z",Z="1"} 2
odd_bucket{le="1000000",a="z",Z="1"} 3
odd_bucket{le="+Inf",a="z",Z="1"} 4
odd_sum{a="z",Z="1"} 5
odd_count{a="z",Z="1"} 4
# TYPE q summary
q{quantile="1"} 3
q{quantile="0.90"} NaN
q_sum 3
q_count 9
stamped{x="y"} 4.25 1700000000123
{"with.dots", "a b"="c"} 16
huge 1e+100
`...)
	got, meta := ours(t, parseText(t, body))
	want, types := theirs(t, body, "text/plain; version=0.0.4")
	require.Equal(t, want, got)
	require.Contains(t, strings.Join(got, "\n"), `le="2.5"`)
	require.Contains(t, strings.Join(got, "\n"), `le="1.0"`)
	for _, m := range meta {
		if typ, ok := types[m.Family]; ok {
			require.Equal(t, typ, m.Type, m.Family)
		} else {
			require.Equal(t, "unknown", m.Type, m.Family)
		}
	}
}

func TestLabels(t *testing.T) {
	f := parseText(t, []byte("up{instance=\"\",job=\"own\",z=\"1\"} 1\nup{job=\"other\",z=\"2\"} 2 77\n"))
	got, _ := ours(t, f, Label{"job", "set"}, Label{"A", "1"}, Label{"none", ""})
	require.Equal(t, []string{
		fmt.Sprintf(` {A="1", __name__="up", job="set", z="1"} %d 1`, at),
		` {A="1", __name__="up", job="set", z="2"} 77 2`,
	}, got)
	got, _ = ours(t, f, Label{"job", ""})
	require.Equal(t, ` {__name__="up", z="2"} 77 2`, got[1])
}

func TestInvalid(t *testing.T) {
	label := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	gauge := &dto.Gauge{Value: proto.Float64(1)}
	histogram := &dto.Histogram{SampleCount: proto.Uint64(1)}
	wide := []*dto.BucketSpan{{Length: proto.Uint32(math.MaxUint32)}, {Length: proto.Uint32(math.MaxUint32)}}
	for _, tc := range []struct {
		name   string
		typ    dto.MetricType
		metric *dto.Metric
		want   string
	}{
		{"", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge}, `metric "": the name is empty`},
		{"\xff", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge}, "not valid UTF-8"},
		{"m", dto.MetricType_COUNTER, &dto.Metric{Gauge: gauge}, "is a counter, but a metric in it has no such value"},
		{"m", dto.MetricType(77), &dto.Metric{Gauge: gauge}, "is a 77"},
		{"m", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge, Label: []*dto.LabelPair{label("a", "1"), label("a", "2")}}, `label "a" occurs twice`},
		{"m", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge, Label: []*dto.LabelPair{label("", "1")}}, `label name "" is empty`},
		{"m", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge, Label: []*dto.LabelPair{label("__name__", "1")}}, `label name "__name__" is reserved`},
		{"m", dto.MetricType_GAUGE, &dto.Metric{Gauge: gauge, Label: []*dto.LabelPair{label("a", "\xff")}}, `value of label "a" is not valid UTF-8`},
		{"m", dto.MetricType_SUMMARY, &dto.Metric{Summary: &dto.Summary{}, Label: []*dto.LabelPair{label("quantile", "1")}}, `must not have a label "quantile"`},
		{"m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: histogram, Label: []*dto.LabelPair{label("le", "1")}}, `must not have a label "le"`},
		{"m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{PositiveSpan: wide}}, "got 0 positive buckets, its spans have 8589934590"},
		{"m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{NegativeSpan: wide[:1]}}, "got 0 negative buckets"},
		{"m", dto.MetricType_HISTOGRAM, &dto.Metric{Histogram: &dto.Histogram{ZeroCount: proto.Uint64(5), SampleCount: proto.Uint64(1), SampleSum: proto.Float64(1)}}, "native histogram: "},
	} {
		f := &dto.MetricFamily{Name: &tc.name, Type: &tc.typ, Metric: []*dto.Metric{tc.metric}}
		before := []Series{{Value: 1}}
		got, err := AppendSeries(before, f)
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
		require.ErrorContains(t, err, tc.want)
		require.Equal(t, before, got)
	}
}

// An exemplar that Prometheus refuses is left out, its series is not.
func TestBadExemplars(t *testing.T) {
	for _, l := range [][2]string{{"", "x"}, {"a", "\xff"}, {"\xff", "a"}, {"a", strings.Repeat("ä", 128)}, {"twice", "1"}} {
		pair := &dto.LabelPair{Name: &l[0], Value: &l[1]}
		e := &dto.Exemplar{Label: []*dto.LabelPair{pair}, Value: proto.Float64(1)}
		if l[0] == "twice" {
			e.Label = append(e.Label, pair)
		}
		f := &dto.MetricFamily{Name: proto.String("c"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(1), Exemplar: e}}}}
		got, _ := ours(t, []*dto.MetricFamily{f})
		require.Equal(t, []string{fmt.Sprintf(` {__name__="c"} %d 1`, at)}, got)
	}
}

// A request is cut at about a megabyte, and nothing is lost on the way.
func TestRequestsAreCut(t *testing.T) {
	var r Requests
	require.Empty(t, r.Payloads())
	name, value := "m", 1.0
	const n = 20_000
	f := &dto.MetricFamily{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Help: proto.String("Help.")}
	for i := range n {
		l := &dto.LabelPair{Name: proto.String("series"), Value: proto.String(fmt.Sprintf("%0200d", i))}
		f.Metric = append(f.Metric, &dto.Metric{Label: []*dto.LabelPair{l}, Gauge: &dto.Gauge{Value: &value}})
	}
	series, err := AppendSeries(nil, f)
	require.NoError(t, err)
	r.Metadata(f)
	for i := range series {
		require.NoError(t, r.Add(&series[i], at))
	}
	payloads := r.Payloads()
	require.Len(t, payloads, 5)
	lines, meta := written(t, payloads)
	require.Len(t, lines, n)
	require.Equal(t, []signal.Metadata{{Family: "m", Type: "gauge", Help: "Help."}}, meta)
	require.Empty(t, r.Payloads())
}

func TestSetAndStale(t *testing.T) {
	series := func(text string) (out []Series) {
		for _, f := range parseText(t, []byte(text)) {
			var err error
			out, err = AppendSeries(out, f)
			require.NoError(t, err)
		}
		return out
	}
	before, now := Set{}, Set{}
	for _, s := range series("a 1\nb{x=\"1\"} 1\nb{x=\"2\"} 1\n") {
		require.True(t, before.Add(s.Labels))
		require.False(t, before.Add(s.Labels))
	}
	for _, s := range series("b{x=\"2\"} 1\nc 1\n") {
		now.Add(s.Labels)
	}
	var r Requests
	for _, lset := range before.Gone(now) {
		r.Stale(lset, at)
	}
	lines, _ := written(t, r.Payloads())
	require.Equal(t, []string{
		fmt.Sprintf(` {__name__="a"} %d NaN:7ff0000000000002`, at),
		fmt.Sprintf(` {__name__="b", x="1"} %d NaN:7ff0000000000002`, at),
	}, lines)
}

// Whatever a family holds, it is refused or gives series that decode.
func FuzzAppendSeries(f *testing.F) {
	families, err := registry(f).Gather()
	require.NoError(f, err)
	for _, m := range append(families, floatFamilies()...) {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b, "job", "x")
	}
	f.Fuzz(func(t *testing.T, body []byte, name, value string) {
		var m dto.MetricFamily
		if proto.Unmarshal(body, &m) != nil {
			return
		}
		series, err := AppendSeries(nil, &m, Label{name, value})
		if err != nil {
			return
		}
		var r Requests
		for i := range series {
			require.NoError(t, r.Add(&series[i], at))
		}
		var formats wire.Formats
		remotewrite.Register(&formats)
		for _, p := range r.Payloads() {
			d, err := formats.Decoders().For(buffer.FormatRemoteWriteV1)
			require.NoError(t, err)
			require.NoError(t, d.Decode(buffer.FormatRemoteWriteV1, p, wire.Limits{}))
			if first := d.Result().Rejects.First; first != nil {
				t.Fatalf("refused by the door: %v", first)
			}
		}
	})
}
