package otlpserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/pythontest"
)

// newTraceServer starts a server that takes traces, too.
func newTraceServer(t *testing.T) *server {
	return newServer(t, doortest.Options{Partitions: 2}, nil)
}

// sentLines are the lines that a sink has of a request.
func sentLines(t *testing.T, tenant string, request []byte) []string {
	t.Helper()
	var u ptrace.ProtoUnmarshaler
	td, err := u.UnmarshalTraces(request)
	require.NoError(t, err)
	var out []string
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				parent := [8]byte(s.ParentSpanID())
				out = append(out, fmt.Sprintf("%s %x %x %x %q %d %d %d %d attributes=%d events=%d links=%d", tenant, [16]byte(s.TraceID()), [8]byte(s.SpanID()), parent,
					s.Name(), s.Kind(), s.Status().Code(), s.StartTimestamp(), s.EndTimestamp(), s.Attributes().Len(), s.Events().Len(), s.Links().Len()))
			}
		}
	}
	slices.Sort(out)
	return out
}

// recorder keeps what it hands on.
type recorder struct {
	otlptrace.Client
	sent []*tracepb.ResourceSpans
}

func (r *recorder) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	r.sent = append(r.sent, spans...)
	return r.Client.UploadTraces(ctx, spans)
}

// What the Go SDK sends by each of its exporters arrives.
func TestGoSDKTraces(t *testing.T) {
	clients := map[string]func(*server) otlptrace.Client{
		"grpc": func(s *server) otlptrace.Client {
			return otlptracegrpc.NewClient(otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(s.GRPCAddr().String()))
		},
		"grpc gzip": func(s *server) otlptrace.Client {
			return otlptracegrpc.NewClient(otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(s.GRPCAddr().String()), otlptracegrpc.WithCompressor("gzip"))
		},
		"http": func(s *server) otlptrace.Client {
			return otlptracehttp.NewClient(otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(s.HTTPAddr().String()), otlptracehttp.WithHTTPClient(webClient(t)))
		},
		"http gzip": func(s *server) otlptrace.Client {
			return otlptracehttp.NewClient(otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(s.HTTPAddr().String()), otlptracehttp.WithHTTPClient(webClient(t)),
				otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		},
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			s := newTraceServer(t)
			r := &recorder{Client: client(s)}
			exporter, err := otlptrace.New(t.Context(), r)
			require.NoError(t, err)
			provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop"))))
			ctx, parent := provider.Tracer("shop").Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.Int("n", 1)))
			_, child := provider.Tracer("shop").Start(ctx, "query", trace.WithLinks(trace.Link{SpanContext: parent.SpanContext()}))
			child.AddEvent("miss")
			child.SetStatus(codes.Error, "no luck")
			child.End()
			parent.End()
			require.NoError(t, provider.Shutdown(t.Context()))
			require.Equal(t, sentLines(t, "default", marshal(t, &tracepb.TracesData{ResourceSpans: r.sent})), s.SpanSink.Spans())
			require.Len(t, s.SpanSink.Spans(), 2)
		})
	}
}

// What the Python SDK sends by each of its exporters arrives.
func TestPythonSDKTraces(t *testing.T) {
	program := pythontest.OTLP(t)
	for _, transport := range []string{"grpc", "http"} {
		for _, compression := range []string{"none", "gzip", "deflate"} {
			t.Run(transport+" "+compression, func(t *testing.T) {
				s := newTraceServer(t)
				endpoint := s.GRPCAddr().String()
				if transport == "http" {
					endpoint = "http://" + s.HTTPAddr().String() + TracesPath
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				out, err := exec.CommandContext(ctx, program, "testdata/traces.py", transport, endpoint, compression, "x-scope-orgid=python").CombinedOutput()
				require.NoError(t, err, "%s", out)
				sent, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(out)))
				require.NoError(t, err, "%s", out)
				require.Equal(t, sentLines(t, "python", sent), s.SpanSink.Spans())
				require.Len(t, s.SpanSink.Spans(), 2)
			})
		}
	}
}

// span is a request of one span.
func span(name string) *collectortrace.ExportTraceServiceRequest {
	at := uint64(time.Now().UnixNano())
	return &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{
			TraceId: []byte("0123456789abcdef"), SpanId: []byte("01234567"), Name: name, StartTimeUnixNano: at, EndTimeUnixNano: at + 5,
		}}}},
	}}}
}

// Answers to requests of traces have traces' messages, in the request's format.
func TestTraceAnswers(t *testing.T) {
	s := newTraceServer(t)
	_, conn := s.client(t)
	client := collectortrace.NewTraceServiceClient(conn)
	answer, err := client.Export(t.Context(), span("good"))
	require.NoError(t, err)
	require.Nil(t, answer.PartialSuccess)

	bad := span("kept")
	spans := &bad.ResourceSpans[0].ScopeSpans[0].Spans
	*spans = append(*spans, &tracepb.Span{TraceId: []byte("short"), SpanId: []byte("01234567"), Name: "bad trace id"},
		&tracepb.Span{TraceId: make([]byte, 16), SpanId: []byte("01234567"), Name: "zero"})
	answer, err = client.Export(t.Context(), bad)
	require.NoError(t, err)
	require.EqualValues(t, 2, answer.PartialSuccess.GetRejectedSpans())
	require.Contains(t, answer.PartialSuccess.GetErrorMessage(), "trace")

	post := func(contentType string, body []byte, header ...string) (int, string, string) {
		h := http.Header{"Content-Type": {contentType}}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		code, answered, text := s.post(t, TracesPath, h, body)
		return code, answered.Get("Content-Type"), string(text)
	}
	code, contentType, text := post("application/json", []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[
		{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","name":"by hand","startTimeUnixNano":"1700000000000000000","endTimeUnixNano":1700000000000000001,"kind":2,
		 "attributes":[{"key":"my.span.attr","value":{"stringValue":"some value"}}]},
		{"traceId":"00000000000000000000000000000000","spanId":"EEE19B7EC3C1B174","name":"zero"}]}]}]}`))
	require.Equal(t, 200, code, text)
	require.Equal(t, "application/json", contentType)
	require.Contains(t, text, `"rejectedSpans":"1"`)
	code, _, text = post("application/json", []byte(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}`))
	require.Equal(t, 400, code, text)
	code, _, text = post("application/json", []byte(`{"resourceSpans":`))
	require.Equal(t, 400, code, text)
	code, contentType, text = post(typeProtobuf, []byte("\xff\xff garbage"))
	require.Equal(t, 400, code, text)
	require.Equal(t, typeProtobuf, contentType)
	code, _, text = post("text/plain", marshal(t, span("a")))
	require.Equal(t, 415, code, text)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err = io.Copy(z, bytes.NewReader(marshal(t, span("packed"))))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	code, _, text = post(typeProtobuf, packed.Bytes(), "Content-Encoding", "gzip", "X-Scope-OrgID", "team-a")
	require.Equal(t, 200, code, text)
	require.Empty(t, text)

	got := strings.Join(s.SpanSink.Spans(), "\n")
	for _, want := range []string{
		`default 30313233343536373839616263646566 3031323334353637 0000000000000000 "good"`, `"kept"`,
		`default 5b8efff798038103d269b633813fc60c eee19b7ec3c1b174 0000000000000000 "by hand" 2 0 1700000000000000000 1700000000000000001 attributes=1 events=0 links=0`,
		`team-a 30313233343536373839616263646566 3031323334353637 0000000000000000 "packed"`,
	} {
		require.Contains(t, got, want)
	}
	require.Len(t, s.SpanSink.Spans(), 4)
}
