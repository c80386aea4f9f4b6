package jaeger

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	jthrift "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/internal/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	*httptest.Server
	*doortest.Pipeline
	receiver *Receiver
	t        *testing.T
}

func newServer(t *testing.T, change func(*door.Config)) *server {
	p := doortest.New(t, doortest.Options{Formats: otlptraces.Register, Config: change})
	v := New(Options{Entry: p.Entry("jaeger"), Registerer: p.Registerer})
	srv := httptest.NewServer(v)
	t.Cleanup(srv.Close)
	return &server{srv, p, v, t}
}

func (s *server) post(body []byte, header ...string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL+Path+"?format=jaeger.thrift", bytes.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, answer.Header, strings.TrimSpace(string(text))
}

const wantSpan = `default ffffffffffffffff000000000000000a 0000000000000002 0000000000000001 "GET /" 2 2 1700000000000000000 1700000000001500000 attributes=6 events=2 links=1`

func TestAnswers(t *testing.T) {
	s := newServer(t, func(c *door.Config) { c.MaxBodyBytes, c.MaxDecodedBytes = 1<<20, 1<<20 })
	f := func(want int, text string, body []byte, header ...string) http.Header {
		t.Helper()
		code, h, got := s.post(body, header...)
		require.Equal(t, text, got)
		require.Equal(t, want, code)
		return h
	}
	good := thriftBody(t, sampleThrift())
	f(202, "", good, "Content-Type", "application/x-thrift")
	f(202, "", good, "Content-Type", "application/vnd.apache.thrift.binary; charset=x")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(good)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	f(202, "", packed.Bytes(), "Content-Type", "application/x-thrift", "Content-Encoding", "gzip", tenant.Header, "team-a")
	require.Contains(t, s.SpanSink.Spans(), strings.Replace(wantSpan, "default", "team-a", 1))
	require.Len(t, s.SpanSink.Spans(), 6)
	require.Equal(t, 6.0, testutil.ToFloat64(s.receiver.metrics.spans.WithLabelValues("thrift")))

	f(400, "Cannot parse content type: mime: no media type", good)
	f(400, "Unsupported content type: text/plain", good, "Content-Type", "text/plain")
	f(400, "Unable to process request body: thrift: byte 3: type: got 120", []byte("x\x00\x00"), "Content-Type", "application/x-thrift")
	f(415, `write: Content-Encoding: got "br", want gzip, zstd, deflate or identity`, good, "Content-Type", "application/x-thrift", "Content-Encoding", "br")
	f(413, "http: request body too large", make([]byte, 2<<20), "Content-Type", "application/x-thrift")
	empty := &jthrift.Batch{Process: &jthrift.Process{ServiceName: "a"}, Spans: []*jthrift.Span{}}
	f(202, "", thriftBody(t, empty), "Content-Type", "application/x-thrift")

	// A span without an id is refused, and the others are written.
	before := len(s.SpanSink.Spans())
	b := sampleThrift()
	b.Spans[0].SpanId = 0
	code, _, text := s.post(thriftBody(t, b), "Content-Type", "application/x-thrift")
	require.Equal(t, 400, code)
	require.Contains(t, text, "1 refused, the rest is written")
	require.Len(t, s.SpanSink.Spans(), before+1)

	answer, err := s.Client().Get(s.URL + Path)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 405, answer.StatusCode)
}

func TestBackPressure(t *testing.T) {
	s := newServer(t, func(c *door.Config) { c.Limits.Spans.PerSecond, c.Limits.Spans.Burst = 0.001, 1 })
	body := thriftBody(t, sampleThrift())
	code, _, _ := s.post(body, "Content-Type", "application/x-thrift")
	require.Equal(t, 202, code)
	code, h, text := s.post(body, "Content-Type", "application/x-thrift")
	require.Equal(t, 429, code)
	require.NotEmpty(t, h.Get("Retry-After"))
	require.Contains(t, text, "spans per second")
	s.Door.Close()
	code, h, _ = s.post(body, "Content-Type", "application/x-thrift")
	require.Equal(t, 503, code)
	require.NotEmpty(t, h.Get("Retry-After"))
}

// TestGRPC lets Jaeger's generated client post to the listener of OTLP.
func TestGRPC(t *testing.T) {
	s := newServer(t, nil)
	otlp, err := otlpserver.Open(t.Context(), otlpserver.Options{
		Config:  otlpserver.Config{GRPC: otlpserver.GRPCConfig{Listen: "127.0.0.1:0"}},
		Entry:   s.Entry("otlp"),
		Methods: map[string]otlpserver.Method{PostSpansMethod: s.receiver.PostSpans},
		Logger:  slog.New(slog.DiscardHandler), Registerer: s.Registerer,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- otlp.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	conn, err := grpc.NewClient(otlp.GRPCAddr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	client := api_v2.NewCollectorServiceClient(conn)
	span := &model.Span{TraceID: model.NewTraceID(1, 2), SpanID: 3, OperationName: "op", StartTime: time.Unix(1, 0), Duration: 5}
	batch := model.Batch{Process: &model.Process{ServiceName: "a"}, Spans: []*model.Span{span}}
	_, err = client.PostSpans(metadata.AppendToOutgoingContext(ctx, strings.ToLower(tenant.Header), "team-b"), &api_v2.PostSpansRequest{Batch: batch})
	require.NoError(t, err)
	require.Equal(t, []string{`team-b 00000000000000010000000000000002 0000000000000003 0000000000000000 "op" 0 0 1000000000 1000000005 attributes=0 events=0 links=0`}, s.SpanSink.Spans())

	span.StartTime = time.Unix(-1, 0)
	_, err = client.PostSpans(ctx, &api_v2.PostSpansRequest{Batch: batch})
	require.Equal(t, codes.InvalidArgument, grpcstatus.Code(err))
	require.ErrorContains(t, err, "spans[0]: startTime: got -1 s")
	require.Equal(t, 1.0, testutil.ToFloat64(s.receiver.metrics.refused.WithLabelValues("protobuf")))
}
