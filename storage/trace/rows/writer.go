package rows

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/storage/block"
)

// WriteOptions say what Write writes.
type WriteOptions struct {
	// Quick compresses less hard: the block will soon be merged.
	Quick bool
	// Keep decides which traces the block gets; nil keeps all. It is asked once for
	// each.
	Keep func(id signal.TraceID) bool
	// KeepService decides which services' spans the block gets; nil keeps all. It
	// is asked once for each resource of an input.
	KeepService func(service string) bool
	// Origin goes into the block's meta as it is.
	Origin json.RawMessage
}

// Write writes what the sources have as a block in dir, whose parent exists. A
// flush gives it a table, a merge gives it blocks; a trace's rows of all sources
// are joined, without exact duplicates. Damage of a source is reported as a
// block.CorruptionError; then, and when ctx ends, nothing is left in dir.
//
// Beside the list of traces (some 60 bytes for each run of rows), memory does
// not depend on how much the sources have.
func Write(ctx context.Context, fs vfs.FS, dir string, sources []Source, o WriteOptions) (Meta, error) {
	m, err := newMerger(sources, o)
	if err != nil {
		return Meta{}, err
	}
	return m.write(ctx, fs, dir)
}

func (m *merger) write(ctx context.Context, fs vfs.FS, dir string) (Meta, error) {
	if err := m.listTraces(); err != nil {
		return Meta{}, err
	}
	w, err := block.Create(fs, dir, block.Options{Quick: m.o.Quick})
	if err != nil {
		return Meta{}, err
	}
	m.begin(w)
	for i := range m.traces {
		if i%256 == 0 && ctx.Err() != nil {
			w.Abort()
			return Meta{}, ctx.Err()
		}
		if err := m.trace(&m.traces[i]); err != nil {
			w.Abort()
			return Meta{}, err
		}
	}
	return m.finish()
}

// merger is one call of Write.
type merger struct {
	o      WriteOptions
	inputs []*input
	runs   []traceRun
	traces []outTrace

	cursor  Cursor
	cache   map[*Group]*inGroup
	cached  int      // bytes
	spare   *inGroup // whose buffers can be used again
	clock   uint64
	cols    [][]uint64
	colBufs [][]uint64

	space *outSpace
	out   outGroup
	gw    groupWriter
	meta  Meta
	ids   []signal.TraceID

	rows    []rowRef
	finder  parentFinder
	dropped [][]int8 // by input, resource: 0 unknown, 1 kept, 2 dropped
	rest    []byte
}

// rowRef is a row of an input.
type rowRef struct {
	start, duration int64
	id              signal.SpanID
	run             int32
	row             int32
	shape           uint32 // of the input
}

func newMerger(sources []Source, o WriteOptions) (*merger, error) {
	m := &merger{o: o, cache: make(map[*Group]*inGroup), space: newOutSpace()}
	m.out.space = m.space
	for _, s := range sources {
		sp, err := s.Space()
		if err != nil {
			return nil, err
		}
		m.inputs = append(m.inputs, &input{
			groups: s.Groups(), sp: sp,
			shapes: make([]mappedShape, len(sp.Shapes)), scopes: make([]uint32, len(sp.Scopes)), resources: make([]uint32, len(sp.Resources)),
			codes: make([][]uint32, len(sp.Columns)), dicts: make([]*Dictionary, len(sp.Columns)),
		})
		m.dropped = append(m.dropped, make([]int8, len(sp.Resources)))
	}
	return m, nil
}

func (m *merger) begin(w *block.Writer) {
	q := m.o.Quick
	m.gw = groupWriter{w: w, quick: q, vals: valueEncoder{quick: q}, text: textEncoder{quick: q}, sizes: m.gw.sizes}
	m.meta = Meta{Version: currentVersion, Quick: q, Origin: m.o.Origin, MinStart: math.MaxInt64, MaxStart: math.MinInt64}
}

// finish writes what is left and publishes the block.
func (m *merger) finish() (Meta, error) {
	m.closeGroup()
	m.gw.close()
	w := m.gw.w
	m.gw.count("traces", writeTraces(w, m.ids))
	sw := spaceWriter{w: w, text: textEncoder{quick: m.o.Quick}}
	before := w.Size()
	sw.write(m.space)
	m.gw.count("space", int(w.Size()-before))
	m.meta.Shapes = len(m.space.shapes)
	if m.meta.Spans == 0 {
		m.meta.MinStart, m.meta.MaxStart = 0, 0
	}
	b, err := m.meta.encode()
	if err != nil {
		w.Abort()
		return Meta{}, err
	}
	return m.meta, w.Close(b)
}

// trace adds a trace to the block.
func (m *merger) trace(t *outTrace) error {
	if m.o.Keep != nil && !m.o.Keep(m.runs[t.first].id) {
		return nil
	}
	if t.end-t.first == 1 && m.o.KeepService == nil {
		r := &m.runs[t.first]
		in, err := m.group(r)
		if err != nil {
			return err
		}
		if !in.large(r) {
			return m.wholeRun(t, r, in)
		}
	}
	if err := m.gather(t); err != nil {
		return err
	}
	for rest := m.rows; len(rest) > 0; {
		n := min(len(rest), MaxGroupRows)
		m.room(n)
		used, err := m.joined(t, rest[:n])
		if err != nil {
			return err
		}
		rest = rest[used:]
	}
	return nil
}

// room closes the group if it has no room for n more rows.
func (m *merger) room(n int) {
	if rows := m.out.rows(); rows > 0 && (rows+n > MaxGroupRows || m.out.full()) {
		m.closeGroup()
	}
}

func (m *merger) closeGroup() {
	g := &m.out
	if g.rows() == 0 {
		return
	}
	info := m.gw.write(g)
	m.meta.Groups++
	m.meta.Spans += int64(info.Rows)
	m.meta.Traces += int64(info.Traces)
	m.meta.Events += int64(info.Events)
	m.meta.Links += int64(info.Links)
	m.meta.Errors += int64(info.Errors)
	m.meta.MinStart = min(m.meta.MinStart, info.MinStart)
	m.meta.MaxStart = max(m.meta.MaxStart, info.MaxStart)
	m.ids = append(m.ids, g.traceIDs...)
	for c := range g.columns {
		if g.columns[c].n > 0 {
			m.space.dicts[c].settle()
		}
	}
	g.reset()
	for c := range g.columns {
		g.columns[c].texts = m.space.dicts[c].raw
		if g.columns[c].texts {
			g.columns[c].offs = append(g.columns[c].offs, 0)
		}
	}
}

func (m *merger) beginTrace(t *outTrace) {
	g := &m.out
	if len(g.traceIDs) == 0 {
		g.traceStart = t.start
	}
	g.traceLast = t.start
	g.traceIDs = append(g.traceIDs, m.runs[t.first].id)
	g.traceRows = append(g.traceRows, uint32(g.rows()))
}

// wholeRun adds a trace that is one run of one input: the order of its rows and
// their parents stay as they are.
func (m *merger) wholeRun(t *outTrace, r *traceRun, in *inGroup) error {
	m.room(int(r.end - r.first))
	m.beginTrace(t)
	move := int32(m.out.rows()) - r.first
	for row := r.first; row < r.end; row++ {
		p := in.parents[row]
		if p >= r.first && p < r.end {
			p += move
		} else if p >= 0 {
			p = ParentElsewhere
		}
		m.row(in, int(row))
		m.out.parents = append(m.out.parents, p)
	}
	return nil
}

// gather lists the rows of a trace in the order of their starts, without those of
// dropped services and without duplicates.
func (m *merger) gather(t *outTrace) error {
	m.rows = m.rows[:0]
	for i := t.first; i < t.end; i++ {
		r := &m.runs[i]
		in, err := m.group(r)
		if err != nil {
			return err
		}
		for row := r.first; row < r.end; row++ {
			if m.o.KeepService == nil || m.keeps(int(r.input), in.resources[row]) {
				m.rows = append(m.rows, rowRef{start: in.starts[row], duration: in.durations[row], id: in.spanIDs[row], run: i, row: row, shape: in.shapes[row]})
			}
		}
	}
	if t.end-t.first == 1 {
		return nil
	}
	slices.SortFunc(m.rows, func(a, b rowRef) int {
		if c := m.compare(&a, &b); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.run, b.run), cmp.Compare(a.row, b.row))
	})
	m.rows = slices.CompactFunc(m.rows, func(a, b rowRef) bool { return m.compare(&a, &b) == 0 })
	return nil
}

// compare orders rows by start, and tells exact duplicates: equal rows are.
func (m *merger) compare(a, b *rowRef) int {
	if c := cmp.Or(cmp.Compare(a.start, b.start), bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.duration, b.duration)); c != 0 {
		return c
	}
	x, y := m.shapeOf(a), m.shapeOf(b)
	return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
}

func (m *merger) shapeOf(r *rowRef) *Shape {
	return &m.inputs[m.runs[r.run].input].sp.Shapes[r.shape]
}

// keeps reports whether spans of a resource are kept.
func (m *merger) keeps(in int, resource uint32) bool {
	d := &m.dropped[in][resource]
	if *d == 0 {
		*d = 2
		if m.o.KeepService(m.inputs[in].sp.Resources[resource].Service) {
			*d = 1
		}
	}
	return *d == 1
}

// joined adds rows of a trace as a run of the group, as many as it has room for,
// and finds their parents anew.
func (m *merger) joined(t *outTrace, rows []rowRef) (int, error) {
	m.beginTrace(t)
	g := &m.out
	first := g.rows()
	used := 0
	for used < len(rows) && (used == 0 || !g.full()) {
		r := &rows[used]
		in, err := m.group(&m.runs[r.run])
		if err != nil {
			return 0, err
		}
		m.row(in, int(r.row))
		used++
	}
	end := g.rows()
	g.parents = append(g.parents, make([]int32, used)...)
	m.finder.find(g.parents, []uint32{uint32(first), uint32(end)}, g.spanIDs, g.parentIDs, func(row int) bool {
		return m.space.shapes[g.shapes[row]].kind == kindServer
	})
	return used, nil
}

// row adds a row, but for its parent's place, to the group.
func (m *merger) row(in *inGroup, row int) {
	g := &m.out
	shape := m.shape(in.in, in.shapes[row])
	g.shapes = append(g.shapes, shape.shape)
	g.resources = append(g.resources, m.resource(in.in, in.resources[row]))
	g.starts = append(g.starts, in.starts[row])
	g.durations = append(g.durations, in.durations[row])
	g.statuses = append(g.statuses, in.statuses[row])
	g.spanIDs = append(g.spanIDs, in.spanIDs[row])
	g.parentIDs = append(g.parentIDs, in.parentIDs[row])
	if in.statuses[row] == statusError {
		g.errors++
	}
	m.values(in, shape, LevelSpan, row, in.shapes[row])
	events, links := uint32(0), uint32(0)
	if len(in.eventRows) > 0 {
		for e := in.eventRows[row]; e < in.eventRows[row+1]; e++ {
			s := in.childShapes[LevelEvent][e]
			shape := m.shape(in.in, s)
			g.eventShapes = append(g.eventShapes, shape.shape)
			g.eventTimes = append(g.eventTimes, in.eventTimes[e]-in.starts[row])
			m.values(in, shape, LevelEvent, int(e), s)
			events++
		}
	}
	if len(in.linkRows) > 0 {
		for l := in.linkRows[row]; l < in.linkRows[row+1]; l++ {
			s := in.childShapes[LevelLink][l]
			shape := m.shape(in.in, s)
			g.linkShapes = append(g.linkShapes, shape.shape)
			g.linkSpanIDs = append(g.linkSpanIDs, in.linkSpanIDs[l])
			g.linkTraceIDs = append(g.linkTraceIDs, in.linkTraceIDs[l])
			m.values(in, shape, LevelLink, int(l), s)
			links++
		}
	}
	g.events, g.links = append(g.events, events), append(g.links, links)
}

// values adds the values of a row of a level.
func (m *merger) values(in *inGroup, shape *mappedShape, level Level, row int, s uint32) {
	g := &m.out
	vals := in.vals[level][in.first[level][row]:in.first[level][row+1]]
	g.values += len(vals)
	for i, c := range in.in.sp.Shapes[s].Columns {
		dst, v := shape.cols[i], vals[i]
		info := &in.in.sp.Columns[c]
		switch {
		case info.Role == RoleAttr && m.space.columns[dst].Role == RoleRest:
			m.restValue(in, c, dst, v)
		case !info.Type.InBuf():
			if info.Type == signal.AttrEmpty {
				g.column(dst).n++
			} else {
				g.addNum(dst, shape.shape, v)
			}
		case v&textFlag != 0:
			g.addText(dst, in.text(v))
		default:
			g.addCode(dst, shape.shape, m.code(in.in, c, dst, uint32(v)))
		}
	}
}

// restValue adds a value of column c to the level's column of the rest.
func (m *merger) restValue(in *inGroup, c, dst uint32, v uint64) {
	info := &in.in.sp.Columns[c]
	var value []byte
	switch {
	case !info.Type.InBuf():
	case v&textFlag != 0:
		value = in.text(v)
	default:
		value = in.in.dicts[c].At(uint32(v))
	}
	m.rest = AppendRest(m.rest[:0], []byte(info.Key), info.Type, v, value)
	m.out.addText(dst, m.rest)
}
