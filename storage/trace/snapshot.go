package trace

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vedette-io/vedette/storage/block"
)

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
	if err := db.flushLocked(ctx, db.allTenants()); err != nil {
		return fmt.Errorf("snapshot to %s: %w", dir, err)
	}
	db.freezeAll()
	if err := db.eachFlush(db.allTenants(), func(t *tenant) error { return t.write(ctx, t.flushing) }); err != nil {
		return fmt.Errorf("snapshot to %s: %w", dir, err)
	}
	err := db.fs.MkdirAll(dir)
	for _, t := range db.allTenants() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = t.link(filepath.Join(dir, t.name))
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("snapshot to %s: %w", dir, err), db.fs.RemoveAll(dir))
	}
	return nil
}

// link links the tenant's blocks into the directory to.
func (t *tenant) link(to string) error {
	t.mergeMu.Lock() // no block is replaced or dropped meanwhile
	defer t.mergeMu.Unlock()
	if err := t.db.fs.MkdirAll(to); err != nil {
		return err
	}
	if t.gone.Version != 0 {
		if err := t.gone.write(t.db.fs, to); err != nil {
			return err
		}
	}
	for _, b := range t.snapshotBlocks() {
		if err := block.Link(t.db.fs, b.Dir(), filepath.Join(to, filepath.Base(b.Dir()))); err != nil {
			return err
		}
	}
	return t.db.fs.SyncDir(to)
}
