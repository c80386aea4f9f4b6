package traceql

import (
	"slices"
	"strings"
)

// Set is a spanset: spans of one trace, and attributes of the set.
type Set struct {
	Attrs []KeyValue // by(…) and aggregates, as the query writes them
	Rows  []int32    // ascending
}

// Evaluator evaluates a pipeline on whole traces, one after another. It is used
// by one goroutine.
type Evaluator struct {
	pipeline *Pipeline
	fields   fields
	t        *Trace

	rows  []int32 // behind the rows of sets
	marks [2][]bool
	count []int32
	key   []byte
}

// NewEvaluator returns an evaluator of a pipeline.
func NewEvaluator(p *Pipeline) *Evaluator { return &Evaluator{pipeline: p} }

// Eval returns the spansets that the pipeline leaves of a trace, none of which
// is empty. Their rows are valid until the next Eval.
func (e *Evaluator) Eval(t *Trace) []Set {
	n := t.Len()
	if n == 0 {
		return nil
	}
	e.t = t
	e.fields.reset(t)
	e.rows = e.rows[:0]
	all := e.alloc(n)
	for i := range n {
		all = append(all, int32(i))
	}
	return e.run(e.pipeline, []Set{{Rows: all}})
}

// alloc returns an empty slice with room for n rows.
func (e *Evaluator) alloc(n int) []int32 {
	begin := len(e.rows)
	if begin+n > cap(e.rows) {
		e.rows = make([]int32, 0, max(2*cap(e.rows), 2*n, 256))
		begin = 0
	}
	e.rows = e.rows[:begin+n]
	return e.rows[begin : begin : begin+n]
}

func (e *Evaluator) run(p *Pipeline, sets []Set) []Set {
	for _, s := range p.Stages {
		if len(sets) == 0 {
			return nil
		}
		sets = e.stage(s, sets)
	}
	return sets
}

func (e *Evaluator) stage(s Stage, sets []Set) []Set {
	switch s := s.(type) {
	case SpansetExpr:
		kept := sets[:0]
		for _, set := range sets {
			if set.Rows = e.spans(s, set.Rows); len(set.Rows) > 0 {
				kept = append(kept, set)
			}
		}
		return kept
	case *ScalarFilter:
		kept := sets[:0]
		for _, set := range sets {
			if e.passes(s, &set) {
				kept = append(kept, set)
			}
		}
		return kept
	case *GroupBy:
		var groups []Set
		for _, set := range sets {
			groups = e.group(s, set, groups)
		}
		return groups
	case *Coalesce:
		return []Set{{Rows: e.union(sets)}}
	}
	return sets // select() names what is shown
}

// spans evaluates an expression on some spans of the trace.
func (e *Evaluator) spans(s SpansetExpr, rows []int32) []int32 {
	switch s := s.(type) {
	case *Filter:
		return e.filter(s, rows)
	case *Nested:
		return e.union(e.run(s.Pipeline, []Set{{Rows: rows}}))
	case *SpansetOp:
		left := e.spans(s.Left, rows)
		if s.Op == OpAnd && len(left) == 0 {
			return nil
		}
		right := e.spans(s.Right, rows)
		switch {
		case s.Op == OpAnd && len(right) == 0:
			return nil
		case s.Op == OpAnd || s.Op == OpOr:
			return e.union([]Set{{Rows: left}, {Rows: right}})
		}
		return e.structural(s.Op, left, right)
	}
	return nil
}

// Match reports whether a filter holds for a span of t.
func (e *Evaluator) Match(f *Filter, t *Trace, row int) bool {
	if f.Expr == nil {
		return true
	}
	e.fields.reset(t)
	return e.fields.holds(f.Expr, row)
}

func (e *Evaluator) filter(f *Filter, rows []int32) []int32 {
	if f.Expr == nil {
		return rows
	}
	kept := e.alloc(len(rows))
	for _, row := range rows {
		if e.Match(f, e.t, int(row)) {
			kept = append(kept, row)
		}
	}
	return kept
}

// union returns the rows of all sets, each once.
func (e *Evaluator) union(sets []Set) []int32 {
	switch len(sets) {
	case 0:
		return nil
	case 1:
		return sets[0].Rows
	}
	marked := e.mark(0, nil)
	for _, s := range sets {
		for _, row := range s.Rows {
			marked[row] = true
		}
	}
	return e.marked(marked)
}

// mark returns scratch with an entry per span, true for some rows.
func (e *Evaluator) mark(which int, rows []int32) []bool {
	m := slices.Grow(e.marks[which][:0], e.t.Len())[:e.t.Len()]
	e.marks[which] = m
	clear(m)
	for _, row := range rows {
		m[row] = true
	}
	return m
}

// marked returns the rows that are marked.
func (e *Evaluator) marked(m []bool) []int32 {
	rows := e.alloc(len(m))
	for row, is := range m {
		if is {
			rows = append(rows, int32(row))
		}
	}
	return rows
}

// structural joins two sets of spans by where they are in the tree.
func (e *Evaluator) structural(op Op, left, right []int32) []int32 {
	plain, negated, union := op.Relation()
	related := e.related(plain, left)
	kept := e.alloc(len(right))
	for _, row := range right {
		if related[row] != negated {
			kept = append(kept, row)
		}
	}
	if !union || len(kept) == 0 {
		return kept
	}
	related = e.related(plain.inverse(), right)
	both := e.alloc(len(left))
	for _, row := range left {
		if related[row] {
			both = append(both, row)
		}
	}
	return e.union([]Set{{Rows: both}, {Rows: kept}})
}

// inverse returns the relation with its sides exchanged.
func (o Op) inverse() Op {
	switch o {
	case OpChild:
		return OpParent
	case OpParent:
		return OpChild
	case OpDescendant:
		return OpAncestor
	case OpAncestor:
		return OpDescendant
	}
	return o
}

// related marks the spans that are children, descendants, … of any of some
// spans.
func (e *Evaluator) related(op Op, of []int32) []bool {
	t := e.t
	t.build()
	in := e.mark(0, of)
	if op == OpSibling {
		return e.siblings(in)
	}
	out := e.mark(1, nil)
	switch op {
	case OpChild, OpDescendant:
		deep := op == OpDescendant
		for _, row := range t.order {
			if p := t.parent[row]; p != noRow {
				out[row] = in[p] || deep && out[p]
			}
		}
	case OpParent, OpAncestor:
		deep := op == OpAncestor
		for i := len(t.order) - 1; i >= 0; i-- {
			row := t.order[i]
			if p := t.parent[row]; p != noRow && (in[row] || deep && out[row]) {
				out[p] = true
			}
		}
	}
	return out
}

// siblings marks the spans that have a sibling in a set.
func (e *Evaluator) siblings(in []bool) []bool {
	t := e.t
	e.count = slices.Grow(e.count[:0], t.siblingLen)[:t.siblingLen]
	clear(e.count)
	for row, is := range in {
		if g := t.sibling[row]; is && g != noRow {
			e.count[g]++
		}
	}
	out := e.mark(1, nil)
	for row, g := range t.sibling {
		if g == noRow {
			continue
		}
		others := e.count[g]
		if in[row] {
			others--
		}
		out[row] = others > 0
	}
	return out
}

// group divides a set by values.
func (e *Evaluator) group(g *GroupBy, set Set, groups []Set) []Set {
	index := map[string]int{}
	for _, row := range set.Rows {
		e.fields.reset(e.t)
		e.key = e.key[:0]
		for _, x := range g.Exprs {
			e.key = e.groupValue(x, int(row)).AppendKey(e.key)
		}
		at, ok := index[string(e.key)]
		if !ok {
			at = len(groups)
			index[string(e.key)] = at
			attrs := slices.Clone(set.Attrs)
			for _, x := range g.Exprs {
				v := e.groupValue(x, int(row))
				v.Text = strings.Clone(v.Text)
				attrs = append(attrs, KeyValue{Key: "by(" + x.String() + ")", Value: v})
			}
			groups = append(groups, Set{Attrs: attrs})
		}
		groups[at].Rows = append(groups[at].Rows, row)
	}
	return groups
}

// groupValue returns the one value by which a span is grouped: an array or map
// as a whole, the first of several events or links.
func (e *Evaluator) groupValue(x Expr, row int) Static {
	var v value
	if f, ok := x.(*Field); ok {
		v = e.fields.read(f.Attribute, row, true)
	} else {
		v = e.fields.eval(x, row)
	}
	switch {
	case !v.several:
		return v.one
	case len(v.many) > 0:
		return v.many[0]
	}
	return Static{}
}

// passes evaluates a scalar filter on a set and adds its aggregates to the set's
// attributes.
func (e *Evaluator) passes(f *ScalarFilter, set *Set) bool {
	set.Attrs = slices.Clip(set.Attrs)
	left := e.scalar(f.Left, set.Rows, set)
	if f.Op == OpNone {
		return true
	}
	return left.Match(f.Op, e.scalar(f.Right, set.Rows, set))
}

// scalar computes a scalar of some spans.
func (e *Evaluator) scalar(s Scalar, rows []int32, set *Set) Static {
	switch s := s.(type) {
	case *ScalarLiteral:
		return s.Value
	case *ScalarOp:
		return e.scalar(s.Left, rows, set).Arithmetic(s.Op, e.scalar(s.Right, rows, set))
	case *ScalarPipeline:
		var inner Set
		return e.scalar(s.Scalar, e.union(e.run(s.Pipeline, []Set{{Rows: rows}})), &inner)
	case *Aggregate:
		v := e.aggregate(s, rows)
		key := s.String()
		if !slices.ContainsFunc(set.Attrs, func(kv KeyValue) bool { return kv.Key == key }) {
			set.Attrs = append(set.Attrs, KeyValue{Key: key, Value: v})
		}
		return v
	}
	return Static{}
}

func (e *Evaluator) aggregate(a *Aggregate, rows []int32) Static {
	if a.Func == AggregateCount {
		return Int(int64(len(rows)))
	}
	var acc aggregation
	for _, row := range rows {
		e.fields.reset(e.t)
		v := e.fields.eval(a.Expr, int(row))
		if !v.several {
			acc.add(v.one)
			continue
		}
		for _, s := range v.many {
			acc.add(s)
		}
	}
	return acc.result(a.Func)
}

// aggregation is the sum, the least and the greatest of numbers.
type aggregation struct {
	n                int64
	sum, least, most Static
}

func (a *aggregation) add(s Static) {
	if !s.Type.IsNumeric() {
		return
	}
	if a.n++; a.n == 1 {
		a.sum, a.least, a.most = s, s, s
		return
	}
	a.sum = a.sum.Arithmetic(OpAdd, s)
	if s.Match(OpLess, a.least) {
		a.least = s
	}
	if s.Match(OpGreater, a.most) {
		a.most = s
	}
}

func (a *aggregation) result(f AggregateFunc) Static {
	switch {
	case a.n == 0:
		return Static{}
	case f == AggregateAvg:
		return a.sum.Arithmetic(OpDiv, Int(a.n))
	case f == AggregateMin:
		return a.least
	case f == AggregateMax:
		return a.most
	}
	return a.sum
}
