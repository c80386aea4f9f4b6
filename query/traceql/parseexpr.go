package traceql

import "math"

const wantExpr = "a field, a value, !, - or ("

// expr reads an expression over one span.
func (p *parser) expr() (Expr, error) { return p.binary(precLogic) }

// binary reads operators and operands that bind at least as strongly as prec.
func (p *parser) binary(prec int) (Expr, error) {
	left, err := p.prefix()
	for err == nil && p.tok.kind == tokOp {
		op, at := p.tok.op, p.tok.at
		if op.IsStructural() {
			return nil, p.errorAt(at, "operator %s joins spansets, want an operator between values", op)
		}
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
		var right Expr
		err = p.nest(func() (err error) {
			right, err = p.binary(next)
			return err
		})
		left = newBinary(at, op, left, right)
	}
	return left, err
}

// newBinary puts a nil that is compared with to the right.
func newBinary(at Pos, op Op, left, right Expr) Expr {
	if op.IsComparison() && isNil(left) && !isNil(right) {
		left, right, op = right, left, op.mirrored()
	}
	return &Binary{At: at, Op: op, Left: left, Right: right}
}

func isNil(e Expr) bool {
	l, ok := e.(*Literal)
	return ok && l.Value.IsNil()
}

// prefix reads signs and what they stand before.
func (p *parser) prefix() (Expr, error) {
	at := p.tok.at
	if p.tok.kind != tokOp {
		return p.primary()
	}
	op := p.tok.op
	if op != OpSub && op != OpNot {
		return nil, p.unexpected(wantExpr)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if op == OpSub && p.tok.kind == tokValue && p.tok.value.Type.IsNumeric() {
		number := p.tok
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokOp || p.tok.op != OpPow {
			return &Literal{At: at, Value: number.value.Negated()}, nil
		}
		e, err := p.power(&Literal{At: number.at, Value: number.value})
		return &Unary{At: at, Op: op, Expr: e}, err
	}
	var e Expr
	err := p.nest(func() (err error) {
		e, err = p.binary(precUnary)
		return err
	})
	return &Unary{At: at, Op: op, Expr: e}, err
}

// power reads ^ and its right side after a base that was read.
func (p *parser) power(base Expr) (Expr, error) {
	at := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	var right Expr
	err := p.nest(func() (err error) {
		right, err = p.binary(precPow)
		return err
	})
	return &Binary{At: at, Op: OpPow, Left: base, Right: right}, err
}

// primary reads a value, a field, or an expression in parentheses.
func (p *parser) primary() (Expr, error) {
	at := p.tok.at
	switch p.tok.kind {
	case tokValue:
		l := &Literal{At: at, Value: p.tok.value}
		return l, p.advance()
	case tokField:
		return p.field()
	case tokIdent:
		if v, ok := constantWord(p.tok.text); ok {
			return &Literal{At: at, Value: v}, p.advance()
		}
		return p.field()
	}
	if !p.isPunct("(") {
		return nil, p.unexpected(wantExpr)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var e Expr
	err := p.nest(func() (err error) {
		e, err = p.expr()
		return err
	})
	if err != nil {
		return nil, err
	}
	return e, p.expect(")", "to close the parenthesis")
}

// field reads an attribute or intrinsic.
func (p *parser) field() (*Field, error) {
	f := &Field{At: p.tok.at, Attribute: p.tok.attr}
	switch p.tok.kind {
	case tokField:
		return f, p.advance()
	case tokIdent:
		i, ok := findIntrinsic(ScopeNone, p.tok.text)
		if !ok {
			return nil, p.errorAt(p.tok.at, "unknown word %s: want an intrinsic, or an attribute as span.%s, resource.%s or .%s",
				p.tok.describe(), p.tok.text, p.tok.text, p.tok.text)
		}
		f.Intrinsic = i
		return f, p.advance()
	}
	return nil, p.unexpected("an attribute or intrinsic")
}

// constantWord returns the value of a word that is one.
func constantWord(word string) (Static, bool) {
	switch word {
	case "true":
		return Bool(true), true
	case "false":
		return Bool(false), true
	case "nil":
		return Static{}, true
	case "minInt":
		return Int(math.MinInt64), true
	case "maxInt":
		return Int(math.MaxInt64), true
	}
	for i, s := range statusText {
		if s == word {
			return Status(uint8(i)), true
		}
	}
	for i, s := range kindText {
		if s == word {
			return Kind(uint8(i)), true
		}
	}
	return Static{}, false
}
