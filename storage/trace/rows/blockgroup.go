package rows

import (
	"slices"
	"sort"
	"unsafe"

	"github.com/vedette-io/vedette/internal/signal"
)

// blockGroup is a group of a block: its columns.
type blockGroup struct {
	b    *Block
	head *groupHead
}

// blockState is what a cursor keeps of the group of a block that it reads: the
// shapes of its rows, which columns by shape and the checks of lengths need.
type blockState struct {
	epoch  uint64
	set    []uint32            // shapes of the group
	local  [NumLevels][]uint32 // of rows, events and links: place in set
	levels []Level             // by place in set
	used   []uint32            // by place in set: rows that have it
	counts []uint32            // values by column
	begins []uint32            // by column: its shapes are list[begins[c]:ends[c]]
	ends   []uint32
	list   []shapeCount
	vals   []int64
	codes  shapedScratch[uint32]
	nums   shapedScratch[int64]
}

func (g *blockGroup) space() (*Space, error) { return g.b.Space() }

func (g *blockGroup) columnSet() []uint32 { return g.head.columns }

func (g *blockGroup) shapeSet() []uint32 {
	set, err := g.set(pageShapeSet, g.b.meta.Shapes, nil)
	if err != nil {
		return nil
	}
	return set
}

func (g *blockGroup) resourceSet() []uint32 {
	sp, err := g.b.Space()
	if err != nil {
		return nil
	}
	set, err := g.set(pageResourceSet, len(sp.Resources), nil)
	if err != nil {
		return nil
	}
	return set
}

func (g *blockGroup) mayHave(col uint32, value []byte, num uint64) bool {
	if _, ok := slices.BinarySearch(g.head.columns, col); !ok {
		return false
	}
	if !g.head.bloom {
		return true
	}
	page, _, err := g.b.r.Page(sectionBlooms, g.head.bloomPage, nil)
	if err != nil {
		return true
	}
	if g.b.columns[col].Type.InBuf() {
		return bloomMayHave(page, col, bloomHash(col, value))
	}
	return bloomMayHave(page, col, bloomHashNum(col, num))
}

// page returns a page of the group and its number; size is its length, if that
// is known (else -1).
func (g *blockGroup) page(k pageKind, size int) ([]byte, int, error) {
	n := g.head.firstPage
	for i := range k {
		n += int(g.head.pages >> i & 1)
	}
	if g.head.pages>>k&1 == 0 {
		if size == 0 {
			return nil, n, nil
		}
		return nil, n, g.b.corrupt(sectionRows, n, "no page of %s", k)
	}
	page, _, err := g.b.r.Page(sectionRows, n, nil)
	if err == nil && size >= 0 && len(page) != size {
		err = g.b.corrupt(sectionRows, n, "%d bytes of %s, want %d", len(page), k, size)
	}
	return page, n, err
}

// readPage decodes the values [lo:hi) of the n of a page of integers into buf.
func readPage[T integer](g *blockGroup, c *Cursor, k pageKind, n, lo, hi int, buf *[]T) ([]T, error) {
	page, at, err := g.page(k, -1)
	if err != nil {
		return nil, err
	}
	if c != nil {
		c.inspect(len(page))
	}
	col, err := parseInts(page, n)
	if err == nil {
		*buf = grown(*buf, hi-lo)
		err = decodeInts(*buf, &col, lo)
	}
	if err != nil {
		return nil, g.b.corrupt(sectionRows, at, "%s: %v", k, err)
	}
	return *buf, nil
}

// set reads rising numbers below limit.
func (g *blockGroup) set(k pageKind, limit int, buf []uint32) ([]uint32, error) {
	page, at, err := g.page(k, -1)
	if err != nil {
		return nil, err
	}
	i := &g.head.info
	p := parser{b: page}
	n := p.number(min(limit, i.Rows+i.Events+i.Links))
	set := grown(buf, n)
	col, err := parseInts(p.b, n)
	if err == nil && !p.bad {
		err = decodeInts(set, &col, 0)
	}
	if err != nil || p.bad {
		return nil, g.b.corrupt(sectionRows, at, "%s: %v", k, err)
	}
	last := uint64(0)
	for i, d := range set {
		last += uint64(d)
		if last >= uint64(limit) || i > 0 && d == 0 {
			return nil, g.b.corrupt(sectionRows, at, "%s: %d of %d", k, last, limit)
		}
		set[i] = uint32(last)
	}
	return set, nil
}

// state returns what c keeps of the group.
func (g *blockGroup) state(c *Cursor) (*blockState, error) {
	st := &c.block
	if st.epoch == c.epoch {
		return st, nil
	}
	var err error
	if st.set, err = g.set(pageShapeSet, len(c.sp.Shapes), st.set); err != nil {
		return nil, err
	}
	st.used, st.levels = grown(st.used, len(st.set)), grown(st.levels, len(st.set))
	clear(st.used)
	for i, s := range st.set {
		st.levels[i] = c.sp.Shapes[s].Level
	}
	i := &g.head.info
	for level, k := range [...]pageKind{pageShapes, pageEventShapes, pageLinkShapes} {
		n := [...]int{i.Rows, i.Events, i.Links}[level]
		if st.local[level], err = readLocals(g, c, st, Level(level), k, n); err != nil {
			return nil, err
		}
	}
	if err := g.count(c, st); err != nil {
		return nil, err
	}
	st.epoch = c.epoch
	return st, nil
}

func readLocals(g *blockGroup, c *Cursor, st *blockState, level Level, k pageKind, n int) ([]uint32, error) {
	if n == 0 {
		return st.local[level][:0], nil
	}
	local, err := readPage(g, c, k, n, 0, n, &st.local[level])
	if err != nil {
		return nil, err
	}
	used := st.used
	for _, s := range local {
		if int(s) >= len(used) {
			return nil, g.corrupt(k, "shape %d of %d", s, len(used))
		}
		used[s]++
	}
	// All rows have shapes of the level if as many rows have one.
	for s, m := range used {
		if st.levels[s] == level {
			n -= int(m)
		}
	}
	if n != 0 {
		return nil, g.corrupt(k, "%d shapes of other levels", n)
	}
	return local, nil
}

func (g *blockGroup) corrupt(k pageKind, format string, args ...any) error {
	_, n, _ := g.page(k, -1)
	return g.b.corrupt(sectionRows, n, k.String()+": "+format, args...)
}

// count sets the number of values of every column and which shapes have them, and
// compares with the header.
func (g *blockGroup) count(c *Cursor, st *blockState) error {
	n := len(c.sp.Columns)
	st.counts, st.begins, st.ends = grown(st.counts, n), grown(st.begins, n+1), grown(st.ends, n)
	clear(st.counts)
	clear(st.begins)
	for s, used := range st.used {
		if used == 0 {
			continue
		}
		for _, col := range c.sp.Shapes[st.set[s]].Columns {
			if total := uint64(st.counts[col]) + uint64(used); total <= maxGroupValues {
				st.counts[col] = uint32(total)
			} else {
				return g.corrupt(pageShapes, "column %d has more than %d values", col, maxGroupValues)
			}
			st.begins[col+1]++
		}
	}
	total := 0
	for _, n := range st.counts {
		if n > 0 {
			total++
		}
	}
	if total != len(g.head.columns) {
		return g.corrupt(pageShapes, "rows have %d columns, want %d", total, len(g.head.columns))
	}
	for k, col := range g.head.columns {
		if st.counts[col] != g.head.counts[k] {
			return g.corrupt(pageShapes, "column %d has %d values, want %d", col, st.counts[col], g.head.counts[k])
		}
	}
	for i := range n {
		st.begins[i+1] += st.begins[i]
	}
	copy(st.ends, st.begins)
	st.list = grown(st.list, int(st.begins[n]))
	for s, used := range st.used {
		if used == 0 {
			continue
		}
		for _, col := range c.sp.Shapes[st.set[s]].Columns {
			// A column that is listed twice takes one entry and leaves one unused.
			at := st.ends[col]
			if at > st.begins[col] && st.list[at-1].shape == uint32(s) {
				st.list[at-1].count++
				continue
			}
			st.list[at] = shapeCount{shape: uint32(s), count: 1}
			st.ends[col]++
		}
	}
	return nil
}

func (g *blockGroup) number(c *Cursor, col uint32) (int, error) {
	k, ok := slices.BinarySearch(g.head.columns, col)
	if !ok {
		return 0, nil
	}
	if _, err := g.state(c); err != nil {
		return 0, err
	}
	return int(g.head.counts[k]), nil
}

func (g *blockGroup) uints(c *Cursor, f field, lo, hi int, buf *[]uint32) ([]uint32, error) {
	switch f {
	case fieldShapes:
		return g.shapes(c, LevelSpan, lo, hi, buf)
	case fieldEventShapes:
		return g.shapes(c, LevelEvent, lo, hi, buf)
	case fieldLinkShapes:
		return g.shapes(c, LevelLink, lo, hi, buf)
	case fieldResources:
		return g.resources(c, lo, hi, buf)
	}
	var rows []uint32
	var err error
	switch f {
	case fieldTraceRows:
		rows, err = g.traceRows(buf)
	case fieldEventRows:
		rows, err = g.childRows(c, pageEvents, g.head.info.Events, buf)
	case fieldLinkRows:
		rows, err = g.childRows(c, pageLinks, g.head.info.Links, buf)
	default:
		panic("BUG: no column of uint32")
	}
	if err != nil {
		return nil, err
	}
	return rows[lo:hi], nil
}

func (g *blockGroup) shapes(c *Cursor, level Level, lo, hi int, buf *[]uint32) ([]uint32, error) {
	st, err := g.state(c)
	if err != nil {
		return nil, err
	}
	out := grown(*buf, hi-lo)
	for i, s := range st.local[level][lo:hi] {
		out[i] = st.set[s]
	}
	*buf = out
	return out, nil
}

func (g *blockGroup) resources(c *Cursor, lo, hi int, buf *[]uint32) ([]uint32, error) {
	st, err := g.state(c)
	if err != nil {
		return nil, err
	}
	out, err := readPage(g, c, pageResources, g.head.info.Rows, lo, hi, buf)
	if err != nil {
		return nil, err
	}
	pr := &c.sp.producers
	for i, s := range st.local[LevelSpan][lo:hi] {
		shape := st.set[s]
		begin := uint32(0)
		if shape > 0 {
			begin = pr.ends[shape-1]
		}
		if out[i] >= pr.ends[shape]-begin {
			return nil, g.corrupt(pageResources, "resource %d of %d of shape %d", out[i], pr.ends[shape]-begin, shape)
		}
		out[i] = pr.list[begin+out[i]]
	}
	return out, nil
}

// traceRows returns the first row of every trace, and the end.
func (g *blockGroup) traceRows(buf *[]uint32) ([]uint32, error) {
	return g.firsts(nil, pageTraceRows, g.head.info.Traces, g.head.info.Rows, 1, buf)
}

// childRows returns the first event or link of every row, and the end.
func (g *blockGroup) childRows(c *Cursor, k pageKind, total int, buf *[]uint32) ([]uint32, error) {
	return g.firsts(c, k, g.head.info.Rows, total, 0, buf)
}

// firsts reads n numbers, least or more each, and returns their sums.
func (g *blockGroup) firsts(c *Cursor, k pageKind, n, total int, least uint32, buf *[]uint32) ([]uint32, error) {
	*buf = grown(*buf, n+1)
	part := (*buf)[1:]
	out, err := readPage(g, c, k, n, 0, n, &part)
	if err != nil {
		return nil, err
	}
	(*buf)[0] = 0
	sum := uint64(0)
	for i, m := range out {
		sum += uint64(m)
		if m < least || sum > uint64(total) {
			return nil, g.corrupt(k, "more than %d, or less than %d in one", total, least)
		}
		out[i] = uint32(sum)
	}
	if sum != uint64(total) {
		return nil, g.corrupt(k, "sum is %d, want %d", sum, total)
	}
	return *buf, nil
}

func (g *blockGroup) ints(c *Cursor, f field, lo, hi int, buf *[]int64) ([]int64, error) {
	switch f {
	case fieldStarts:
		return g.starts(c, lo, hi, buf)
	case fieldDurations:
		return readPage(g, c, pageDurations, g.head.info.Rows, lo, hi, buf)
	case fieldEventTimes:
		return g.eventTimes(c, lo, hi, buf)
	}
	panic("BUG: no column of int64")
}

func (g *blockGroup) starts(c *Cursor, lo, hi int, buf *[]int64) ([]int64, error) {
	info := &g.head.info
	rows, err := c.TraceRows()
	if err != nil {
		return nil, err
	}
	st := &c.block
	firsts, err := readPage(g, c, pageTraceStarts, info.Traces, 0, info.Traces, &st.vals)
	if err != nil {
		return nil, err
	}
	trace := sort.Search(info.Traces, func(t int) bool { return int(rows[t+1]) > lo })
	from := lo
	if trace < info.Traces {
		from = int(rows[trace])
	}
	out, err := readPage(g, c, pageStarts, info.Rows, from, hi, buf)
	if err != nil {
		return nil, err
	}
	start := info.MinStart
	for _, d := range firsts[:trace] {
		start += d
	}
	for ; trace < info.Traces && int(rows[trace]) < hi; trace++ {
		start += firsts[trace]
		x := start
		part := out[int(rows[trace])-from : min(int(rows[trace+1]), hi)-from]
		for i, d := range part {
			x += d
			part[i] = x
		}
	}
	return out[lo-from:], nil
}

func (g *blockGroup) eventTimes(c *Cursor, lo, hi int, buf *[]int64) ([]int64, error) {
	out, err := readPage(g, c, pageEventTimes, g.head.info.Events, lo, hi, buf)
	if err != nil {
		return nil, err
	}
	rows, err := c.EventRows()
	if err != nil {
		return nil, err
	}
	starts, err := c.Starts()
	if err != nil {
		return nil, err
	}
	row := sort.Search(len(starts), func(r int) bool { return int(rows[r+1]) > lo })
	for i := lo; i < hi; i++ {
		for int(rows[row+1]) <= i {
			row++
		}
		out[i-lo] += starts[row]
	}
	return out, nil
}

func (g *blockGroup) spanIDs(c *Cursor, f field, lo, hi int, buf *[]signal.SpanID) ([]signal.SpanID, error) {
	switch f {
	case fieldSpanIDs:
		return readSpanIDs(g, c, pageSpanIDs, g.head.info.Rows, lo, hi)
	case fieldLinkSpanIDs:
		return readSpanIDs(g, c, pageLinkSpanIDs, g.head.info.Links, lo, hi)
	case fieldParentIDs:
		return g.parentIDs(c, lo, hi, buf)
	}
	panic("BUG: no column of span ids")
}

// readSpanIDs returns ids where they lie in the mapping.
func readSpanIDs(g *blockGroup, c *Cursor, k pageKind, n, lo, hi int) ([]signal.SpanID, error) {
	page, _, err := g.page(k, n*8)
	if err != nil {
		return nil, err
	}
	c.inspect((hi - lo) * 8)
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*signal.SpanID)(unsafe.Pointer(&page[0])), n)[lo:hi:hi], nil
}

func (g *blockGroup) traceIDs(c *Cursor, f field, lo, hi int, _ *[]signal.TraceID) ([]signal.TraceID, error) {
	k, n := pageTraceIDs, g.head.info.Traces
	if f == fieldLinkTraceIDs {
		k, n = pageLinkTraceIDs, g.head.info.Links
	}
	page, _, err := g.page(k, n*16)
	if err != nil {
		return nil, err
	}
	c.inspect((hi - lo) * 16)
	if n == 0 {
		return nil, nil
	}
	return unsafe.Slice((*signal.TraceID)(unsafe.Pointer(&page[0])), n)[lo:hi:hi], nil
}

func (g *blockGroup) statuses(c *Cursor, lo, hi int, buf *[]uint8) ([]uint8, error) {
	return readPage(g, c, pageStatuses, g.head.info.Rows, lo, hi, buf)
}

func (g *blockGroup) parents(c *Cursor, lo, hi int, buf *[]int32) ([]int32, error) {
	out, err := readPage(g, c, pageParents, g.head.info.Rows, lo, hi, buf)
	if err != nil {
		return nil, err
	}
	rows := int32(g.head.info.Rows)
	for i, v := range out {
		row := int32(lo + i)
		p := ParentNone
		switch {
		case v == parentElsewhere:
			p = ParentElsewhere
		case v > parentElsewhere:
			p = row - v + 1
		case v < 0:
			p = row - v
		}
		if v > rows || v < -rows || v != parentRoot && v != parentElsewhere && (p < 0 || p >= rows) {
			return nil, g.corrupt(pageParents, "row %d has parent %d of %d", row, v, rows)
		}
		out[i] = p
	}
	return out, nil
}

func (g *blockGroup) parentIDs(c *Cursor, lo, hi int, buf *[]signal.SpanID) ([]signal.SpanID, error) {
	parents, err := c.Parents()
	if err != nil {
		return nil, err
	}
	ids, err := c.SpanIDs()
	if err != nil {
		return nil, err
	}
	var elsewhere []signal.SpanID
	if g.head.pages>>pageParentIDs&1 == 1 {
		page, at, err := g.page(pageParentIDs, -1)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 || len(page)%8 != 0 {
			return nil, g.b.corrupt(sectionRows, at, "%d bytes of parent ids", len(page))
		}
		elsewhere = unsafe.Slice((*signal.SpanID)(unsafe.Pointer(&page[0])), len(page)/8)
	}
	out := grown(*buf, hi-lo)
	next := 0
	for row, p := range parents[:hi] {
		var id signal.SpanID
		switch {
		case p >= 0:
			id = ids[p]
		case p == ParentElsewhere:
			if next == len(elsewhere) {
				return nil, g.corrupt(pageParents, "%d parents elsewhere, want more", next)
			}
			id = elsewhere[next]
			next++
		}
		if row >= lo {
			out[row-lo] = id
		}
	}
	*buf = out
	return out, nil
}

func (g *blockGroup) column(c *Cursor, col uint32, lo, hi int, dst *Column) error {
	k, ok := slices.BinarySearch(g.head.columns, col)
	if !ok || hi > int(g.head.counts[k]) {
		return g.corrupt(pageShapes, "values %d to %d of column %d, which has fewer", lo, hi, col)
	}
	info := &g.b.columns[col]
	if info.Type == signal.AttrEmpty {
		return nil
	}
	st, err := g.state(c)
	if err != nil {
		return err
	}
	page, _, err := g.b.r.Page(sectionRows, g.head.pageOf[k], nil)
	if err != nil {
		return err
	}
	c.inspect(len(page))
	n := int(g.head.counts[k])
	rs := &rowShapes{rows: st.local[info.Level], used: st.used, listing: st.list[st.begins[col]:st.ends[col]]}
	if err := st.values(page, info, n, lo, hi, rs, dst); err != nil {
		return g.b.corrupt(sectionRows, g.head.pageOf[k], "column %d (%s): %v", col, info.Key, err)
	}
	if dst.Codes != nil {
		if dst.Dict, err = g.b.dictionary(col); err != nil {
			return err
		}
		length := uint32(g.b.dicts[col].n)
		for _, code := range dst.Codes {
			if code >= length {
				return g.b.corrupt(sectionRows, g.head.pageOf[k], "column %d (%s): code %d of %d", col, info.Key, code, length)
			}
		}
	}
	return nil
}

// values decodes the values [lo:hi) of a column's page into dst.
func (st *blockState) values(page []byte, info *ColumnInfo, n, lo, hi int, rs *rowShapes, dst *Column) error {
	if !info.Type.InBuf() {
		dst.numBuf = grown(dst.numBuf, hi-lo+1)
		nums := unsafe.Slice((*int64)(unsafe.Pointer(&dst.numBuf[0])), hi-lo+1)
		dst.Nums = dst.numBuf[:hi-lo]
		return decodeValues(nums[:hi-lo], page, n, lo, rs, &st.nums)
	}
	if len(page) == 0 {
		return badColumn("empty page")
	}
	switch page[0] {
	case columnCodes:
		dst.codeBuf = grown(dst.codeBuf, hi-lo+1)
		dst.Codes = dst.codeBuf[:hi-lo]
		return decodeValues(dst.Codes, page[1:], n, lo, rs, &st.codes)
	case columnTexts:
		t := textBuffers{offs: dst.offBuf, data: dst.byteBuf, numbers: st.vals}
		err := t.decode(page[1:], n, lo, hi)
		dst.offBuf, dst.byteBuf, st.vals = t.offs, t.data, t.numbers
		dst.Offsets, dst.Bytes = t.offs, t.data
		return err
	}
	return badColumn("unknown form %d of strings", page[0])
}
