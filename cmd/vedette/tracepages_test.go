package main

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pagesDir holds what is needed to look at other people's pages; "make
// trace-pages" fetches it. A build of jaeger-ui, which no registry has, is used if
// it is in the folder jaeger-ui.
const pagesDir = "../../.cache/pages"

// browsePage is a page to open and what it is to show.
type browsePage struct {
	URL   string   `json:"url"`
	Texts []string `json:"texts"`
}

// browsed is what browse.mjs prints.
type browsed struct {
	Requests []struct {
		Method, URL, Type string
		Status, Page      int
	}
	Faults, Missing []string
}

// browse opens pages in a real browser. It returns what they have asked for.
func browse(t *testing.T, pages []browsePage) browsed {
	t.Helper()
	playwright, err := filepath.Abs(filepath.Join(pagesDir, "node_modules", "playwright-core"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(playwright); err != nil {
		t.Skip("playwright-core is missing; make trace-pages fetches it")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is missing")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing: install Debian's package chromium")
	}
	input, err := json.Marshal(pages)
	if err != nil {
		t.Fatal(err)
	}
	pictures := os.Getenv("VEDETTE_TEST_PICTURES") // a folder in which to look at the pages
	if pictures == "" {
		pictures = t.TempDir()
	} else {
		pictures = filepath.Join(pictures, filepath.Base(t.Name()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "testdata/browse.mjs", playwright, chromium, pictures)
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(input)), os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("browse: %v: %s", err, text)
	}
	var out browsed
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("browse: %v: %s", err, text)
	}
	for _, fault := range append(out.Missing, out.Faults...) {
		t.Error(fault)
	}
	return out
}

// checkRequests fails if a page was refused something below one of the paths of
// the API, and logs all of what it asked.
func (b browsed) checkRequests(t *testing.T, paths ...string) {
	t.Helper()
	asked := 0
	for _, r := range b.Requests {
		u, err := url.Parse(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasPrefix(u.Path, path) {
				asked++
				t.Logf("page %d: %s %s: %d %s", r.Page, r.Method, u.RequestURI(), r.Status, r.Type)
				if r.Status != http.StatusOK || !strings.HasPrefix(r.Type, "application/json") {
					t.Errorf("page %d: %s %s: got %d, %s, want 200 and JSON", r.Page, r.Method, u.RequestURI(), r.Status, r.Type)
				}
			}
		}
	}
	if asked == 0 {
		t.Error("the pages have asked for nothing")
	}
}

// proxy hands requests on to the process, with its token, for clients that know
// none.
func (p *process) proxy() http.Handler {
	p.t.Helper()
	target, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	token := p.token
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		if token != "" {
			r.Out.Header.Set("Authorization", "Bearer "+token)
		}
	}}
}

// servePage serves a page's files, the index in place of what is not there.
func servePage(files fs.FS) http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if s, err := fs.Stat(files, name); err != nil || s.IsDir() {
			r.URL.Path = "/"
		}
		server.ServeHTTP(w, r)
	})
}

// browseJaegerUI looks at a trace with Jaeger's page.
func (p *process) browseJaegerUI(shop string, begin time.Time) {
	t := p.t
	dir := filepath.Join(pagesDir, "jaeger-ui")
	if _, err := os.Stat(filepath.Join(dir, "index.html")); err != nil {
		t.Skip("a build of jaeger-ui is missing: put one into .cache/pages/jaeger-ui")
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", p.proxy())
	mux.Handle("/", servePage(os.DirFS(dir)))
	s := httptest.NewServer(mux)
	defer s.Close()
	from, to := begin.Add(-time.Minute).UnixMicro(), begin.Add(time.Minute).UnixMicro()
	out := browse(t, []browsePage{
		{s.URL + fmt.Sprintf("/search?service=shop&operation=GET%%20%%2Fcart&start=%d&end=%d&limit=20&lookback=custom", from, to), []string{"1 Trace", "shop: GET /cart"}},
		{s.URL + fmt.Sprintf("/search?service=cart&tags=%s&minDuration=1ms&start=%d&end=%d&limit=20&lookback=custom", url.QueryEscape(`{"error":"true"}`), from, to), []string{"1 Trace", "shop: GET /cart"}},
		{s.URL + "/trace/" + shop, []string{"cart.Get", "SELECT", "90"}},
		{s.URL + "/dependencies", []string{"zipkin-front"}},
	})
	out.checkRequests(t, "/api/")
}

// browseZipkinLens looks at a trace with Zipkin's page.
func (p *process) browseZipkinLens(begin time.Time) {
	t := p.t
	jar, err := zip.OpenReader(filepath.Join(pagesDir, "zipkin-lens.jar"))
	if err != nil {
		t.Skip("zipkin-lens is missing; make trace-pages fetches it")
	}
	defer jar.Close()
	files, err := fs.Sub(jar, "zipkin-lens")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/zipkin/api/", p.proxy())
	mux.Handle("/zipkin/config.json", p.proxy())
	mux.Handle("/zipkin/", http.StripPrefix("/zipkin", servePage(files)))
	s := httptest.NewServer(mux)
	defer s.Close()
	now := time.Now().UnixMilli()
	out := browse(t, []browsePage{
		{s.URL + fmt.Sprintf("/zipkin/?serviceName=zipkin-front&lookback=15m&endTs=%d&limit=10", now), []string{"zipkin-front", "get /api"}},
		{s.URL + "/zipkin/traces/112233445566778899aabbccddeeff00", []string{"zipkin-back", "get /api", "local"}},
		{s.URL + fmt.Sprintf("/zipkin/dependency?startTime=%d&endTime=%d", now-60_000, now+60_000), []string{"Dependencies"}},
	})
	out.checkRequests(t, "/zipkin/api/", "/zipkin/config.json")
}
