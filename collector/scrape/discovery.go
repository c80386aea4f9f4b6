package scrape

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/discovery"
	"k8s.io/klog/v2"

	// The discoveries that are linked in, one by one: the package that installs all
	// of Prometheus's brings the client libraries of two dozen clouds along. Each
	// registers itself with Prometheus's configuration; static ones need no import.
	//
	// Together they make the binary 42 MB larger. 34 of that is kubernetes, for
	// client-go comes with it; consul, moby, nomad and etcd bring a client library
	// each, and the rest little that is not linked anyway.
	_ "github.com/prometheus/prometheus/discovery/consul"
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/file"
	_ "github.com/prometheus/prometheus/discovery/http"
	_ "github.com/prometheus/prometheus/discovery/kubernetes"
	_ "github.com/prometheus/prometheus/discovery/marathon"
	_ "github.com/prometheus/prometheus/discovery/moby"
	_ "github.com/prometheus/prometheus/discovery/nomad"

	_ "github.com/vedette-io/vedette/collector/etcd"
)

// setUpDiscoveries registers the metrics of all discoveries. The client of
// Kubernetes keeps its metrics and its logger in globals, so those of the last
// scraper win.
func setUpDiscoveries(log *slog.Logger, reg prometheus.Registerer) (*discovery.SDMetrics, error) {
	klog.SetSlogLogger(log.With("discovery", "kubernetes"))
	if err := discovery.RegisterK8sClientMetricsWithPrometheus(reg); err != nil {
		return nil, err
	}
	return discovery.CreateAndRegisterSDMetrics(reg)
}
