package log

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	files       *prometheus.GaugeVec
	lag         prometheus.Gauge
	waiting     prometheus.Gauge
	records     prometheus.Counter
	bytes       prometheus.Counter
	events      *prometheus.CounterVec
	unparsed    *prometheus.CounterVec
	replaced    prometheus.Counter
	split       prometheus.Counter
	refused     prometheus.Counter
	failures    *prometheus.CounterVec
	checkpoints prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		files: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vedette_collector_log_files",
			Help: "Log files by state: live, rotated (renamed or deleted, and read to their end), open.",
		}, []string{"state"}),
		lag: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_collector_log_unread_bytes",
			Help: "Bytes of log files that have not been acknowledged, as of the last look.",
		}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "vedette_collector_log_waiting",
			Help: "1 while a request is refused and tried again.",
		}),
		records: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_records_total",
			Help: "Log records that were acknowledged.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_bytes_total",
			Help: "Bytes of files that were acknowledged.",
		}),
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_log_file_events_total",
			Help: "What happened to files: found, rotated, truncated, copied (and the copy read on), finished, lost (gone before they were read to their end, or not known to be).",
		}, []string{"event"}),
		unparsed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_log_unparsed_lines_total",
			Help: "Lines that are not in the format of their source and were taken as plain text, by format: docker, cri, json.",
		}, []string{"format"}),
		replaced: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_invalid_text_total",
			Help: "Records with bytes that are no text in their encoding, which were replaced.",
		}),
		split: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_split_records_total",
			Help: "Records that are a part of a line longer than max_line_bytes.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_refused_requests_total",
			Help: "Requests of which the door has refused a part or, for good, all.",
		}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_log_failures_total",
			Help: "What did not succeed and is tried again: open, read, write (of a request), checkpoint.",
		}, []string{"at"}),
		checkpoints: f.NewCounter(prometheus.CounterOpts{
			Name: "vedette_collector_log_checkpoints_total",
			Help: "Checkpoints that were written.",
		}),
	}
}
