package spanmetrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	counted            prometheus.Counter
	old, future, probe prometheus.Counter
	overflow           prometheus.Counter
	edges              [3]prometheus.Counter // paired, virtual, database
	expired            prometheus.Counter
	crowdedOut         prometheus.Counter
	names              prometheus.Counter
	written            prometheus.Counter
	lost               prometheus.Counter
	retries            prometheus.Counter
	flush              prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, g *Generator) *metrics {
	f := promauto.With(reg)
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "vedette_ingest_spanmetrics_" + name, Help: help})
	}
	vec := func(name, help, label string, values ...string) (list []prometheus.Counter) {
		v := f.NewCounterVec(prometheus.CounterOpts{Name: "vedette_ingest_spanmetrics_" + name, Help: help}, []string{label})
		for _, value := range values {
			list = append(list, v.WithLabelValues(value))
		}
		return list
	}
	skipped := vec("skipped_spans_total", "Spans that were not counted since they ended too long ago (old), end too far from now (future), or are of requests that the eBPF probe has counted (probe).",
		"reason", "old", "future", "probe")
	edges := vec("edges_total", "Calls that were counted in the service graph: with both sides, to or from a virtual node, to a database.",
		"kind", "paired", "virtual", "database")
	dropped := vec("dropped_edge_spans_total", "Spans that waited for the other side of their edge and gave way: to others (pending), or since there were too many names of services (names).",
		"reason", "pending", "names")
	m := &metrics{
		counted:    count("spans_total", "Spans that were counted."),
		old:        skipped[0],
		future:     skipped[1],
		probe:      skipped[2],
		overflow:   count("overflow_total", "Spans and edges that were counted together since their label sets are beyond max_series."),
		edges:      [3]prometheus.Counter(edges),
		expired:    count("expired_edge_spans_total", "Spans that have waited for the other side of their edge in vain."),
		crowdedOut: dropped[0],
		names:      dropped[1],
		written:    count("written_series_total", "Samples that flushes have written, refused parts included."),
		lost:       count("lost_series_total", "Samples of flushes that the door did not take in time; the next flush writes later ones, and counts go on."),
		retries:    count("flush_retries_total", "Writes that were tried again."),
		flush: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "vedette_ingest_spanmetrics_flush_duration_seconds",
			Help:    "Time that flushes took.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
		}),
	}
	for class, kind := range []string{"red", "edge"} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "vedette_ingest_spanmetrics_label_sets",
			Help:        "Label sets that are kept: of services and operations (red), and of the service graph (edge).",
			ConstLabels: prometheus.Labels{"kind": kind},
		}, func() float64 { return float64(g.registry.counts()[class]) })
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vedette_ingest_spanmetrics_pending_spans",
		Help: "Spans that wait for the other side of their edge.",
	}, func() float64 {
		n := 0
		for _, s := range *g.shards.Load() {
			n += s.pending()
		}
		return float64(n)
	})
	return m
}

// count adds what became of a batch.
func (m *metrics) count(n *tally) {
	for _, c := range [...]struct {
		to prometheus.Counter
		n  int
	}{
		{m.counted, n.counted}, {m.old, n.old}, {m.future, n.future}, {m.probe, n.probe}, {m.overflow, n.overflow},
		{m.edges[0], n.paired}, {m.edges[1], n.virtual}, {m.edges[2], n.database},
		{m.expired, n.expired}, {m.crowdedOut, n.crowdedOut}, {m.names, n.droppedByNames},
	} {
		if c.n > 0 {
			c.to.Add(float64(c.n))
		}
	}
}
