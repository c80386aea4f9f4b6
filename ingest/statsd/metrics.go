package statsd

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	packets     *prometheus.CounterVec
	bytes       prometheus.Counter
	received    prometheus.Counter
	accepted    prometheus.Counter
	ignored     *prometheus.CounterVec
	sketches    prometheus.Counter
	rejected    [numDrops]prometheus.Counter
	connections prometheus.Gauge
	turnedAway  prometheus.Counter
	written     prometheus.Counter
	lost        prometheus.Counter
	retries     prometheus.Counter
	flush       prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, t *table) *metrics {
	f := promauto.With(reg)
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "vedette_ingest_statsd_" + name, Help: help})
	}
	m := &metrics{
		packets: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_statsd_packets_total",
			Help: "Packets, frames and reads of TCP connections that came, by socket: udp, unixgram, unix or tcp.",
		}, []string{"socket"}),
		bytes:    count("bytes_total", "Bytes that came over all sockets."),
		received: count("received_events_total", "Values of metrics that came, rejected ones included."),
		accepted: count("accepted_events_total", "Values of metrics that were added to their series."),
		ignored: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_statsd_ignored_total",
			Help: "DogStatsD events and service checks, which are not kept, by kind.",
		}, []string{"kind"}),
		sketches: count("unranked_events_total", "Accepted values for which there was no memory among quantiles or native buckets."),
		connections: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_ingest_statsd_connections",
			Help: "Connections of stream sockets.",
		}),
		turnedAway: count("refused_connections_total", "Connections that were closed at once since there were too many."),
		written:    count("written_series_total", "Samples that flushes have written, refused parts included."),
		lost:       count("lost_series_total", "Samples of flushes that the door did not take in time; the next flush writes later ones, and counts go on."),
		retries:    count("flush_retries_total", "Writes that were tried again."),
		flush: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "vedette_ingest_statsd_flush_duration_seconds",
			Help:    "Time that flushes took.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
		}),
	}
	rejected := f.NewCounterVec(prometheus.CounterOpts{
		Name: "vedette_ingest_statsd_rejected_events_total",
		Help: "Values of metrics, or lines and frames without a value, that were dropped, by reason.",
	}, []string{"reason"})
	for d := range numDrops {
		m.rejected[d] = rejected.WithLabelValues(d.String())
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vedette_ingest_statsd_series",
		Help: "Series that are kept, by name and tags.",
	}, func() float64 {
		t.mu.Lock()
		defer t.mu.Unlock()
		return float64(t.live)
	})
	return m
}

// count adds what a packet held.
func (m *metrics) count(n *tally) {
	received := n.accepted
	for d, k := range n.dropped {
		if k > 0 {
			received += k
			m.rejected[d].Add(float64(k))
		}
	}
	if n.accepted > 0 {
		m.accepted.Add(float64(n.accepted))
	}
	if received > 0 {
		m.received.Add(float64(received))
	}
	if n.sketches > 0 {
		m.sketches.Add(float64(n.sketches))
	}
	if n.events > 0 {
		m.ignored.WithLabelValues("event").Add(float64(n.events))
	}
	if n.checks > 0 {
		m.ignored.WithLabelValues("service_check").Add(float64(n.checks))
	}
}
