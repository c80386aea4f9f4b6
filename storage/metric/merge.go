package metric

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
)

// merger combines adjacent blocks of a window, oldest first, into one: per key
// the samples of all of them in time order, of equal times those of the oldest
// block, without what tombstones hide.
type merger struct {
	out *blockWriter

	// columns remembers, for a combination of input timestamp columns, what
	// became of it: all series of a scrape share theirs, so that times are looked
	// at once per target and not once per series.
	columns map[string]mergedColumn
	key     []byte

	times   []int64
	values  []float64
	hists   []encoding.Histogram
	starts  []int64
	parts   []part
	current []*mergeInput
}

// mergedColumn is the result of laying input columns behind one another; plain
// says that they do not overlap, so that values can be laid likewise.
type mergedColumn struct {
	plain  bool
	column uint32
}

// part is one input's samples of the key that is being merged.
type part struct {
	times  []int64
	values []float64
	hists  []encoding.Histogram
	starts []int64
}

// mergeInput walks the entries of one block.
type mergeInput struct {
	b     *blockReader
	times *timesCursor
	page  chunkPage
	next  int // page to read
	at    int // entry
}

func (in *mergeInput) key() key { return in.page.key(in.at) }

// advance moves to the next entry; more is false at the end.
func (in *mergeInput) advance() (more bool, err error) {
	in.at++
	for in.at >= in.page.len() {
		if in.next >= len(in.b.keys) {
			return false, nil
		}
		if err := in.b.readChunks(in.next, &in.page); err != nil {
			return false, err
		}
		in.next++
		in.at = 0
	}
	return true, nil
}

// mergeBlocks writes the union of blocks as one block named by meta into dir.
// x defines the series of the window.
func mergeBlocks(ctx context.Context, fs vfs.FS, dir string, meta Meta, blocks []*blockReader, x definer) error {
	out, err := newBlockWriter(fs, dir, meta)
	if err != nil {
		return err
	}
	m := &merger{out: out, columns: make(map[string]mergedColumn)}
	if err := m.run(ctx, blocks); err != nil {
		out.abort()
		return err
	}
	if err := m.rest(blocks, x); err != nil {
		out.abort()
		return err
	}
	return out.close()
}

// definer writes the pairs and series that a block defines.
type definer func(w *blockWriter)

func (m *merger) run(ctx context.Context, blocks []*blockReader) error {
	live := make([]*mergeInput, 0, len(blocks))
	for _, b := range blocks {
		if err := b.loadKeys(); err != nil {
			return err
		}
		in := &mergeInput{b: b, at: -1, times: newTimesCursor(b, math.MinInt64, math.MaxInt64)}
		more, err := in.advance()
		if err != nil {
			return err
		}
		if more {
			live = append(live, in)
		}
	}
	for n := 0; len(live) > 0; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		k := live[0].key()
		for _, in := range live[1:] {
			if o := in.key(); o.less(k) {
				k = o
			}
		}
		m.current = m.current[:0]
		for _, in := range live {
			if in.key() == k {
				m.current = append(m.current, in)
			}
		}
		if err := m.mergeKey(k); err != nil {
			return err
		}
		for _, in := range m.current {
			more, err := in.advance()
			if err != nil {
				return err
			}
			if !more {
				live = slices.DeleteFunc(live, func(o *mergeInput) bool { return o == in })
			}
		}
	}
	return nil
}

func (m *merger) mergeKey(k key) error {
	deleted := false
	m.key = m.key[:0]
	for _, in := range m.current {
		deleted = deleted || in.b.tombstones.Load().of(k.ref) != nil
		m.key = binary.AppendUvarint(m.key, uint64(in.b.meta.First))
		m.key = binary.AppendUvarint(m.key, uint64(in.page.column[in.at]))
	}
	if deleted {
		return m.slow(k)
	}
	col, ok := m.columns[string(m.key)]
	if !ok {
		var err error
		if col, err = m.layTimes(); err != nil {
			return err
		}
		m.columns[string(m.key)] = col
	}
	if !col.plain {
		return m.slow(k)
	}
	return m.fast(k, col.column)
}

// layTimes joins the current inputs' timestamp columns if they follow one
// another.
func (m *merger) layTimes() (mergedColumn, error) {
	m.times = m.times[:0]
	for _, in := range m.current {
		d, err := in.times.get(in.page.column[in.at])
		if err != nil {
			return mergedColumn{}, err
		}
		if len(m.times) > 0 && len(d.times) > 0 && d.times[0] <= m.times[len(m.times)-1] {
			return mergedColumn{}, nil
		}
		m.times = append(m.times, d.times...)
	}
	return mergedColumn{plain: true, column: m.out.addTimes(m.times)}, nil
}

// fast lays the values of inputs that follow one another in time behind each
// other.
func (m *merger) fast(k key, column uint32) (err error) {
	m.values, m.hists, m.starts = m.values[:0], m.hists[:0], m.starts[:0]
	for _, in := range m.current {
		a, b := int(in.page.first[in.at]), int(in.page.first[in.at+1])
		switch k.kind {
		case kindFloats:
			m.values, err = in.page.floats(m.values, a, b)
		case kindHistograms:
			m.hists, err = in.page.histograms(m.hists, a, b, &in.page.scratch)
		default:
			m.starts, err = in.page.startTimes(m.starts, a, b)
		}
		if err != nil {
			return in.b.corrupt(sectionValues, in.next-1, "series %d: %v", k.ref, err)
		}
	}
	m.emit(k, column, m.values, m.hists, m.starts)
	return nil
}

func (m *merger) emit(k key, column uint32, values []float64, hists []encoding.Histogram, starts []int64) {
	switch k.kind {
	case kindFloats:
		m.out.addFloats(k, column, values)
	case kindHistograms:
		m.out.addHistograms(k, column, hists)
	default:
		m.out.addStarts(k, column, starts)
	}
}

// slow merges sample by sample: times overlap, or samples are deleted.
func (m *merger) slow(k key) error {
	m.parts = m.parts[:0]
	for _, in := range m.current {
		d, err := in.times.get(in.page.column[in.at])
		if err != nil {
			return err
		}
		p := part{times: d.times}
		a, b := int(in.page.first[in.at]), int(in.page.first[in.at+1])
		n := 0
		switch k.kind {
		case kindFloats:
			p.values, err = in.page.floats(nil, a, b)
			n = len(p.values)
		case kindHistograms:
			p.hists, err = in.page.histograms(nil, a, b, &in.page.scratch)
			n = len(p.hists)
		default:
			p.starts, err = in.page.startTimes(nil, a, b)
			n = len(p.starts)
		}
		if err == nil && n != len(d.times) {
			err = fmt.Errorf("%d values, want %d", n, len(d.times))
		}
		if err != nil {
			return in.b.corrupt(sectionValues, in.next-1, "series %d: %v", k.ref, err)
		}
		p.drop(in.b.tombstones.Load().of(k.ref))
		m.parts = append(m.parts, p)
	}
	p := mergeParts(m.parts)
	if len(p.times) == 0 {
		return nil
	}
	m.emit(k, m.out.addTimes(p.times), p.values, p.hists, p.starts)
	return nil
}

// drop removes the samples that ivs cover. It copies, since times are shared.
func (p *part) drop(ivs []interval) {
	if len(ivs) == 0 {
		return
	}
	var q part
	for i, t := range p.times {
		if !covered(ivs, t) {
			q.take(p, i)
		}
	}
	*p = q
}

// take appends sample i of o.
func (p *part) take(o *part, i int) {
	p.times = append(p.times, o.times[i])
	switch {
	case o.values != nil:
		p.values = append(p.values, o.values[i])
	case o.hists != nil:
		p.hists = append(p.hists, o.hists[i])
	default:
		p.starts = append(p.starts, o.starts[i])
	}
}

// mergeParts merges parts by time; of equal times the first part's counts.
func mergeParts(parts []part) part {
	var out part
	at := make([]int, len(parts))
	for {
		best := -1
		for i := range parts {
			if at[i] < len(parts[i].times) && (best < 0 || parts[i].times[at[i]] < parts[best].times[at[best]]) {
				best = i
			}
		}
		if best < 0 {
			return out
		}
		t := parts[best].times[at[best]]
		if n := len(out.times); n == 0 || out.times[n-1] != t {
			out.take(&parts[best], at[best])
		}
		at[best]++
	}
}

// rest merges what is not samples: definitions, exemplars and metadata.
func (m *merger) rest(blocks []*blockReader, define definer) error {
	define(m.out)
	var exemplars []exemplarRow
	latest := newMetadataSet()
	for _, b := range blocks {
		rows, err := b.readExemplars()
		if err != nil {
			return err
		}
		ts := b.tombstones.Load()
		for _, r := range rows {
			if !covered(ts.of(r.ref), r.time) {
				exemplars = append(exemplars, r)
			}
		}
		md, err := b.readMetadata()
		if err != nil {
			return err
		}
		latest.add(md...)
	}
	m.out.addExemplars(exemplars)
	m.out.addMetadata(latest.list())
	return nil
}

// mergedMeta describes the block that replaces blocks, which are adjacent and
// in order. Last says that it is not expected to be merged again soon.
func mergedMeta(blocks []*blockReader, last bool) Meta {
	first, end := blocks[0].meta, blocks[len(blocks)-1].meta
	m := Meta{
		WindowStart: first.WindowStart, WindowMs: first.WindowMs,
		Flushes:   block.Flushes{First: first.First, Last: end.Last},
		FirstPair: first.FirstPair, Pairs: end.FirstPair + end.Pairs - first.FirstPair,
		FirstSeries: first.FirstSeries, Series: end.FirstSeries + end.Series - first.FirstSeries,
	}
	for _, b := range blocks {
		m.Level = max(m.Level, b.meta.Level)
		if len(blocks) == 1 {
			m.Generation = b.meta.Generation + 1
		}
		for _, s := range b.meta.Sources {
			m.Sources = block.AddSource(m.Sources, s)
		}
	}
	m.Level++
	if last {
		m.Level = max(m.Level, settledLevel)
	}
	return m
}
