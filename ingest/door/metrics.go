package door

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of all entries, by the label door.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	bodyBytes *prometheus.CounterVec
	received  *prometheus.CounterVec
	accepted  *prometheus.CounterVec
	refused   *prometheus.CounterVec
	inFlight  prometheus.Gauge
	timeouts  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_requests_total",
			Help: "Write requests by the way they came in and the status they were answered with.",
		}, []string{"door", "code"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "vedette_ingest_request_duration_seconds",
			Help:    "Time from the whole body to the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"door"}),
		bodyBytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_body_bytes_total",
			Help: "Bytes of request bodies as they came over the wire.",
		}, []string{"door"}),
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_received_samples_total",
			Help: "Samples, floats and histograms, that were decoded, refused ones included.",
		}, []string{"door"}),
		accepted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_accepted_samples_total",
			Help: "Samples, floats and histograms, that were acknowledged, duplicates of stored ones included.",
		}, []string{"door"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_refused_total",
			Help: "Samples, exemplars, metadata entries and empty series refused by validation or by the store, by reason.",
		}, []string{"door", "reason"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_ingest_in_flight_bytes",
			Help: "Memory charged to write requests under way.",
		}),
		timeouts: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_store_timeouts_total",
			Help: "Requests answered without waiting longer for the store; their data is durable in the buffer.",
		}),
	}
}

// entryMetrics are those of one entry.
type entryMetrics struct {
	all                           *metrics
	name                          string
	seconds                       prometheus.Observer
	bodyBytes, received, accepted prometheus.Counter
}

func (m *metrics) entry(name string) *entryMetrics {
	return &entryMetrics{
		all: m, name: name, seconds: m.seconds.WithLabelValues(name),
		bodyBytes: m.bodyBytes.WithLabelValues(name), received: m.received.WithLabelValues(name), accepted: m.accepted.WithLabelValues(name),
	}
}

func (m *entryMetrics) answered(code int) {
	m.all.requests.WithLabelValues(m.name, strconv.Itoa(code)).Inc()
}

func (m *entryMetrics) refused(reason string) prometheus.Counter {
	return m.all.refused.WithLabelValues(m.name, reason)
}
