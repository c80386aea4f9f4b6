package traceapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/promql/promqlsuite"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/traceql"
)

func TestParseTraceID(t *testing.T) {
	for text, want := range map[string]string{
		"1":                                "00000000000000000000000000000001",
		"abc":                              "00000000000000000000000000000abc",
		"ABCDEF":                           "00000000000000000000000000abcdef",
		"0102030405060708090a0b0c0d0e0f10": "0102030405060708090a0b0c0d0e0f10",
	} {
		id, err := traceapi.ParseTraceID(text)
		require.NoError(t, err)
		require.Equal(t, want, traceapi.TraceIDHex(id))
	}
	for text, want := range map[string]string{
		"":                      "trace id is empty",
		"xyz":                   `trace id: byte 'x' at position 1 is not a hexadecimal digit`,
		strings.Repeat("a", 33): "trace id has 33 digits, want at most 32",
	} {
		_, err := traceapi.ParseTraceID(text)
		require.EqualError(t, err, want)
	}
}

// TestOTLPJSON checks that readers of both forms get the spans back whole.
func TestOTLPJSON(t *testing.T) {
	for name, want := range map[string]*tracepb.TracesData{"shop": apitest.Shop(), "old": apitest.Old()} {
		spans := apitest.Spans(want)
		t.Run(name+", OTLP", func(t *testing.T) {
			text := fmt.Appendf(nil, `{"resourceSpans":%s}`, traceapi.AppendResourceSpans(nil, spans, nil, traceapi.OTLP))
			require.True(t, json.Valid(text), "%s", text)
			td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(text)
			require.NoError(t, err)
			b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
			require.NoError(t, err)
			got := &tracepb.TracesData{}
			require.NoError(t, proto.Unmarshal(b, got))
			require.Empty(t, diff(want, got))
		})
		t.Run(name+", ProtoJSON", func(t *testing.T) {
			text := fmt.Appendf(nil, `{"resourceSpans":%s}`, traceapi.AppendResourceSpans(nil, spans, nil, traceapi.ProtoJSON))
			got := &tracepb.TracesData{}
			require.NoError(t, protojson.Unmarshal(text, got), "%s", text)
			require.Empty(t, diff(want, got))
		})
	}
}

// diff returns both messages as text if they differ.
func diff(want, got *tracepb.TracesData) string {
	if apitest.Equal(want, got) {
		return ""
	}
	return "want " + protojson.Format(want) + "\ngot " + protojson.Format(got)
}

func TestOTLPJSONOfRows(t *testing.T) {
	spans := apitest.Spans(apitest.Shop())
	text := fmt.Appendf(nil, `{"resourceSpans":%s}`, traceapi.AppendResourceSpans(nil, spans, []uint32{1, 4}, traceapi.OTLP))
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(text)
	require.NoError(t, err)
	require.Equal(t, 2, td.SpanCount())
	require.Equal(t, 2, td.ResourceSpans().Len())
	require.Equal(t, "price", td.ResourceSpans().At(1).ScopeSpans().At(0).Spans().At(0).Name())
	require.Equal(t, "[]", string(traceapi.AppendResourceSpans(nil, spans, []uint32{}, traceapi.OTLP)))
}

func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\\n\r\t\x00\x1f\x7f", "é世\u2028\u2029", "\xff\xc3(", "a\xed\xa0\x80b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := traceapi.AppendJSONString(nil, s)
		require.Equal(t, b, traceapi.AppendJSONString(nil, []byte(s)))
		var got string
		require.NoError(t, json.Unmarshal(b, &got), "%q", b)
		want, err := json.Marshal(s)
		require.NoError(t, err)
		var std string
		require.NoError(t, json.Unmarshal(want, &std))
		require.Equal(t, std, got)
	})
}

func TestAppendJSONDouble(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 1.5: "1.5", 1e21: "1e+21", 1e-7: "1e-07", 123456789: "123456789", math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`,
	} {
		got := traceapi.AppendJSONDouble(nil, f)
		require.Equal(t, want, string(got))
		require.True(t, json.Valid(got))
	}
	require.Equal(t, `"NaN"`, string(traceapi.AppendJSONDouble(nil, math.NaN())))
}

// FuzzQuote checks that what a client sent stays one value of a query.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", `" || true || "`, "`", "\\", "{}", "a b", "x.y-z", "1", "true", "é", "\x00", "}\n|"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if strings.ToValidUTF8(name, "") != name || strings.ToValidUTF8(value, "") != value {
			t.Skip("queries are UTF-8")
		}
		attr := traceapi.Attribute(traceql.ScopeSpan, name)
		q, err := traceql.Parse(traceapi.AllOf(attr + " = " + traceapi.Quote(value)))
		if name == "" {
			return // no such attribute
		}
		require.NoError(t, err)
		filter := q.Pipeline.Stages[0].(*traceql.Filter)
		e := filter.Expr.(*traceql.Binary)
		require.Equal(t, traceql.Attribute{Scope: traceql.ScopeSpan, Name: name}, e.Left.(*traceql.Field).Attribute)
		require.Equal(t, traceql.String(value), e.Right.(*traceql.Literal).Value)
	})
}

func TestEquals(t *testing.T) {
	for text, want := range map[string]string{
		"x":    `.a = "x"`,
		"500":  `.a = "500" || .a = 500`,
		"0500": `.a = "0500"`,
		"1.5":  `.a = "1.5" || .a = 1.5`,
		"true": `.a = "true" || .a = true`,
		"NaN":  `.a = "NaN"`,
	} {
		got := traceapi.Equals(".a", text)
		if text == "NaN" {
			require.Contains(t, got, want)
			continue
		}
		require.Equal(t, want, got)
		_, err := traceql.Parse(traceapi.AllOf(got, "kind = server"))
		require.NoError(t, err)
	}
	require.Equal(t, "{}", traceapi.AllOf())
	require.Equal(t, "1m30s", traceapi.Duration(90*time.Second))
}

func TestSampledDependencies(t *testing.T) {
	store := apitest.NewStore("default", apitest.Shop(), apitest.Old())
	d := traceapi.SampledDependencies{Querier: store}
	edges, err := d.Edges(context.Background(), "default", 0, apitest.Time+1e9)
	require.NoError(t, err)
	require.Equal(t, []traceapi.Edge{
		{Parent: "cart", Child: "carts-db", Calls: 1},
		{Parent: "cart", Child: "pricing", Calls: 1},
		{Parent: "edge", Child: "backend", Calls: 1},
		{Parent: "frontend", Child: "cart", Calls: 1, Errors: 1},
	}, edges)
	edges, err = d.Edges(context.Background(), "other", 0, apitest.Time+1e9)
	require.NoError(t, err)
	require.Empty(t, edges)
	store.Err = errors.New("disk is gone")
	_, err = d.Edges(context.Background(), "default", 0, 1)
	require.ErrorIs(t, err, store.Err)
}

// TestMetricDependencies counts on the real engine, over series as
// ingest/spanmetrics writes them.
func TestMetricDependencies(t *testing.T) {
	memory := promqlsuite.NewMemory()
	at := func(minute int) int64 { return apitest.Time/1e6 + int64(minute)*60_000 }
	app := promqlsuite.NewStorage(memory.Backend()).AppenderV2(tenant.NewContext(t.Context(), "a"))
	add := func(name string, values []float64, pairs ...string) {
		for minute, v := range values {
			if v < 0 {
				continue
			}
			_, err := app.Append(0, labels.FromStrings(append(pairs, "__name__", name)...), 0, at(minute), v, nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	const total, failed = "traces_service_graph_request_total", "traces_service_graph_request_failed_total"
	add(total, []float64{100, 110, 120, 130}, "client", "shop", "server", "cart")
	add(failed, []float64{-1, -1, -1, 7}, "client", "shop", "server", "cart") // not there at the beginning
	add(total, []float64{-1, -1, 3, 4}, "client", "cart", "server", "carts", "connection_type", "database")
	add(total, []float64{1, 2, 3, 4}, "client", "user", "server", "shop", "connection_type", "virtual_node")
	add(total, []float64{5, 5, 5, 5}, "client", "idle", "server", "cart")
	require.NoError(t, app.Commit())
	engine, err := promql.OpenEngine(promql.DefaultConfig(), promql.Options{Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	d := traceapi.MetricDependencies{Engine: engine, Queryable: promql.NewQueryable(memory, 0)}
	edges, err := d.Edges(t.Context(), "a", at(0)*1e6, at(3)*1e6)
	require.NoError(t, err)
	require.Equal(t, []traceapi.Edge{
		{Parent: "cart", Child: "carts", Calls: 4},
		{Parent: "shop", Child: "cart", Calls: 30, Errors: 7},
	}, edges)
	edges, err = d.Edges(t.Context(), "default", at(0)*1e6, at(3)*1e6)
	require.NoError(t, err)
	require.Empty(t, edges)
	d.Fallback = traceapi.SampledDependencies{Querier: apitest.NewStore("default", apitest.Shop())}
	edges, err = d.Edges(t.Context(), "default", at(0)*1e6, at(3)*1e6)
	require.NoError(t, err)
	require.Len(t, edges, 3)
}

// answering returns an API whose one route does what f does.
func answering(o traceapi.Options, f traceapi.HandlerFunc) http.Handler {
	a := traceapi.API{Base: traceapi.New(o), Name: "test", WriteError: func(w http.ResponseWriter, code int, err error) {
		http.Error(w, err.Error(), code)
	}}
	return a.Read(http.MethodGet, "/x", "", f).Handler
}

func TestErrors(t *testing.T) {
	_, parseErr := traceql.Parse("{")
	for _, c := range []struct {
		err  error
		code int
	}{
		{traceapi.BadRequest("bad"), 400},
		{traceapi.NotFound("none"), 404},
		{fmt.Errorf("search: %w", parseErr), 400},
		{&promql.QueueError{Tenant: "a", Limit: 1}, 429},
		{fmt.Errorf("search: %w", context.DeadlineExceeded), 503},
		{context.Canceled, 499},
		{&promql.LimitError{Resource: "bytes"}, 422},
		{errors.New("disk is gone"), 500},
	} {
		h := answering(traceapi.Options{}, func(http.ResponseWriter, *http.Request) error { return c.err })
		w := apitest.Get(t, h, "/x")
		require.Equal(t, c.code, w.Code, "%v", c.err)
		require.Contains(t, w.Body.String(), c.err.Error())
		require.Equal(t, c.code == 429 || c.code == 503, w.Header().Get("Retry-After") != "")
	}
}

func TestWrap(t *testing.T) {
	reg := prometheus.NewRegistry()
	admitted, released := 0, 0
	ready := false
	o := traceapi.Options{
		Registerer: reg, Timeout: time.Hour, Ready: func() bool { return ready },
		Admit: func(ctx context.Context, query string) (context.Context, func(), error) {
			require.Equal(t, "GET /test/x?a=b", query)
			admitted++
			return ctx, func() { released++ }, nil
		},
	}
	h := answering(o, func(w http.ResponseWriter, r *http.Request) error {
		_, bounded := r.Context().Deadline()
		require.True(t, bounded)
		require.Equal(t, 1, admitted-released)
		traceapi.NotePartial(w, "limit of\n10 bytes")
		traceapi.WriteJSON(w, fmt.Appendf(nil, "%q", traceapi.Tenant(r)))
		return nil
	})
	w := apitest.Get(t, h, "/x?a=b")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Zero(t, admitted)
	ready = true
	w = apitest.Get(t, h, "/x?a=b", "X-Scope-OrgID", "team-a")
	require.Equal(t, `"team-a"`, w.Body.String())
	require.Equal(t, "limit of 10 bytes", w.Header().Get(traceapi.PartialHeader))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, 1, released)
	w = apitest.Get(t, h, "/x?a=b", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", w.Header().Get("Content-Encoding"))
	w = apitest.Get(t, h, "/x?a=b", "X-Scope-OrgID", "../etc")
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP vedette_query_trace_partial_responses_total Answers of the trace APIs that left something out because of a limit or a damaged block, by endpoint.
# TYPE vedette_query_trace_partial_responses_total counter
vedette_query_trace_partial_responses_total{handler="/test/x"} 2
`), "vedette_query_trace_partial_responses_total"))
}

// TestDelegate checks that what waits for its turn by itself waits once.
func TestDelegate(t *testing.T) {
	admitted := 0
	admit := func(ctx context.Context, _ string) (context.Context, func(), error) {
		admitted++
		return ctx, func() {}, nil
	}
	store := apitest.NewStore("default", apitest.Shop())
	a := traceapi.API{Base: traceapi.New(traceapi.Options{
		Querier: store, Admit: admit, Dependencies: traceapi.SampledDependencies{Querier: store, Admit: admit},
	}), Name: "test", WriteError: func(w http.ResponseWriter, code int, err error) { http.Error(w, err.Error(), code) }}
	h := a.Delegate(http.MethodGet, "/x", "", func(w http.ResponseWriter, r *http.Request) error {
		edges, err := a.Dependencies().Edges(r.Context(), traceapi.Tenant(r), 0, apitest.Time+1e9)
		require.Len(t, edges, 3)
		return err
	}).Handler
	require.Equal(t, http.StatusOK, apitest.Get(t, h, "/x").Code)
	require.Equal(t, 1, admitted)
	full := func(context.Context, string) (context.Context, func(), error) {
		return nil, nil, &promql.QueueError{Tenant: "default", Limit: 1}
	}
	_, err := traceapi.SampledDependencies{Querier: store, Admit: full}.Edges(t.Context(), "default", 0, 1)
	require.Equal(t, http.StatusTooManyRequests, traceapi.Status(err))
}

func TestServices(t *testing.T) {
	s := apitest.Spans(apitest.Shop())
	require.Equal(t, []string{"frontend", "cart", "pricing"}, traceapi.Services(s))
	text, ok := traceapi.FindText(s, s.SpanAttrs(0), "nested")
	require.True(t, ok)
	require.Equal(t, `{"k":"v","n":1.5}`, text)
	_, ok = traceapi.FindText(s, s.SpanAttrs(0), "missing")
	require.False(t, ok)
}

// TestDeepValue checks that values nested too deep end, rather than the stack.
func TestDeepValue(t *testing.T) {
	var v any = "bottom"
	for range 100 {
		v = []any{v}
	}
	td := apitest.Shop()
	td.ResourceSpans[0].ScopeSpans[0].Spans[0].Attributes = nil
	td.ResourceSpans[0].Resource.Attributes = append(td.ResourceSpans[0].Resource.Attributes, apitest.Attr("deep", v))
	got := traceapi.AppendResourceSpans(nil, apitest.Spans(td), nil, traceapi.OTLP)
	require.True(t, json.Valid(got))
	require.False(t, bytes.Contains(got, []byte("bottom")))
	require.Equal(t, signal.AttrArray, apitest.Spans(td).Attrs[3].Type)
}
