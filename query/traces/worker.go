package traces

import (
	"encoding/base64"
	"unsafe"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// worker reads groups, one after another. It belongs to one goroutine.
type worker struct {
	run    *run
	cur    rows.Cursor
	group  *rows.Group
	info   rows.GroupInfo
	space  *spaceState
	spaces map[*rows.Space]*spaceState

	charged int64 // of cur.InspectedBytes
	free    []bitmap
	fields  fieldReader
	ids     []int32 // scratch
	sets    groupSets

	local     bool        // conditions are compiled for regular traces
	irregular bitmap      // rows of traces that are not
	oddTrees  [][2]uint32 // rows of traces of the group whose trees are not ordinary
	treeOf    *rows.Group // that oddTrees is of
	seenIDs   map[signal.SpanID]struct{}
}

func newWorker(r *run) *worker {
	return &worker{run: r, spaces: make(map[*rows.Space]*spaceState)}
}

// spaceState is what a worker knows of a space.
type spaceState struct {
	sp    *rows.Space
	preds map[traceql.Expr]pred // by condition
	local map[traceql.Expr]pred // for regular traces
	keys  map[levelKey]*keyColumns
	ids   map[*labelField]*labelSpace
}

type levelKey struct {
	level rows.Level
	key   string
}

// seek moves to a group and accounts for what was read of the one before.
func (w *worker) seek(g *rows.Group) error {
	w.charge()
	if err := w.cur.Seek(g); err != nil {
		return err
	}
	w.group, w.info = g, g.Info()
	w.treeOf, w.oddTrees = nil, w.oddTrees[:0]
	w.sets = groupSets{}
	sp := w.cur.Space()
	if w.space == nil || w.space.sp != sp {
		st := w.spaces[sp]
		if st == nil {
			st = &spaceState{
				sp: sp, preds: make(map[traceql.Expr]pred), local: make(map[traceql.Expr]pred), keys: make(map[levelKey]*keyColumns),
				ids: make(map[*labelField]*labelSpace),
			}
			w.spaces[sp] = st
		}
		w.space = st
	}
	return nil
}

// groupSets are the shapes and resources of a group, once they were asked for:
// a block decodes them every time.
type groupSets struct {
	shapes, resources           []uint32
	knownShapes, knownResources bool
}

// shapeSet returns the shapes of all levels that the group has, nil if that is
// not known.
func (w *worker) shapeSet() []uint32 {
	if s := &w.sets; !s.knownShapes {
		s.shapes, s.knownShapes = w.group.Shapes(), true
	}
	return w.sets.shapes
}

// resourceSet returns the resources that the group has, nil if that is not known.
func (w *worker) resourceSet() []uint32 {
	if s := &w.sets; !s.knownResources {
		s.resources, s.knownResources = w.group.Resources(), true
	}
	return w.sets.resources
}

// charge adds what was read to the question's bytes.
func (w *worker) charge() {
	n := w.cur.InspectedBytes()
	w.run.bytes.Add(n - w.charged)
	w.charged = n
}

// bitmap returns an empty set of the group's rows; release gives it back.
func (w *worker) bitmap() bitmap { return w.bitmapOf(w.info.Rows) }

// bitmapOf returns an empty set for bits up to n.
func (w *worker) bitmapOf(n int) bitmap {
	n = words(n)
	if k := len(w.free); k > 0 && cap(w.free[k-1]) >= n {
		b := w.free[k-1][:n]
		w.free = w.free[:k-1]
		clear(b)
		return b
	}
	return make(bitmap, n, max(n, words(rows.MaxGroupRows)))
}

func (w *worker) release(b bitmap) { w.free = append(w.free, b) }

// keyColumns are the columns that an attribute has at a level of a space.
type keyColumns struct {
	level  rows.Level
	key    string
	cols   []int
	rest   int     // column of packed attributes, -1 if there is none
	shapes []uint8 // by shape: what keyShape says, keyUnknown at first
}

const (
	keyUnknown = iota
	keyAbsent  // no row of the shape has the attribute
	keyOnce    // every row has it once, in a column
	keyMore    // several times, or maybe among the packed ones
)

func (w *worker) keyColumns(level rows.Level, key string) *keyColumns {
	at := levelKey{level, key}
	k := w.space.keys[at]
	if k == nil {
		sp := w.space.sp
		k = &keyColumns{level: level, key: key, rest: -1, shapes: make([]uint8, len(sp.Shapes))}
		k.cols = sp.FindKey(level, key, nil)
		if c, ok := sp.FindColumn(rows.ColumnInfo{Level: level, Role: rows.RoleRest, Type: signal.AttrBytes}); ok {
			k.rest = c
		}
		w.space.keys[at] = k
	}
	return k
}

func (k *keyColumns) classify(s *rows.Shape) uint8 {
	if s.Level != k.level {
		return keyAbsent
	}
	n := 0
	for _, c := range s.Columns {
		if int(c) == k.rest {
			return keyMore
		}
		for _, own := range k.cols {
			if int(c) == own {
				n++
			}
		}
	}
	switch n {
	case 0:
		return keyAbsent
	case 1:
		return keyOnce
	}
	return keyMore
}

// state says how the group's rows have the attribute: the most complicated way.
func (w *worker) state(k *keyColumns) uint8 {
	if len(k.cols) == 0 && k.rest < 0 {
		return keyAbsent
	}
	shapes := w.shapeSet()
	if shapes == nil {
		return keyMore
	}
	most := uint8(keyAbsent)
	for _, s := range shapes {
		if k.shapes[s] == keyUnknown {
			k.shapes[s] = k.classify(&w.space.sp.Shapes[s])
		}
		most = max(most, k.shapes[s])
	}
	return most
}

// rawValue is a value of an attribute as a column has it.
type rawValue struct {
	t     signal.AttrType
	num   uint64
	bytes []byte // of types that are in a buffer; valid until the next group
}

// static returns the value as package traceql has it, an array as JSON. Strings
// alias the column.
func (v rawValue) static() traceql.Static { return attrStatic(v.t, v.num, v.bytes) }

func attrStatic(t signal.AttrType, num uint64, b []byte) traceql.Static {
	a := signal.Attr{Num: num}
	switch t {
	case signal.AttrString:
		return traceql.String(borrow(b))
	case signal.AttrBool:
		return traceql.Bool(a.Bool())
	case signal.AttrInt:
		return traceql.Int(a.Int())
	case signal.AttrDouble:
		return traceql.Float(a.Double())
	case signal.AttrBytes:
		return traceql.String(base64.StdEncoding.EncodeToString(b))
	case signal.AttrArray:
		return traceql.Static{Type: traceql.TypeArray, Text: string(traceql.AppendArrayJSON(nil, b))}
	case signal.AttrMap:
		return traceql.Static{Type: traceql.TypeArray, Text: string(traceql.AppendMapJSON(nil, b))}
	}
	return traceql.Static{}
}

// columnValue returns value i of a column.
func columnValue(c *rows.Column, i int) rawValue {
	v := rawValue{t: c.Info.Type}
	switch {
	case v.t.InBuf():
		v.bytes = c.At(i)
	case v.t != signal.AttrEmpty:
		v.num = c.Nums[i]
	}
	return v
}

// eachAttr calls f for the first attribute with a key of every row, event or
// link that has it. Owners come in no order.
func (w *worker) eachAttr(level rows.Level, key string, f func(owner uint32, v rawValue)) error {
	k := w.keyColumns(level, key)
	switch w.state(k) {
	case keyAbsent:
		return nil
	case keyMore:
		return w.eachAttrSlow(k, f)
	}
	for _, col := range k.cols {
		c, err := w.cur.Column(col)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		owners, err := w.cur.RowsOf(col)
		if err != nil {
			return err
		}
		for i, owner := range owners {
			f(owner, columnValue(c, i))
		}
	}
	return nil
}

// eachAttrSlow goes through the columns of every owner's shape: for attributes
// that are there twice, or packed.
func (w *worker) eachAttrSlow(k *keyColumns, f func(owner uint32, v rawValue)) error {
	shapes, err := w.shapesOf(k.level)
	if err != nil {
		return err
	}
	cols := append([]int(nil), k.cols...)
	if k.rest >= 0 {
		cols = append(cols, k.rest)
	}
	values, next := make([]*rows.Column, len(cols)), make([]int, len(cols))
	for i, col := range cols {
		if values[i], err = w.cur.Column(col); err != nil {
			return err
		}
	}
	for owner, s := range shapes {
		found := false
		for _, col := range w.space.sp.Shapes[s].Columns {
			for i, own := range cols {
				if int(col) != own {
					continue
				}
				at := next[i]
				next[i]++
				if found {
					break
				}
				v := columnValue(values[i], at)
				if own == k.rest {
					name, t, num, b, ok := rows.ParseRest(v.bytes)
					if !ok || string(name) != k.key {
						break
					}
					v = rawValue{t: t, num: num, bytes: b}
				}
				found = true
				f(uint32(owner), v)
				break
			}
		}
	}
	return nil
}

// shapesOf returns the shapes of rows, events or links.
func (w *worker) shapesOf(level rows.Level) ([]uint32, error) {
	switch {
	case level == rows.LevelSpan:
		return w.cur.Shapes()
	case level == rows.LevelEvent && w.info.Events > 0:
		return w.cur.EventShapes()
	case level == rows.LevelLink && w.info.Links > 0:
		return w.cur.LinkShapes()
	}
	return nil, nil
}

// findAttribute returns the first attribute with a key of a resource or scope.
func findAttribute(attrs []rows.Attribute, key string) (rawValue, bool) {
	for i := range attrs {
		if a := &attrs[i]; a.Key == key {
			return rawValue{t: a.Type, num: a.Num, bytes: unsafe.Slice(unsafe.StringData(a.Text), len(a.Text))}, true
		}
	}
	return rawValue{}, false
}
