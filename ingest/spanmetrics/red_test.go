package spanmetrics

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

func TestRED(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Buckets = []float64{.01, .1, 1}; c.ServiceGraph.Enabled = false })
	s := newService(t, "checkout")
	for range 3 {
		s.span(t.Context(), "GET /cart", trace.SpanKindServer, 50*time.Millisecond)
	}
	s.span(t.Context(), "GET /cart", trace.SpanKindServer, 100*time.Millisecond) // the bound belongs to its bucket
	s.failed(t.Context(), "GET /cart", trace.SpanKindServer, 2*time.Second)
	s.span(t.Context(), "work", trace.SpanKindInternal, 0)
	r.Observe(0, batch(s))
	const ok = `service="checkout", span_kind="SPAN_KIND_SERVER", span_name="GET /cart", status_code="STATUS_CODE_UNSET"} `
	const failed = `service="checkout", span_kind="SPAN_KIND_SERVER", span_name="GET /cart", status_code="STATUS_CODE_ERROR"} `
	got := r.write()
	require.Equal(t, []string{`{__name__="traces_spanmetrics_calls_total", ` + failed + "1"}, only(got, "calls_total", "ERROR"))
	require.Equal(t, []string{
		`{__name__="traces_spanmetrics_calls_total", ` + ok + "4",
		`{__name__="traces_spanmetrics_latency_bucket", le="+Inf", ` + ok + "4",
		`{__name__="traces_spanmetrics_latency_bucket", le="0.01", ` + ok + "0",
		`{__name__="traces_spanmetrics_latency_bucket", le="0.1", ` + ok + "4",
		`{__name__="traces_spanmetrics_latency_bucket", le="1.0", ` + ok + "4",
		`{__name__="traces_spanmetrics_latency_count", ` + ok + "4",
		`{__name__="traces_spanmetrics_latency_sum", ` + ok + "0.25",
	}, only(got, ok))
	require.Len(t, only(got, "SPAN_KIND_INTERNAL"), 7)
	require.Len(t, got, 21)

	// Cumulative, over partitions.
	s.span(t.Context(), "GET /cart", trace.SpanKindServer, 50*time.Millisecond)
	r.Observe(1, batch(s))
	require.Equal(t, []string{`{__name__="traces_spanmetrics_calls_total", ` + ok + "5"}, only(r.write(), "calls_total", ok))
	require.Equal(t, 7.0, r.metric("spans_total"))
	require.Equal(t, 3.0, r.metric("label_sets", "kind", "red"))
	require.Len(t, r.Sink.Metadata(), 2)
	require.Equal(t, "histogram", r.Sink.Metadata()[1].Type)
}

func TestNames(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Names, c.Histograms = NamesOpenTelemetry, HistogramsNative
		c.Dimensions = []string{"http.method", "k8s.pod", "Env", "code", "missing"}
	})
	s := newService(t, "checkout", attribute.String("k8s.pod", "p1"), attribute.String("Env", "prod"), attribute.String("http.method", "resource"))
	s.span(t.Context(), "a", trace.SpanKindInternal, 3*time.Millisecond, attribute.String("http.method", "GET"), attribute.Int("code", 200))
	s.span(t.Context(), "a", trace.SpanKindInternal, 100*time.Millisecond, attribute.String("http.method", "GET"), attribute.Int("code", 200), attribute.String("k8s.pod", "p2"))
	s.span(t.Context(), "a", trace.SpanKindInternal, 0, attribute.Bool("code", true))
	r.Observe(0, batch(s))
	const rest = `service_name="checkout", span_kind="SPAN_KIND_INTERNAL", span_name="a", status_code="STATUS_CODE_UNSET"} `
	got := r.write()
	require.Equal(t, []string{
		`{Env="prod", __name__="traces_span_metrics_calls_total", code="200", http_method="GET", k8s_pod="p1", ` + rest + "1",
		`{Env="prod", __name__="traces_span_metrics_calls_total", code="200", http_method="GET", k8s_pod="p2", ` + rest + "1",
		`{Env="prod", __name__="traces_span_metrics_calls_total", code="true", http_method="resource", k8s_pod="p1", ` + rest + "1",
	}, only(got, "calls_total"))
	require.Equal(t, []string{
		`{Env="prod", __name__="traces_span_metrics_duration_seconds", code="200", http_method="GET", k8s_pod="p1", ` + rest + `{count:1, sum:0.003, (0.0027`,
		`{Env="prod", __name__="traces_span_metrics_duration_seconds", code="200", http_method="GET", k8s_pod="p2", ` + rest + `{count:1, sum:0.1, (0.0963`,
		`{Env="prod", __name__="traces_span_metrics_duration_seconds", code="true", http_method="resource", k8s_pod="p1", ` + rest + `{count:1, sum:0, [-1e-06`,
	}, shortened(only(got, "duration")))
}

// shortened cuts histograms after their sum and the first bound.
func shortened(lines []string) (out []string) {
	for _, l := range lines {
		i := strings.LastIndex(l, "} {count")
		j := strings.IndexAny(l[i:], "([")
		out = append(out, l[:i+j+7])
	}
	return out
}

func TestLabelValuesAreMadeFit(t *testing.T) {
	r := newRig(t, nil)
	s := newService(t, strings.Repeat("é", 300))
	s.span(t.Context(), "bad \xff name", trace.SpanKindInternal, 0)
	s.span(t.Context(), "bad \xfe name", trace.SpanKindInternal, 0)
	s.span(t.Context(), strings.Repeat("x", 5000), trace.SpanKindInternal, 0)
	anonymous := newService(t, "")
	anonymous.span(t.Context(), "", trace.SpanKindInternal, 0)
	r.Observe(0, batch(s, anonymous))
	got := only(r.write(), "calls_total")
	require.Len(t, got, 3)
	require.Equal(t, `{__name__="traces_spanmetrics_calls_total", service="unknown_service", span_kind="SPAN_KIND_INTERNAL", status_code="STATUS_CODE_UNSET"} 1`, got[0])
	require.Contains(t, got[1], "span_name=\"bad \uFFFD name\", status_code=\"STATUS_CODE_UNSET\"} 2")
	for s := range r.registry.tenants["default"].series {
		for rest := r.registry.tenants["default"].series[s].labels.bytes; len(rest) > 0; {
			_, value, next, err := labels.Next(rest)
			require.NoError(t, err)
			require.LessOrEqual(t, len(value), maxValueBytes)
			rest = next
		}
	}
	require.Equal(t, strings.Repeat("é", 255), string(cut([]byte("x" + strings.Repeat("é", 300))))[1:])
}

func TestOverflow(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxSeries = 5; c.Buckets = []float64{1} })
	s := newService(t, "a")
	for i := range 20 {
		s.span(t.Context(), fmt.Sprintf("op %d", i), trace.SpanKindInternal, time.Second)
	}
	b := batch(s)
	r.Observe(0, b)
	r.Observe(1, b) // the other partition knows the same label sets
	got := r.write()
	require.Len(t, only(got, "calls_total", `service="a"`, "} 2"), 5)
	require.Equal(t, []string{
		`{__name__="traces_spanmetrics_calls_total", otel_metric_overflow="true"} 30`,
		`{__name__="traces_spanmetrics_latency_bucket", le="+Inf", otel_metric_overflow="true"} 30`,
		`{__name__="traces_spanmetrics_latency_bucket", le="1.0", otel_metric_overflow="true"} 30`,
		`{__name__="traces_spanmetrics_latency_count", otel_metric_overflow="true"} 30`,
		`{__name__="traces_spanmetrics_latency_sum", otel_metric_overflow="true"} 30`,
	}, only(got, "overflow"))
	require.Equal(t, 30.0, r.metric("overflow_total"))

	// Another tenant has its own limit.
	b.Tenant = "other"
	r.Observe(0, b)
	r.write()
	lines := r.Sink.Lines()
	require.Len(t, only(lines, "other ", "calls_total", `service="a"`), 5)
	require.Len(t, only(lines, "other ", "calls_total", `overflow`, "} "), 1)
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.TTL, c.MaxSeries, c.Buckets = time.Minute, 1, []float64{1} })
		s := newService(t, "a")
		span := func(name string) {
			s.span(t.Context(), name, trace.SpanKindServer, time.Second)
			r.Observe(0, batch(s))
		}
		span("one")
		span("two")
		require.Len(t, only(r.write(), "calls_total"), 2)
		time.Sleep(30 * time.Second)
		span("one")
		require.Len(t, only(r.write(), "calls_total", "} 2"), 1)
		time.Sleep(30 * time.Second)
		got := r.write() // the overflow ends, and user's edge goes on
		require.Len(t, only(got, "NaN:"), 5)
		require.Equal(t, only(got, "NaN:"), only(got, "overflow"))
		require.Len(t, only(got, "calls_total", "} 2"), 1)
		time.Sleep(30 * time.Second)
		got = r.write()
		require.Len(t, only(got, "NaN:", "one"), 5)
		require.Empty(t, only(got, "overflow"))
		require.Zero(t, r.metric("label_sets", "kind", "red"))
		require.Empty(t, r.write())

		// There is room again, and the series begins at zero.
		span("two")
		require.Equal(t, []string{
			`{__name__="traces_spanmetrics_calls_total", service="a", span_kind="SPAN_KIND_SERVER", span_name="two", status_code="STATUS_CODE_UNSET"} 1`,
		}, only(r.write(), "calls_total"))
		last := only(r.Sink.Lines(), "calls_total", fmt.Sprintf(" %d 1 start=%d", r.flusher.last, time.Now().UnixMilli()))
		require.Len(t, last, 1)
	})
}

// Spans that come between the drain and the end of their series are not lost.
func TestExpiryRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.TTL = time.Minute; c.ServiceGraph.Enabled = false })
		s := newService(t, "a")
		s.span(t.Context(), "one", trace.SpanKindServer, 0)
		r.Observe(0, batch(s))
		r.write()
		time.Sleep(time.Minute)
		sh := (*r.shards.Load())[0]
		shards := map[int32]*shard{}
		r.shards.Store(&shards) // a flush that has drained the shard already
		s.span(t.Context(), "one", trace.SpanKindServer, 0)
		sh.observe(batch(s), time.Now().UnixNano())
		require.Len(t, only(r.write(), "calls_total", "NaN:"), 1)
		sh.sweep()
		shards[0] = sh
		require.Len(t, only(r.write(), "calls_total", "} 1"), 1)
		s.span(t.Context(), "one", trace.SpanKindServer, 0)
		r.Observe(0, batch(s))
		require.Len(t, only(r.write(), "calls_total", "} 2"), 1)
	})
}

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // 10 s decide
		r := newRig(t, func(c *Config) { c.MaxAge = time.Minute })
		s := newService(t, "a")
		at := func(end time.Time) {
			_, span := s.Start(t.Context(), "x", trace.WithTimestamp(end.Add(-time.Hour)))
			span.End(trace.WithTimestamp(end))
		}
		now := time.Now()
		at(now)
		at(now.Add(-50 * time.Second))
		at(now.Add(-2 * time.Minute))
		at(now.Add(2 * time.Minute))
		at(now.Add(-24 * time.Hour))
		b := batch(s)
		// A clock that ends spans before their start.
		b.Ends[0], b.Starts[0] = b.Starts[0], b.Ends[0]
		r.Observe(0, b)
		require.Len(t, only(r.write(), "calls_total", "} 2"), 1)
		require.Equal(t, 2.0, r.metric("skipped_spans_total", "reason", "old"))
		require.Equal(t, 1.0, r.metric("skipped_spans_total", "reason", "future"))
	})
}

// The eBPF probe counts requests and edges itself: its spans do not again.
func TestSpansOfProbe(t *testing.T) {
	r := newRig(t, nil)
	shop, cart := newService(t, "shop"), newService(t, "cart")
	ctx, _ := shop.span(t.Context(), "GET", trace.SpanKindClient, time.Second)
	cart.span(ctx, "GET", trace.SpanKindServer, time.Second)
	b := batch(shop, cart)
	for i := range b.Scopes {
		b.Scopes[i].Name = put(b, "github.com/vedette-io/vedette/ebpf")
	}
	_, _ = shop.span(t.Context(), "own", trace.SpanKindInternal, time.Second)
	own := batch(shop)
	r.Observe(0, b)
	r.Observe(0, own)
	lines := r.write()
	require.Empty(t, only(lines, "traces_service_graph"))
	require.Len(t, only(lines, "calls_total"), 1)
	require.Equal(t, 2.0, r.metric("skipped_spans_total", "reason", "probe"))
	require.Equal(t, 1.0, r.metric("spans_total"))
}

// A span that was sampled before it was sent stands for others, if it says so.
func TestAdjustedCounts(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Buckets = []float64{1} })
	s := newService(t, "a")
	const spans = 3000
	for range spans {
		s.span(t.Context(), "x", trace.SpanKindServer, time.Second)
	}
	b := batch(s)
	for i := range b.States {
		switch i % 3 {
		case 0:
			b.States[i] = put(b, "vendor=x,ot=th:8") // one of two
		case 1:
			b.States[i] = put(b, "ot=th:55555555555555;rv:00000000000000") // two of three
		}
	}
	r.Observe(0, b)
	got := r.write()
	value := func(line string) float64 {
		v, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		require.NoError(t, err)
		return v
	}
	calls := value(only(got, "calls_total")[0])
	require.InDelta(t, 1000*2+1000*1.5+1000, calls, 100)
	require.Equal(t, calls, value(only(got, "spanmetrics_latency_bucket", `"1.0"`)[0]))
	require.Equal(t, calls, value(only(got, "spanmetrics_latency_sum")[0]))
	require.Equal(t, float64(spans), value(only(got, "service_graph_request_total")[0]))
}

func TestExemplars(t *testing.T) {
	f := func(histograms string) {
		t.Helper()
		r := newRig(t, func(c *Config) { c.Buckets, c.Histograms = []float64{.01, .1, 1}, histograms })
		s := newService(t, "a")
		var slowest, other trace.Span
		for i := range 50 {
			d := time.Duration(i%40) * time.Millisecond
			_, span := s.span(t.Context(), "x", trace.SpanKindInternal, d)
			if i == 39 {
				slowest = span
			}
		}
		_, other = s.span(t.Context(), "x", trace.SpanKindInternal, 5*time.Second)
		r.Observe(0, batch(s))
		r.write()
		lines := only(r.Sink.Lines(), " # ")
		want := func(span trace.Span, value string) {
			t.Helper()
			ids := fmt.Sprintf(`# {span_id="%s", trace_id="%s"} %s `, span.SpanContext().SpanID(), span.SpanContext().TraceID(), value)
			require.Len(t, only(lines, ids), 1, "%s in %s", ids, strings.Join(lines, "\n"))
		}
		want(slowest, "0.039")
		want(other, "5")
		require.LessOrEqual(t, len(lines), maxExemplars)
		if histograms == HistogramsClassic {
			require.Len(t, lines, 3)
			require.Len(t, only(lines, `le="+Inf"`), 1)
			require.Len(t, only(lines, `le="0.1"`), 1)
		}
		r.write()
		require.Equal(t, lines, only(r.Sink.Lines(), " # "), "told once")
	}
	f(HistogramsClassic)
	f(HistogramsNative)
}

func TestNativeBuckets(t *testing.T) {
	l := newLayout(&Config{Histograms: HistogramsNative})
	var total, part hist
	sum := 0.0
	for i := range 2000 {
		d := int64(math.Exp2(float64(i%63))) + int64(i)
		if i%63 == 62 {
			d = math.MaxInt64
		}
		sum += float64(d) * 1e-9
		part.observe(l, &spanRef{trace: &signal.TraceID{}, span: &signal.SpanID{}, duration: d}, 1)
		if i%7 == 0 {
			total.take(&part)
		}
		require.LessOrEqual(t, len(total.counts), 450)
	}
	total.take(&part)
	total.take(&part)
	h := total.histogram()
	require.NoError(t, h.Validate())
	require.Equal(t, uint64(2000), h.Count)
	require.InEpsilon(t, sum, h.Sum, 1e-9)
	var one hist
	for _, d := range []int64{1, 1000, 1001, 1e6, 1 << 40} {
		one = hist{}
		one.observe(l, &spanRef{trace: &signal.TraceID{}, span: &signal.SpanID{}, duration: d}, 1)
		h := one.histogram()
		if d <= zeroNanos {
			require.Equal(t, uint64(1), h.ZeroCount)
			continue
		}
		it := h.PositiveBucketIterator()
		require.True(t, it.Next())
		v := float64(d) * 1e-9
		require.True(t, it.At().Lower < v && v <= it.At().Upper, "%g in %v", v, it.At())
	}
}

// A restart begins at zero with a new start.
func TestRunAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s := newService(t, "a")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		s.span(t.Context(), "x", trace.SpanKindInternal, 0)
		r.Observe(0, batch(s))
		time.Sleep(16 * time.Second)
		require.Len(t, only(r.Sink.Lines(), "calls_total", " 1 start="), 1)
		time.Sleep(15 * time.Second)
		require.Len(t, only(r.Sink.Lines(), "calls_total", " 1 start="), 2)
		s.span(t.Context(), "x", trace.SpanKindInternal, 0)
		r.Observe(0, batch(s))
		cancel()
		require.NoError(t, <-done)
		require.Len(t, only(r.Sink.Lines(), "calls_total", " 2 start="), 1)
	})
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
	f("interval: got 0s", func(c *Config) { c.Interval = 0 })
	f("names: got \"x\"", func(c *Config) { c.Names = "x" })
	f("histograms: got \"x\"", func(c *Config) { c.Histograms = "x" })
	f("buckets: got 0", func(c *Config) { c.Buckets = nil })
	f("buckets: got 1 at position 1", func(c *Config) { c.Buckets = []float64{2, 1} })
	f("dimensions: got \"span.name\"", func(c *Config) { c.Dimensions = []string{"span.name"} })
	f("dimensions: got \"a_b\"", func(c *Config) { c.Dimensions = []string{"a.b", "a_b"} })
	f("max_series: got 0", func(c *Config) { c.MaxSeries = 0 })
	f("ttl: got 1s", func(c *Config) { c.TTL = time.Second })
	f("max_age: got 0s", func(c *Config) { c.MaxAge = 0 })
	f("service_graph.wait: got 0s", func(c *Config) { c.ServiceGraph.Wait = 0 })
	f("service_graph.max_pending: got 0", func(c *Config) { c.ServiceGraph.MaxPending = 0 })
	f("service_graph.peer_attributes: got \"a\" at position 1", func(c *Config) { c.ServiceGraph.PeerAttributes = []string{"a", "a"} })
}
