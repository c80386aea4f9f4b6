package traces

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration *prometheus.HistogramVec // by question
	running  prometheus.Gauge
	queued   prometheus.Gauge
	refused  prometheus.Counter
	partial  *prometheus.CounterVec // by question
	bytes    prometheus.Counter
	spans    prometheus.Counter
	traces   prometheus.Counter
	groups   *prometheus.CounterVec // by result
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "vedette_query_traces_duration_seconds",
			Help:                        "Time that questions about spans took, without waiting for their turn.",
			Buckets:                     []float64{.001, .005, .02, .1, .5, 2, 10, 60},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"question"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_traces_running",
			Help: "Questions about spans that are being worked on.",
		}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_query_traces_queued",
			Help: "Questions about spans that wait for their turn.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_traces_refused_total",
			Help: "Questions about spans that were refused because too many waited.",
		}),
		partial: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_query_traces_partial_total",
			Help: "Answers that are not whole because of a limit or a damaged block.",
		}, []string{"question"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_traces_read_bytes_total",
			Help: "Bytes of stored columns that were read.",
		}),
		spans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_traces_inspected_spans_total",
			Help: "Spans of the row groups that were looked into.",
		}),
		traces: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_query_traces_evaluated_traces_total",
			Help: "Traces that were put together and evaluated as a whole.",
		}),
		groups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_query_traces_groups_total",
			Help: "Row groups within the times of questions, by whether they were read or ruled out.",
		}, []string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.running, m.queued, m.refused, m.partial, m.bytes, m.spans, m.traces, m.groups)
	}
	return m
}
