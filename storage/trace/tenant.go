package trace

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

// tenant is one tenant's head and blocks.
//
// Locks, in this order: the store's flushMu, held while heads become blocks;
// mergeMu, held while blocks are replaced or dropped; appendMu, held by an append
// and while the head is frozen, so that a flush cuts between batches; mu, which
// guards the fields below it and is held only briefly.
type tenant struct {
	db      *DB
	name    string
	dir     string
	catalog *catalog

	mergeMu  sync.Mutex
	appendMu sync.Mutex
	taken    map[block.SourceKey]int64 // guarded by appendMu: offset below which the tenant has every batch

	mu       sync.RWMutex
	head     *head        // receives spans; nil when there are none
	flushing *head        // being written; readable
	blocks   []*blockFile // by flush number; replaced, never changed
	covered  map[block.SourceKey]int64
	next     uint32   // number of the next flush
	gone     offsets  // guarded by mergeMu: what blocks covered that were dropped
	broken   []string // blocks that were set aside

	suspectMu sync.Mutex
	suspects  map[*blockFile]error // found damaged by a View
}

func newTenant(db *DB, name string) *tenant {
	return &tenant{
		db: db, name: name, dir: filepath.Join(db.dir, name), catalog: newCatalog(),
		taken: make(map[block.SourceKey]int64), covered: make(map[block.SourceKey]int64),
	}
}

// open opens the blocks of the tenant's directory. Damaged blocks are set aside
// under their name with ".corrupt" behind it.
func (t *tenant) open() error {
	if err := block.RemoveTemporary(t.db.fs, t.dir); err != nil {
		return err
	}
	names, err := t.db.fs.List(t.dir)
	if err != nil {
		return fmt.Errorf("open tenant %s: %w", t.name, err)
	}
	if t.gone, err = readOffsets(t.db.fs, t.dir); errors.Is(err, block.ErrVersion) {
		return err
	} else if err != nil {
		// What it says is needed only where all blocks are gone.
		t.db.logger.Error("read the offsets of dropped blocks", "tenant", t.name, "err", err)
	}
	t.next = t.gone.Next
	for _, s := range t.gone.Sources {
		t.cover(s)
	}
	for _, name := range names {
		f, aside, ok := block.ParseName(name)
		if !ok {
			continue
		}
		t.next = max(t.next, f.Last+1)
		if aside {
			continue
		}
		if err := t.openBlock(name); err != nil {
			return err
		}
	}
	t.dropContained()
	for _, b := range t.blocks {
		t.coverBlock(b)
		t.catalog.addList(b.origin.Services)
	}
	for k, to := range t.covered {
		t.taken[k] = to
	}
	return nil
}

// load opens a block of the tenant.
func (t *tenant) load(dir string) (*blockFile, error) {
	b, err := openBlock(t.db.fs, dir)
	if err == nil {
		b.rows.UseCache(t.db.cache)
		b.shortest, b.longest = t.db.config.keeps(&b.origin)
	}
	return b, err
}

func (t *tenant) openBlock(name string) error {
	b, err := t.load(filepath.Join(t.dir, name))
	switch {
	case errors.Is(err, block.ErrCorruption):
		t.setAside(name, err)
	case err != nil:
		return err
	default:
		t.blocks = append(t.blocks, b)
	}
	return nil
}

// setAside renames a damaged block so that nobody opens it again but a person.
func (t *tenant) setAside(name string, reason error) {
	t.broken = append(t.broken, name)
	t.db.logger.Error("set a damaged block aside", "block", filepath.Join(t.dir, name), "err", reason)
	if err := block.SetAside(t.db.fs, filepath.Join(t.dir, name)); err != nil {
		t.db.logger.Error("rename a damaged block", "block", filepath.Join(t.dir, name), "err", err)
	}
}

// dropContained deletes blocks whose flushes another block holds too: what a
// crash between a merge and its clean-up left.
func (t *tenant) dropContained() {
	slices.SortFunc(t.blocks, func(a, b *blockFile) int { return a.origin.Compare(b.origin.Flushes) })
	kept := t.blocks[:0]
	for _, b := range t.blocks {
		if n := len(kept); n > 0 && kept[n-1].origin.Replaces(b.origin.Flushes) {
			t.drop(b)
			continue
		}
		kept = append(kept, b)
	}
	t.blocks = kept
}

// drop deletes a block once nobody reads it.
func (t *tenant) drop(b *blockFile) {
	if err := b.Drop(); err != nil {
		t.db.logger.Warn("delete block", "block", b.Dir(), "err", err)
	}
}

// coverBlock takes note of what a block holds. The caller holds mu, or is the
// only one to know t.
func (t *tenant) coverBlock(b *blockFile) {
	t.next = max(t.next, b.origin.Last+1)
	for _, s := range b.origin.Sources {
		t.cover(s)
	}
}

func (t *tenant) cover(s block.Source) { t.covered[s.Key()] = max(t.covered[s.Key()], s.To) }

// unflushed returns the lowest offset of a partition that a head has spans of.
func (t *tenant) unflushed(k block.SourceKey) (from int64, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, h := range []*head{t.flushing, t.head} {
		if h == nil {
			continue
		}
		if f, is := h.from[k]; is && (!ok || f < from) {
			from, ok = f, true
		}
	}
	return from, ok
}

// snapshotBlocks returns the blocks of now, by flush number.
func (t *tenant) snapshotBlocks() []*blockFile {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.blocks
}

// droppedIDs returns the traces of which tail sampling has dropped parts that
// arrived after a time.
func (t *tenant) droppedIDs(after int64) map[signal.TraceID]struct{} {
	out := make(map[signal.TraceID]struct{})
	for _, b := range t.snapshotBlocks() {
		if b.origin.MaxArrival < after {
			continue
		}
		b.origin.eachDropped(func(id signal.TraceID) { out[id] = struct{}{} })
	}
	return out
}

// suspect notes that a View found b damaged.
func (t *tenant) suspect(b *blockFile, err error) {
	t.suspectMu.Lock()
	defer t.suspectMu.Unlock()
	if t.suspects == nil {
		t.suspects = make(map[*blockFile]error)
	}
	t.suspects[b] = err
}

// setSuspectsAside takes the blocks that Views found damaged out of service.
func (t *tenant) setSuspectsAside() error {
	t.suspectMu.Lock()
	suspects := t.suspects
	t.suspects = nil
	t.suspectMu.Unlock()
	if len(suspects) == 0 {
		return nil
	}
	t.mergeMu.Lock()
	defer t.mergeMu.Unlock()
	var errs []error
	for _, err := range suspects {
		errs = append(errs, t.quarantine(err))
	}
	return errors.Join(errs...)
}

// quarantine takes the block that reason names out of service, so that its
// neighbours go on to be merged and read. The caller holds mergeMu.
func (t *tenant) quarantine(reason error) error {
	var c *block.CorruptionError
	if !errors.As(reason, &c) {
		return nil
	}
	t.mu.Lock()
	i := slices.IndexFunc(t.blocks, func(b *blockFile) bool { return b.Dir() == c.Block })
	if i < 0 {
		t.mu.Unlock()
		return nil
	}
	b := t.blocks[i]
	t.blocks = slices.Delete(slices.Clone(t.blocks), i, i+1)
	t.setAside(filepath.Base(b.Dir()), reason)
	t.mu.Unlock()
	t.catalog.removeList(b.origin.Services)
	return b.Unpin()
}

// close releases the blocks. Nobody may use the tenant afterwards.
func (t *tenant) close() error {
	var errs []error
	for _, b := range t.blocks {
		errs = append(errs, b.Unpin())
	}
	t.blocks = nil
	return errors.Join(errs...)
}
