package host

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the Host's own.
type metrics struct {
	failures *prometheus.CounterVec
	stuck    prometheus.Counter
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_host_failures_total",
			Help: "Collections of a part that failed, by part and reason (error, panic, timeout).",
		}, []string{"collector", "reason"}),
		stuck: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_host_stuck_mounts_total",
			Help: "Mount points that were given up because the kernel did not answer.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_host_textfile_refused_total",
			Help: "Metrics of text files that are left out because a part or another file has them.",
		}),
	}
}
