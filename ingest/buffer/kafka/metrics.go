package kafka

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the buffer's own. Gauges of partitions are read when they are
// asked for, see Buffer.Collect.
type metrics struct {
	producedRecords *prometheus.CounterVec
	producedBytes   *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	requestAppends  *prometheus.HistogramVec
	appendSeconds   *prometheus.HistogramVec
	retries         *prometheus.CounterVec
	errors          *prometheus.CounterVec
	refusals        *prometheus.CounterVec
	discarded       *prometheus.CounterVec
	fetchedRecords  *prometheus.CounterVec
	fetchedBytes    *prometheus.CounterVec
	fetchErrors     *prometheus.CounterVec
	recalledBytes   *prometheus.CounterVec
	fromTail        *prometheus.CounterVec
	foreign         *prometheus.CounterVec
	skipped         *prometheus.CounterVec
	damaged         *prometheus.CounterVec
	outOfRange      *prometheus.CounterVec
	generations     *prometheus.CounterVec
	groupErrors     *prometheus.CounterVec
	commits         *prometheus.CounterVec
	commitErrors    *prometheus.CounterVec

	inFlightBytes   *prometheus.Desc
	highWatermark   *prometheus.Desc
	committedOffset *prometheus.Desc
	lagRecords      *prometheus.Desc
	assigned        *prometheus.Desc

	mu      sync.Mutex // guards members
	members []*member
}

func newMetrics() *metrics {
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vedette_buffer_kafka_" + name, Help: help},
			append([]string{"topic"}, more...))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vedette_buffer_kafka_" + name, Help: help, Buckets: buckets,
		}, []string{"topic"})
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("vedette_buffer_kafka_"+name, help, labels, nil)
	}
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 16)
	return &metrics{
		producedRecords: counter("produced_records_total", "Messages that Kafka has acknowledged."),
		producedBytes:   counter("produced_bytes_total", "Bytes of acknowledged record batches, as sent."),
		requestSeconds:  histogram("produce_request_duration_seconds", "How long acknowledged produce requests took.", seconds),
		requestAppends:  histogram("produce_request_appends", "Appends that shared one produce request.", prometheus.ExponentialBuckets(1, 2, 10)),
		appendSeconds:   histogram("append_duration_seconds", "How long acknowledged appends took, waiting included.", seconds),
		retries:         counter("produce_retries_total", "Produce requests that were sent again."),
		errors:          counter("produce_errors_total", "Produce requests that failed or were not answered."),
		refusals:        counter("full_refusals_total", "Appends that were refused, by reason (limit: too much waits, unreachable: no acknowledgement in time).", "reason"),
		discarded:       counter("discarded_attachments_total", "Decoded records that did not wait in memory for the consumer, which decodes them again."),
		fetchedRecords:  counter("fetched_records_total", "Messages that consumers got by fetching."),
		fetchedBytes:    counter("fetched_bytes_total", "Payload bytes that consumers got by fetching."),
		fetchErrors:     counter("fetch_errors_total", "Fetch requests that failed."),
		recalledBytes:   counter("recalled_bytes_total", "Bytes of record batches that were read to find out what of a repeated request is there."),
		fromTail:        counter("tail_records_total", "Messages that consumers got from memory, with what their producer had decoded."),
		foreign:         counter("foreign_records_total", "Fetched messages without our headers, read as OTLP."),
		skipped:         counter("skipped_records_total", "Empty messages of others, which were passed over."),
		damaged:         counter("damaged_batches_total", "Record batches that nobody can read, which were passed over and handed on to be set aside."),
		outOfRange:      counter("out_of_range_total", "Times a consumer's offset was not in the log any more and it went on at the oldest."),
		generations:     counter("group_generations_total", "Rebalances that this process took part in."),
		groupErrors:     counter("group_errors_total", "Failed attempts to join the group."),
		commits:         counter("commits_total", "Offsets committed."),
		commitErrors:    counter("commit_errors_total", "Commits that failed."),

		inFlightBytes:   desc("in_flight_bytes", "Payload bytes that wait for Kafka's acknowledgement."),
		highWatermark:   desc("high_watermark", "Offset behind the last message, as far as this process knows.", "topic", "partition"),
		committedOffset: desc("committed_offset", "Offset at which the group continues.", "topic", "partition", "group"),
		lagRecords:      desc("lag_records", "Messages that the group has not committed.", "topic", "partition", "group"),
		assigned:        desc("assigned_partitions", "Partitions that this process consumes.", "topic", "group"),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.producedRecords, m.producedBytes, m.requestSeconds, m.requestAppends, m.appendSeconds, m.retries, m.errors,
		m.refusals, m.discarded, m.fetchedRecords, m.fetchedBytes, m.fetchErrors, m.recalledBytes, m.fromTail, m.foreign, m.skipped, m.damaged,
		m.outOfRange, m.generations, m.groupErrors, m.commits, m.commitErrors,
	}
}

// topicMetrics are the series of one topic, looked up once.
type topicMetrics struct {
	producedRecords prometheus.Counter
	producedBytes   prometheus.Counter
	requestSeconds  prometheus.Observer
	requestAppends  prometheus.Observer
	appendSeconds   prometheus.Observer
	retries         prometheus.Counter
	errors          prometheus.Counter
	limitReached    prometheus.Counter
	unreachable     prometheus.Counter
	discarded       prometheus.Counter
	fetchedRecords  prometheus.Counter
	fetchedBytes    prometheus.Counter
	fetchErrors     prometheus.Counter
	recalledBytes   prometheus.Counter
	fromTail        prometheus.Counter
	foreign         prometheus.Counter
	skipped         prometheus.Counter
	damaged         prometheus.Counter
	outOfRange      prometheus.Counter
	generations     prometheus.Counter
	groupErrors     prometheus.Counter
	commits         prometheus.Counter
	commitErrors    prometheus.Counter
}

func (m *metrics) topic(name string) *topicMetrics {
	return &topicMetrics{
		producedRecords: m.producedRecords.WithLabelValues(name),
		producedBytes:   m.producedBytes.WithLabelValues(name),
		requestSeconds:  m.requestSeconds.WithLabelValues(name),
		requestAppends:  m.requestAppends.WithLabelValues(name),
		appendSeconds:   m.appendSeconds.WithLabelValues(name),
		retries:         m.retries.WithLabelValues(name),
		errors:          m.errors.WithLabelValues(name),
		limitReached:    m.refusals.WithLabelValues(name, "limit"),
		unreachable:     m.refusals.WithLabelValues(name, "unreachable"),
		discarded:       m.discarded.WithLabelValues(name),
		fetchedRecords:  m.fetchedRecords.WithLabelValues(name),
		fetchedBytes:    m.fetchedBytes.WithLabelValues(name),
		fetchErrors:     m.fetchErrors.WithLabelValues(name),
		recalledBytes:   m.recalledBytes.WithLabelValues(name),
		fromTail:        m.fromTail.WithLabelValues(name),
		foreign:         m.foreign.WithLabelValues(name),
		skipped:         m.skipped.WithLabelValues(name),
		damaged:         m.damaged.WithLabelValues(name),
		outOfRange:      m.outOfRange.WithLabelValues(name),
		generations:     m.generations.WithLabelValues(name),
		groupErrors:     m.groupErrors.WithLabelValues(name),
		commits:         m.commits.WithLabelValues(name),
		commitErrors:    m.commitErrors.WithLabelValues(name),
	}
}

func (m *metrics) addMember(o *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = append(m.members, o)
}

func (m *metrics) removeMember(o *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = slices.DeleteFunc(m.members, func(x *member) bool { return x == o })
}

// Describe implements prometheus.Collector.
func (b *Buffer) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range b.metrics.collectors() {
		c.Describe(ch)
	}
	m := b.metrics
	for _, d := range []*prometheus.Desc{m.inFlightBytes, m.highWatermark, m.committedOffset, m.lagRecords, m.assigned} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b *Buffer) Collect(ch chan<- prometheus.Metric) {
	m := b.metrics
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(m.inFlightBytes, b.inFlight.Load())
	for _, t := range b.topics {
		for _, p := range t.all() {
			gauge(m.highWatermark, p.highWatermark(), t.name, partitionLabel(p.index))
		}
	}
	for key, claims := range b.groupClaims() {
		gauge(m.assigned, int64(len(claims)), key.topic, key.group)
		for _, c := range claims {
			committed := c.Committed()
			index := partitionLabel(c.Partition())
			gauge(m.committedOffset, committed, key.topic, index, key.group)
			gauge(m.lagRecords, max(c.HighWatermark()-max(committed, c.Oldest()), 0), key.topic, index, key.group)
		}
	}
}

type groupKey struct{ topic, group string }

// groupClaims returns what every group that is consumed here has claimed.
func (b *Buffer) groupClaims() map[groupKey][]*claim {
	out := map[groupKey][]*claim{}
	b.metrics.mu.Lock()
	for _, m := range b.metrics.members {
		out[groupKey{m.t.name, m.group}] = nil
	}
	b.metrics.mu.Unlock()
	for _, t := range b.topics {
		for _, p := range t.all() {
			p.mu.Lock()
			for _, c := range p.claims {
				key := groupKey{t.name, c.m.group}
				out[key] = append(out[key], c)
			}
			p.mu.Unlock()
		}
	}
	return out
}
