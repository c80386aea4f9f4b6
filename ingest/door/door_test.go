package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// server is a door over an embedded log with a consumer behind it.
type server struct {
	door  *Door
	entry *Entry
	sink  *ingesttest.Sink
	log   *buffer.Log
	fsys  *vfs.Mem
	reg   *prometheus.Registry
	stop  func()
}

func newServer(t *testing.T, partitions int, change func(*Config, *ingesttest.Sink)) *server {
	t.Helper()
	s := &server{sink: &ingesttest.Sink{}, fsys: vfs.NewMem(), reg: prometheus.NewRegistry()}
	s.log = openLog(t, s.fsys, partitions)
	cfg := DefaultConfig()
	cfg.StoreTimeout = time.Minute
	if change != nil {
		change(&cfg, s.sink)
	}
	var err error
	s.door, err = New(options(s.log, cfg, s.reg))
	require.NoError(t, err)
	s.entry = entry(t, s.door)
	stop := consume(t, s.log, s.sink)
	s.stop = sync.OnceFunc(func() {
		s.door.Close()
		stop()
		require.NoError(t, s.log.Close())
	})
	t.Cleanup(s.stop)
	return s
}

func formats() *wire.Formats {
	f := &wire.Formats{}
	remotewrite.Register(f)
	return f
}

func options(b buffer.Buffer, cfg Config, reg prometheus.Registerer) Options {
	return Options{Buffer: b, Config: cfg, Formats: formats(), Logger: slog.New(slog.DiscardHandler), Registerer: reg}
}

func entry(t testing.TB, d *Door) *Entry {
	t.Helper()
	e, err := d.Entry("remote_write", EntryConfig{})
	require.NoError(t, err)
	return e
}

func openLog(t testing.TB, fsys vfs.FS, partitions int) *buffer.Log {
	t.Helper()
	cfg := buffer.DefaultConfig()
	cfg.Partitions = map[string]int{buffer.TopicMetrics: partitions}
	l, err := buffer.Open(cfg, fsys, "log", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return l
}

// consume runs a consumer, which has caught up when consume returns.
func consume(t testing.TB, l buffer.Buffer, sink ingest.Sink) (stop func()) {
	t.Helper()
	c, err := ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: l, Sink: sink, Config: ingest.DefaultConsumerConfig(), Formats: formats(),
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.CaughtUp()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func (s *server) post(body []byte, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	r.Header.Set("Content-Encoding", "snappy")
	r.Header.Set("Content-Type", typeV1)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	RemoteWrite{s.entry}.ServeHTTP(w, r)
	return w
}

type sample struct {
	name  string
	time  int64
	value float64
}

func v1(t testing.TB, samples ...sample) []byte {
	t.Helper()
	var req prompb.WriteRequest
	for _, s := range samples {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: s.value, Timestamp: s.time}}}
		if s.name != "" {
			ts.Labels = []prompb.Label{{Name: "__name__", Value: s.name}}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	b, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, b)
}

func v2(t testing.TB, samples ...sample) []byte {
	t.Helper()
	syms := writev2.NewSymbolTable()
	var req writev2.Request
	for _, s := range samples {
		ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: s.value, Timestamp: s.time, StartTimestamp: s.time - 1}}}
		if s.name != "" {
			ts.LabelsRefs = []uint32{syms.Symbolize("__name__"), syms.Symbolize(s.name)}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = syms.Symbols()
	b, err := req.Marshal()
	require.NoError(t, err)
	return s2.EncodeSnappy(nil, b)
}

func TestWrite(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, partitions := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			s := newServer(t, partitions, nil)
			w := s.post(v1(t, sample{"a", now, 1}, sample{"b", now, 2}, sample{"c", now, 3}))
			require.Equal(t, http.StatusNoContent, w.Code, w.Body)
			require.Empty(t, w.Header().Get(headerSamples))
			w = s.post(v2(t, sample{"d", now, 4}, sample{"e", now, 5}), "Content-Type", typeV2, tenant.Header, "team-1")
			require.Equal(t, http.StatusNoContent, w.Code, w.Body)
			require.Equal(t, "2", w.Header().Get(headerSamples))
			require.Equal(t, "0", w.Header().Get(headerHistograms))
			require.Equal(t, "0", w.Header().Get(headerExemplars))
			want := []string{
				fmt.Sprintf(`default {__name__="a"} %d 1`, now),
				fmt.Sprintf(`default {__name__="b"} %d 2`, now),
				fmt.Sprintf(`default {__name__="c"} %d 3`, now),
				fmt.Sprintf(`team-1 {__name__="d"} %d 4 start=%d`, now, now-1),
				fmt.Sprintf(`team-1 {__name__="e"} %d 5 start=%d`, now, now-1),
			}
			// What was acknowledged is in the store already, and comes out of the
			// log again after a crash.
			require.Equal(t, want, s.sink.Lines())
			s.stop()
			l := openLog(t, s.fsys, partitions)
			var again ingesttest.Sink
			consume(t, l, &again)()
			require.NoError(t, l.Close())
			require.Equal(t, want, again.Lines())
		})
	}
}

// Bad series are reported, the rest is written, and a replay brings exactly
// that, though the clock and the limits have moved.
func TestPartial(t *testing.T) {
	now := time.Now().UnixMilli()
	for _, partitions := range []int{1, 3} {
		s := newServer(t, partitions, func(c *Config, _ *ingesttest.Sink) { c.Limits.MaxLabelValueBytes = 10 })
		samples := []sample{
			{"good", now, 1}, {"", now, 2}, {"ahead", now + 3_600_000, 3}, {"far_too_long_a_name", now, 4}, {"fine", now, 5},
		}
		w := s.post(v1(t, samples...))
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Equal(t, "write: 3 refused, the rest is written; first: series {}: label \"__name__\" is missing or empty\n", w.Body.String())
		w = s.post(v2(t, samples...), "Content-Type", typeV2, tenant.Header, "other")
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Equal(t, "2", w.Header().Get(headerSamples))
		require.Len(t, s.sink.Lines(), 4)
		s.stop()
		l := openLog(t, s.fsys, partitions)
		var again ingesttest.Sink
		consume(t, l, &again)()
		require.NoError(t, l.Close())
		require.Equal(t, s.sink.Lines(), again.Lines())

		w = s.post(v1(t, sample{"a", now, 1}))
		require.Equal(t, http.StatusServiceUnavailable, w.Code, "closed")
	}
}

// What the store refuses is reported as well.
func TestStoreRejects(t *testing.T) {
	now := time.Now().UnixMilli()
	result := signal.AppendResult{}
	s := newServer(t, 1, func(_ *Config, sink *ingesttest.Sink) {
		sink.Append = func(*signal.Metrics, int32, int64) (signal.AppendResult, error) { return result, nil }
	})
	result = signal.AppendResult{Appended: 1, Duplicates: 1, TooOld: 1, FirstError: "series x: too old"}
	body := v2(t, sample{"a", now, 1}, sample{"b", now, 1}, sample{"c", now, 1})
	w := s.post(body, "Content-Type", typeV2)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "write: 1 refused, the rest is written; first: series x: too old\n", w.Body.String())
	require.Equal(t, "2", w.Header().Get(headerSamples))

	result = signal.AppendResult{Duplicates: 3}
	w = s.post(body, "Content-Type", typeV2)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Equal(t, "3", w.Header().Get(headerSamples))
}

func TestRefusals(t *testing.T) {
	s := newServer(t, 1, func(c *Config, _ *ingesttest.Sink) {
		c.MaxBodyBytes, c.MaxDecodedBytes = 10_000, 100_000
		c.MaxInFlightBytes = 64 << 20
	})
	good := v1(t, sample{"a", 1, 1})
	incompressible := make([]byte, 20_000)
	rnd := rand.NewChaCha8([32]byte{})
	_, _ = rnd.Read(incompressible)
	for _, tc := range []struct {
		name    string
		body    []byte
		headers []string
		code    int
		text    string
	}{
		{"empty request", s2.EncodeSnappy(nil, nil), nil, 204, ""},
		{"encoding", good, []string{"Content-Encoding", "gzip"}, 415, `write: Content-Encoding: got "gzip", want snappy`},
		{"type", good, []string{"Content-Type", "application/json"}, 415, `write: Content-Type: got "application/json", want application/x-protobuf`},
		{"proto", good, []string{"Content-Type", "application/x-protobuf;proto=x.Y"}, 415, "write: Content-Type"},
		{"tenant", good, []string{tenant.Header, "a/b"}, 400, `byte '/' at position 1`},
		{"dots", good, []string{tenant.Header, ".."}, 400, "it starts with a dot"},
		{"long tenant", good, []string{tenant.Header, strings.Repeat("x", 129)}, 400, "129 bytes, want at most 128"},
		{"no snappy", []byte("\xff\xff\xff\xff\xff\xff"), nil, 400, "decode snappy block: byte 0: no valid length"},
		{"no protobuf", s2.EncodeSnappy(nil, []byte("hello")), nil, 400, "decode prometheus.WriteRequest: byte 2: no valid field tag"},
		{"empty body", nil, nil, 400, "decode snappy block"},
		{"large body", incompressible, nil, 413, "http: request body too large"},
		{"large decoded", s2.EncodeSnappy(nil, make([]byte, 150_000)), nil, 413, "uncompressed body: got 150000 bytes, want <= 100000"},
		{"bomb", []byte{0xff, 0xff, 0x03, 0, 0}, nil, 400, "claims more bytes than its length can hold"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := s.post(tc.body, tc.headers...)
			require.Equal(t, tc.code, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.text)
		})
	}
	w := httptest.NewRecorder()
	RemoteWrite{s.entry}.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/write", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.Equal(t, "POST", w.Header().Get("Allow"))
	require.Empty(t, s.sink.Lines())
	require.Zero(t, s.door.waiting.Load())
	require.True(t, s.door.memory.TryAcquire(s.door.cfg.MaxInFlightBytes), "memory was not given back")
}

// fakeBuffer answers every append with its err.
type fakeBuffer struct {
	err      error
	appended chan buffer.Record
}

func (f *fakeBuffer) Source() string        { return "fake" }
func (f *fakeBuffer) Partitions(string) int { return 1 }
func (f *fakeBuffer) Close() error          { return nil }
func (f *fakeBuffer) Consume(context.Context, string, string, func(context.Context, buffer.Claim) error) error {
	return nil
}

func (f *fakeBuffer) Append(_ context.Context, _ string, _ int, rs []buffer.Record) (int64, error) {
	if f.err == nil && f.appended != nil {
		f.appended <- rs[0]
	}
	return 0, f.err
}

func TestBufferErrors(t *testing.T) {
	for _, tc := range []struct {
		err   error
		code  int
		retry string
	}{
		{&buffer.FullError{Reason: "disk", RetryAfter: 1500 * time.Millisecond}, 503, "2"},
		{&buffer.FullError{Reason: "disk"}, 503, "1"},
		{buffer.ErrClosed, 503, "1"},
		{buffer.ErrTooLarge, 413, ""},
		{context.DeadlineExceeded, 503, "1"},
		{context.Canceled, 499, ""},
		{errors.New("i/o error"), 500, ""},
	} {
		d, err := New(options(&fakeBuffer{err: fmt.Errorf("append: %w", tc.err)}, DefaultConfig(), prometheus.NewRegistry()))
		require.NoError(t, err)
		s := &server{door: d, entry: entry(t, d)}
		w := s.post(v1(t, sample{"a", 1, 1}))
		require.Equal(t, tc.code, w.Code, "%v", tc.err)
		require.Equal(t, tc.retry, w.Header().Get("Retry-After"))
		require.True(t, d.memory.TryAcquire(d.cfg.MaxInFlightBytes), "memory was not given back")
	}
}

// If the store is behind, the answer does not wait for it, memory stays charged
// until it has caught up, and beyond half of it batches go without.
func TestStoreBehind(t *testing.T) {
	fake := &fakeBuffer{appended: make(chan buffer.Record, 1)}
	cfg := DefaultConfig()
	cfg.StoreTimeout = time.Millisecond
	d, err := New(options(fake, cfg, prometheus.NewRegistry()))
	require.NoError(t, err)
	s := &server{door: d, entry: entry(t, d)}
	body := v2(t, sample{"a", 1, 1})
	w := s.post(body, "Content-Type", typeV2)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Equal(t, "1", w.Header().Get(headerSamples))
	first := (<-fake.appended).Attachment.(*ingest.Delivery)
	require.Positive(t, d.waiting.Load())

	d.waiting.Add(cfg.MaxInFlightBytes)
	require.Equal(t, http.StatusNoContent, s.post(body, "Content-Type", typeV2).Code)
	require.Nil(t, (<-fake.appended).Attachment)
	d.waiting.Add(-cfg.MaxInFlightBytes)

	require.Equal(t, []string{` {__name__="a"} 1 1`}, ingesttest.Lines(first.Metrics), "a batch in wait is untouched")
	first.Finish(signal.AppendResult{Appended: 1})
	require.Zero(t, d.waiting.Load())
	require.True(t, d.memory.TryAcquire(cfg.MaxInFlightBytes), "memory was not given back")
}

func TestRateLimit(t *testing.T) {
	s := newServer(t, 1, func(c *Config, _ *ingesttest.Sink) {
		c.TenantLimits = map[string]Limits{"small": {SamplesPerSecond: 0.001, SamplesBurst: 2}}
	})
	body := v1(t, sample{"a", 1, 1}, sample{"b", 1, 1}, sample{"c", 1, 1})
	require.Equal(t, 204, s.post(body, tenant.Header, "small").Code, "a burst may overdraw")
	w := s.post(body, tenant.Header, "small")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Contains(t, w.Body.String(), `tenant "small" sends more than 0.001 samples per second`)
	require.Equal(t, 204, s.post(body, tenant.Header, "large").Code)
}

// Whatever arrives, the charged memory stays within the budget, and a request
// that finds no room is told to come back.
func TestMemoryBudget(t *testing.T) {
	s := newServer(t, 1, func(c *Config, _ *ingesttest.Sink) {
		c.MaxBodyBytes, c.MaxDecodedBytes, c.MaxInFlightBytes = 1<<20, 2<<20, 6<<20
		c.QueueTimeout = time.Millisecond
	})
	srv := httptest.NewServer(RemoteWrite{s.entry})
	defer srv.Close()
	// Empty histograms are two bytes on the wire and hundreds in memory.
	ts := []byte{0x0a, 0x0d, 0x0a, 0x08, '_', '_', 'n', 'a', 'm', 'e', '_', '_', 0x12, 0x01, 'm'}
	for range 200_000 {
		ts = append(ts, 0x22, 0x00)
	}
	hostile := s2.EncodeSnappy(nil, append([]byte{0x0a, 0x80 | byte(len(ts)&0x7f), 0x80 | byte(len(ts)>>7&0x7f), byte(len(ts) >> 14)}, ts...))
	var wg sync.WaitGroup
	codes := make(chan int, 40)
	for range cap(codes) {
		wg.Go(func() {
			// A body of unknown length.
			r, err := http.NewRequest(http.MethodPost, srv.URL, io.NopCloser(bytes.NewReader(hostile)))
			if err != nil {
				codes <- 0
				return
			}
			resp, err := srv.Client().Do(r)
			if err != nil {
				codes <- 0
				return
			}
			_ = resp.Body.Close()
			codes <- resp.StatusCode
		})
	}
	wg.Wait()
	close(codes)
	for code := range codes {
		require.Equal(t, http.StatusServiceUnavailable, code)
	}
	srv.Client().CloseIdleConnections()
	require.Empty(t, s.sink.Lines())
	require.True(t, s.door.memory.TryAcquire(s.door.cfg.MaxInFlightBytes), "memory was not given back")
}

// Concurrent writers over several partitions: everything arrives once.
func TestConcurrent(t *testing.T) {
	s := newServer(t, 3, nil)
	now := time.Now().UnixMilli()
	var wg sync.WaitGroup
	var want []string
	for i := range 8 {
		for j := range 20 {
			want = append(want, fmt.Sprintf(`default {__name__="w%d"} %d 1`, i, now+int64(j)), fmt.Sprintf(`default {__name__="x%d"} %d 2`, i, now+int64(j)))
		}
		wg.Go(func() {
			for j := range 20 {
				at := now + int64(j)
				if w := s.post(v1(t, sample{fmt.Sprintf("w%d", i), at, 1}, sample{fmt.Sprintf("x%d", i), at, 2})); w.Code != 204 {
					t.Errorf("got %d: %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(want)
	require.Equal(t, want, s.sink.Lines())
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	bad := DefaultConfig()
	bad.MaxBodyBytes, bad.MaxConcurrent, bad.BodyTimeout = 0, 0, 0
	bad.MaxInFlightBytes = 5
	bad.TenantLimits = map[string]Limits{"a/b": {}}
	err := bad.Validate()
	for _, key := range []string{"max_body_bytes", "max_in_flight_bytes", "max_concurrent", "body_timeout", "tenant_limits"} {
		require.ErrorContains(t, err, key)
	}
	c := DefaultConfig()
	c.TenantLimits = map[string]Limits{"t": {MaxLabels: 5, MaxFuture: -1, Spans: SpanLimits{MaxEvents: 3}}}
	spans := c.Limits.Spans
	spans.MaxEvents = 3
	require.Equal(t, Limits{MaxLabels: 5, MaxLabelNameBytes: 1024, MaxLabelValueBytes: 4096, MaxFuture: -1, Spans: spans, Logs: c.Limits.Logs}, c.limitsOf("t"))
	require.Equal(t, c.Limits, c.limitsOf("other"))
}

func FuzzHTTP(f *testing.F) {
	f.Add(v1(f, sample{"a", 1, 1}, sample{"", 2, 2}), typeV1, "snappy", "t")
	f.Add(v2(f, sample{"a", 1, 1}), typeV2, "snappy", "")
	f.Fuzz(func(t *testing.T, body []byte, contentType, encoding, id string) {
		cfg := DefaultConfig()
		cfg.MaxDecodedBytes = 1 << 20
		d, err := New(options(&fakeBuffer{}, cfg, prometheus.NewRegistry()))
		if err != nil {
			t.Fatal(err)
		}
		d.cfg.StoreTimeout = 0
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header = http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}, tenant.Header: {id}}
		w := httptest.NewRecorder()
		RemoteWrite{entry(t, d)}.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("got %d: %s", w.Code, w.Body)
		}
	})
}

func BenchmarkServe(b *testing.B) {
	var req prompb.WriteRequest
	const series = 5000
	for i := range series {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: fmt.Sprintf("node_cpu_seconds_total_%d", i%300)}, {Name: "cpu", Value: fmt.Sprint(i % 16)},
				{Name: "environment", Value: "production"}, {Name: "instance", Value: fmt.Sprintf("10.0.0.%d:9100", i/300)},
				{Name: "job", Value: "node"}, {Name: "mode", Value: "idle"},
			},
			Samples: []prompb.Sample{{Value: float64(i), Timestamp: 1_700_000_000_000}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(b, err)
	body := s2.EncodeSnappy(nil, raw)
	l := openLog(b, vfs.NewMem(), 1)
	d, err := New(options(l, DefaultConfig(), prometheus.NewRegistry()))
	require.NoError(b, err)
	stop := consume(b, l, nullSink{})
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		w := httptest.NewRecorder()
		RemoteWrite{entry(b, d)}.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/sample")
	stop()
	require.NoError(b, l.Close())
}

type nullSink struct{}

func (nullSink) AppendMetrics(_ context.Context, b *signal.Metrics, _, _ string, _ int32, _ int64) (signal.AppendResult, error) {
	return signal.AppendResult{Appended: b.Samples()}, nil
}
func (nullSink) Durable(string, string, int32) int64 { return 0 }
func (nullSink) Covered(string, string, int32) int64 { return 0 }
func (nullSink) Flush(context.Context) error         { return nil }
