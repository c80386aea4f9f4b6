package trace

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/internal/signal"
)

const metricPrefix = "vedette_storage_trace_"

// dbMetrics are the counters of a store.
type dbMetrics struct {
	spans        prometheus.Counter
	duplicates   prometheus.Counter
	flushes      *prometheus.CounterVec
	flushSeconds prometheus.Counter
	merges       *prometheus.CounterVec
	mergeSeconds prometheus.Counter
	mergeSpans   prometheus.Counter
	droppedSpans *prometheus.CounterVec
	droppedTrace prometheus.Counter
	views        prometheus.Counter
	lookups      *prometheus.HistogramVec
}

func newDBMetrics(reg prometheus.Registerer, db *DB) *dbMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: metricPrefix + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help}, f)
	}
	m := &dbMetrics{
		spans:        counter("spans_total", "Spans that became queryable."),
		duplicates:   counter("spans_duplicate_total", "Spans dropped because the head had the same one already."),
		flushes:      vec("flushes_total", "Flushes of the heads, by result.", "result"),
		flushSeconds: counter("flush_seconds_total", "Time spent flushing heads."),
		merges:       vec("merges_total", "Merges of blocks, by the level they produce.", "level"),
		mergeSeconds: counter("merge_seconds_total", "Time spent merging blocks."),
		mergeSpans:   counter("merge_spans_total", "Spans written by merges."),
		droppedSpans: vec("dropped_spans_total", "Spans dropped from blocks, by reason: retention, service_retention, sampling, or duplicate for spans that a client sent twice.", "reason"),
		droppedTrace: counter("sampled_out_traces_total", "Traces that tail sampling dropped."),
		views:        counter("views_total", "Views that were opened by queries and merges."),
		lookups: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: metricPrefix + "lookup_duration_seconds", Help: "Time to read a trace by its id, by result: found or absent.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .1, 1},
		}, []string{"result"}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.spans, m.duplicates, m.flushes, m.flushSeconds, m.merges, m.mergeSeconds, m.mergeSpans, m.droppedSpans, m.droppedTrace, m.views, m.lookups,
		gauge("head_spans", "Spans in heads, not yet in blocks.", func() float64 { return float64(db.spans.Load()) }),
		gauge("head_bytes", "Memory held by heads.", func() float64 { return float64(db.bytes.Load()) }),
		gauge("cache_bytes", "Memory that blocks take for what is decoded of their dictionaries and shapes.", func() float64 { return float64(db.cache.Bytes()) }),
		gauge("blocks_corrupt", "Blocks that were set aside since the start because they are damaged.", func() float64 { return float64(db.totals().broken) }),
		&levelCollector{db},
	)
	return m
}

func (m *dbMetrics) observe(r *signal.AppendResult) {
	m.spans.Add(float64(r.Appended))
	m.duplicates.Add(float64(r.Duplicates))
}

func (m *dbMetrics) flushed(d time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.flushes.WithLabelValues(result).Inc()
	m.flushSeconds.Add(d.Seconds())
}

func (m *dbMetrics) merged(d time.Duration, level int, spans int64) {
	m.merges.WithLabelValues(strconv.Itoa(level)).Inc()
	m.mergeSeconds.Add(d.Seconds())
	m.mergeSpans.Add(float64(spans))
}

// retired counts spans of blocks past their retention.
func (m *dbMetrics) retired(spans int) { m.dropped("retention", spans) }

// dropped counts spans that a merge left out.
func (m *dbMetrics) dropped(reason string, spans int) {
	if spans > 0 {
		m.droppedSpans.WithLabelValues(reason).Add(float64(spans))
	}
}

func (m *dbMetrics) looked(d time.Duration, found bool) {
	result := "absent"
	if found {
		result = "found"
	}
	m.lookups.WithLabelValues(result).Observe(d.Seconds())
}

// levelTotals sums over blocks of one level.
type levelTotals struct {
	blocks       int
	spans, bytes int64
}

// totals sums over all tenants.
type totals struct {
	blocks, broken int
	spans, bytes   int64
	levels         map[int]levelTotals
}

func (db *DB) totals() totals {
	s := totals{levels: make(map[int]levelTotals)}
	for _, t := range db.allTenants() {
		t.mu.RLock()
		s.broken += len(t.broken)
		for _, b := range t.blocks {
			l := s.levels[b.origin.Level]
			l.blocks++
			l.spans += int64(b.spans())
			l.bytes += b.size()
			s.levels[b.origin.Level] = l
			s.blocks++
			s.spans += int64(b.spans())
			s.bytes += b.size()
		}
		t.mu.RUnlock()
	}
	return s
}

// levelCollector tells what blocks there are.
type levelCollector struct{ db *DB }

var (
	blocksDesc     = prometheus.NewDesc(metricPrefix+"blocks", "Blocks on disk, by level.", []string{"level"}, nil)
	blockSpansDesc = prometheus.NewDesc(metricPrefix+"blocks_spans", "Spans in blocks, by level.", []string{"level"}, nil)
	blockBytesDesc = prometheus.NewDesc(metricPrefix+"blocks_bytes", "Bytes of the blocks on disk, by level.", []string{"level"}, nil)
)

// Describe is prometheus.Collector's.
func (c *levelCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{blocksDesc, blockSpansDesc, blockBytesDesc} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *levelCollector) Collect(ch chan<- prometheus.Metric) {
	for level, l := range c.db.totals().levels {
		name := strconv.Itoa(level)
		ch <- prometheus.MustNewConstMetric(blocksDesc, prometheus.GaugeValue, float64(l.blocks), name)
		ch <- prometheus.MustNewConstMetric(blockSpansDesc, prometheus.GaugeValue, float64(l.spans), name)
		ch <- prometheus.MustNewConstMetric(blockBytesDesc, prometheus.GaugeValue, float64(l.bytes), name)
	}
}
