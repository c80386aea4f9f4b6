package otlpspans_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/otlpspans"
	"github.com/vedette-io/vedette/internal/signal"
)

// put appends text to Buf.
func put(s *signal.Spans, text string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(s.Buf)), Len: uint32(len(text))}
	s.Buf = append(s.Buf, text...)
	return r
}

// putAttr appends an attribute and returns the range of it alone.
func putAttr(s *signal.Spans, key string, v otlpspans.Value) (begin, end uint32) {
	a := signal.Attr{Key: put(s, key), Type: v.Type, Num: v.Num}
	if v.Type.InBuf() {
		a.Num = signal.PackRange(put(s, string(v.Bytes)))
	}
	s.Attrs = append(s.Attrs, a)
	return uint32(len(s.Attrs) - 1), uint32(len(s.Attrs))
}

func text(v string) otlpspans.Value {
	return otlpspans.Value{Type: signal.AttrString, Bytes: []byte(v)}
}

// putSpan appends a span that has only what it must have.
func putSpan(s *signal.Spans, scope uint32, name string) {
	n := byte(s.Len() + 1)
	s.Scope = append(s.Scope, scope)
	s.TraceIDs = append(s.TraceIDs, signal.TraceID{15: n})
	s.SpanIDs = append(s.SpanIDs, signal.SpanID{7: n})
	s.Parents = append(s.Parents, signal.SpanID{})
	s.Starts = append(s.Starts, 1_000_000_000)
	s.Ends = append(s.Ends, 1_000_000_001)
	s.Names = append(s.Names, put(s, name))
	s.Kinds = append(s.Kinds, 0)
	s.Statuses = append(s.Statuses, 0)
	s.Messages = append(s.Messages, signal.ByteRange{})
	s.States = append(s.States, signal.ByteRange{})
	s.Flags = append(s.Flags, 0)
	s.DroppedAttrs = append(s.DroppedAttrs, 0)
	s.DroppedEvents = append(s.DroppedEvents, 0)
	s.DroppedLinks = append(s.DroppedLinks, 0)
	s.AttrBegin = append(s.AttrBegin, 0)
	s.AttrEnd = append(s.AttrEnd, 0)
	s.EventBegin = append(s.EventBegin, 0)
	s.EventEnd = append(s.EventEnd, 0)
	s.LinkBegin = append(s.LinkBegin, 0)
	s.LinkEnd = append(s.LinkEnd, 0)
}

func names(td ptrace.Traces) (out []string) {
	for _, rs := range td.ResourceSpans().All() {
		service, _ := rs.Resource().Attributes().Get("service.name")
		for _, ss := range rs.ScopeSpans().All() {
			for _, sp := range ss.Spans().All() {
				out = append(out, service.AsString()+"/"+ss.Scope().Name()+"/"+sp.Name())
			}
		}
	}
	return out
}

// two services with two scopes each, and spans that do not follow each other.
func batch() *signal.Spans {
	s := &signal.Spans{}
	for _, service := range []string{"shop", "cart"} {
		var r signal.Resource
		r.AttrBegin, r.AttrEnd = putAttr(s, "service.name", text(service))
		r.SchemaURL = put(s, "url of "+service)
		s.Resources = append(s.Resources, r)
	}
	for k, name := range []string{"http", "sql", "http", "none"} {
		s.Scopes = append(s.Scopes, signal.Scope{Resource: uint32(k / 2), Name: put(s, name), Version: put(s, "v1"), SchemaURL: put(s, "of the scope"), DroppedAttrs: 1})
	}
	for i, scope := range []uint32{2, 0, 1, 0, 2} {
		putSpan(s, scope, fmt.Sprint(i))
	}
	return s
}

func TestSpansAreGrouped(t *testing.T) {
	s := batch()
	td, err := otlpspans.Traces(s)
	require.NoError(t, err)
	require.Equal(t, []string{"shop/http/1", "shop/http/3", "shop/sql/2", "cart/http/0", "cart/http/4"}, names(td))
	require.Equal(t, 2, td.ResourceSpans().Len())
	require.Equal(t, 2, td.ResourceSpans().At(0).ScopeSpans().Len())
	require.Equal(t, "url of cart", td.ResourceSpans().At(1).SchemaUrl())
	require.Equal(t, "of the scope", td.ResourceSpans().At(1).ScopeSpans().At(0).SchemaUrl())
	require.Equal(t, "v1", td.ResourceSpans().At(1).ScopeSpans().At(0).Scope().Version())
	require.Equal(t, uint32(1), td.ResourceSpans().At(1).ScopeSpans().At(0).Scope().DroppedAttributesCount())

	rows := []uint32{4, 2, 3}
	some, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(otlpspans.AppendRows([]byte{}, s, rows))
	require.NoError(t, err)
	require.Equal(t, []string{"shop/http/3", "shop/sql/2", "cart/http/4"}, names(some))
	require.Equal(t, []uint32{4, 2, 3}, rows)
	require.Empty(t, otlpspans.AppendRows(nil, s, nil))
	require.Empty(t, otlpspans.AppendRequest(nil, &signal.Spans{}))

	// The bytes are those that others write for the same.
	var theirs tracepb.TracesData
	mine := otlpspans.AppendRequest([]byte("before"), s)
	require.NoError(t, proto.Unmarshal(mine[len("before"):], &theirs))
	back, err := proto.MarshalOptions{Deterministic: true}.Marshal(&theirs)
	require.NoError(t, err)
	require.Len(t, mine, len("before")+len(back))
}

// Messages of every size get their length right.
func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 90, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 3_000_000} {
		s := batch()
		s.AttrBegin[2], s.AttrEnd[2] = putAttr(s, "k", text(strings.Repeat("x", n)))
		e := signal.Event{Time: 5, Name: put(s, strings.Repeat("y", n))}
		s.Events, s.EventEnd[2] = append(s.Events, e), 1
		l := signal.Link{State: put(s, strings.Repeat("z", n))}
		s.Links, s.LinkEnd[2] = append(s.Links, l), 1
		s.Messages[2] = put(s, strings.Repeat("m", n))
		s.Scopes[1].Name, s.Resources[0].SchemaURL = s.Messages[2], s.Messages[2]
		td, err := otlpspans.Traces(s)
		require.NoError(t, err)
		require.Len(t, td.ResourceSpans().At(0).SchemaUrl(), n)
		ss := td.ResourceSpans().At(0).ScopeSpans().At(1)
		require.Len(t, ss.Scope().Name(), n)
		sp := ss.Spans().At(0)
		v, ok := sp.Attributes().Get("k")
		require.True(t, ok)
		require.Len(t, v.Str(), n)
		require.Len(t, sp.Events().At(0).Name(), n)
		require.Len(t, sp.Links().At(0).TraceState().AsRaw(), n)
		require.Len(t, sp.Status().Message(), n)
	}
}

func TestJSON(t *testing.T) {
	s := &signal.Spans{}
	s.Resources = []signal.Resource{{}}
	s.Scopes = []signal.Scope{{}}
	putSpan(s, 0, "GET /")
	s.TraceIDs[0] = signal.TraceID{0xab, 15: 1}
	s.Parents[0] = signal.SpanID{0xcd}
	s.AttrBegin[0], s.AttrEnd[0] = putAttr(s, "n", otlpspans.Value{Type: signal.AttrInt, Num: math.MaxInt64})
	got, err := otlpspans.AppendJSON([]byte("> "), s)
	require.NoError(t, err)
	require.Equal(t, "> ", string(got[:2]))
	require.JSONEq(t, `{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":[{
		"traceId":"ab000000000000000000000000000001","spanId":"0000000000000001","parentSpanId":"cd00000000000000","name":"GET /",
		"startTimeUnixNano":"1000000000","endTimeUnixNano":"1000000001",
		"attributes":[{"key":"n","value":{"intValue":"9223372036854775807"}}],"status":{}}]}]}]}`, string(got[2:]))
}

// values are of all types, in the Collector's form.
func values() []pcommon.Value {
	out := []pcommon.Value{
		pcommon.NewValueEmpty(), pcommon.NewValueStr(""), pcommon.NewValueStr("<é&>\"\n"), pcommon.NewValueBool(true), pcommon.NewValueBool(false),
		pcommon.NewValueBytes(), pcommon.NewValueSlice(), pcommon.NewValueMap(),
	}
	for _, n := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
		out = append(out, pcommon.NewValueInt(n))
	}
	for _, f := range []float64{0, 1, -2.5, 1e-6, 1e-7, 1.5e-10, 1e20, 1e21, 1.7e300, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN()} {
		out = append(out, pcommon.NewValueDouble(f))
	}
	raw := pcommon.NewValueBytes()
	raw.Bytes().FromRaw([]byte{0, 1, 2, 255})
	array, m := pcommon.NewValueSlice(), pcommon.NewValueMap()
	for i, v := range out {
		// JSON has no such number, and no bytes are null there.
		if f := v.Double(); v.Type() != pcommon.ValueTypeBytes && !math.IsNaN(f) && !math.IsInf(f, 0) {
			v.CopyTo(array.Slice().AppendEmpty())
			v.CopyTo(m.Map().PutEmpty(fmt.Sprintf("k%d<", 100-i)))
		}
	}
	array.CopyTo(m.Map().PutEmpty("array"))
	m.CopyTo(array.Slice().AppendEmpty())
	return append(out, raw, array, m)
}

// ours returns the value as it is in OTLP's bytes.
func ours(t testing.TB, v pcommon.Value) otlpspans.Value {
	td := ptrace.NewTraces()
	v.CopyTo(td.ResourceSpans().AppendEmpty().Resource().Attributes().PutEmpty("k"))
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	// request > resource spans > resource: each is the first field of the one around
	// it, and a map has the form of a resource.
	for range 2 {
		for content := range otlpspans.Messages(b, 1) {
			b = content
			break
		}
	}
	for key, v := range otlpspans.Entries(b) {
		require.Equal(t, "k", string(key))
		return v
	}
	t.Fatal("no attribute")
	return otlpspans.Value{}
}

func TestTextIsTheCollectors(t *testing.T) {
	for _, v := range values() {
		require.Equal(t, v.AsString(), string(ours(t, v).AppendText(nil)))
		require.Equal(t, "before "+v.AsString(), string(ours(t, v).AppendText([]byte("before "))))
	}
	v := pcommon.NewValueSlice()
	v.Slice().AppendEmpty().SetDouble(math.NaN())
	v.Slice().AppendEmpty().SetDouble(math.Inf(-1))
	require.Equal(t, `["NaN","-Infinity"]`, string(ours(t, v).AppendText(nil)))
}

// An attribute that is read and written is the same.
func TestValuesComeBack(t *testing.T) {
	for _, v := range values() {
		s := batch()
		s.AttrBegin[0], s.AttrEnd[0] = putAttr(s, "k", ours(t, v))
		require.Equal(t, ours(t, v).Type, otlpspans.ValueOf(s, s.Attrs[s.AttrBegin[0]]).Type)
		td, err := otlpspans.Traces(s)
		require.NoError(t, err)
		got, ok := td.ResourceSpans().At(1).ScopeSpans().At(0).Spans().At(0).Attributes().Get("k")
		require.True(t, ok)
		require.Equal(t, v.AsString(), got.AsString())
		require.Equal(t, v.Type(), got.Type())
	}
}

// FuzzValues reads arbitrary bytes as values: no panic, and an end.
func FuzzValues(f *testing.F) {
	for _, v := range values() {
		f.Add(ours(f, v).Bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, typ := range []signal.AttrType{signal.AttrArray, signal.AttrMap} {
			v := otlpspans.Value{Type: typ, Bytes: b}
			require.True(t, slices.ContainsFunc([]string{"[", "{"}, func(p string) bool { return strings.HasPrefix(string(v.AppendText(nil)), p) }))
		}
	})
}
