package metric

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// window is a tenant's data of one stretch of time: an index, a head and
// blocks.
//
// Locks, in this order: mergeMu, held while blocks are replaced or get
// tombstones; flushMu, held while the head becomes a block; mu, which guards the
// fields and is held only briefly, but for loading the index.
type window struct {
	fs     vfs.FS
	dir    string
	start  int64 // unix milliseconds, inclusive
	end    int64 // exclusive
	logger *slog.Logger

	mergeMu sync.Mutex
	flushMu sync.Mutex

	mu       sync.RWMutex
	index    *index.Index // nil while not loaded
	newest   []int64      // by ref: time of the newest sample
	last     []float64    // by ref: value of the newest sample
	lastKind []lastKind   // by ref

	table    *table // receives samples; nil when there are none
	flushing *table // being written; readable

	blocks  []*blockReader // by flush number
	next    uint32         // number of the next flush
	durable map[block.SourceKey]int64
	pairs   uint32 // pairs and series that blocks define
	series  uint32

	indexPins int          // merges that read the index: it is not unloaded meanwhile
	touched   time.Time    // last append, for idle merges
	used      atomic.Int64 // last append or query, unix nanoseconds, for unloading
	broken    []string     // blocks that were set aside

	suspectMu sync.Mutex
	suspects  map[*blockReader]error // found damaged by a query
}

// lastKind says what is known of a series' newest sample.
type lastKind uint8

const (
	lastUnknown   lastKind = iota // time only, after a restart
	lastFloat                     // last holds the value
	lastHistogram                 // it was a histogram
)

// openWindow opens the blocks of a window's directory, which may be new.
// Damaged blocks are set aside under their name with ".corrupt" behind it.
func openWindow(fs vfs.FS, dir string, start, length int64, logger *slog.Logger) (*window, error) {
	w := &window{fs: fs, dir: dir, start: start, end: start + length, logger: logger, durable: make(map[block.SourceKey]int64)}
	if err := fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open window %s: %w", dir, err)
	}
	if err := block.RemoveTemporary(fs, dir); err != nil {
		return nil, err
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("open window %s: %w", dir, err)
	}
	for _, name := range names {
		f, aside, ok := block.ParseName(name)
		if !ok {
			continue
		}
		w.next = max(w.next, f.Last+1)
		b, err := openBlock(fs, filepath.Join(dir, name))
		switch {
		case aside && err == nil:
			// A repair may bring it back, with the series that it defines.
			w.coverSeries(&b.meta)
			if err := b.Unpin(); err != nil {
				return nil, errors.Join(err, w.close())
			}
		case aside: // nothing of it can be read
		case errors.Is(err, block.ErrCorruption):
			w.setAside(name, err)
		case err != nil:
			return nil, errors.Join(err, w.close())
		default:
			w.blocks = append(w.blocks, b)
		}
	}
	w.dropContained()
	for _, b := range w.blocks {
		w.cover(b)
	}
	return w, nil
}

// setAside renames a damaged block so that nobody opens it again but a person.
func (w *window) setAside(name string, reason error) {
	w.broken = append(w.broken, name)
	w.logger.Error("set a damaged block aside", "block", filepath.Join(w.dir, name), "err", reason)
	if err := block.SetAside(w.fs, filepath.Join(w.dir, name)); err != nil {
		w.logger.Error("rename a damaged block", "block", filepath.Join(w.dir, name), "err", err)
	}
}

// suspect notes that a query found b damaged.
func (w *window) suspect(b *blockReader, err error) {
	w.suspectMu.Lock()
	defer w.suspectMu.Unlock()
	if w.suspects == nil {
		w.suspects = make(map[*blockReader]error)
	}
	w.suspects[b] = err
}

// dropContained deletes blocks whose flushes another block holds too: what a
// crash between a merge and its clean-up left.
func (w *window) dropContained() {
	slices.SortFunc(w.blocks, func(a, b *blockReader) int { return a.meta.Compare(b.meta.Flushes) })
	kept := w.blocks[:0]
	for _, b := range w.blocks {
		if n := len(kept); n > 0 && kept[n-1].meta.Replaces(b.meta.Flushes) {
			w.drop(b)
			continue
		}
		kept = append(kept, b)
	}
	w.blocks = kept
}

// drop deletes a block once nobody reads it.
func (w *window) drop(b *blockReader) {
	if err := b.Drop(); err != nil {
		w.logger.Warn("delete block", "block", b.Dir(), "err", err)
	}
}

// cover takes note of what a block holds.
func (w *window) cover(b *blockReader) {
	m := &b.meta
	w.next = max(w.next, m.Last+1)
	w.coverSeries(m)
	for _, s := range m.Sources {
		w.durable[s.Key()] = max(w.durable[s.Key()], s.To)
	}
}

// coverSeries takes note of which series a block defines.
func (w *window) coverSeries(m *Meta) {
	w.pairs = max(w.pairs, m.FirstPair+m.Pairs)
	w.series = max(w.series, m.FirstSeries+m.Series)
}

// loadLocked builds the index from the blocks, unless it is there.
func (w *window) loadLocked() error {
	if w.index != nil {
		return nil
	}
	x := index.New()
	for _, b := range w.blocks {
		if err := b.definitions(x); err != nil {
			// What follows is padded; the block's samples of known series stay.
			w.logger.Error("read series of a block", "block", b.Dir(), "err", err)
		}
	}
	if err := x.PadTo(max(int(w.pairs), x.Pairs()), max(int(w.series), x.Len())); err != nil {
		return fmt.Errorf("load window %s: %w", w.dir, err)
	}
	w.index = x
	w.newest = make([]int64, x.Len())
	w.last = make([]float64, x.Len())
	w.lastKind = make([]lastKind, x.Len())
	for i := range w.newest {
		w.newest[i] = math.MinInt64
	}
	for _, b := range w.blocks {
		if err := w.loadNewest(b); err != nil {
			w.logger.Error("read newest samples of a block", "block", b.Dir(), "err", err)
		}
	}
	return nil
}

// loadNewest learns the time of the newest sample of every series in b.
func (w *window) loadNewest(b *blockReader) error {
	if err := b.loadKeys(); err != nil {
		return err
	}
	var p chunkPage
	ends := make(map[uint32]int64) // last timestamp by column
	cursor := newTimesCursor(b, math.MaxInt64-1, math.MaxInt64)
	for i := range b.keys {
		if err := b.readChunks(i, &p); err != nil {
			return err
		}
		for e := range p.len() {
			if int(p.series[e]) >= len(w.newest) {
				continue
			}
			end, ok := ends[p.column[e]]
			if !ok {
				d, err := cursor.get(p.column[e])
				if err != nil {
					return err
				}
				end = d.times[len(d.times)-1]
				ends[p.column[e]] = end
			}
			w.newest[p.series[e]] = max(w.newest[p.series[e]], end)
		}
	}
	return nil
}

// acquire returns the window with its index loaded and mu held for reading; the
// caller unlocks.
func (w *window) acquire() error {
	w.used.Store(time.Now().UnixNano())
	w.mu.RLock()
	if w.index != nil {
		return nil
	}
	w.mu.RUnlock()
	w.mu.Lock()
	err := w.loadLocked()
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.mu.RLock()
	if w.index == nil { // unloaded in between; rare enough to try once more
		w.mu.RUnlock()
		return w.acquire()
	}
	return nil
}

// freeze makes the table, if there is one and no other is being flushed, the one
// that flushes. The caller holds the tenant's appendMu, so that the cut is between
// batches. Applied are the offsets below which all batches of a log are complete;
// one that broke off halfway is behind them and will come again.
func (w *window) freeze(applied map[block.SourceKey]int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.table
	if w.flushing != nil || t == nil {
		return false
	}
	w.table = nil
	if t.rows() == 0 {
		return false
	}
	for k, from := range t.sources {
		t.covers = append(t.covers, k.Range(from, max(from, applied[k])))
	}
	w.flushing = t
	return true
}

// flush writes a frozen table as a block. The caller holds flushMu; on error
// the table goes on to be readable and flush may be called again.
func (w *window) flush(t *table) error {
	// The index may grow meanwhile, so the block is made under the read lock in
	// the parts that look at it: definitions and order are copied first.
	w.mu.RLock()
	x := w.index
	meta := Meta{
		WindowStart: w.start, WindowMs: w.end - w.start, Flushes: block.Flushes{First: w.next, Last: w.next},
		FirstPair: w.pairs, Pairs: uint32(x.Pairs()) - w.pairs,
		FirstSeries: w.series, Series: uint32(x.Len()) - w.series,
	}
	for _, s := range t.covers {
		meta.Sources = block.AddSource(meta.Sources, s)
	}
	series := x.Len()
	w.mu.RUnlock()

	dir := filepath.Join(w.dir, meta.Name())
	out, err := newBlockWriter(w.fs, dir, meta)
	if err != nil {
		return err
	}
	rows := sortRows(t.runs, t.n, series, t.outOfOrder)
	w.writeTable(out, t, rows)
	if err := out.close(); err != nil {
		return err
	}
	b, err := openWritten(w.fs, dir)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.blocks = append(w.blocks, b)
	w.cover(b)
	w.flushing = nil
	w.mu.Unlock()
	t.unpin()
	return nil
}

// writeTable writes the samples of a table in the order of their families.
func (w *window) writeTable(out *blockWriter, t *table, rows *sortedRows) {
	series := len(rows.start) - 1
	hists := groupRows(t.histograms, series)
	starts := groupRows(t.starts, series)
	var times []int64
	var values []float64
	var p part
	w.eachInOrder(series, func(f index.Family, ref index.Ref) {
		ts, vs := rows.of(ref)
		column := uint32(0)
		if len(ts) > 0 {
			if !strictlyAscending(ts) {
				times, values = uniqueFirst(times[:0], values[:0], ts, vs)
				ts, vs = times, values
			}
			column = out.addTimes(ts)
			out.addFloats(key{f, ref, kindFloats}, column, vs)
		}
		if rows := hists.of(ref); len(rows) > 0 {
			p.times, p.hists = p.times[:0], p.hists[:0]
			eachFirst(rows, func(t int64, r *histogramRow) {
				p.times, p.hists = append(p.times, t), append(p.hists, encoding.Histogram(r.h))
			})
			out.addHistograms(key{f, ref, kindHistograms}, out.addTimes(p.times), p.hists)
		}
		if rows := starts.of(ref); len(rows) > 0 {
			p.times, p.starts = p.times[:0], p.starts[:0]
			eachFirst(rows, func(t int64, r *startRow) {
				p.times, p.starts = append(p.times, t), append(p.starts, r.start)
			})
			if !slices.Equal(p.times, ts) { // as it mostly is
				column = out.addTimes(p.times)
			}
			out.addStarts(key{f, ref, kindStarts}, column, p.starts)
		}
	})
	w.mu.RLock()
	out.addDefinitions(w.index)
	w.mu.RUnlock()
	out.addExemplars(t.exemplars)
	md := newMetadataSet()
	md.add(t.metadata...)
	out.addMetadata(md.list())
}

// eachInOrder calls f for the first n series by (family, ref).
func (w *window) eachInOrder(n int, f func(index.Family, index.Ref)) {
	w.mu.RLock()
	families := make([][]index.Ref, w.index.Families())
	for i := range families {
		families[i] = w.index.FamilyRefs(index.Family(i))
	}
	w.mu.RUnlock()
	for i, refs := range families {
		for _, ref := range refs {
			if int(ref) >= n {
				break
			}
			f(index.Family(i), ref)
		}
	}
}

func strictlyAscending(ts []int64) bool {
	for i := 1; i < len(ts); i++ {
		if ts[i] <= ts[i-1] {
			return false
		}
	}
	return true
}

// uniqueFirst appends the first of the samples of every timestamp; times
// ascend.
func uniqueFirst(times []int64, values []float64, ts []int64, vs []float64) ([]int64, []float64) {
	for i, t := range ts {
		if n := len(times); n == 0 || times[n-1] != t {
			times = append(times, t)
			values = append(values, vs[i])
		}
	}
	return times, values
}

// close releases the blocks. Nobody may use the window afterwards.
func (w *window) close() error {
	var errs []error
	for _, b := range w.blocks {
		errs = append(errs, b.Unpin())
	}
	w.blocks = nil
	return errors.Join(errs...)
}
