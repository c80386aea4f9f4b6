package mesos

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	targets  *prometheus.GaugeVec
	requests *prometheus.CounterVec
	errors   *prometheus.CounterVec
	skipped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		targets: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_collector_mesos_targets",
			Help: "Masters and agents that are asked, those that were discovered included, by role: master or agent.",
		}, []string{"role"}),
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_mesos_requests_total",
			Help: "Requests by endpoint: snapshot, statistics or slaves.",
		}, []string{"endpoint"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_mesos_errors_total",
			Help: "Requests without a good answer by endpoint: snapshot, statistics or slaves.",
		}, []string{"endpoint"}),
		skipped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_mesos_skipped_total",
			Help: "Executors and series that are left out by reason: limit (above max_executors) or repeated.",
		}, []string{"reason"}),
	}
}
