package zipkin_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/query/zipkin"
)

// FuzzSearch checks that what a client sends never makes a query that does not
// parse.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{"", "a=b", "error", "a and b=5 and ", "=", `x" || "`, " and  and "} {
		f.Add(s, s)
	}
	store := apitest.NewStore("default", apitest.Shop())
	mux := apitest.Mux("/zipkin", zipkin.New(traceapi.New(traceapi.Options{Querier: store, Now: apitest.Now}), zipkin.Options{}).Routes())
	f.Fuzz(func(t *testing.T, name, annotations string) {
		n := url.QueryEscape(name)
		w := apitest.Get(t, mux, "/api/v2/traces?serviceName="+n+"&spanName="+n+"&remoteServiceName="+n+"&annotationQuery="+url.QueryEscape(annotations))
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
	})
}
