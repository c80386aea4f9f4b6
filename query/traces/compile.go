package traces

import (
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

// verdict is what is known of a group before its rows are read.
type verdict uint8

const (
	none verdict = iota // no row matches
	some                // some rows may
	all                 // all do
)

// pred is a condition compiled for a space.
type pred interface {
	// prune tells what is known of the worker's group.
	prune(w *worker) verdict
	// eval adds the rows that match to dst. If prune says all, or none, it need
	// not be called.
	eval(w *worker, dst bitmap) error
	// cost orders conditions: the cheap ones first.
	cost() int
}

// exact reports whether columns say of every span whether a condition holds; with
// traces, of every span of a regular trace.
func exact(e traceql.Expr, traces bool) bool {
	switch e := e.(type) {
	case nil:
		return true
	case *traceql.Literal:
		return true
	case *traceql.Field:
		return readable(e.Attribute)
	case *traceql.Unary:
		return e.Op == traceql.OpNot && exact(e.Expr, traces)
	case *traceql.Binary:
		switch {
		case e.Op == traceql.OpAnd || e.Op == traceql.OpOr:
			return exact(e.Left, traces) && exact(e.Right, traces)
		case e.Op.IsComparison():
			field, m, ok := comparison(e)
			if ok && field != nil && traces && !readable(field.Attribute) {
				_, _, root := rootOnly(field, &m)
				return root || ofTrace(field.Attribute) && !m.isNil()
			}
			return ok && (field == nil || readable(field.Attribute))
		}
	}
	return false
}

// comparison takes apart a comparison of a field with a constant. The field is
// nil if two constants are compared.
func comparison(b *traceql.Binary) (*traceql.Field, matcher, bool) {
	m := matcher{op: b.Op, re: b.Regexp()}
	left, leftIsField := b.Left.(*traceql.Field)
	right, rightIsField := b.Right.(*traceql.Field)
	constantLeft, leftIsConstant := b.Left.(*traceql.Literal)
	constantRight, rightIsConstant := b.Right.(*traceql.Literal)
	switch {
	case leftIsField && rightIsConstant:
		m.constant = constantRight.Value
		return left, m, true
	case leftIsConstant && rightIsField:
		m.op, m.constant = mirrored(b.Op), constantLeft.Value
		return right, m, true
	case leftIsConstant && rightIsConstant:
		return nil, m, true
	}
	return nil, m, false
}

// mirrored returns the comparison that holds with its operands exchanged.
func mirrored(op traceql.Op) traceql.Op {
	switch op {
	case traceql.OpGreater:
		return traceql.OpLess
	case traceql.OpGreaterEqual:
		return traceql.OpLessEqual
	case traceql.OpLess:
		return traceql.OpGreater
	case traceql.OpLessEqual:
		return traceql.OpGreaterEqual
	}
	return op
}

// pred returns the condition compiled for the worker's space, which it keeps.
func (w *worker) pred(e traceql.Expr) pred {
	preds := w.space.preds
	if w.local {
		preds = w.space.local
	}
	p, ok := preds[e]
	if !ok {
		p = w.compile(e)
		preds[e] = p
	}
	return p
}

// compile returns a predicate that holds for all rows for which e does; if e is
// exact, for no others.
func (w *worker) compile(e traceql.Expr) pred {
	switch e := e.(type) {
	case *traceql.Literal:
		return constPred(e.Value.True())
	case *traceql.Field:
		return w.compileField(e, matcher{op: traceql.OpEqual, constant: traceql.Bool(true)})
	case *traceql.Unary:
		if exact(e, w.local) {
			return &notPred{w.compile(e.Expr)}
		}
	case *traceql.Binary:
		switch {
		case e.Op == traceql.OpAnd:
			return newAnd(w.compile(e.Left), w.compile(e.Right))
		case e.Op == traceql.OpOr:
			return newOr(w.compile(e.Left), w.compile(e.Right))
		case e.Op.IsComparison():
			return w.compileComparison(e)
		}
	}
	return constPred(true)
}

func (w *worker) compileComparison(b *traceql.Binary) pred {
	field, m, ok := comparison(b)
	switch {
	case !ok:
		return constPred(true)
	case field == nil:
		left, right := b.Left.(*traceql.Literal).Value, b.Right.(*traceql.Literal).Value
		return constPred((&matcher{op: m.op, constant: right, re: m.re}).one(left))
	}
	return w.compileField(field, m)
}

func (w *worker) compileField(f *traceql.Field, m matcher) pred {
	a := f.Attribute
	if !readable(a) {
		if root, other, ok := rootOnly(f, &m); ok && w.local {
			return &rootPred{root: root, other: other}
		}
		if w.local && ofTrace(a) && !m.isNil() {
			return &tracePred{intrinsic: a.Intrinsic, m: m}
		}
		return constPred(true)
	}
	if m.isNil() {
		if a.Scope == traceql.ScopeResource && a.Intrinsic == traceql.IntrinsicNone {
			return newResourcePred(w, a.Name, m)
		}
		return &presentPred{attribute: a, want: m.op == traceql.OpNotEqual}
	}
	switch a.Intrinsic {
	case traceql.IntrinsicNone:
		switch a.Scope {
		case traceql.ScopeResource:
			return newResourcePred(w, a.Name, m)
		case traceql.ScopeInstrumentation:
			return &shapePred{memo: make([]uint8, len(w.space.sp.Shapes)), match: func(w *worker, s *rows.Shape) bool {
				v, _ := findAttribute(w.space.sp.Scopes[s.Scope].Attrs, a.Name)
				return m.raw(v)
			}}
		}
		return newAttrPred(w, a, m)
	case traceql.IntrinsicName, traceql.IntrinsicKind, traceql.IntrinsicInstrumentationName, traceql.IntrinsicInstrumentationVersion:
		return &shapePred{memo: make([]uint8, len(w.space.sp.Shapes)), match: func(w *worker, s *rows.Shape) bool {
			return m.one(w.shapeValue(a.Intrinsic, s))
		}}
	case traceql.IntrinsicStatus:
		return newStatusPred(m)
	case traceql.IntrinsicDuration:
		return newDurationPred(m)
	}
	return &readPred{attribute: a, m: m}
}
