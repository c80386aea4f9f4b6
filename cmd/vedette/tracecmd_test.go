package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/query/tempo"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
	"github.com/vedette-io/vedette/storage/block"
)

// command runs vedette within the test.
func command(args ...string) (code int, out, errOut string) {
	var o, e strings.Builder
	code = run(args, &o, &e)
	return code, o.String(), e.String()
}

func TestTraceCommands(t *testing.T) {
	api := tempo.New(traceapi.New(traceapi.Options{Querier: apitest.NewStore("default", apitest.Shop()), Now: apitest.Now}))
	mux := apitest.Mux("/tempo", api.Routes())
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		mux.ServeHTTP(w, r)
	}))
	check := func(wantCode int, want string, args ...string) {
		t.Helper()
		args = append(args, "--url", server.URL)
		code, out, errOut := command(args...)
		if code != wantCode || !strings.Contains(out+errOut, want) {
			t.Errorf("vedette %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), code, wantCode, want, out, errOut)
		}
	}
	check(exitOK, "├╴cart · SELECT carts [client]", "trace", strings.ToUpper(apitest.ShopTraceID[1:]), "--utc")
	check(exitOK, "exception.message = no cart", "trace", apitest.ShopTraceID, "-ea", "--full", "--token", "secret")
	if authorization != "Bearer secret" {
		t.Errorf("asked with %q", authorization)
	}
	check(exitOK, "|-cart / SELECT", "trace", apitest.ShopTraceID, "--ascii", "--no-color")
	check(exitOK, `"inspectedBytes"`, "trace", apitest.ShopTraceID, "-o", "json")
	check(exitOK, `"traceId": "`+apitest.ShopTraceID, "trace", apitest.ShopTraceID, "-o", "otlp")
	check(exitFault, "trace not found: 00000000000000000000000000000abc at http", "trace", "ABC")
	check(exitFault, "trace not found", "trace", apitest.ShopTraceID, "--tenant", "other")
	check(exitFault, "is not a hexadecimal digit", "trace", "xyz")
	check(exitUsage, "--output", "trace", "abc", "-o", "xml")

	at := []string{"--start=2026-01-02T03:00:00Z", "--end=2026-01-02T03:05:00Z"}
	search := func(args ...string) []string { return append(append([]string{"search"}, args...), at...) }
	check(exitOK, "frontend…", search("--utc")...)
	check(exitOK, apitest.ShopTraceID+"\n", search("-o", "ids", "--service", "cart", "--operation", "Cart/Get", "--error", "--attr", "user.id=u-42", "--attr", "host.name=h2")...)
	check(exitOK, "no traces found", search("--min-duration", "1s", "--max-duration", "2s")...)
	check(exitOK, "query: { status = error } | { kind = server }\ninspected: 1 traces", search("{ kind = server }", "--error", "-v")...)
	check(exitOK, "0000000000000004  +30ms  30ms  SELECT carts", search("{ span.db.system.name != nil }", "--spans")...)
	check(exitOK, "{name=\"price\"}\nmin 0", search("{} | rate() by (name)")...)
	check(exitOK, "count_over_time", search("{} | count_over_time()", "--instant")...)
	check(exitOK, "no traces found", "search", "--range", "5m")
	check(exitFault, "\n  { name = }\n           ^", search("{ name = }")...)
	check(exitFault, "want key=value", search("--attr", "x")...)
	check(exitFault, "got both range and start", search("-r", "1h")...)

	server.Close()
	check(exitFault, "connection refused", "trace", "abc")
}

// sendSpans gives a server a trace of two spans.
func (p *process) sendSpans() {
	p.t.Helper()
	at := time.Now().UnixMicro()
	body := fmt.Sprintf(`[{"traceId":"e2e1","id":"1","name":"get /","kind":"SERVER","timestamp":%d,"duration":200000,"localEndpoint":{"serviceName":"shop"}},
		{"traceId":"e2e1","id":"2","parentId":"1","name":"select","kind":"CLIENT","timestamp":%d,"duration":90000,"localEndpoint":{"serviceName":"shop"},"tags":{"error":"timeout"}}]`, at, at+1000)
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+"/api/v2/spans", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		p.t.Fatalf("send spans: %s", resp.Status)
	}
}

// Commands on the data of a real server: what it holds is drawn, found, checked,
// mended, and copied into snapshots from which others start.
func TestE2ETraceCommands(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	config := filepath.Join(t.TempDir(), "vedette.yml")
	if err := os.WriteFile(config, []byte("scrape_configs: []\ncollect: {enabled: false}\ntracing: {sample_ratio: 0}\nquery_api: {enable_admin_api: true}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(wantCode int, want string, args ...string) string {
		t.Helper()
		code, out, errOut := command(args...)
		if code != wantCode || !strings.Contains(out+errOut, want) {
			t.Fatalf("vedette %s: exit code %d, want %d and %q\n%s%s", strings.Join(args, " "), code, wantCode, want, out, errOut)
		}
		return out
	}
	drawn := func(p *process) {
		t.Helper()
		check(exitOK, "└╴✗ shop · select [client]", "trace", "E2E1", "--url", p.url)
	}
	p := start(t, data, "--config", config)
	p.write(testSeries("e2e_a", time.Now().UnixMilli(), 1))
	p.sendSpans()
	drawn(p)
	check(exitOK, "0000000000000000000000000000e2e1", "search", "--error", "-o", "ids", "--url", p.url)
	check(exitFault, "a server uses this store, stop it first", "store", "verify", "--data", data, "--only", "traces")
	name := check(exitOK, "snapshot written to snapshots/", "store", "snapshot", "--url", p.url)
	name = strings.Fields(name)[3]
	p.stop()

	copied := filepath.Join(t.TempDir(), "copy")
	check(exitOK, "snapshot written", "store", "snapshot", "--data", data, "--to", copied)
	check(exitFault, "exists", "store", "snapshot", "--data", data, "--to", copied)
	for _, dir := range []string{filepath.Join(data, name), copied} {
		check(exitOK, "traces: 1 blocks, 2 spans, 0 problems\n", "store", "verify", "--data", dir)
		p = start(t, dir, "--config", config)
		drawn(p)
		if len(p.queryMatrix("e2e_a[10m]")) != 1 {
			t.Errorf("%s: the sample is not there", dir)
		}
		p.stop()
	}

	if out := check(exitOK, "samples, 0 problems\n", "store", "verify", "--data", data, "--only", "metrics"); strings.Contains(out, "traces:") {
		t.Errorf("verify of metrics alone: %s", out)
	}
	if out := check(exitOK, `server "get /"`, "store", "dump", "--data", data, "--services", "--spans", "--only", "traces"); strings.Contains(out, "samples") {
		t.Errorf("dump of traces alone: %s", out)
	}
	damage(t, filepath.Join(data, traceStoreDir))
	out := check(exitFault, "traces: ", "store", "verify", "--data", data)
	if !strings.Contains(out, "samples, 0 problems\n") || strings.Contains(out, "spans, 0 problems") {
		t.Errorf("verify of damaged traces: %s", out)
	}
	check(exitOK, "traces: 1 blocks read, 1 rewritten, 2 spans lost in them\n", "store", "repair", "--data", data)
	check(exitOK, "traces: 1 blocks, 0 spans, 0 problems\n", "store", "verify", "--data", data)
	check(exitFault, "find store of traces: ", "store", "verify", "--data", t.TempDir(), "--only", "traces")
}

// damage flips a byte in the rows of the only block of traces below dir.
func damage(t *testing.T, dir string) {
	t.Helper()
	blocks, err := filepath.Glob(filepath.Join(dir, "default", "b-*"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks: got %q, %v, want one", blocks, err)
	}
	r, err := block.Open(vfs.OS, blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	off, size, ok := r.Locate("rows", 0)
	if err := r.Close(); err != nil || !ok {
		t.Fatalf("find the rows of %s: %v, %v", blocks[0], ok, err)
	}
	name := filepath.Join(blocks[0], "columns")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[off+size/2] ^= 0xff
	if err := os.Remove(name); err != nil { // a snapshot has a link to it
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
