package rows

import (
	"bytes"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// statusError is OTLP's number.
const statusError = 2

// memGroup is the columns of a group in memory. It does not change once it is
// built.
type memGroup struct {
	info GroupInfo

	uint32s  [fieldLinkShapes + 1][]uint32
	int64s   [fieldEventTimes - fieldStarts + 1][]int64
	spans    [fieldLinkSpanIDs - fieldSpanIDs + 1][]signal.SpanID
	traces   [fieldLinkTraceIDs - fieldTraceIDs + 1][]signal.TraceID
	statuses []uint8

	cols   []memColumn // rising by col
	colSet []uint32    // their numbers
	sets   [2][]uint32 // shapes and resources that rows have, rising

	// For the appender alone.
	numbers []uint32 // where appender.groups has it
	folds   uint8
	size    int // bytes, about
}

// memColumn is a column of a group in memory, as Column describes it.
type memColumn struct {
	col   uint32
	n     uint32
	coded bool
	u32   []uint32 // codes or offsets
	bytes []byte
	nums  []uint64
}

func (g *memGroup) shapes() []uint32       { return g.uint32s[fieldShapes] }
func (g *memGroup) traceRows() []uint32    { return g.uint32s[fieldTraceRows] }
func (g *memGroup) starts() []int64        { return g.int64s[0] }
func (g *memGroup) durations() []int64     { return g.int64s[fieldDurations-fieldStarts] }
func (g *memGroup) ids() []signal.SpanID   { return g.spans[0] }
func (g *memGroup) tids() []signal.TraceID { return g.traces[0] }

// findTrace returns the rows of a trace.
func (g *memGroup) findTrace(id signal.TraceID) (first, end int, ok bool) {
	t, ok := slices.BinarySearchFunc(g.tids(), id, compareIDs)
	if !ok {
		return 0, 0, false
	}
	return int(g.traceRows()[t]), int(g.traceRows()[t+1]), true
}

// sum sets what g.info says of starts, durations and statuses.
func (g *memGroup) sum() {
	n := &g.info
	n.MinStart, n.MaxStart = slices.Min(g.starts()), slices.Max(g.starts())
	n.MinDuration, n.MaxDuration = slices.Min(g.durations()), slices.Max(g.durations())
	n.MinTraceStart, n.MaxTraceStart = math.MaxInt64, math.MinInt64
	for _, row := range g.traceRows()[:n.Traces] {
		n.MinTraceStart = min(n.MinTraceStart, g.starts()[row])
		n.MaxTraceStart = max(n.MaxTraceStart, g.starts()[row])
	}
	for _, s := range g.statuses {
		if s == statusError {
			n.Errors++
		}
	}
}

func (g *memGroup) find(col uint32) *memColumn {
	i, ok := slices.BinarySearch(g.colSet, col)
	if !ok {
		return nil
	}
	return &g.cols[i]
}

// viewGroup is a memGroup and the space of one view.
type viewGroup struct {
	*memGroup
	sp *Space
}

func (g *viewGroup) space() (*Space, error) { return g.sp, nil }
func (g *viewGroup) columnSet() []uint32    { return g.colSet }
func (g *viewGroup) shapeSet() []uint32     { return g.sets[0] }
func (g *viewGroup) resourceSet() []uint32  { return g.sets[1] }

func (g *viewGroup) mayHave(col uint32, _ []byte, _ uint64) bool { return g.find(col) != nil }

func (g *viewGroup) number(_ *Cursor, col uint32) (int, error) {
	if m := g.find(col); m != nil {
		return int(m.n), nil
	}
	return 0, nil
}

func (g *viewGroup) uints(c *Cursor, f field, lo, hi int, _ *[]uint32) ([]uint32, error) {
	c.inspect(4 * (hi - lo))
	return g.uint32s[f][lo:hi:hi], nil
}

func (g *viewGroup) ints(c *Cursor, f field, lo, hi int, _ *[]int64) ([]int64, error) {
	c.inspect(8 * (hi - lo))
	return g.int64s[f-fieldStarts][lo:hi:hi], nil
}

func (g *viewGroup) spanIDs(c *Cursor, f field, lo, hi int, _ *[]signal.SpanID) ([]signal.SpanID, error) {
	c.inspect(8 * (hi - lo))
	return g.spans[f-fieldSpanIDs][lo:hi:hi], nil
}

func (g *viewGroup) traceIDs(c *Cursor, f field, lo, hi int, _ *[]signal.TraceID) ([]signal.TraceID, error) {
	c.inspect(16 * (hi - lo))
	return g.traces[f-fieldTraceIDs][lo:hi:hi], nil
}

func (g *viewGroup) statuses(c *Cursor, lo, hi int, _ *[]uint8) ([]uint8, error) {
	c.inspect(hi - lo)
	return g.memGroup.statuses[lo:hi:hi], nil
}

func (g *viewGroup) parents(c *Cursor, lo, hi int, buf *[]int32) ([]int32, error) {
	*buf = slices.Grow((*buf)[:0], g.info.Rows)[:g.info.Rows]
	shapes := g.shapes()
	c.finder.find(*buf, g.traceRows(), g.ids(), g.spans[fieldParentIDs-fieldSpanIDs], func(row int) bool {
		return g.sp.Shapes[shapes[row]].Kind == kindServer
	})
	c.inspect(8 * g.info.Rows)
	return (*buf)[lo:hi:hi], nil
}

func (g *viewGroup) column(c *Cursor, col uint32, lo, hi int, dst *Column) error {
	m := g.find(col)
	switch {
	case m.nums != nil:
		dst.Nums = m.nums[lo:hi:hi]
		c.inspect(8 * (hi - lo))
	case m.coded:
		dst.Codes, dst.Dict = m.u32[lo:hi:hi], g.sp.dicts[col]
		c.inspect(4 * (hi - lo))
	case m.u32 != nil:
		dst.Offsets, dst.Bytes = m.u32[lo:hi+1:hi+1], m.bytes
		c.inspect(4*(hi-lo) + int(m.u32[hi]-m.u32[lo]))
	}
	return nil
}

// memArenas is what groups in memory are made of.
type memArenas struct {
	u32    arena[uint32]
	i64    arena[int64]
	u64    arena[uint64]
	text   arena[byte]
	spans  arena[signal.SpanID]
	traces arena[signal.TraceID]
}

// valueSink collects the values of one column while a group is built.
type valueSink struct {
	kind sinkKind
	next int // next entry of u32 or nums
	u32  []uint32
	nums []uint64
	text []byte // scratch of raw values; reused
	n    uint32 // values of the group; zero between groups
	own  int    // index in the group's columns
}

type sinkKind uint8

const (
	sinkEmpty sinkKind = iota
	sinkNums
	sinkCodes
	sinkRaw
)

// groupBuilder builds one group after another; its buffers are reused.
type groupBuilder struct {
	*spaceBuilder
	memArenas

	sinks  []valueSink // by column
	counts [2]counter  // of shapes and resources
	cols   []uint32    // columns of the group
	size   int         // bytes of the groups
}

// counter counts small numbers and remembers which it has seen.
type counter struct {
	count []uint32
	seen  []uint32
}

func (c *counter) grow(n int) {
	if len(c.count) < n {
		c.count = append(c.count, make([]uint32, n-len(c.count)+n/2)...)
	}
}

func (c *counter) add(v uint32) {
	if c.count[v] == 0 {
		c.seen = append(c.seen, v)
	}
	c.count[v]++
}

func (c *counter) addAll(vals []uint32) {
	for _, v := range vals {
		c.add(v)
	}
}

func (c *counter) reset() {
	for _, v := range c.seen {
		c.count[v] = 0
	}
	c.seen = c.seen[:0]
}

// plan counts the values that the group's columns will have, from the counted
// shapes, and makes room for them.
func (w *groupBuilder) plan(g *memGroup) {
	if grow := len(w.Columns) - len(w.sinks); grow > 0 {
		w.sinks = append(w.sinks, make([]valueSink, grow)...)
	}
	w.cols = w.cols[:0]
	shapes := &w.counts[0]
	for _, s := range shapes.seen {
		n := shapes.count[s]
		for _, col := range w.Shapes[s].Columns {
			if w.sinks[col].n == 0 {
				w.cols = append(w.cols, col)
			}
			w.sinks[col].n += n
		}
	}
	slices.Sort(w.cols)
	var u32, u64 int
	for _, col := range w.cols {
		s := &w.sinks[col]
		s.kind = w.sinkKind(col)
		switch s.kind {
		case sinkNums:
			u64 += int(s.n)
		case sinkCodes:
			u32 += int(s.n)
		case sinkRaw:
			u32 += int(s.n) + 1
		}
	}
	all32, all64 := w.u32.take(u32+len(w.cols)), w.u64.take(u64)
	g.colSet, all32 = all32[:len(w.cols):len(w.cols)], all32[len(w.cols):]
	copy(g.colSet, w.cols)
	g.cols = make([]memColumn, len(w.cols))
	for i, col := range w.cols {
		s := &w.sinks[col]
		s.next, s.own, s.text = 0, i, s.text[:0]
		m := memColumn{col: col, n: s.n, coded: s.kind == sinkCodes}
		switch s.kind {
		case sinkNums:
			m.nums, all64 = all64[:s.n:s.n], all64[s.n:]
		case sinkCodes:
			m.u32, all32 = all32[:s.n:s.n], all32[s.n:]
		case sinkRaw:
			m.u32, all32 = all32[:s.n+1:s.n+1], all32[s.n+1:]
		}
		s.u32, s.nums = m.u32, m.nums
		g.cols[i] = m
	}
}

// room makes room for what is not in columns; the counts of g.info are set.
func (w *groupBuilder) room(g *memGroup) {
	n := &g.info
	take := func(f field, k int) { g.uint32s[f] = w.u32.take(k) }
	take(fieldShapes, n.Rows)
	take(fieldResources, n.Rows)
	take(fieldTraceRows, n.Traces+1)
	g.int64s[0], g.int64s[1] = w.i64.take(n.Rows), w.i64.take(n.Rows)
	g.spans[0], g.spans[1] = w.spans.take(n.Rows), w.spans.take(n.Rows)
	g.traces[0] = w.traces.take(n.Traces)
	g.statuses = w.text.take(n.Rows)
	if n.Events > 0 {
		take(fieldEventRows, n.Rows+1)
		take(fieldEventShapes, n.Events)
		g.int64s[fieldEventTimes-fieldStarts] = w.i64.take(n.Events)
	}
	if n.Links > 0 {
		take(fieldLinkRows, n.Rows+1)
		take(fieldLinkShapes, n.Links)
		g.spans[fieldLinkSpanIDs-fieldSpanIDs] = w.spans.take(n.Links)
		g.traces[fieldLinkTraceIDs-fieldTraceIDs] = w.traces.take(n.Links)
	}
}

func (w *groupBuilder) sinkKind(col uint32) sinkKind {
	switch t := w.Columns[col].Type; {
	case t == signal.AttrEmpty:
		return sinkEmpty
	case !t.InBuf():
		return sinkNums
	case w.dicts[col].raw:
		return sinkRaw
	}
	return sinkCodes
}

// num takes the next value of a column.
func (s *valueSink) num(v uint64) {
	s.nums[s.next] = v
	s.next++
}

// addBytes takes the next value of column col.
func (w *groupBuilder) addBytes(s *valueSink, col uint32, value []byte) {
	if s.kind == sinkCodes {
		s.u32[s.next] = w.dicts[col].code(value, w.hash.bytes(value))
	} else {
		s.text = append(s.text, value...)
		s.u32[s.next+1] = uint32(len(s.text))
	}
	s.next++
}

// finish puts what the sinks have into the group. fresh values count for whether
// dictionaries pay.
func (w *groupBuilder) finish(g *memGroup, fresh bool) {
	for _, col := range w.cols {
		s := &w.sinks[col]
		switch s.kind {
		case sinkRaw:
			text := w.text.take(len(s.text))
			copy(text, s.text)
			g.cols[s.own].bytes = text
			if cap(s.text) > 1<<20 {
				s.text = nil
			}
		case sinkCodes:
			if d := &w.dicts[col]; fresh {
				d.seen += int(s.n)
				d.review()
			}
		}
		s.n, s.u32, s.nums = 0, nil, nil
	}
	for i := range g.sets {
		c := &w.counts[i]
		g.sets[i] = w.u32.take(len(c.seen))
		copy(g.sets[i], c.seen)
		slices.Sort(g.sets[i])
		c.reset()
	}
	g.measure()
	w.size += g.size
}

func compareIDs(a, b signal.TraceID) int { return bytes.Compare(a[:], b[:]) }
