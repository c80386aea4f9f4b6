package traces

import (
	"strings"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// maxLabelValues bounds the distinct values of one label that a worker numbers;
// far more than series are allowed.
const maxLabelValues = 1 << 20

// beyondLabels is the number of values beyond maxLabelValues.
const beyondLabels = -1

// labelField numbers the values that one field of by() has, 0 for none, over all
// groups that a worker reads.
type labelField struct {
	attribute traceql.Attribute
	values    []traceql.Static
	index     map[string]int32 // by key
	key       []byte
	beyond    bool
}

func newLabelField(a traceql.Attribute) *labelField {
	l := &labelField{attribute: a, index: make(map[string]int32)}
	l.number(traceql.Static{})
	return l
}

// number returns the number of a value.
func (l *labelField) number(s traceql.Static) int32 {
	l.key = s.AppendKey(l.key[:0])
	if n, ok := l.index[string(l.key)]; ok {
		return n
	}
	if len(l.values) >= maxLabelValues {
		l.beyond = true
		return beyondLabels
	}
	n := int32(len(l.values))
	s.Text = strings.Clone(s.Text)
	l.values = append(l.values, s)
	l.index[string(l.key)] = n
	return n
}

// labelSpace is what a labelField knows of a space: the numbers of what rows
// refer to, notYet until a row has.
type labelSpace struct {
	byResource []int32
	byShape    []int32
	byCode     map[int][]int32 // by column
	keys       *keyColumns     // of the span
	hasRes     bool            // a resource may have it
	elsewhere  bool            // instrumentation may have it
}

const notYet = -2

func (w *worker) labelSpace(l *labelField) *labelSpace {
	ls := w.space.ids[l]
	if ls != nil {
		return ls
	}
	sp := w.space.sp
	ls = &labelSpace{byCode: make(map[int][]int32)}
	w.space.ids[l] = ls
	a := l.attribute
	any := a.Scope == traceql.ScopeNone
	if a.Intrinsic != traceql.IntrinsicNone {
		ls.byShape = unknownNumbers(len(sp.Shapes))
		return ls
	}
	if any || a.Scope == traceql.ScopeResource {
		ls.byResource = unknownNumbers(len(sp.Resources))
		for i := range sp.Resources {
			_, ok := findAttribute(sp.Resources[i].Attrs, a.Name)
			ls.hasRes = ls.hasRes || ok
		}
	}
	if any || a.Scope == traceql.ScopeSpan {
		ls.keys = w.keyColumns(rows.LevelSpan, a.Name)
	}
	if any {
		for i := range sp.Scopes {
			_, ok := findAttribute(sp.Scopes[i].Attrs, a.Name)
			ls.elsewhere = ls.elsewhere || ok
		}
	}
	return ls
}

func unknownNumbers(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = notYet
	}
	return out
}

// numbers sets dst to the number of the value that each row of the group has.
func (w *worker) numbers(l *labelField, dst []int32) error {
	ls := w.labelSpace(l)
	a := l.attribute
	switch a.Intrinsic {
	case traceql.IntrinsicNone:
		switch a.Scope {
		case traceql.ScopeResource:
			return w.byResource(l, ls, dst)
		case traceql.ScopeSpan, traceql.ScopeNone:
			if w.simpleLabel(ls, a) {
				return w.bySpan(l, ls, dst)
			}
		}
	case traceql.IntrinsicName, traceql.IntrinsicKind, traceql.IntrinsicInstrumentationName, traceql.IntrinsicInstrumentationVersion:
		return w.byShape(l, ls, dst)
	case traceql.IntrinsicStatus:
		statuses, err := w.cur.Statuses()
		if err != nil {
			return err
		}
		var table [256]int32
		for row, s := range statuses {
			if table[s] == 0 {
				table[s] = l.number(traceql.Status(s))
			}
			dst[row] = table[s]
		}
		return nil
	}
	f, err := w.read(a, true)
	if err != nil {
		return err
	}
	for row := range dst {
		dst[row] = l.number(f.first(row))
	}
	return nil
}

// simpleLabel reports whether only columns of spans, each value the first of its
// row, and resources have the attribute in the group.
func (w *worker) simpleLabel(ls *labelSpace, a traceql.Attribute) bool {
	if ls.elsewhere || w.state(ls.keys) == keyMore {
		return false
	}
	if a.Scope == traceql.ScopeSpan {
		return true
	}
	return (w.info.Events == 0 || w.state(w.keyColumns(rows.LevelEvent, a.Name)) == keyAbsent) &&
		(w.info.Links == 0 || w.state(w.keyColumns(rows.LevelLink, a.Name)) == keyAbsent)
}

// resourceNumber returns the number of a resource's value.
func (w *worker) resourceNumber(l *labelField, ls *labelSpace, r uint32) int32 {
	n := ls.byResource[r]
	if n == notYet {
		v, _ := findAttribute(w.space.sp.Resources[r].Attrs, l.attribute.Name)
		n = l.number(v.static())
		ls.byResource[r] = n
	}
	return n
}

// shapeNumber returns the number of a shape's value.
func (w *worker) shapeNumber(l *labelField, ls *labelSpace, s uint32) int32 {
	n := ls.byShape[s]
	if n == notYet {
		n = l.number(w.shapeValue(l.attribute.Intrinsic, &w.space.sp.Shapes[s]))
		ls.byShape[s] = n
	}
	return n
}

func (w *worker) byResource(l *labelField, ls *labelSpace, dst []int32) error {
	numbers, err := w.cur.Resources()
	if err != nil {
		return err
	}
	table := ls.byResource
	for row, r := range numbers {
		n := table[r]
		if n == notYet {
			n = w.resourceNumber(l, ls, r)
		}
		dst[row] = n
	}
	return nil
}

func (w *worker) byShape(l *labelField, ls *labelSpace, dst []int32) error {
	shapes, err := w.cur.Shapes()
	if err != nil {
		return err
	}
	table := ls.byShape
	for row, s := range shapes {
		n := table[s]
		if n == notYet {
			n = w.shapeNumber(l, ls, s)
		}
		dst[row] = n
	}
	return nil
}

func (w *worker) bySpan(l *labelField, ls *labelSpace, dst []int32) error {
	if ls.hasRes {
		if err := w.byResource(l, ls, dst); err != nil {
			return err
		}
	} else {
		clear(dst)
	}
	if w.state(ls.keys) == keyAbsent {
		return nil
	}
	for _, col := range ls.keys.cols {
		c, err := w.cur.Column(col)
		if err != nil {
			return err
		}
		if c == nil || c.Info.Type == signal.AttrEmpty {
			continue
		}
		owners, err := w.cur.RowsOf(col)
		if err != nil {
			return err
		}
		if c.Codes == nil {
			last, number := rawValue{}, int32(notYet)
			for i, row := range owners {
				if v := columnValue(c, i); number == notYet || v.num != last.num || string(v.bytes) != string(last.bytes) {
					last, number = v, l.number(v.static())
				}
				dst[row] = number
			}
			continue
		}
		table := ls.byCode[col]
		if len(table) < c.Dict.Len() {
			table = unknownNumbers(c.Dict.Len())
			ls.byCode[col] = table
		}
		for i, code := range c.Codes {
			n := table[code]
			if n == notYet {
				n = l.number(rawValue{t: c.Info.Type, bytes: c.Dict.At(code)}.static())
				table[code] = n
			}
			dst[owners[i]] = n
		}
	}
	return nil
}

// seriesIndex finds the series of a tuple of label numbers.
type seriesIndex struct {
	labels []*labelField
	acc    *traceql.Accumulator
	by     []traceql.KeyValue // keys, without values

	single []int32            // series by number of the label or tuple
	pairs  []map[uint64]int32 // by number so far and the next label's: number of the tuple
	tuples [][]int32          // of i+1 labels: number of i, and of the last
	next   []int32            // scratch
	key    []byte
}

func newSeriesIndex(m *traceql.Metrics, acc *traceql.Accumulator) *seriesIndex {
	x := &seriesIndex{acc: acc}
	for _, f := range m.By {
		x.labels = append(x.labels, newLabelField(f.Attribute))
		x.by = append(x.by, traceql.KeyValue{Key: f.String()})
	}
	x.pairs = make([]map[uint64]int32, max(len(x.labels), 1))
	return x
}

// series sets dst to the series of rows of the worker's group: of all if sel is
// nil. Only series that rows are of are made.
func (x *seriesIndex) series(w *worker, sel []uint32, dst []int32) error {
	if len(x.labels) == 0 {
		if len(dst) == 0 {
			return nil
		}
		s := x.lookup(nil)
		for i := range dst {
			dst[i] = s
		}
		return nil
	}
	if err := w.pick(x.labels[0], sel, dst); err != nil {
		return err
	}
	x.next = grow(x.next, len(dst))
	for i := 1; i < len(x.labels); i++ {
		if err := w.pick(x.labels[i], sel, x.next); err != nil {
			return err
		}
		x.combine(i, dst, x.next)
	}
	// Now dst has numbers of the only label, or of tuples.
	for i, n := range dst {
		if n < 0 {
			dst[i] = traceql.NoSeries
			continue
		}
		if int(n) >= len(x.single) {
			x.single = append(x.single, unknownNumbers(int(n)+64-len(x.single))...)
		}
		s := x.single[n]
		if s == notYet {
			s = x.lookup(x.tuple(len(x.labels)-1, n))
			x.single[n] = s
		}
		dst[i] = s
	}
	return nil
}

// pick sets dst to the numbers of a label of some rows.
func (w *worker) pick(l *labelField, sel []uint32, dst []int32) error {
	if sel == nil {
		return w.numbers(l, dst)
	}
	w.ids = grow(w.ids, w.info.Rows)
	if err := w.numbers(l, w.ids); err != nil {
		return err
	}
	for i, row := range sel {
		dst[i] = w.ids[row]
	}
	return nil
}

// combine replaces numbers of tuples of the first i labels by those of the first
// i+1.
func (x *seriesIndex) combine(i int, dst, next []int32) {
	m := x.pairs[i]
	if m == nil {
		m = make(map[uint64]int32)
		x.pairs[i] = m
	}
	lastKey, lastNumber := uint64(0), int32(notYet)
	for row, n := range dst {
		if n < 0 || next[row] < 0 {
			dst[row] = beyondLabels
			continue
		}
		key := uint64(n)<<32 | uint64(next[row])
		if key != lastKey || lastNumber == notYet {
			number, ok := m[key]
			if !ok {
				number = beyondLabels
				if len(m) < maxLabelValues {
					number = int32(len(m))
					x.addTuple(i, n, next[row])
				}
				m[key] = number
			}
			lastKey, lastNumber = key, number
		}
		dst[row] = lastNumber
	}
}

// addTuple notes of what the next tuple of i+1 labels consists.
func (x *seriesIndex) addTuple(i int, first, last int32) {
	for len(x.tuples) <= i {
		x.tuples = append(x.tuples, nil)
	}
	x.tuples[i] = append(x.tuples[i], first, last)
}

// tuple returns the labels' numbers of tuple n of i+1 labels.
func (x *seriesIndex) tuple(i int, n int32) []int32 {
	if i == 0 {
		return []int32{n}
	}
	first, last := x.tuples[i][2*n], x.tuples[i][2*n+1]
	return append(x.tuple(i-1, first), last)
}

// lookup returns the accumulator's series for labels' numbers.
func (x *seriesIndex) lookup(numbers []int32) int32 {
	x.key = x.key[:0]
	for i, n := range numbers {
		x.key = x.labels[i].values[n].AppendKey(x.key)
	}
	return x.acc.Series(x.key, func() []traceql.KeyValue {
		labels := append([]traceql.KeyValue{}, x.by...)
		for i, n := range numbers {
			labels[i].Value = x.labels[i].values[n]
		}
		return labels
	})
}

// beyond reports whether values were left out.
func (x *seriesIndex) beyond() bool {
	for _, l := range x.labels {
		if l.beyond {
			return true
		}
	}
	return false
}

// grow returns buf with length n, its content undefined.
func grow[T any](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n, n+n/4)
	}
	return buf[:n]
}
