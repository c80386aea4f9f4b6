package apitest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vedette-io/vedette/query/traceapi"
)

// Now is the clock of servers in tests: a minute after the newest trace began.
func Now() time.Time { return time.Unix(0, Time).Add(time.Minute) }

// Get asks a handler and returns its answer. Headers are names and values.
func Get(t testing.TB, h http.Handler, url string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Mux serves routes at the root and below a prefix.
func Mux(prefix string, routes []traceapi.Route) *http.ServeMux {
	mux := http.NewServeMux()
	traceapi.Register(mux, prefix, routes)
	traceapi.Register(mux, "", routes)
	return mux
}

// Golden compares JSON with the file testdata/name, or writes that file if update
// is set.
func Golden(t testing.TB, name string, got []byte, update bool) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatalf("answer for %s is no JSON: %v\n%s", name, err, got)
	}
	b.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("answer differs from %s; run the test with -update and read the diff\ngot:\n%s", path, b.Bytes())
	}
}
