package buffer

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the embedded log's own. Gauges are read from the log when they
// are asked for, see Log.Collect.
type metrics struct {
	appendedRecords *prometheus.CounterVec
	appendedBytes   *prometheus.CounterVec
	readBytes       *prometheus.CounterVec
	fsyncSeconds    prometheus.Histogram
	appendsPerFsync prometheus.Histogram
	fsyncFailures   prometheus.Counter
	refusals        *prometheus.CounterVec
	damaged         *prometheus.CounterVec
	lostRecords     *prometheus.CounterVec
	cutBytes        *prometheus.CounterVec
	discarded       *prometheus.CounterVec
	removedSegments *prometheus.CounterVec

	backlogBytes *prometheus.Desc
	nextOffset   *prometheus.Desc
	oldestOffset *prometheus.Desc
	lagRecords   *prometheus.Desc
	segments     *prometheus.Desc
}

func newMetrics() *metrics {
	perTopic := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"topic"})
	}
	perPartition := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"topic", "partition"}, more...), nil)
	}
	return &metrics{
		appendedRecords: perTopic("vedette_buffer_appended_records_total", "Records that were acknowledged."),
		appendedBytes:   perTopic("vedette_buffer_appended_bytes_total", "Bytes of acknowledged records, headers included."),
		readBytes:       perTopic("vedette_buffer_read_bytes_total", "Payload bytes that consumers read back from disk."),
		fsyncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "vedette_buffer_fsync_duration_seconds",
			Help:    "How long an fsync of appended data took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		appendsPerFsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "vedette_buffer_fsync_appends",
			Help:    "Appends that shared one fsync.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		fsyncFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vedette_buffer_fsync_failures_total",
			Help: "Fsyncs that failed; their appends were refused and a new segment begun.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_buffer_full_refusals_total",
			Help: "Appends that were refused for want of room, by reason (disk, limit).",
		}, []string{"topic", "reason"}),
		damaged:     perTopic("vedette_buffer_damages_total", "Damaged places found in segments."),
		lostRecords: perTopic("vedette_buffer_lost_records_total", "Records that are missing because of damage."),
		cutBytes:    perTopic("vedette_buffer_cut_bytes_total", "Bytes of unfinished appends that were cut when the log opened."),
		discarded:   perTopic("vedette_buffer_discarded_attachments_total", "Decoded records that did not wait in memory for the consumer, which decodes them again."),
		removedSegments: perTopic("vedette_buffer_removed_segments_total",
			"Segments that were removed because every group is done with them."),

		backlogBytes: perPartition("vedette_buffer_backlog_bytes", "Bytes of segments on disk."),
		segments:     perPartition("vedette_buffer_segments", "Segment files on disk."),
		nextOffset:   perPartition("vedette_buffer_next_offset", "Offset that the next record will get."),
		oldestOffset: perPartition("vedette_buffer_oldest_offset", "Offset of the oldest record that is kept."),
		lagRecords:   perPartition("vedette_buffer_lag_records", "Records that the group has not committed.", "group"),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.appendedRecords, m.appendedBytes, m.readBytes, m.fsyncSeconds, m.appendsPerFsync, m.fsyncFailures,
		m.refusals, m.damaged, m.lostRecords, m.cutBytes, m.discarded, m.removedSegments,
	}
}

// topicMetrics are the counters of one topic, looked up once.
type topicMetrics struct {
	appendedRecords prometheus.Counter
	appendedBytes   prometheus.Counter
	readBytes       prometheus.Counter
	diskFull        prometheus.Counter
	limitReached    prometheus.Counter
	damaged         prometheus.Counter
	lostRecords     prometheus.Counter
	cutBytes        prometheus.Counter
	discarded       prometheus.Counter
	removedSegments prometheus.Counter
}

func (m *metrics) topic(name string) *topicMetrics {
	return &topicMetrics{
		appendedRecords: m.appendedRecords.WithLabelValues(name),
		appendedBytes:   m.appendedBytes.WithLabelValues(name),
		readBytes:       m.readBytes.WithLabelValues(name),
		diskFull:        m.refusals.WithLabelValues(name, "disk"),
		limitReached:    m.refusals.WithLabelValues(name, "limit"),
		damaged:         m.damaged.WithLabelValues(name),
		lostRecords:     m.lostRecords.WithLabelValues(name),
		cutBytes:        m.cutBytes.WithLabelValues(name),
		discarded:       m.discarded.WithLabelValues(name),
		removedSegments: m.removedSegments.WithLabelValues(name),
	}
}

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range l.metrics.collectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		l.metrics.backlogBytes, l.metrics.segments, l.metrics.nextOffset, l.metrics.oldestOffset, l.metrics.lagRecords,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	for _, c := range l.metrics.collectors() {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, t := range l.openTopics() {
		groups := t.groupList()
		for _, p := range t.partitions {
			s := p.stats()
			index := strconv.Itoa(p.index)
			gauge(l.metrics.backlogBytes, s.bytes, t.name, index)
			gauge(l.metrics.segments, int64(s.segments), t.name, index)
			gauge(l.metrics.nextOffset, s.next, t.name, index)
			gauge(l.metrics.oldestOffset, s.oldest, t.name, index)
			for _, g := range groups {
				gauge(l.metrics.lagRecords, max(s.next-max(g.committedAt(p.index), s.oldest), 0), t.name, index, g.name)
			}
		}
	}
}
