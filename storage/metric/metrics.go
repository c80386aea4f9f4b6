package metric

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/internal/signal"
)

// dbMetrics are the counters of a store.
type dbMetrics struct {
	samples       prometheus.Counter
	rejected      *prometheus.CounterVec
	duplicates    prometheus.Counter
	seriesCreated prometheus.Counter
	flushes       *prometheus.CounterVec
	flushSeconds  prometheus.Counter
	merges        *prometheus.CounterVec
	mergeSeconds  prometheus.Counter
	mergeSamples  prometheus.Counter
}

func newDBMetrics(reg prometheus.Registerer, db *DB) *dbMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "vedette_storage_metric_" + name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vedette_storage_metric_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vedette_storage_metric_" + name, Help: help}, f)
	}
	m := &dbMetrics{
		samples:       counter("samples_total", "Samples that became queryable."),
		rejected:      vec("samples_rejected_total", "Samples that were refused, by reason.", "reason"),
		duplicates:    counter("samples_duplicate_total", "Samples dropped because the same one was there already."),
		seriesCreated: counter("series_created_total", "Series that appeared in a window for the first time."),
		flushes:       vec("flushes_total", "Flushes of the heads, by result.", "result"),
		flushSeconds:  counter("flush_seconds_total", "Time spent flushing heads."),
		merges:        vec("merges_total", "Merges of blocks, by the level they produce.", "level"),
		mergeSeconds:  counter("merge_seconds_total", "Time spent merging blocks."),
		mergeSamples:  counter("merge_samples_total", "Samples written by merges."),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.samples, m.rejected, m.duplicates, m.seriesCreated, m.flushes, m.flushSeconds, m.merges, m.mergeSeconds, m.mergeSamples,
		gauge("head_samples", "Samples in heads, not yet in blocks.", func() float64 { return float64(db.buffered.Load()) }),
		gauge("series", "Series in the newest window of every tenant.", func() float64 { return float64(db.totals().series) }),
		gauge("blocks", "Blocks on disk.", func() float64 { return float64(db.totals().blocks) }),
		gauge("blocks_bytes", "Bytes of the blocks on disk.", func() float64 { return float64(db.totals().bytes) }),
		gauge("blocks_corrupt", "Blocks that were set aside since the start because they are damaged.", func() float64 { return float64(db.totals().broken) }),
		gauge("index_bytes", "Memory held by the indexes of loaded windows.", func() float64 { return float64(db.totals().indexBytes) }),
	)
	return m
}

func (m *dbMetrics) observe(r *signal.AppendResult) {
	m.samples.Add(float64(r.Appended))
	m.duplicates.Add(float64(r.Duplicates))
	for _, c := range []struct {
		reason string
		n      int
	}{{"conflict", r.Conflicts}, {"too_old", r.TooOld}, {"out_of_bounds", r.OutOfBounds}, {"series_limit", r.SeriesLimit}} {
		if c.n > 0 {
			m.rejected.WithLabelValues(c.reason).Add(float64(c.n))
		}
	}
}

func (m *dbMetrics) flushed(d time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.flushes.WithLabelValues(result).Inc()
	m.flushSeconds.Add(d.Seconds())
}

func (m *dbMetrics) merged(d time.Duration, level int, samples int64) {
	m.merges.WithLabelValues(strconv.Itoa(level)).Inc()
	m.mergeSeconds.Add(d.Seconds())
	m.mergeSamples.Add(float64(samples))
}

// totals sums over all windows.
type totals struct {
	series, blocks, broken int
	bytes, indexBytes      int64
}

func (db *DB) totals() totals {
	var s totals
	_ = db.eachTenant(func(t *tenant) error {
		ws := t.all()
		for i, w := range ws {
			w.mu.RLock()
			s.blocks += len(w.blocks)
			s.broken += len(w.broken)
			for _, b := range w.blocks {
				s.bytes += b.r.Size()
			}
			if w.index != nil {
				s.indexBytes += int64(w.index.Bytes())
			}
			if i == len(ws)-1 {
				s.series += max(int(w.series), len(w.newest))
			}
			w.mu.RUnlock()
		}
		return nil
	})
	return s
}
