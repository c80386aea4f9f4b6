package api_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/api"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/promql/promqlsuite"
	"github.com/vedette-io/vedette/storage/metric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a server over a real store.
type fixture struct {
	*testing.T
	db       *metric.DB
	engine   *promql.Engine
	registry *prometheus.Registry
	url      string
	dir      string
	now      time.Time // of the newest sample
}

func newFixture(t *testing.T, change func(*api.Options, *promql.Config)) *fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := metric.Open(metric.Options{Dir: filepath.Join(dir, "data"), Config: metric.DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	cfg := promql.DefaultConfig()
	opts := api.Options{
		Config:      api.DefaultConfig(),
		Catalog:     db,
		Admin:       db,
		Registerer:  registry,
		Gatherer:    registry,
		SnapshotDir: filepath.Join(dir, "snapshots"),
		Build:       v1.PrometheusVersion{Version: "1.2.3", GoVersion: "go0"},
		Flags:       map[string]string{"listen": "127.0.0.1:9190"},
		ConfigYAML:  func() string { return "listen: 127.0.0.1:9190\n" },
		Retention:   "15d",
	}
	if change != nil {
		change(&opts, &cfg)
	}
	engine, err := promql.OpenEngine(cfg, promql.Options{Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	opts.Engine = engine
	if opts.Queryable == nil {
		opts.Queryable = promql.NewQueryable(promql.NewStore[*metric.SeriesSet](db), cfg.MaxBytes)
	}
	a, err := api.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(a.Handler())
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{T: t, db: db, engine: engine, registry: registry, url: server.URL, dir: dir, now: time.Now().Truncate(time.Second)}
}

// write appends one sample of each series, age before now.
func (f *fixture) write(id string, age time.Duration, value float64, series ...labels.Labels) {
	f.Helper()
	f.append(id, func(app storage.AppenderV2) error {
		for _, ls := range series {
			if _, err := app.Append(0, ls, 0, f.now.Add(-age).UnixMilli(), value, nil, nil, storage.AppendV2Options{}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *fixture) append(id string, fill func(storage.AppenderV2) error) {
	f.Helper()
	s := promqlsuite.NewStorage(promqlsuite.Backend{Store: promql.NewStore[*metric.SeriesSet](f.db), Sink: f.db})
	app := s.AppenderV2(tenant.NewContext(f.Context(), id))
	if err := fill(app); err != nil {
		f.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		f.Fatal(err)
	}
}

func series(name string, pairs ...string) labels.Labels {
	return labels.FromStrings(append([]string{"__name__", name}, pairs...)...)
}

// do sends a request and returns status and body.
func (f *fixture) do(method, path string, header ...string) (*http.Response, string) {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), method, f.url+path, nil)
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.Fatal(err)
	}
	return res, string(b)
}

func (f *fixture) check(path string, wantCode int, want ...string) {
	f.Helper()
	res, body := f.do(http.MethodGet, path)
	if res.StatusCode != wantCode {
		f.Errorf("GET %s: status %d, want %d: %s", path, res.StatusCode, wantCode, body)
		return
	}
	for _, w := range want {
		if !strings.Contains(body, w) {
			f.Errorf("GET %s: got %s, want it to contain %s", path, body, w)
		}
	}
}

func TestEndpoints(t *testing.T) {
	f := newFixture(t, nil)
	f.write(tenant.Default, time.Minute, 3, series("up", "job", "a"), series("up", "job", "b"), series("größe.x", "job", "a"))
	f.write(tenant.Default, 0, 4, series("up", "job", "a"))
	f.append(tenant.Default, func(app storage.AppenderV2) error {
		_, err := app.Append(0, series("with_exemplar"), 0, f.now.UnixMilli(), 1, nil, nil, storage.AppendV2Options{
			Exemplars: []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", "abc"), Value: 7, Ts: f.now.UnixMilli(), HasTs: true}},
		})
		return err
	})
	if _, err := f.db.AppendMetrics(t.Context(), &signal.Metrics{Tenant: tenant.Default, Metadata: []signal.Metadata{
		{Family: "up", Type: "gauge", Help: "Is it up?"}, {Family: "zz", Type: "counter"},
	}}, "test", "metadata", 0, 0); err != nil {
		t.Fatal(err)
	}
	now := fmt.Sprint(f.now.Unix())
	q := url.QueryEscape
	for _, c := range []struct {
		path string
		code int
		want []string
	}{
		{"/query?query=up&time=" + now, 200, []string{`"resultType":"vector"`, `"job":"a"`, `"4"`, `"3"`}},
		{"/query?query=up&limit=1&time=" + now, 200, []string{`"warnings":["results truncated due to limit"]`}},
		{"/query?query=sum(up)&stats=all&time=" + now, 200, []string{`"stats":`, `"totalQueryableSamplesPerStep"`, `"execQueueTime"`}},
		{"/query?query=rate(up[5m])&time=" + now, 200, []string{`"infos":[`, "might not be a counter"}},
		{"/query?query=up[5m]&time=" + now, 200, []string{`"resultType":"matrix"`}},
		{"/query?query=" + q(`{"größe.x"}`) + "&time=" + now, 200, []string{"größe.x"}},
		{"/query?query=up(&time=" + now, 400, []string{`"errorType":"bad_data"`, "parse error"}},
		{"/query?query=up&timeout=0.000000001", 503, []string{`"errorType":"timeout"`}},
		{"/query_range?query=up&step=30&start=" + fmt.Sprint(f.now.Unix()-300) + "&end=" + now, 200, []string{`"resultType":"matrix"`}},
		{"/query_range?query=up&step=0&start=0&end=1", 400, []string{"zero or negative"}},
		{"/query_range?query=up&step=1&start=0&end=20000", 400, []string{"11,000 points"}},
		{"/query_exemplars?query=with_exemplar&start=0&end=" + now, 200, []string{`"trace_id":"abc"`, `"seriesLabels"`}},
		{"/series?match[]=up", 200, []string{`"job":"a"`, `"job":"b"`}},
		{"/series?match[]=up&limit=1", 200, []string{`results truncated due to limit`}},
		{"/series?match[]=up&start=0&end=1000", 200, []string{`"data":[]`}},
		{"/series", 400, []string{"no match[] parameter"}},
		{"/series?match[]={}", 400, []string{"non-empty matcher"}},
		{"/labels", 200, []string{`"__name__"`, `"job"`}},
		{"/labels?match[]=with_exemplar", 200, []string{`"data":["__name__"]`}},
		{"/label/job/values", 200, []string{`"data":["a","b"]`}},
		{"/label/job/values?limit=1", 200, []string{`"data":["a"]`, "truncated"}},
		{"/label/job/values?match[]=" + q(`{"größe.x"}`), 200, []string{`"data":["a"]`}},
		{"/label/__name__/values", 200, []string{"größe.x"}},
		{"/metadata", 200, []string{`"up":[{"type":"gauge","unit":"","help":"Is it up?"}]`, `"zz"`}},
		{"/metadata?metric=zz", 200, []string{`{"zz":[{"type":"counter"`}},
		{"/metadata?limit=1", 200, []string{`"data":{"up":[`}},
		{"/metadata?limit=x", 400, []string{"limit must be a number"}},
		{"/targets", 200, []string{`"activeTargets":[]`, `"droppedTargets":[]`}},
		{"/targets/metadata", 200, []string{`"status":"success"`}},
		{"/scrape_pools", 200, []string{`"scrapePools":[]`}},
		{"/alertmanagers", 200, []string{`"activeAlertmanagers":[]`}},
		{"/format_query?query=" + q("sum(up)by(job)"), 200, []string{`sum by (job) (up)`}},
		{"/parse_query?query=up", 200, []string{`"type":"vectorSelector"`}},
		{"/rules", 200, []string{`"groups":[]`}},
		{"/alerts", 200, []string{`"alerts":[]`}},
		{"/status/config", 200, []string{`"yaml":"listen: 127.0.0.1:9190\n"`}},
		{"/status/flags", 200, []string{`"listen":"127.0.0.1:9190"`}},
		{"/status/runtimeinfo", 200, []string{`"storageRetention":"15d"`, `"reloadConfigSuccess":true`}},
		{"/status/buildinfo", 200, []string{`"version":"1.2.3"`}},
		{"/status/tsdb", 200, []string{`"numSeries":4`, `{"name":"up","value":2}`, `{"name":"job=a","value":2}`}},
		{"/status/tsdb?limit=0", 400, []string{"positive"}},
		{"/status/tsdb/blocks", 200, []string{`"blocks":[]`}},
		{"/status/walreplay", 200, []string{`"current":0`}},
		{"/features", 200, []string{`"promql"`}},
		{"/write", 405, nil},
		{"/nothing", 404, nil},
	} {
		f.check("/api/v1"+c.path, c.code, c.want...)
	}
	// Forms are taken from bodies, too.
	res, err := http.PostForm(f.url+"/api/v1/query", url.Values{"query": {"up"}, "time": {now}})
	if err != nil || res.StatusCode != 200 {
		t.Errorf("POST /query: %v, %v", res, err)
	}
	res.Body.Close()
	if n, err := testutil.GatherAndCount(f.registry, "vedette_query_http_request_duration_seconds"); err != nil || n == 0 {
		t.Errorf("request metric: %d series, %v", n, err)
	}
}

func TestTenants(t *testing.T) {
	f := newFixture(t, nil)
	f.write("team-x", 0, 1, series("up"))
	now := fmt.Sprint(f.now.Unix())
	for _, path := range []string{"/query?query=up&time=" + now, "/series?match[]=up", "/label/__name__/values", "/labels", "/status/tsdb"} {
		path = "/api/v1" + path
		_, x := f.do("GET", path, tenant.Header, "team-x")
		_, other := f.do("GET", path, tenant.Header, "team-y")
		if !strings.Contains(x, "__name__") && !strings.Contains(x, "up") {
			t.Errorf("GET %s of its tenant: %s", path, x)
		}
		if strings.Contains(other, "__name__") || strings.Contains(other, `"up"`) {
			t.Errorf("GET %s of another tenant: %s", path, other)
		}
	}
	if _, body := f.do("GET", "/federate?match[]=up", tenant.Header, "team-y"); body != "" {
		t.Errorf("federation of another tenant: %s", body)
	}
	res, body := f.do("GET", "/api/v1/query?query=up", tenant.Header, "a/../b")
	if res.StatusCode != 400 || !strings.Contains(body, `"bad_data"`) {
		t.Errorf("bad tenant: %d %s, want 400", res.StatusCode, body)
	}
}

func TestQueueAndLimits(t *testing.T) {
	f := newFixture(t, func(_ *api.Options, c *promql.Config) { c.MaxConcurrent, c.MaxQueued, c.MaxBytes = 1, 0, 100 })
	f.write(tenant.Default, 0, 1, series("up", "job", strings.Repeat("x", 200)))
	f.check("/api/v1/query?query=up", 422, `"errorType":"execution"`, "query.max_bytes")
	f.check("/api/v1/series?match[]=up", 422, "query.max_bytes")
	f.check("/federate?match[]=up", 422, "query.max_bytes")
	_, done, err := f.engine.Admit(t.Context(), "hold the only place")
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for _, path := range []string{"/api/v1/query?query=1", "/api/v1/query_range?query=1&start=0&end=1&step=1", "/api/v1/series?match[]=up", "/api/v1/labels", "/federate?match[]=up"} {
		res, body := f.do("GET", path)
		if res.StatusCode != 429 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, "query.max_queued") {
			t.Errorf("GET %s over the bound: %d, Retry-After %q: %s", path, res.StatusCode, res.Header.Get("Retry-After"), body)
		}
	}
	f.check("/api/v1/status/buildinfo", 200) // needs no turn
}

func TestEncodingsAndOrigins(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/api/v1/query?query=1", "/api/v1/status/config"} {
		res, body := f.do("GET", path, "Accept-Encoding", "gzip", "Origin", "http://elsewhere")
		if res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("GET %s: headers %v", path, res.Header)
		}
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Status string }
		if err := json.NewDecoder(z).Decode(&answer); err != nil || answer.Status != "success" {
			t.Errorf("GET %s: %+v, %v", path, answer, err)
		}
	}
	if res, _ := f.do("OPTIONS", "/api/v1/query", "Origin", "http://elsewhere"); res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Methods") == "" {
		t.Errorf("OPTIONS: %d %v", res.StatusCode, res.Header)
	}
	f = newFixture(t, func(o *api.Options, _ *promql.Config) { o.Config.CORSOrigin = "https://good" })
	if res, _ := f.do("GET", "/api/v1/query?query=1", "Origin", "http://elsewhere"); res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("another origin is allowed")
	}
}

func TestAdmin(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"delete_series?match[]=up", "clean_tombstones", "snapshot"} {
		if res, body := f.do("POST", "/api/v1/admin/tsdb/"+path); res.StatusCode < 500 || !strings.Contains(body, "admin APIs disabled") {
			t.Errorf("%s without enable_admin_api: %d %s", path, res.StatusCode, body)
		}
	}
	f = newFixture(t, func(o *api.Options, _ *promql.Config) { o.Config.EnableAdminAPI = true })
	f.write(tenant.Default, 0, 1, series("gone"), series("stays"))
	f.write("other", 0, 1, series("gone"))
	if res, body := f.do("POST", "/api/v1/admin/tsdb/delete_series?match[]=gone"); res.StatusCode != 204 {
		t.Fatalf("delete: %d %s", res.StatusCode, body)
	}
	now := fmt.Sprint(f.now.Unix())
	f.check("/api/v1/query?query=gone&time="+now, 200, `"result":[]`)
	f.check("/api/v1/query?query=stays&time="+now, 200, `"stays"`)
	if _, body := f.do("GET", "/api/v1/query?query=gone&time="+now, tenant.Header, "other"); !strings.Contains(body, `"gone"`) {
		t.Errorf("another tenant's series after a delete: %s", body)
	}
	if res, body := f.do("POST", "/api/v1/admin/tsdb/clean_tombstones"); res.StatusCode != 204 {
		t.Errorf("clean tombstones: %d %s", res.StatusCode, body)
	}
	if res, _ := f.do("POST", "/api/v1/admin/tsdb/snapshot?skip_head=true"); res.StatusCode != 400 {
		t.Errorf("snapshot without heads: %d, want 400", res.StatusCode)
	}
	res, body := f.do("POST", "/api/v1/admin/tsdb/snapshot")
	var answer struct{ Data struct{ Name string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || res.StatusCode != 200 {
		t.Fatalf("snapshot: %d %s", res.StatusCode, body)
	}
	copied, err := metric.Open(metric.Options{Dir: filepath.Join(f.dir, "snapshots", answer.Data.Name), Config: metric.DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	names, err := copied.LabelValues(t.Context(), "__name__", metric.Selector{Tenant: tenant.Default, MinTime: 0, MaxTime: 1 << 60})
	if err != nil || !strings.Contains(strings.Join(names, " "), "stays") {
		t.Errorf("series in the snapshot: %v, %v", names, err)
	}
}

// stuckStore answers a Select when its context ends, and no sooner.
type stuckStore struct {
	promql.Store
	entered, left chan struct{}
}

func (s stuckStore) Select(ctx context.Context, _ metric.Selector) (promql.SeriesSet, error) {
	s.entered <- struct{}{}
	<-ctx.Done()
	s.left <- struct{}{}
	return nil, ctx.Err()
}

func TestWorkEndsWithItsClient(t *testing.T) {
	store := stuckStore{entered: make(chan struct{}), left: make(chan struct{})}
	f := newFixture(t, func(o *api.Options, _ *promql.Config) { o.Queryable = promql.NewQueryable(store, 0) })
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=0&end=1&step=1", "/api/v1/series?match[]=up", "/federate?match[]=up"} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			res, err := http.DefaultClient.Do(r)
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
		<-store.entered
		cancel()
		<-store.left
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("GET %s: %v, want canceled", path, err)
		}
	}
	// A read that takes too long ends by itself.
	f = newFixture(t, func(o *api.Options, c *promql.Config) {
		o.Queryable, c.Timeout = promql.NewQueryable(store, 0), time.Millisecond
	})
	for _, path := range []string{"/api/v1/query?query=up", "/api/v1/series?match[]=up", "/federate?match[]=up"} {
		answered := make(chan struct{})
		var asked sync.WaitGroup
		asked.Go(func() {
			select {
			case <-store.entered:
				<-store.left
			case <-answered: // its time was over before it came to the store
			}
		})
		f.check(path, 503)
		close(answered)
		asked.Wait()
	}
}

func TestNotReady(t *testing.T) {
	ready := false
	f := newFixture(t, func(o *api.Options, _ *promql.Config) { o.Ready = func() bool { return ready } })
	for _, path := range []string{"/api/v1/query?query=1", "/api/v1/metadata", "/federate?match[]=up"} {
		if res, _ := f.do("GET", path); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
			t.Errorf("GET %s before the store is ready: %d, want 503", path, res.StatusCode)
		}
	}
	ready = true
	f.check("/api/v1/query?query=1", 200)
}

func TestFederate(t *testing.T) {
	f := newFixture(t, func(o *api.Options, _ *promql.Config) {
		o.Config.ExternalLabels = map[string]string{"region": "eu", "zone": "z"}
	})
	f.write(tenant.Default, 30*time.Second, 1, series("b_metric", "instance", "i", "zone", "own"), series("a_metric"))
	f.write(tenant.Default, 10*time.Second, 2.5, series("a_metric"))
	f.write(tenant.Default, 10*time.Minute, 1, series("old_metric"))
	f.append(tenant.Default, func(app storage.AppenderV2) error {
		at := f.now.Add(-10 * time.Second).UnixMilli()
		for _, s := range []struct {
			name string
			h    *histogram.Histogram
		}{{"custom", tsdbutil.GenerateTestCustomBucketsHistogram(1)}, {"native", tsdbutil.GenerateTestHistogram(1)}, {"gauge", tsdbutil.GenerateTestGaugeHistogram(1)}} {
			if _, err := app.Append(0, series(s.name), 0, at, 0, s.h, nil, storage.AppendV2Options{}); err != nil {
				return err
			}
		}
		return nil
	})
	at := f.now.Add(-10 * time.Second).UnixMilli()
	_, body := f.do("GET", "/federate?match[]=a_metric&match[]=b_metric&match[]=old_metric&match[]={__name__=~\"a.*\"}")
	want := fmt.Sprintf(`# TYPE a_metric untyped
a_metric{instance="",region="eu",zone="z"} 2.5 %d
# TYPE b_metric untyped
b_metric{instance="i",zone="own",region="eu"} 1 %d
`, at, f.now.Add(-30*time.Second).UnixMilli())
	if body != want {
		t.Errorf("federation:\n%s\nwant\n%s", body, want)
	}
	all := "/federate?match[]=" + url.QueryEscape(`{__name__=~"custom|native|gauge"}`)
	if _, body := f.do("GET", all); !strings.Contains(body, "# TYPE custom histogram") || !strings.Contains(body, `le="+Inf"`) || strings.Contains(body, "native") {
		t.Errorf("histograms as text: %s", body)
	}
	res, body := f.do("GET", all, "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text")
	if !strings.Contains(res.Header.Get("Content-Type"), "encoding=text") || !strings.Contains(body, "GAUGE_HISTOGRAM") ||
		!strings.Contains(body, "positive_span") || !strings.Contains(body, "sample_count_float") {
		t.Errorf("histograms as protobuf text: %v %s", res.Header, body)
	}
	if res, _ := f.do("GET", "/federate?match[]=a("); res.StatusCode != 400 {
		t.Errorf("federation of a bad selector: %d, want 400", res.StatusCode)
	}
}

func TestConfigNamesEveryBadKey(t *testing.T) {
	if err := api.DefaultConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := api.Config{CORSOrigin: "(", ExternalLabels: map[string]string{"": "x"}}.Validate()
	for _, key := range []string{"cors_origin", "external_labels", "remote_read_max_samples", "remote_read_max_frame_bytes"} {
		if err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("error %v does not name %s", err, key)
		}
	}
}
