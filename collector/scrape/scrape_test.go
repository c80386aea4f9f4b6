package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/signal"
)

var discard = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipeline is an entry into a whole pipeline, and the sink at its end.
func pipeline(t testing.TB) (*door.Entry, *ingesttest.Sink) {
	t.Helper()
	p := doortest.New(t, doortest.Options{})
	return p.Entry("scrape"), p.Sink
}

// exporter serves a registry with every kind of metric.
type exporter struct {
	*httptest.Server
	mu   sync.Mutex
	gone bool // serves nothing from now on
}

func newExporter(t *testing.T) *exporter {
	t.Helper()
	reg := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total", Help: "Requests."}, []string{"path"})
	counter.WithLabelValues("/").(prometheus.ExemplarAdder).AddWithExemplar(3, prometheus.Labels{"trace_id": "abc"})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", Help: "Latency.", NativeHistogramBucketFactor: 1.1})
	for _, v := range []float64{.1, .2, .2, 5} {
		native.Observe(v)
	}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "temperature", Help: "Temperature."})
	gauge.Set(math.Inf(1))
	reg.MustRegister(counter, native, gauge)
	e := &exporter{}
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.gone {
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Load(text, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return cfg
}

// start runs a scraper until the test ends.
func start(t *testing.T, w Writer, text string) *Scraper {
	t.Helper()
	s, err := New(Options{Writer: w, Config: load(t, text), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return s
}

// eventually waits until the sink has lines that hold all the given parts.
func eventually(t *testing.T, sink *ingesttest.Sink, parts ...string) {
	t.Helper()
	for _, part := range parts {
		require.Eventually(t, func() bool {
			return strings.Contains(strings.Join(sink.Lines(), "\n"), part)
		}, time.Minute, 10*time.Millisecond, "no line with %s", part)
	}
}

func TestScrape(t *testing.T) {
	d, sink := pipeline(t)
	e := newExporter(t)
	target := e.Listener.Addr().String()
	s := start(t, d, fmt.Sprintf(`
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
scrape_configs:
- job_name: app
  scrape_native_histograms: true
  static_configs: [{targets: [%q], labels: {zone: a}}]
  relabel_configs: [{source_labels: [__address__], regex: none, action: drop}]
- job_name: dropped
  static_configs: [{targets: [%q]}]
  relabel_configs: [{action: drop}]
`, target, target))

	series := func(name, more string) string {
		return fmt.Sprintf(`default {__name__=%q, instance=%q, job="app", %szone="a"} `, name, target, more)
	}
	eventually(t, sink,
		series("requests_total", `path="/", `),
		series("requests_total", `path="/", `)+"# {trace_id=\"abc\"} 3 ",
		series("temperature", ""),
		series("latency_seconds", ""),
		series("up", ""),
		series("scrape_duration_seconds", ""),
	)
	joined := strings.Join(sink.Lines(), "\n")
	require.Regexp(t, `requests_total".* \d+ 3 start=\d+`, joined, "the created timestamp is kept")
	require.Regexp(t, `latency_seconds".* \{count:4, sum:5.5, .* start=\d+`, joined)
	require.Regexp(t, `"temperature".* \+Inf`, joined)
	require.Contains(t, sink.Metadata(), signal.Metadata{Family: "requests_total", Type: "counter", Help: "Requests."})
	require.Contains(t, sink.Metadata(), signal.Metadata{Family: "latency_seconds", Type: "histogram", Help: "Latency."})
	for _, m := range sink.Metadata() {
		require.NotContains(t, m.Family, "\xff")
	}

	require.Len(t, s.TargetsActive()["app"], 1)
	require.Len(t, s.TargetsDropped()["dropped"], 1)
	require.Equal(t, 1, s.TargetsDroppedCounts()["dropped"])
	require.ElementsMatch(t, []string{"app", "dropped"}, s.ScrapePools())

	// A target that fails leaves staleness markers and up 0.
	e.mu.Lock()
	e.gone = true
	e.mu.Unlock()
	stale := fmt.Sprintf("NaN:%x", value.StaleNaN)
	require.Eventually(t, func() bool {
		marked, down := false, false
		for _, l := range sink.Lines() {
			marked = marked || strings.HasPrefix(l, series("temperature", "")) && strings.HasSuffix(l, stale)
			down = down || strings.HasPrefix(l, series("up", "")) && strings.HasSuffix(l, " 0")
		}
		return marked && down
	}, time.Minute, 10*time.Millisecond)

	// An exemplar that an exporter goes on showing is stored once.
	n := 0
	for _, l := range sink.Lines() {
		if strings.Contains(l, "# {trace_id") {
			n++
		}
	}
	require.Equal(t, 1, n)
}

func TestFileDiscoveryAndReload(t *testing.T) {
	d, sink := pipeline(t)
	e := newExporter(t)
	file := filepath.Join(t.TempDir(), "targets.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `[{"targets": [%q], "labels": {"from": "file"}}]`, e.Listener.Addr()), 0o644))
	text := `
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
scrape_configs:
- job_name: %s
  file_sd_configs: [{files: [%q]}]
`
	s := start(t, d, fmt.Sprintf(text, "one", file))
	eventually(t, sink, `from="file", instance="`+e.Listener.Addr().String()+`", job="one"`)
	require.NoError(t, s.ApplyConfig(load(t, fmt.Sprintf(text, "two", file))))
	eventually(t, sink, `job="two"`)
	require.Equal(t, []string{"two"}, s.ScrapePools())
}

// recorder is a writer that keeps payloads or fails.
type recorder struct {
	err   error
	sizes []int
	next  Writer
}

func (r *recorder) Write(ctx context.Context, tenantID string, format buffer.Format, compressed []byte) (door.Written, error) {
	r.sizes = append(r.sizes, len(compressed))
	if r.err != nil || r.next == nil {
		return door.Written{}, r.err
	}
	return r.next.Write(ctx, tenantID, format, compressed)
}

func newTestAppendable(w Writer) *appendable {
	return newAppendable(w, "default", slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()))
}

func TestAppender(t *testing.T) {
	d, sink := pipeline(t)
	p := newTestAppendable(d)
	ls := labels.FromStrings("__name__", "m", "a", "b")
	now := time.Now().UnixMilli()

	a := p.AppenderV2(t.Context())
	ref, err := a.Append(0, ls, now-5000, now, 1, nil, nil, storage.AOptions{
		MetricFamilyName: "m", Metadata: metadata.Metadata{Type: model.MetricTypeCounter, Help: "h", Unit: "u"},
		Exemplars: []exemplar.Exemplar{{Labels: labels.FromStrings("id", "x"), Value: 9, Ts: now - 1, HasTs: true}},
	})
	require.NoError(t, err)
	require.NotZero(t, ref)
	_, err = a.Append(ref, ls, 0, now, 2, nil, nil, storage.AOptions{})
	require.ErrorIs(t, err, storage.ErrDuplicateSampleForTimestamp)
	again, err := a.Append(ref, ls, 0, now, 1, nil, nil, storage.AOptions{})
	require.NoError(t, err)
	require.Equal(t, ref, again)
	h := &histogram.FloatHistogram{Count: 1, Sum: 2, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{1}}
	_, err = a.Append(0, labels.FromStrings("__name__", "h"), now-1000, now, 0, nil, h, storage.AOptions{})
	require.NoError(t, err)
	_, err = a.Append(0, labels.EmptyLabels(), 0, now, 0, nil, nil, storage.AOptions{})
	require.Error(t, err)
	require.NoError(t, a.Commit())
	require.Equal(t, []string{
		fmt.Sprintf(`default {__name__="h"} %d %s start=%d`, now, h.String(), now-1000),
		fmt.Sprintf(`default {__name__="m", a="b"} # {id="x"} 9 %d`, now-1),
		fmt.Sprintf(`default {__name__="m", a="b"} %d 1 start=%d`, now, now-5000),
	}, sink.Lines())
	require.Equal(t, []signal.Metadata{{Family: "m", Type: "counter", Help: "h", Unit: "u"}}, sink.Metadata())

	// A late staleness marker is refused, another late sample is the store's matter.
	a = p.AppenderV2(t.Context())
	_, err = a.Append(ref, ls, 0, now-1, math.Float64frombits(value.StaleNaN), nil, nil, storage.AOptions{RejectOutOfOrder: true})
	require.ErrorIs(t, err, storage.ErrOutOfOrderSample)
	_, err = a.Append(ref, ls, 0, now-1, 7, nil, nil, storage.AOptions{})
	require.NoError(t, err)
	// What is rolled back has not happened, to the appender either.
	_, err = a.Append(ref, ls, 0, now+1, 3, nil, nil, storage.AOptions{})
	require.NoError(t, err)
	require.NoError(t, a.Rollback())
	require.Len(t, sink.Lines(), 3)
	a = p.AppenderV2(t.Context())
	_, err = a.Append(ref, ls, 0, now+1, 4, nil, nil, storage.AOptions{})
	require.NoError(t, err)
	require.NoError(t, a.Commit())
	require.Contains(t, sink.Lines(), fmt.Sprintf(`default {__name__="m", a="b"} %d 4`, now+1))
}

// A commit that fails leaves no trace, and an unknown reference finds its series.
func TestAppenderFailure(t *testing.T) {
	r := &recorder{err: errors.New("disk is full")}
	p := newTestAppendable(r)
	ls := labels.FromStrings("__name__", "m")
	meta := storage.AOptions{MetricFamilyName: "m", Metadata: metadata.Metadata{Type: model.MetricTypeGauge}}
	a := p.AppenderV2(t.Context())
	ref, err := a.Append(0, ls, 0, 10, 1, nil, nil, meta)
	require.NoError(t, err)
	require.EqualError(t, a.Commit(), "disk is full")
	require.Empty(t, p.families)

	r.err = &door.PartialError{Refused: 1, First: "too old"}
	a = p.AppenderV2(t.Context())
	same, err := a.Append(999, ls, 0, 10, 2, nil, nil, meta)
	require.NoError(t, err, "the failed scrape's sample is not a duplicate")
	require.Equal(t, ref, same)
	require.NoError(t, a.Commit())
	require.Len(t, p.families, 1)
}

// A scrape of very many series is cut into requests that a door takes.
func TestLargeScrape(t *testing.T) {
	d, sink := pipeline(t)
	r := &recorder{next: d}
	p := newTestAppendable(r)
	a := p.AppenderV2(t.Context())
	const n = 20_000
	now := time.Now().UnixMilli()
	for i := range n {
		_, err := a.Append(0, labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "pad", strings.Repeat("x", 100)), 0, now, 1, nil, nil, storage.AOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, a.Commit())
	require.Len(t, r.sizes, 3)
	require.Len(t, sink.Lines(), n)
}

// Series that are no longer scraped are forgotten.
func TestCacheSweep(t *testing.T) {
	c := newCache()
	begin := time.Now()
	old := c.getLocked(0, labels.FromStrings("a", "b"), begin)
	kept := c.getLocked(0, labels.FromStrings("a", "c"), begin)
	require.Same(t, kept, c.getLocked(kept.ref, labels.FromStrings("a", "c"), begin.Add(19*time.Minute)))
	c.sweep(begin.Add(21 * time.Minute))
	require.Equal(t, 1, c.size())
	require.NotEqual(t, old.ref, c.getLocked(old.ref, labels.FromStrings("a", "b"), begin).ref)
}

func BenchmarkAppend(b *testing.B) {
	p := newTestAppendable(&recorder{})
	const n = 1000
	var lsets []labels.Labels
	refs := make([]storage.SeriesRef, n)
	for i := range n {
		lsets = append(lsets, labels.FromStrings("__name__", fmt.Sprintf("node_metric_%d", i), "instance", "10.0.0.1:9100", "job", "node"))
	}
	b.ReportAllocs()
	t := int64(1_700_000_000_000)
	for b.Loop() {
		a := p.AppenderV2(b.Context())
		t += 15_000
		for i, ls := range lsets {
			ref, err := a.Append(refs[i], ls, 0, t, float64(i), nil, nil, storage.AOptions{})
			if err != nil {
				b.Fatal(err)
			}
			refs[i] = ref
		}
		if err := a.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
}
