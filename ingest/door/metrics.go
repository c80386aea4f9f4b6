package door

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/vedette-io/vedette/ingest/remotewrite"
)

type metrics struct {
	requests  *prometheus.CounterVec
	seconds   prometheus.Histogram
	bodyBytes prometheus.Counter
	decoded   prometheus.Counter
	refused   *prometheus.CounterVec
	inFlight  prometheus.Gauge
	timeouts  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_requests_total",
			Help: "Write requests by the status they were answered with.",
		}, []string{"code"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "vedette_ingest_request_duration_seconds",
			Help:    "Time from the whole body to the answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		bodyBytes: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_body_bytes_total",
			Help: "Compressed bytes of request bodies.",
		}),
		decoded: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_decoded_samples_total",
			Help: "Samples, floats and histograms, that passed validation.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_refused_total",
			Help: "Samples, exemplars, metadata entries and empty series refused by validation, by reason.",
		}, []string{"reason"}),
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

func (m *metrics) answered(code int) { m.requests.WithLabelValues(strconv.Itoa(code)).Inc() }

func (m *metrics) countRejects(r *remotewrite.Rejects) {
	if !r.Any() {
		return
	}
	for reason, n := range r.ByReason {
		if n > 0 {
			m.refused.WithLabelValues(remotewrite.Reason(reason).String()).Add(float64(n))
		}
	}
}
