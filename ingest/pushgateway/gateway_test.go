package pushgateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a gateway over a whole pipeline.
type rig struct {
	*Gateway
	*recorder
	pipeline *doortest.Pipeline
	reg      *prometheus.Registry
}

// recorder keeps what the store gets.
type recorder struct {
	mu     sync.Mutex
	lines  []string
	result func(b *signal.Metrics) (signal.AppendResult, error) // nil takes everything
}

func (r *recorder) append(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.result != nil {
		return r.result(b)
	}
	r.lines = append(r.lines, ingesttest.Lines(b)...)
	return signal.AppendResult{Appended: b.Samples(), Histograms: len(b.Histograms), Exemplars: len(b.Exemplars)}, nil
}

var (
	stamp    = regexp.MustCompile(`^(?:default )?(.*}) \d{12,} `)
	pushTime = regexp.MustCompile(`(push_(?:failure_)?time_seconds".*}) [1-9].*`)
)

// take returns the samples since the last call, sorted: without the default
// tenant and timestamps, T in place of the times of pushes.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.lines
	r.lines = nil
	for i := range out {
		out[i] = pushTime.ReplaceAllString(stamp.ReplaceAllString(out[i], "$1 "), "$1 T")
		out[i] = strings.ReplaceAll(out[i], "NaN:7ff0000000000002", "stale")
	}
	slices.Sort(out)
	return out
}

// takeBut is take without the two series that every group has.
func (r *recorder) takeBut() []string {
	return slices.DeleteFunc(r.take(), func(l string) bool { return strings.Contains(l, `"push_`) })
}

func open(t testing.TB, p *doortest.Pipeline, fsys vfs.FS, change func(*Config)) (*rig, error) {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	e, err := p.Door.Entry("pushgateway", door.EntryConfig{})
	require.NoError(t, err)
	r := &rig{pipeline: p, reg: prometheus.NewRegistry(), recorder: &recorder{}}
	r.Gateway, err = Open(Options{
		Config: cfg, Entry: e, FS: fsys, Dir: "push", Build: map[string]string{"version": "test"},
		Logger: slog.New(slog.DiscardHandler), Registerer: r.reg,
	})
	return r, err
}

// newRig opens a gateway over a pipeline of its own.
func newRig(t testing.TB, fsys vfs.FS, change func(*Config)) *rig {
	t.Helper()
	rec := &recorder{}
	r, err := open(t, doortest.New(t, doortest.Options{Sink: &ingesttest.Sink{Append: rec.append}}), fsys, change)
	require.NoError(t, err)
	r.recorder = rec
	return r
}

func (r *rig) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w
}

func (r *rig) want(t testing.TB, code int, method, path, body string, headers ...string) string {
	t.Helper()
	w := r.do(method, path, body, headers...)
	require.Equal(t, code, w.Code, "%s %s: %s", method, path, w.Body)
	return w.Body.String()
}

// Real pushes of the client library.
func TestClientLibrary(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	srv := httptest.NewServer(r.Handler())
	defer srv.Close()
	defer srv.Client().CloseIdleConnections()
	done := prometheus.NewGauge(prometheus.GaugeOpts{Name: "backup_last_completion", Help: "Done."})
	size := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "backup_bytes", Buckets: []float64{1}, NativeHistogramBucketFactor: 2})
	runs := prometheus.NewCounter(prometheus.CounterOpts{Name: "backup_runs_total"})
	done.Set(7)
	size.Observe(2)
	runs.(prometheus.ExemplarAdder).AddWithExemplar(1, prometheus.Labels{"trace_id": "x"})

	text := expfmt.NewFormat(expfmt.TypeTextPlain)
	p := push.New(srv.URL, "db/backup").Client(srv.Client()).Grouping("path", "/var/tmp").Grouping("empty", "").Format(text).Collector(done).Collector(size)
	require.NoError(t, p.Push())
	const group = `job="db/backup", path="/var/tmp"}`
	require.Equal(t, []string{
		`{__name__="backup_bytes_bucket", ` + strings.Replace(group, "path", `le="+Inf", path`, 1) + ` 1`,
		`{__name__="backup_bytes_bucket", ` + strings.Replace(group, "path", `le="1.0", path`, 1) + ` 0`,
		`{__name__="backup_bytes_count", ` + group + ` 1`,
		`{__name__="backup_bytes_sum", ` + group + ` 2`,
		`{__name__="backup_last_completion", ` + group + ` 7`,
		`{__name__="push_failure_time_seconds", ` + group + ` 0`,
		`{__name__="push_time_seconds", ` + group + ` T`,
	}, r.take())

	// The default format, protobuf, brings native histograms and exemplars.
	p = push.New(srv.URL, "db/backup").Client(srv.Client()).Grouping("path", "/var/tmp").Grouping("empty", "").Collector(size).Collector(runs)
	require.NoError(t, p.Add())
	got := strings.Join(r.takeBut(), "\n")
	require.Contains(t, got, `{__name__="backup_bytes", `+group+` {count:1, sum:2, (1,2]:1} start=`)
	require.Contains(t, got, `{__name__="backup_bytes_bucket", job="db/backup", le="1.0", path="/var/tmp"} stale`)
	require.Contains(t, got, `{__name__="backup_runs_total", `+group+` 1 start=`)
	require.Contains(t, got, `# {trace_id="x"} 1`)
	require.NotContains(t, got, "backup_last_completion")

	require.NoError(t, p.Delete())
	require.Equal(t, []string{
		`{__name__="backup_bytes", ` + group + ` stale`,
		`{__name__="backup_last_completion", ` + group + ` stale`,
		`{__name__="backup_runs_total", ` + group + ` stale`,
		`{__name__="push_failure_time_seconds", ` + group + ` stale`,
		`{__name__="push_time_seconds", ` + group + ` stale`,
	}, r.take())
	require.NoError(t, testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP vedette_ingest_pushgateway_requests_total Requests that change groups, by method (push, add, delete, wipe) and outcome (accepted, malformed, inconsistent, limit, refused, error).
# TYPE vedette_ingest_pushgateway_requests_total counter
vedette_ingest_pushgateway_requests_total{method="add",outcome="accepted"} 1
vedette_ingest_pushgateway_requests_total{method="delete",outcome="accepted"} 1
vedette_ingest_pushgateway_requests_total{method="push",outcome="accepted"} 1
# HELP vedette_ingest_pushgateway_groups Groups of pushed metrics.
# TYPE vedette_ingest_pushgateway_groups gauge
vedette_ingest_pushgateway_groups 0
# HELP vedette_ingest_pushgateway_series Series of all groups of pushed metrics.
# TYPE vedette_ingest_pushgateway_series gauge
vedette_ingest_pushgateway_series 0
`), "vedette_ingest_pushgateway_requests_total", "vedette_ingest_pushgateway_groups", "vedette_ingest_pushgateway_series"))
}

// PUT replaces a group, POST the families that it names, and what is gone ends
// at once.
func TestReplaceAndAdd(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	r.want(t, 200, "PUT", "/metrics/job/x", "a 1\nb{i=\"1\"} 1\nb{i=\"2\"} 1\n")
	r.take()
	r.want(t, 200, "POST", "/metrics/job/x", "b{i=\"2\"} 2\nc 2\n")
	require.Equal(t, []string{`{__name__="b", i="1", job="x"} stale`, `{__name__="b", i="2", job="x"} 2`, `{__name__="c", job="x"} 2`}, r.takeBut())
	r.want(t, 200, "PUT", "/metrics/job/x", "c 3\n")
	require.Equal(t, []string{`{__name__="a", job="x"} stale`, `{__name__="b", i="2", job="x"} stale`, `{__name__="c", job="x"} 3`}, r.takeBut())
	// An empty POST touches the time, an empty PUT empties the group.
	r.want(t, 200, "POST", "/metrics/job/x", "")
	require.Equal(t, []string{`{__name__="push_failure_time_seconds", job="x"} 0`, `{__name__="push_time_seconds", job="x"} T`}, r.take())
	r.want(t, 200, "PUT", "/metrics/job/x", "")
	require.Equal(t, []string{`{__name__="c", job="x"} stale`}, r.takeBut())
	require.Contains(t, r.want(t, 200, "GET", "/metrics", ""), `push_time_seconds{instance="",job="x"} 1`)
	// A series may go to another group once it is free.
	r.want(t, 200, "PUT", "/metrics/job/y/z/1", "c 3\n")
}

// Labels of the group win over those of the body; so do the two metrics that
// every group has.
func TestGroupLabels(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	r.want(t, 200, "PUT", "/metrics/job/x/instance/i/job/ignored", "a{job=\"own\",instance=\"own\",k=\"v\"} 1\npush_time_seconds 5\npush_failure_time_seconds 5\n")
	require.Equal(t, []string{
		`{__name__="a", instance="i", job="x", k="v"} 1`,
		`{__name__="push_failure_time_seconds", instance="i", job="x"} 0`,
		`{__name__="push_time_seconds", instance="i", job="x"} T`,
	}, r.take())
	r.want(t, 200, "PUT", "/metrics/job/y", "a{instance=\"own\"} 1\n")
	require.Equal(t, []string{`{__name__="a", instance="own", job="y"} 1`}, r.takeBut())
}

// A refused push leaves the group as it was, but for the time of the failure.
func TestRefused(t *testing.T) {
	for _, tc := range []struct{ path, body, want string }{
		{"/metrics/job/x", "a 1 1700000000000\n", "pushed metrics must not have timestamps"},
		{"/metrics/job/x", "a 1\na 2\n", `series {__name__="a", job="x"} was collected before with the same name and label values`},
		{"/metrics/job/x", "a{__b=\"c\"} 1\n", `metric "a" has a label with an invalid name: __b`},
		{"/metrics/job/x", "# TYPE other counter\nother 1\n", `metric "other" has type COUNTER but should have GAUGE, as in other groups`},
		{"/metrics/job/x", "h_count 1\n", `metric "h_count" collides with histogram "h"`},
		{"/metrics/job/x", "# TYPE base summary\nbase_sum 1\nbase_count 1\n", `summary "base" collides with metric "base_sum"`},
		{"/metrics/job/other", "taken{g=\"1\"} 1\n", `series {__name__="taken", g="1", job="other"} was collected before`},
		{"/metrics/job/other/instance@base64/=", "fresh 1\n", `_time_seconds", job="other"} was collected before`},
	} {
		t.Run(tc.want, func(t *testing.T) {
			r := newRig(t, vfs.NewMem(), nil)
			r.want(t, 200, "PUT", "/metrics/job/x", "own 1\n")
			r.want(t, 200, "PUT", "/metrics/job/other", "# TYPE other gauge\nother 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nbase_sum 1\n")
			r.want(t, 200, "PUT", "/metrics/job/other/g/1", "taken 1\n")
			r.take()
			before := r.shown(t)
			got := r.want(t, 400, "POST", tc.path, tc.body)
			require.Contains(t, got, "pushed metrics are invalid or inconsistent with existing metrics: ")
			require.Contains(t, got, tc.want)
			require.Empty(t, r.takeBut())
			require.Equal(t, before, r.shown(t))
			if strings.Contains(tc.path, "base64") {
				return
			}
			require.Contains(t, r.want(t, 200, "GET", "/api/v1/metrics", ""), `"last_push_successful":false`)
			r.want(t, 200, "POST", tc.path, "")
			require.NotContains(t, r.want(t, 200, "GET", "/api/v1/metrics", ""), `"last_push_successful":false`)
		})
	}
	// A type may change where no other group has the name.
	r := newRig(t, vfs.NewMem(), nil)
	r.want(t, 200, "PUT", "/metrics/job/x", "# TYPE a gauge\na 1\n")
	r.want(t, 200, "POST", "/metrics/job/x", "# TYPE a counter\na 1\n")
	r.want(t, 400, "PUT", "/metrics/job/y", "# TYPE a gauge\na 1\n")
	r.want(t, 202, "DELETE", "/metrics/job/x", "")
	r.want(t, 200, "PUT", "/metrics/job/y", "# TYPE a gauge\na 1\n")
	// Without the check the types may differ, but no series is pushed twice.
	r = newRig(t, vfs.NewMem(), func(c *Config) { c.DisableConsistencyCheck = true })
	r.want(t, 202, "PUT", "/metrics/job/x", "# TYPE a gauge\na 1\n")
	r.want(t, 202, "PUT", "/metrics/job/y", "# TYPE a counter\na 1\n")
	require.Contains(t, r.want(t, 500, "GET", "/metrics", ""), `metric "a" has type GAUGE in one group and COUNTER in another`)
	r.want(t, 202, "PUT", "/metrics/job/x/z/1", "b 1\n")
	r.want(t, 400, "POST", "/metrics/job/x", "b{z=\"1\"} 1\n")
}

// shown lists the series that /metrics shows, without their values.
func (r *rig) shown(t testing.TB) (out []string) {
	t.Helper()
	for line := range strings.Lines(r.want(t, 200, "GET", "/metrics", "")) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	return out
}

func protobuf(t testing.TB, families ...*dto.MetricFamily) string {
	t.Helper()
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, f := range families {
		require.NoError(t, enc.Encode(f))
	}
	return b.String()
}

func TestEncodings(t *testing.T) {
	r := newRig(t, vfs.NewMem(), func(c *Config) { c.MaxPushBytes = 1 << 10; c.MaxSeriesPerGroup = 10 })
	packed := func(w interface {
		Write([]byte) (int, error)
		Close() error
	}, b *bytes.Buffer, text string) string {
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.String()
	}
	zip := func(text string) string {
		var b bytes.Buffer
		return packed(gzip.NewWriter(&b), &b, text)
	}
	snap := func(text string) string {
		var b bytes.Buffer
		return packed(snappy.NewBufferedWriter(&b), &b, text)
	}
	const proto3 = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	f := &dto.MetricFamily{Name: proto.String("m"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}}}
	many := &dto.MetricFamily{Name: proto.String("m"), Type: dto.MetricType_GAUGE.Enum()}
	for range 11 {
		many.Metric = append(many.Metric, f.Metric[0])
	}
	for _, tc := range []struct {
		name, body, encoding, typ string
		code                      int
		want                      string
	}{
		{"plain", "m 1\n", "", "", 200, ""},
		{"any type is text", "m 1\n", "identity", "image/png", 200, ""},
		{"openmetrics without what text lacks", "# TYPE m unknown\nm 1\n# EOF\n", "", "application/openmetrics-text; version=1.0.0", 400, `unknown metric type "unknown"`},
		{"openmetrics gauge", "# TYPE m gauge\nm 1\n# EOF\n", "", "application/openmetrics-text; version=1.0.0", 200, ""},
		{"gzip", zip("m 1\n"), "GZip", "", 200, ""},
		{"snappy", snap("m 1\n"), "snappy", "", 200, ""},
		{"protobuf", protobuf(t, f), "", proto3, 200, ""},
		{"protobuf in gzip", zip(protobuf(t, f)), "gzip", proto3, 200, ""},
		{"protobuf without its parameters is text", protobuf(t, f), "", "application/vnd.google.protobuf", 400, "text format parsing error"},
		{"no line end", "m 1", "", "", 400, "unexpected end of input stream"},
		{"no value", "m\n", "", "", 400, "text format parsing error in line 1"},
		{"utf8 name", "{\"m.n\"} 1\n", "", "", 400, "text format parsing error in line 1"},
		{"no gzip", "m 1\n", "gzip", "", 400, "gzip body: "},
		{"no snappy", "m 1\n", "snappy", "", 400, "snappy body: "},
		{"unknown encoding", "m 1\n", "br", "", 415, `Content-Encoding: got "br", want gzip, snappy or identity`},
		{"too large", strings.Repeat("# c\n", 300), "", "", 413, "got 1200 bytes, want <= 1024"},
		{"bomb", zip(strings.Repeat("# c\n", 300)), "gzip", "", 413, "want <= 1024"},
		{"too many lines", strings.Repeat("m 1\n", 11), "", "", 400, "series of one group: got 11: want at most 10"},
		{"too many metrics", protobuf(t, many), "", proto3, 400, "series of one group: got 11: want at most 10"},
		{"protobuf cut short", protobuf(t, f)[:9], "", proto3, 400, "protobuf body: byte 0: unexpected EOF"},
		{"protobuf of nonsense", "\x02\xff\xff", "", proto3, 400, "protobuf body: message at byte 0: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Contains(t, r.want(t, tc.code, "PUT", "/metrics/job/x", tc.body, "Content-Encoding", tc.encoding, "Content-Type", tc.typ), tc.want)
			if tc.code == 200 {
				require.Equal(t, []string{`{__name__="m", job="x"} 1`}, r.takeBut())
			}
		})
	}
}

// Paths, methods, and what is answered, as the original does it.
func TestPaths(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	utf := newRig(t, vfs.NewMem(), func(c *Config) { c.UTF8Names = true })
	for _, tc := range []struct {
		rig          *rig
		method, path string
		code         int
		want         string // the answer, or the labels of the group
	}{
		{r, "PUT", "/metrics/job/x", 200, `job="x"`},
		{r, "PUT", "/metrics/job/x/", 200, `job="x"`},
		{r, "POST", "/metrics/job/x/a/b", 200, `a="b", job="x"`},
		{r, "PUT", "/metrics/job/x/job/y", 200, `job="x"`},
		{r, "PUT", "/metrics/job/x/a/b/a/c", 200, `a="c", job="x"`},
		{r, "PUT", "/metrics/job@base64/eA", 200, `job="x"`},
		{r, "PUT", "/metrics/job@base64/eA==", 200, `job="x"`},
		{r, "PUT", "/metrics/job@base64/ZC9i/p@base64/L3Zhci90bXA", 200, `job="d/b", p="/var/tmp"`},
		{r, "PUT", "/metrics/job/titan/name@base64/zqDPgc6_zrzOt864zrXPjc-C", 200, `job="titan", name="Προμηθεύς"`},
		{r, "PUT", "/metrics/job/titan/name/%CE%A0%CF%81%CE%BF%CE%BC%CE%B7%CE%B8%CE%B5%CF%8D%CF%82", 200, `job="titan", name="Προμηθεύς"`},
		{r, "PUT", "/metrics/job/a%20b/U__c_2e_d/1", 200, `U__c_2e_d="1", job="a b"`},
		{utf, "PUT", "/metrics/job/x/U__foo_2e_bar/baz", 200, `foo.bar="baz", job="x"`},
		{utf, "PUT", "/metrics/job/x/U__foo_2e_bar@base64/YmF6", 200, `foo.bar="baz", job="x"`},
		{utf, "PUT", "/metrics/job/x/U__in_xxx_valid/1", 200, `U__in_xxx_valid="1", job="x"`},
		{utf, "PUT", "/metrics/job/x/U______name____/1", 400, "improper label name"},
		{r, "DELETE", "/metrics/job/nobody", 202, ""},
		{r, "PUT", "/metrics/job/x/a", 400, `odd number of components in label string "/a"`},
		{r, "PUT", "/metrics/job/x%2Fy", 400, `odd number of components in label string "/y"`},
		{r, "PUT", "/metrics/job@base64/=", 400, "job name is required"},
		{r, "DELETE", "/metrics/job@base64/=", 400, "job name is required"},
		{r, "PUT", "/metrics/job@base64/%2b", 400, `invalid base64 encoding in job name "+": illegal base64 data at input byte 0`},
		{r, "PUT", "/metrics/job/x/a@base64/+", 400, `invalid base64 encoding for label a="+": illegal base64 data at input byte 0`},
		{r, "PUT", "/metrics/job/x/__a/b", 400, `improper label name "__a"`},
		{r, "DELETE", "/metrics/job/x/__a/b", 400, `improper label name "__a"`},
		{r, "PUT", "/metrics/job/x/a-b/c", 400, `improper label name "a-b"`},
		{r, "PUT", "/metrics/job/%FF", 400, `improper value of label "job": "\xff" is not valid UTF-8`},
		{r, "PUT", "/metrics/job/x//y", 307, "/metrics/job/x/y"},
		{r, "PUT", "/metrics/job/", 404, ""},
		{r, "PUT", "/metrics/job", 404, ""},
		{r, "PUT", "/metrics/joob/x", 404, ""},
		{r, "PUT", "/metrics", 405, ""},
		{r, "GET", "/metrics/job/x", 405, "Method Not Allowed"},
		{r, "PATCH", "/metrics/job/x", 405, "Method Not Allowed"},
		{r, "OPTIONS", "/metrics/job/x", 200, ""},
		{r, "PUT", "/api/v1/admin/wipe", 404, ""},
		{r, "GET", "/-/ready", 200, "OK"},
		{r, "GET", "/-/healthy", 200, "OK"},
		{r, "GET", "/api/v1/status", 200, `"interval":"15s"`},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			w := tc.rig.do(tc.method, tc.path, "m 1\n")
			require.Equal(t, tc.code, w.Code, w.Body.String())
			if tc.code == 200 && strings.Contains(tc.path, "/metrics/") && tc.method != "OPTIONS" {
				require.Equal(t, 200, w.Code)
				require.Contains(t, strings.ReplaceAll(strings.Join(tc.rig.takeBut(), "\n"), `__name__="m", `, ""), "{"+tc.want+"} 1")
				require.Equal(t, 202, tc.rig.do("DELETE", tc.path, "").Code)
				tc.rig.take()
				return
			}
			require.Contains(t, w.Body.String()+w.Header().Get("Location"), tc.want)
		})
	}
}

// Groups are their tenant's alone, and so is a wipe.
func TestTenantsAndWipe(t *testing.T) {
	r := newRig(t, vfs.NewMem(), func(c *Config) { c.EnableAdminAPI = true })
	r.want(t, 200, "PUT", "/metrics/job/x", "# TYPE a gauge\na 1\n")
	r.want(t, 200, "PUT", "/metrics/job/x", "# TYPE a counter\na 1\n", tenant.Header, "team")
	r.want(t, 400, "PUT", "/metrics/job/x", "a 1\n", tenant.Header, "no/team")
	r.want(t, 405, "POST", "/api/v1/admin/wipe", "")
	r.take()
	r.want(t, 202, "PUT", "/api/v1/admin/wipe", "")
	require.Equal(t, []string{`{__name__="a", job="x"} stale`}, r.takeBut())
	require.Empty(t, r.want(t, 200, "GET", "/metrics", ""))
	require.Contains(t, r.want(t, 200, "GET", "/metrics", "", tenant.Header, "team"), `a{instance="",job="x"} 1`)
	require.Equal(t, `{"data":[],"status":"success"}`, r.want(t, 200, "GET", "/api/v1/metrics", ""))
	require.Contains(t, r.want(t, 200, "GET", "/api/v1/metrics", "", tenant.Header, "team"), `"labels":{"job":"x"},"last_push_successful":true`)
}

func TestQueryAPI(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	r.want(t, 200, "PUT", "/metrics/job/x", `# HELP s Sum.
# TYPE s summary
s{quantile="0.5"} 2
s_sum 3
s_count 4
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
# TYPE c counter
c{i="1"} 1.5e9
`)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "n", NativeHistogramBucketFactor: 2, NativeHistogramZeroThreshold: 0.5})
	for _, v := range []float64{-3, 0, 3, 3} {
		h.Observe(v)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(h)
	families, err := reg.Gather()
	require.NoError(t, err)
	r.want(t, 200, "POST", "/metrics/job/x", protobuf(t, families...), "Content-Type", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	var got struct {
		Data []map[string]struct {
			Type, Help string
			Metrics    []map[string]any
		}
	}
	text := strings.Replace(r.want(t, 200, "GET", "/api/v1/metrics", ""), `"last_push_successful":true,`, "", 1)
	text = strings.Replace(text, `"labels":{"job":"x"},`, "", 1)
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	labels := map[string]any{"instance": "", "job": "x"}
	require.Equal(t, "Sum.", got.Data[0]["s"].Help)
	require.Equal(t, []map[string]any{{"labels": labels, "count": "4", "sum": "3", "quantiles": map[string]any{"0.5": "2"}}}, got.Data[0]["s"].Metrics)
	require.Equal(t, []map[string]any{{"labels": labels, "count": "2", "sum": "3", "buckets": map[string]any{"1": "1", "+Inf": "2"}}}, got.Data[0]["h"].Metrics)
	require.Equal(t, []map[string]any{{"labels": map[string]any{"i": "1", "instance": "", "job": "x"}, "value": "1.5e+09"}}, got.Data[0]["c"].Metrics)
	require.Equal(t, "HISTOGRAM", got.Data[0]["n"].Type)
	require.Equal(t, []map[string]any{{"labels": labels, "count": "4", "sum": "3", "buckets": []any{
		[]any{1.0, "-4", "-2", "1"}, []any{3.0, "-0.5", "0.5", "1"}, []any{0.0, "2", "4", "2"},
	}}}, got.Data[0]["n"].Metrics)
}

func TestLimits(t *testing.T) {
	r := newRig(t, vfs.NewMem(), func(c *Config) { c.MaxGroups, c.MaxSeriesPerGroup, c.MaxSeries = 2, 4, 7 })
	r.want(t, 200, "PUT", "/metrics/job/a", "a 1\nb 1\n")
	require.Contains(t, r.want(t, 400, "POST", "/metrics/job/a", "c 1\n"), "series of one group: got 5: want at most 4")
	r.want(t, 200, "POST", "/metrics/job/b", "")
	require.Contains(t, r.want(t, 400, "PUT", "/metrics/job/b", "a 1\nb 1\n"), "series of all groups: want at most 7")
	r.want(t, 200, "PUT", "/metrics/job/b", "a 1\n")
	require.Contains(t, r.want(t, 400, "PUT", "/metrics/job/c", ""), "groups: want at most 2")
	r.want(t, 202, "DELETE", "/metrics/job/a", "")
	r.want(t, 200, "PUT", "/metrics/job/c", "a 1\nb 1\n"[:4])
}

// What the store refuses is refused, and what the door has no room for now is to
// be sent again; the group stays as it was.
func TestStoreRefuses(t *testing.T) {
	r := newRig(t, vfs.NewMem(), nil)
	r.want(t, 200, "PUT", "/metrics/job/x", "a 1\n")
	r.take()
	before := r.shown(t)
	r.locked(func() {
		r.result = func(b *signal.Metrics) (signal.AppendResult, error) {
			return signal.AppendResult{Appended: b.Samples() - 1, SeriesLimit: 1, FirstError: "too many series"}, nil
		}
	})
	require.Equal(t, "pushed metrics are refused by the store: too many series\n", r.want(t, 400, "PUT", "/metrics/job/x", "a 2\nb 1\n"))
	r.locked(func() { r.result = nil })
	require.Equal(t, before, r.shown(t))
	r.repeat(t.Context())
	require.Equal(t, []string{`{__name__="a", job="x"} 1`}, r.takeBut())

	r.pipeline.Door.Close()
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		w := r.do(method, "/metrics/job/x", "c 1\n")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	}
	require.Equal(t, before, r.shown(t))
}

// The sample limit of a tenant is answered with 429.
func TestRateLimit(t *testing.T) {
	p := doortest.New(t, doortest.Options{Config: func(c *door.Config) { c.Limits.SamplesPerSecond, c.Limits.SamplesBurst = 0.001, 1 }})
	r, err := open(t, p, vfs.NewMem(), nil)
	require.NoError(t, err)
	r.want(t, 200, "PUT", "/metrics/job/x", "a 1\n")
	w := r.do("PUT", "/metrics/job/x", "a 2\n")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Contains(t, r.want(t, 200, "GET", "/metrics", ""), `a{instance="",job="x"} 1`)
}

func (r *recorder) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{}.Validate()
	for _, key := range []string{"interval", "max_groups", "max_series", "max_series_per_group", "max_push_bytes"} {
		require.ErrorContains(t, err, key)
	}
	_, err = Open(Options{})
	require.Error(t, err)
}
