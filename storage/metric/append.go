package metric

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/index"
)

// maxFuture is how far ahead of the clock a sample may be. Doors refuse much
// less; this keeps a wrong clock from opening windows far away.
const maxFuture = 48 * time.Hour

// AppendMetrics adds a batch that stands at offset of a log's partition.
// Batches of one partition come in the order of their offsets. What the blocks
// hold already is skipped, so a log may be replayed from anywhere below Durable.
// When AppendMetrics returns, queries see the samples. It waits while heads are
// full and cannot be flushed fast enough; an error means that the store cannot
// take the batch now.
//
// The batch is not used after the call.
func (db *DB) AppendMetrics(ctx context.Context, b *signal.Metrics, source, topic string, partition int32, offset int64) (signal.AppendResult, error) {
	if err := db.waitForRoom(ctx); err != nil {
		return signal.AppendResult{}, err
	}
	t, err := db.tenant(b.Tenant)
	if err != nil {
		return signal.AppendResult{}, err
	}
	a := appender{db: db, t: t, b: b, now: db.now(), key: block.SourceKey{Source: source, Topic: topic, Partition: partition}, offset: offset}
	a.minTime = a.now.Add(-db.config.Retention).UnixMilli()
	a.maxTime = a.now.Add(maxFuture).UnixMilli()

	t.appendMu.Lock()
	err = a.run()
	if err == nil {
		db.applied(a.key, offset+1) // before a flush can cut behind the batch
	}
	t.appendMu.Unlock()
	if err != nil {
		return a.res, err
	}
	db.metrics.observe(&a.res)
	if db.buffered.Load() >= int64(db.config.FlushSamples) {
		db.wakeFlush()
	}
	return a.res, nil
}

// appender is the state of one AppendMetrics.
type appender struct {
	db     *DB
	t      *tenant
	b      *signal.Metrics
	res    signal.AppendResult
	now    time.Time
	key    block.SourceKey
	offset int64

	minTime, maxTime int64

	w    *window // whose mu is held for writing; nil if none is
	skip bool    // w's blocks hold this batch already
	hint index.Ref
	rows int

	// What the last series of the batch that was looked up is in w.
	series int
	ref    index.Ref
	found  lookup
}

type lookup uint8

const (
	notLooked lookup = iota
	known
	refused
)

func (a *appender) run() error {
	defer a.leave()
	a.series = -1
	if err := a.floats(); err != nil {
		return err
	}
	for i := range a.b.Histograms {
		if err := a.histogram(&a.b.Histograms[i]); err != nil {
			return err
		}
	}
	for i := range a.b.Exemplars {
		if err := a.exemplar(&a.b.Exemplars[i]); err != nil {
			return err
		}
	}
	if len(a.b.Metadata) > 0 {
		return a.metadata()
	}
	return nil
}

func (a *appender) floats() error {
	b := a.b
	from := 0
	for i := range b.Hash {
		end := int(b.SampleEnd[i])
		for s := from; s < end; s++ {
			if err := a.float(i, s); err != nil {
				return err
			}
		}
		from = end
	}
	return nil
}

// float appends sample s, of series i.
func (a *appender) float(i, s int) error {
	time, value := a.b.Times[s], a.b.Values[s]
	ref, ok, err := a.place(i, time)
	if !ok {
		return err
	}
	w := a.w
	newest := w.newest[ref]
	if time <= newest {
		if !a.admit(i, ref, time, value, newest) {
			return nil
		}
		w.table.outOfOrder = true
	} else {
		w.newest[ref], w.last[ref], w.lastKind[ref] = time, value, lastFloat
	}
	w.table.append(ref, time, value)
	w.table.cover(time)
	a.rows++
	a.res.Appended++
	if len(a.b.Starts) > 0 && a.b.Starts[s] != 0 {
		w.table.starts = append(w.table.starts, startRow{ref, time, a.b.Starts[s]})
	}
	return nil
}

// place enters the window of a sample of series i and finds the series in it; ok
// is false if the sample is refused, or there already.
func (a *appender) place(i int, time int64) (ref index.Ref, ok bool, err error) {
	if a.w == nil || time < a.w.start || time >= a.w.end {
		if ok, err := a.enter(time, i); !ok || err != nil {
			return 0, false, err
		}
	}
	if a.skip {
		return 0, false, nil
	}
	if ref, ok = a.lookup(i); !ok {
		a.res.SeriesLimit++
		return 0, false, nil
	}
	return ref, a.t.newestWindow == a.w || !a.tooOldBeside(i, time), nil
}

// admit decides about a sample that is not newer than its series' newest.
func (a *appender) admit(i int, ref index.Ref, time int64, value float64, newest int64) bool {
	w := a.w
	switch {
	case time < newest-a.db.outOfOrderMs:
		a.res.TooOld++
		a.reject(i, time, "it is older than the series' newest sample at %d by more than the out-of-order window of %s", newest, a.db.config.OutOfOrderWindow)
		return false
	case time < newest:
		return true
	case w.lastKind[ref] == lastFloat && math.Float64bits(w.last[ref]) != math.Float64bits(value):
		a.res.Conflicts++
		a.reject(i, time, "the series has another value at this timestamp; the first one stays")
	case w.lastKind[ref] == lastHistogram:
		a.res.Conflicts++
		a.reject(i, time, "the series has a native histogram at this timestamp; it stays")
	default:
		a.res.Duplicates++
	}
	return false
}

// tooOldBeside reports whether a sample for an older window is too old beside
// what newer windows have of its series.
func (a *appender) tooOldBeside(i int, time int64) bool {
	windows := a.t.all()
	for n := len(windows) - 1; n >= 0 && windows[n].start > a.w.start; n-- {
		newest, ok := windows[n].newestOf(a.b.Hash[i])
		if !ok {
			continue
		}
		if time >= newest-a.db.outOfOrderMs {
			return false
		}
		a.res.TooOld++
		a.reject(i, time, "it is older than the series' newest sample at %d by more than the out-of-order window of %s", newest, a.db.config.OutOfOrderWindow)
		return true
	}
	return false
}

// newestOf returns the time of the newest sample of a series.
func (w *window) newestOf(h labels.Hash) (int64, bool) {
	if err := w.acquire(); err != nil {
		return 0, false
	}
	defer w.mu.RUnlock()
	ref, ok := w.index.Find(h, 0)
	if !ok {
		return 0, false
	}
	return w.newest[ref], true
}

// lookup returns the reference of series i of the batch in a.w, and adds it if
// it is new.
func (a *appender) lookup(i int) (index.Ref, bool) {
	if a.series == i && a.found != notLooked {
		return a.ref, a.found == known
	}
	w := a.w
	ref, ok := w.index.Find(a.b.Hash[i], a.hint)
	if !ok {
		ref, ok = a.create(i)
	}
	a.series, a.ref, a.found = i, ref, refused
	if ok {
		a.found = known
		a.hint = ref + 1
	}
	return ref, ok
}

func (a *appender) create(i int) (index.Ref, bool) {
	w, c := a.w, &a.db.config
	canon := a.b.Bytes(a.b.Labels[i])
	if c.MaxSeries > 0 && w.index.Len() >= c.MaxSeries {
		a.reject(i, 0, "the tenant has %d series, the limit", w.index.Len())
		return 0, false
	}
	if c.MaxSeriesPerMetric > 0 {
		if f, ok := w.index.FamilyByName(nameOf(canon)); ok && len(w.index.FamilyRefs(f)) >= c.MaxSeriesPerMetric {
			a.reject(i, 0, "the metric has %d series, the limit", c.MaxSeriesPerMetric)
			return 0, false
		}
	}
	ref, err := w.index.Add(a.b.Hash[i], canon)
	if err != nil {
		a.reject(i, 0, "%v", err)
		return 0, false
	}
	w.newest = append(w.newest, math.MinInt64)
	w.last = append(w.last, 0)
	w.lastKind = append(w.lastKind, lastUnknown)
	a.db.metrics.seriesCreated.Inc()
	return ref, true
}

// enter makes the window of time the current one. It returns false if the
// sample is out of bounds.
func (a *appender) enter(t int64, i int) (bool, error) {
	if t < a.minTime || t > a.maxTime {
		a.res.OutOfBounds++
		a.reject(i, t, "it is outside of the retention from %d to %d", a.minTime, a.maxTime)
		return false, nil
	}
	a.leave()
	w, err := a.t.window(t)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	if err := w.loadLocked(); err != nil {
		w.mu.Unlock()
		return false, err
	}
	a.w, a.series, a.found = w, -1, notLooked
	a.skip = a.offset < w.durable[a.key]
	w.touched = a.now
	w.used.Store(time.Now().UnixNano())
	if !a.skip && w.table == nil {
		w.table = newTable(a.now)
	}
	if !a.skip {
		if _, ok := w.table.sources[a.key]; !ok {
			w.table.sources[a.key] = a.offset
		}
	}
	return true, nil
}

// leave lets go of the current window.
func (a *appender) leave() {
	if a.w == nil {
		return
	}
	a.w.mu.Unlock()
	a.w = nil
	a.db.buffered.Add(int64(a.rows))
	a.rows = 0
}

func (a *appender) histogram(h *signal.HistogramSample) error {
	i := int(h.Series)
	ref, ok, err := a.place(i, h.Time)
	if !ok {
		return err
	}
	w := a.w
	newest := w.newest[ref]
	switch {
	case h.Time == newest && w.lastKind[ref] == lastFloat:
		a.res.Conflicts++
		a.reject(i, h.Time, "the series has a float at this timestamp; it stays")
		return nil
	case h.Time == newest:
		a.res.Duplicates++
		return nil
	case h.Time < newest && !a.admit(i, ref, h.Time, 0, newest):
		return nil
	case h.Time > newest:
		w.newest[ref], w.lastKind[ref] = h.Time, lastHistogram
	}
	w.table.histograms = append(w.table.histograms, histogramRow{ref, h.Time, Histogram{h.Int, h.Float}})
	w.table.cover(h.Time)
	a.rows++
	a.res.Appended++
	a.res.Histograms++
	if h.Start != 0 {
		w.table.starts = append(w.table.starts, startRow{ref, h.Time, h.Start})
	}
	return nil
}

func (a *appender) exemplar(e *signal.Exemplar) error {
	i := int(e.Series)
	if a.w == nil || e.Time < a.w.start || e.Time >= a.w.end {
		if e.Time < a.minTime || e.Time > a.maxTime {
			return nil
		}
		if ok, err := a.enter(e.Time, i); !ok || err != nil {
			return err
		}
	}
	if a.skip {
		return nil
	}
	ref, ok := a.lookup(i)
	if !ok {
		return nil
	}
	a.w.table.exemplars = append(a.w.table.exemplars, exemplarRow{ref, e.Time, e.Value, string(a.b.Bytes(e.Labels))})
	a.rows++
	a.res.Exemplars++
	return nil
}

// metadata keeps what changed. It belongs to no time; the block of the current
// window carries it.
func (a *appender) metadata() error {
	var changed []signal.Metadata
	a.t.metadataMu.Lock()
	for _, m := range a.b.Metadata {
		if a.t.metadata.add(m) {
			changed = append(changed, m)
		}
	}
	a.t.metadataMu.Unlock()
	if len(changed) == 0 {
		return nil
	}
	if ok, err := a.enter(a.now.UnixMilli(), 0); !ok || err != nil {
		return err
	}
	if !a.skip {
		a.w.table.metadata = append(a.w.table.metadata, changed...)
		a.rows += len(changed)
	}
	return nil
}

// reject describes the first sample that is refused.
func (a *appender) reject(i int, time int64, format string, args ...any) {
	if a.res.FirstError != "" {
		return
	}
	series := formatCanonical(a.b.Bytes(a.b.Labels[i]))
	a.res.FirstError = fmt.Sprintf("refuse sample of %s at %d: ", series, time) + fmt.Sprintf(format, args...)
}
