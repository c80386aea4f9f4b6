package rows

import (
	"encoding/binary"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/storage/block"
)

// outGroup is a group that is being filled with rows, in columns as a block has
// them but for the packing.
type outGroup struct {
	space *outSpace

	shapes, resources []uint32
	starts, durations []int64
	statuses          []uint8
	spanIDs           []signal.SpanID
	parents           []int32 // rows of the group
	parentIDs         []signal.SpanID
	events, links     []uint32 // number of each row

	traceIDs   []signal.TraceID
	traceRows  []uint32 // first row of each, and the end at closing
	traceStart int64    // of the first and last trace, over all that is known of it
	traceLast  int64

	eventShapes  []uint32
	eventTimes   []int64 // relative to the span's start
	linkShapes   []uint32
	linkSpanIDs  []signal.SpanID
	linkTraceIDs []signal.TraceID

	columns []outColumn // by column of the space
	values  int
	bytes   int // of strings
	errors  int
}

// outColumn is a column of a group that is being filled.
type outColumn struct {
	vals  []int64  // codes, or numbers
	occ   []uint32 // the shapes of the rows that have them
	n     int
	texts bool // strings lie here as they are
	offs  []uint32
	data  []byte
}

func (g *outGroup) rows() int { return len(g.spanIDs) }

// full reports whether the group has as much beside rows as it should.
func (g *outGroup) full() bool {
	return g.bytes >= closeGroupBytes || g.values+len(g.eventTimes)+len(g.linkSpanIDs) >= closeGroupValues
}

// column returns column c, which belongs to the space.
func (g *outGroup) column(c uint32) *outColumn {
	if int(c) >= len(g.columns) {
		g.columns = append(g.columns, make([]outColumn, len(g.space.columns)-len(g.columns))...)
	}
	return &g.columns[c]
}

// addNum adds a number to column c for a row with a shape.
func (g *outGroup) addNum(c, shape uint32, v uint64) {
	col := g.column(c)
	col.vals = append(col.vals, int64(v))
	col.occ = append(col.occ, shape)
	col.n++
}

// addCode adds a string of the dictionary to column c for a row with a shape.
func (g *outGroup) addCode(c, shape, code uint32) {
	col, d := g.column(c), &g.space.dicts[c]
	d.values++
	if col.texts || d.raw {
		g.addText(c, d.at(code))
		return
	}
	col.vals = append(col.vals, int64(code))
	col.occ = append(col.occ, shape)
	col.n++
}

// addText adds a string to column c as it is, and with it all others of the
// column in the group.
func (g *outGroup) addText(c uint32, v []byte) {
	col := g.column(c)
	if !col.texts {
		col.texts = true
		col.offs = append(col.offs[:0], 0)
		for _, code := range col.vals {
			col.data = append(col.data, g.space.dicts[c].at(uint32(code))...)
			col.offs = append(col.offs, uint32(len(col.data)))
		}
	}
	col.data = append(col.data, v...)
	col.offs = append(col.offs, uint32(len(col.data)))
	col.n++
	g.bytes += len(v)
}

func (g *outGroup) reset() {
	cols := g.columns
	for i := range cols {
		c := &cols[i]
		*c = outColumn{vals: c.vals[:0], occ: c.occ[:0], offs: c.offs[:0], data: c.data[:0]}
	}
	*g = outGroup{
		space: g.space, columns: cols,
		shapes: g.shapes[:0], resources: g.resources[:0], starts: g.starts[:0], durations: g.durations[:0],
		statuses: g.statuses[:0], spanIDs: g.spanIDs[:0], parents: g.parents[:0], parentIDs: g.parentIDs[:0],
		events: g.events[:0], links: g.links[:0], traceIDs: g.traceIDs[:0], traceRows: g.traceRows[:0],
		eventShapes: g.eventShapes[:0], eventTimes: g.eventTimes[:0],
		linkShapes: g.linkShapes[:0], linkSpanIDs: g.linkSpanIDs[:0], linkTraceIDs: g.linkTraceIDs[:0],
	}
}

// groupWriter encodes groups into the pages of a block.
type groupWriter struct {
	w     *block.Writer
	quick bool
	ints  intEncoder
	vals  valueEncoder
	text  textEncoder
	bloom bloomBuilder

	local  []uint32 // by shape of the space: its number in the group, plus one
	set    []uint32
	shapes []uint32
	diffs  []int64
	b      []byte
	heads  []byte
	inHead int // groups in heads
	head   groupHead
	sizes  map[string]int64 // nil, or the bytes of each kind of page
}

// write writes the group. It has rows.
func (gw *groupWriter) write(g *outGroup) GroupInfo {
	h := &gw.head
	*h = groupHead{info: g.info(), columns: h.columns[:0], counts: h.counts[:0]}
	gw.localise(g)
	gw.setPage(pageShapeSet, gw.set)
	set := append(gw.set[:0:0], g.resources...)
	slices.Sort(set)
	gw.setPage(pageResourceSet, slices.Compact(set))
	gw.locals(pageShapes, g.shapes)
	gw.ranks(g)
	gw.page(pageTraceIDs, appendIDs(gw.b[:0], g.traceIDs))
	gw.page(pageTraceRows, appendInts(gw.b[:0], counts(g.traceRows, g.rows()), &gw.ints))
	gw.startPages(g)
	gw.page(pageDurations, appendInts(gw.b[:0], g.durations, &gw.ints))
	gw.page(pageStatuses, appendInts(gw.b[:0], g.statuses, &gw.ints))
	gw.page(pageSpanIDs, appendIDs(gw.b[:0], g.spanIDs))
	gw.parentPages(g)
	if len(g.eventTimes) > 0 {
		gw.page(pageEvents, appendInts(gw.b[:0], g.events, &gw.ints))
		gw.locals(pageEventShapes, g.eventShapes)
		gw.page(pageEventTimes, appendInts(gw.b[:0], g.eventTimes, &gw.ints))
	}
	if len(g.linkSpanIDs) > 0 {
		gw.page(pageLinks, appendInts(gw.b[:0], g.links, &gw.ints))
		gw.locals(pageLinkShapes, g.linkShapes)
		gw.page(pageLinkSpanIDs, appendIDs(gw.b[:0], g.linkSpanIDs))
		gw.page(pageLinkTraceIDs, appendIDs(gw.b[:0], g.linkTraceIDs))
	}
	for c := range g.columns {
		if g.columns[c].n > 0 {
			gw.column(g, uint32(c))
		}
	}
	if len(gw.bloom.columns) > 0 {
		h.bloom = true
		gw.b = gw.bloom.append(gw.b[:0])
		gw.count("blooms", len(gw.b))
		gw.w.Page(sectionBlooms, gw.b)
	}
	gw.heads = h.append(gw.heads)
	if gw.inHead++; gw.inHead == groupsPerPage {
		gw.close()
	}
	for _, s := range gw.set {
		gw.local[s] = 0
	}
	return h.info
}

// close writes the headers that are left.
func (gw *groupWriter) close() {
	if gw.inHead > 0 {
		gw.w.CompressedPage(sectionGroups, gw.heads)
	}
	gw.heads, gw.inHead = gw.heads[:0], 0
}

func (gw *groupWriter) page(k pageKind, b []byte) {
	gw.head.pages |= 1 << k
	gw.w.Page(sectionRows, b)
	gw.b = b
	gw.count(k.String(), len(b))
}

func (gw *groupWriter) setPage(k pageKind, set []uint32) {
	b := binary.AppendUvarint(gw.b[:0], uint64(len(set)))
	gw.page(k, appendInts(b, rising(set), &gw.ints))
}

func (gw *groupWriter) count(what string, n int) {
	if gw.sizes != nil {
		gw.sizes[what] += int64(n)
	}
}

func (g *outGroup) info() GroupInfo {
	return GroupInfo{
		Rows: g.rows(), Traces: len(g.traceIDs), Events: len(g.eventTimes), Links: len(g.linkSpanIDs), Errors: g.errors,
		MinStart: slices.Min(g.starts), MaxStart: slices.Max(g.starts), MinTraceStart: g.traceStart, MaxTraceStart: g.traceLast,
		MinDuration: slices.Min(g.durations), MaxDuration: slices.Max(g.durations),
	}
}

// localise numbers the shapes that the group has.
func (gw *groupWriter) localise(g *outGroup) {
	if n := len(g.space.shapes); len(gw.local) < n {
		gw.local = append(gw.local, make([]uint32, n-len(gw.local))...)
	}
	gw.set = gw.set[:0]
	for _, shapes := range [][]uint32{g.shapes, g.eventShapes, g.linkShapes} {
		for _, s := range shapes {
			if gw.local[s] == 0 {
				gw.local[s] = 1
				gw.set = append(gw.set, s)
			}
		}
	}
	slices.Sort(gw.set)
	for i, s := range gw.set {
		gw.local[s] = uint32(i) + 1
	}
}

func (gw *groupWriter) locals(k pageKind, shapes []uint32) {
	gw.shapes = grown(gw.shapes, len(shapes))
	for i, s := range shapes {
		gw.shapes[i] = gw.local[s] - 1
	}
	gw.page(k, appendInts(gw.b[:0], gw.shapes, &gw.ints))
}

func (gw *groupWriter) ranks(g *outGroup) {
	gw.shapes = grown(gw.shapes, g.rows())
	for i, r := range g.resources {
		gw.shapes[i] = g.space.rank(g.shapes[i], r)
	}
	gw.page(pageResources, appendInts(gw.b[:0], gw.shapes, &gw.ints))
}

func (gw *groupWriter) startPages(g *outGroup) {
	gw.diffs = grown(gw.diffs, len(g.traceRows))
	before := gw.head.info.MinStart
	for i, r := range g.traceRows {
		gw.diffs[i] = g.starts[r] - before
		before = g.starts[r]
	}
	gw.page(pageTraceStarts, appendInts(gw.b[:0], gw.diffs, &gw.ints))
	gw.diffs = grown(gw.diffs, g.rows())
	gw.diffs[0] = 0
	for i := 1; i < len(g.starts); i++ {
		gw.diffs[i] = g.starts[i] - g.starts[i-1]
	}
	for _, r := range g.traceRows {
		gw.diffs[r] = 0
	}
	gw.page(pageStarts, appendInts(gw.b[:0], gw.diffs, &gw.ints))
}

func (gw *groupWriter) parentPages(g *outGroup) {
	gw.diffs = grown(gw.diffs, g.rows())
	var elsewhere []signal.SpanID
	for i, p := range g.parents {
		switch {
		case p == ParentNone:
			gw.diffs[i] = parentRoot
		case p == ParentElsewhere:
			gw.diffs[i] = parentElsewhere
			elsewhere = append(elsewhere, g.parentIDs[i])
		case int(p) < i:
			gw.diffs[i] = int64(i) - int64(p) + 1
		default:
			gw.diffs[i] = int64(i) - int64(p)
		}
	}
	gw.page(pageParents, appendInts(gw.b[:0], gw.diffs, &gw.ints))
	if len(elsewhere) > 0 {
		gw.page(pageParentIDs, appendIDs(gw.b[:0], elsewhere))
	}
}

// column writes the page of column c and adds its values to the filter.
func (gw *groupWriter) column(g *outGroup, c uint32) {
	col, info := &g.columns[c], &g.space.columns[c]
	gw.head.columns = append(gw.head.columns, c)
	gw.head.counts = append(gw.head.counts, uint32(col.n))
	hashes := len(gw.bloom.hashes)
	switch {
	case info.Type == signal.AttrEmpty:
		return
	case col.texts:
		gw.b = gw.text.append(append(gw.b[:0], columnTexts), col.offs, col.data)
		for i := range col.n {
			gw.bloom.hashes = append(gw.bloom.hashes, bloomHash(c, col.data[col.offs[i]:col.offs[i+1]]))
		}
		gw.bloom.add(c, hashes)
	default:
		gw.b = gw.b[:0]
		if info.Type.InBuf() {
			gw.b = append(gw.b, columnCodes)
		}
		for i, s := range col.occ {
			col.occ[i] = gw.local[s] - 1
		}
		gw.b = gw.vals.appendValues(gw.b, col.vals, col.occ, len(gw.set), info.Type == signal.AttrDouble)
		if form := gw.b[0]; info.Type == signal.AttrInt && (form == formFlat || form == formBlocks) && wide(col.vals) {
			for _, v := range col.vals {
				gw.bloom.hashes = append(gw.bloom.hashes, bloomHashNum(c, uint64(v)))
			}
			gw.bloom.add(c, hashes)
		}
	}
	gw.w.Page(sectionRows, gw.b)
	if gw.sizes != nil {
		gw.count("column "+info.Key, len(gw.b))
	}
}

// wide reports whether vals range widely, as identifiers do.
func wide(vals []int64) bool {
	return uint64(slices.Max(vals))-uint64(slices.Min(vals)) > 1<<20
}

// rising turns rising numbers into their differences, in place.
func rising(set []uint32) []uint32 {
	out := make([]uint32, len(set))
	before := uint32(0)
	for i, v := range set {
		out[i], before = v-before, v
	}
	return out
}

// counts turns first rows into numbers of rows.
func counts(firsts []uint32, end int) []uint32 {
	out := make([]uint32, len(firsts))
	for i, f := range firsts {
		next := uint32(end)
		if i+1 < len(firsts) {
			next = firsts[i+1]
		}
		out[i] = next - f
	}
	return out
}

func appendIDs[T signal.SpanID | signal.TraceID](dst []byte, ids []T) []byte {
	for i := range ids {
		switch id := any(&ids[i]).(type) {
		case *signal.SpanID:
			dst = append(dst, id[:]...)
		case *signal.TraceID:
			dst = append(dst, id[:]...)
		}
	}
	return dst
}

var pageNames = [numPageKinds]string{
	"shape set", "resource set", "shapes", "resources", "trace ids", "trace rows", "trace starts", "starts", "durations", "statuses",
	"span ids", "parents", "parent ids", "events", "event shapes", "event times", "links", "link shapes", "link span ids", "link trace ids",
}

// String names the page for errors and reports.
func (k pageKind) String() string { return pageNames[k] }
