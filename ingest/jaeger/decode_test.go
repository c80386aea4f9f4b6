package jaeger

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	jthrift "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
	translator "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// lines prints every span with its resource and scope, sorted.
func lines(td ptrace.Traces) []string {
	var out []string
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				b := &strings.Builder{}
				fmt.Fprintf(b, "%s/%s", s.TraceID(), s.SpanID())
				if !s.ParentSpanID().IsEmpty() {
					fmt.Fprintf(b, "<%s", s.ParentSpanID())
				}
				fmt.Fprintf(b, " {%s}", attrs(rs.Resource().Attributes()))
				if sc := ss.Scope(); sc.Name() != "" {
					fmt.Fprintf(b, " scope %s@%s", sc.Name(), sc.Version())
				}
				fmt.Fprintf(b, " %q %s %d+%d {%s}", s.Name(), s.Kind(), s.StartTimestamp(), int64(s.EndTimestamp()-s.StartTimestamp()), attrs(s.Attributes()))
				for _, e := range s.Events().All() {
					fmt.Fprintf(b, " @%d %q {%s}", e.Timestamp(), e.Name(), attrs(e.Attributes()))
				}
				for _, l := range s.Links().All() {
					fmt.Fprintf(b, " >%s/%s {%s}", l.TraceID(), l.SpanID(), attrs(l.Attributes()))
				}
				if s.Status().Code() != ptrace.StatusCodeUnset {
					fmt.Fprintf(b, " %s %q", s.Status().Code(), s.Status().Message())
				}
				if s.TraceState().AsRaw() != "" || s.Flags() != 0 {
					fmt.Fprintf(b, " state %q flags %d", s.TraceState().AsRaw(), s.Flags())
				}
				out = append(out, b.String())
			}
		}
	}
	slices.Sort(out)
	return out
}

func attrs(m pcommon.Map) string {
	raw := m.AsRaw()
	var out []string
	for _, k := range slices.Sorted(maps.Keys(raw)) {
		out = append(out, fmt.Sprintf("%s=%T:%v", k, raw[k], raw[k]))
	}
	return strings.Join(out, " ")
}

func decodeLines(t testing.TB, f Format, body []byte) []string {
	t.Helper()
	payload, err := new(decoder).decode(f, body, nil)
	require.NoError(t, err)
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(payload)
	require.NoError(t, err)
	return lines(td)
}

// thriftBody is the batch as Jaeger's clients write it.
func thriftBody(t testing.TB, b *jthrift.Batch) []byte {
	t.Helper()
	body, err := thrift.NewTSerializer().Write(context.Background(), b)
	require.NoError(t, err)
	return slices.Clone(body)
}

func protoBody(t testing.TB, b *model.Batch) []byte {
	t.Helper()
	body, err := (&api_v2.PostSpansRequest{Batch: *b}).Marshal()
	require.NoError(t, err)
	return body
}

func pointer[T any](v T) *T { return &v }

func thriftTag(key string, value any) *jthrift.Tag {
	t := &jthrift.Tag{Key: key}
	switch v := value.(type) {
	case string:
		t.VStr = &v
	case bool:
		t.VType, t.VBool = jthrift.TagType_BOOL, &v
	case int:
		t.VType, t.VLong = jthrift.TagType_LONG, pointer(int64(v))
	case float64:
		t.VType, t.VDouble = jthrift.TagType_DOUBLE, &v
	case []byte:
		t.VType, t.VBinary = jthrift.TagType_BINARY, v
	}
	return t
}

func protoTag(key string, value any) model.KeyValue {
	switch v := value.(type) {
	case bool:
		return model.Bool(key, v)
	case int:
		return model.Int64(key, int64(v))
	case float64:
		return model.Float64(key, v)
	case []byte:
		return model.Binary(key, v)
	}
	return model.String(key, value.(string))
}

// sampleThrift has one of everything.
func sampleThrift() *jthrift.Batch {
	return &jthrift.Batch{
		Process: &jthrift.Process{ServiceName: "shop", Tags: []*jthrift.Tag{thriftTag("hostname", "h1"), thriftTag("n", 5)}},
		Spans: []*jthrift.Span{{
			TraceIdLow: 10, TraceIdHigh: -1, SpanId: 2, ParentSpanId: 1, OperationName: "GET /", Flags: 3, StartTime: 1_700_000_000_000_000, Duration: 1500,
			References: []*jthrift.SpanRef{{RefType: jthrift.SpanRefType_CHILD_OF, TraceIdLow: 10, TraceIdHigh: -1, SpanId: 1},
				{RefType: jthrift.SpanRefType_FOLLOWS_FROM, TraceIdLow: 11, SpanId: 3}},
			Tags: []*jthrift.Tag{thriftTag("span.kind", "server"), thriftTag("error", true), thriftTag("s", "text"), thriftTag("i", -7), thriftTag("d", 1.5),
				thriftTag("b", false), thriftTag("bin", []byte{1, 2}), thriftTag("otel.scope.name", "lib"), thriftTag("otel.scope.version", "2"), thriftTag("w3c.tracestate", "a=b"),
				thriftTag("otel.status_description", "no luck")},
			Logs: []*jthrift.Log{{Timestamp: 1_700_000_000_000_100, Fields: []*jthrift.Tag{thriftTag("event", "retry"), thriftTag("n", 2)}}, {Timestamp: 1_700_000_000_000_200, Fields: []*jthrift.Tag{thriftTag("message", "m")}}},
		}, {
			TraceIdLow: 10, SpanId: 4, OperationName: "root", StartTime: 5,
		}},
	}
}

func TestThrift(t *testing.T) {
	want := []string{
		`0000000000000000000000000000000a/0000000000000004 {host.name=string:h1 n=int64:5 service.name=string:shop} "root" Unspecified 5000+0 {}`,
		`ffffffffffffffff000000000000000a/0000000000000002<0000000000000001 {host.name=string:h1 n=int64:5 service.name=string:shop} scope lib@2 "GET /" Server 1700000000000000000+1500000 ` +
			`{b=bool:false bin=[]uint8:[1 2] d=float64:1.5 i=int64:-7 jaeger.flags=int64:3 s=string:text} @1700000000000100000 "retry" {n=int64:2} @1700000000000200000 "" {message=string:m} ` +
			`>0000000000000000000000000000000b/0000000000000003 {opentracing.ref_type=string:follows_from} Error "no luck" state "a=b" flags 1`,
	}
	body := thriftBody(t, sampleThrift())
	require.Equal(t, want, decodeLines(t, Thrift, body))

	// The process behind the spans.
	spans := strings.Index(string(body), "\x00\x0f\x00\x02\x0c") + 1 // behind the process's end
	require.Equal(t, want, decodeLines(t, Thrift, slices.Concat(body[spans:len(body)-1], body[:spans], []byte{0})))

	for n := range body {
		_, err := new(decoder).decode(Thrift, body[:n], nil)
		var bad *FormatError
		require.ErrorAs(t, err, &bad, n)
	}
}

func TestProto(t *testing.T) {
	at := time.Unix(0, 1_700_000_000_000_000_001)
	ref := model.NewChildOfRef(model.NewTraceID(0, 10), 1)
	batch := &model.Batch{
		Process: &model.Process{ServiceName: "shop"},
		Spans: []*model.Span{{
			TraceID: model.NewTraceID(0, 10), SpanID: 2, OperationName: "a", Flags: 1, StartTime: at, Duration: 7, References: []model.SpanRef{ref},
			Logs: []model.Log{{Timestamp: at.Add(1), Fields: []model.KeyValue{model.String("event", "e")}}}, Warnings: []string{"w1", "w2"},
			Tags: []model.KeyValue{model.Int64("http.status_code", 503), model.String("span.kind", "odd")},
		}, {
			TraceID: model.NewTraceID(0, 10), SpanID: 3, OperationName: "b", StartTime: at, Process: &model.Process{ServiceName: "other"},
		}},
	}
	body := protoBody(t, batch)
	require.Equal(t, []string{
		`0000000000000000000000000000000a/0000000000000002<0000000000000001 {service.name=string:shop} "a" Unspecified 1700000000000000001+7 ` +
			`{@jaeger@warnings=[]interface {}:[w1 w2] http.status_code=int64:503 span.kind=string:odd} @1700000000000000002 "e" {} Error "" state "" flags 1`,
		`0000000000000000000000000000000a/0000000000000003 {service.name=string:other} "b" Unspecified 1700000000000000001+0 {}`,
	}, decodeLines(t, Proto, body))
	for n := 1; n < len(body); n++ {
		_, err := new(decoder).decode(Proto, body[:n], nil)
		var bad *FormatError
		require.ErrorAs(t, err, &bad, n)
	}
	require.Empty(t, decodeLines(t, Proto, nil))
}

// TestLikeTranslator compares with OpenTelemetry's translator, which Jaeger uses,
// where it keeps what was sent.
func TestLikeTranslator(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		tb, pb := randomBatch(r)

		td, err := translator.ThriftToTraces(tb)
		require.NoError(t, err)
		moveScope(td)
		require.Equal(t, lines(td), decodeLines(t, Thrift, thriftBody(t, tb)), "seed %d", seed)

		body := protoBody(t, pb) // the translator changes what it gets
		td, err = translator.ProtoToTraces([]*model.Batch{pb})
		require.NoError(t, err)
		require.Equal(t, lines(td), decodeLines(t, Proto, body), "seed %d", seed)
	}
}

// moveScope does for Thrift what the translator does for protobuf alone.
func moveScope(td ptrace.Traces) {
	for _, rs := range td.ResourceSpans().All() {
		spans := rs.ScopeSpans().At(0).Spans()
		for _, s := range spans.All() {
			scope := ""
			if v, ok := s.Attributes().Get("otel.scope.name"); ok {
				scope = v.Str()
			}
			ss := rs.ScopeSpans().AppendEmpty()
			ss.Scope().SetName(scope)
			s.Attributes().Remove("otel.scope.name")
			if v, ok := s.Attributes().Get("w3c.tracestate"); ok {
				s.TraceState().FromRaw(v.Str())
				s.Attributes().Remove("w3c.tracestate")
			}
			s.CopyTo(ss.Spans().AppendEmpty())
		}
		rs.ScopeSpans().At(0).Spans().RemoveIf(func(ptrace.Span) bool { return true })
	}
}

// randomBatch returns the same batch in both forms.
func randomBatch(r *rand.Rand) (*jthrift.Batch, *model.Batch) {
	some := func(known ...any) []any { return known[:r.IntN(len(known)+1)] }
	var tt []*jthrift.Tag
	var pt []model.KeyValue
	tags := func(pairs ...any) {
		tt, pt = nil, nil
		for i := 0; i < len(pairs); i += 2 {
			tt, pt = append(tt, thriftTag(pairs[i].(string), pairs[i+1])), append(pt, protoTag(pairs[i].(string), pairs[i+1]))
		}
	}
	pick := func(key string, values ...any) []any {
		if r.IntN(2) == 0 {
			return nil
		}
		return []any{key, values[r.IntN(len(values))]}
	}
	tags(slices.Concat(pick("hostname", "h"), pick("host.name", "x"), pick("k", 1, true, 2.5, "s", []byte("b")))...)
	tb := &jthrift.Batch{Process: &jthrift.Process{ServiceName: "svc", Tags: tt}}
	pb := &model.Batch{Process: &model.Process{ServiceName: "svc", Tags: pt}}
	for range 1 + r.IntN(4) {
		high, low, id := r.Uint64N(3), r.Uint64(), r.Uint64()
		start, duration, flags := r.Int64N(2e15), r.Int64N(1e9), r.IntN(2)
		ts := &jthrift.Span{TraceIdHigh: int64(high), TraceIdLow: int64(low), SpanId: int64(id), OperationName: fmt.Sprint("op", id%5), StartTime: start, Duration: duration, Flags: int32(flags)}
		ps := &model.Span{TraceID: model.NewTraceID(high, low), SpanID: model.NewSpanID(id), OperationName: ts.OperationName,
			StartTime: time.UnixMicro(start).UTC(), Duration: time.Duration(duration) * 1000, Flags: model.Flags(flags)}
		for range len(some(1, 2, 3)) {
			other, sameTrace, follows := r.Uint64(), r.IntN(2) == 0, r.IntN(2) == 0
			refHigh, refLow := high, low
			if !sameTrace {
				refLow++
			}
			tr := &jthrift.SpanRef{TraceIdHigh: int64(refHigh), TraceIdLow: int64(refLow), SpanId: int64(other)}
			pr := model.SpanRef{TraceID: model.NewTraceID(refHigh, refLow), SpanID: model.NewSpanID(other)}
			if follows {
				tr.RefType, pr.RefType = jthrift.SpanRefType_FOLLOWS_FROM, model.FollowsFrom
			}
			ts.References, ps.References = append(ts.References, tr), append(ps.References, pr)
		}
		tags(slices.Concat(
			pick("span.kind", "client", "server", "producer", "consumer", "internal"), pick("error", true, false, "true?"),
			pick("otel.status_code", "OK", "ERROR"), pick("otel.status_description", "why"),
			pick("http.status_code", 200, 302, 404, 500, "502", 99), pick("http.status_message", "gone"),
			pick("w3c.tracestate", "a=1"), pick("otel.scope.name", "l1", "l2"),
			pick("a", 1, -1, true, "s", "", 2.5, []byte{}), pick("zz", "x"))...)
		ts.Tags, ps.Tags = tt, pt
		for i := range len(some(1, 2, 3)) {
			tags(slices.Concat(pick("event", "e1", "e2"), pick("level", "info", 3))...)
			at := start + int64(i)
			ts.Logs = append(ts.Logs, &jthrift.Log{Timestamp: at, Fields: tt})
			ps.Logs = append(ps.Logs, model.Log{Timestamp: time.UnixMicro(at).UTC(), Fields: pt})
		}
		tb.Spans, pb.Spans = append(tb.Spans, ts), append(pb.Spans, ps)
	}
	return tb, pb
}

func TestRefusals(t *testing.T) {
	f := func(format Format, body, want string) {
		t.Helper()
		_, err := new(decoder).decode(format, []byte(body), nil)
		require.EqualError(t, err, want)
	}
	f(Thrift, "", "thrift: byte 0: cut short")
	f(Thrift, "\x00", "required field Process is not set")
	f(Thrift, "\x0c\x00\x01\x00\x00", "required field Spans is not set")
	f(Thrift, "\x0c\x00\x01\x00\x0f\x00\x02\x0c\x7f\xff\xff\xff", "thrift: byte 12: list: got 2147483647 elements in 0 bytes")
	f(Thrift, "\x0c\x00\x01\x00\x0f\x00\x02\x0c\x00\x00\x00\x01\x0a\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00", "spans[0]: startTime: got -1 s, 999999000 ns, want a time from 1970 to 2262")
	many := sampleThrift()
	many.Spans[1].Tags = slices.Repeat([]*jthrift.Tag{thriftTag("k", 1)}, 10_001)
	f(Thrift, string(thriftBody(t, many)), "spans[1]: tags: got more than 10000")
	many = sampleThrift()
	many.Spans[0].References = slices.Repeat(many.Spans[0].References, 1000)
	f(Thrift, string(thriftBody(t, many)), "spans[0]: references: got more than 1000")
	f(Proto, "\x0a\x05\x0a\x03\x0a\x01\x01", "spans[0]: traceId: got 1 bytes, want 16 or 8")
	f(Proto, "\x0a\x04\x0a\x02\x12\x00", "spans[0]: spanId: got 0 bytes, want 8")
	f(Proto, "\x0a\x01\x0a", "protobuf: cut short or not valid")
}

func fuzz(f *testing.F, format Format) {
	f.Fuzz(func(t *testing.T, body []byte) {
		kept := slices.Clone(body)
		d := &decoder{}
		payload, err := d.decode(format, body, nil)
		require.Equal(t, kept, body)
		var bad *FormatError
		if err != nil {
			require.ErrorAs(t, err, &bad)
			return
		}
		td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(payload)
		require.NoError(t, err)
		require.Equal(t, d.build.Spans(), td.SpanCount())
		d.release()
		again, err := d.decode(format, body, nil)
		require.NoError(t, err)
		fresh, err := new(decoder).decode(format, body, nil)
		require.NoError(t, err)
		require.Equal(t, fresh, again)
	})
}

func FuzzThrift(f *testing.F) {
	f.Add(thriftBody(f, sampleThrift()))
	f.Add([]byte("\x0c\x00\x01\x00\x0f\x00\x02\x0c\x00\x00\x00\x00\x00"))
	fuzz(f, Thrift)
}

func FuzzProto(f *testing.F) {
	_, pb := randomBatch(rand.New(rand.NewPCG(3, 1)))
	f.Add(protoBody(f, pb))
	fuzz(f, Proto)
}
