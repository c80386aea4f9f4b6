package container

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	listed  *prometheus.GaugeVec
	skipped prometheus.Gauge
	scans   prometheus.Counter
	asked   *prometheus.CounterVec
	errors  *prometheus.CounterVec
	named   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		listed: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_collector_container_cgroups",
			Help: "Cgroups that are listed, by kind: root, container, pod, service, slice or other.",
		}, []string{"kind"}),
		skipped: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_collector_container_skipped_cgroups",
			Help: "Cgroups that are left out because there are more than max_containers.",
		}),
		scans: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_container_scans_total",
			Help: "Walks over the hierarchy of cgroups.",
		}),
		asked: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_container_requests_total",
			Help: "Requests for names of containers by source (docker, containerd, kubelet, files).",
		}, []string{"source"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_container_errors_total",
			Help: "Errors by operation (scan, network, docker, containerd, kubelet, files).",
		}, []string{"operation"}),
		named: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_collector_container_named_containers",
			Help: "Listed containers whose name or pod is known.",
		}),
	}
	for k := kindRoot; k < numKinds; k++ {
		m.listed.WithLabelValues(k.String())
	}
	for _, op := range []string{"scan", "network", "docker", "containerd", "kubelet", "files"} {
		m.errors.WithLabelValues(op)
	}
	return m
}
