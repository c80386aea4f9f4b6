package zipkin_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	zipkinmodel "github.com/openzipkin/zipkin-go/model"
	"github.com/stretchr/testify/require"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/query/zipkin"
)

var update = flag.Bool("update", false, "write the golden files")

func newServer(t *testing.T, traces ...*tracepb.TracesData) (*http.ServeMux, *apitest.Store) {
	t.Helper()
	store := apitest.NewStore("default", append(traces, apitest.Shop(), apitest.Old())...)
	api := zipkin.New(traceapi.New(traceapi.Options{
		Querier: store, Now: apitest.Now, Dependencies: traceapi.SampledDependencies{Querier: store},
	}), zipkin.Options{AutocompleteKeys: []string{"http.request.method", "user.id"}})
	return apitest.Mux("/zipkin", api.Routes()), store
}

func TestGolden(t *testing.T) {
	millis := apitest.Time/1_000_000 + 60_000
	for name, path := range map[string]string{
		"services":        "/api/v2/services",
		"spans":           "/api/v2/spans?serviceName=cart",
		"remote_services": "/api/v2/remoteServices?serviceName=cart",
		"traces":          fmt.Sprintf("/api/v2/traces?serviceName=cart&spanName=cart%%2Fget&limit=10&endTs=%d&lookback=900000", millis),
		"traces_found":    fmt.Sprintf("/zipkin/api/v2/traces?serviceName=cart&spanName=Cart%%2FGet&annotationQuery=error&minDuration=1000&limit=10&endTs=%d&lookback=900000", millis),
		"trace":           "/api/v2/trace/" + apitest.ShopTraceID,
		"trace_shared":    "/api/v2/trace/abc",
		"trace_many":      "/api/v2/traceMany?traceIds=abc,1," + apitest.ShopTraceID,
		"dependencies":    fmt.Sprintf("/api/v2/dependencies?endTs=%d&lookback=86400000", millis),
		"keys":            "/api/v2/autocompleteKeys",
		"values":          "/api/v2/autocompleteValues?key=user.id",
		"values_unknown":  "/api/v2/autocompleteValues?key=other",
		"config":          "/zipkin/config.json",
	} {
		t.Run(name, func(t *testing.T) {
			mux, _ := newServer(t)
			w := apitest.Get(t, mux, path)
			require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			apitest.Golden(t, name+".json", w.Body.Bytes(), *update)
			switch name {
			case "traces_found", "trace_many": // as a client of Zipkin reads them
				var got [][]zipkinmodel.SpanModel
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
				require.NotEmpty(t, got)
			case "trace", "trace_shared":
				var got []zipkinmodel.SpanModel
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
				require.Contains(t, []int{3, 5}, len(got))
			}
		})
	}
}

// TestOwnSpans checks that spans that came in as Zipkin's go out as they were:
// what docs/zipkin.md says of attributes, the other way round.
func TestOwnSpans(t *testing.T) {
	attr := apitest.Attr
	for name, c := range map[string]struct {
		resource, attrs []*commonpb.KeyValue
		scope           *commonpb.InstrumentationScope
		span            *tracepb.Span
		want            string
	}{
		"nothing": {want: `{"traceId":"0000000000000abc","id":"00000000000000aa"}`},
		"all": {
			resource: []*commonpb.KeyValue{attr("service.name", "Backend"), attr("network.local.address", "192.168.99.1"), attr("zipkin.local.ipv6", "2001:db8::1")},
			attrs: []*commonpb.KeyValue{
				attr("http.path", "/api"), attr("n", "5"), attr("network.local.port", 8080),
				attr("peer.service", "db"), attr("network.peer.address", "10.0.0.1"), attr("zipkin.remote.ipv6", "::2:1"), attr("network.peer.port", 5432),
				attr("zipkin.debug", true), attr("zipkin.shared", true),
			},
			scope: &commonpb.InstrumentationScope{Name: "lib", Version: "2"},
			span: &tracepb.Span{
				ParentSpanId: []byte{7: 1}, Name: "get", Kind: tracepb.Span_SPAN_KIND_SERVER,
				StartTimeUnixNano: 1_600_000_000_123_456_000, EndTimeUnixNano: 1_600_000_000_123_457_431, // 1 µs and 431 ns
				Events: []*tracepb.Span_Event{{TimeUnixNano: 1_600_000_000_123_456_000, Name: "hello | {}"}},
			},
			want: `{"traceId":"0000000000000abc","parentId":"0000000000000001","id":"00000000000000aa","kind":"SERVER","name":"get",
				"timestamp":1600000000123456,"duration":1,
				"localEndpoint":{"serviceName":"Backend","ipv4":"192.168.99.1","ipv6":"2001:db8::1","port":8080},
				"remoteEndpoint":{"serviceName":"db","ipv4":"10.0.0.1","ipv6":"::2:1","port":5432},
				"annotations":[{"timestamp":1600000000123456,"value":"hello | {}"}],
				"tags":{"otel.scope.name":"lib","otel.scope.version":"2","http.path":"/api","n":"5"},"debug":true,"shared":true}`,
		},
		"tags in the way": {
			attrs: []*commonpb.KeyValue{
				attr("peer.service", "tag"), attr("network.peer.address", "tag"), attr("network.peer.port", "tag"), attr("network.local.port", "tag"),
				attr("zipkin.shared", "tag"), attr("zipkin.debug", "tag"),
				attr("zipkin.remote.service_name", "db"), attr("zipkin.remote.address", "10.0.0.1"), attr("zipkin.remote.port", 5432),
			},
			want: `{"traceId":"0000000000000abc","id":"00000000000000aa","remoteEndpoint":{"serviceName":"db","ipv4":"10.0.0.1","port":5432},
				"tags":{"peer.service":"tag","network.peer.address":"tag","network.peer.port":"tag","network.local.port":"tag","zipkin.shared":"tag","zipkin.debug":"tag"}}`,
		},
		"no time": {
			attrs: []*commonpb.KeyValue{attr("otel.zipkin.absentField.startTime", true)},
			span:  &tracepb.Span{StartTimeUnixNano: 5_000_000, EndTimeUnixNano: 7_000_000, Kind: tracepb.Span_SPAN_KIND_PRODUCER},
			want:  `{"traceId":"0000000000000abc","id":"00000000000000aa","kind":"PRODUCER","duration":2000}`,
		},
		"error": {
			attrs: []*commonpb.KeyValue{attr("error", "no such row")},
			span:  &tracepb.Span{Kind: tracepb.Span_SPAN_KIND_CLIENT, Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "no such row"}},
			want:  `{"traceId":"0000000000000abc","id":"00000000000000aa","kind":"CLIENT","tags":{"error":"no such row"}}`,
		},
		"status": {
			attrs: []*commonpb.KeyValue{attr("otel.status_code", "ERROR"), attr("otel.status_description", "d")},
			span:  &tracepb.Span{Kind: tracepb.Span_SPAN_KIND_CONSUMER, Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "d"}},
			want:  `{"traceId":"0000000000000abc","id":"00000000000000aa","kind":"CONSUMER","tags":{"otel.status_code":"ERROR","otel.status_description":"d"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			span := &tracepb.Span{}
			if c.span != nil {
				span = c.span
			}
			span.TraceId, span.SpanId, span.Attributes = []byte{14: 0x0a, 15: 0xbc}, []byte{7: 0xaa}, c.attrs
			store := apitest.NewStore("default", &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
				Resource:   &resourcepb.Resource{Attributes: c.resource},
				ScopeSpans: []*tracepb.ScopeSpans{{Scope: c.scope, Spans: []*tracepb.Span{span}}},
			}}})
			mux := apitest.Mux("/zipkin", zipkin.New(traceapi.New(traceapi.Options{Querier: store}), zipkin.Options{}).Routes())
			w := apitest.Get(t, mux, "/api/v2/trace/0000000000000abc")
			require.JSONEq(t, "["+c.want+"]", w.Body.String())
		})
	}
}

func TestQueries(t *testing.T) {
	mux, store := newServer(t)
	now := apitest.Now().UnixNano()
	for query, want := range map[string]traceql.SearchRequest{
		"": {Query: "{}", Start: now - 24*3600e9, End: now, Limit: 10},
		"serviceName=a&spanName=all&endTs=5000&lookback=1000&limit=99999": {Query: `{ resource.service.name = "a" }`, Start: 4e9, End: 5e9, Limit: 10_000},
		"serviceName=a&spanName=b&remoteServiceName=c&minDuration=1&maxDuration=2000000&endTs=5&lookback=50": {
			Query: `{ (resource.service.name = "a") && (name = "b") && (span.zipkin.remote.service_name = "c" || span.peer.service = "c" || span.service.peer.name = "c") && (duration >= 1µs) && (duration <= 2s) }`,
			Start: 0, End: 5e6, Limit: 10,
		},
		"annotationQuery=" + url.QueryEscape(`error and http.status_code=500 and cache "miss" and  and =x and error=true and otel.status_code=OK`): {
			Query: `{ (status = error || .error != nil) && (.http.status_code = "500" || .http.status_code = 500) && (event:name = "cache \"miss\"" || ."cache \"miss\"" != nil) && (status = error || .error = "true" || .error = true) && (status = ok) }`,
			Start: now - 24*3600e9, End: now, Limit: 10,
		},
	} {
		w := apitest.Get(t, mux, "/api/v2/traces?"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body)
		want.Tenant, want.SpansPerSpanset = "default", 1
		require.Equal(t, want, store.Searches[len(store.Searches)-1], "%s", query)
	}
}

func TestRefusals(t *testing.T) {
	mux, store := newServer(t)
	for path, want := range map[string]string{
		"/api/v2/spans":                                            "400 missing required param: serviceName",
		"/api/v2/remoteServices?serviceName=":                      "400 missing required param: serviceName",
		"/api/v2/autocompleteValues":                               "400 missing required param: key",
		"/api/v2/dependencies":                                     "400 missing required param: endTs",
		"/api/v2/dependencies?endTs=0":                             "400 endTs <= 0",
		"/api/v2/dependencies?endTs=9&lookback=0":                  "400 lookback <= 0",
		"/api/v2/traces?limit=0":                                   "400 limit <= 0",
		"/api/v2/traces?limit=x":                                   "400 Can't convert 'x' to type 'Long' of param limit",
		"/api/v2/traces?endTs=9223372036854775807":                 "400 Can't convert '9223372036854775807'",
		"/api/v2/traces?minDuration=0":                             "400 minDuration <= 0",
		"/api/v2/traces?maxDuration=5":                             "400 maxDuration is only valid with minDuration",
		"/api/v2/traces?minDuration=6&maxDuration=5":               "400 maxDuration < minDuration",
		"/api/v2/trace/xyz":                                        "400 xyz should be lower-hex encoded with no prefix",
		"/api/v2/trace/" + strings.Repeat("1", 33):                 "400 traceId.length > 32",
		"/api/v2/trace/1":                                          "404 0000000000000001 not found",
		"/api/v2/traceMany":                                        "400 traceIds parameter is empty",
		"/api/v2/traceMany?traceIds=1":                             "400 Use /api/v2/trace/{traceId} endpoint to retrieve a single trace",
		"/api/v2/traceMany?traceIds=1,01":                          "400 redundant traceId: 01",
		"/api/v2/traceMany?traceIds=1,":                            "400 traceId is empty",
		"/api/v2/traceMany?traceIds=" + strings.Repeat("1,", 1000): "400 traceIds parameter has 1001 ids",
	} {
		w := apitest.Get(t, mux, path)
		got := fmt.Sprintf("%d %s", w.Code, w.Body)
		require.True(t, strings.HasPrefix(got, want), "%s\nwant %s\ngot  %s", path, want, got)
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	}
	store.Err = errors.New("disk is gone")
	for _, path := range []string{"/api/v2/services", "/api/v2/spans?serviceName=a", "/api/v2/traces", "/api/v2/trace/1", "/api/v2/dependencies?endTs=5"} {
		require.Equal(t, http.StatusInternalServerError, apitest.Get(t, mux, path).Code, "%s", path)
	}
}

func TestPartial(t *testing.T) {
	mux, store := newServer(t)
	store.Partial = "limit of 5 bytes reached"
	for _, path := range []string{"/api/v2/services", "/api/v2/spans?serviceName=a", "/api/v2/traces", "/api/v2/trace/abc", "/api/v2/traceMany?traceIds=1,2"} {
		require.Equal(t, store.Partial, apitest.Get(t, mux, path).Header().Get(traceapi.PartialHeader), "%s", path)
	}
}
