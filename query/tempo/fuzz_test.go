package tempo_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/query/tempo"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
)

// FuzzParams checks that every tag, filter and time is answered or refused: what
// a client sends never makes a query that does not parse.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "a=b", `a="b c" d=5`, `error=true name=}`, "{ a = ", `{ .a = "&&" && (b || c`, "1e9", "99999999999", "2026-01-02T03:04:05Z", "status=x kind=server"} {
		f.Add(s, s, s)
	}
	store := apitest.NewStore("default", apitest.Shop())
	mux := apitest.Mux("/tempo", tempo.New(traceapi.New(traceapi.Options{Querier: store, Now: apitest.Now})).Routes())
	f.Fuzz(func(t *testing.T, tags, q, at string) {
		w := apitest.Get(t, mux, "/api/search?tags="+url.QueryEscape(tags))
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code, "%s", w.Body)
		require.NotContains(t, w.Body.String(), "parse TraceQL")
		w = apitest.Get(t, mux, "/api/v2/search/tags?q="+url.QueryEscape(q))
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
		w = apitest.Get(t, mux, "/api/metrics/query_range?q=%7B%7D%7Crate()&step="+url.QueryEscape(at)+"&start="+url.QueryEscape(at)+"&since="+url.QueryEscape(at))
		require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, w.Code, "%s", w.Body)
	})
}
