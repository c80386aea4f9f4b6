package traces

import (
	"github.com/vedette-io/vedette/query/traceql"
)

// condition returns an expression that holds for every span that a pipeline
// leaves of any trace; nil if that is all that can be said.
func condition(p *traceql.Pipeline) traceql.Expr {
	var e traceql.Expr
	for _, s := range p.Stages {
		if s, ok := s.(traceql.SpansetExpr); ok {
			e = join(traceql.OpAnd, e, spansetCondition(s))
		}
	}
	return e
}

func spansetCondition(s traceql.SpansetExpr) traceql.Expr {
	switch s := s.(type) {
	case *traceql.Filter:
		return s.Expr
	case *traceql.Nested:
		return condition(s.Pipeline)
	case *traceql.SpansetOp:
		right := spansetCondition(s.Right)
		if _, _, union := s.Op.Relation(); s.Op.IsStructural() && !union {
			return right
		}
		return join(traceql.OpOr, spansetCondition(s.Left), right)
	}
	return nil
}

// join joins two conditions of which nil holds for all spans.
func join(op traceql.Op, left, right traceql.Expr) traceql.Expr {
	switch {
	case left == nil && op == traceql.OpAnd:
		return right
	case right == nil && op == traceql.OpAnd:
		return left
	case left == nil || right == nil:
		return nil
	}
	return &traceql.Binary{Op: op, Left: left, Right: right}
}

// plain reports whether the spans that a pipeline leaves are just those that its
// condition holds for, whatever other spans their traces have, and whether the
// condition is exact.
func plain(p *traceql.Pipeline) bool {
	for _, s := range p.Stages {
		switch s := s.(type) {
		case traceql.SpansetExpr:
			if !plainSpanset(s) {
				return false
			}
		case *traceql.ScalarFilter:
			if s.Op != traceql.OpNone {
				return false
			}
		}
	}
	return true
}

func plainSpanset(s traceql.SpansetExpr) bool {
	switch s := s.(type) {
	case *traceql.Filter:
		return exact(s.Expr, false)
	case *traceql.Nested:
		return plain(s.Pipeline)
	case *traceql.SpansetOp:
		return s.Op == traceql.OpOr && plainSpanset(s.Left) && plainSpanset(s.Right)
	}
	return false
}

// shown returns the attributes that an answer shows of a span: those that the
// query names, but for what a span is shown with anyway.
func shown(q *traceql.Query) []traceql.Attribute {
	var out []traceql.Attribute
	for _, a := range q.Attributes() {
		switch {
		case a.Intrinsic == traceql.IntrinsicName, a.Intrinsic == traceql.IntrinsicDuration,
			a.Intrinsic == traceql.IntrinsicSpanID, a.Intrinsic != traceql.IntrinsicNone && a.Intrinsic.OfTrace():
			continue
		}
		out = append(out, a)
	}
	return out
}
