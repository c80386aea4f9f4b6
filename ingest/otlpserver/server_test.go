package otlpserver

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/freeport"
	"github.com/vedette-io/vedette/internal/signal"
)

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.NoError(t, Config{HTTP: HTTPConfig{AllowedOrigins: []string{"*", "https://shop.example:8443"}}}.Validate())
	err := Config{
		GRPC: GRPCConfig{Listen: "4317"}, HTTP: HTTPConfig{Listen: "x", AllowedOrigins: []string{"shop.example", "https://shop.example/"}},
		Limits: door.EntryConfig{MaxConcurrent: -1},
	}.Validate()
	for _, want := range []string{
		`grpc.listen: got "4317", want host:port, or nothing`, `http.listen: got "x"`,
		`http.allowed_origins[0]: got "shop.example"`, `http.allowed_origins[1]`, `limits.max_concurrent: want 0 or more`,
	} {
		require.ErrorContains(t, err, want)
	}
}

// A port that is taken is reported when the server opens, and what was opened
// before is closed again.
func TestOpen(t *testing.T) {
	port, err := freeport.Reserve() // it is there for the second attempt
	require.NoError(t, err)
	defer port.Release()
	taken := port.Addr()
	l, err := net.Listen("tcp", taken)
	require.NoError(t, err)
	p := doortest.New(t, doortest.Options{})
	o := Options{
		Config: Config{GRPC: GRPCConfig{Listen: taken}, HTTP: HTTPConfig{Listen: "127.0.0.1:0"}},
		Entry:  p.Entry("otlp"), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	_, err = Open(t.Context(), o)
	require.ErrorContains(t, err, "open otlp server: grpc: listen tcp "+taken)
	require.NoError(t, l.Close())
	o.Registerer = prometheus.NewRegistry()
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, taken, s.GRPCAddr().String())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())

	o.Config, o.Registerer = Config{}, prometheus.NewRegistry()
	s, err = Open(t.Context(), o)
	require.NoError(t, err)
	require.Nil(t, s.GRPCAddr())
	require.Nil(t, s.HTTPAddr())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Run(ctx))
}

// Stop waits for a request under way on either transport, and nobody gets in
// any more.
func TestStop(t *testing.T) {
	arrived, proceed := make(chan struct{}, 2), make(chan struct{})
	sink := &ingesttest.Sink{Append: func(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
		arrived <- struct{}{}
		<-proceed
		return signal.AppendResult{Appended: b.Samples()}, nil
	}}
	s := newServer(t, doortest.Options{Sink: sink}, nil)
	client, _ := s.client(t)
	answers := make(chan error, 2)
	go func() {
		_, err := client.Export(context.Background(), gauge("a", time.Now(), 1))
		answers <- err
	}()
	<-arrived
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	// The listener is closed before requests are waited for.
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", s.HTTPAddr().String())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, 30*time.Second, time.Millisecond)
	select {
	case <-stopped:
		t.Fatal("the server has not waited for a request")
	default:
	}
	close(proceed)
	require.NoError(t, <-answers)
	<-stopped
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.Equal(t, codes.Unavailable, status.Code(err))
}

// A request that does not end is cancelled when Stop has waited long enough.
func TestStopImpatient(t *testing.T) {
	p := doortest.New(t, doortest.Options{})
	s, err := Open(t.Context(), Options{
		Config: Config{GRPC: GRPCConfig{Listen: "127.0.0.1:0"}, HTTP: HTTPConfig{Listen: "127.0.0.1:0"}},
		Entry:  p.Entry("otlp"), Logger: slog.New(slog.DiscardHandler), Registerer: p.Registerer,
	})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background()) }()
	// A body of which only a part comes.
	c, err := net.Dial("tcp", s.HTTPAddr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nabc"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Stop(ctx))
	require.NoError(t, <-done)
}

func TestToken(t *testing.T) {
	s := newServer(t, doortest.Options{}, func(o *Options) { o.BearerToken = config.NewLiveSecret("secret", "") })
	client, conn := s.client(t)
	for token, want := range map[string]codes.Code{"": codes.Unauthenticated, "Bearer other": codes.Unauthenticated, "Basic secret": codes.Unauthenticated, "bearer secret": codes.OK} {
		ctx := t.Context()
		h := http.Header{"Content-Type": {typeProtobuf}}
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", token)
			h.Set("Authorization", token)
		}
		_, err := client.Export(ctx, gauge("a", time.Now(), 1))
		require.Equal(t, want, status.Code(err), "%s: %v", token, err)
		code, header, _ := s.post(t, MetricsPath, h, marshal(t, gauge("b", time.Now(), 1)))
		if want == codes.OK {
			require.Equal(t, http.StatusOK, code)
		} else {
			require.Equal(t, http.StatusUnauthorized, code)
			require.Equal(t, "Bearer", header.Get("WWW-Authenticate"))
		}
	}
	// A prober has no token.
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, health.Status)
}

func TestReady(t *testing.T) {
	var ready atomic.Bool
	s := newServer(t, doortest.Options{}, func(o *Options) { o.Ready = ready.Load })
	client, conn := s.client(t)
	health := healthpb.NewHealthClient(conn)
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.Equal(t, codes.Unavailable, status.Code(err))
	requireRetryInfo(t, err)
	code, h, body := s.post(t, MetricsPath, http.Header{"Content-Type": {typeJSON}}, []byte("{}"))
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "1", h.Get("Retry-After"))
	require.Contains(t, body, "the buffer is being replayed")
	check, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: kinds[0].service})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, check.Status)

	ready.Store(true)
	_, err = client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.NoError(t, err)
	check, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: kinds[0].service})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, check.Status)
	_, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "other"})
	require.Equal(t, codes.NotFound, status.Code(err))
	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = watch.Recv()
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

// What was refused is told as a partial success, and what was not is kept.
func TestPartialSuccess(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	request := gauge("good", time.Now(), 1)
	late := gauge("bad", time.Now().Add(24*time.Hour), 1, 2)
	request.ResourceMetrics = append(request.ResourceMetrics, late.ResourceMetrics...)
	answer, err := client.Export(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, int64(2), answer.PartialSuccess.RejectedDataPoints)
	require.Contains(t, answer.PartialSuccess.ErrorMessage, "2 refused, the rest is written; first: ")
	require.Equal(t, []string{`default {__name__="good", i="0"} 1`}, s.timeless())

	code, _, body := s.post(t, MetricsPath, http.Header{"Content-Type": {typeProtobuf}}, marshal(t, request))
	require.Equal(t, http.StatusOK, code)
	var again collectorpb.ExportMetricsServiceResponse
	require.NoError(t, proto.Unmarshal([]byte(body), &again))
	require.Equal(t, int64(2), again.PartialSuccess.RejectedDataPoints)
	require.Equal(t, 2.0, testutil.ToFloat64(s.receiver.metrics.partial))

	answer, err = client.Export(t.Context(), gauge("good", time.Now(), 3))
	require.NoError(t, err)
	require.Nil(t, answer.PartialSuccess)
}

// Samples that the store refuses are told as well.
func TestPartialSuccessStore(t *testing.T) {
	s := newServer(t, doortest.Options{Sink: &ingesttest.Sink{Append: func(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
		return signal.AppendResult{Appended: b.Samples() - 1, Conflicts: 1, FirstError: "another value is there"}, nil
	}}}, nil)
	client, _ := s.client(t)
	answer, err := client.Export(t.Context(), gauge("a", time.Now(), 1, 2))
	require.NoError(t, err)
	require.Equal(t, int64(1), answer.PartialSuccess.RejectedDataPoints)
	require.Contains(t, answer.PartialSuccess.ErrorMessage, "another value is there")
}

func TestTenant(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	_, err := client.Export(metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "team-1"), gauge("a", time.Now(), 1))
	require.NoError(t, err)
	_, err = client.Export(metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "../x"), gauge("a", time.Now(), 1))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	code, _, _ := s.post(t, MetricsPath, http.Header{"Content-Type": {typeProtobuf}, "X-Scope-Orgid": {"team-2"}}, marshal(t, gauge("a", time.Now(), 1)))
	require.Equal(t, http.StatusOK, code)
	code, _, _ = s.post(t, MetricsPath, http.Header{"Content-Type": {typeProtobuf}, "X-Scope-Orgid": {"../x"}}, marshal(t, gauge("a", time.Now(), 1)))
	require.Equal(t, http.StatusBadRequest, code)
	require.Equal(t, []string{`team-1 {__name__="a", i="0"} 1`, `team-2 {__name__="a", i="0"} 1`}, s.timeless())
}

// Requests are counted by transport, format and encoding, and by the door's own
// metrics.
func TestMetrics(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1, 2))
	require.NoError(t, err)
	code, _, _ := s.post(t, MetricsPath, http.Header{"Content-Type": {typeJSON}}, []byte("{}"))
	require.Equal(t, http.StatusOK, code)
	code, _, _ = s.post(t, "/v1development/profiles", http.Header{"Content-Type": {typeJSON}}, []byte("{}"))
	require.Equal(t, http.StatusNotFound, code)
	const want = `
# HELP vedette_ingest_accepted_samples_total Samples, floats and histograms, that were acknowledged, duplicates of stored ones included.
# TYPE vedette_ingest_accepted_samples_total counter
vedette_ingest_accepted_samples_total{door="otlp"} 2
# HELP vedette_ingest_otlp_requests_total OTLP export requests by signal (metrics, traces, logs), transport (grpc, http), format (protobuf, json) and content encoding.
# TYPE vedette_ingest_otlp_requests_total counter
vedette_ingest_otlp_requests_total{encoding="identity",format="json",signal="metrics",transport="http"} 1
vedette_ingest_otlp_requests_total{encoding="identity",format="protobuf",signal="metrics",transport="grpc"} 1
# HELP vedette_ingest_requests_total Write requests by the way they came in and the status they were answered with.
# TYPE vedette_ingest_requests_total counter
vedette_ingest_requests_total{code="200",door="otlp"} 2
vedette_ingest_requests_total{code="404",door="otlp"} 1
`
	names := []string{"vedette_ingest_accepted_samples_total", "vedette_ingest_otlp_requests_total", "vedette_ingest_requests_total"}
	require.NoError(t, testutil.GatherAndCompare(s.Registerer, strings.NewReader(want), names...))
}
