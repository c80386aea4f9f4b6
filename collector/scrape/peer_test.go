package scrape

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/logging"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
)

// peer is Prometheus: its scrape manager writing into its own store.
type peer struct{ db *tsdb.DB }

// startPeer scrapes target with the same configuration as Vedette.
func startPeer(t *testing.T, features []feature, target string) *peer {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
	quiet := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(t.TempDir(), quiet, nil, opts, nil)
	require.NoError(t, err)
	m, err := promscrape.NewManager(&promscrape.Options{
		ParseST: true, DiscoveryReloadOnStartup: true, DiscoveryReloadInterval: model.Duration(time.Second),
	}, quiet, logging.NewJSONFileLogger, nil, db, prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, m.ApplyConfig(load(t, jobs(features, target))))
	sets := make(chan map[string][]*targetgroup.Group, 1)
	all := map[string][]*targetgroup.Group{}
	for _, f := range features {
		all[f.name] = []*targetgroup.Group{{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(target)}}}}
	}
	sets <- all
	done := make(chan error, 1)
	go func() { done <- m.Run(sets) }()
	t.Cleanup(func() {
		m.Stop()
		require.NoError(t, <-done)
		require.NoError(t, db.Close())
	})
	return &peer{db}
}

// facts returns what Prometheus has stored of a job, in the form of the function
// of this name, without start times, which its querier does not show.
func (p *peer) facts(t *testing.T, job string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	note := func(ls labels.Labels, at int64, text string) {
		var b strings.Builder
		ls.Range(func(l labels.Label) {
			if l.Name != "job" && l.Name != "instance" {
				fmt.Fprintf(&b, ", %s=%q", l.Name, l.Value)
			}
		})
		when := ""
		if time.Since(time.UnixMilli(at)) > 4*time.Minute {
			when = fmt.Sprintf("@%d ", at)
		}
		out["{"+strings.TrimPrefix(b.String(), ", ")+"} "+when+text] = true
	}
	matcher := labels.MustNewMatcher(labels.MatchEqual, "job", job)
	q, err := p.db.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(t.Context(), true, nil, matcher)
	for set.Next() {
		eachSample(set.At(), func(at int64, text string) { note(set.At().Labels(), at, text) })
	}
	require.NoError(t, set.Err())

	eq, err := p.db.ExemplarQuerier(context.Background())
	require.NoError(t, err)
	found, err := eq.Select(0, math.MaxInt64, []*labels.Matcher{matcher})
	require.NoError(t, err)
	for _, r := range found {
		for _, e := range r.Exemplars {
			note(r.SeriesLabels, e.Ts, fmt.Sprintf("# {%s} %v ", strings.Trim(e.Labels.String(), "{}"), e.Value))
		}
	}
	return out
}

func eachSample(s storage.Series, f func(at int64, text string)) {
	it := s.Iterator(nil)
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		switch typ {
		case chunkenc.ValFloat:
			at, v := it.At()
			if math.IsNaN(v) {
				f(at, fmt.Sprintf("NaN:%x", math.Float64bits(v)))
				continue
			}
			f(at, fmt.Sprint(v))
		case chunkenc.ValHistogram:
			at, h := it.AtHistogram(nil)
			f(at, h.String())
		case chunkenc.ValFloatHistogram:
			at, h := it.AtFloatHistogram(nil)
			f(at, h.String())
		}
	}
}

// Vedette stores what Prometheus stores: the same series, values, histograms and
// exemplars of the same pages under the same configuration.
func TestLikePrometheus(t *testing.T) {
	const native = "scrape_native_histograms: true"
	histograms := families(t,
		histogramFamily("p_seconds", dto.MetricType_HISTOGRAM, nativeHistogram(false)),
		histogramFamily("p_floats", dto.MetricType_HISTOGRAM, nativeHistogram(true)),
	)
	open := `# TYPE o_requests counter
o_requests_total{code="200"} 3 # {trace_id="abc"} 1 1700000000.5
o_requests_created{code="200"} 1700000000.25
# TYPE o_seconds histogram
o_seconds_bucket{le="1.0"} 2 # {trace_id="low"} 0.5 1700000001
o_seconds_bucket{le="5.0"} 3
o_seconds_bucket{le="+Inf"} 4
o_seconds_sum 7.5
o_seconds_count 4
# TYPE o_seen unknown
o_seen NaN
# EOF
`
	features := []feature{
		{name: "text", contentType: text, body: "a{x=\"1\"} 1\na{x=\"2\"} 2\nb{job=\"theirs\"} -Inf\nempty{label=\"\"} 1\n"},
		{name: "honoured", contentType: text, job: "honor_labels: true", body: "b{job=\"honoured\",instance=\"\"} 3\nc 1\n"},
		{name: "open", contentType: openText, body: open},
		{name: "custom", contentType: openText, job: native + "\nconvert_classic_histograms_to_nhcb: true\nalways_scrape_classic_histograms: true", body: open},
		{name: "native", contentType: protobuf, job: native, body: histograms},
		{name: "classic", contentType: protobuf, body: histograms},
		{name: "twice", contentType: text, body: "a 1\na 1\nb 2\nb 3\n"},
		{name: "limited", contentType: text, job: "sample_limit: 1", body: "a 1\nb 1\n"},
		{
			name: "relabelled", contentType: text, body: "a{x=\"1\"} 1\nb 2\n",
			job: "metric_relabel_configs: [{source_labels: [x], target_label: __name__, regex: '(.+)', replacement: renamed}]",
		},
	}
	target := server(t, features).Listener.Addr().String()
	p := doortest.New(t, doortest.Options{})
	start(t, p.Entry("scrape"), jobs(features, target))
	prom := startPeer(t, features, target)
	started := func(text string) string {
		before, _, _ := strings.Cut(text, " start=")
		return before
	}
	for _, f := range features {
		t.Run(f.name, func(t *testing.T) {
			up := "1"
			if f.name == "limited" {
				up = "0"
			}
			require.Eventually(t, func() bool {
				return reported(p.Sink, f.name, up) >= 2 && prom.facts(t, f.name)[`{__name__="up"} `+up]
			}, time.Minute, 20*time.Millisecond)
			ours := map[string]bool{}
			for line := range facts(p.Sink, f.name) {
				ours[started(line)] = true
			}
			want, got := withoutReports(prom.facts(t, f.name), false), withoutReports(maps.Clone(ours), false)
			require.Equal(t, strings.Join(want, "\n"), strings.Join(got, "\n"))
			if up == "1" {
				require.NotEmpty(t, want)
			}
			// The report series are there on both sides, too.
			for _, name := range reports {
				require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(ours)), func(line string) bool {
					return strings.HasPrefix(line, `{__name__="`+name+`"} `)
				}), name)
			}
		})
	}
}
