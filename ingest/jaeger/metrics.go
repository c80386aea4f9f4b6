package jaeger

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those that the entry does not have.
type metrics struct{ spans, refused *prometheus.CounterVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		spans: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_jaeger_spans_total",
			Help: "Jaeger spans that were decoded, by format.",
		}, []string{"format"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_jaeger_refused_batches_total",
			Help: "Batches that were refused as a whole since they could not be decoded, by format.",
		}, []string{"format"}),
	}
}
