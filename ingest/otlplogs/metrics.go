package otlplogs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	records, bytes *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		records: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_kept_log_records_total",
			Help: "Log records that came out of the buffer, which keeps them for its retention, by tenant, service.name and severity. Services beyond the first 1000 are together.",
		}, []string{"tenant", "service", "severity"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_kept_log_bytes_total",
			Help: "Bytes of these records, as OTLP in protobuf and without their resources.",
		}, []string{"tenant", "service"}),
	}
}
