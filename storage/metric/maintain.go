package metric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/storage/block"
)

const (
	// mergeFanout is how many adjacent blocks of one level become one of the next.
	mergeFanout = 8
	// maxMergeInputs bounds what one merge reads at a time.
	maxMergeInputs = 64
	// idleAfter is how long a window must have received nothing before its blocks
	// are merged for size alone.
	idleAfter = 5 * time.Second
	// idleMergeSamples bounds the blocks that are merged because of idleness.
	idleMergeSamples = 1 << 28
	// unloadAfter is how long the index of a window that receives nothing is kept.
	unloadAfter = 15 * time.Minute
)

// Run flushes, merges and deletes until ctx ends. A store that is written to
// needs it.
func (db *DB) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { db.runFlushes(ctx) })
	wg.Go(func() { db.runMerges(ctx) })
	wg.Wait()
	return nil
}

func (db *DB) runFlushes(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.flushC:
		case <-tick.C:
			if !db.flushDue() {
				continue
			}
		}
		if err := db.Flush(ctx); err != nil && ctx.Err() == nil {
			db.logger.Error("flush heads", "err", err)
			select { // a full disk is not helped by haste
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// flushDue reports whether the heads are full or old enough.
func (db *DB) flushDue() bool {
	if db.buffered.Load() >= int64(db.config.FlushSamples) {
		return true
	}
	due := false
	oldest := db.now().Add(-db.config.FlushInterval)
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			w.mu.RLock()
			due = due || w.flushing != nil || w.table != nil && w.table.since.Before(oldest)
			w.mu.RUnlock()
		}
		return nil
	})
	return due
}

func (db *DB) runMerges(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := db.Maintain(ctx); err != nil && ctx.Err() == nil {
			db.logger.Error("maintain blocks", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
		}
	}
}

// Maintain merges what is due, drops what is past its retention and unloads
// what nobody uses. Run calls it every second.
func (db *DB) Maintain(ctx context.Context) error {
	var errs []error
	errs = append(errs, db.retain())
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			errs = append(errs, w.setSuspectsAside())
			for ctx.Err() == nil {
				blocks, last := w.plan(db.now(), db.config.OutOfOrderWindow)
				if len(blocks) == 0 {
					break
				}
				if err := db.merge(ctx, w, blocks, last); err != nil {
					errs = append(errs, err)
					break
				}
			}
			w.unload(time.Now().Add(-unloadAfter))
		}
		return nil
	})
	return errors.Join(errs...)
}

// plan chooses adjacent blocks to merge; none if nothing is due. Last says that
// the window is at rest.
func (w *window) plan(now time.Time, outOfOrder time.Duration) (blocks []*blockReader, last bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	idle := now.Sub(w.touched) >= idleAfter && w.table == nil
	closed := now.UnixMilli() > w.end+outOfOrder.Milliseconds()
	for rest := w.blocks; len(rest) > 0; {
		run := rest[:adjacent(rest)]
		if blocks = planLevel(run); len(blocks) > 0 {
			return slices.Clone(blocks), false
		}
		if idle && len(run) > 1 && (closed || isWorthwhile(run)) {
			return slices.Clone(run[max(0, len(run)-maxMergeInputs):]), true
		}
		rest = rest[len(run):]
	}
	return nil, false
}

// adjacent returns how many of some blocks, which are not none, follow one another
// from the first on. Where a damaged block was set aside, a repair may bring it back.
func adjacent(blocks []*blockReader) int {
	n := 1
	for n < len(blocks) && blocks[n].meta.Follows(blocks[n-1].meta.Flushes) {
		n++
	}
	return n
}

// planLevel chooses mergeFanout or more neighbours of one level.
func planLevel(run []*blockReader) []*blockReader {
	for from := 0; from < len(run); {
		to := from + 1
		for to < len(run) && run[to].meta.Level == run[from].meta.Level {
			to++
		}
		if to-from >= mergeFanout {
			return run[from:min(to, from+maxMergeInputs)]
		}
		from = to
	}
	return nil
}

// isWorthwhile reports whether blocks that nothing is added to are worth a merge:
// it must not write much anew for little that is joined.
func isWorthwhile(run []*blockReader) bool {
	total, largest := int64(0), int64(0)
	for _, b := range run {
		total += b.meta.Samples
		largest = max(largest, b.meta.Samples)
	}
	return total <= idleMergeSamples && (total-largest)*4 >= largest
}

// merge replaces blocks, which are adjacent, by one.
func (db *DB) merge(ctx context.Context, w *window, blocks []*blockReader, last bool) error {
	w.mergeMu.Lock()
	defer w.mergeMu.Unlock()
	return db.mergeLocked(ctx, w, blocks, last)
}

func (db *DB) mergeLocked(ctx context.Context, w *window, blocks []*blockReader, last bool) error {
	w.mu.Lock()
	for _, b := range blocks {
		if !slices.Contains(w.blocks, b) { // replaced since it was planned
			w.mu.Unlock()
			return nil
		}
	}
	err := w.loadLocked()
	w.pinIndexLocked()
	w.mu.Unlock()
	defer w.unpinIndex()
	if err != nil {
		return err
	}
	begin := time.Now()
	meta := mergedMeta(blocks, last)
	ctx, span := db.tracer.Start(ctx, "store merge", trace.WithAttributes(attribute.String("window", w.dir),
		attribute.Int("blocks", len(blocks)), attribute.Int("level", meta.Level)))
	dir := filepath.Join(w.dir, meta.Name())
	err = mergeBlocks(ctx, w.fs, dir, meta, blocks, func(out *blockWriter) {
		w.mu.RLock()
		defer w.mu.RUnlock()
		out.addDefinitions(w.index)
	})
	endSpan(span, err)
	if errors.Is(err, block.ErrCorruption) {
		return errors.Join(err, w.quarantine(blocks, err))
	}
	if err != nil {
		return fmt.Errorf("merge %d blocks of %s: %w", len(blocks), w.dir, err)
	}
	merged, err := openWritten(w.fs, dir)
	if err != nil {
		return err
	}
	w.mu.Lock()
	i := slices.Index(w.blocks, blocks[0])
	w.blocks = slices.Replace(slices.Clone(w.blocks), i, i+len(blocks), merged)
	w.mu.Unlock()
	for _, b := range blocks {
		w.drop(b)
	}
	db.metrics.merged(time.Since(begin), meta.Level, merged.meta.Samples)
	return nil
}

// quarantine takes the block that reason names out of service, so that its
// neighbours go on to be merged and read.
func (w *window) quarantine(blocks []*blockReader, reason error) error {
	var c *block.CorruptionError
	if !errors.As(reason, &c) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blocks {
		if b.Dir() != c.Block || !slices.Contains(w.blocks, b) {
			continue
		}
		w.blocks = slices.DeleteFunc(slices.Clone(w.blocks), func(o *blockReader) bool { return o == b })
		w.setAside(filepath.Base(c.Block), reason)
		return b.Unpin()
	}
	return nil
}

// setSuspectsAside takes the blocks that queries found damaged out of service.
func (w *window) setSuspectsAside() error {
	w.suspectMu.Lock()
	suspects := w.suspects
	w.suspects = nil
	w.suspectMu.Unlock()
	if len(suspects) == 0 {
		return nil
	}
	w.mergeMu.Lock()
	defer w.mergeMu.Unlock()
	var errs []error
	for b, err := range suspects {
		errs = append(errs, w.quarantine([]*blockReader{b}, err))
	}
	return errors.Join(errs...)
}

// unload lets go of the index of a window that nobody has used since a time,
// if nothing needs it, and returns how much memory that freed.
func (w *window) unload(since time.Time) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.index == nil || w.table != nil || w.flushing != nil || w.indexPins > 0 || w.used.Load() > since.UnixNano() {
		return 0
	}
	freed := int64(w.index.Bytes())
	w.index, w.newest, w.last, w.lastKind = nil, nil, nil, nil
	return freed
}

// trimIndexes unloads the least recently used indexes of windows that are not
// written to while they take more memory than IndexCacheBytes.
func (db *DB) trimIndexes() {
	type loaded struct {
		w     *window
		used  int64
		bytes int64
	}
	var idle []loaded
	total := int64(0)
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			w.mu.RLock()
			if w.index != nil && w.table == nil && w.flushing == nil {
				l := loaded{w, w.used.Load(), int64(w.index.Bytes())}
				idle = append(idle, l)
				total += l.bytes
			}
			w.mu.RUnlock()
		}
		return nil
	})
	if total <= db.config.IndexCacheBytes {
		return
	}
	slices.SortFunc(idle, func(a, b loaded) int { return cmp.Compare(a.used, b.used) })
	for _, l := range idle {
		if total <= db.config.IndexCacheBytes {
			return
		}
		total -= l.w.unload(time.Unix(0, l.used))
	}
}

func (w *window) pinIndexLocked() { w.indexPins++ }

func (w *window) unpinIndex() {
	w.mu.Lock()
	w.indexPins--
	w.mu.Unlock()
}

// retain drops windows past the retention by time and by size.
func (db *DB) retain() error {
	oldest := db.retention.now().Add(-db.config.Retention).UnixMilli()
	type sized struct {
		t     *tenant
		w     *window
		bytes int64
	}
	var windows []sized
	total := int64(0)
	var errs []error
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			if w.end <= oldest {
				errs = append(errs, db.dropWindow(t, w))
				continue
			}
			n := w.bytes()
			total += n
			windows = append(windows, sized{t, w, n})
		}
		return nil
	})
	if limit := db.config.RetentionBytes; limit > 0 && total > limit {
		slices.SortStableFunc(windows, func(a, b sized) int { return int(a.w.start/1000 - b.w.start/1000) })
		for _, s := range windows {
			if total <= limit || s.w == s.t.all()[len(s.t.all())-1] {
				continue // the window that is written to stays
			}
			errs = append(errs, db.dropWindow(s.t, s.w))
			total -= s.bytes
		}
	}
	return errors.Join(errs...)
}

// bytes returns the size of the window's blocks on disk.
func (w *window) bytes() int64 {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var n int64
	for _, b := range w.blocks {
		n += b.r.Size()
	}
	return n
}

// dropWindow deletes a window with all it holds. Queries that read it finish
// first; its files go with the last.
func (db *DB) dropWindow(t *tenant, w *window) error {
	w.mergeMu.Lock()
	defer w.mergeMu.Unlock()
	w.flushMu.Lock()
	defer w.flushMu.Unlock()
	t.appendMu.Lock()
	t.mu.Lock()
	t.windows = slices.DeleteFunc(slices.Clone(t.windows), func(o *window) bool { return o == w })
	if t.newestWindow == w {
		t.newestWindow = nil
	}
	t.mu.Unlock()
	t.appendMu.Unlock()

	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tb := range []*table{w.table, w.flushing} {
		if tb != nil {
			db.buffered.Add(-int64(tb.rows()))
			tb.unpin()
		}
	}
	w.table, w.flushing = nil, nil
	for _, b := range w.blocks {
		w.drop(b)
	}
	w.blocks = nil
	db.logger.Info("dropped a window past its retention", "window", w.dir)
	_ = w.fs.Remove(w.dir) // succeeds unless a query still reads a block
	return nil
}
