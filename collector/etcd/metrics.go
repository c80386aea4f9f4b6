package etcd

import "github.com/prometheus/client_golang/prometheus"

// metrics belong to all discoverers of a scraper. The label config is the name
// of the scrape job, as in Prometheus's discovery metrics.
type metrics struct {
	reg prometheus.Registerer

	targets     *prometheus.GaugeVec
	connected   *prometheus.GaugeVec
	lists       *prometheus.CounterVec
	errors      *prometheus.CounterVec
	compactions *prometheus.CounterVec
	events      *prometheus.CounterVec
	badValues   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vedette_collector_etcd_" + name, Help: help}, append([]string{"config"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "vedette_collector_etcd_" + name, Help: help}, []string{"config"})
	}
	return &metrics{
		reg:         reg,
		targets:     gauge("targets", "Targets known from etcd, before relabelling."),
		connected:   gauge("connected", "Connections to etcd that are up, one per entry of etcd_sd_configs."),
		lists:       counter("lists_total", "Complete listings of a prefix: one at the start, and one after every loss of the watch or the connection."),
		errors:      counter("errors_total", "Errors of etcd by operation (dial, list, watch).", "operation"),
		compactions: counter("compactions_total", "Watches that ended because etcd had compacted their revision."),
		events:      counter("events_total", "Keys that the watch saw change."),
		badValues:   counter("bad_values_total", "Values that make no target and are skipped."),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.targets, m.connected, m.lists, m.errors, m.compactions, m.events, m.badValues}
}

// Register implements discovery.DiscovererMetrics.
func (m *metrics) Register() error {
	for i, c := range m.collectors() {
		if err := m.reg.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				m.reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}

// Unregister implements discovery.DiscovererMetrics.
func (m *metrics) Unregister() {
	for _, c := range m.collectors() {
		m.reg.Unregister(c)
	}
}
