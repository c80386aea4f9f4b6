package rows

import (
	"slices"

	"github.com/vedette-io/vedette/internal/signal"
)

// parts is what a cursor needs to make spans of a run of rows: the run's part of
// every column that the run has values in.
type parts struct {
	epoch uint64 // of the cursor, to which the counts belong
	at    int    // counts are those of the rows before
	event int    // first event and link of row at
	link  int
	cols  []part  // by column of the space
	hist  counter // of shapes

	touched []uint32 // columns that the run has values in
	call    uint64   // number of the call

	shapes, resources       []uint32 // of the run
	starts, durations       []int64
	ids, parents            []signal.SpanID
	statuses                []uint8
	startBuf, durationBuf   []int64
	idBuf, parentBuf        []signal.SpanID
	statusBuf               []uint8
	eventShapes, linkShapes []uint32
	eventTimes              []int64
	linkIDs                 []signal.SpanID
	linkTraces              []signal.TraceID
	timeBuf                 []int64
	linkIDBuf               []signal.SpanID
	linkTraceBuf            []signal.TraceID
	eventRows, linkRows     []uint32 // of the run and one more; nil if it has none

	trace     signal.TraceID // of rows before traceEnd
	traceEnd  int
	traceCall uint64
	traceBuf  []signal.TraceID

	slots  []scopeSlot
	slotOf map[uint64]uint32
	rankOf map[uint32]uint32
	order  []uint32
	rowsIn []uint32 // slot of every row
}

// part is the run's part of one column.
type part struct {
	before int     // values of rows before parts.at
	n      int     // values of the run
	next   int     // of the values, while spans are made
	vals   *Column // nil if they are not wanted
	own    Column  // unless the cursor has the whole column
	call   uint64  // to which key belongs
	key    signal.ByteRange
}

// scopeSlot is a scope of a resource that a run has rows of.
type scopeSlot struct {
	resource, scope uint32
	rank            uint32 // of the resource, by first appearance
	rows            uint32
	at              uint32 // place of its next row among the run's
	index           uint32 // of the scope in the spans
}

// reset forgets what belongs to another space.
func (p *parts) reset() { p.epoch = 0 }

// load reads the run's parts of all columns.
func (p *parts) load(c *Cursor, r Run) error {
	err := p.tryLoad(c, r)
	if err != nil {
		p.reset() // counts may be wrong
	}
	return err
}

func (p *parts) tryLoad(c *Cursor, r Run) error {
	shapes, err := c.Shapes()
	if err != nil {
		return err
	}
	if p.epoch != c.epoch || r.First < p.at {
		p.rewind(c)
	}
	if err := p.skip(c, shapes, r.First); err != nil {
		return err
	}
	p.shapes = shapes[r.First:r.End]
	if err := p.loadRows(c, r); err != nil {
		return err
	}
	if err := p.loadChildren(c, r); err != nil {
		return err
	}
	p.touched = p.touched[:0]
	p.count(c, p.shapes)
	p.count(c, p.eventShapes)
	p.count(c, p.linkShapes)
	for _, col := range p.touched {
		if err := p.loadColumn(c, col); err != nil {
			return err
		}
	}
	return nil
}

// rewind goes back to the group's first row.
func (p *parts) rewind(c *Cursor) {
	p.epoch, p.at, p.event, p.link = c.epoch, 0, 0, 0
	if len(p.cols) < len(c.sp.Columns) {
		p.cols = make([]part, len(c.sp.Columns))
	}
	for i := range p.cols {
		p.cols[i].before, p.cols[i].n = 0, 0
	}
	p.hist.grow(len(c.sp.Shapes))
}

// skip adds the values of the rows up to row to the counts.
func (p *parts) skip(c *Cursor, shapes []uint32, row int) error {
	p.eventRows, p.linkRows, p.eventShapes, p.linkShapes = nil, nil, nil, nil
	p.hist.addAll(shapes[p.at:row])
	if c.info.Events > 0 {
		rows, err := c.EventRows()
		if err != nil {
			return err
		}
		shapes, err := c.EventShapes()
		if err != nil {
			return err
		}
		p.hist.addAll(shapes[p.event:rows[row]])
		p.event = int(rows[row])
	}
	if c.info.Links > 0 {
		rows, err := c.LinkRows()
		if err != nil {
			return err
		}
		shapes, err := c.LinkShapes()
		if err != nil {
			return err
		}
		p.hist.addAll(shapes[p.link:rows[row]])
		p.link = int(rows[row])
	}
	for _, s := range p.hist.seen {
		n := int(p.hist.count[s])
		for _, col := range c.sp.Shapes[s].Columns {
			p.cols[col].before += n
		}
	}
	p.hist.reset()
	p.at = row
	return nil
}

func (p *parts) count(c *Cursor, shapes []uint32) {
	for _, s := range shapes {
		for _, col := range c.sp.Shapes[s].Columns {
			if p.cols[col].n == 0 {
				p.touched = append(p.touched, col)
			}
			p.cols[col].n++
		}
	}
}

// loadRows reads what every row has.
func (p *parts) loadRows(c *Cursor, r Run) (err error) {
	resources, err := c.Resources()
	if err != nil {
		return err
	}
	p.resources = resources[r.First:r.End]
	data, lo, hi := c.group.data, r.First, r.End
	if p.starts, err = c.ints[0].part(c, lo, hi, func() ([]int64, error) {
		return data.ints(c, fieldStarts, lo, hi, &p.startBuf)
	}); err != nil {
		return err
	}
	if p.durations, err = c.ints[fieldDurations-fieldStarts].part(c, lo, hi, func() ([]int64, error) {
		return data.ints(c, fieldDurations, lo, hi, &p.durationBuf)
	}); err != nil {
		return err
	}
	if p.ids, err = c.spanIDs[0].part(c, lo, hi, func() ([]signal.SpanID, error) {
		return data.spanIDs(c, fieldSpanIDs, lo, hi, &p.idBuf)
	}); err != nil {
		return err
	}
	if p.parents, err = c.spanIDs[fieldParentIDs-fieldSpanIDs].part(c, lo, hi, func() ([]signal.SpanID, error) {
		return data.spanIDs(c, fieldParentIDs, lo, hi, &p.parentBuf)
	}); err != nil {
		return err
	}
	p.statuses, err = c.statuses.part(c, lo, hi, func() ([]uint8, error) {
		return data.statuses(c, lo, hi, &p.statusBuf)
	})
	return err
}

// loadChildren reads the run's events and links.
func (p *parts) loadChildren(c *Cursor, r Run) error {
	data := c.group.data
	if c.info.Events > 0 {
		rows, err := c.EventRows()
		if err != nil {
			return err
		}
		lo, hi := int(rows[r.First]), int(rows[r.End])
		if lo < hi {
			p.eventRows, p.eventShapes = rows[r.First:r.End+1], c.uints[fieldEventShapes].vals[lo:hi]
			if p.eventTimes, err = c.ints[fieldEventTimes-fieldStarts].part(c, lo, hi, func() ([]int64, error) {
				return data.ints(c, fieldEventTimes, lo, hi, &p.timeBuf)
			}); err != nil {
				return err
			}
		}
	}
	if c.info.Links > 0 {
		rows, err := c.LinkRows()
		if err != nil {
			return err
		}
		lo, hi := int(rows[r.First]), int(rows[r.End])
		if lo < hi {
			p.linkRows, p.linkShapes = rows[r.First:r.End+1], c.uints[fieldLinkShapes].vals[lo:hi]
			if p.linkTraces, err = c.traceIDs[fieldLinkTraceIDs-fieldTraceIDs].part(c, lo, hi, func() ([]signal.TraceID, error) {
				return data.traceIDs(c, fieldLinkTraceIDs, lo, hi, &p.linkTraceBuf)
			}); err != nil {
				return err
			}
			if p.linkIDs, err = c.spanIDs[fieldLinkSpanIDs-fieldSpanIDs].part(c, lo, hi, func() ([]signal.SpanID, error) {
				return data.spanIDs(c, fieldLinkSpanIDs, lo, hi, &p.linkIDBuf)
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// part returns values of a lane that was loaded as a whole, or else loads them.
func (l *lane[T]) part(c *Cursor, lo, hi int, load func() ([]T, error)) ([]T, error) {
	if l.epoch == c.epoch {
		return l.vals[lo:hi], nil
	}
	return load()
}

func (p *parts) loadColumn(c *Cursor, col uint32) error {
	m := &p.cols[col]
	lo, hi := m.before, m.before+m.n
	m.n, m.next = 0, 0
	if c.Wanted != nil && !c.Wanted(&c.sp.Columns[col]) {
		m.vals = nil
		return nil
	}
	if e := &c.columns[col]; e.epoch == c.epoch {
		if hi > e.col.N {
			return shortColumn(c, col, hi, e.col.N)
		}
		m.vals, m.next = &e.col, lo
		return nil
	}
	n, err := c.group.data.number(c, col)
	if err != nil {
		return err
	}
	if hi > n {
		return shortColumn(c, col, hi, n)
	}
	m.vals = &m.own
	return c.load(col, lo, hi, &m.own)
}

// shortColumn reports that shapes and columns contradict each other.
func shortColumn(c *Cursor, col uint32, want, got int) error {
	return c.corrupt("column %d (%q): %d values, want >= %d", col, c.sp.Columns[col].Key, got, want)
}

// sortScopes orders the run's rows by resource and scope.
func (p *parts) sortScopes(c *Cursor) {
	if p.slotOf == nil {
		p.slotOf, p.rankOf = make(map[uint64]uint32), make(map[uint32]uint32)
	}
	clear(p.slotOf)
	clear(p.rankOf)
	p.slots, p.rowsIn = p.slots[:0], p.rowsIn[:0]
	last, slot := ^uint64(0), uint32(0)
	for i, s := range p.shapes {
		key := uint64(p.resources[i])<<32 | uint64(c.sp.Shapes[s].Scope)
		if key != last {
			var ok bool
			if slot, ok = p.slotOf[key]; !ok {
				slot = uint32(len(p.slots))
				p.slotOf[key] = slot
				p.slots = append(p.slots, scopeSlot{resource: p.resources[i], scope: c.sp.Shapes[s].Scope, rank: slot})
			}
			last = key
		}
		p.slots[slot].rows++
		p.rowsIn = append(p.rowsIn, slot)
	}
	p.order = slices.Grow(p.order[:0], len(p.slots))[:0]
	for i := range p.slots {
		p.order = append(p.order, uint32(i))
	}
	if len(p.slots) <= 1 {
		return
	}
	for i := range p.slots {
		s := &p.slots[i]
		if r, ok := p.rankOf[s.resource]; ok {
			s.rank = r
		} else {
			p.rankOf[s.resource] = s.rank
		}
	}
	slices.SortFunc(p.order, func(a, b uint32) int {
		if x, y := p.slots[a].rank, p.slots[b].rank; x != y {
			return int(x) - int(y)
		}
		return int(a) - int(b)
	})
}
