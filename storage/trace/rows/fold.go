package rows

import (
	"encoding/binary"
	"slices"
)

// Small batches make small groups, of which readers would have to visit
// thousands. foldFan groups of fewer than foldRows rows are therefore made into
// one, again and again, so that a row is copied two or three times at most.
const (
	foldFan  = 16
	foldRows = MaxGroupRows / foldFan
)

// folder makes one group of several. The groups share a space.
type folder struct {
	pending [4][]*memGroup // small groups, by how often they were folded
	sources [foldFan]foldSource
	keys    []sortKey // row is the source's number << 16 and its row
}

// foldSource is a group that is being read in order of its rows.
type foldSource struct {
	g           *memGroup
	index       []uint32 // by column of the space: index of g.cols
	next        []uint32 // by index of g.cols: next value
	event, link uint32
}

// settle notes a new group and folds small ones. It returns live with the folded
// ones replaced; live itself is not changed.
func (w *appender) settle(live []*memGroup, g *memGroup) []*memGroup {
	for g.info.Rows < foldRows && int(g.folds) < len(w.folder.pending) {
		p := append(w.folder.pending[g.folds], g)
		w.folder.pending[g.folds] = p
		if len(p) < foldFan {
			break
		}
		folded := w.fold(p)
		folded.folds = g.folds + 1
		kept := make([]*memGroup, 0, len(live)+1)
		for _, old := range live {
			if !slices.Contains(p, old) {
				kept = append(kept, old)
			}
		}
		live = append(kept, folded)
		for _, old := range p {
			for _, n := range old.numbers {
				w.groups[n] = folded
			}
			folded.numbers = append(folded.numbers, old.numbers...)
			w.size -= old.size
		}
		clear(p)
		w.folder.pending[g.folds] = p[:0]
		g = folded
	}
	return live
}

// fold makes one group of up to foldFan groups.
func (w *appender) fold(groups []*memGroup) *memGroup {
	g := &memGroup{}
	f := &w.folder
	shapes, resources := &w.counts[0], &w.counts[1]
	shapes.grow(len(w.Shapes))
	resources.grow(len(w.Resources))
	f.keys = f.keys[:0]
	for i, old := range groups {
		shapes.addAll(old.shapes())
		shapes.addAll(old.uint32s[fieldEventShapes])
		shapes.addAll(old.uint32s[fieldLinkShapes])
		resources.addAll(old.uint32s[fieldResources])
		g.info.Rows += old.info.Rows
		g.info.Events += old.info.Events
		g.info.Links += old.info.Links
		f.keys = appendKeys(f.keys, old, uint32(i)<<16)
		f.sources[i].open(old, len(w.Columns))
	}
	slices.SortFunc(f.keys, compareKeys)
	for n := range f.keys {
		if n == 0 || f.keys[n].hi != f.keys[n-1].hi || f.keys[n].lo != f.keys[n-1].lo {
			g.info.Traces++
		}
	}
	w.plan(g)
	w.room(g)
	trace := 0
	for row := range f.keys {
		k := &f.keys[row]
		s := &f.sources[k.row>>16]
		if row == 0 || k.hi != f.keys[row-1].hi || k.lo != f.keys[row-1].lo {
			id := &g.tids()[trace]
			binary.BigEndian.PutUint64(id[:8], k.hi)
			binary.BigEndian.PutUint64(id[8:], k.lo)
			g.traceRows()[trace] = uint32(row)
			trace++
		}
		w.foldRow(g, row, s, int(k.row&0xffff))
	}
	g.traceRows()[trace] = uint32(len(f.keys))
	g.sum()
	w.finish(g, false)
	for i := range groups {
		f.sources[i].g = nil
	}
	return g
}

// appendKeys appends the keys of a group's rows to dst.
func appendKeys(dst []sortKey, g *memGroup, source uint32) []sortKey {
	for t, id := range g.tids() {
		k := sortKey{hi: binary.BigEndian.Uint64(id[:8]), lo: binary.BigEndian.Uint64(id[8:])}
		for row := g.traceRows()[t]; row < g.traceRows()[t+1]; row++ {
			k.start, k.row = g.starts()[row], source|row
			dst = append(dst, k)
		}
	}
	return dst
}

// open begins to read a group of a space with so many columns.
func (s *foldSource) open(g *memGroup, columns int) {
	s.g, s.event, s.link = g, 0, 0
	s.index = slices.Grow(s.index[:0], columns)[:columns]
	s.next = append(s.next[:0], make([]uint32, len(g.cols))...)
	for i, col := range g.colSet {
		s.index[col] = uint32(i)
	}
}

// foldRow copies a row of a source, which is its next one.
func (w *appender) foldRow(g *memGroup, row int, s *foldSource, from int) {
	old := s.g
	for _, f := range [...]field{fieldShapes, fieldResources} {
		g.uint32s[f][row] = old.uint32s[f][from]
	}
	for i := range 2 {
		g.int64s[i][row] = old.int64s[i][from]
		g.spans[i][row] = old.spans[i][from]
	}
	g.statuses[row] = old.statuses[from]
	w.foldValues(s, old.shapes()[from])
	if rows := g.uint32s[fieldEventRows]; rows != nil {
		at := rows[row]
		if has := old.uint32s[fieldEventRows]; has != nil {
			for ; s.event < has[from+1]; s.event++ {
				shape := old.uint32s[fieldEventShapes][s.event]
				g.uint32s[fieldEventShapes][at] = shape
				g.int64s[fieldEventTimes-fieldStarts][at] = old.int64s[fieldEventTimes-fieldStarts][s.event]
				w.foldValues(s, shape)
				at++
			}
		}
		rows[row+1] = at
	}
	if rows := g.uint32s[fieldLinkRows]; rows != nil {
		at := rows[row]
		if has := old.uint32s[fieldLinkRows]; has != nil {
			for ; s.link < has[from+1]; s.link++ {
				shape := old.uint32s[fieldLinkShapes][s.link]
				g.uint32s[fieldLinkShapes][at] = shape
				g.traces[fieldLinkTraceIDs-fieldTraceIDs][at] = old.traces[fieldLinkTraceIDs-fieldTraceIDs][s.link]
				g.spans[fieldLinkSpanIDs-fieldSpanIDs][at] = old.spans[fieldLinkSpanIDs-fieldSpanIDs][s.link]
				w.foldValues(s, shape)
				at++
			}
		}
		rows[row+1] = at
	}
}

// foldValues copies the values of a row, event or link of a shape.
func (w *appender) foldValues(s *foldSource, shape uint32) {
	for _, col := range w.Shapes[shape].Columns {
		i := s.index[col]
		m, sink, v := &s.g.cols[i], &w.sinks[col], s.next[i]
		s.next[i]++
		switch sink.kind {
		case sinkNums:
			sink.num(m.nums[v])
		case sinkCodes:
			sink.u32[sink.next] = m.u32[v]
			sink.next++
		case sinkRaw:
			if m.coded {
				w.addBytes(sink, col, w.dicts[col].At(m.u32[v]))
			} else {
				w.addBytes(sink, col, m.bytes[m.u32[v]:m.u32[v+1]])
			}
		}
	}
}

// spanColumnBytes is what a row takes outside of columns.
const spanColumnBytes = 4 + 4 + 8 + 8 + 8 + 8 + 1

// measure sets g.size.
func (g *memGroup) measure() {
	n := &g.info
	g.size = 600 + n.Rows*spanColumnBytes + n.Traces*20 + n.Events*12 + n.Links*28
	if n.Events > 0 {
		g.size += 4 * n.Rows
	}
	if n.Links > 0 {
		g.size += 4 * n.Rows
	}
	for i := range g.cols {
		m := &g.cols[i]
		g.size += 92 + 4*len(m.u32) + 8*len(m.nums) + len(m.bytes)
	}
	g.size += 4 * (len(g.sets[0]) + len(g.sets[1]))
}
