package traceql

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a query's text, so that hostile ones cost little.
const (
	MaxQueryBytes = 128 << 10
	MaxDepth      = 128 // of parentheses and signs within each other
)

// Parse reads and validates a query. The empty query is {}. Errors are
// *ParseError.
func Parse(query string) (*Query, error) {
	p, err := newParser(query)
	if err != nil {
		return nil, err
	}
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	if err := validate(query, q); err != nil {
		return nil, err
	}
	return q, nil
}

// parser reads a query by recursive descent; operators by their binding
// strength.
type parser struct {
	lex   lexer
	tok   token // the next one
	depth int
}

func newParser(query string) (*parser, error) {
	if len(query) > MaxQueryBytes {
		return nil, newError(query[:64], 0, fmt.Sprintf("query of %d bytes, want at most %d", len(query), MaxQueryBytes))
	}
	if !utf8.ValidString(query) {
		at := strings.IndexRune(strings.ToValidUTF8(query, "\uFFFD"), utf8.RuneError)
		return nil, newError(query, Pos(at), "query is not UTF-8")
	}
	p := &parser{lex: lexer{query: query}}
	return p, p.advance()
}

func (p *parser) advance() error {
	var err error
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) errorAt(at Pos, format string, args ...any) error {
	return newError(p.lex.query, at, fmt.Sprintf(format, args...))
}

// unexpected says that the next token is not what was wanted.
func (p *parser) unexpected(want string) error {
	return p.errorAt(p.tok.at, "unexpected %s, want %s", p.tok.describe(), want)
}

func (p *parser) isPunct(c string) bool { return p.tok.kind == tokPunct && p.tok.text == c }

// accept moves over punctuation if it is next.
func (p *parser) accept(c string) (bool, error) {
	if !p.isPunct(c) {
		return false, nil
	}
	return true, p.advance()
}

// expect moves over punctuation that must be next.
func (p *parser) expect(c, where string) error {
	ok, err := p.accept(c)
	if err == nil && !ok {
		err = p.unexpected(strconv.Quote(c) + " " + where)
	}
	return err
}

// nest runs f one level deeper.
func (p *parser) nest(f func() error) error {
	if p.depth++; p.depth > MaxDepth {
		return p.errorAt(p.tok.at, "query is nested too deeply: want at most %d levels", MaxDepth)
	}
	err := f()
	p.depth--
	return err
}

func (p *parser) query() (*Query, error) {
	q := &Query{}
	if p.tok.kind == tokEnd {
		q.Pipeline = &Pipeline{Stages: []Stage{&Filter{}}}
		return q, nil
	}
	var err error
	if q.Pipeline, q.Metrics, err = p.pipeline(true); err != nil {
		return nil, err
	}
	if p.tok.kind == tokIdent && p.tok.text == "with" {
		if q.Hints, err = p.hints(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != tokEnd {
		want := "an operator, |, with(…) or the end of the query"
		if q.Metrics != nil {
			want = "|, a comparison, with(…) or the end of the query"
		}
		return nil, p.unexpected(want)
	}
	return q, nil
}

// pipeline reads stages divided by |. Only the outermost may end in a metrics
// function.
func (p *parser) pipeline(outer bool) (*Pipeline, *Metrics, error) {
	pl := &Pipeline{}
	for {
		if f, ok := metricsFunc(p.tok); ok {
			if !outer {
				return nil, nil, p.errorAt(p.tok.at, "metrics function %s within parentheses, want it at the end of the query", f)
			}
			if len(pl.Stages) == 0 {
				return nil, nil, p.errorAt(p.tok.at, "metrics function %s without spans, want { } | %s(…)", f, f)
			}
			m, err := p.metrics(f)
			return pl, m, err
		}
		s, err := p.stage()
		if err != nil {
			return nil, nil, err
		}
		pl.Stages = append(pl.Stages, s)
		if ok, err := p.accept("|"); err != nil || !ok {
			return pl, nil, err
		}
	}
}

const wantStage = "{, (, by, select, coalesce, an aggregate or a metrics function"

// stage reads one stage of a pipeline.
func (p *parser) stage() (Stage, error) {
	if p.tok.kind == tokIdent {
		at := p.tok.at
		switch p.tok.text {
		case "by":
			exprs, err := p.exprList("by")
			return &GroupBy{At: at, Exprs: exprs}, err
		case "select":
			fields, err := p.fieldList("select")
			return &Select{At: at, Fields: fields}, err
		case "coalesce":
			return &Coalesce{At: at}, p.call("coalesce", func() error { return nil })
		case "topk", "bottomk":
			return nil, p.errorAt(at, "%s works on series, want a metrics function before it", p.tok.text)
		}
	}
	at := p.tok.at
	o, err := p.operand(precLogic)
	if err != nil {
		return nil, err
	}
	switch {
	case o.spans != nil:
		return o.spans, nil
	case o.filter != nil:
		return o.filter, nil
	}
	return &ScalarFilter{At: at, Left: o.scalar}, nil
}

// operand is what an operator between spansets or scalars works on: exactly one
// is set.
type operand struct {
	spans  SpansetExpr
	scalar Scalar
	filter *ScalarFilter
}

func (o operand) kind() string {
	switch {
	case o.spans != nil:
		return "spans"
	case o.scalar != nil:
		return "a number"
	}
	return "a comparison of numbers"
}

// operand reads operators and operands that bind at least as strongly as prec.
func (p *parser) operand(prec int) (operand, error) {
	left, err := p.operandPrefix()
	for err == nil && p.tok.kind == tokOp {
		op, at := p.tok.op, p.tok.at
		own := op.prec()
		if own == 0 || own < prec {
			break
		}
		if err = p.advance(); err != nil {
			break
		}
		next := own + 1
		if own == precPow {
			next = own
		}
		var right operand
		err = p.nest(func() (err error) {
			right, err = p.operand(next)
			return err
		})
		if err == nil {
			left, err = p.join(at, op, left, right)
		}
	}
	return left, err
}

// join makes one operand of two.
func (p *parser) join(at Pos, op Op, left, right operand) (operand, error) {
	switch {
	case left.spans != nil && right.spans != nil:
		if s, ok := spansetOp(op); ok {
			return operand{spans: &SpansetOp{At: at, Op: s, Left: left.spans, Right: right.spans}}, nil
		}
		return operand{}, p.errorAt(at, "operator %s does not join spansets, want &&, || or a structural one", op)
	case left.scalar != nil && right.scalar != nil:
		switch {
		case op.IsArithmetic():
			return operand{scalar: &ScalarOp{At: at, Op: op, Left: left.scalar, Right: right.scalar}}, nil
		case op.IsComparison() && op != OpRegex && op != OpNotRegex:
			return operand{filter: &ScalarFilter{At: at, Op: op, Left: left.scalar, Right: right.scalar}}, nil
		}
		return operand{}, p.errorAt(at, "operator %s does not join numbers, want a comparison or arithmetic", op)
	}
	if left.filter != nil || right.filter != nil {
		return operand{}, p.errorAt(at, "operator %s joins %s and %s; chain comparisons of aggregates with |", op, left.kind(), right.kind())
	}
	return operand{}, p.errorAt(at, "operator %s joins %s and %s, want two of a kind", op, left.kind(), right.kind())
}

// spansetOp returns what an operator means between spansets.
func spansetOp(op Op) (Op, bool) {
	switch op {
	case OpGreater:
		return OpChild, true
	case OpLess:
		return OpParent, true
	case OpNotRegex:
		return OpNotSibling, true
	}
	return op, op == OpAnd || op == OpOr || op.IsStructural()
}

// operandPrefix reads { … }, an aggregate, a number or what is in parentheses.
func (p *parser) operandPrefix() (operand, error) {
	at := p.tok.at
	switch {
	case p.isPunct("{"):
		f, err := p.filter()
		return operand{spans: f}, err
	case p.isPunct("("):
		return p.parentheses()
	case p.tok.kind == tokValue || p.tok.kind == tokOp && p.tok.op == OpSub || p.tok.kind == tokIdent && (p.tok.text == "minInt" || p.tok.text == "maxInt"):
		return p.scalarNumber()
	}
	f, ok := aggregateFunc(p.tok)
	if !ok {
		return operand{}, p.unexpected(wantStage)
	}
	a := &Aggregate{At: at, Func: f}
	err := p.call(f.String(), func() (err error) {
		if f != AggregateCount {
			a.Expr, err = p.expr()
		}
		return err
	})
	return operand{scalar: a}, err
}

// scalarNumber reads a number with or without sign.
func (p *parser) scalarNumber() (operand, error) {
	at := p.tok.at
	e, err := p.prefix()
	if err != nil {
		return operand{}, err
	}
	l, ok := e.(*Literal)
	if !ok || !l.Value.Type.IsNumeric() {
		return operand{}, p.errorAt(at, "unexpected %s, want %s", e, wantStage)
	}
	return operand{scalar: &ScalarLiteral{At: at, Value: l.Value}}, nil
}

// parentheses reads ( … ): an operand, or a pipeline that is one.
func (p *parser) parentheses() (operand, error) {
	at := p.tok.at
	if err := p.advance(); err != nil {
		return operand{}, err
	}
	var o operand
	err := p.nest(func() error {
		pl, _, err := p.pipeline(false)
		if err != nil {
			return err
		}
		o, err = p.operandOf(at, pl)
		return err
	})
	if err != nil {
		return operand{}, err
	}
	return o, p.expect(")", "to close the parenthesis")
}

// operandOf returns the operand that a pipeline in parentheses is.
func (p *parser) operandOf(at Pos, pl *Pipeline) (operand, error) {
	last := pl.Stages[len(pl.Stages)-1]
	if f, ok := last.(*ScalarFilter); ok && f.Op == OpNone {
		if len(pl.Stages) == 1 {
			return operand{scalar: f.Left}, nil
		}
		pl.Stages = pl.Stages[:len(pl.Stages)-1]
		return operand{scalar: &ScalarPipeline{At: at, Pipeline: pl, Scalar: f.Left}}, nil
	}
	if s, ok := last.(SpansetExpr); ok && len(pl.Stages) == 1 {
		return operand{spans: s}, nil
	}
	return operand{spans: &Nested{At: at, Pipeline: pl}}, nil
}

// filter reads { expr }.
func (p *parser) filter() (*Filter, error) {
	f := &Filter{At: p.tok.at}
	if err := p.expect("{", "before conditions"); err != nil {
		return nil, err
	}
	if p.tok.kind == tokEnd {
		return nil, p.unexpected(`a condition or "}"`)
	}
	if !p.isPunct("}") {
		var err error
		if f.Expr, err = p.expr(); err != nil {
			return nil, err
		}
	}
	return f, p.expect("}", "or an operator")
}

// call reads a function's name, and its arguments in parentheses.
func (p *parser) call(name string, args func() error) error {
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.expect("(", "after "+name); err != nil {
		return err
	}
	if err := args(); err != nil {
		return err
	}
	return p.expect(")", "to end the arguments of "+name)
}

// exprList reads name(expr, …).
func (p *parser) exprList(name string) ([]Expr, error) {
	var exprs []Expr
	err := p.call(name, func() error {
		for {
			e, err := p.expr()
			if err != nil {
				return err
			}
			exprs = append(exprs, e)
			if ok, err := p.accept(","); err != nil || !ok {
				return err
			}
		}
	})
	return exprs, err
}

// fieldList reads name(field, …).
func (p *parser) fieldList(name string) ([]*Field, error) {
	var fields []*Field
	err := p.call(name, func() error {
		for {
			f, err := p.field()
			if err != nil {
				return err
			}
			fields = append(fields, f)
			if ok, err := p.accept(","); err != nil || !ok {
				return err
			}
		}
	})
	return fields, err
}

func aggregateFunc(t token) (AggregateFunc, bool) {
	for f, name := range aggregateText {
		if t.kind == tokIdent && t.text == name {
			return AggregateFunc(f), true
		}
	}
	return 0, false
}

func metricsFunc(t token) (MetricsFunc, bool) {
	for f, name := range metricsText {
		if t.kind == tokIdent && t.text == name {
			return MetricsFunc(f), true
		}
	}
	return 0, false
}

// metrics reads a metrics function and the stages on series after it.
func (p *parser) metrics(f MetricsFunc) (*Metrics, error) {
	m := &Metrics{At: p.tok.at, Func: f}
	err := p.call(f.String(), func() (err error) {
		switch {
		case f == MetricsCompare:
			m.Compare, err = p.compareArgs()
		case f.HasValue():
			m.Expr, err = p.expr()
		}
		if f == MetricsQuantile && err == nil {
			m.Quantiles, err = p.quantiles()
		}
		return err
	})
	if err == nil && p.tok.kind == tokIdent && p.tok.text == "by" {
		m.By, err = p.fieldList("by")
	}
	for err == nil {
		var s SecondStage
		if s, err = p.secondStage(); err != nil || s.Op == OpNone {
			break
		}
		m.Second = append(m.Second, s)
	}
	return m, err
}

// secondStage reads a comparison, or | and topk or bottomk; OpNone if there is
// none.
func (p *parser) secondStage() (SecondStage, error) {
	s := SecondStage{At: p.tok.at}
	if p.tok.kind == tokOp && p.tok.op.IsComparison() {
		s.Op = p.tok.op
		if err := p.advance(); err != nil {
			return s, err
		}
		v, err := p.constant("a number after " + s.Op.String())
		s.Value = v
		return s, err
	}
	if ok, err := p.accept("|"); err != nil || !ok {
		return s, err
	}
	s.At = p.tok.at
	switch {
	case p.tok.kind == tokIdent && p.tok.text == "topk":
		s.Op = OpTopK
	case p.tok.kind == tokIdent && p.tok.text == "bottomk":
		s.Op = OpBottomK
	default:
		return s, p.unexpected("topk or bottomk after a metrics function")
	}
	err := p.call(s.Op.String(), func() error {
		k, err := p.positiveInt("the number of series")
		s.K = k
		return err
	})
	return s, err
}

func (p *parser) quantiles() ([]float64, error) {
	var qs []float64
	for {
		if err := p.expect(",", "and a quantile"); err != nil {
			return nil, err
		}
		at := p.tok.at
		v, err := p.constant("a quantile")
		if err != nil {
			return nil, err
		}
		f, ok := v.Float64()
		if !ok || v.Type == TypeDuration || f < 0 || f > 1 {
			return nil, p.errorAt(at, "quantile is %s, want a number from 0 to 1", v)
		}
		if qs = append(qs, f); !p.isPunct(",") {
			return qs, nil
		}
	}
}

// compareArgs reads {…}, topN, start, end.
func (p *parser) compareArgs() (*CompareArgs, error) {
	c := &CompareArgs{TopN: DefaultTopN}
	var err error
	if c.Filter, err = p.filter(); err != nil {
		return nil, err
	}
	for i, dst := range []*int64{nil, &c.Start, &c.End} {
		if ok, err := p.accept(","); err != nil {
			return nil, err
		} else if !ok {
			if i == 2 {
				return nil, p.unexpected(`"," and the end of the selection after its start`)
			}
			break
		}
		if i == 0 {
			if c.TopN, err = p.positiveInt("the number of values"); err != nil {
				return nil, err
			}
			continue
		}
		at := p.tok.at
		v, err := p.constant("a time in unix nanoseconds")
		if err != nil {
			return nil, err
		}
		if v.Type != TypeInt || v.Num <= 0 {
			return nil, p.errorAt(at, "time is %s, want unix nanoseconds", v)
		}
		*dst = v.Num
	}
	return c, nil
}

func (p *parser) positiveInt(what string) (int, error) {
	at := p.tok.at
	v, err := p.constant(what)
	if err == nil && (v.Type != TypeInt || v.Num < 1 || v.Num > math.MaxInt32) {
		err = p.errorAt(at, "%s is %s, want an int of at least 1", what, v)
	}
	return int(v.Num), err
}

// constant reads a literal, with a sign if it is a number.
func (p *parser) constant(what string) (Static, error) {
	at := p.tok.at
	if p.tok.kind != tokValue && p.tok.kind != tokIdent && (p.tok.kind != tokOp || p.tok.op != OpSub) {
		return Static{}, p.unexpected(what)
	}
	if _, ok := constantWord(p.tok.text); p.tok.kind == tokIdent && !ok {
		return Static{}, p.unexpected(what)
	}
	e, err := p.prefix()
	if err != nil {
		return Static{}, err
	}
	l, ok := e.(*Literal)
	if !ok {
		return Static{}, p.errorAt(at, "unexpected %s, want %s", e, what)
	}
	return l.Value, nil
}

// hints reads with(name=value, …).
func (p *parser) hints() ([]Hint, error) {
	var hints []Hint
	err := p.call("with", func() error {
		for {
			h := Hint{At: p.tok.at, Name: p.tok.text}
			if p.tok.kind != tokIdent {
				return p.unexpected("the name of a hint")
			}
			if err := p.advance(); err != nil {
				return err
			}
			if p.tok.kind != tokOp || p.tok.op != OpEqual {
				return p.unexpected(`"=" after the name of a hint`)
			}
			if err := p.advance(); err != nil {
				return err
			}
			var err error
			if h.Value, err = p.constant("the value of a hint"); err != nil {
				return err
			}
			hints = append(hints, h)
			if ok, err := p.accept(","); err != nil || !ok {
				return err
			}
		}
	})
	return hints, err
}
