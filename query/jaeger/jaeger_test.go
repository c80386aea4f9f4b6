package jaeger_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	jaegertranslator "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/query/jaeger"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/traceql"
)

var update = flag.Bool("update", false, "write the golden files")

func newServer(t *testing.T, o jaeger.Options) (*http.ServeMux, *apitest.Store) {
	t.Helper()
	store := apitest.NewStore("default", apitest.Shop(), apitest.Old())
	api := jaeger.New(traceapi.New(traceapi.Options{
		Querier: store, Now: apitest.Now, Dependencies: traceapi.SampledDependencies{Querier: store},
	}), o)
	return apitest.Mux("/jaeger", api.Routes()), store
}

const micros = apitest.Time / 1000

// recent is a range around the newer trace, as the older API and as version 3
// has it.
var (
	recent   = fmt.Sprintf("start=%d&end=%d", int64(micros-60e6), int64(micros+60e6))
	recentV3 = "query.startTimeMin=2026-01-02T03:04:00.000Z&query.startTimeMax=2026-01-02T03:05:00.000Z"
)

func TestGolden(t *testing.T) {
	millis := fmt.Sprint(apitest.Now().UnixMilli())
	monitor := "service=cart&endTs=" + millis + "&lookback=180000&step=60000&ratePer=120000&spanKind=server"
	for name, path := range map[string]string{
		// What jaeger-ui sends.
		"v3_services":       "/api/v3/services",
		"v3_operations":     "/api/v3/operations?service=cart",
		"v3_summaries":      "/api/v3/trace-summaries?query.serviceName=cart&query.operationName=Cart%2FGet&query.searchDepth=20&" + recentV3 + "&query.attributes=" + url.QueryEscape(`{"error":"true"}`),
		"trace":             "/jaeger/api/traces/" + apitest.ShopTraceID,
		"trace_shared":      "/jaeger/api/traces/abc",
		"dependencies":      "/api/dependencies?endTs=" + millis + "&lookback=604800000",
		"metrics_latencies": "/api/metrics/latencies?quantile=0.95&" + monitor,
		"metrics_calls":     "/api/metrics/calls?groupByOperation=true&" + monitor,
		"metrics_errors":    "/api/metrics/errors?" + monitor,
		// What Grafana's data source sends.
		"services":           "/api/services",
		"service_operations": "/api/services/cart/operations",
		"search":             "/api/traces?service=cart&operation=Cart%2FGet&tags=" + url.QueryEscape(`{"user.id":"u-42"}`) + "&limit=20&lookback=custom&minDuration=1ms&" + recent,
		"search_ids":         "/api/traces?traceID=abc&traceID=1&service=",
		// And the rest.
		"operations":                   "/api/operations?service=cart&spanKind=server",
		"dependencies_of":              "/api/dependencies?service=edge",
		"v3_trace":                     "/api/v3/traces/" + apitest.ShopTraceID,
		"v3_traces":                    "/api/v3/traces?query.service_name=edge&query.start_time_min=2026-01-02T00:00:00Z&query.start_time_max=2026-01-02T04:00:00Z",
		"metrics_latencies_operations": "/api/metrics/latencies?quantile=0.5&groupByOperation=true&" + monitor,
	} {
		t.Run(name, func(t *testing.T) {
			mux, _ := newServer(t, jaeger.Options{})
			w := apitest.Get(t, mux, path)
			require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			apitest.Golden(t, name+".json", w.Body.Bytes(), *update)
		})
	}
}

// TestV3Trace checks with the Collector's decoder that OTLP comes back whole.
func TestV3Trace(t *testing.T) {
	mux, _ := newServer(t, jaeger.Options{})
	both := &tracepb.TracesData{ResourceSpans: append(apitest.Shop().ResourceSpans, apitest.Old().ResourceSpans...)}
	for path, want := range map[string]*tracepb.TracesData{
		"/api/v3/traces/" + apitest.ShopTraceID: apitest.Shop(),
		"/api/v3/traces/abc":                    apitest.Old(),
		"/api/v3/traces/0102030405060708090a0b0c0d0e0f10?start_time=2026-01-02T05:00:00+02:00&end_time=2026-01-02T06:00:00.5+02:00": apitest.Shop(),
		"/api/v3/traces/AQIDBAUGBwgJCgsMDQ4PEA==?start_time=2026-01-02T03:00:00Z&endTime=2026-01-02T04:00:00Z":                      apitest.Shop(),
		"/api/v3/traces?query.startTimeMin=2026-01-02T00:00:00Z&query.startTimeMax=2026-01-02T04:00:00Z":                            both,
	} {
		w := apitest.Get(t, mux, path)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
		var body struct{ Result json.RawMessage }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(body.Result)
		require.NoError(t, err)
		b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
		require.NoError(t, err)
		got := &tracepb.TracesData{}
		require.NoError(t, proto.Unmarshal(b, got))
		require.True(t, apitest.Equal(want, got), "%s", path)
	}
}

type uiTrace struct {
	TraceID   string
	Spans     []uiSpan
	Processes map[string]struct {
		ServiceName string
		Tags        []uiTag
	}
	Warnings []string
}

type uiSpan struct {
	TraceID, SpanID, OperationName, ProcessID string
	Flags                                     uint32
	References                                []struct{ RefType, TraceID, SpanID string }
	StartTime, Duration                       uint64
	Tags                                      []uiTag
	Logs                                      []struct {
		Timestamp uint64
		Fields    []uiTag
	}
	Warnings []string
}

type uiTag struct {
	Key, Type string
	Value     any
}

// load reads one trace in the page's JSON.
func load(t *testing.T, mux *http.ServeMux, path string) uiTrace {
	t.Helper()
	w := apitest.Get(t, mux, path)
	require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
	var body struct{ Data []uiTrace }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	require.Len(t, body.Data, 1)
	return body.Data[0]
}

// TestLikeTranslator compares the page's JSON with what the Collector's
// translator makes of the same spans.
func TestLikeTranslator(t *testing.T) {
	td := apitest.Shop()
	// The translator renames these, has no dropped counts and no scope attributes.
	for _, rs := range td.ResourceSpans {
		rs.ScopeSpans[0].Scope.Attributes = nil
		for _, span := range rs.ScopeSpans[0].Spans {
			span.DroppedAttributesCount, span.DroppedEventsCount, span.DroppedLinksCount = 0, 0, 0
			for _, a := range span.Attributes {
				if a.Key == "http.response.status_code" {
					a.Key = "code"
				}
			}
		}
	}
	store := apitest.NewStore("default", td)
	mux := apitest.Mux("/j", jaeger.New(traceapi.New(traceapi.Options{Querier: store}), jaeger.Options{}).Routes())
	got := load(t, mux, "/j/api/traces/"+apitest.ShopTraceID+"?raw=true")
	b, err := proto.Marshal(td)
	require.NoError(t, err)
	pd, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
	require.NoError(t, err)
	i := 0
	for _, batch := range jaegertranslator.ProtoFromTraces(pd) {
		for _, want := range batch.Spans {
			span := got.Spans[i]
			i++
			require.Equal(t, want.TraceID.String(), span.TraceID)
			require.Equal(t, want.SpanID.String(), span.SpanID)
			require.Equal(t, want.OperationName, span.OperationName)
			require.Equal(t, uint32(want.Flags), span.Flags)
			require.Equal(t, model.TimeAsEpochMicroseconds(want.StartTime), span.StartTime)
			require.Equal(t, model.DurationAsMicroseconds(want.Duration), span.Duration)
			requireTags(t, want.Tags, span.Tags)
			require.Len(t, span.References, len(want.References))
			for j, ref := range want.References {
				require.Equal(t, ref.RefType.String(), span.References[j].RefType)
				require.Equal(t, ref.TraceID.String(), span.References[j].TraceID)
				require.Equal(t, ref.SpanID.String(), span.References[j].SpanID)
			}
			require.Len(t, span.Logs, len(want.Logs))
			for j, log := range want.Logs {
				require.Equal(t, model.TimeAsEpochMicroseconds(log.Timestamp), span.Logs[j].Timestamp)
				requireTags(t, log.Fields, span.Logs[j].Fields)
			}
			p := got.Processes[span.ProcessID]
			require.Equal(t, batch.Process.ServiceName, p.ServiceName)
			requireTags(t, batch.Process.Tags, p.Tags)
		}
	}
	require.Len(t, got.Spans, i)
}

func requireTags(t *testing.T, want []model.KeyValue, got []uiTag) {
	t.Helper()
	var a, b []string
	for _, kv := range want {
		if kv.Key != "vedette.truncated" { // a warning
			a = append(a, fmt.Sprintf("%s %s %s", kv.Key, strings.ToLower(kv.VType.String()), kv.AsString()))
		}
	}
	for _, tag := range got {
		value := fmt.Sprint(tag.Value)
		if tag.Type == "binary" {
			value = "0102ff"
			require.Equal(t, "AQL/", tag.Value)
		}
		b = append(b, fmt.Sprintf("%s %s %s", tag.Key, tag.Type, value))
	}
	slices.Sort(a)
	slices.Sort(b)
	require.Equal(t, a, b)
}

func TestWarnings(t *testing.T) {
	warnings := func(tr uiTrace) map[string][]string {
		out := map[string][]string{}
		for _, s := range tr.Spans {
			if len(s.Warnings) > 0 {
				out[s.SpanID+" "+s.OperationName] = s.Warnings
			}
		}
		return out
	}
	mux, store := newServer(t, jaeger.Options{})
	require.Equal(t, map[string][]string{
		"0000000000000005 price": {"attribute x: 10 of 20 bytes kept"},
	}, warnings(load(t, mux, "/jaeger/api/traces/"+apitest.ShopTraceID)))
	// The server's half of a shared span has an id of its own, and what is below
	// it follows.
	old := load(t, mux, "/jaeger/api/traces/abc")
	require.Equal(t, map[string][]string{
		"000000000000000d get":  {"clock skew adjustment disabled; not applying calculated delta of -45ms"},
		"000000000000000c work": {"span ends 20ms before it starts; its duration is shown as 0", "clock skew adjustment disabled; not applying calculated delta of -20ms"},
	}, warnings(old))
	require.Equal(t, "000000000000000b", old.Spans[1].References[0].SpanID)
	require.Equal(t, "000000000000000d", old.Spans[2].References[0].SpanID)
	require.Equal(t, "0000000000000abc", old.TraceID)
	require.Zero(t, old.Spans[2].Duration)

	moving, _ := newServer(t, jaeger.Options{MaxClockSkew: time.Second})
	moved := load(t, moving, "/jaeger/api/traces/abc")
	require.Equal(t, []string{"This span's timestamps were adjusted by -45ms"}, moved.Spans[1].Warnings)
	require.Equal(t, old.Spans[1].StartTime-45_000, moved.Spans[1].StartTime)
	little, _ := newServer(t, jaeger.Options{MaxClockSkew: time.Millisecond})
	require.Equal(t, []string{"max clock skew adjustment delta of 1ms exceeded; not applying calculated delta of -45ms"},
		load(t, little, "/jaeger/api/traces/abc").Spans[1].Warnings)

	raw := load(t, mux, "/jaeger/api/traces/abc?raw=true")
	require.Equal(t, "000000000000000b", raw.Spans[1].SpanID)
	require.Empty(t, raw.Spans[1].Warnings)

	store.Partial = "limit of 5 bytes reached"
	require.Equal(t, []string{store.Partial}, load(t, mux, "/jaeger/api/traces/abc").Warnings)
	w := apitest.Get(t, mux, "/api/traces?service=edge&start=0")
	require.Equal(t, store.Partial, w.Header().Get(traceapi.PartialHeader))
}

// TestStrangeTrees checks that circles, orphans and spans with the same id end.
func TestStrangeTrees(t *testing.T) {
	td := apitest.Shop()
	spans := td.ResourceSpans[0].ScopeSpans[0].Spans
	spans[0].ParentSpanId, spans[1].ParentSpanId = spans[1].SpanId, spans[0].SpanId // a circle
	spans[1].Kind = tracepb.Span_SPAN_KIND_INTERNAL
	other := td.ResourceSpans[1].ScopeSpans[0].Spans
	other[0].ParentSpanId = []byte{1, 1, 1, 1, 1, 1, 1, 1} // nobody
	other[1].SpanId = td.ResourceSpans[2].ScopeSpans[0].Spans[0].SpanId
	store := apitest.NewStore("default", td)
	mux := apitest.Mux("/j", jaeger.New(traceapi.New(traceapi.Options{Querier: store}), jaeger.Options{}).Routes())
	got := load(t, mux, "/j/api/traces/"+apitest.ShopTraceID)
	require.Len(t, got.Spans, 5)
	require.Equal(t, []string{"invalid parent span IDs=0101010101010101; skipping clock skew adjustment"}, got.Spans[2].Warnings)
	require.Contains(t, got.Spans[4].Warnings, "duplicate span IDs; skipping clock skew adjustment")
}

func TestQueries(t *testing.T) {
	mux, store := newServer(t, jaeger.Options{})
	now := apitest.Now().UnixNano()
	for query, want := range map[string]traceql.SearchRequest{
		"service=a": {Query: `{ resource.service.name = "a" }`, Start: now - 48*3600e9, End: now, Limit: 100},
		`service="+||+"&operation=b&start=1&end=2&limit=3&minDuration=1ms&maxDuration=1.5s`: {
			Query: `{ (resource.service.name = "\" || \"") && (name = "b") && (duration >= 1ms) && (duration <= 1.5s) }`, Start: 1e3, End: 2e3, Limit: 3,
		},
		"service=a&tag=x:1&tag=y:a:b&tags=%7B%22n%22:5,%22t%22:true%7D&start=1&end=2": {
			Query: `{ (resource.service.name = "a") && (.n = "5" || .n = 5) && (.t = "true" || .t = true) && (.x = "1" || .x = 1) && (.y = "a:b") }`,
			Start: 1e3, End: 2e3, Limit: 100,
		},
		"service=a&tags=%7B%22error%22:%22true%22,%22span.kind%22:%22server%22,%22otel.status_code%22:%22OK%22%7D&start=1&end=2": {
			Query: `{ (resource.service.name = "a") && (status = error || .error = true || .error = "true") && (status = ok) && (kind = server) }`,
			Start: 1e3, End: 2e3, Limit: 100,
		},
		"service=a&tag=error:false&tag=event:e&tag=otel.scope.name:l&tag=otel.status_description:d&start=1&end=2": {
			Query: `{ (resource.service.name = "a") && (status != error) && (event:name = "e" || .event = "e") && (instrumentation:name = "l") && (statusMessage = "d") }`,
			Start: 1e3, End: 2e3, Limit: 100,
		},
	} {
		w := apitest.Get(t, mux, "/api/traces?"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body)
		want.Tenant, want.SpansPerSpanset = "default", 1
		require.Equal(t, want, store.Searches[len(store.Searches)-1], "%s", query)
	}
}

func TestRefusals(t *testing.T) {
	mux, store := newServer(t, jaeger.Options{})
	for path, want := range map[string]string{
		"/jaeger/api/traces/xyz!":                                 "400 trace id: byte 'x' at position 1 is not a hexadecimal digit",
		"/jaeger/api/traces/1":                                    "404 trace not found",
		"/jaeger/api/traces/1?start=x":                            `400 unable to parse param 'start': strconv.ParseInt: parsing "x": invalid syntax`,
		"/jaeger/api/traces/1?raw=x":                              `400 unable to parse param 'raw': strconv.ParseBool: parsing "x": invalid syntax`,
		"/api/traces":                                             "400 parameter 'service' is required",
		"/api/traces?traceID=!":                                   "400 cannot parse traceID param: ",
		"/api/traces?service=a&tag=b":                             "400 malformed 'tag' parameter, expecting key:value, received: b",
		"/api/traces?service=a&tags=b":                            "400 malformed 'tags' parameter, cannot unmarshal JSON: ",
		"/api/traces?service=a&tags=%7B%22a%22:[]%7D":             "400 malformed 'tags' parameter",
		"/api/traces?service=a&limit=0":                           "400 unable to parse param 'limit': got 0, want 1 to 10000",
		"/api/traces?service=a&minDuration=5":                     "400 unable to parse param 'minDuration': ",
		"/api/traces?service=a&minDuration=2s&maxDuration=1s":     "400 'maxDuration' should be greater than 'minDuration'",
		"/api/traces?service=a&start=-5":                          "400 unable to parse param 'start': -5 is no time in units of 1µs",
		"/api/operations":                                         "400 parameter 'service' is required",
		"/api/operations?service=a&spanKind=x":                    "400 unsupported span kind: 'x'",
		"/api/dependencies?endTs=x":                               "400 unable to parse param 'endTs'",
		"/api/metrics/calls":                                      "400 unable to parse param 'service': please provide at least one service name",
		"/api/metrics/calls?service=a&spanKind=x":                 "400 unable to parse param 'spanKind': unsupported span kind: 'x'",
		"/api/metrics/calls?service=a&step=0":                     "400 unable to parse param 'step'",
		"/api/metrics/latencies?service=a":                        "400 unable to parse param 'quantile'",
		"/api/metrics/latencies?service=a&quantile=2":             "400 unable to parse param 'quantile': got 2, want 0 to 1",
		"/api/v3/traces/!":                                        "400 malformed parameter trace_id: ",
		"/api/v3/traces/1":                                        "404 No traces found",
		"/api/v3/traces/1?startTime=5":                            "400 malformed parameter startTime: ",
		"/api/v3/traces?query.serviceName=a":                      "400 query.startTimeMin and query.startTimeMax are required",
		"/api/v3/traces?query.serviceName=none&" + recentV3:       "404 No traces found",
		"/api/v3/trace-summaries?query.filter=%7B%7D":             "400 malformed parameter query.filter",
		"/api/v3/trace-summaries?query.searchDepth=x&" + recentV3: "400 unable to parse param 'query.searchDepth'",
		"/api/v3/trace-summaries?query.durationMin=x&" + recentV3: "400 malformed parameter query.durationMin",
		"/api/v3/trace-summaries?query.attributes=x&" + recentV3:  "400 malformed parameter query.attributes",
		"/api/v3/trace-summaries?query.startTimeMin=2026-01-02T03:04:00Z&query.startTimeMax=2026-01-02T03:04:00Z": "400 query.startTimeMin must be before query.startTimeMax",
	} {
		w := apitest.Get(t, mux, path)
		var body struct {
			Errors []struct {
				Code int
				Msg  string
			}
			Error struct {
				HTTPCode int
				Message  string
			}
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), "%s", w.Body)
		got := fmt.Sprint(w.Code, " ", body.Error.Message)
		code := body.Error.HTTPCode
		if len(body.Errors) == 1 {
			got, code = fmt.Sprint(w.Code, " ", body.Errors[0].Msg), body.Errors[0].Code
		}
		require.Equal(t, w.Code, code)
		require.True(t, strings.HasPrefix(got, want), "%s\nwant %s\ngot  %s", path, want, got)
	}
	store.Err = errors.New("disk is gone")
	for _, path := range []string{"/api/services", "/api/v3/services", "/api/v3/operations", "/api/traces?service=a", "/api/dependencies", "/api/metrics/errors?service=a"} {
		require.Equal(t, http.StatusInternalServerError, apitest.Get(t, mux, path).Code, "%s", path)
	}
}

func TestPrettyPrint(t *testing.T) {
	mux, _ := newServer(t, jaeger.Options{})
	require.True(t, strings.HasPrefix(apitest.Get(t, mux, "/api/services?prettyPrint=true").Body.String(), "{\n    \"data\": ["))
	require.JSONEq(t, `{"data":1,"total":1,"limit":0,"offset":0,"errors":null}`, apitest.Get(t, mux, "/api/metrics/minstep").Body.String())
}

// TestRoot checks who answers the path that is Tempo's and Jaeger's.
func TestRoot(t *testing.T) {
	_, store := newServer(t, jaeger.Options{})
	base := traceapi.New(traceapi.Options{Querier: store})
	own := jaeger.New(base, jaeger.Options{}).Routes()
	tempo := []traceapi.Route{{OnlyPrefixed: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("tempo"))
	})}}
	mux := http.NewServeMux()
	traceapi.Register(mux, "", append(own, traceapi.TraceAtRoot(tempo, own)))
	require.Equal(t, "tempo", apitest.Get(t, mux, "/api/traces/abc", "Accept", "application/protobuf").Body.String())
	require.Len(t, load(t, mux, "/api/traces/abc").Spans, 3)
}
