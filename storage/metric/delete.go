package metric

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/vedette-io/vedette/storage/block"
)

// Delete hides the samples of sel that are stored now; what is written later is
// not affected. Heads are flushed first. The bytes go with the next merge, or
// with CleanTombstones.
func (db *DB) Delete(ctx context.Context, sel Selector) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if err := db.flushLocked(ctx); err != nil {
		return fmt.Errorf("delete series: %w", err)
	}
	t := db.lookupTenant(sel.Tenant)
	if t == nil {
		return nil
	}
	for _, w := range t.overlapping(sel.MinTime, sel.MaxTime) {
		if err := w.delete(sel); err != nil {
			return fmt.Errorf("delete series: %w", err)
		}
	}
	return nil
}

func (w *window) delete(sel Selector) error {
	w.mergeMu.Lock()
	defer w.mergeMu.Unlock()
	if err := w.acquire(); err != nil {
		return err
	}
	refs := slices.Clone(w.index.Match(sel.Matchers))
	blocks := slices.Clone(w.blocks)
	w.mu.RUnlock()
	if len(refs) == 0 {
		return nil
	}
	for _, b := range blocks {
		if b.meta.MinTime > sel.MaxTime || b.meta.MaxTime < sel.MinTime {
			continue
		}
		// Series that the block has nothing of do no harm but make the file longer.
		if err := b.tombstone(deletion{Series: refs, Min: sel.MinTime, Max: sel.MaxTime}); err != nil {
			return err
		}
	}
	return nil
}

// CleanTombstones rewrites the blocks that hold deleted samples.
func (db *DB) CleanTombstones(ctx context.Context) error {
	var errs []error
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			errs = append(errs, db.cleanWindow(ctx, w))
		}
		return nil
	})
	return errors.Join(errs...)
}

func (db *DB) cleanWindow(ctx context.Context, w *window) error {
	w.mergeMu.Lock()
	defer w.mergeMu.Unlock()
	w.mu.RLock()
	blocks := slices.Clone(w.blocks)
	w.mu.RUnlock()
	for _, b := range blocks {
		if b.tombstones.Load() == nil {
			continue
		}
		if err := db.mergeLocked(ctx, w, []*blockReader{b}, true); err != nil {
			return fmt.Errorf("clean tombstones: %w", err)
		}
	}
	return nil
}

// Compact merges the blocks of every window into one each, as far as no block
// between them was set aside as damaged.
func (db *DB) Compact(ctx context.Context) error {
	var errs []error
	_ = db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			w.mu.RLock()
			blocks := slices.Clone(w.blocks)
			w.mu.RUnlock()
			for len(blocks) > 0 {
				n := adjacent(blocks)
				if n > 1 {
					errs = append(errs, db.merge(ctx, w, blocks[:n], true))
				}
				blocks = blocks[n:]
			}
		}
		return nil
	})
	return errors.Join(errs...)
}

// Snapshot flushes the heads and links every block into dir, which must not
// exist, so that Open finds the same data there. Blocks are immutable: the
// links cost no space until the originals are merged away.
func (db *DB) Snapshot(ctx context.Context, dir string) error {
	db.flushMu.Lock()
	defer db.flushMu.Unlock()
	if _, err := db.fs.Stat(dir); err == nil {
		return fmt.Errorf("snapshot to %s: it exists", dir)
	}
	// What came in during the first flush is frozen at one moment, so that no tenant
	// holds more of a log than another: a restored store reads on from there.
	if err := db.flushLocked(ctx); err != nil {
		return fmt.Errorf("snapshot to %s: %w", dir, err)
	}
	db.freezeAll()
	if err := db.eachFlush(func(t *tenant) error { return t.write(ctx, t.all()) }); err != nil {
		return fmt.Errorf("snapshot to %s: %w", dir, err)
	}
	err := db.eachTenant(func(t *tenant) error {
		for _, w := range t.all() {
			if err := ctx.Err(); err != nil {
				return err
			}
			to := filepath.Join(dir, t.name, metricsDir, filepath.Base(w.dir))
			if err := w.link(to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot to %s: %w", dir, err), db.fs.RemoveAll(dir))
	}
	return nil
}

// link links the window's blocks into the directory to.
func (w *window) link(to string) error {
	w.mergeMu.Lock() // no block is replaced, no tombstone written meanwhile
	defer w.mergeMu.Unlock()
	if err := w.fs.MkdirAll(to); err != nil {
		return err
	}
	w.mu.RLock()
	blocks := slices.Clone(w.blocks)
	w.mu.RUnlock()
	for _, b := range blocks {
		if err := block.Link(w.fs, b.Dir(), filepath.Join(to, filepath.Base(b.Dir()))); err != nil {
			return err
		}
	}
	return w.fs.SyncDir(to)
}
