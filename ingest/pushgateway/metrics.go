package pushgateway

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	pushes       *prometheus.CounterVec
	lastPush     prometheus.Gauge
	repeats      prometheus.Counter
	repeated     prometheus.Counter
	repeatErrors prometheus.Counter
	setAside     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, g *Gateway) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, read func() int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "vedette_ingest_pushgateway_" + name, Help: help}, func() float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return float64(read())
		})
	}
	gauge("groups", "Groups of pushed metrics.", func() int { return g.groups })
	gauge("series", "Series of all groups of pushed metrics.", func() int { return g.series })
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "vedette_ingest_pushgateway_" + name, Help: help})
	}
	m := &metrics{
		pushes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_pushgateway_requests_total",
			Help: "Requests that change groups, by method (push, add, delete, wipe) and outcome (accepted, malformed, inconsistent, limit, refused, error).",
		}, []string{"method", "outcome"}),
		lastPush: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_ingest_pushgateway_last_push_timestamp_seconds",
			Help: "Unix time of the last push that was accepted.",
		}),
		repeats:      counter("repeats_total", "Times that all groups were written again."),
		repeated:     counter("repeated_samples_total", "Samples that were written again."),
		repeatErrors: counter("repeat_errors_total", "Times that groups of a tenant could not be written again, or only a part of them."),
		setAside:     counter("groups_set_aside_total", "Files of groups that were set aside because they are damaged."),
	}
	return m
}
