package metric

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// Problem is something wrong with a block on disk.
type Problem struct {
	Block string
	Err   error
}

// Report says what Verify or Repair found.
type Report struct {
	Blocks   int // blocks that were read
	Samples  int64
	Problems []Problem

	// Of Repair: blocks that were rewritten, and the entries (a series in a block)
	// that could not be read.
	Repaired    []string
	LostEntries int
}

// Verify reads every byte of every block of the store in dir, which no process
// may have open for writing, and decodes all of it.
func Verify(fsys vfs.FS, dir string) (Report, error) {
	var r Report
	err := eachBlockDir(fsys, dir, func(path string, aside bool) error {
		if aside {
			r.Problems = append(r.Problems, Problem{path, errors.New("was set aside as damaged")})
			return nil
		}
		b, err := openBlock(fsys, path)
		if err != nil {
			r.Problems = append(r.Problems, Problem{path, err})
			return nil
		}
		r.Blocks++
		for _, err := range b.verify(&r.Samples) {
			r.Problems = append(r.Problems, Problem{path, err})
		}
		return b.Unpin()
	})
	return r, err
}

// eachBlockDir calls f for every block directory below a store's directory; aside
// says that the block was set aside.
func eachBlockDir(fsys vfs.FS, dir string, f func(path string, aside bool) error) error {
	tenants, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("read store %s: %w", dir, err)
	}
	for _, tenant := range tenants {
		windows, err := fsys.List(filepath.Join(dir, tenant, metricsDir))
		if err != nil {
			continue // a file beside the tenants
		}
		for _, w := range windows {
			if _, err := strconv.ParseInt(w, 10, 64); err != nil {
				continue
			}
			window := filepath.Join(dir, tenant, metricsDir, w)
			names, err := fsys.List(window)
			if err != nil {
				return fmt.Errorf("read window %s: %w", window, err)
			}
			for _, n := range names {
				_, aside, ok := block.ParseName(n)
				if !ok {
					continue
				}
				if err := f(filepath.Join(window, n), aside); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// verify returns what is wrong with the block and adds its samples to n.
func (b *blockReader) verify(n *int64) []error {
	errs := b.r.Verify()
	if err := b.loadKeys(); err != nil {
		return append(errs, err)
	}
	s := newSalvager(b)
	err := s.each(func(k key, p part) {
		if k.kind != kindStarts {
			*n += int64(len(p.times))
		}
	})
	errs = append(errs, s.errs...)
	if err != nil {
		errs = append(errs, err)
	}
	if _, err := b.readExemplars(); err != nil {
		errs = append(errs, err)
	}
	if _, err := b.readMetadata(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// salvager reads what can be read of a block, entry by entry.
type salvager struct {
	b     *blockReader
	times *timesCursor
	errs  []error
	lost  int
}

func newSalvager(b *blockReader) *salvager {
	return &salvager{b: b, times: newTimesCursor(b, math.MinInt64, math.MaxInt64)}
}

// each calls f with the samples of every readable entry, in order.
func (s *salvager) each(f func(key, part)) error {
	var p chunkPage
	var last *key
	for i := range s.b.keys {
		if err := s.b.readChunks(i, &p); err != nil {
			s.errs = append(s.errs, err)
			s.lost += entriesPerPage
			continue
		}
		for e := range p.len() {
			k := p.key(e)
			if last != nil && !last.less(k) {
				return s.b.corrupt(sectionChunks, i, "entry %d is out of order", e)
			}
			last = &k
			samples, err := s.entry(&p, e)
			if err != nil {
				s.errs = append(s.errs, s.b.corrupt(sectionChunks, i, "entry %d, series %d: %v", e, k.ref, err))
				s.lost++
				continue
			}
			f(k, samples)
		}
	}
	return nil
}

func (s *salvager) entry(p *chunkPage, e int) (part, error) {
	d, err := s.times.get(p.column[e])
	if err != nil {
		return part{}, err
	}
	out := part{times: d.times}
	a, b := int(p.first[e]), int(p.first[e+1])
	n := 0
	switch p.key(e).kind {
	case kindFloats:
		out.values, err = p.floats(nil, a, b)
		n = len(out.values)
	case kindHistograms:
		out.hists, err = p.histograms(nil, a, b, &p.scratch)
		n = len(out.hists)
	case kindStarts:
		out.starts, err = p.startTimes(nil, a, b)
		n = len(out.starts)
	default:
		err = fmt.Errorf("kind %d", p.kinds[e])
	}
	if err == nil && n != len(d.times) {
		err = fmt.Errorf("%d values, want %d", n, len(d.times))
	}
	if err == nil && !strictlyAscending(d.times) {
		err = errors.New("timestamps do not ascend")
	}
	return out, err
}

// Repair rewrites every damaged block of the store in dir, those that were set
// aside included, with what can be read of it. The damaged original stays
// beside it under a name that ends in ".damaged". No process may have the
// store open.
func Repair(fsys vfs.FS, dir string) (Report, error) {
	var r Report
	var todo []string
	err := eachBlockDir(fsys, dir, func(path string, bad bool) error {
		b, err := openBlock(fsys, path)
		if err != nil {
			r.Problems = append(r.Problems, Problem{path, fmt.Errorf("nothing can be read: %w", err)})
			return nil
		}
		r.Blocks++
		if bad || len(b.verify(&r.Samples)) > 0 {
			todo = append(todo, path)
		}
		return b.Unpin()
	})
	for _, path := range todo {
		if err == nil {
			err = repairBlock(fsys, path, &r)
		}
	}
	return r, err
}

func repairBlock(fsys vfs.FS, path string, r *Report) error {
	windowDir := filepath.Dir(path)
	start, _ := strconv.ParseInt(filepath.Base(windowDir), 10, 64)
	b, err := openBlock(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = b.Unpin() }()
	// The series come from all blocks of the window.
	w, err := openWindow(fsys, windowDir, start, b.meta.WindowMs, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { _ = w.close() }()
	if i := slices.IndexFunc(w.blocks, b.clashes); i >= 0 {
		r.Problems = append(r.Problems, Problem{path, fmt.Errorf("not repaired: the numbers of its flushes or series were given to block %s, too", w.blocks[i].Dir())})
		return nil
	}
	if !slices.ContainsFunc(w.blocks, func(o *blockReader) bool { return o.Dir() == path }) {
		w.blocks = append(w.blocks, b)
		b.Pin()
		w.cover(b)
		slices.SortFunc(w.blocks, func(a, b *blockReader) int { return cmp.Compare(a.meta.First, b.meta.First) })
	}
	w.mu.Lock()
	err = w.loadLocked()
	w.mu.Unlock()
	if err != nil {
		return err
	}
	meta := b.meta
	meta.Generation++
	out, err := newBlockWriter(fsys, filepath.Join(windowDir, meta.Name()), resetCounts(meta))
	if err != nil {
		return err
	}
	lost, problems := salvageInto(out, b, w)
	if err := out.close(); err != nil {
		return err
	}
	r.LostEntries += lost
	for _, p := range problems {
		r.Problems = append(r.Problems, Problem{path, p})
	}
	r.Repaired = append(r.Repaired, path)
	return block.SetReplaced(fsys, path)
}

// clashes reports whether another block of the window has numbers of b's flushes or
// of what b defines. Stores gave those of blocks that were set aside anew once, and
// merged over their place: repaired, such a block would replace what came later, or
// show it under other labels.
func (b *blockReader) clashes(o *blockReader) bool {
	shared := func(first, n, from, m uint32) bool { return first < from+m && from < first+n }
	x, y := &b.meta, &o.meta
	return o.Dir() != b.Dir() && (x.First <= y.Last && y.First <= x.Last ||
		shared(x.FirstPair, x.Pairs, y.FirstPair, y.Pairs) || shared(x.FirstSeries, x.Series, y.FirstSeries, y.Series))
}

// resetCounts keeps what a writer does not count itself.
func resetCounts(m Meta) Meta {
	m.Samples, m.Histograms, m.Starts, m.Entries, m.Chunks, m.Exemplars = 0, 0, 0, 0, 0, 0
	return m
}

func salvageInto(out *blockWriter, b *blockReader, w *window) (lost int, problems []error) {
	if err := b.loadKeys(); err != nil {
		problems = append(problems, err)
	}
	s := newSalvager(b)
	dead := b.tombstones.Load()
	err := s.each(func(k key, p part) {
		p.drop(dead.of(k.ref))
		if len(p.times) == 0 {
			return
		}
		m := merger{out: out}
		m.emit(k, out.addTimes(p.times), p.values, p.hists, p.starts)
	})
	problems = append(problems, s.errs...)
	if err != nil {
		problems = append(problems, err)
	}
	out.addDefinitions(w.index)
	exemplars, err := b.readExemplars()
	if err != nil {
		problems = append(problems, err)
	}
	out.addExemplars(exemplars)
	metadata, err := b.readMetadata()
	if err != nil {
		problems = append(problems, err)
	}
	out.addMetadata(metadata)
	return s.lost, problems
}

// DumpOptions say how much Dump prints.
type DumpOptions struct {
	Series  bool // labels and chunks of every series
	Samples bool // every sample, too
}

// Dump writes what the blocks of the store in dir hold to out, for a person to
// read.
func Dump(fsys vfs.FS, dir string, o DumpOptions, out io.Writer) error {
	var w *window
	defer func() {
		if w != nil {
			_ = w.close()
		}
	}()
	return eachBlockDir(fsys, dir, func(path string, aside bool) error {
		if aside {
			_, err := fmt.Fprintf(out, "block %s: set aside as damaged\n", path)
			return err
		}
		b, err := openBlock(fsys, path)
		if err != nil {
			_, err = fmt.Fprintf(out, "block %s: %v\n", path, err)
			return err
		}
		defer func() { _ = b.Unpin() }()
		b.dumpMeta(out)
		if !o.Series && !o.Samples {
			return nil
		}
		if windowDir := filepath.Dir(path); w == nil || w.dir != windowDir {
			if w != nil {
				_ = w.close()
			}
			if w, err = readOnlyWindow(fsys, windowDir, b.meta); err != nil {
				return err
			}
		}
		return b.dumpSeries(out, w.index, o)
	})
}

// readOnlyWindow loads a window's index without touching its files.
func readOnlyWindow(fsys vfs.FS, dir string, m Meta) (*window, error) {
	w := &window{fs: fsys, dir: dir, start: m.WindowStart, end: m.WindowStart + m.WindowMs, logger: slog.New(slog.DiscardHandler), durable: make(map[block.SourceKey]int64)}
	names, err := fsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range names {
		if _, aside, ok := block.ParseName(n); !ok || aside {
			continue
		}
		if b, err := openBlock(fsys, filepath.Join(dir, n)); err == nil {
			w.blocks = append(w.blocks, b)
			w.cover(b)
		}
	}
	slices.SortFunc(w.blocks, func(a, b *blockReader) int { return cmp.Compare(a.meta.First, b.meta.First) })
	return w, w.loadLocked()
}

func (b *blockReader) dumpMeta(out io.Writer) {
	m := &b.meta
	fmt.Fprintf(out, "block %s\n", b.Dir())
	fmt.Fprintf(out, "  version %d, level %d, flushes %d to %d, %d bytes\n", m.Version, m.Level, m.First, m.Last, b.r.Size())
	fmt.Fprintf(out, "  %s to %s\n", stamp(m.MinTime), stamp(m.MaxTime))
	fmt.Fprintf(out, "  %d samples (%d native histograms), %d entries, %d chunks, %d exemplars\n", m.Samples, m.Histograms, m.Entries, m.Chunks, m.Exemplars)
	fmt.Fprintf(out, "  defines %d label pairs from %d, %d series from %d\n", m.Pairs, m.FirstPair, m.Series, m.FirstSeries)
	for _, s := range m.Sources {
		fmt.Fprintf(out, "  source %s, topic %s, partition %d, offsets %d to %d\n", s.Source, s.Topic, s.Partition, s.From, s.To)
	}
	type sec struct {
		name  string
		pages int
		bytes int64
	}
	var secs []sec
	b.r.Sections(func(name string, pages int, bytes int64) { secs = append(secs, sec{name, pages, bytes}) })
	slices.SortFunc(secs, func(a, b sec) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, s := range secs {
		fmt.Fprintf(out, "  section %-10s %6d pages %12d bytes\n", s.name, s.pages, s.bytes)
	}
	if t := b.tombstones.Load(); t != nil {
		fmt.Fprintf(out, "  %d deletions\n", len(t.deletions))
	}
}

func (b *blockReader) dumpSeries(out io.Writer, x *index.Index, o DumpOptions) error {
	if err := b.loadKeys(); err != nil {
		return err
	}
	var builder promlabels.ScratchBuilder
	s := newSalvager(b)
	var werr error
	err := s.each(func(k key, p part) {
		if werr != nil {
			return
		}
		name := [...]string{"floats", "histograms", "starts"}[min(int(k.kind), 2)]
		_, werr = fmt.Fprintf(out, "  %s %s: %d from %s to %s\n", labelsOf(x, k.ref, &builder), name, len(p.times), stamp(p.times[0]), stamp(p.times[len(p.times)-1]))
		if o.Samples {
			p.dump(out)
		}
	})
	return errors.Join(append(s.errs, err, werr)...)
}

func (p *part) dump(out io.Writer) {
	for i, t := range p.times {
		switch {
		case p.values != nil:
			fmt.Fprintf(out, "    %d %s\n", t, strconv.FormatFloat(p.values[i], 'g', -1, 64))
		case p.hists != nil:
			fmt.Fprintf(out, "    %d %s\n", t, formatHistogram(p.hists[i]))
		default:
			fmt.Fprintf(out, "    %d start %d\n", t, p.starts[i])
		}
	}
}

func formatHistogram(h encoding.Histogram) string {
	if h.Int != nil {
		return h.Int.String()
	}
	return h.Float.String()
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
