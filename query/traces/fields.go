package traces

import (
	"encoding/hex"
	"unsafe"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// borrow returns bytes as a string without copying: it is valid as long as they
// are.
func borrow(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// readable reports whether the columns of a group say what a field is of its
// rows.
func readable(a traceql.Attribute) bool { return !a.Parent && !a.Intrinsic.NeedsTree() }

// fieldReader is the values that one field has in the rows of a group: one each,
// or several. It is the general way; what is frequent has ways of its own.
type fieldReader struct {
	one     []traceql.Static
	several map[int][]traceql.Static // by row; one is not meant then, even if there are none
	child   []traceql.Static         // by event or link
	childs  map[int][]traceql.Static
}

func (f *fieldReader) reset(n int) {
	if cap(f.one) < n {
		f.one = make([]traceql.Static, n, max(n, rows.MaxGroupRows))
	}
	f.one = f.one[:n]
	clear(f.one)
	if f.several == nil {
		f.several = make(map[int][]traceql.Static)
	}
	clear(f.several)
}

func (f *fieldReader) isNil(row int) bool {
	if !f.one[row].IsNil() {
		return false
	}
	_, several := f.several[row]
	return !several
}

// first returns the value by which a row is grouped.
func (f *fieldReader) first(row int) traceql.Static {
	if many, ok := f.several[row]; ok {
		if len(many) == 0 {
			return traceql.Static{}
		}
		return many[0]
	}
	return f.one[row]
}

// each calls do for every value of a row.
func (f *fieldReader) each(row int, do func(traceql.Static)) {
	if many, ok := f.several[row]; ok {
		for _, s := range many {
			do(s)
		}
		return
	}
	if !f.one[row].IsNil() {
		do(f.one[row])
	}
}

// put sets the value of a row; an array becomes several unless whole is wanted.
func (f *fieldReader) put(row int, v rawValue, whole bool) {
	if v.t == signal.AttrArray && !whole {
		f.several[row] = traceql.AppendArrayElements([]traceql.Static{}, v.bytes)
		return
	}
	f.one[row] = v.static()
}

// read reads a field that is readable, for all rows of the group. Whole leaves
// arrays in one piece. The values are valid until the next read.
func (w *worker) read(a traceql.Attribute, whole bool) (*fieldReader, error) {
	f := &w.fields
	f.reset(w.info.Rows)
	if a.Intrinsic != traceql.IntrinsicNone {
		return f, w.readIntrinsic(f, a.Intrinsic)
	}
	scopes := []traceql.Scope{a.Scope}
	if a.Scope == traceql.ScopeNone {
		scopes = []traceql.Scope{
			traceql.ScopeSpan, traceql.ScopeResource, traceql.ScopeEvent, traceql.ScopeLink, traceql.ScopeInstrumentation,
		}
	}
	for _, s := range scopes {
		if err := w.readAttribute(f, s, a.Name, whole); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// readAttribute sets the values of rows that have none yet.
func (w *worker) readAttribute(f *fieldReader, scope traceql.Scope, key string, whole bool) error {
	switch scope {
	case traceql.ScopeSpan:
		return w.eachAttr(rows.LevelSpan, key, func(row uint32, v rawValue) { f.put(int(row), v, whole) })
	case traceql.ScopeResource:
		return w.readResources(f, key, whole)
	case traceql.ScopeInstrumentation:
		return w.readShapes(f, func(s *rows.Shape) (rawValue, bool) {
			return findAttribute(w.space.sp.Scopes[s.Scope].Attrs, key)
		}, whole)
	case traceql.ScopeEvent, traceql.ScopeLink:
		level, n := rows.LevelEvent, w.info.Events
		if scope == traceql.ScopeLink {
			level, n = rows.LevelLink, w.info.Links
		}
		f.children(n)
		err := w.eachAttr(level, key, func(i uint32, v rawValue) {
			if v.t == signal.AttrArray && !whole {
				f.childs[int(i)] = traceql.AppendArrayElements([]traceql.Static{}, v.bytes)
			} else {
				f.child[i] = v.static()
			}
		})
		if err != nil {
			return err
		}
		return w.collect(f, level)
	}
	return nil
}

func (w *worker) readResources(f *fieldReader, key string, whole bool) error {
	numbers, err := w.cur.Resources()
	if err != nil {
		return err
	}
	for row, r := range numbers {
		if f.isNil(row) {
			if v, ok := findAttribute(w.space.sp.Resources[r].Attrs, key); ok {
				f.put(row, v, whole)
			}
		}
	}
	return nil
}

func (w *worker) readShapes(f *fieldReader, get func(*rows.Shape) (rawValue, bool), whole bool) error {
	shapes, err := w.cur.Shapes()
	if err != nil {
		return err
	}
	for row, s := range shapes {
		if f.isNil(row) {
			if v, ok := get(&w.space.sp.Shapes[s]); ok {
				f.put(row, v, whole)
			}
		}
	}
	return nil
}

// children makes room for a value of each of n events or links.
func (f *fieldReader) children(n int) {
	if cap(f.child) < n {
		f.child = make([]traceql.Static, n)
	}
	f.child = f.child[:n]
	clear(f.child)
	if f.childs == nil {
		f.childs = make(map[int][]traceql.Static)
	}
	clear(f.childs)
}

// collect joins the values of the events or links of each row that has none yet.
func (w *worker) collect(f *fieldReader, level rows.Level) error {
	begins, err := w.cur.EventRows()
	if level == rows.LevelLink {
		begins, err = w.cur.LinkRows()
	}
	if err != nil || begins == nil {
		return err
	}
	for row := range w.info.Rows {
		if begins[row] == begins[row+1] || !f.isNil(row) {
			continue
		}
		var many []traceql.Static
		for i := int(begins[row]); i < int(begins[row+1]); i++ {
			switch elements, several := f.childs[i]; {
			case several:
				many = append(append([]traceql.Static{}, many...), elements...)
			case !f.child[i].IsNil():
				many = append(many, f.child[i])
			}
		}
		if many != nil {
			f.several[row] = many
		}
	}
	return nil
}

func (w *worker) readIntrinsic(f *fieldReader, i traceql.Intrinsic) error {
	switch i {
	case traceql.IntrinsicName, traceql.IntrinsicKind, traceql.IntrinsicInstrumentationName, traceql.IntrinsicInstrumentationVersion:
		shapes, err := w.cur.Shapes()
		if err != nil {
			return err
		}
		for row, s := range shapes {
			f.one[row] = w.shapeValue(i, &w.space.sp.Shapes[s])
		}
	case traceql.IntrinsicStatus:
		statuses, err := w.cur.Statuses()
		if err != nil {
			return err
		}
		for row, s := range statuses {
			f.one[row] = traceql.Status(s)
		}
	case traceql.IntrinsicDuration:
		durations, err := w.cur.Durations()
		if err != nil {
			return err
		}
		for row, d := range durations {
			f.one[row] = traceql.Duration(max(d, 0))
		}
	case traceql.IntrinsicStatusMessage:
		return w.readMessages(f)
	case traceql.IntrinsicSpanID, traceql.IntrinsicParentID, traceql.IntrinsicTraceID:
		return w.readIDs(f, i)
	case traceql.IntrinsicEventName, traceql.IntrinsicEventTimeSinceStart:
		return w.readEvents(f, i)
	case traceql.IntrinsicLinkTraceID, traceql.IntrinsicLinkSpanID:
		return w.readLinks(f, i)
	}
	return nil
}

// shapeValue returns an intrinsic that a shape decides.
func (w *worker) shapeValue(i traceql.Intrinsic, s *rows.Shape) traceql.Static {
	switch i {
	case traceql.IntrinsicName:
		return traceql.String(s.Name)
	case traceql.IntrinsicKind:
		return traceql.Kind(s.Kind)
	case traceql.IntrinsicInstrumentationName:
		return traceql.String(w.space.sp.Scopes[s.Scope].Name)
	}
	return traceql.String(w.space.sp.Scopes[s.Scope].Version)
}

func (w *worker) readMessages(f *fieldReader) error {
	for row := range f.one {
		f.one[row] = traceql.String("")
	}
	col, ok := w.space.sp.FindColumn(rows.ColumnInfo{Level: rows.LevelSpan, Role: rows.RoleMessage, Type: signal.AttrString})
	if !ok {
		return nil
	}
	c, err := w.cur.Column(col)
	if err != nil || c == nil {
		return err
	}
	owners, err := w.cur.RowsOf(col)
	if err != nil {
		return err
	}
	for i, row := range owners {
		f.one[row] = traceql.String(borrow(c.At(i)))
	}
	return nil
}

func (w *worker) readIDs(f *fieldReader, i traceql.Intrinsic) error {
	if i == traceql.IntrinsicTraceID {
		ids, err := w.cur.TraceIDs()
		if err != nil {
			return err
		}
		begins, err := w.cur.TraceRows()
		if err != nil {
			return err
		}
		for t, id := range ids {
			text := traceql.String(hex.EncodeToString(id[:]))
			for row := begins[t]; row < begins[t+1]; row++ {
				f.one[row] = text
			}
		}
		return nil
	}
	ids, err := w.cur.SpanIDs()
	if i == traceql.IntrinsicParentID {
		ids, err = w.cur.ParentIDs()
	}
	if err != nil {
		return err
	}
	for row, id := range ids {
		if i == traceql.IntrinsicSpanID || !id.IsZero() {
			f.one[row] = traceql.String(hex.EncodeToString(id[:]))
		}
	}
	return nil
}

func (w *worker) readEvents(f *fieldReader, i traceql.Intrinsic) error {
	n := w.info.Events
	f.children(n)
	if n == 0 {
		return nil
	}
	if i == traceql.IntrinsicEventName {
		shapes, err := w.cur.EventShapes()
		if err != nil {
			return err
		}
		for e, s := range shapes {
			f.child[e] = traceql.String(w.space.sp.Shapes[s].Name)
		}
		return w.collect(f, rows.LevelEvent)
	}
	times, err := w.cur.EventTimes()
	if err != nil {
		return err
	}
	starts, err := w.cur.Starts()
	if err != nil {
		return err
	}
	owners, err := w.cur.EventOwners()
	if err != nil {
		return err
	}
	for e, t := range times {
		f.child[e] = traceql.Duration(t - starts[owners[e]])
	}
	return w.collect(f, rows.LevelEvent)
}

func (w *worker) readLinks(f *fieldReader, i traceql.Intrinsic) error {
	n := w.info.Links
	f.children(n)
	if n == 0 {
		return nil
	}
	if i == traceql.IntrinsicLinkTraceID {
		ids, err := w.cur.LinkTraceIDs()
		if err != nil {
			return err
		}
		for l, id := range ids {
			f.child[l] = traceql.String(hex.EncodeToString(id[:]))
		}
		return w.collect(f, rows.LevelLink)
	}
	ids, err := w.cur.LinkSpanIDs()
	if err != nil {
		return err
	}
	for l, id := range ids {
		f.child[l] = traceql.String(hex.EncodeToString(id[:]))
	}
	return w.collect(f, rows.LevelLink)
}
