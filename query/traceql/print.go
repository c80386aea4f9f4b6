package traceql

import (
	"fmt"
	"strconv"
	"strings"
)

// String returns the query as canonical TraceQL: parsing it gives an equal query.
func (q *Query) String() string {
	var b strings.Builder
	b.WriteString(q.Pipeline.String())
	if q.Metrics != nil {
		b.WriteString(" | " + q.Metrics.String())
	}
	for i, h := range q.Hints {
		b.WriteString([]string{" with(", ", "}[min(i, 1)])
		b.WriteString(h.Name + "=" + h.Value.String())
	}
	if len(q.Hints) > 0 {
		b.WriteByte(')')
	}
	return b.String()
}

// String returns the stages as canonical TraceQL.
func (p *Pipeline) String() string { return joinStrings(p.Stages, " | ") }

func joinStrings[T fmt.Stringer](list []T, between string) string {
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(e.String())
	}
	return b.String()
}

// String returns the filter as canonical TraceQL.
func (f *Filter) String() string {
	if f.Expr == nil {
		return "{ }"
	}
	return "{ " + f.Expr.String() + " }"
}

// String returns both sides as canonical TraceQL.
func (o *SpansetOp) String() string {
	return spansetString(o.Left, o.Op, false) + " " + o.Op.String() + " " + spansetString(o.Right, o.Op, true)
}

// spansetString returns an operand of a spanset operator, in parentheses if it
// needs them.
func spansetString(s SpansetExpr, outer Op, right bool) string {
	o, ok := s.(*SpansetOp)
	if !ok || !needsParentheses(o.Op, outer, right) {
		return s.String()
	}
	return "(" + o.String() + ")"
}

// needsParentheses reports whether an operator that is an operand of another
// needs them: if it binds less, or as much on the side where it would not come
// first; && and || within each other get them for the reader's sake.
func needsParentheses(inner, outer Op, right bool) bool {
	if inner.prec() != outer.prec() {
		return inner.prec() < outer.prec()
	}
	if inner.prec() == precLogic && inner != outer {
		return true
	}
	return right != (outer == OpPow)
}

// String returns the pipeline in parentheses.
func (n *Nested) String() string { return "(" + n.Pipeline.String() + ")" }

// String returns the comparison as canonical TraceQL.
func (f *ScalarFilter) String() string {
	if f.Op == OpNone {
		return f.Left.String()
	}
	return f.Left.String() + " " + f.Op.String() + " " + f.Right.String()
}

// String returns by(…).
func (g *GroupBy) String() string { return "by(" + joinStrings(g.Exprs, ", ") + ")" }

// String returns select(…).
func (s *Select) String() string { return "select(" + joinStrings(s.Fields, ", ") + ")" }

// String returns coalesce().
func (*Coalesce) String() string { return "coalesce()" }

// String returns the call as canonical TraceQL.
func (a *Aggregate) String() string {
	if a.Expr == nil {
		return a.Func.String() + "()"
	}
	return a.Func.String() + "(" + a.Expr.String() + ")"
}

// String returns the number.
func (l *ScalarLiteral) String() string { return l.Value.String() }

// String returns both sides as canonical TraceQL.
func (o *ScalarOp) String() string {
	return scalarString(o.Left, o.Op, false) + " " + o.Op.String() + " " + scalarString(o.Right, o.Op, true)
}

func scalarString(s Scalar, outer Op, right bool) string {
	switch s := s.(type) {
	case *ScalarOp:
		if needsParentheses(s.Op, outer, right) {
			return "(" + s.String() + ")"
		}
	case *ScalarLiteral:
		if outer == OpPow && !right {
			return baseString(s.Value)
		}
	}
	return s.String()
}

// baseString returns a value that a power is of: a sign would belong to the
// power.
func baseString(v Static) string {
	if s := v.String(); s[0] == '-' {
		return "(" + s + ")"
	}
	return v.String()
}

// String returns the pipeline and its scalar in parentheses.
func (p *ScalarPipeline) String() string {
	return "(" + p.Pipeline.String() + " | " + p.Scalar.String() + ")"
}

// String returns the function and what follows it as canonical TraceQL.
func (m *Metrics) String() string {
	var b strings.Builder
	b.WriteString(m.Func.String() + "(")
	if m.Expr != nil {
		b.WriteString(m.Expr.String())
	}
	for _, q := range m.Quantiles {
		b.WriteString(", " + Float(q).String())
	}
	if c := m.Compare; c != nil {
		b.WriteString(c.Filter.String())
		if c.TopN != DefaultTopN || c.Start != 0 {
			b.WriteString(", " + strconv.Itoa(c.TopN))
		}
		if c.Start != 0 {
			fmt.Fprintf(&b, ", %d, %d", c.Start, c.End)
		}
	}
	b.WriteByte(')')
	if len(m.By) > 0 {
		b.WriteString(" by(" + joinStrings(m.By, ", ") + ")")
	}
	for _, s := range m.Second {
		if s.Op.IsComparison() {
			b.WriteString(" " + s.Op.String() + " " + s.Value.String())
		} else {
			fmt.Fprintf(&b, " | %s(%d)", s.Op, s.K)
		}
	}
	return b.String()
}

// String returns the value as a query writes it.
func (l *Literal) String() string { return l.Value.String() }

// String returns the operand with its sign.
func (u *Unary) String() string {
	switch e := u.Expr.(type) {
	case *Literal:
		if u.Op == OpSub && e.Value.Type.IsNumeric() && e.Value.String()[0] != '-' {
			return "-(" + e.String() + ")" // -5 is a literal
		}
	case *Binary:
		if e.Op.prec() < precUnary {
			return u.Op.String() + "(" + e.String() + ")"
		}
	}
	return u.Op.String() + u.Expr.String()
}

// String returns both sides as canonical TraceQL.
func (b *Binary) String() string {
	return b.side(b.Left, false) + " " + b.Op.String() + " " + b.side(b.Right, true)
}

func (b *Binary) side(e Expr, right bool) string {
	switch e := e.(type) {
	case *Binary:
		if needsParentheses(e.Op, b.Op, right) {
			return "(" + e.String() + ")"
		}
	case *Unary:
		if b.Op == OpPow {
			return "(" + e.String() + ")"
		}
	case *Literal:
		if b.Op == OpPow && !right {
			return baseString(e.Value)
		}
	}
	return e.String()
}
