package jaeger_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/query/jaeger"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
)

// FuzzSearch checks that what a client sends never makes a query that does not
// parse.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{"", "a:b", `{"a":"b"}`, `error:true`, `a":"} || {`, "span.kind:x", "1.5s", "event:`"} {
		f.Add(s, s)
	}
	store := apitest.NewStore("default", apitest.Shop())
	mux := apitest.Mux("/jaeger", jaeger.New(traceapi.New(traceapi.Options{Querier: store, Now: apitest.Now}), jaeger.Options{}).Routes())
	f.Fuzz(func(t *testing.T, service, tag string) {
		escaped := url.QueryEscape(tag)
		w := apitest.Get(t, mux, "/api/traces?service="+url.QueryEscape(service)+"&operation="+escaped+"&tag="+escaped)
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code, "%s", w.Body)
		require.NotContains(t, w.Body.String(), "parse TraceQL")
		w = apitest.Get(t, mux, "/api/v3/trace-summaries?"+recentV3+"&query.attributes="+escaped+"&query.durationMin="+escaped)
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code, "%s", w.Body)
		require.NotContains(t, w.Body.String(), "parse TraceQL")
	})
}
