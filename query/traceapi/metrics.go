package traceapi

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration *prometheus.HistogramVec // by handler, code
	inFlight prometheus.Gauge
	size     *prometheus.CounterVec // by handler
	partial  *prometheus.CounterVec // by handler
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "vedette_query_trace_request_duration_seconds",
			Help:                        "Time from a request's first byte to its answer's last, by endpoint of the trace APIs.",
			Buckets:                     []float64{.001, .005, .02, .1, .5, 2, 10, 60},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"handler", "code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_trace_requests_in_flight",
			Help: "Requests to the trace APIs that are being answered or wait for their turn.",
		}),
		size: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_query_trace_response_bytes_total",
			Help: "Bytes of answers of the trace APIs, compressed as sent, by endpoint.",
		}, []string{"handler"}),
		partial: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_query_trace_partial_responses_total",
			Help: "Answers of the trace APIs that left something out because of a limit or a damaged block, by endpoint.",
		}, []string{"handler"}),
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.inFlight, m.size, m.partial)
	}
	return m
}
