package rows

import (
	"cmp"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// A write reads each group of its inputs once or a few times: traces come in the
// order of their starts, which is about the order in which they lie. A group that
// is read is turned into rows: for every row its values one after the other, so
// that taking a row out of it needs no search. Codes, shapes and resources get
// their numbers in the new block when a row needs them for the first time.

// cacheBytes bounds the groups that are kept as rows.
const cacheBytes = 32 << 20

// textFlag marks a value that is a place in texts rather than a code: offset
// and length.
const (
	textFlag   = 1 << 63
	textLength = 28 // bits
)

// input is a source that is being read, and what its numbers are in the block.
type input struct {
	groups    []*Group
	sp        *Space
	shapes    []mappedShape
	scopes    []uint32 // plus one
	resources []uint32 // plus one
	codes     [][]uint32
	dicts     []*Dictionary
}

// mappedShape is a shape in the new block.
type mappedShape struct {
	known bool
	shape uint32
	cols  []uint32
}

// inGroup is a group as rows.
type inGroup struct {
	in   *input
	used uint64 // when it was last asked for
	size int

	shapes, resources   []uint32
	starts, durations   []int64
	statuses            []uint8
	spanIDs, parentIDs  []signal.SpanID
	parents             []int32
	eventRows, linkRows []uint32
	eventTimes          []int64
	linkSpanIDs         []signal.SpanID
	linkTraceIDs        []signal.TraceID
	childShapes         [NumLevels][]uint32 // of events and links
	vals                [NumLevels][]uint64
	first               [NumLevels][]uint32 // of a row's values; one more than rows
	texts               []byte
}

// traceRun is a run of an input's group.
type traceRun struct {
	id         signal.TraceID
	start      int64
	input      int32
	group      int32
	first, end int32
}

// outTrace is a trace of the new block: runs [first:end), which are in the order
// of their starts.
type outTrace struct {
	start      int64
	first, end int32
}

// listTraces lists the runs of all inputs, those of a trace together, and the
// traces in the order of their starts.
func (m *merger) listTraces() error {
	var found []TraceRun
	for i, in := range m.inputs {
		for k, g := range in.groups {
			var err error
			if found, err = AppendTraceRuns(found[:0], &m.cursor, g, k); err != nil {
				return err
			}
			for _, r := range found {
				m.runs = append(m.runs, traceRun{id: r.ID, start: r.Start, input: int32(i), group: int32(k), first: int32(r.First), end: int32(r.End)})
			}
		}
	}
	slices.SortFunc(m.runs, func(a, b traceRun) int {
		return cmp.Or(compareTraces(&a.id, &b.id), cmp.Compare(a.start, b.start), cmp.Compare(a.input, b.input), cmp.Compare(a.group, b.group))
	})
	for i := 0; i < len(m.runs); {
		k := i + 1
		for k < len(m.runs) && m.runs[k].id == m.runs[i].id {
			k++
		}
		m.traces = append(m.traces, outTrace{start: m.runs[i].start, first: int32(i), end: int32(k)})
		i = k
	}
	slices.SortFunc(m.traces, func(a, b outTrace) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.first, b.first))
	})
	return nil
}

// group returns a group of an input as rows, which are valid until the next call.
func (m *merger) group(r *traceRun) (*inGroup, error) {
	in := m.inputs[r.input]
	key := in.groups[r.group]
	m.clock++
	if g := m.cache[key]; g != nil {
		g.used = m.clock
		return g, nil
	}
	g, err := m.load(in, key)
	if err != nil {
		return nil, err
	}
	g.used = m.clock
	m.cached += g.size
	for m.cached > cacheBytes && len(m.cache) > 0 {
		var oldest *Group
		for k, c := range m.cache {
			if oldest == nil || c.used < m.cache[oldest].used {
				oldest = k
			}
		}
		m.spare = m.cache[oldest]
		m.cached -= m.spare.size
		delete(m.cache, oldest)
	}
	m.cache[key] = g
	return g, nil
}

// load reads a group and turns it into rows.
func (m *merger) load(in *input, src *Group) (*inGroup, error) {
	c := &m.cursor
	if err := c.Seek(src); err != nil {
		return nil, err
	}
	g := m.spare
	m.spare = nil
	if g == nil {
		g = &inGroup{}
	}
	g.reset(in)
	if err := g.readRows(c); err != nil {
		return nil, err
	}
	if err := g.readChildren(c, src.info); err != nil {
		return nil, err
	}
	cols, err := m.readValues(g, c)
	if err != nil {
		return nil, err
	}
	shapes, err := c.Shapes()
	if err != nil {
		return nil, err
	}
	for level, rows := range [...][]uint32{shapes, g.childShapes[LevelEvent], g.childShapes[LevelLink]} {
		total := 0
		for _, s := range rows {
			total += len(in.sp.Shapes[s].Columns)
		}
		vals, first := grown(g.vals[level], total)[:0], append(grown(g.first[level], len(rows)+1)[:0], 0)
		for _, s := range rows {
			for _, col := range in.sp.Shapes[s].Columns {
				vals = append(vals, cols[col][0])
				cols[col] = cols[col][1:]
			}
			first = append(first, uint32(len(vals)))
		}
		g.vals[level], g.first[level] = vals, first
		g.size += 8*total + 4*len(first)
	}
	g.size += len(g.texts) + 60*len(g.shapes) + 20*len(g.eventTimes) + 40*len(g.linkSpanIDs)
	return g, nil
}

// reset makes g ready for another group; buffers are kept.
func (g *inGroup) reset(in *input) {
	*g = inGroup{
		in: in, shapes: g.shapes[:0], resources: g.resources[:0], starts: g.starts[:0], durations: g.durations[:0], statuses: g.statuses[:0],
		spanIDs: g.spanIDs[:0], parentIDs: g.parentIDs[:0], parents: g.parents[:0], eventRows: g.eventRows[:0], linkRows: g.linkRows[:0],
		eventTimes: g.eventTimes[:0], linkSpanIDs: g.linkSpanIDs[:0], linkTraceIDs: g.linkTraceIDs[:0],
		childShapes: g.childShapes, vals: g.vals, first: g.first, texts: g.texts[:0],
	}
	for l := range g.childShapes {
		g.childShapes[l] = g.childShapes[l][:0]
	}
}

// readRows copies the columns of rows.
func (g *inGroup) readRows(c *Cursor) error {
	return firstError(
		copyOf(&g.shapes, c.Shapes), copyOf(&g.resources, c.Resources), copyOf(&g.starts, c.Starts), copyOf(&g.durations, c.Durations),
		copyOf(&g.statuses, c.Statuses), copyOf(&g.spanIDs, c.SpanIDs), copyOf(&g.parentIDs, c.ParentIDs), copyOf(&g.parents, c.Parents),
	)
}

func (g *inGroup) readChildren(c *Cursor, info GroupInfo) error {
	if info.Events > 0 {
		if err := firstError(copyOf(&g.eventRows, c.EventRows), copyOf(&g.eventTimes, c.EventTimes), copyOf(&g.childShapes[LevelEvent], c.EventShapes)); err != nil {
			return err
		}
	}
	if info.Links == 0 {
		return nil
	}
	return firstError(copyOf(&g.linkRows, c.LinkRows), copyOf(&g.childShapes[LevelLink], c.LinkShapes),
		copyOf(&g.linkSpanIDs, c.LinkSpanIDs), copyOf(&g.linkTraceIDs, c.LinkTraceIDs))
}

func copyOf[T any](dst *[]T, read func() ([]T, error)) error {
	vals, err := read()
	*dst = append((*dst)[:0], vals...)
	return err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readValues returns the values of every column of the group: numbers, codes, or
// places in g.texts.
func (m *merger) readValues(g *inGroup, c *Cursor) ([][]uint64, error) {
	if n := len(g.in.sp.Columns); len(m.cols) < n {
		m.cols = append(m.cols, make([][]uint64, n-len(m.cols))...)
		m.colBufs = append(m.colBufs, make([][]uint64, n-len(m.colBufs))...)
	}
	for i := range g.in.sp.Columns {
		col, err := c.Column(i)
		if err != nil {
			return nil, err
		}
		if col == nil {
			m.cols[i] = nil
			continue
		}
		buf := grown(m.colBufs[i], col.N)
		m.colBufs[i], m.cols[i] = buf, buf
		switch {
		case col.Nums != nil:
			copy(buf, col.Nums)
		case col.Codes != nil:
			g.in.dicts[i] = col.Dict
			for k, code := range col.Codes {
				buf[k] = uint64(code)
			}
		case col.Offsets != nil:
			base := uint64(len(g.texts))
			g.texts = append(g.texts, col.Bytes[col.Offsets[0]:col.Offsets[col.N]]...)
			for k := range buf {
				off := base + uint64(col.Offsets[k]-col.Offsets[0])
				buf[k] = textFlag | off<<textLength | uint64(col.Offsets[k+1]-col.Offsets[k])
			}
		default: // AttrEmpty
			clear(buf)
		}
	}
	return m.cols, nil
}

// large reports whether a run may be more than a group should have.
func (g *inGroup) large(r *traceRun) bool {
	values := int(g.first[LevelSpan][r.end] - g.first[LevelSpan][r.first])
	for _, rows := range [...][]uint32{g.eventRows, g.linkRows} {
		if len(rows) > 0 {
			values += int(rows[r.end] - rows[r.first])
		}
	}
	values += len(g.vals[LevelEvent]) + len(g.vals[LevelLink])
	return r.end-r.first > MaxGroupRows || values > closeGroupValues || len(g.texts) > 2*closeGroupBytes
}

func (g *inGroup) text(v uint64) []byte {
	off := v &^ textFlag >> textLength
	return g.texts[off : off+v&(1<<textLength-1)]
}

// shape returns what a shape of the input is in the new block.
func (m *merger) shape(in *input, s uint32) *mappedShape {
	ms := &in.shapes[s]
	if ms.known {
		return ms
	}
	src := &in.sp.Shapes[s]
	ms.known = true
	ms.cols = make([]uint32, len(src.Columns))
	for i, c := range src.Columns {
		ms.cols[i] = m.space.column(in.sp.Columns[c])
	}
	scope := uint32(0)
	if src.Level == LevelSpan {
		if in.scopes[src.Scope] == 0 {
			in.scopes[src.Scope] = m.space.scope(&in.sp.Scopes[src.Scope]) + 1
		}
		scope = in.scopes[src.Scope] - 1
	}
	ms.shape = m.space.shape(src, scope, ms.cols)
	return ms
}

func (m *merger) resource(in *input, r uint32) uint32 {
	if in.resources[r] == 0 {
		in.resources[r] = m.space.resource(&in.sp.Resources[r]) + 1
	}
	return in.resources[r] - 1
}

// code returns the code of a string of the input in the new block.
func (m *merger) code(in *input, src, dst uint32, code uint32) uint32 {
	if in.codes[src] == nil {
		in.codes[src] = make([]uint32, in.dicts[src].Len())
	}
	if int(code) >= len(in.codes[src]) { // the dictionary of a table grows
		in.codes[src] = append(in.codes[src], make([]uint32, in.dicts[src].Len()-len(in.codes[src]))...)
	}
	p := &in.codes[src][code]
	if *p == 0 {
		*p = m.space.dicts[dst].code(in.dicts[src].At(code)) + 1
	}
	return *p - 1
}
