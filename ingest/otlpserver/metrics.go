package otlpserver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	partial  prometheus.Counter
	health   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_otlp_requests_total",
			Help: "OTLP export requests by signal (metrics, traces, logs), transport (grpc, http), format (protobuf, json) and content encoding.",
		}, []string{"signal", "transport", "format", "encoding"}),
		partial: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_otlp_partial_successes_total",
			Help: "OTLP export requests answered with a partial success.",
		}),
		health: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_otlp_health_checks_total",
			Help: "Health checks answered over gRPC.",
		}),
	}
}

// request counts a request whose format and encoding are known ones.
func (m *metrics) request(signal, transport, format, encoding string) {
	m.requests.WithLabelValues(signal, transport, format, encoding).Inc()
}
