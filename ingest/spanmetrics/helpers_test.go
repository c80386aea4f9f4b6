package spanmetrics

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/signal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a generator over a pipeline.
type rig struct {
	*doortest.Pipeline
	*Generator
	t testing.TB
}

func newRig(t testing.TB, change func(*Config)) *rig {
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	r := &rig{Pipeline: doortest.New(t, doortest.Options{}), t: t}
	g, err := New(Options{Entry: r.Entry("spanmetrics"), Config: cfg, Logger: slog.New(slog.DiscardHandler), Registerer: r.Registerer})
	require.NoError(t, err)
	r.Generator = g
	return r
}

// write flushes and returns what is new: series without the tenant, time and
// start, and exemplars.
func (r *rig) write() []string {
	r.t.Helper()
	require.NoError(r.t, r.flusher.flush(r.t.Context(), time.Now()))
	at := fmt.Sprintf("} %d ", r.flusher.last)
	var out []string
	for _, line := range r.Sink.Lines() {
		if strings.Contains(line, " # ") {
			continue
		}
		if strings.Contains(line, at) {
			line, _, _ = strings.Cut(strings.Replace(line, at, "} ", 1), " start=")
			out = append(out, strings.TrimPrefix(line, "default "))
		}
	}
	return out
}

// only returns the lines that contain all parts.
func only(lines []string, parts ...string) (out []string) {
	for _, line := range lines {
		ok := true
		for _, p := range parts {
			ok = ok && strings.Contains(line, p)
		}
		if ok {
			out = append(out, line)
		}
	}
	return out
}

func (r *rig) metric(name string, pairs ...string) float64 {
	r.t.Helper()
	families, err := r.Registerer.Gather()
	require.NoError(r.t, err)
	for _, f := range families {
		if f.GetName() != "vedette_ingest_spanmetrics_"+name {
			continue
		}
		for _, m := range f.Metric {
			ok := true
			for i := 0; i < len(pairs); i += 2 {
				found := false
				for _, l := range m.Label {
					found = found || l.GetName() == pairs[i] && l.GetValue() == pairs[i+1]
				}
				ok = ok && found
			}
			if ok && m.Counter != nil {
				return m.Counter.GetValue()
			}
			if ok && m.Gauge != nil {
				return m.Gauge.GetValue()
			}
		}
	}
	r.t.Fatalf("no metric %s %v", name, pairs)
	return 0
}

// service is a service that is instrumented with the OpenTelemetry SDK.
type service struct {
	trace.Tracer
	out *tracetest.InMemoryExporter
}

func newService(t testing.TB, name string, attrs ...attribute.KeyValue) *service {
	out := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(out), sdktrace.WithResource(resource.NewSchemaless(append(attrs, attribute.String("service.name", name))...)))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return &service{Tracer: p.Tracer("test"), out: out}
}

// span makes a span that lasted for d until now.
func (s *service) span(ctx context.Context, name string, kind trace.SpanKind, d time.Duration, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	end := time.Now()
	ctx, span := s.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(end.Add(-d)), trace.WithAttributes(attrs...))
	span.End(trace.WithTimestamp(end))
	return ctx, span
}

// failed is span with an error status.
func (s *service) failed(ctx context.Context, name string, kind trace.SpanKind, d time.Duration) context.Context {
	end := time.Now()
	ctx, span := s.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(end.Add(-d)))
	span.SetStatus(codes.Error, "no")
	span.End(trace.WithTimestamp(end))
	return ctx
}

// batch returns what services have made since the last time.
func batch(services ...*service) *signal.Spans {
	b := &signal.Spans{Tenant: "default"}
	for _, s := range services {
		spans := s.out.GetSpans().Snapshots()
		s.out.Reset()
		if len(spans) > 0 {
			appendSpans(b, spans)
		}
	}
	return b
}

func put(b *signal.Spans, s string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(b.Buf)), Len: uint32(len(s))}
	b.Buf = append(b.Buf, s...)
	return r
}

func appendAttrs(b *signal.Spans, list []attribute.KeyValue) (begin, end uint32) {
	begin = uint32(len(b.Attrs))
	for _, kv := range list {
		a := signal.Attr{Key: put(b, string(kv.Key))}
		switch kv.Value.Type() {
		case attribute.STRING:
			a.Type, a.Num = signal.AttrString, signal.PackRange(put(b, kv.Value.AsString()))
		case attribute.INT64:
			a.Type, a.Num = signal.AttrInt, uint64(kv.Value.AsInt64())
		case attribute.BOOL:
			a.Type = signal.AttrBool
			if kv.Value.AsBool() {
				a.Num = 1
			}
		default:
			a.Type = signal.AttrEmpty
		}
		b.Attrs = append(b.Attrs, a)
	}
	return begin, uint32(len(b.Attrs))
}

// appendSpans adds spans of one resource.
func appendSpans(b *signal.Spans, spans []sdktrace.ReadOnlySpan) {
	res := signal.Resource{}
	res.AttrBegin, res.AttrEnd = appendAttrs(b, spans[0].Resource().Attributes())
	b.Resources = append(b.Resources, res)
	b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1)})
	kinds := map[trace.SpanKind]uint8{trace.SpanKindInternal: 1, trace.SpanKindServer: 2, trace.SpanKindClient: 3, trace.SpanKindProducer: 4, trace.SpanKindConsumer: 5}
	statuses := map[codes.Code]uint8{codes.Ok: 1, codes.Error: 2}
	for _, s := range spans {
		b.Scope = append(b.Scope, uint32(len(b.Scopes)-1))
		b.TraceIDs = append(b.TraceIDs, signal.TraceID(s.SpanContext().TraceID()))
		b.SpanIDs = append(b.SpanIDs, signal.SpanID(s.SpanContext().SpanID()))
		b.Parents = append(b.Parents, signal.SpanID(s.Parent().SpanID()))
		b.Starts, b.Ends = append(b.Starts, s.StartTime().UnixNano()), append(b.Ends, s.EndTime().UnixNano())
		b.Names = append(b.Names, put(b, s.Name()))
		b.States = append(b.States, put(b, s.SpanContext().TraceState().String()))
		b.Kinds, b.Statuses = append(b.Kinds, kinds[s.SpanKind()]), append(b.Statuses, statuses[s.Status().Code])
		begin, end := appendAttrs(b, s.Attributes())
		b.AttrBegin, b.AttrEnd = append(b.AttrBegin, begin), append(b.AttrEnd, end)
	}
}
