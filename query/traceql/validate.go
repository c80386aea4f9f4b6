package traceql

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// valueType is what is known of an expression's type before there is a span.
type valueType uint8

const (
	anyType valueType = iota // an attribute: its spans decide
	nilType
	boolType
	numberType
	durationType // also a number
	stringType
	statusType
	kindType
)

var valueTypeText = [...]string{"any type", "nil", "a bool", "a number", "a duration", "a string", "a status", "a kind"}

func (t valueType) String() string { return valueTypeText[t] }

// isNumber reports whether values of the type can be numbers.
func (t valueType) isNumber() bool { return t == anyType || t == numberType || t == durationType }

func (t valueType) isBool() bool { return t == anyType || t == boolType }

// compares reports whether values of two types can be compared.
func (t valueType) compares(u valueType) bool {
	return t == u || t == anyType || u == anyType || t.isNumber() && u.isNumber()
}

func typeOfStatic(t StaticType) valueType {
	switch t {
	case TypeNil:
		return nilType
	case TypeBool:
		return boolType
	case TypeInt, TypeFloat:
		return numberType
	case TypeDuration:
		return durationType
	case TypeString:
		return stringType
	case TypeStatus:
		return statusType
	case TypeKind:
		return kindType
	}
	return anyType
}

// typeOf returns the type of an expression that was validated.
func typeOf(e Expr) valueType {
	switch e := e.(type) {
	case *Literal:
		return typeOfStatic(e.Value.Type)
	case *Field:
		if e.Intrinsic == IntrinsicNone {
			return anyType
		}
		return typeOfStatic(e.Intrinsic.Info().Type)
	case *Unary:
		if e.Op == OpNot {
			return boolType
		}
		return typeOf(e.Expr)
	case *Binary:
		if !e.Op.IsArithmetic() {
			return boolType
		}
		return arithmeticType(e.Op, typeOf(e.Left), typeOf(e.Right))
	}
	return anyType
}

func arithmeticType(op Op, left, right valueType) valueType {
	l, r := left == durationType, right == durationType
	switch op {
	case OpAdd, OpSub, OpMul:
		l = l || r
	case OpDiv:
		l = l && !r
	case OpPow:
		l = false
	}
	if l {
		return durationType
	}
	return numberType
}

// IsDuration reports whether the values of an expression are durations, which
// metrics functions turn into seconds.
func IsDuration(e Expr) bool { return e != nil && typeOf(e) == durationType }

// validator checks a query's types and completes it: regular expressions are
// compiled, ids that are compared with get all their digits.
type validator struct {
	query   string
	regexps int // sizes so far
}

func validate(query string, q *Query) error {
	v := &validator{query: query}
	if err := v.pipeline(q.Pipeline); err != nil {
		return err
	}
	if q.Metrics != nil {
		if err := v.metrics(q.Metrics); err != nil {
			return err
		}
	}
	return v.hints(q)
}

func (v *validator) errorAt(at Pos, format string, args ...any) error {
	return newError(v.query, at, fmt.Sprintf(format, args...))
}

func (v *validator) pipeline(p *Pipeline) error {
	for _, s := range p.Stages {
		if err := v.stage(s); err != nil {
			return err
		}
	}
	return nil
}

func (v *validator) stage(s Stage) error {
	switch s := s.(type) {
	case *Filter:
		return v.filter(s)
	case *SpansetOp:
		if err := v.stage(s.Left); err != nil {
			return err
		}
		return v.stage(s.Right)
	case *Nested:
		return v.pipeline(s.Pipeline)
	case *ScalarFilter:
		return v.scalarFilter(s)
	case *GroupBy:
		for _, e := range s.Exprs {
			if _, err := v.expr(e); err != nil {
				return err
			}
			if !namesField(e) {
				return v.errorAt(e.Pos(), "group by %s, which is the same for all spans: want a field", e)
			}
		}
	}
	return nil
}

func (v *validator) filter(f *Filter) error {
	if f.Expr == nil {
		return nil
	}
	t, err := v.expr(f.Expr)
	if err == nil && !t.isBool() {
		err = v.errorAt(f.Expr.Pos(), "condition is %s, want a bool: compare it", t)
	}
	return err
}

func (v *validator) scalarFilter(f *ScalarFilter) error {
	if err := v.scalar(f.Left); err != nil {
		return err
	}
	if f.Op != OpNone {
		if err := v.scalar(f.Right); err != nil {
			return err
		}
	}
	if !hasAggregate(f.Left) && !hasAggregate(f.Right) {
		return v.errorAt(f.Left.Pos(), "numbers alone select nothing, want an aggregate: count, avg, min, max or sum")
	}
	return nil
}

func hasAggregate(s Scalar) bool {
	switch s := s.(type) {
	case *Aggregate, *ScalarPipeline:
		return true
	case *ScalarOp:
		return hasAggregate(s.Left) || hasAggregate(s.Right)
	}
	return false
}

func (v *validator) scalar(s Scalar) error {
	switch s := s.(type) {
	case *Aggregate:
		if s.Expr != nil {
			return v.number(s.Expr, s.Func.String())
		}
	case *ScalarOp:
		if err := v.scalar(s.Left); err != nil {
			return err
		}
		return v.scalar(s.Right)
	case *ScalarPipeline:
		if err := v.pipeline(s.Pipeline); err != nil {
			return err
		}
		return v.scalar(s.Scalar)
	}
	return nil
}

// number checks the value of an aggregate or metrics function.
func (v *validator) number(e Expr, of string) error {
	t, err := v.expr(e)
	switch {
	case err != nil:
		return err
	case !t.isNumber():
		return v.errorAt(e.Pos(), "%s of %s, want a number or duration", of, t)
	case !namesField(e):
		return v.errorAt(e.Pos(), "%s of %s, which is the same for all spans: want a field", of, e)
	}
	return nil
}

// namesField reports whether an expression depends on the span.
func namesField(e Expr) bool {
	found := false
	WalkExpr(e, func(e Expr) {
		_, field := e.(*Field)
		found = found || field
	})
	return found
}

// expr checks an expression and returns its type.
func (v *validator) expr(e Expr) (valueType, error) {
	switch e := e.(type) {
	case *Unary:
		t, err := v.expr(e.Expr)
		switch {
		case err != nil:
			return t, err
		case e.Op == OpNot && !t.isBool():
			return t, v.errorAt(e.At, "! before %s, want a bool", t)
		case e.Op == OpSub && !t.isNumber():
			return t, v.errorAt(e.At, "- before %s, want a number", t)
		case e.Op == OpNot:
			return boolType, nil
		}
		return t, nil
	case *Binary:
		left, err := v.expr(e.Left)
		if err != nil {
			return left, err
		}
		right, err := v.expr(e.Right)
		if err != nil {
			return right, err
		}
		return v.binary(e, left, right)
	}
	return typeOf(e), nil
}

// binary checks an operator with operands of two types.
func (v *validator) binary(b *Binary, left, right valueType) (valueType, error) {
	sides := []struct {
		expr Expr
		t    valueType
	}{{b.Left, left}, {b.Right, right}}
	switch {
	case b.Op.IsArithmetic():
		for _, s := range sides {
			if !s.t.isNumber() {
				return left, v.errorAt(s.expr.Pos(), "operand of %s is %s, want a number", b.Op, s.t)
			}
		}
		return arithmeticType(b.Op, left, right), nil
	case b.Op == OpAnd || b.Op == OpOr:
		for _, s := range sides {
			if !s.t.isBool() {
				return left, v.errorAt(s.expr.Pos(), "operand of %s is %s, want a bool: compare it", b.Op, s.t)
			}
		}
		return boolType, nil
	case b.Op == OpRegex || b.Op == OpNotRegex:
		return boolType, v.regex(b, left)
	}
	return boolType, v.comparison(b, left, right)
}

func (v *validator) comparison(b *Binary, left, right valueType) error {
	equality := b.Op == OpEqual || b.Op == OpNotEqual
	switch {
	case left == nilType:
		return v.errorAt(b.At, "nil is compared with nil, want a field")
	case right == nilType:
		if _, ok := b.Left.(*Field); !ok {
			return v.errorAt(b.Left.Pos(), "%s is compared with nil, want a field", b.Left)
		}
		if !equality {
			return v.errorAt(b.At, "operator %s with nil, want = or !=", b.Op)
		}
	case !left.compares(right):
		return v.errorAt(b.At, "%s is compared with %s, which never holds", left, right)
	case !equality:
		for _, t := range []valueType{left, right} {
			if t == boolType || t == statusType || t == kindType {
				return v.errorAt(b.At, "operator %s with %s, want = or !=", b.Op, t)
			}
		}
	default:
		completeID(b.Left, b.Right)
		completeID(b.Right, b.Left)
	}
	return nil
}

func (v *validator) regex(b *Binary, left valueType) error {
	l, ok := b.Right.(*Literal)
	if !ok || l.Value.Type != TypeString {
		return v.errorAt(b.Right.Pos(), "operator %s with %s, want a string on its right", b.Op, b.Right)
	}
	if left != anyType && left != stringType {
		return v.errorAt(b.Left.Pos(), "operator %s with %s on its left, want a string", b.Op, left)
	}
	if v.regexps += len(l.Value.Text); v.regexps > maxRegexpSize {
		return v.errorAt(l.At, "regular expressions of the query are too large")
	}
	if tree, err := syntax.Parse(l.Value.Text, syntax.Perl); err == nil {
		if v.regexps += regexpSize(tree); v.regexps > maxRegexpSize {
			return v.errorAt(l.At, "regular expressions of the query are too large: want fewer repetitions")
		}
	}
	re, err := CompileRegexp(l.Value.Text)
	if err != nil {
		return v.errorAt(l.At, "malformed regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	b.re = re
	return nil
}

// maxRegexpSize bounds the sizes of all regular expressions of a query together,
// about the instructions of their programs.
const maxRegexpSize = 100_000

// regexpSize returns about how many instructions an expression takes, with
// repetitions written out.
func regexpSize(re *syntax.Regexp) int {
	size := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		size = min(size+regexpSize(sub), 2*maxRegexpSize)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 2*maxRegexpSize)
}

// CompileRegexp compiles an expression as =~ means it: it matches whole values.
func CompileRegexp(text string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(text); err != nil {
		return nil, err // without what is put around it
	}
	return regexp.Compile(`\A(?s:` + text + `)\z`)
}

// completeID writes an id that a field is compared with as the field has it.
func completeID(e, with Expr) {
	f, ok := e.(*Field)
	l, isLiteral := with.(*Literal)
	if !ok || !isLiteral || l.Value.Type != TypeString {
		return
	}
	l.Value.Text = CompleteID(f.Intrinsic, l.Value.Text)
}

// CompleteID returns an id as the intrinsic has it, in small hexadecimal digits
// with leading zeros; text itself if the intrinsic is no id or text no such
// number.
func CompleteID(i Intrinsic, text string) string {
	digits := 16
	switch i {
	case IntrinsicTraceID, IntrinsicLinkTraceID:
		digits = 32
	case IntrinsicSpanID, IntrinsicParentID, IntrinsicLinkSpanID:
	default:
		return text
	}
	small := strings.ToLower(text)
	if text == "" || len(text) > digits || strings.Trim(small, "0123456789abcdef") != "" {
		return text
	}
	return strings.Repeat("0", digits-len(text)) + small
}

// maxLabels bounds the labels of a series.
const maxLabels = 16

func (v *validator) metrics(m *Metrics) error {
	if m.Expr != nil {
		if err := v.number(m.Expr, m.Func.String()); err != nil {
			return err
		}
	}
	if len(m.By) > maxLabels {
		return v.errorAt(m.By[maxLabels].At, "series by %d fields, want at most %d", len(m.By), maxLabels)
	}
	if c := m.Compare; c != nil {
		if len(m.By) > 0 {
			return v.errorAt(m.By[0].At, "compare() makes series of all attributes, want no by()")
		}
		if c.End < c.Start {
			return v.errorAt(m.At, "selection ends before it starts")
		}
		if err := v.filter(c.Filter); err != nil {
			return err
		}
	}
	for _, s := range m.Second {
		switch {
		case !s.Op.IsComparison():
		case s.Op == OpRegex || s.Op == OpNotRegex:
			return v.errorAt(s.At, "operator %s with series, want = != > >= < or <=", s.Op)
		case !s.Value.Type.IsNumeric():
			return v.errorAt(s.At, "series are compared with %s, want a number", typeOfStatic(s.Value.Type))
		}
	}
	return nil
}

// hints checks the hints that are known; others mean nothing here.
func (v *validator) hints(q *Query) error {
	for _, h := range q.Hints {
		t := h.Value.Type
		want := ""
		switch h.Name {
		case "most_recent":
			if t != TypeBool {
				want = "true or false"
			}
		case "exemplars":
			if t != TypeBool && (t != TypeInt || h.Value.Num < 0) {
				want = "true, false or a number of at least 0"
			}
		case "sample":
			if f, ok := h.Value.Float64(); t != TypeBool && (!ok || f <= 0 || f > 1) {
				want = "true, false or a number above 0 and up to 1"
			}
		case "span_sample", "trace_sample":
			if f, ok := h.Value.Float64(); !ok || f <= 0 || f > 1 {
				want = "a number above 0 and up to 1"
			}
		}
		if want != "" {
			return v.errorAt(h.At, "hint %s is %s, want %s", h.Name, h.Value, want)
		}
	}
	return nil
}
