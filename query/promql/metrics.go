package promql

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	running prometheus.Gauge
	queued  prometheus.Gauge
	refused prometheus.Counter
	limited prometheus.Counter
	bytes   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_running",
			Help: "Queries that are being executed.",
		}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_queued",
			Help: "Queries that wait for their turn.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_queue_refused_total",
			Help: "Queries that were refused because their tenant had too many waiting.",
		}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_limit_refused_total",
			Help: "Queries that were ended because they read more bytes than one query may.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_read_bytes_total",
			Help: "Bytes of decoded series and samples that queries have read.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.running, m.queued, m.refused, m.limited, m.bytes)
	}
	return m
}
