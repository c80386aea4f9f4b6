package influx

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those that the entry does not have.
type metrics struct {
	lines, refused, strings prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		lines: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_influx_lines_total",
			Help: "Lines of line protocol that were received, refused ones included, comments not.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_influx_refused_lines_total",
			Help: "Lines of line protocol that were refused because they are not valid.",
		}),
		strings: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_influx_skipped_fields_total",
			Help: "Fields that were left out since they are strings.",
		}),
	}
}
