package api

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration *prometheus.HistogramVec // by handler, method, code
	inFlight prometheus.Gauge
	size     *prometheus.CounterVec // by handler

	federationErrors   prometheus.Counter
	federationWarnings prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "vedette_query_http_request_duration_seconds",
			Help:                        "Time from a request's first byte to its answer's last, by endpoint.",
			Buckets:                     []float64{.001, .005, .02, .1, .5, 2, 10, 60},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"handler", "method", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_http_requests_in_flight",
			Help: "Requests that are being answered or wait for their turn.",
		}),
		size: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_query_http_response_bytes_total",
			Help: "Bytes of answers, compressed as sent, by endpoint.",
		}, []string{"handler"}),
		federationErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_federation_errors_total",
			Help: "Federation requests that ended with an error.",
		}),
		federationWarnings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_federation_warnings_total",
			Help: "Warnings of the store during federation.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.inFlight, m.size, m.federationErrors, m.federationWarnings)
	}
	return m
}
