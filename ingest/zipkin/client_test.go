package zipkin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	zipkingo "github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/proto/zipkin_proto3"
	"github.com/openzipkin/zipkin-go/reporter"
	zipkinhttp "github.com/openzipkin/zipkin-go/reporter/http"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	//lint:ignore SA1019 it goes away, but what uses it stays for years
	otelzipkin "go.opentelemetry.io/otel/exporters/zipkin"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// recorder is a server that keeps the bodies it gets.
type recorder struct {
	*httptest.Server
	mu     sync.Mutex
	bodies [][]byte
	types  []string
}

func newRecorder(t *testing.T) *recorder {
	s := &recorder{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies, s.types = append(s.bodies, b), append(s.types, r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s
}

// newReporter is zipkin-go's reporter, which sends when it is closed and not before,
// however long the test takes.
func newReporter(url string, o ...zipkinhttp.ReporterOption) reporter.Reporter {
	return zipkinhttp.NewReporter(url, append(o, zipkinhttp.BatchInterval(time.Hour), zipkinhttp.Timeout(time.Minute))...)
}

// modelSpans are what a tracer has.
func modelSpans() []model.SpanModel {
	parent := model.ID(1)
	at := time.UnixMicro(1_556_604_172_355_737)
	return []model.SpanModel{{
		SpanContext: model.SpanContext{TraceID: model.TraceID{High: 5, Low: 7}, ID: 2, ParentID: &parent, Debug: true},
		Name:        "get /api", Kind: model.Server, Shared: true, Timestamp: at, Duration: 1431 * time.Microsecond,
		LocalEndpoint:  &model.Endpoint{ServiceName: "backend", IPv4: []byte{192, 168, 99, 1}, Port: 3306},
		RemoteEndpoint: &model.Endpoint{IPv4: []byte{172, 19, 0, 2}, IPv6: []byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x01"), Port: 58648},
		Annotations:    []model.Annotation{{Timestamp: at.Add(time.Millisecond), Value: "wr"}},
		Tags:           map[string]string{"http.path": "/api"},
	}, {
		SpanContext: model.SpanContext{TraceID: model.TraceID{Low: 7}, ID: 3},
		Name:        "local", Timestamp: at, Duration: time.Microsecond, LocalEndpoint: &model.Endpoint{ServiceName: "backend", IPv4: []byte{192, 168, 99, 1}},
	}}
}

func wantModelSpans() []string {
	return []string{
		`{service.name="backend" network.local.address="192.168.99.1"}`,
		`00000000000000050000000000000007/0000000000000002<0000000000000001 "get /api" Server 1556604172355737+1431 {http.path="/api" network.local.port=3306 ` +
			`network.peer.address="172.19.0.2" zipkin.remote.ipv6="2001:db8::c001" network.peer.port=58648 zipkin.debug=true zipkin.shared=true} @1556604172356737 "wr"`,
		`00000000000000000000000000000007/0000000000000003 "local" Unspecified 1556604172355737+1 {}`,
	}
}

func encodeProto(t testing.TB, spans ...model.SpanModel) []byte {
	t.Helper()
	b, err := zipkin_proto3.SpanSerializer{}.Serialize(pointers(spans))
	require.NoError(t, err)
	return b
}

func pointers(spans []model.SpanModel) []*model.SpanModel {
	var out []*model.SpanModel
	for i := range spans {
		out = append(out, &spans[i])
	}
	return out
}

// TestZipkinGo decodes what zipkin-go's reporter posts, in both formats.
func TestZipkinGo(t *testing.T) {
	for format, serializer := range map[Format]reporter.SpanSerializer{JSONV2: reporter.JSONSerializer{}, Proto3: zipkin_proto3.SpanSerializer{}} {
		s := newRecorder(t)
		rep := newReporter(s.URL+"/api/v2/spans", zipkinhttp.Serializer(serializer))
		for _, span := range modelSpans() {
			rep.Send(span)
		}
		require.NoError(t, rep.Close())
		require.Len(t, s.bodies, 1)
		require.Equal(t, format, formatOf(false, s.types[0]))
		require.Equal(t, wantModelSpans(), decodeLines(t, format, string(s.bodies[0])))
	}
}

// TestZipkinGoTracer takes the spans of a call from a tracer of zipkin-go.
func TestZipkinGoTracer(t *testing.T) {
	s := newRecorder(t)
	rep := newReporter(s.URL)
	endpoint, err := zipkingo.NewEndpoint("front", "10.0.0.1:80")
	require.NoError(t, err)
	tracer, err := zipkingo.NewTracer(rep, zipkingo.WithLocalEndpoint(endpoint), zipkingo.WithTraceID128Bit(true), zipkingo.WithSharedSpans(true))
	require.NoError(t, err)
	client := tracer.StartSpan("call", zipkingo.Kind(model.Client))
	server := tracer.StartSpan("serve", zipkingo.Kind(model.Server), zipkingo.Parent(client.Context()))
	zipkingo.TagError.Set(server, "out of order")
	server.Finish()
	client.Finish()
	require.NoError(t, rep.Close())
	got := decodeLines(t, JSONV2, string(slices.Concat(s.bodies...)))
	require.Len(t, got, 3)
	require.Equal(t, `{service.name="front" network.local.address="10.0.0.1"}`, got[0])
	require.Contains(t, got[1], `"serve" Server`)
	require.Contains(t, got[1], `{error="out of order" network.local.port=80 zipkin.shared=true} Error "out of order"`)
	require.Contains(t, got[2], `"call" Client`)
}

// TestOpenTelemetryExporter decodes what OpenTelemetry's exporter posts.
func TestOpenTelemetryExporter(t *testing.T) {
	s := newRecorder(t)
	exporter, err := otelzipkin.New(s.URL + "/api/v2/spans")
	require.NoError(t, err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop"))))
	ctx := context.Background()
	_, span := provider.Tracer("lib", trace.WithInstrumentationVersion("1.2")).Start(ctx, "GET /", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(time.UnixMicro(1_700_000_000_001_000)), trace.WithAttributes(attribute.Int("n", 5), attribute.String("peer.service", "db")))
	span.AddEvent("retry", trace.WithTimestamp(time.UnixMicro(1_700_000_000_001_005)))
	span.SetStatus(codes.Error, "no luck")
	span.End(trace.WithTimestamp(time.UnixMicro(1_700_000_000_001_010)))
	require.NoError(t, provider.Shutdown(ctx))
	require.Len(t, s.bodies, 1)
	got := decodeLines(t, formatOf(false, s.types[0]), string(s.bodies[0]))
	require.Len(t, got, 2)
	require.Equal(t, `{service.name="shop"} scope lib@1.2`, got[0])
	for _, want := range []string{`"get /" Client 1700000000001000+10 {`, `n="5"`, `peer.service="db"`, ` @1700000000001005 "retry" Error "no luck"`} {
		require.Contains(t, got[1], want)
	}
}

// TestPyZipkin decodes what py_zipkin 0.20 wrote of a request and its query, in
// every format. The recordings were made one after the other.
func TestPyZipkin(t *testing.T) {
	for name, format := range map[string]Format{"v1.json": JSONV1, "v1.thrift": Thrift, "v2.json": JSONV2, "v2.proto": Proto3} {
		body, err := os.ReadFile("testdata/py_zipkin." + name)
		require.NoError(t, err)
		got := decodeLines(t, format, string(body))
		for i := range got {
			got[i] = recorded.ReplaceAllString(got[i], "${1}ID$2 TIME")
		}
		require.Equal(t, []string{
			`{service.name="shop" network.local.address="10.1.2.3"}`,
			`5af7183fb1d4cf5f6b221d5bc9e6496c/ID<352bff9a74ca9ad2 "query" Client TIME {error="timeout" network.local.port=8080 ` +
				`peer.service="db" network.peer.address="10.9.9.9" network.peer.port=5432} @1600000000500000 "sent" Error "timeout"`,
			`5af7183fb1d4cf5f6b221d5bc9e6496c/ID<6b221d5bc9e6496c "GET /orders" Server TIME {http.path="/orders" n="17" network.local.port=8080 zipkin.shared=true}`,
		}, got, name)
	}
}

// recorded is what differs between recordings.
var recorded = regexp.MustCompile(`^(\w{32}/)\w+(.*) 1795\d{12}\+\d+`)
