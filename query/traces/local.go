package traces

import (
	"sync"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// This file evaluates pipelines on groups: what looks at other spans of a trace
// as well, in bitmaps of all rows of a group at once. That is right for traces
// that lie in one group alone and whose tree is an ordinary one; the others are
// irregular, and somebody must look at them as a whole.

// maxSplitTraces bounds the traces of a store for which it is found out which lie
// in several groups; that takes 32 bytes and some 20 ns of each.
const maxSplitTraces = 4 << 20

// splits finds the traces that lie in several groups, whatever their times.
type splits struct {
	once   sync.Once
	shared *sharedTraces // nil if the store has too many
	err    error
}

// splitTraces returns the traces of the view that lie in several groups, nil if
// that is not known. Some others may be among them.
func (r *run) splitTraces() (*sharedTraces, error) {
	r.splits.once.Do(func() { r.splits.shared, r.splits.err = r.findSplits() })
	return r.splits.shared, r.splits.err
}

func (r *run) findSplits() (*sharedTraces, error) {
	var all []sourceGroup
	n := 0
	for _, s := range r.view.Sources() {
		for _, g := range s.Groups() {
			all = append(all, sourceGroup{Group: g, source: len(all), info: g.Info()})
			n += g.Info().Traces
		}
	}
	if n > maxSplitTraces {
		return nil, nil
	}
	shared := newSharedTraces(all)
	var c rows.Cursor
	for _, g := range all {
		err := c.Seek(g.Group)
		var ids []signal.TraceID
		if err == nil {
			ids, err = c.TraceIDs()
		}
		if err != nil {
			if err := r.damaged(err); err != nil {
				return nil, err
			}
			continue
		}
		for i := range ids {
			shared.add(&ids[i], g.source)
		}
	}
	r.bytes.Add(c.InspectedBytes())
	return shared, nil
}

// local reports whether localRows says of every regular trace exactly which spans
// are left.
func local(p *traceql.Pipeline) bool {
	grouped := false
	for _, s := range p.Stages {
		switch s := s.(type) {
		case *traceql.Filter:
			if !exact(s.Expr, true) {
				return false
			}
		case traceql.SpansetExpr:
			if grouped || !localSpanset(s) {
				return false
			}
		case *traceql.ScalarFilter:
			if s.Op != traceql.OpNone && (grouped || !countsOnly(s.Left) || !countsOnly(s.Right)) {
				return false
			}
		case *traceql.GroupBy:
			grouped = true
		case *traceql.Coalesce:
			grouped = false
		}
	}
	return true
}

func localSpanset(s traceql.SpansetExpr) bool {
	switch s := s.(type) {
	case *traceql.Filter:
		return exact(s.Expr, true)
	case *traceql.Nested:
		return local(s.Pipeline)
	case *traceql.SpansetOp:
		return localSpanset(s.Left) && localSpanset(s.Right)
	}
	return false
}

// countsOnly reports whether a scalar is made of counts and numbers.
func countsOnly(s traceql.Scalar) bool {
	switch s := s.(type) {
	case *traceql.ScalarLiteral:
		return true
	case *traceql.Aggregate:
		return s.Func == traceql.AggregateCount
	case *traceql.ScalarOp:
		return countsOnly(s.Left) && countsOnly(s.Right)
	}
	return false
}

// scalarOf returns a scalar that countsOnly of a spanset with n spans.
func scalarOf(s traceql.Scalar, n int) traceql.Static {
	switch s := s.(type) {
	case *traceql.ScalarLiteral:
		return s.Value
	case *traceql.Aggregate:
		return traceql.Int(int64(n))
	case *traceql.ScalarOp:
		return scalarOf(s.Left, n).Arithmetic(s.Op, scalarOf(s.Right, n))
	}
	return traceql.Static{}
}

// localRows returns the rows that a pipeline leaves of the regular traces of the
// worker's group, more if the pipeline is not local, and the rows of irregular
// ones for which the condition may hold. Either may be nil.
func (w *worker) localRows(p *traceql.Pipeline, condition traceql.Expr) (regular, irregular bitmap, err error) {
	relaxed, err := w.matching(condition)
	if err != nil || relaxed == nil {
		return nil, nil, err
	}
	if err := w.findIrregular(); err != nil {
		return nil, nil, err
	}
	in := w.bitmap()
	in.fill(w.info.Rows)
	w.local = true
	out, _, err := w.pipeline(p, in, true)
	w.local = false
	if err != nil {
		return nil, nil, err
	}
	out.and(relaxed)
	out.andNot(w.irregular)
	relaxed.and(w.irregular)
	return out, relaxed, nil
}

// findIrregular marks the rows of traces that lie in several groups.
func (w *worker) findIrregular() error {
	w.irregular = grow(w.irregular, words(w.info.Rows))
	clear(w.irregular)
	shared, err := w.run.splitTraces()
	if err != nil {
		return err
	}
	if shared == nil {
		w.irregular.fill(w.info.Rows)
		return nil
	}
	ids, err := w.cur.TraceIDs()
	if err != nil {
		return err
	}
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	for t := range ids {
		if shared.slot(&ids[t]).shared {
			w.markIrregular(begins[t], begins[t+1])
		}
	}
	return nil
}

func (w *worker) markIrregular(first, end uint32) {
	for row := first; row < end; row++ {
		w.irregular.set(int(row))
	}
}

// pipeline returns the rows that a pipeline leaves of those in a set. If sure, the
// set is exact, else it may have more rows than it should; that is also said of
// the result.
func (w *worker) pipeline(p *traceql.Pipeline, in bitmap, sure bool) (bitmap, bool, error) {
	grouped := false
	for _, s := range p.Stages {
		var err error
		switch s := s.(type) {
		case traceql.SpansetExpr:
			if _, filter := s.(*traceql.Filter); grouped && !filter {
				return in, false, nil // of each set: more than columns say
			}
			in, sure, err = w.spanset(s, in, sure)
		case *traceql.ScalarFilter:
			switch {
			case s.Op == traceql.OpNone:
			case grouped || !sure || !countsOnly(s.Left) || !countsOnly(s.Right):
				sure = false
			default:
				err = w.keepCounted(s, in)
			}
		case *traceql.GroupBy:
			grouped = true
		case *traceql.Coalesce:
			grouped = false
		}
		if err != nil || in.empty() {
			return in, sure, err
		}
	}
	return in, sure, nil
}

// keepCounted drops the rows of traces whose spanset does not pass.
func (w *worker) keepCounted(f *traceql.ScalarFilter, set bitmap) error {
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	for t := range w.info.Traces {
		first, end := int(begins[t]), int(begins[t+1])
		n := set.countIn(first, end)
		if n > 0 && !scalarOf(f.Left, n).Match(f.Op, scalarOf(f.Right, n)) {
			set.clearIn(first, end)
		}
	}
	return nil
}

// spanset returns the rows that an expression leaves of those in a set, which it
// does not change; sure is as pipeline has it.
func (w *worker) spanset(s traceql.SpansetExpr, in bitmap, sure bool) (bitmap, bool, error) {
	switch s := s.(type) {
	case *traceql.Filter:
		out := w.bitmap()
		if s.Expr == nil {
			out.or(in)
			return out, sure, nil
		}
		if err := w.evaluate(w.pred(s.Expr), out); err != nil {
			return nil, false, err
		}
		out.and(in)
		return out, sure && exact(s.Expr, true), nil
	case *traceql.Nested:
		out := w.bitmap()
		out.or(in)
		return w.pipeline(s.Pipeline, out, sure)
	case *traceql.SpansetOp:
		return w.spansetOp(s, in, sure)
	}
	panic("BUG: no such expression of spansets")
}

func (w *worker) spansetOp(s *traceql.SpansetOp, in bitmap, sure bool) (bitmap, bool, error) {
	left, sureLeft, err := w.spanset(s.Left, in, sure)
	if err != nil {
		return nil, false, err
	}
	right, sureRight, err := w.spanset(s.Right, in, sure)
	if err != nil {
		return nil, false, err
	}
	sure = sureLeft && sureRight
	if _, negated, _ := s.Op.Relation(); negated && !sureLeft {
		return right, false, nil
	}
	if s.Op.IsStructural() {
		right, err = w.structural(s.Op, left, right)
		w.release(left)
		return right, sure, err
	}
	if s.Op == traceql.OpAnd {
		if err := w.keepBoth(left, right); err != nil {
			return nil, false, err
		}
	}
	left.or(right)
	w.release(right)
	return left, sure, nil
}

// keepBoth drops the rows of traces that are not in both sets.
func (w *worker) keepBoth(left, right bitmap) error {
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	for t := range w.info.Traces {
		first, end := int(begins[t]), int(begins[t+1])
		l, r := left.anyIn(first, end), right.anyIn(first, end)
		if l != r {
			left.clearIn(first, end)
			right.clearIn(first, end)
		}
	}
	return nil
}

// structural joins two sets by where their rows are in the tree.
func (w *worker) structural(op traceql.Op, left, right bitmap) (bitmap, error) {
	plain, negated, union := op.Relation()
	parents, err := w.tree()
	if err != nil {
		return nil, err
	}
	related := w.bitmap()
	if err := w.related(plain, parents, left, related); err != nil {
		return nil, err
	}
	if negated {
		right.andNot(related)
		return right, nil
	}
	if union {
		back := w.bitmap()
		if err := w.related(inverse(plain), parents, right, back); err != nil {
			return nil, err
		}
		back.and(left)
		right.and(related)
		right.or(back)
		w.release(back)
		return right, nil
	}
	right.and(related)
	return right, nil
}

// inverse returns the relation with its sides exchanged.
func inverse(op traceql.Op) traceql.Op {
	switch op {
	case traceql.OpChild:
		return traceql.OpParent
	case traceql.OpParent:
		return traceql.OpChild
	case traceql.OpDescendant:
		return traceql.OpAncestor
	case traceql.OpAncestor:
		return traceql.OpDescendant
	}
	return op
}

// tree returns the row of every row's parent, negative if it has none, and marks
// traces irregular whose spans share ids or come before their parents.
func (w *worker) tree() ([]int32, error) {
	parents, err := w.cur.Parents()
	if err != nil || w.treeOf == w.group {
		return parents, err
	}
	w.treeOf = w.group
	begins, err := w.cur.TraceRows()
	if err != nil {
		return nil, err
	}
	ids, err := w.cur.SpanIDs()
	if err != nil {
		return nil, err
	}
	if w.seenIDs == nil {
		w.seenIDs = make(map[signal.SpanID]struct{})
	}
	for t := range w.info.Traces {
		first, end := begins[t], begins[t+1]
		if !ordered(parents, first, end) || w.sharesIDs(ids[first:end]) {
			w.oddTrees = append(w.oddTrees, [2]uint32{first, end})
		}
	}
	return parents, nil
}

// ordered reports whether all rows come after their parents.
func ordered(parents []int32, first, end uint32) bool {
	for row := first; row < end; row++ {
		if parents[row] >= int32(row) {
			return false
		}
	}
	return true
}

// sharesIDs reports whether two spans have the same id.
func (w *worker) sharesIDs(ids []signal.SpanID) bool {
	if len(ids) <= 16 {
		for i := range ids {
			for j := range i {
				if ids[i] == ids[j] {
					return true
				}
			}
		}
		return false
	}
	clear(w.seenIDs)
	for _, id := range ids {
		w.seenIDs[id] = struct{}{}
	}
	return len(w.seenIDs) < len(ids)
}

// related adds the rows that are children, descendants, … of rows of a set to
// out.
func (w *worker) related(op traceql.Op, parents []int32, of, out bitmap) error {
	for _, t := range w.oddTrees {
		w.markIrregular(t[0], t[1])
	}
	switch op {
	case traceql.OpChild, traceql.OpDescendant:
		deep := op == traceql.OpDescendant
		for row, p := range parents {
			if p >= 0 && int(p) < row && (of.has(int(p)) || deep && out.has(int(p))) {
				out.set(row)
			}
		}
	case traceql.OpParent, traceql.OpAncestor:
		deep := op == traceql.OpAncestor
		for row := len(parents) - 1; row >= 0; row-- {
			if p := parents[row]; p >= 0 && int(p) < row && (of.has(row) || deep && out.has(row)) {
				out.set(int(p))
			}
		}
	case traceql.OpSibling:
		return w.siblings(parents, of, out)
	}
	return nil
}

// siblings adds the rows with another child of their parent in a set. Spans whose
// parent is not there can have siblings, too: their traces become irregular.
func (w *worker) siblings(parents []int32, of, out bitmap) error {
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	counts := make([]int32, len(parents))
	for row, p := range parents {
		if p >= 0 && of.has(row) {
			counts[p]++
		}
	}
	for t := range w.info.Traces {
		for row := begins[t]; row < begins[t+1]; row++ {
			p := parents[row]
			switch {
			case p == rows.ParentElsewhere:
				w.markIrregular(begins[t], begins[t+1])
			case p >= 0 && (counts[p] > 1 || counts[p] == 1 && !of.has(int(row))):
				out.set(int(row))
			}
		}
	}
	return nil
}
