package metric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/encoding"
	"github.com/vedette-io/vedette/storage/index"
)

// SeriesSet is the answer to a Select: series sorted by their labels, whose
// samples are read one series at a time. It keeps blocks and heads as they were
// at the Select, until Close.
type SeriesSet struct {
	ctx    context.Context
	sel    Selector
	parts  []*windowPart
	series []selected

	mu     sync.Mutex
	warned map[*blockReader]error
}

// selected is one series and where it lies.
type selected struct {
	labels promlabels.Labels
	in     []place // by window, oldest first
}

type place struct {
	part *windowPart
	ref  index.Ref
}

// windowPart is what a set reads of one window: blocks by flush number, then
// the tables. Of equal timestamps the first source's sample counts.
type windowPart struct {
	blocks []*blockPart
	tables []*tablePart
}

// Select finds the series of sel.
func (db *DB) Select(ctx context.Context, sel Selector) (*SeriesSet, error) {
	s := &SeriesSet{ctx: ctx, sel: sel}
	t := db.lookupTenant(sel.Tenant)
	if t == nil {
		return s, nil
	}
	byHash := make(map[labels.Hash]int)
	var builder promlabels.ScratchBuilder
	for _, w := range t.overlapping(sel.MinTime, sel.MaxTime) {
		if err := ctx.Err(); err != nil {
			s.Close()
			return nil, err
		}
		if err := s.addWindow(w, byHash, &builder); err != nil {
			s.Close()
			return nil, err
		}
		db.trimIndexes()
	}
	slices.SortFunc(s.series, func(a, b selected) int { return promlabels.Compare(a.labels, b.labels) })
	if sel.Limit > 0 && len(s.series) > sel.Limit {
		s.series = s.series[:sel.Limit]
	}
	return s, nil
}

// addWindow adds the series of w that match, and pins what holds their samples.
func (s *SeriesSet) addWindow(w *window, byHash map[labels.Hash]int, b *promlabels.ScratchBuilder) error {
	if err := w.acquire(); err != nil {
		return err
	}
	defer w.mu.RUnlock()
	refs := w.index.Match(s.sel.Matchers)
	part := &windowPart{}
	var chosen []index.Ref
	for _, ref := range refs {
		if w.newest[ref] < s.sel.MinTime {
			continue
		}
		chosen = append(chosen, ref)
		h := w.index.Hash(ref)
		i, ok := byHash[h]
		if !ok {
			l := labelsOf(w.index, ref, b)
			if err := s.charge(l); err != nil {
				return err
			}
			i = len(s.series)
			byHash[h] = i
			s.series = append(s.series, selected{labels: l})
		}
		s.series[i].in = append(s.series[i].in, place{part, ref})
	}
	if len(chosen) == 0 {
		return nil
	}
	s.parts = append(s.parts, part)
	for _, blk := range w.blocks {
		if blk.meta.MinTime <= s.sel.MaxTime && blk.meta.MaxTime >= s.sel.MinTime {
			blk.Pin()
			part.blocks = append(part.blocks, newBlockPart(blk, w, &s.sel))
		}
	}
	for _, t := range []*table{w.flushing, w.table} {
		if t != nil && t.rows() > 0 {
			t.pins.Add(1)
			part.tables = append(part.tables, newTablePart(t, w.index.Len(), chosen))
		}
	}
	part.setFamilies(w.index)
	return nil
}

// seriesOverhead is about what a selected series takes beside its labels'
// bytes, and labelOverhead what each label takes.
const (
	seriesOverhead = 128
	labelOverhead  = 4
)

func (s *SeriesSet) charge(l promlabels.Labels) error {
	if s.sel.Charge == nil {
		return nil
	}
	return s.sel.Charge(seriesOverhead + int64(l.Len()*labelOverhead) + int64(l.ByteSize()))
}

// setFamilies remembers the families of the window's series for block lookups:
// the array only grows, so the prefix of now stays right.
func (p *windowPart) setFamilies(x *index.Index) {
	families := x.FamiliesByRef()
	for _, b := range p.blocks {
		b.families = families
	}
}

// Len returns the number of series.
func (s *SeriesSet) Len() int { return len(s.series) }

// Labels returns the labels of series i.
func (s *SeriesSet) Labels(i int) promlabels.Labels { return s.series[i].labels }

// Samples fills dst with the samples of series i. It may be called by several
// goroutines with a dst each.
func (s *SeriesSet) Samples(i int, dst *Samples) error {
	dst.Reset()
	if err := s.ctx.Err(); err != nil {
		return err
	}
	var g gatherer
	g.dst, g.sel = dst, &s.sel
	for _, p := range s.series[i].in {
		g.begin()
		for _, b := range p.part.blocks {
			err := b.read(p.ref, &g)
			if errors.Is(err, block.ErrCorruption) {
				s.damaged(b, err)
			} else if err != nil {
				return fmt.Errorf("read series %s: %w", s.series[i].labels, err)
			}
		}
		for _, t := range p.part.tables {
			t.read(p.ref, &g)
		}
		g.finish()
	}
	g.attachStarts()
	return nil
}

// damaged takes note of a block that cannot be read whole. The answer goes on
// without what is damaged, and the block is set aside by the next Maintain.
func (s *SeriesSet) damaged(b *blockPart, err error) {
	b.w.suspect(b.b, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warned == nil {
		s.warned = make(map[*blockReader]error)
	}
	if s.warned[b.b] == nil {
		s.warned[b.b] = err
	}
}

// Warnings returns what Samples has left out because it is damaged, an error a
// block.
func (s *SeriesSet) Warnings() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []error
	for _, err := range s.warned {
		out = append(out, fmt.Errorf("samples are missing: %w", err))
	}
	return out
}

// Close releases blocks and heads. A second Close does nothing.
func (s *SeriesSet) Close() {
	for _, p := range s.parts {
		for _, b := range p.blocks {
			_ = b.b.Unpin()
		}
		for _, t := range p.tables {
			t.snap.table.unpin()
		}
	}
	s.parts, s.series = nil, nil
}

// gatherer joins the samples of one series from its sources. As long as each
// source's follow those before in time, they are appended where they belong;
// when they do not, the window's samples are sorted at the end.
type gatherer struct {
	dst *Samples
	sel *Selector

	from, histFrom       int // where the window's samples begin in dst
	overlap, histOverlap bool
	starts               []sampleStart
	times                []int64
	values               []float64
	hists                []encoding.Histogram
}

func (g *gatherer) begin() {
	g.from, g.histFrom = len(g.dst.Times), len(g.dst.HistogramTimes)
	g.overlap, g.histOverlap = false, false
}

// floats takes samples of the next source, which ascend.
func (g *gatherer) floats(times []int64, values []float64) {
	if n := len(g.dst.Times); n > 0 && len(times) > 0 && times[0] <= g.dst.Times[n-1] {
		g.overlap = true
	}
	g.dst.Times = append(g.dst.Times, times...)
	g.dst.Values = append(g.dst.Values, values...)
}

func (g *gatherer) histogram(time int64, h encoding.Histogram) {
	if n := len(g.dst.HistogramTimes); n > 0 && time <= g.dst.HistogramTimes[n-1] {
		g.histOverlap = true
	}
	g.dst.HistogramTimes = append(g.dst.HistogramTimes, time)
	g.dst.Histograms = append(g.dst.Histograms, Histogram(h))
}

// sampleStart is the start timestamp of the sample at a time.
type sampleStart struct{ time, start int64 }

func (g *gatherer) start(time, start int64) {
	if time >= g.sel.MinTime && time <= g.sel.MaxTime {
		g.starts = append(g.starts, sampleStart{time, start})
	}
}

// finish puts the window's samples in order; the first of equal times stays.
func (g *gatherer) finish() {
	d := g.dst
	if g.overlap {
		times, values := d.Times[g.from:], d.Values[g.from:]
		sortByTime(times, values)
		n := 0
		for i, t := range times {
			if n == 0 || times[n-1] != t {
				times[n], values[n] = t, values[i]
				n++
			}
		}
		d.Times, d.Values = d.Times[:g.from+n], d.Values[:g.from+n]
	}
	if g.histOverlap {
		g.finishHistograms()
	}
	if len(d.HistogramTimes) > g.histFrom && len(d.Times) > g.from {
		g.dropTwins()
	}
}

func (g *gatherer) finishHistograms() {
	d := g.dst
	type row struct {
		time int64
		h    Histogram
	}
	rows := make([]row, 0, len(d.HistogramTimes)-g.histFrom)
	for i := g.histFrom; i < len(d.HistogramTimes); i++ {
		rows = append(rows, row{d.HistogramTimes[i], d.Histograms[i]})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.time, b.time) })
	rows = slices.CompactFunc(rows, func(a, b row) bool { return a.time == b.time })
	d.HistogramTimes, d.Histograms = d.HistogramTimes[:g.histFrom], d.Histograms[:g.histFrom]
	for _, r := range rows {
		d.HistogramTimes = append(d.HistogramTimes, r.time)
		d.Histograms = append(d.Histograms, r.h)
	}
}

// dropTwins drops histograms at timestamps that have a float: only
// out-of-order writes can make them, and a float is the plainer answer.
func (g *gatherer) dropTwins() {
	d := g.dst
	n, f := g.histFrom, g.from
	for i := g.histFrom; i < len(d.HistogramTimes); i++ {
		for f < len(d.Times) && d.Times[f] < d.HistogramTimes[i] {
			f++
		}
		if f < len(d.Times) && d.Times[f] == d.HistogramTimes[i] {
			continue
		}
		d.HistogramTimes[n], d.Histograms[n] = d.HistogramTimes[i], d.Histograms[i]
		n++
	}
	clear(d.Histograms[n:])
	d.HistogramTimes, d.Histograms = d.HistogramTimes[:n], d.Histograms[:n]
}

func (g *gatherer) attachStarts() {
	if len(g.starts) == 0 {
		return
	}
	byTime := func(a, b sampleStart) int { return cmp.Compare(a.time, b.time) }
	if !slices.IsSortedFunc(g.starts, byTime) {
		slices.SortStableFunc(g.starts, byTime)
	}
	d := g.dst
	d.Starts = startsAt(d.Starts, d.Times, g.starts)
	d.HistogramStarts = startsAt(d.HistogramStarts, d.HistogramTimes, g.starts)
}

// startsAt appends the start of every time, 0 where there is none; of equal
// times in starts the first counts. Both ascend.
func startsAt(dst, times []int64, starts []sampleStart) []int64 {
	for _, t := range times {
		for len(starts) > 0 && starts[0].time < t {
			starts = starts[1:]
		}
		start := int64(0)
		if len(starts) > 0 && starts[0].time == t {
			start = starts[0].start
		}
		dst = append(dst, start)
	}
	return dst
}

// blockPart reads the series of a set from one block.
type blockPart struct {
	b        *blockReader
	w        *window
	sel      *Selector
	families []index.Family // by ref
	dead     *tombstones

	mu    sync.Mutex // guards what follows
	times *timesCursor
	pages map[int]*chunkPage
}

// cachedPages bounds the chunk pages that a part keeps decoded.
const cachedPages = 128

func newBlockPart(b *blockReader, w *window, sel *Selector) *blockPart {
	return &blockPart{
		b: b, w: w, sel: sel, dead: b.tombstones.Load(),
		times: newTimesCursor(b, sel.MinTime, sel.MaxTime),
		pages: make(map[int]*chunkPage),
	}
}

func (p *blockPart) read(ref index.Ref, g *gatherer) error {
	if err := p.b.loadKeys(); err != nil {
		return err
	}
	kinds := [...]kind{kindFloats, kindHistograms, kindStarts}
	for _, k := range kinds {
		if k == kindHistograms && p.b.meta.Histograms == 0 || k == kindStarts && p.b.meta.Starts == 0 {
			continue
		}
		if err := p.readKind(key{p.families[ref], ref, k}, g); err != nil {
			return err
		}
	}
	return nil
}

// find returns the page and entry of k and the part of its timestamps in range.
func (p *blockPart) find(k key) (page *chunkPage, entry int, d decodedTimes, ok bool, err error) {
	n := p.b.pageOf(k)
	if n < 0 {
		return nil, 0, decodedTimes{}, false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	page = p.pages[n]
	if page == nil {
		page = &chunkPage{}
		if err := p.b.readChunks(n, page); err != nil {
			return nil, 0, decodedTimes{}, false, err
		}
		if len(p.pages) >= cachedPages {
			clear(p.pages)
		}
		p.pages[n] = page
	}
	entry, ok = page.find(k)
	if !ok {
		return nil, 0, decodedTimes{}, false, nil
	}
	d, err = p.times.get(page.column[entry])
	return page, entry, d, err == nil, err
}

func (p *blockPart) readKind(k key, g *gatherer) error {
	page, entry, d, ok, err := p.find(k)
	if err != nil || !ok {
		return err
	}
	lo, _ := slices.BinarySearch(d.times, p.sel.MinTime)
	hi := len(d.times)
	if p.sel.MaxTime < math.MaxInt64 {
		hi, _ = slices.BinarySearch(d.times, p.sel.MaxTime+1)
	}
	if lo >= hi {
		return nil
	}
	// Samples a to b of the entry are wanted, which lie in chunks c0 to c1; the
	// first of these begins at sample at.
	a, b := d.skipped+lo, d.skipped+hi
	c0, c1, at := page.chunksOf(entry, a, b)
	if err := p.decode(k, page, c0, c1, g); err != nil {
		return p.b.corrupt(sectionValues, p.b.pageOf(k), "series %d: %v", k.ref, err)
	}
	times := d.times[lo:hi]
	if n := g.decoded(k.kind); n < b-at {
		return p.b.corrupt(sectionValues, p.b.pageOf(k), "series %d: %d samples, want %d", k.ref, n, b-at)
	}
	p.emit(k, times, a-at, g)
	return nil
}

// decoded returns how many samples lie in the buffer of a kind.
func (g *gatherer) decoded(k kind) int {
	switch k {
	case kindFloats:
		return len(g.values)
	case kindHistograms:
		return len(g.hists)
	default:
		return len(g.times)
	}
}

// decode decodes chunks c0 to c1 into the gatherer's buffer for their kind.
func (p *blockPart) decode(k key, page *chunkPage, c0, c1 int, g *gatherer) (err error) {
	switch k.kind {
	case kindFloats:
		g.values, err = page.floats(g.values[:0], c0, c1)
	case kindHistograms:
		var s encoding.Scratch
		g.hists, err = page.histograms(g.hists[:0], c0, c1, &s)
	default:
		g.times, err = page.startTimes(g.times[:0], c0, c1)
	}
	return err
}

// emit hands over the decoded samples from the one numbered skip, which lie at
// times, but for those that are deleted.
func (p *blockPart) emit(k key, times []int64, skip int, g *gatherer) {
	dead := p.dead.of(k.ref)
	if k.kind == kindFloats && len(dead) == 0 {
		g.floats(times, g.values[skip:skip+len(times)])
		return
	}
	for i, t := range times {
		if covered(dead, t) {
			continue
		}
		switch k.kind {
		case kindFloats:
			g.floats(times[i:i+1], g.values[skip+i:skip+i+1])
		case kindHistograms:
			g.histogram(t, g.hists[skip+i])
		default:
			g.start(t, g.times[skip+i])
		}
	}
}

// chunksOf returns the chunks of an entry that hold its samples a to b, and the
// number of the first sample in them.
func (p *chunkPage) chunksOf(entry, a, b int) (c0, c1, at int) {
	c0, c1 = int(p.first[entry]), int(p.first[entry+1])
	for c0 < c1 && at+int(p.samples[c0]) <= a {
		at += int(p.samples[c0])
		c0++
	}
	end := at
	for c := c0; c < c1; c++ {
		if end >= b {
			return c0, c, at
		}
		end += int(p.samples[c])
	}
	return c0, c1, at
}

// tablePart reads the series of a set from a head's table.
type tablePart struct {
	snap snapshot
	refs []index.Ref // that the set selected, ascending

	once   sync.Once
	view   *sortedRows
	tail   map[index.Ref]*Samples
	hists  grouped[histogramRow]
	starts grouped[startRow]
}

// newTablePart takes a snapshot of t; the caller holds the window's lock.
func newTablePart(t *table, series int, refs []index.Ref) *tablePart {
	return &tablePart{refs: refs, snap: snapshot{
		table: t, runs: t.runs, n: t.n, series: series, outOfOrder: t.outOfOrder,
		histograms: t.histograms, starts: t.starts,
	}}
}

// prepare sorts the snapshot, at the first read: some sets are never read.
func (p *tablePart) prepare() {
	p.view = p.snap.sorted()
	p.tail = p.snap.tail(p.view, p.refs)
	p.hists = groupRows(wanted(p.snap.histograms, p.refs, p.snap.series), p.snap.series)
	p.starts = groupRows(wanted(p.snap.starts, p.refs, p.snap.series), p.snap.series)
}

func (p *tablePart) read(ref index.Ref, g *gatherer) {
	p.once.Do(p.prepare)
	times, values := p.view.of(ref)
	g.floatsInRange(times, values)
	if t := p.tail[ref]; t != nil {
		g.floatsInRange(t.Times, t.Values)
	}
	eachFirst(p.hists.of(ref), func(t int64, r *histogramRow) {
		if t >= g.sel.MinTime && t <= g.sel.MaxTime {
			g.histogram(t, encoding.Histogram(r.h))
		}
	})
	eachFirst(p.starts.of(ref), func(t int64, r *startRow) { g.start(t, r.start) })
}

// floatsInRange takes those of the samples, which ascend but may have equal
// times, that lie in the selected range.
func (g *gatherer) floatsInRange(times []int64, values []float64) {
	lo, _ := slices.BinarySearch(times, g.sel.MinTime)
	hi := len(times)
	if g.sel.MaxTime < math.MaxInt64 {
		hi, _ = slices.BinarySearch(times, g.sel.MaxTime+1)
	}
	if lo >= hi {
		return
	}
	if !strictlyAscending(times[lo:hi]) {
		g.overlap = true
	}
	g.floats(times[lo:hi], values[lo:hi])
}
