package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	jthrift "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
	zipkinmodel "github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/proto/zipkin_proto3"
	"github.com/openzipkin/zipkin-go/reporter"
	zipkinhttp "github.com/openzipkin/zipkin-go/reporter/http"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	//lint:ignore SA1019 it goes away, but what uses it stays for years
	otelzipkin "go.opentelemetry.io/otel/exporters/zipkin"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/pythontest"
)

// sentSpans is what clients have sent by OTLP, each span as spanTexts has it, by
// trace id.
type sentSpans map[string][]string

// add remembers an ExportTraceServiceRequest.
func (s sentSpans) add(t *testing.T, request []byte) (ids []string) {
	t.Helper()
	for id, spans := range spanTexts(t, unmarshalTraces(t, request)) {
		s[id] = append(s[id], spans...)
		slices.Sort(s[id])
		ids = append(ids, id)
	}
	return ids
}

func unmarshalTraces(t *testing.T, b []byte) ptrace.Traces {
	t.Helper()
	var u ptrace.ProtoUnmarshaler
	td, err := u.UnmarshalTraces(b)
	if err != nil {
		t.Fatalf("%v: %q", err, b)
	}
	return td
}

// spanTexts writes each span with its scope and its resource as a text of its
// own. Two spans are the same in every field if their texts are. They are sorted,
// by trace id.
func spanTexts(t *testing.T, td ptrace.Traces) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				one := ptrace.NewTraces()
				to := one.ResourceSpans().AppendEmpty()
				rs.Resource().CopyTo(to.Resource())
				to.SetSchemaUrl(rs.SchemaUrl())
				scope := to.ScopeSpans().AppendEmpty()
				ss.Scope().CopyTo(scope.Scope())
				scope.SetSchemaUrl(ss.SchemaUrl())
				s.CopyTo(scope.Spans().AppendEmpty())
				var m ptrace.JSONMarshaler
				text, err := m.MarshalTraces(one)
				if err != nil {
					t.Fatal(err)
				}
				id := s.TraceID().String()
				out[id] = append(out[id], string(text))
			}
		}
	}
	for _, spans := range out {
		slices.Sort(spans)
	}
	return out
}

// recordingClient hands on what an SDK sends and remembers it.
type recordingClient struct {
	otlptrace.Client
	t    *testing.T
	sent sentSpans
}

func (c recordingClient) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	c.sent.add(c.t, b)
	return c.Client.UploadTraces(ctx, spans)
}

// goTracer is OpenTelemetry's Go SDK with a resource of its own.
func goTracer(t *testing.T, service string, client otlptrace.Client, sent sentSpans) *sdktrace.TracerProvider {
	t.Helper()
	exporter, err := otlptrace.New(t.Context(), recordingClient{client, t, sent})
	if err != nil {
		t.Fatal(err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewWithAttributes(
		"https://opentelemetry.io/schemas/1.37.0", attribute.String("service.name", service), attribute.String("service.version", "1.2.3"),
		attribute.StringSlice("process.command_args", []string{service, "-v"}), attribute.Int("process.pid", 4711),
	)))
}

// sendGoSDK sends what a request to a shop leaves, of two services, one over gRPC
// and one over HTTP, and returns the id of the trace. The shop asks the cart, which
// fails after it has asked its database:
//
//	shop  GET /cart  server  90 ms
//	└ shop  cart.Get  client  80 ms
//	  └ cart  cart.Get  server  60 ms  error
//	    └ cart  SELECT  client  5 ms
func sendGoSDK(t *testing.T, a traceAddresses, begin time.Time, sent sentSpans) string {
	t.Helper()
	ctx := t.Context()
	header := map[string]string{"Authorization": "Bearer " + a.token}
	shop := goTracer(t, "shop", otlptracegrpc.NewClient(otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(a.grpc), otlptracegrpc.WithHeaders(header),
		otlptracegrpc.WithCompressor("gzip")), sent)
	cart := goTracer(t, "cart", otlptracehttp.NewClient(otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(a.http), otlptracehttp.WithHeaders(header)), sent)
	at := func(ms int) trace.SpanEventOption {
		return trace.WithTimestamp(begin.Add(time.Duration(ms)*time.Millisecond + 123))
	}

	state, err := trace.ParseTraceState("vendor=1,other=x:y")
	if err != nil {
		t.Fatal(err)
	}
	ctx, root := shop.Tracer("shop/http", trace.WithInstrumentationVersion("0.9"), trace.WithSchemaURL("https://opentelemetry.io/schemas/1.36.0"),
		trace.WithInstrumentationAttributes(attribute.Bool("scope", true))).Start(ctx, "GET /cart", trace.WithSpanKind(trace.SpanKindServer), at(0),
		trace.WithAttributes(
			attribute.String("http.request.method", "GET"), attribute.String("http.route", "/cart/{id}"), attribute.Int("http.response.status_code", 503),
			attribute.Bool("yes", true), attribute.Bool("no", false), attribute.Int64("least", -1<<63), attribute.Int64("most", 1<<63-1), attribute.Float64("fraction", 0.1),
			attribute.String("empty", ""), attribute.String("text", "Ünïcode ☃ \"quoted\"\n\x01"), attribute.ByteSlice("bytes", []byte{0, 255, 1}),
			attribute.StringSlice("texts", []string{"a", "", "b"}), attribute.IntSlice("numbers", []int{1, -2}), attribute.Float64Slice("fractions", []float64{0, -0.5}),
			attribute.BoolSlice("answers", []bool{true, false}), attribute.IntSlice("none", nil),
			attribute.Map("map", attribute.Int("one", 1), attribute.Map("deep", attribute.Slice("list", attribute.StringValue("x"), attribute.Float64Value(2)))),
			attribute.String("user.id", "u-7fd1c0aa"),
		),
		trace.WithLinks(trace.Link{
			SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true}),
			Attributes:  []attribute.KeyValue{attribute.String("why", "batch"), attribute.Int("n", 2)},
		}, trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{9}, SpanID: trace.SpanID{9}})}))
	root.AddEvent("cache miss", at(1), trace.WithAttributes(attribute.String("key", "cart:17"), attribute.Int("tries", 3), attribute.StringSlice("tiers", []string{"l1", "l2"})))
	root.AddEvent("", at(2))
	ctx, call := shop.Tracer("shop/client").Start(ctx, "cart.Get", trace.WithSpanKind(trace.SpanKindClient), at(5), trace.WithAttributes(attribute.String("server.address", "cart")))

	// What the cart's server knows of its caller came in headers.
	caller := call.SpanContext().WithRemote(true).WithTraceState(state)
	ctx, serve := cart.Tracer("cart").Start(trace.ContextWithRemoteSpanContext(ctx, caller), "cart.Get", trace.WithSpanKind(trace.SpanKindServer), at(15))
	_, query := cart.Tracer("cart").Start(ctx, "SELECT", trace.WithSpanKind(trace.SpanKindClient), at(20),
		trace.WithAttributes(attribute.String("db.system", "postgresql"), attribute.String("db.name", "carts"), attribute.String("db.statement", "SELECT * FROM carts WHERE id = $1")))
	query.SetStatus(codes.Ok, "")
	query.End(at(25))
	serve.RecordError(context.DeadlineExceeded, at(70), trace.WithStackTrace(true))
	serve.SetStatus(codes.Error, "no answer in time")
	serve.End(at(75))
	call.End(at(85))
	root.End(at(90))
	for _, p := range []*sdktrace.TracerProvider{shop, cart} {
		if err := p.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return root.SpanContext().TraceID().String()
}

// sendPython sends a trace with OpenTelemetry's SDK of Python by each exporter and
// returns the traces' ids; none where there is no Python.
func sendPython(t *testing.T, a traceAddresses, sent sentSpans) (ids []string) {
	t.Helper()
	t.Run("python", func(t *testing.T) {
		program := pythontest.OTLP(t)
		for transport, endpoint := range map[string]string{"grpc": a.grpc, "http": "http://" + a.http + "/v1/traces"} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, program, "../../ingest/otlpserver/testdata/traces.py", transport, endpoint, "gzip", "authorization=Bearer "+a.token).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			request, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(out)))
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			ids = append(ids, sent.add(t, request)...)
		}
	})
	return ids
}

// sentZipkin is what Zipkin's clients have sent: spans as JSON, by trace id.
type sentZipkin map[string][]string

// add remembers a list of spans as JSON, version 2.
func (s sentZipkin) add(t *testing.T, list []byte) {
	t.Helper()
	for id, spans := range zipkinTexts(t, list) {
		s[id] = append(s[id], spans...)
		slices.Sort(s[id])
	}
}

// zipkinTexts returns the spans of a list in JSON, sorted, by trace id.
func zipkinTexts(t *testing.T, list []byte) map[string][]string {
	t.Helper()
	var spans []map[string]any
	d := json.NewDecoder(bytes.NewReader(list))
	d.UseNumber()
	if err := d.Decode(&spans); err != nil {
		t.Fatalf("%v: %s", err, list)
	}
	out := map[string][]string{}
	for _, span := range spans {
		for _, key := range []string{"debug", "shared"} {
			if span[key] == false {
				delete(span, key)
			}
		}
		for _, key := range []string{"tags", "annotations", "localEndpoint", "remoteEndpoint"} {
			switch v := span[key].(type) {
			case map[string]any:
				if len(v) == 0 {
					delete(span, key)
				}
			case []any:
				if len(v) == 0 {
					delete(span, key)
				}
			}
		}
		text, err := json.Marshal(span)
		if err != nil {
			t.Fatal(err)
		}
		id, _ := span["traceId"].(string)
		out[id] = append(out[id], string(text))
	}
	for _, texts := range out {
		slices.Sort(texts)
	}
	return out
}

// zipkinModel is a call of one service by another, as zipkin-go has it; its ids
// end in n.
func zipkinModel(n uint64, begin time.Time) []zipkinmodel.SpanModel {
	at := begin.Truncate(time.Microsecond)
	id := zipkinmodel.TraceID{High: 0x1122334455667788, Low: 0x99aabbccddeeff00 + n}
	front := &zipkinmodel.Endpoint{ServiceName: "zipkin-front", IPv4: []byte{192, 168, 99, 1}, Port: 3306}
	back := &zipkinmodel.Endpoint{ServiceName: "zipkin-back", IPv6: []byte("\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0\x01"), Port: 58648}
	client := zipkinmodel.ID(0xc0ffee)
	return []zipkinmodel.SpanModel{{
		SpanContext: zipkinmodel.SpanContext{TraceID: id, ID: client, Debug: true}, Name: "get /api", Kind: zipkinmodel.Client, Timestamp: at, Duration: 1431 * time.Microsecond,
		LocalEndpoint: front, RemoteEndpoint: back, Tags: map[string]string{"http.path": "/api", "clnt/finagle.version": "6.45.0", "empty": ""},
		Annotations: []zipkinmodel.Annotation{{Timestamp: at.Add(238 * time.Microsecond), Value: "wr"}, {Timestamp: at.Add(1403 * time.Microsecond), Value: "wr ☃"}},
	}, {
		SpanContext: zipkinmodel.SpanContext{TraceID: id, ID: client, Debug: true}, Name: "get /api", Kind: zipkinmodel.Server, Shared: true, Timestamp: at.Add(time.Millisecond),
		Duration: 200 * time.Microsecond, LocalEndpoint: back, RemoteEndpoint: front, Tags: map[string]string{"error": "out of order"},
	}, {
		SpanContext: zipkinmodel.SpanContext{TraceID: id, ID: 3, ParentID: &client}, Name: "local", Timestamp: at.Add(time.Millisecond), Duration: time.Microsecond, LocalEndpoint: back,
	}, {
		SpanContext: zipkinmodel.SpanContext{TraceID: zipkinmodel.TraceID{Low: 0x99aabbccddeeff00 + n}, ID: 4}, Name: "of 64 bits", Kind: zipkinmodel.Producer, Timestamp: at,
		Duration: time.Second, LocalEndpoint: front, RemoteEndpoint: &zipkinmodel.Endpoint{ServiceName: "kafka"},
	}}
}

// sendZipkinGo sends by zipkin-go's reporter, in both formats.
func sendZipkinGo(t *testing.T, url string, begin time.Time, sent sentZipkin) {
	t.Helper()
	for n, s := range []reporter.SpanSerializer{reporter.JSONSerializer{}, zipkin_proto3.SpanSerializer{}} {
		spans := zipkinModel(uint64(n), begin)
		rep := zipkinhttp.NewReporter(url+"/api/v2/spans", zipkinhttp.Serializer(s), zipkinhttp.RequestCallback(nil))
		for _, span := range spans {
			rep.Send(span)
		}
		if err := rep.Close(); err != nil {
			t.Fatal(err)
		}
		list, err := json.Marshal(spans)
		if err != nil {
			t.Fatal(err)
		}
		sent.add(t, list)
	}
}

// sendPyZipkin sends by py_zipkin, in each of its formats. What is to come out is
// what it writes of the same spans in JSON, version 2.
func sendPyZipkin(t *testing.T, url string, sent sentZipkin) {
	t.Helper()
	t.Run("py_zipkin", func(t *testing.T) {
		program := pythontest.Zipkin(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, program, "testdata/zipkin.py", url).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			sent.add(t, []byte(line))
		}
	})
}

// sendOTelZipkin sends by OpenTelemetry's exporter to Zipkin and returns the
// trace's id.
func sendOTelZipkin(t *testing.T, url string, begin time.Time) string {
	t.Helper()
	exporter, err := otelzipkin.New(url + "/api/v2/spans")
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "otel-zipkin"))))
	_, span := provider.Tracer("lib").Start(t.Context(), "GET /", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(begin), trace.WithAttributes(attribute.Int("n", 5)))
	span.SetStatus(codes.Error, "no luck")
	span.End(trace.WithTimestamp(begin.Add(time.Millisecond)))
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return span.SpanContext().TraceID().String()
}

// jaegerBatch is a batch of Jaeger's model: a request and what it asks.
func jaegerBatch(low uint64, begin time.Time) *model.Batch {
	id := model.NewTraceID(0xfeed, low)
	at := begin.Truncate(time.Microsecond).UTC()
	return &model.Batch{
		Process: &model.Process{ServiceName: "jaeger-shop", Tags: []model.KeyValue{model.String("region", "eu"), model.Int64("pid", 12)}},
		Spans: []*model.Span{{
			TraceID: id, SpanID: model.NewSpanID(2), OperationName: "GET /", Flags: 1, StartTime: at, Duration: 3 * time.Millisecond,
			Tags: []model.KeyValue{model.String("span.kind", "server"), model.Int64("i", -7), model.Float64("d", 1.5), model.Bool("b", true), model.Binary("bin", []byte{1, 2})},
			Logs: []model.Log{{Timestamp: at.Add(time.Millisecond), Fields: []model.KeyValue{model.String("event", "retry"), model.Int64("n", 2)}}},
		}, {
			TraceID: id, SpanID: model.NewSpanID(3), OperationName: "query", Flags: 1, StartTime: at.Add(time.Millisecond), Duration: time.Millisecond,
			References: []model.SpanRef{model.NewChildOfRef(id, model.NewSpanID(2)), model.NewFollowsFromRef(model.NewTraceID(0, 9), model.NewSpanID(8))},
			Tags:       []model.KeyValue{model.String("span.kind", "client"), model.Bool("error", true)},
		}},
	}
}

// sendJaeger sends a trace by Jaeger's gRPC and one by Thrift over HTTP; both are
// jaegerBatch, with ids that end in 1 and 2.
func sendJaeger(t *testing.T, a traceAddresses, p *process, begin time.Time) {
	t.Helper()
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+a.token)
	if _, err := api_v2.NewCollectorServiceClient(conn).PostSpans(ctx, &api_v2.PostSpansRequest{Batch: *jaegerBatch(1, begin)}); err != nil {
		t.Fatal(err)
	}
	body, err := thrift.NewTSerializer().Write(t.Context(), thriftBatch(jaegerBatch(2, begin)))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, text := p.send("POST", "/api/traces?format=jaeger.thrift", body, "Content-Type", "application/x-thrift"); code != 202 {
		t.Fatalf("Thrift: got %d, want 202: %s", code, text)
	}
}

// thriftBatch writes a batch as Jaeger's older clients do.
func thriftBatch(b *model.Batch) *jthrift.Batch {
	tags := func(kvs []model.KeyValue) (out []*jthrift.Tag) {
		for _, kv := range kvs {
			tag := &jthrift.Tag{Key: kv.Key}
			switch kv.VType {
			case model.StringType:
				tag.VType, tag.VStr = jthrift.TagType_STRING, &kv.VStr
			case model.BoolType:
				tag.VType, tag.VBool = jthrift.TagType_BOOL, &kv.VBool
			case model.Int64Type:
				tag.VType, tag.VLong = jthrift.TagType_LONG, &kv.VInt64
			case model.Float64Type:
				tag.VType, tag.VDouble = jthrift.TagType_DOUBLE, &kv.VFloat64
			case model.BinaryType:
				tag.VType, tag.VBinary = jthrift.TagType_BINARY, kv.VBinary
			}
			out = append(out, tag)
		}
		return out
	}
	out := &jthrift.Batch{Process: &jthrift.Process{ServiceName: b.Process.ServiceName, Tags: tags(b.Process.Tags)}}
	for _, s := range b.Spans {
		span := &jthrift.Span{
			TraceIdHigh: int64(s.TraceID.High), TraceIdLow: int64(s.TraceID.Low), SpanId: int64(s.SpanID), OperationName: s.OperationName, Flags: int32(s.Flags),
			StartTime: s.StartTime.UnixMicro(), Duration: s.Duration.Microseconds(), Tags: tags(s.Tags),
		}
		for _, r := range s.References {
			kind := jthrift.SpanRefType_CHILD_OF
			if r.RefType == model.FollowsFrom {
				kind = jthrift.SpanRefType_FOLLOWS_FROM
			}
			span.References = append(span.References, &jthrift.SpanRef{RefType: kind, TraceIdHigh: int64(r.TraceID.High), TraceIdLow: int64(r.TraceID.Low), SpanId: int64(r.SpanID)})
		}
		for _, l := range s.Logs {
			span.Logs = append(span.Logs, &jthrift.Log{Timestamp: l.Timestamp.UnixMicro(), Fields: tags(l.Fields)})
		}
		out.Spans = append(out.Spans, span)
	}
	return out
}

// sortedKeys returns the keys of what was sent.
func sortedKeys[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }
