package gpu

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	devices prometheus.Gauge
	errors  prometheus.Counter
	skipped prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		devices: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_collector_gpu_devices",
			Help: "GPUs that were read at the last collection.",
		}),
		errors: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_gpu_errors_total",
			Help: "Collections without an answer of a driver that is there.",
		}),
		skipped: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_gpu_skipped_processes_total",
			Help: "Processes left out of a collection because a GPU has more than max_processes.",
		}),
	}
}
