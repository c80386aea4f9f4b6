package scrape

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/signal"
)

// families encodes metric families as an exporter does.
func families(t *testing.T, all ...*dto.MetricFamily) string {
	t.Helper()
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim).WithEscapingScheme(model.NoEscaping))
	for _, f := range all {
		require.NoError(t, e.Encode(f))
	}
	return b.String()
}

func exemplarOf(id string, v float64, at int64) *dto.Exemplar {
	e := &dto.Exemplar{Label: []*dto.LabelPair{{Name: proto.String("trace_id"), Value: proto.String(id)}}, Value: proto.Float64(v)}
	if at != 0 {
		e.Timestamp = timestamppb.New(time.UnixMilli(at))
	}
	return e
}

// nativeHistogram has three observations in buckets, one of them zero; as floats
// if asked to.
func nativeHistogram(floats bool) *dto.Histogram {
	h := &dto.Histogram{
		SampleSum: proto.Float64(5.5), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(.001),
		PositiveSpan:     []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(2)}},
		CreatedTimestamp: timestamppb.New(time.UnixMilli(1700000002000)),
		Exemplars:        []*dto.Exemplar{exemplarOf("n1", .7, 1700000003000), exemplarOf("n2", 1.5, 1700000004000)},
	}
	if floats {
		h.SampleCountFloat, h.ZeroCountFloat, h.PositiveCount = proto.Float64(4.5), proto.Float64(1), []float64{1.5, 2}
		return h
	}
	h.SampleCount, h.ZeroCount, h.PositiveDelta = proto.Uint64(4), proto.Uint64(1), []int64{1, 1}
	h.Bucket = []*dto.Bucket{{UpperBound: proto.Float64(1), CumulativeCount: proto.Uint64(2)}}
	return h
}

func histogramFamily(name string, typ dto.MetricType, h *dto.Histogram) *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String(name), Help: proto.String("Help."), Unit: proto.String("seconds"), Type: typ.Enum(), Metric: []*dto.Metric{{Histogram: h}}}
}

func TestProtobuf(t *testing.T) {
	const native = "scrape_native_histograms: true"
	pair := &dto.LabelPair{Name: proto.String("code"), Value: proto.String("200")}
	counter := &dto.MetricFamily{
		Name: proto.String("p_requests_total"), Help: proto.String("Requests."), Type: dto.MetricType_COUNTER.Enum(),
		Metric: []*dto.Metric{{
			Label: []*dto.LabelPair{pair},
			Counter: &dto.Counter{
				Value: proto.Float64(3), Exemplar: exemplarOf("abc", 1, 1700000000500), CreatedTimestamp: timestamppb.New(time.UnixMilli(1700000000250)),
			},
		}},
	}
	summary := &dto.MetricFamily{Name: proto.String("p_summary"), Type: dto.MetricType_SUMMARY.Enum(), Metric: []*dto.Metric{{Summary: &dto.Summary{
		SampleCount: proto.Uint64(2), SampleSum: proto.Float64(3), Quantile: []*dto.Quantile{{Quantile: proto.Float64(.5), Value: proto.Float64(1)}},
		CreatedTimestamp: timestamppb.New(time.UnixMilli(1700000001000)),
	}}}}
	gauge := &dto.MetricFamily{Name: proto.String("größe"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(-1)}}}}
	classic := []string{
		`{__name__="p_seconds_bucket", le="1.0"} 2 start=1700000002000`, `{__name__="p_seconds_bucket", le="+Inf"} 4 start=1700000002000`,
		`{__name__="p_seconds_count"} 4 start=1700000002000`, `{__name__="p_seconds_sum"} 5.5 start=1700000002000`,
	}
	integer := func(name string) []string {
		return []string{
			`{__name__="` + name + `"} {count:4, sum:5.5, [-0.001,0.001]:1, (0.5,1]:1, (1,2]:2} start=1700000002000`,
			`{__name__="` + name + `"} @1700000003000 # {trace_id="n1"} 0.7 `, `{__name__="` + name + `"} @1700000004000 # {trace_id="n2"} 1.5 `,
		}
	}
	float := []string{
		`{__name__="p_seconds"} {count:4.5, sum:5.5, [-0.001,0.001]:1, (0.5,1]:1.5, (1,2]:2} start=1700000002000`,
		`{__name__="p_seconds"} @1700000003000 # {trace_id="n1"} 0.7 `, `{__name__="p_seconds"} @1700000004000 # {trace_id="n2"} 1.5 `,
	}
	page := families(t, histogramFamily("p_seconds", dto.MetricType_HISTOGRAM, nativeHistogram(false)))
	_, p := check(t, []feature{
		{name: "scalars", contentType: protobuf, body: families(t, counter, summary, gauge), want: []string{
			`{__name__="p_requests_total", code="200"} 3 start=1700000000250`,
			`{__name__="p_requests_total", code="200"} @1700000000500 # {trace_id="abc"} 1 `,
			`{__name__="p_summary", quantile="0.5"} 1 start=1700000001000`,
			`{__name__="p_summary_count"} 2 start=1700000001000`, `{__name__="p_summary_sum"} 3 start=1700000001000`,
			`{__name__="größe"} -1`,
		}},
		{name: "native", job: native, contentType: protobuf, body: page, want: integer("p_seconds")},
		{name: "classic", contentType: protobuf, body: page, want: classic},
		{name: "both", job: native + "\nalways_scrape_classic_histograms: true", contentType: protobuf, body: page, want: slices.Concat(classic, integer("p_seconds"))},
		{name: "float", job: native, contentType: protobuf, body: families(t, histogramFamily("p_seconds", dto.MetricType_HISTOGRAM, nativeHistogram(true))), want: float},
		{
			name: "gauge_histogram", job: native, contentType: protobuf,
			body: families(t, histogramFamily("p_gauge", dto.MetricType_GAUGE_HISTOGRAM, nativeHistogram(false))), want: integer("p_gauge"),
		},
		// 1 is a boundary at every resolution, so these cannot become one bucket.
		{name: "bucket_limit", job: native + "\nnative_histogram_bucket_limit: 1", contentType: protobuf, body: page, down: true},
		{name: "min_factor", job: native + "\nnative_histogram_min_bucket_factor: 4", contentType: protobuf, body: page, want: []string{
			`{__name__="p_seconds"} {count:4, sum:5.5, [-0.001,0.001]:1, (0.25,1]:1, (1,4]:2} start=1700000002000`,
			`{__name__="p_seconds"} @1700000003000 # {trace_id="n1"} 0.7 `, `{__name__="p_seconds"} @1700000004000 # {trace_id="n2"} 1.5 `,
		}},
		{name: "cut", contentType: protobuf, body: page[:len(page)-3], down: true},
	})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "p_requests_total", Type: "counter", Help: "Requests."})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "p_gauge", Type: "gaugehistogram", Help: "Help.", Unit: "seconds"})
}

// When a target goes away, series with timestamps of their own get a staleness
// marker only if the job tracks them.
func TestStaleness(t *testing.T) {
	base := time.Now().Add(-time.Minute).UnixMilli()
	var gone atomic.Bool
	serve := func(w http.ResponseWriter, _ *http.Request) {
		if gone.Load() {
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", text)
		_, _ = io.WriteString(w, fmt.Sprintf("timed 1 %d\nuntimed 2\n", base))
	}
	features := []feature{
		{name: "plain", serve: serve},
		{name: "tracked", serve: serve, job: "track_timestamps_staleness: true"},
	}
	p := doortest.New(t, doortest.Options{})
	start(t, p.Entry("scrape"), jobs(features, server(t, features).Listener.Addr().String()))
	up := func(v string) func() bool {
		return func() bool { return reported(p.Sink, "plain", v) >= 2 && reported(p.Sink, "tracked", v) >= 2 }
	}
	require.Eventually(t, up("1"), time.Minute, 20*time.Millisecond)
	gone.Store(true)
	require.Eventually(t, up("0"), time.Minute, 20*time.Millisecond)
	marked := func(name, job string) bool {
		marker := regexp.MustCompile(fmt.Sprintf(`__name__=%q.* job=%q.* NaN:%x`, name, job, uint64(value.StaleNaN)))
		return slices.ContainsFunc(p.Sink.Lines(), marker.MatchString)
	}
	require.True(t, marked("untimed", "plain"))
	require.True(t, marked("untimed", "tracked"))
	require.True(t, marked("timed", "tracked"))
	require.False(t, marked("timed", "plain"))
	for _, line := range p.Sink.Lines() {
		require.False(t, strings.Contains(line, `"up"`) && strings.Contains(line, "NaN"), line)
	}
}
