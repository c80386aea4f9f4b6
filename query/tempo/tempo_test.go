package tempo_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/query/tempo"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/traceql"
)

var update = flag.Bool("update", false, "write the golden files")

func newServer(t *testing.T) (*http.ServeMux, *apitest.Store) {
	t.Helper()
	store := apitest.NewStore("default", apitest.Shop(), apitest.Old())
	api := tempo.New(traceapi.New(traceapi.Options{
		Querier: store, Now: apitest.Now, Build: traceapi.Build{Version: "1.2.3", Revision: "abc", GoVersion: "go1"},
	}))
	return apitest.Mux("/tempo", api.Routes()), store
}

func TestGolden(t *testing.T) {
	const seconds = apitest.Time / 1_000_000_000
	recent := fmt.Sprintf("start=%d&end=%d", seconds-60, seconds+60)
	for name, c := range map[string]struct{ url, message string }{
		"trace_v2":        {"/api/v2/traces/" + apitest.ShopTraceID, "TraceByIDResponse"},
		"trace_v2_filter": {"/api/v2/traces/" + apitest.ShopTraceID + "?q=" + url.QueryEscape("{ name = `price` }"), "TraceByIDResponse"},
		"trace_v2_only":   {"/api/v2/traces/" + apitest.ShopTraceID + "?keep_hierarchy=false&q=" + url.QueryEscape("{ name = `price` }"), "TraceByIDResponse"},
		"search":          {"/api/search?q=" + url.QueryEscape("{ status = error }") + "&" + recent, "SearchResponse"},
		"search_groups":   {"/api/search?spss=0&q=" + url.QueryEscape("{} | by(resource.service.name) | count() > 0"), "SearchResponse"},
		"search_tags":     {"/api/search?minDuration=20ms&tags=" + url.QueryEscape(`service.name=cart http.response.status_code=200`), "SearchResponse"},
		"tags":            {"/api/search/tags?limit=5000&" + recent, "SearchTagsResponse"},
		"tags_intrinsic":  {"/api/search/tags?scope=intrinsic", "SearchTagsResponse"},
		"tags_v2":         {"/api/v2/search/tags?limit=5000", "SearchTagsV2Response"},
		"tags_v2_scope":   {"/api/v2/search/tags?scope=resource&q=" + url.QueryEscape(`{ resource.service.name = "cart" && span.x = }`), "SearchTagsV2Response"},
		"values":          {"/api/search/tag/service.name/values", "SearchTagValuesResponse"},
		"values_status":   {"/api/search/tag/status.code/values", "SearchTagValuesResponse"},
		"values_v2":       {"/api/v2/search/tag/resource.service.name/values?limit=5000&q=" + url.QueryEscape(`{ kind = server }`), "SearchTagValuesV2Response"},
		"values_v2_kind":  {"/api/v2/search/tag/kind/values", "SearchTagValuesV2Response"},
		"values_v2_int":   {"/api/v2/search/tag/span.http.response.status_code/values", "SearchTagValuesV2Response"},
		"values_v2_nodot": {"/api/v2/search/tag/.sampled/values", "SearchTagValuesV2Response"},
		"query_range":     {"/api/metrics/query_range?step=30s&q=" + url.QueryEscape("{ kind = server } | rate() by(resource.service.name)") + "&" + recent, "QueryRangeResponse"},
		"query_range_one": {"/api/metrics/query_range?step=60&exemplars=1&q=" + url.QueryEscape("{ } | count_over_time()") + "&" + recent, "QueryRangeResponse"},
		"query":           {"/api/metrics/query?query=" + url.QueryEscape("{ } | quantile_over_time(duration, .5, .9) by(name)") + "&" + recent, "QueryInstantResponse"},
	} {
		t.Run(name, func(t *testing.T) {
			mux, _ := newServer(t)
			w := apitest.Get(t, mux, c.url, "Accept", "application/json")
			require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			apitest.Golden(t, name+".json", w.Body.Bytes(), *update)
			p := apitest.Get(t, mux, "/tempo"+c.url, "Accept", "application/protobuf")
			require.Equal(t, http.StatusOK, p.Code, "%s", p.Body)
			require.Equal(t, "application/protobuf", p.Header().Get("Content-Type"))
			sameMessage(t, c.message, w.Body.Bytes(), p.Body.Bytes())
		})
	}
}

func TestTraceV1(t *testing.T) {
	mux, _ := newServer(t)
	for id, want := range map[string]*tracepb.TracesData{
		apitest.ShopTraceID: apitest.Shop(), strings.ToUpper(apitest.ShopTraceID): apitest.Shop(), "abc": apitest.Old(), apitest.OldTraceID: apitest.Old(),
	} {
		w := apitest.Get(t, mux, "/tempo/api/traces/"+id, "Accept", "application/protobuf")
		require.Equal(t, http.StatusOK, w.Code)
		got := &tracepb.TracesData{}
		require.NoError(t, proto.Unmarshal(w.Body.Bytes(), got))
		require.True(t, apitest.Equal(want, got), "%s", protojson.Format(got))

		w = apitest.Get(t, mux, "/tempo/api/traces/"+id)
		var body struct{ Batches json.RawMessage }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		got = &tracepb.TracesData{}
		require.NoError(t, protojson.Unmarshal(fmt.Appendf(nil, `{"resourceSpans":%s}`, body.Batches), got))
		require.True(t, apitest.Equal(want, got), "%s", protojson.Format(got))
	}
	// At the root the path is shared with Jaeger.
	require.Equal(t, http.StatusNotFound, apitest.Get(t, mux, "/api/traces/abc").Code)
}

func TestPartial(t *testing.T) {
	mux, store := newServer(t)
	store.Partial = "limit of 5 bytes reached"
	w := apitest.Get(t, mux, "/api/v2/traces/abc")
	require.Equal(t, store.Partial, w.Header().Get(traceapi.PartialHeader))
	var got struct{ Status, Message string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, "PARTIAL", got.Status)
	require.Equal(t, store.Partial, got.Message)
	p := apitest.Get(t, mux, "/api/v2/traces/abc", "Accept", "application/protobuf")
	sameMessage(t, "TraceByIDResponse", w.Body.Bytes(), p.Body.Bytes())

	q := "/api/metrics/query_range?q=" + url.QueryEscape("{} | rate()")
	w = apitest.Get(t, mux, q)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, "PARTIAL", got.Status)
	p = apitest.Get(t, mux, q, "Accept", "application/protobuf")
	sameMessage(t, "QueryRangeResponse", w.Body.Bytes(), p.Body.Bytes())

	w = apitest.Get(t, mux, "/api/search")
	require.Equal(t, store.Partial, w.Header().Get(traceapi.PartialHeader))
	require.NotContains(t, w.Body.String(), "completedJobs")
}

func TestSearchRequest(t *testing.T) {
	mux, store := newServer(t)
	for query, want := range map[string]traceql.SearchRequest{
		"":                                    {Limit: 20, SpansPerSpanset: 3},
		"q={}&limit=5&spss=0&start=10&end=20": {Query: "{}", Limit: 5, SpansPerSpanset: -1, Start: 10e9, End: 21e9 - 1},
		"minDuration=1s&maxDuration=2s":       {MinDuration: 1e9, MaxDuration: 2e9, Limit: 20, SpansPerSpanset: 3},
		"tags=a%3D%22x+y%22+b%3D5+name%3Dn":   {Query: `{ .a = "x y" } && { .b = "5" || .b = 5 } && { name = "n" }`, Limit: 20, SpansPerSpanset: 3},
		"tags=error%3Dtrue+status.code%3Dok":  {Query: `{ status = error || .error = true || .error = "true" } && { status = ok }`, Limit: 20, SpansPerSpanset: 3},
		"tags=root.name%3Da+root.service.name%3D%22%5C%22%22": {Query: `{ rootName = "a" } && { rootServiceName = "\"" }`, Limit: 20, SpansPerSpanset: 3},
	} {
		w := apitest.Get(t, mux, "/api/search?"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body)
		want.Tenant = "default"
		require.Equal(t, want, store.Searches[len(store.Searches)-1], "%s", query)
	}
	w := apitest.Get(t, mux, "/api/search", "X-Scope-OrgID", "other")
	require.JSONEq(t, `{"traces":[],"metrics":{"totalBlocks":2,"completedJobs":1,"totalJobs":1}}`, w.Body.String())
}

func TestMetricsRequest(t *testing.T) {
	mux, store := newServer(t)
	now := apitest.Now().UnixNano()
	hour := int64(3600e9)
	q := "{} | rate()"
	for query, want := range map[string]traceql.MetricsRequest{
		"step=60s&start=1000&end=2000":                                      {Start: 960e9, End: 2040e9, Step: 60e9, Exemplars: 100},
		"step=1.5&start=3&end=6&exemplars=7":                                {Start: 3e9, End: 6e9, Step: 1.5e9, Exemplars: 7},
		"step=1m&start=1970-01-01T00:01:00Z&end=120000000000&exemplars=999": {Start: 60e9, End: 120e9, Step: 60e9, Exemplars: 100},
		"step=5m&since=2h&maxSeries=9":                                      {Start: now - 2*hour, End: now, Step: 300e9, Exemplars: 100, MaxSeries: 9},
		"":                                                                  {Start: now - hour, End: now, Step: 15e9, Exemplars: 100},
	} {
		w := apitest.Get(t, mux, "/api/metrics/query_range?q="+url.QueryEscape(q)+"&"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body)
		want.Tenant, want.Query = "default", q
		want.Start, want.End = traceql.AlignRange(want.Start, want.End, want.Step)
		require.Equal(t, want, store.Queries[len(store.Queries)-1], "%s", query)
	}
	w := apitest.Get(t, mux, "/api/metrics/query?q="+url.QueryEscape(q)+"&start=10&end=20&exemplars=3")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, traceql.MetricsRequest{Tenant: "default", Query: q, Start: 10e9, End: 20e9, Step: 10e9}, store.Queries[len(store.Queries)-1])
}

func TestRefusals(t *testing.T) {
	mux, store := newServer(t)
	rate := url.QueryEscape("{} | rate()")
	for url, want := range map[string]string{
		"/api/v2/traces/xyz":                               "400 trace id: byte 'x' at position 1 is not a hexadecimal digit",
		"/api/v2/traces/" + strings.Repeat("1", 33):        "400 trace id has 33 digits, want at most 32",
		"/api/v2/traces/1":                                 "404 trace not found",
		"/api/v2/traces/1?start=5&end=5":                   "400 http parameter start must be before end. received start=5 end=5",
		"/api/v2/traces/1?q=%7B%7D+%7C+rate()":             "400 invalid q: want a single spanset filter such as { status = error }",
		"/api/v2/traces/1?q=%7B%7D&keep_hierarchy=no!":     `400 invalid keep_hierarchy: got "no!", want true or false`,
		"/api/search?q=%7B":                                "400 parse TraceQL: line 1, column 2",
		"/api/search?q=%7B%7D&tags=a%3Db":                  "400 invalid request: can't specify tags and q in the same query",
		"/api/search?limit=0":                              "400 invalid limit: must be a positive number",
		"/api/search?limit=99999":                          "400 invalid limit: got 99999, want at most 10000",
		"/api/search?limit=x":                              `400 invalid limit: got "x", want an integer of 0 or more`,
		"/api/search?minDuration=5":                        `400 invalid minDuration: got "5", want a duration`,
		"/api/search?minDuration=5s&maxDuration=1s":        "400 invalid maxDuration: must be greater than minDuration",
		"/api/search?tags=a":                               "400 invalid tags: at byte 0",
		"/api/search?tags=a%3D1+a%3D2":                     "400 invalid tags: tag a has been set twice",
		"/api/search?tags=a%3D%22x":                        "400 invalid tags: at byte 2",
		"/api/search?tags=+":                               "400 invalid tags: got none",
		"/api/search?start=-1":                             "400 invalid start",
		"/api/v2/search/tags?scope=x":                      "400 invalid scope: x",
		"/api/v2/search/tag/x":                             "404 404 page not found",
		"/api/v2/search/tag/%7B/values":                    "400 invalid tag name: parse TraceQL",
		"/api/metrics/query_range":                         "400 invalid q: the query is missing",
		"/api/metrics/query_range?q=%7B%7D":                "400 invalid q: not a metrics query",
		"/api/metrics/query_range?q=" + rate + "&step=0":   `400 invalid step: got "0"`,
		"/api/metrics/query_range?q=" + rate + "&step=1ms": "400 exceeded maximum resolution of 11000 points per series: try a larger step than 1ms",
		"/api/metrics/query?q=" + rate + "&since=x":        `400 invalid since: got "x"`,
		"/api/metrics/query?q=" + rate + "&start=x":        `400 invalid start: got "x"`,
		"/api/metrics/query?q=" + rate + "&start=9&end=8":  "400 http parameter start must be before end",
	} {
		w := apitest.Get(t, mux, url)
		got := fmt.Sprintf("%d %s", w.Code, w.Body)
		require.True(t, strings.HasPrefix(got, want), "%s\nwant %s\ngot  %s", url, want, got)
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	}
	store.Err = errors.New("disk is gone")
	for _, url := range []string{"/api/v2/traces/1", "/api/search", "/api/search/tags", "/api/v2/search/tag/name/values", "/api/metrics/query?q=" + rate} {
		require.Equal(t, http.StatusInternalServerError, apitest.Get(t, mux, url).Code, "%s", url)
	}
}

func TestPlain(t *testing.T) {
	mux, _ := newServer(t)
	require.Equal(t, "echo", apitest.Get(t, mux, "/api/echo").Body.String())
	require.Equal(t, "ready\n", apitest.Get(t, mux, "/tempo/ready").Body.String())
	require.JSONEq(t, `{"version":"1.2.3","revision":"abc","branch":"","buildUser":"","buildDate":"","goVersion":"go1"}`,
		apitest.Get(t, mux, "/api/status/buildinfo").Body.String())
}

// TestIncompleteFilter checks that names and values are suggested while a query
// is being typed.
func TestIncompleteFilter(t *testing.T) {
	mux, _ := newServer(t)
	all := `["cart","frontend","pricing","edge","backend"]`
	for query, want := range map[string]string{
		"":                             all,
		"{}":                           all,
		"{ name = }":                   all,
		`{ name = "price" && kind = }`: `["pricing"]`,
		`{ kind = && (name = "price" || name = "x")`: `["pricing"]`,
		`{ name = "price" || kind = }`:               all,
		`{ name = "a && b" && kind = server && x = `: `[]`,
		"{} | rate()": all,
		"nonsense":    all,
	} {
		w := apitest.Get(t, mux, "/api/search/tag/service.name/values?q="+url.QueryEscape(query))
		require.Equal(t, http.StatusOK, w.Code)
		var got struct{ TagValues []string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		var names []string
		require.NoError(t, json.Unmarshal([]byte(want), &names))
		require.ElementsMatch(t, names, got.TagValues, "%s", query)
	}
}
