package zipkin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/internal/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	*httptest.Server
	*doortest.Pipeline
	handler *Handler
	t       *testing.T
}

func newServer(t *testing.T, change func(*door.Config)) *server {
	p := doortest.New(t, doortest.Options{Formats: otlptraces.Register, Config: change})
	h := New(Options{Entry: p.Entry("zipkin"), Registerer: p.Registerer})
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &server{srv, p, h, t}
}

func (s *server) do(method, path, body string, header ...string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, answer.Header, string(text)
}

func (s *server) accept(path, body string, header ...string) {
	s.t.Helper()
	code, _, text := s.do(http.MethodPost, path, body, header...)
	require.Equal(s.t, 202, code, text)
	require.Empty(s.t, text)
}

func zipped(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, body)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.String()
}

func TestFormats(t *testing.T) {
	s := newServer(t, nil)
	const one = `[{"traceId":"1","id":"%","timestamp":1000,"duration":5,"name":"a"}]`
	body := func(id string) string { return strings.Replace(one, "%", id, 1) }
	s.accept(pathV2, body("1"), "Content-Type", "application/json")
	s.accept(pathV2, body("2"), "Content-Type", "application/x-www-form-urlencoded") // curl's own
	s.accept(pathV2, body("3"))
	s.accept(pathV1, body("4"), "Content-Type", "application/json; charset=utf-8")
	s.accept("/zipkin"+pathV2, zipped(t, body("5")), "Content-Encoding", "gzip")
	s.accept(pathV2, string(encodeProto(t, modelSpans()...)), "Content-Type", "application/x-protobuf")
	s.accept(pathV1, string(encodeThrift(t, thriftSpans()...)), "Content-Type", "application/x-thrift", tenant.Header, "team-a")
	s.accept(pathV2, "")
	s.accept(pathV2, "[]")
	require.Equal(t, []string{
		`default 00000000000000000000000000000001 0000000000000001 0000000000000000 "a" 0 0 1000000 1005000 attributes=0 events=0 links=0`,
		`default 00000000000000000000000000000001 0000000000000002 0000000000000000 "a" 0 0 1000000 1005000 attributes=0 events=0 links=0`,
		`default 00000000000000000000000000000001 0000000000000003 0000000000000000 "a" 0 0 1000000 1005000 attributes=0 events=0 links=0`,
		`default 00000000000000000000000000000001 0000000000000004 0000000000000000 "a" 0 0 1000000 1005000 attributes=0 events=0 links=0`,
		`default 00000000000000000000000000000001 0000000000000005 0000000000000000 "a" 0 0 1000000 1005000 attributes=0 events=0 links=0`,
		`default 00000000000000000000000000000007 0000000000000003 0000000000000000 "local" 0 0 1556604172355737000 1556604172355738000 attributes=0 events=0 links=0`,
		`default 00000000000000050000000000000007 0000000000000002 0000000000000001 "get /api" 2 0 1556604172355737000 1556604172357168000 attributes=7 events=1 links=0`,
		`team-a 0000000000000000000000000000000a 0000000000000003 0000000000000000 "local" 0 0 7000 8000 attributes=0 events=0 links=0`,
		`team-a ffffffffffffffff000000000000000a 0000000000000002 0000000000000001 "get" 2 0 110000 120000 attributes=2 events=1 links=0`,
		`team-a ffffffffffffffff000000000000000a 0000000000000002 0000000000000001 "get" 3 0 100000 150000 attributes=12 events=0 links=0`,
	}, s.SpanSink.Spans())
	require.Equal(t, 2.0, testutil.ToFloat64(s.handler.metrics.spans.WithLabelValues("PROTO3")))
	require.Equal(t, 3.0, testutil.ToFloat64(s.handler.metrics.spans.WithLabelValues("THRIFT")))
	require.Equal(t, 1.0, testutil.ToFloat64(s.handler.metrics.splits))
}

// TestReporter lets zipkin-go's reporter post to the real handler.
func TestReporter(t *testing.T) {
	s := newServer(t, nil)
	rep := newReporter(s.URL + pathV2)
	for _, span := range modelSpans() {
		rep.Send(span)
	}
	require.NoError(t, rep.Close())
	require.Len(t, s.SpanSink.Spans(), 2)
}

func TestAnswers(t *testing.T) {
	s := newServer(t, func(c *door.Config) { c.MaxBodyBytes, c.MaxDecodedBytes = 1<<20, 2<<20 })
	f := func(want int, text, body string, header ...string) {
		t.Helper()
		code, h, got := s.do(http.MethodPost, pathV2, body, header...)
		require.Equal(t, text, got)
		require.Equal(t, want, code)
		require.Equal(t, "text/plain; charset=utf-8", h.Get("Content-Type"))
	}
	// A bad span refuses the good ones with it.
	f(400, "zz should be lower-hex encoded with no prefix at $[1].traceId reading List<Span> from json", `[{"traceId":"1","id":"1"},{"traceId":"zz","id":"1"}]`)
	f(400, "Expected a JSON_V2 encoded list reading List<Span> from json", `{"traceId":"1","id":"1"}`)
	f(400, "Expected a PROTO3 encoded list reading List<Span> from proto3", "[]", "Content-Type", "application/x-protobuf")
	f(415, `write: Content-Encoding: got "br", want gzip, zstd, deflate or identity`, "[]", "Content-Encoding", "br")
	f(413, "http: request body too large", strings.Repeat(" ", 2<<20))
	code, _, text := s.do(http.MethodPost, pathV2, zipped(t, strings.Repeat(" ", 3<<20)), "Content-Encoding", "gzip")
	require.Equal(t, 413, code)
	require.Contains(t, text, "want <= 2097152")
	code, _, text = s.do(http.MethodPost, pathV2, "[]", tenant.Header, "a/b")
	require.Equal(t, 400, code, text)
	require.Empty(t, s.SpanSink.Spans())

	code, h, _ := s.do(http.MethodGet, pathV2, "")
	require.Equal(t, 405, code)
	require.Equal(t, "POST", h.Get("Allow"))
	code, _, _ = s.do(http.MethodPost, "/api/v3/spans", "")
	require.Equal(t, 404, code)
	require.Equal(t, 2.0, testutil.ToFloat64(s.handler.metrics.refused.WithLabelValues("JSON_V2")))
}

func TestBackPressure(t *testing.T) {
	s := newServer(t, func(c *door.Config) { c.Limits.Spans.PerSecond, c.Limits.Spans.Burst = 0.001, 1 })
	const body = `[{"traceId":"1","id":"1","timestamp":1},{"traceId":"1","id":"2","timestamp":1}]`
	s.accept(pathV2, body)
	code, h, text := s.do(http.MethodPost, pathV2, body)
	require.Equal(t, 429, code)
	require.NotEmpty(t, h.Get("Retry-After"))
	require.Contains(t, text, "spans per second")
	s.Door.Close()
	code, h, _ = s.do(http.MethodPost, pathV2, body)
	require.Equal(t, 503, code)
	require.NotEmpty(t, h.Get("Retry-After"))
}
