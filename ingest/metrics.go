package ingest

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

type metrics struct {
	messages     *prometheus.CounterVec
	setAside     prometheus.Counter
	samples      *prometheus.CounterVec
	sinkErrors   prometheus.Counter
	commits      prometheus.Counter
	commitFails  prometheus.Counter
	lag          *prometheus.GaugeVec
	deltas       *prometheus.CounterVec
	deltaStreams *prometheus.GaugeVec
	refused      *prometheus.CounterVec

	appended, duplicates, conflicts, tooOld, outOfBounds, seriesLimit prometheus.Counter
	fromMemory, fromLog                                               prometheus.Counter
}

// newMetrics registers the metrics of one topic's consumer, whose label they have.
func newMetrics(reg prometheus.Registerer, topic string) *metrics {
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"topic": topic}, reg))
	what := "samples"
	switch topic {
	case buffer.TopicTraces:
		what = "spans"
	case buffer.TopicLogs:
		what = "log_records"
	}
	m := &metrics{
		messages: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_messages_total",
			Help: "Messages handed to the store, by where their batch came from: memory, or decoded again from the log.",
		}, []string{"from"}),
		setAside: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_messages_set_aside_total",
			Help: "Messages that could not be decoded and were set aside.",
		}),
		samples: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_" + what + "_total",
			Help: "What the store was handed, counted in " + strings.ReplaceAll(what, "_", " ") + ", by what it did with it.",
		}, []string{"result"}),
		sinkErrors: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_store_errors_total",
			Help: "Appends that the store could not take and that were tried again.",
		}),
		commits: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_commits_total",
			Help: "Offsets committed after the store had made their data durable.",
		}),
		commitFails: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_ingest_commit_errors_total",
			Help: "Commits of an offset that did not succeed.",
		}),
		lag: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_ingest_lag_messages",
			Help: "Messages of a partition that the store has not been given yet.",
		}, []string{"partition"}),
		deltas: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_delta_samples_total",
			Help: "Samples with delta temporality, by what became of them: added to their series' sum, or dropped and why.",
		}, []string{"result"}),
		deltaStreams: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_ingest_delta_streams",
			Help: "Series with delta temporality whose sum is kept.",
		}, []string{"partition"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_ingest_log_refused_total",
			Help: "Samples, exemplars, metadata entries, spans and log records of messages in the log that are not valid, by reason; others have produced them.",
		}, []string{"reason"}),
	}
	m.fromMemory, m.fromLog = m.messages.WithLabelValues("memory"), m.messages.WithLabelValues("log")
	m.appended = m.samples.WithLabelValues("appended")
	m.duplicates = m.samples.WithLabelValues("duplicate")
	m.conflicts = m.samples.WithLabelValues("conflict")
	m.tooOld = m.samples.WithLabelValues("too_old")
	m.outOfBounds = m.samples.WithLabelValues("out_of_bounds")
	m.seriesLimit = m.samples.WithLabelValues("series_limit")
	return m
}

func (m *metrics) countDeltas(r otlp.AccumulateResult) {
	for _, v := range []struct {
		result string
		n      int
	}{{"added", r.Added}, {"out_of_order", r.OutOfOrder}, {"older_start", r.OlderStart}, {"stream_limit", r.StreamLimit}} {
		if v.n > 0 {
			m.deltas.WithLabelValues(v.result).Add(float64(v.n))
		}
	}
}

func (m *metrics) countRefused(r *wire.Rejects) {
	if !r.Any() {
		return
	}
	for reason, n := range r.ByReason {
		if n > 0 {
			m.refused.WithLabelValues(wire.Reason(reason).String()).Add(float64(n))
		}
	}
}

func (m *metrics) count(r signal.AppendResult) {
	m.appended.Add(float64(r.Appended))
	if r.Appended == 0 || r.Duplicates > 0 || r.Rejected() > 0 {
		m.duplicates.Add(float64(r.Duplicates))
		m.conflicts.Add(float64(r.Conflicts))
		m.tooOld.Add(float64(r.TooOld))
		m.outOfBounds.Add(float64(r.OutOfBounds))
		m.seriesLimit.Add(float64(r.SeriesLimit))
	}
}
