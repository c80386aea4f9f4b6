package traces

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/trace"
)

// t0 is when tests begin, unix nanoseconds.
const t0 = int64(1_700_000_000_000_000_000)

const second = int64(1_000_000_000)

// attr is an attribute as tests write it: a string, int, float64, bool, []byte,
// []any, map[string]any or nil.
type attr struct {
	key   string
	value any
}

type testEvent struct {
	at    int64 // after t0
	name  string
	attrs []attr
}

type testLink struct {
	trace, span uint64
	attrs       []attr
}

// testSpan is a span as tests write it.
type testSpan struct {
	trace, id, parent uint64
	start, duration   int64 // start after t0
	name, message     string
	kind, status      uint8
	resource          int // index of resources
	scope             int // index of scopes
	attrs             []attr
	events            []testEvent
	links             []testLink
}

var testResources = [][]attr{
	{{"service.name", "web"}, {"service.version", "1.0"}, {"host", "a"}},
	{{"service.name", "web"}, {"service.version", "1.1"}, {"host", "b"}, {"n", 7}},
	{{"service.name", "cart"}, {"host", "a"}, {"zone", []any{"x", "y"}}, {"mixed", "res"}},
	{{"host", "c"}, {"service.name", "db"}, {"n", 2.5}, {"flag", true}},
	{{"service.name", 5}, {"empty", nil}},
	{},
}

var testScopes = []struct {
	name, version string
	attrs         []attr
}{{"otelhttp", "1.0", nil}, {"otelhttp", "1.2", []attr{{"lang", "go"}}}, {"", "", []attr{{"mixed", "scope"}}}}

func traceID(n uint64) (id signal.TraceID) {
	binary.BigEndian.PutUint64(id[:8], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func spanID(n uint64) (id signal.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

type batchBuilder struct{ b *signal.Spans }

func (x batchBuilder) text(s string) signal.ByteRange {
	r := signal.ByteRange{Off: uint32(len(x.b.Buf)), Len: uint32(len(s))}
	x.b.Buf = append(x.b.Buf, s...)
	return r
}

func anyValue(v any) *commonpb.AnyValue {
	switch v := v.(type) {
	case string:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}
	case int:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(v)}}
	case float64:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: v}}
	case bool:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: v}}
	case []any:
		return &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: arrayValue(v)}}
	}
	return &commonpb.AnyValue{}
}

func arrayValue(list []any) *commonpb.ArrayValue {
	a := &commonpb.ArrayValue{}
	for _, e := range list {
		a.Values = append(a.Values, anyValue(e))
	}
	return a
}

func message(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (x batchBuilder) attrs(list []attr) (begin, end uint32) {
	begin = uint32(len(x.b.Attrs))
	for _, kv := range list {
		a := signal.Attr{Key: x.text(kv.key)}
		put := func(t signal.AttrType, s string) { a.Type, a.Num = t, signal.PackRange(x.text(s)) }
		switch v := kv.value.(type) {
		case string:
			put(signal.AttrString, v)
		case int:
			a.Type, a.Num = signal.AttrInt, uint64(v)
		case float64:
			a.Type, a.Num = signal.AttrDouble, math.Float64bits(v)
		case bool:
			a.Type = signal.AttrBool
			if v {
				a.Num = 1
			}
		case []byte:
			put(signal.AttrBytes, string(v))
		case []any:
			put(signal.AttrArray, message(arrayValue(v)))
		case map[string]any:
			list := &commonpb.KeyValueList{}
			for k, e := range v {
				list.Values = append(list.Values, &commonpb.KeyValue{Key: k, Value: anyValue(e)})
			}
			put(signal.AttrMap, message(list))
		}
		x.b.Attrs = append(x.b.Attrs, a)
	}
	return begin, uint32(len(x.b.Attrs))
}

// batch makes the batch that a decoder would make of spans.
func batch(spans ...testSpan) *signal.Spans {
	b := &signal.Spans{Tenant: "default"}
	x := batchBuilder{b}
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(p, q testSpan) int {
		return (p.resource-q.resource)*len(testScopes) + p.scope - q.scope
	})
	for i, s := range spans {
		if i == 0 || spans[i-1].resource != s.resource {
			from, to := x.attrs(testResources[s.resource])
			b.Resources = append(b.Resources, signal.Resource{AttrBegin: from, AttrEnd: to})
		}
		if i == 0 || spans[i-1].resource != s.resource || spans[i-1].scope != s.scope {
			sc := testScopes[s.scope]
			from, to := x.attrs(sc.attrs)
			b.Scopes = append(b.Scopes, signal.Scope{
				Resource: uint32(len(b.Resources) - 1), Name: x.text(sc.name), Version: x.text(sc.version), AttrBegin: from, AttrEnd: to,
			})
		}
		x.span(s)
	}
	return b
}

func (x batchBuilder) span(s testSpan) {
	b := x.b
	b.Scope = append(b.Scope, uint32(len(b.Scopes)-1))
	b.TraceIDs, b.SpanIDs, b.Parents = append(b.TraceIDs, traceID(s.trace)), append(b.SpanIDs, spanID(s.id)), append(b.Parents, spanID(s.parent))
	b.Starts, b.Ends = append(b.Starts, t0+s.start), append(b.Ends, t0+s.start+s.duration)
	b.Names, b.Messages, b.States = append(b.Names, x.text(s.name)), append(b.Messages, x.text(s.message)), append(b.States, signal.ByteRange{})
	b.Kinds, b.Statuses, b.Flags = append(b.Kinds, s.kind), append(b.Statuses, s.status), append(b.Flags, 0)
	b.DroppedAttrs, b.DroppedEvents, b.DroppedLinks = append(b.DroppedAttrs, 0), append(b.DroppedEvents, 0), append(b.DroppedLinks, 0)
	from, to := x.attrs(s.attrs)
	b.AttrBegin, b.AttrEnd = append(b.AttrBegin, from), append(b.AttrEnd, to)
	var events []signal.Event
	for _, e := range s.events {
		from, to := x.attrs(e.attrs)
		events = append(events, signal.Event{Time: t0 + e.at, Name: x.text(e.name), AttrBegin: from, AttrEnd: to})
	}
	b.EventBegin = append(b.EventBegin, uint32(len(b.Events)))
	b.Events = append(b.Events, events...)
	b.EventEnd = append(b.EventEnd, uint32(len(b.Events)))
	b.LinkBegin = append(b.LinkBegin, uint32(len(b.Links)))
	for _, l := range s.links {
		from, to := x.attrs(l.attrs)
		b.Links = append(b.Links, signal.Link{TraceID: traceID(l.trace), SpanID: spanID(l.span), AttrBegin: from, AttrEnd: to})
	}
	b.LinkEnd = append(b.LinkEnd, uint32(len(b.Links)))
}

// generator makes random spans: new traces, late spans of old ones, spans that
// were sent before, attributes of all types, some twice.
type generator struct {
	rng    *rand.Rand
	traces uint64
	spans  uint64
	now    int64
	sent   []testSpan

	wild  bool // attributes come twice, and of keys that get no columns
	users int
}

// newGenerator returns a generator of spans that are wild for odd seeds.
func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 2)), wild: seed%2 == 1, users: 400 + 20_000*int(seed%3/2)}
}

func (g *generator) value(key string) any {
	r := g.rng
	switch key {
	case "method":
		return []string{"GET", "PUT", "POST"}[r.IntN(3)]
	case "code":
		if r.IntN(8) == 0 {
			return fmt.Sprint(200 + 100*r.IntN(4))
		}
		return 200 + 100*r.IntN(4)
	case "ratio":
		return float64(r.IntN(5)) / 2
	case "ok":
		return r.IntN(2) == 0
	case "user":
		return fmt.Sprintf("user-%d", r.IntN(g.users))
	case "tags":
		return []any{[]any{"x", 3}, []any{}, []any{"y"}, []any{2.5, true, "x"}}[r.IntN(4)]
	case "raw":
		return []byte{byte(r.IntN(3)), 255}
	case "map":
		return map[string]any{"k": r.IntN(2)}
	}
	return []any{"mixed", 7, 2.5, true, nil, []any{"mixed"}, "res", "other"}[r.IntN(8)] // mixed
}

var testKeys = []string{"method", "code", "ratio", "ok", "user", "tags", "raw", "map", "mixed"}

func (g *generator) attrs(n int) []attr {
	var out []attr
	for range g.rng.IntN(n + 1) {
		key := testKeys[g.rng.IntN(len(testKeys))]
		if !g.wild && slices.ContainsFunc(out, func(a attr) bool { return a.key == key }) {
			continue
		}
		out = append(out, attr{key, g.value(key)})
		if g.wild && g.rng.IntN(3) == 0 {
			out = append(out, attr{fmt.Sprintf("rare-%d", g.rng.IntN(3000)), "r"})
		}
	}
	return out
}

func (g *generator) span() testSpan {
	r := g.rng
	g.spans++
	g.now += r.Int64N(second)
	s := testSpan{
		id: g.spans, start: g.now, duration: r.Int64N(2 * second),
		resource: r.IntN(len(testResources)), scope: r.IntN(len(testScopes)),
		name: fmt.Sprint("operation-", r.IntN(6)), kind: uint8(r.IntN(6)), status: uint8(max(0, r.IntN(5)-2)),
		attrs: g.attrs(5),
	}
	switch {
	case g.traces == 0 || r.IntN(6) == 0:
		g.traces++
		s.trace = g.traces
	case r.IntN(10) == 0: // late
		s.trace = 1 + r.Uint64N(g.traces)
		s.parent = 1 + r.Uint64N(g.spans)
	default:
		s.trace, s.parent = g.traces, g.spans-min(g.spans, 1+r.Uint64N(3))
	}
	switch r.IntN(12) {
	case 0:
		s.duration = -s.duration
	case 1:
		s.message = "broken"
	case 2: // an id twice, as Zipkin's older model has it
		s.id, s.kind = max(1, g.spans-1), uint8(2+r.IntN(2))
	case 3:
		if !g.wild {
			break
		}
		s.attrs = append(s.attrs, s.attrs...)
	}
	for range max(0, r.IntN(6)-3) {
		s.events = append(s.events, testEvent{at: s.start + r.Int64N(second), name: []string{"exception", "retry"}[r.IntN(2)], attrs: g.attrs(2)})
	}
	if r.IntN(10) == 0 {
		s.links = append(s.links, testLink{trace: 1 + r.Uint64N(g.traces), span: g.spans, attrs: g.attrs(2)})
	}
	return s
}

// batch makes up to n spans.
func (g *generator) batch(n int) *signal.Spans {
	var spans []testSpan
	for range 1 + g.rng.IntN(n) {
		if len(g.sent) > 0 && g.rng.IntN(15) == 0 {
			spans = append(spans, g.sent[len(g.sent)-1-g.rng.IntN(min(len(g.sent), 200))])
			continue
		}
		s := g.span()
		g.sent = append(g.sent, s)
		spans = append(spans, s)
	}
	return batch(spans...)
}

// openStore returns an empty store in memory.
func openStore(t testing.TB) *trace.DB {
	t.Helper()
	c := trace.DefaultConfig()
	c.MergeSpans = 1000
	db, err := trace.Open(trace.Options{FS: vfs.NewMem(), Dir: "/s", Config: c})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// fill appends batches, and flushes and merges now and then: some spans stay in
// the head, others are in blocks of all ages, and traces lie in several.
func (g *generator) fill(t testing.TB, db *trace.DB, batches, size int) {
	t.Helper()
	ctx := context.Background()
	for i := range batches {
		_, err := db.AppendSpans(ctx, g.batch(size), "src", "traces", 0, int64(i))
		require.NoError(t, err)
		if g.rng.IntN(8) == 0 {
			require.NoError(t, db.Flush(ctx))
		}
		if g.rng.IntN(20) == 0 {
			require.NoError(t, db.Maintain(ctx))
		}
	}
}
