package door

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/vedette-io/vedette/ingest/wire"
)

// metrics are those of all entries, by the label door.
type metrics struct {
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	bodyBytes *prometheus.CounterVec
	received  *prometheus.CounterVec
	accepted  *prometheus.CounterVec
	refused   *prometheus.CounterVec
	spans     *prometheus.CounterVec
	records   *prometheus.CounterVec
	amended   *prometheus.CounterVec
	inFlight  prometheus.Gauge
	timeouts  prometheus.Counter
	repeated  prometheus.Counter
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
			Help: "Samples, exemplars, metadata entries, empty series, spans and log records refused by validation or by the store, by reason.",
		}, []string{"door", "reason"}),
		spans: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_door_spans_total",
			Help: "Spans by what became of them: received (all that were decoded, refused ones included), accepted (acknowledged), not_sampled.",
		}, []string{"door", "result"}),
		records: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_door_log_records_total",
			Help: "Log records by what became of them: received (all that were decoded, refused ones included), accepted (acknowledged).",
		}, []string{"door", "result"}),
		amended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_spans_amended_total",
			Help: "Spans that were kept with a mark: truncated to the limits, or with a clock that is off.",
		}, []string{"door", "mark"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_ingest_in_flight_bytes",
			Help: "Memory charged to write requests under way.",
		}),
		timeouts: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_store_timeouts_total",
			Help: "Requests answered without waiting longer for the store; their data is durable in the buffer.",
		}),
		repeated: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_forwarded_repeats_total",
			Help: "Forwarded requests that were acknowledged without being written, since they are in the buffer already.",
		}),
	}
}

// entryMetrics are those of one entry.
type entryMetrics struct {
	all                           *metrics
	name                          string
	seconds                       prometheus.Observer
	bodyBytes, received, accepted prometheus.Counter

	receivedSpans, acceptedSpans, notSampled, truncated, skewed prometheus.Counter
	receivedRecords, acceptedRecords                            prometheus.Counter
}

func (m *metrics) entry(name string) *entryMetrics {
	return &entryMetrics{
		all: m, name: name, seconds: m.seconds.WithLabelValues(name),
		bodyBytes: m.bodyBytes.WithLabelValues(name), received: m.received.WithLabelValues(name), accepted: m.accepted.WithLabelValues(name),
		receivedSpans: m.spans.WithLabelValues(name, "received"), acceptedSpans: m.spans.WithLabelValues(name, "accepted"),
		notSampled: m.spans.WithLabelValues(name, "not_sampled"),
		truncated:  m.amended.WithLabelValues(name, "truncated"), skewed: m.amended.WithLabelValues(name, "clock_skew"),
		receivedRecords: m.records.WithLabelValues(name, "received"), acceptedRecords: m.records.WithLabelValues(name, "accepted"),
	}
}

// countSpans counts what a decode has done with spans.
func (m *entryMetrics) countSpans(d *wire.Decoded) {
	n := d.Spans.Len() + d.Rejects.Spans + d.NotKept
	if n == 0 {
		return
	}
	m.receivedSpans.Add(float64(n))
	m.notSampled.Add(float64(d.NotKept))
	m.truncated.Add(float64(d.Cut))
	m.skewed.Add(float64(d.Skewed))
}

func (m *entryMetrics) answered(code int) {
	m.all.requests.WithLabelValues(m.name, strconv.Itoa(code)).Inc()
}

func (m *entryMetrics) refused(reason string) prometheus.Counter {
	return m.all.refused.WithLabelValues(m.name, reason)
}
