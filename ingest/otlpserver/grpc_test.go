package otlpserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
)

// compressor is what a client registers.
type compressor struct {
	name string
	pack func(io.Writer) (io.WriteCloser, error)
}

func (c compressor) Name() string                                 { return c.name }
func (c compressor) Compress(w io.Writer) (io.WriteCloser, error) { return c.pack(w) }
func (c compressor) Decompress(r io.Reader) (io.Reader, error) {
	return nil, errors.New("answers are plain")
}

func init() {
	encoding.RegisterCompressor(compressor{"zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }})
	encoding.RegisterCompressor(compressor{"snappy", func(w io.Writer) (io.WriteCloser, error) {
		return s2.NewWriter(w, s2.WriterSnappyCompat()), nil
	}})
	encoding.RegisterCompressor(compressor{"unheard", func(w io.Writer) (io.WriteCloser, error) { return nopCloser{w}, nil }})
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func requireRetryInfo(t *testing.T, err error) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			require.Positive(t, info.RetryDelay.AsDuration())
			return
		}
	}
	t.Fatalf("no RetryInfo in %v", err)
}

func TestGRPCEncodings(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	for _, name := range []string{"identity", "gzip", "zstd", "snappy"} {
		var o []grpc.CallOption
		if name != "identity" {
			o = append(o, grpc.UseCompressor(name))
		}
		_, err := client.Export(t.Context(), gauge("a_"+name, time.Now(), 1), o...)
		require.NoError(t, err, name)
		require.Equal(t, 1.0, testutil.ToFloat64(s.receiver.metrics.requests.WithLabelValues("metrics", "grpc", "protobuf", name)))
	}
	require.Len(t, s.timeless(), 4)
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1), grpc.UseCompressor("unheard"))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "identity, gzip, zstd, snappy, deflate")
}

// A request with a large message, of many frames.
func TestGRPCLarge(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	request := gauge("a", time.Now(), make([]float64, 50_000)...)
	require.Greater(t, len(marshal(t, request)), 1<<20)
	for range 3 {
		answer, err := client.Export(t.Context(), request)
		require.NoError(t, err)
		require.Nil(t, answer.PartialSuccess)
	}
	require.Len(t, s.timeless(), 3*50_000)
}

func TestGRPCErrors(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) {
		c.MaxBodyBytes, c.MaxDecodedBytes, c.MaxInFlightBytes = 50_000, 100_000, 1<<20
	}}, nil)
	client, conn := s.client(t)
	big := make([]float64, 20_000)
	_, err := client.Export(t.Context(), gauge("a", time.Now(), big...))
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "want <= 50000")
	_, err = client.Export(t.Context(), gauge("a", time.Now(), big...), grpc.UseCompressor("zstd"))
	require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "want <= 100000")
	err = conn.Invoke(t.Context(), "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export", &logspb.ExportLogsServiceRequest{}, &logspb.ExportLogsServiceResponse{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "profiles are not taken in: this server takes metrics, traces and logs")
	err = conn.Invoke(t.Context(), "/a.b/Cä", &logspb.ExportLogsServiceRequest{}, &logspb.ExportLogsServiceResponse{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client.Export(ctx, gauge("a", time.Now(), 1))
	require.Equal(t, codes.Canceled, status.Code(err))
	require.Empty(t, s.timeless())
}

// largeBytes is more than a busyServer has room for, and a tenth of what it has
// when nobody else is there.
const largeBytes = 400 << 10

// busyServer is one whose memory is taken by bodies that were announced and do
// not come, until release is called.
func busyServer(t *testing.T) (s *server, release func()) {
	t.Helper()
	const bodies, announced = 2, 3 << 20
	s = newServer(t, doortest.Options{Config: func(c *door.Config) {
		c.MaxBodyBytes, c.MaxDecodedBytes, c.MaxInFlightBytes = announced, 1<<20, bodies*announced+largeBytes*2/3
		c.QueueTimeout = time.Millisecond
	}}, nil)
	web := webClient(t)
	in, out := io.Pipe()
	var senders sync.WaitGroup
	for range bodies {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTPAddr().String()+MetricsPath, in)
		require.NoError(t, err)
		r.Header.Set("Content-Type", typeProtobuf)
		r.ContentLength = announced
		senders.Go(func() {
			if answer, err := web.Do(r); err == nil {
				_ = answer.Body.Close()
			}
		})
	}
	release = func() {
		_ = out.CloseWithError(errors.New("the sender has gone"))
		senders.Wait()
	}
	t.Cleanup(release)
	require.Eventually(t, func() bool { return s.metric(t, "vedette_ingest_in_flight_bytes") > bodies*announced }, time.Minute, time.Millisecond)
	return s, release
}

// metric returns the sum of a family's gauges and counters.
func (s *server) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := s.Registerer.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// A door without memory makes clients wait.
func TestBackPressure(t *testing.T) {
	s, _ := busyServer(t)
	client, _ := s.client(t)
	large := gauge("a", time.Now(), 1)
	large.ResourceMetrics[0].SchemaUrl = strings.Repeat("x", largeBytes)
	_, err := client.Export(t.Context(), large)
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	requireRetryInfo(t, err)
	code, h, _ := s.post(t, MetricsPath, http.Header{"Content-Type": {typeProtobuf}}, marshal(t, large))
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "1", h.Get("Retry-After"))
	// A small one has room beside it.
	_, err = client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.NoError(t, err)
}

// The Go SDK waits and sends again.
func TestBackPressureGoSDK(t *testing.T) {
	const soon, late = time.Millisecond, time.Minute
	for _, transport := range []string{"grpc", "http"} {
		t.Run(transport, func(t *testing.T) {
			s, release := busyServer(t)
			var e sdk.Exporter
			var err error
			if transport == "grpc" {
				e, err = otlpmetricgrpc.New(t.Context(), otlpmetricgrpc.WithEndpoint(s.GRPCAddr().String()), otlpmetricgrpc.WithInsecure(),
					otlpmetricgrpc.WithTimeout(late), otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: soon, MaxInterval: soon, MaxElapsedTime: late}))
			} else {
				e, err = otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpoint(s.HTTPAddr().String()), otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithHTTPClient(webClient(t)),
					otlpmetrichttp.WithTimeout(late), otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: soon, MaxInterval: soon, MaxElapsedTime: late}))
			}
			require.NoError(t, err)
			defer func() { _ = e.Shutdown(context.Background()) }()
			rm := measure(t, sdk.DefaultTemporalitySelector)
			rm.ScopeMetrics[0].Metrics[0].Description = strings.Repeat("x", largeBytes)
			sent := make(chan error, 1)
			go func() { sent <- e.Export(context.Background(), rm) }()
			require.Eventually(t, func() bool { return s.metric(t, "vedette_ingest_requests_total") > 0 }, time.Minute, time.Millisecond)
			release()
			require.NoError(t, <-sent)
			require.Equal(t, fromSDK, s.timeless())
		})
	}
}

// Somebody who sends more than allowed is told when to come back.
func TestRate(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) { c.Limits.SamplesPerSecond, c.Limits.SamplesBurst = 0.01, 1 }}, nil)
	client, _ := s.client(t)
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1, 2))
	require.NoError(t, err)
	_, err = client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	requireRetryInfo(t, err)
	code, h, _ := s.post(t, MetricsPath, http.Header{"Content-Type": {typeProtobuf}}, marshal(t, gauge("a", time.Now(), 1)))
	require.Equal(t, http.StatusTooManyRequests, code)
	require.NotEmpty(t, h.Get("Retry-After"))
}

// A door that has closed is not there for now.
func TestClosedDoor(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	client, _ := s.client(t)
	s.Door.Close()
	_, err := client.Export(t.Context(), gauge("a", time.Now(), 1))
	require.Equal(t, codes.Unavailable, status.Code(err))
	requireRetryInfo(t, err)
}

// Calls that no client library makes.
func TestGRPCHostileCalls(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport}
	call := func(body []byte, headers ...string) (string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.GRPCAddr().String()+kinds[0].method(), bytes.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", typeGRPC)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		answer, err := web.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		require.NoError(t, err)
		return answer.Trailer.Get("Grpc-Status"), answer.Trailer.Get("Grpc-Message")
	}
	good := marshal(t, gauge("a", time.Now(), 1))
	message := append([]byte{0, 0, 0, 0, byte(len(good))}, good...)
	for _, tc := range []struct {
		name    string
		body    []byte
		headers []string
		status  string
		text    string
	}{
		{"good", message, nil, "0", ""},
		{"with proto", message, []string{"Content-Type", "application/grpc+proto"}, "0", ""},
		{"with time", message, []string{"Grpc-Timeout", "99999999H"}, "0", ""},
		{"plain though compression is named", message, []string{"Grpc-Encoding", "gzip"}, "0", ""},
		{"nothing", nil, nil, "3", "the call has no message"},
		{"half a prefix", message[:3], nil, "1", "unexpected EOF"},
		{"half a message", message[:20], nil, "1", "unexpected EOF"},
		{"two messages", append(bytes.Clone(message), message...), nil, "3", "the call has more than one message"},
		{"flag", append([]byte{7}, message[1:]...), nil, "3", "prefix of the message: got flag 7, want 0 or 1"},
		{"compressed by nothing", append([]byte{1}, message[1:]...), nil, "12", `Grpc-Encoding: got ""`},
		{"not compressed", append([]byte{1}, message[1:]...), []string{"Grpc-Encoding", "gzip"}, "3", "gzip body"},
		{"huge", []byte{0, 0xff, 0xff, 0xff, 0xff}, nil, "3", "message: got 4294967295 bytes"},
		{"timeout", message, []string{"Grpc-Timeout", "soon"}, "3", `grpc-timeout: got "soon"`},
		{"no timeout", message, []string{"Grpc-Timeout", "S"}, "3", `grpc-timeout: got "S"`},
		{"not protobuf", []byte{0, 0, 0, 0, 2, 0x0a, 0x7f}, nil, "3", "ExportMetricsServiceRequest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, text := call(tc.body, tc.headers...)
			require.Equal(t, tc.status, code, text)
			require.Contains(t, text, tc.text)
		})
	}
	// OTLP/HTTP at the wrong port.
	answer, err := webClient(t).Post("http://"+s.GRPCAddr().String()+MetricsPath, typeJSON, strings.NewReader("{}"))
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusUnsupportedMediaType, answer.StatusCode)
	require.Contains(t, string(text), "this port speaks gRPC; OTLP over HTTP is served by http://"+s.HTTPAddr().String()+" at /v1/metrics, /v1/traces and /v1/logs")
}

func TestPercentEncode(t *testing.T) {
	require.Equal(t, "100%25 %C3%A4%0A", percentEncode("100% ä\n"))
}
