package scrape

import (
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	text     = "text/plain; version=0.0.4; charset=utf-8"
	openText = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// feature is one job against one page, and what it must store: the series
// without job and instance, and without the time where that is the scrape's.
type feature struct {
	name string // of the job
	job  string // configuration besides, in YAML

	contentType, body string
	serve             http.HandlerFunc // instead of a page

	want  []string
	down  bool // the scrape fails
	extra bool // the report series that the configuration adds are compared, too
}

// server serves the pages of features below /<job>.
func server(t *testing.T, features []feature) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for _, f := range features {
		serve := f.serve
		if serve == nil {
			serve = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{f.contentType}
				_, _ = io.WriteString(w, f.body)
			}
		}
		mux.HandleFunc("/"+f.name, serve)
	}
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// jobs writes the scrape configuration of features.
func jobs(features []feature, target string) string {
	var b strings.Builder
	b.WriteString("global: {scrape_interval: 400ms, scrape_timeout: 400ms}\nscrape_configs:\n")
	for _, f := range features {
		fmt.Fprintf(&b, "- job_name: %s\n  metrics_path: /%s\n  static_configs: [{targets: [%q]}]\n", f.name, f.name, target)
		for line := range strings.Lines(f.job) {
			b.WriteString("  " + line)
		}
		b.WriteString("\n")
	}
	return b.String()
}

var (
	lineParts = regexp.MustCompile(`^default (\{.*?\}) ((?:# \{.*\} \S+ )?)(\d+)(.*)$`)
	ownLabels = regexp.MustCompile(`(, )?\b(job|instance)="[^"]*"`)
	reports   = []string{"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"}
)

// facts returns what is stored of a job: every line once, without the labels of
// the target and without a time that is the scrape's.
func facts(sink *ingesttest.Sink, job string) map[string]bool {
	out := map[string]bool{}
	for _, line := range sink.Lines() {
		m := lineParts.FindStringSubmatch(line)
		if m == nil || !strings.Contains(m[1], ` job="`+job+`"`) {
			continue
		}
		lset := strings.Replace(ownLabels.ReplaceAllString(m[1], ""), "{, ", "{", 1)
		at := ""
		if t, _ := strconv.ParseInt(m[3], 10, 64); time.Since(time.UnixMilli(t)) > 4*time.Minute {
			at = "@" + m[3] + " "
		}
		out[lset+" "+at+m[2]+strings.TrimSpace(m[4])] = true
	}
	return out
}

// reported returns the number of scrapes of a job that were stored with up at v.
func reported(sink *ingesttest.Sink, job, v string) int {
	n := 0
	for _, line := range sink.Lines() {
		if strings.HasPrefix(line, `default {__name__="up", `) && strings.Contains(line, `job="`+job+`"`) && strings.HasSuffix(line, " "+v) {
			n++
		}
	}
	return n
}

// withoutReports leaves what the page says: no report series, and no staleness
// markers, which a scrape that took too long on a busy machine leaves.
func withoutReports(got map[string]bool, extra bool) []string {
	maps.DeleteFunc(got, func(line string, _ bool) bool {
		if strings.HasSuffix(line, fmt.Sprintf("NaN:%x", uint64(value.StaleNaN))) {
			return true
		}
		for _, name := range reports {
			if strings.HasPrefix(line, `{__name__="`+name+`"}`) {
				return true
			}
		}
		return !extra && strings.HasPrefix(line, `{__name__="scrape_`)
	})
	return slices.Sorted(maps.Keys(got))
}

// check runs all features in one scraper and compares what two scrapes of each
// have stored.
func check(t *testing.T, features []feature) (*Scraper, *doortest.Pipeline) {
	t.Helper()
	p := doortest.New(t, doortest.Options{})
	target := server(t, features).Listener.Addr().String()
	s := start(t, p.Entry("scrape"), jobs(features, target))
	for _, f := range features {
		t.Run(f.name, func(t *testing.T) {
			up := "1"
			if f.down {
				up = "0"
			}
			require.Eventually(t, func() bool { return reported(p.Sink, f.name, up) >= 2 }, time.Minute, 20*time.Millisecond)
			want := slices.Clone(f.want)
			slices.Sort(want)
			require.Equal(t, strings.Join(want, "\n"), strings.Join(withoutReports(facts(p.Sink, f.name), f.extra), "\n"))
		})
	}
	return s, p
}

func TestTextFormat(t *testing.T) {
	_, p := check(t, []feature{
		{
			name: "text", contentType: text,
			body: `# HELP t_requests_total Requests.
# TYPE t_requests_total counter
t_requests_total{code="200"} 3
# TYPE t_temperature gauge
t_temperature NaN
t_cold -Inf
# HELP t_seconds Time.
# TYPE t_seconds histogram
t_seconds_bucket{le="1"} 2
t_seconds_bucket{le="+Inf"} 3
t_seconds_sum 7.5
t_seconds_count 3
# TYPE t_summary summary
t_summary{quantile="0.5"} 1
t_summary_sum 2
t_summary_count 3
`,
			want: []string{
				`{__name__="t_requests_total", code="200"} 3`,
				`{__name__="t_temperature"} NaN:7ff8000000000001`,
				`{__name__="t_cold"} -Inf`,
				`{__name__="t_seconds_bucket", le="1.0"} 2`,
				`{__name__="t_seconds_bucket", le="+Inf"} 3`,
				`{__name__="t_seconds_sum"} 7.5`,
				`{__name__="t_seconds_count"} 3`,
				`{__name__="t_summary", quantile="0.5"} 1`,
				`{__name__="t_summary_sum"} 2`,
				`{__name__="t_summary_count"} 3`,
			},
		},
		{name: "empty", contentType: text},
		{name: "broken", contentType: text, body: "fine 1\n}{\n", down: true},
		{name: "untyped_page", body: "a 1\n", down: true},
		{name: "fallback", job: "fallback_scrape_protocol: PrometheusText0.0.4", body: "a 1\n", want: []string{`{__name__="a"} 1`}},
		{
			name: "utf8", contentType: text + "; escaping=allow-utf-8",
			body: "{\"http.requests\", \"größe\"=\"ü\\\"\"} 1\n",
			want: []string{`{__name__="http.requests", größe="ü\""} 1`},
		},
		{name: "legacy", contentType: text, job: "metric_name_validation_scheme: legacy", body: "{\"http.requests\"} 1\n", down: true},
		{
			name: "relabelled", contentType: text, body: "a{x=\"1\"} 1\nb 2\n",
			job: `metric_relabel_configs:
- {source_labels: [__name__], regex: b, action: drop}
- {source_labels: [x], target_label: y, replacement: "got $1"}
- {regex: x, action: labeldrop}`,
			want: []string{`{__name__="a", y="got 1"} 1`},
		},
		{
			name: "labels_exported", contentType: text, body: "a{job=\"theirs\",instance=\"x\"} 1\n",
			want: []string{`{__name__="a", exported_instance="x", exported_job="theirs"} 1`},
		},
		{name: "extra", contentType: text, body: "a 1\n", job: "extra_scrape_metrics: true\nsample_limit: 5\nbody_size_limit: 1KB", extra: true, want: []string{
			`{__name__="a"} 1`, `{__name__="scrape_timeout_seconds"} 0.4`, `{__name__="scrape_sample_limit"} 5`, `{__name__="scrape_body_size_bytes"} 4`,
		}},
	})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "t_requests_total", Type: "counter", Help: "Requests."})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "t_seconds", Type: "histogram", Help: "Time."})
}

func TestOpenMetrics(t *testing.T) {
	_, p := check(t, []feature{
		{
			name: "open", contentType: openText,
			body: `# TYPE o_requests counter
# UNIT o_requests requests
# HELP o_requests Requests.
o_requests_total 3 # {trace_id="abc"} 1 1700000000.5
o_requests_created 1700000000.25
# TYPE o_seconds histogram
o_seconds_bucket{le="1.0"} 2 # {trace_id="low"} 0.5
o_seconds_bucket{le="+Inf"} 3 # {trace_id="high"} 9
o_seconds_sum 7.5
o_seconds_count 3
o_seconds_created 1700000001
# TYPE o_build info
o_build_info{version="1"} 1
# EOF
`,
			want: []string{
				`{__name__="o_requests_total"} 3 start=1700000000250`,
				`{__name__="o_requests_total"} @1700000000500 # {trace_id="abc"} 1 `,
				`{__name__="o_seconds_bucket", le="1.0"} 2 start=1700000001000`,
				`{__name__="o_seconds_bucket", le="1.0"} # {trace_id="low"} 0.5 `,
				`{__name__="o_seconds_bucket", le="+Inf"} 3 start=1700000001000`,
				`{__name__="o_seconds_bucket", le="+Inf"} # {trace_id="high"} 9 `,
				`{__name__="o_seconds_sum"} 7.5 start=1700000001000`,
				`{__name__="o_seconds_count"} 3 start=1700000001000`,
				`{__name__="o_build_info", version="1"} 1`,
			},
		},
		{name: "no_eof", contentType: openText, body: "a 1\n", down: true},
		{
			name: "nhcb", contentType: openText, job: "scrape_native_histograms: true\nconvert_classic_histograms_to_nhcb: true",
			body: `# TYPE o_custom histogram
o_custom_bucket{le="1.0"} 2
o_custom_bucket{le="5.0"} 3
o_custom_bucket{le="+Inf"} 4
o_custom_sum 7.5
o_custom_count 4
# EOF
`,
			want: []string{`{__name__="o_custom"} {count:4, sum:7.5, [-Inf,1]:2, (1,5]:1, (5,+Inf]:1}`},
		},
		{
			name: "nhcb_and_classic", contentType: openText,
			job: "scrape_native_histograms: true\nconvert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true",
			body: `# TYPE o_both histogram
o_both_bucket{le="+Inf"} 4
o_both_sum 7.5
o_both_count 4
# EOF
`,
			want: []string{
				`{__name__="o_both"} {count:4, sum:7.5, [-Inf,+Inf]:4}`,
				`{__name__="o_both_bucket", le="+Inf"} 4`, `{__name__="o_both_sum"} 7.5`, `{__name__="o_both_count"} 4`,
			},
		},
	})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "o_requests", Type: "counter", Help: "Requests.", Unit: "requests"})
	require.Contains(t, p.Sink.Metadata(), signal.Metadata{Family: "o_build", Type: "info"})
}

// What a page says about time.
func TestTimestamps(t *testing.T) {
	base := time.Now().Add(-5 * time.Minute).Truncate(time.Second).UnixMilli()
	page := fmt.Sprintf("a 1 %d\nb 2\n", base)
	check(t, []feature{
		{name: "honoured", contentType: text, body: page, want: []string{fmt.Sprintf(`{__name__="a"} @%d 1`, base), `{__name__="b"} 2`}},
		{name: "ignored", contentType: text, body: page, job: "honor_timestamps: false", want: []string{`{__name__="a"} 1`, `{__name__="b"} 2`}},
	})
}

// Limits refuse a whole scrape, as in Prometheus; targets beyond target_limit
// make the job fail.
func TestLimits(t *testing.T) {
	page := "a{x=\"1\",longer=\"a long value\"} 1\nb 2\n"
	both := []string{`{__name__="a", longer="a long value", x="1"} 1`, `{__name__="b"} 2`}
	s, p := check(t, []feature{
		{name: "within", contentType: text, body: page, want: both, job: `sample_limit: 2
label_limit: 5
label_name_length_limit: 8
label_value_length_limit: 40
body_size_limit: 1KB
target_limit: 1`},
		{name: "samples", contentType: text, body: page, down: true, job: "sample_limit: 1"},
		{name: "label_count", contentType: text, body: page, down: true, job: "label_limit: 4"},
		{name: "label_name", contentType: text, body: page, down: true, job: "label_name_length_limit: 5"},
		{name: "label_value", contentType: text, body: page, down: true, job: "label_value_length_limit: 11"},
		{name: "body", contentType: text, body: page, down: true, job: "body_size_limit: 20B"},
	})
	require.NotNil(t, s)
	require.NotZero(t, entryCounter(t, p, "vedette_ingest_accepted_samples_total", ""))
}

// entryCounter reads one of the entry's counters; reason may be empty.
func entryCounter(t *testing.T, p *doortest.Pipeline, name, reason string) float64 {
	t.Helper()
	families, err := p.Registerer.Gather()
	require.NoError(t, err)
	sum := 0.
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["door"] == "scrape" && labels["reason"] == reason {
				sum += m.Counter.GetValue()
			}
		}
	}
	return sum
}

// Targets beyond target_limit make the job fail; of those that relabelling
// drops, the first few are kept for display and all are counted.
func TestTargetLimits(t *testing.T) {
	p := doortest.New(t, doortest.Options{})
	one, two := newExporter(t).Listener.Addr().String(), newExporter(t).Listener.Addr().String()
	s := start(t, p.Entry("scrape"), fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
- job_name: many
  target_limit: 1
  static_configs: [{targets: [%[1]q, %[2]q]}]
- job_name: drops
  keep_dropped_targets: 2
  static_configs: [{targets: [%[1]q, "drop:1", "drop:2", "drop:3"]}]
  relabel_configs: [{source_labels: [__address__], regex: 'drop.*', action: drop}]
`, one, two))
	require.Eventually(t, func() bool {
		return reported(p.Sink, "many", "0") >= 2 && reported(p.Sink, "drops", "1") >= 2
	}, time.Minute, 20*time.Millisecond)
	require.Zero(t, reported(p.Sink, "many", "1"))
	for _, target := range s.TargetsActive()["many"] {
		require.EqualError(t, target.LastError(), "target_limit exceeded (number of targets: 2, limit: 1)")
	}
	require.Len(t, s.TargetsDropped()["drops"], 2)
	require.Equal(t, 3, s.TargetsDroppedCounts()["drops"])
}

// What the door refuses of a scrape is counted by reason; the rest is stored.
func TestRefusedByDoor(t *testing.T) {
	page := feature{
		name: "partly", contentType: text, body: "good 1\nbad{x=\"" + strings.Repeat("v", 5000) + "\"} 2\nnext 3\n",
		want: []string{`{__name__="good"} 1`, `{__name__="next"} 3`},
	}
	_, p := check(t, []feature{page})
	require.NotZero(t, entryCounter(t, p, "vedette_ingest_refused_total", "label_value_too_long"))
	received := entryCounter(t, p, "vedette_ingest_received_samples_total", "")
	require.Greater(t, received, entryCounter(t, p, "vedette_ingest_accepted_samples_total", ""))
}

// What a scrape asks for, and what it shows of itself.
func TestRequests(t *testing.T) {
	want := func(check func(r *http.Request) bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !check(r) {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			w.Header().Set("Content-Type", text)
			_, _ = io.WriteString(w, "a 1\n")
		}
	}
	a := []string{`{__name__="a"} 1`}
	var packed atomic.Int64
	check(t, []feature{
		{
			name: "basic", job: "basic_auth: {username: me, password: secret}", want: a,
			serve: want(func(r *http.Request) bool { u, p, _ := r.BasicAuth(); return u == "me" && p == "secret" }),
		},
		{
			name: "bearer", job: "authorization: {credentials: token}", want: a,
			serve: want(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer token" }),
		},
		{name: "unauthorized", down: true, serve: want(func(r *http.Request) bool { return r.Header.Get("Authorization") != "" })},
		{
			name: "params", job: "params: {module: [x]}\nhttp_headers: {X-Site: {values: [y]}}", want: a,
			serve: want(func(r *http.Request) bool { return r.FormValue("module") == "x" && r.Header.Get("X-Site") == "y" }),
		},
		{
			name: "plain", job: "enable_compression: false", want: a,
			serve: want(func(r *http.Request) bool { return r.Header.Get("Accept-Encoding") == "identity" }),
		},
		{
			name: "escaped", job: "metric_name_escaping_scheme: underscores", want: a,
			serve: want(func(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "escaping=underscores") }),
		},
		{
			name: "utf8_asked", want: a,
			serve: want(func(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "escaping=allow-utf-8") }),
		},
		{
			name: "native_asked", job: "scrape_native_histograms: true", want: a,
			serve: want(func(r *http.Request) bool {
				return strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.google.protobuf")
			}),
		},
		{
			name: "protocols", job: "scrape_protocols: [PrometheusText0.0.4]", want: a,
			serve: want(func(r *http.Request) bool {
				return strings.HasPrefix(r.Header.Get("Accept"), "text/plain;version=0.0.4")
			}),
		},
		{
			name: "gzip", want: a,
			serve: func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
					http.Error(w, "no", http.StatusForbidden)
					return
				}
				packed.Add(1)
				w.Header().Set("Content-Type", text)
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				_, _ = io.WriteString(z, "a 1\n")
				_ = z.Close()
			},
		},
		{
			name: "redirected", want: a,
			serve: func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("again") == "" {
					http.Redirect(w, r, "/redirected?again=1", http.StatusFound)
					return
				}
				w.Header().Set("Content-Type", text)
				_, _ = io.WriteString(w, "a 1\n")
			},
		},
		{name: "not_redirected", job: "follow_redirects: false", down: true, serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/gzip", http.StatusFound)
		}},
	})
	require.NotZero(t, packed.Load())
}
