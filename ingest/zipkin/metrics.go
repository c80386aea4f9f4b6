package zipkin

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those that the entry does not have.
type metrics struct {
	spans, refused *prometheus.CounterVec
	splits         prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		spans: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_zipkin_spans_total",
			Help: "Zipkin spans that were decoded, by format; both halves of a split one.",
		}, []string{"format"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_zipkin_refused_requests_total",
			Help: "Requests that were refused as a whole since they could not be decoded, by format.",
		}, []string{"format"}),
		splits: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_zipkin_split_spans_total",
			Help: "Spans of version 1 that held more than one service and became as many spans.",
		}),
	}
}
