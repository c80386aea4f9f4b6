package traceql

// eval returns what an expression gives for a span.
func (f *fields) eval(e Expr, row int) value {
	switch e := e.(type) {
	case *Literal:
		return single(e.Value)
	case *Field:
		return f.read(e.Attribute, row, false)
	case *Unary:
		if e.Op == OpNot {
			return single(Bool(!f.holds(e.Expr, row)))
		}
		return f.each(f.eval(e.Expr, row), Static.Negated)
	case *Binary:
		if e.Op.IsArithmetic() {
			return f.arithmetic(e.Op, f.eval(e.Left, row), f.eval(e.Right, row))
		}
		return single(Bool(f.holds(e, row)))
	}
	return value{}
}

// arithmetic computes with every one of several values; with several on both
// sides there is no result.
func (f *fields) arithmetic(op Op, left, right value) value {
	switch {
	case left.several && right.several:
		return value{}
	case left.several:
		return f.each(left, func(s Static) Static { return s.Arithmetic(op, right.one) })
	}
	return f.each(right, func(s Static) Static { return left.one.Arithmetic(op, s) })
}

func (f *fields) each(v value, do func(Static) Static) value {
	if !v.several {
		return single(do(v.one))
	}
	out := value{several: true}
	for _, s := range v.many {
		if r := do(s); !r.IsNil() {
			out.many = append(out.many, r)
		}
	}
	return out
}

// holds reports whether an expression is true for a span. A value that is no
// bool is not true.
func (f *fields) holds(e Expr, row int) bool {
	switch e := e.(type) {
	case *Unary:
		if e.Op == OpNot {
			return !f.holds(e.Expr, row)
		}
	case *Binary:
		switch {
		case e.Op == OpAnd:
			return f.holds(e.Left, row) && f.holds(e.Right, row)
		case e.Op == OpOr:
			return f.holds(e.Left, row) || f.holds(e.Right, row)
		case e.Op.IsComparison():
			return f.compare(e, row)
		}
	}
	v := f.eval(e, row)
	for _, s := range v.many {
		if s.True() {
			return true
		}
	}
	return !v.several && v.one.True()
}

// compare reports whether a comparison holds for a span.
func (f *fields) compare(b *Binary, row int) bool {
	left := f.eval(b.Left, row)
	if isNil(b.Right) {
		return left.isNil() == (b.Op == OpEqual)
	}
	if b.re != nil {
		return matchAny(b.Op, left, func(s Static) (same, comparable bool) {
			return s.Type == TypeString && b.re.MatchString(s.Text), s.Type == TypeString
		}, func(Static) bool { return false })
	}
	right := f.eval(b.Right, row)
	if right.several && !left.several {
		left, right = right, left
		return matchValues(b.Op.mirrored(), left, right)
	}
	return matchValues(b.Op, left, right)
}

// matchValues compares any of the values on the left with any on the right.
func matchValues(op Op, left, right value) bool {
	if right.several {
		if op == OpNotEqual {
			// None of the left may equal any of the right.
			some := false
			for _, r := range right.many {
				if matchValues(OpEqual, left, single(r)) {
					return false
				}
				some = some || matchValues(OpNotEqual, left, single(r))
			}
			return some
		}
		for _, r := range right.many {
			if matchValues(op, left, single(r)) {
				return true
			}
		}
		return false
	}
	return matchAny(op, left, func(s Static) (bool, bool) {
		order, ok := s.Compare(right.one)
		return ok && order == 0, ok
	}, func(s Static) bool { return s.Match(op, right.one) })
}

// matchAny applies a comparison to one or several values: a negative one holds
// if some value compares and none is the same, others if they hold for any.
func matchAny(op Op, v value, same func(Static) (same, comparable bool), holds func(Static) bool) bool {
	one := [1]Static{v.one}
	many := v.many
	if !v.several {
		many = one[:]
	}
	compared := false
	for _, s := range many {
		equal, comparable := same(s)
		compared = compared || comparable
		switch op {
		case OpEqual, OpRegex:
			if equal {
				return true
			}
		case OpNotEqual, OpNotRegex:
			if equal {
				return false
			}
		default:
			if holds(s) {
				return true
			}
		}
	}
	return compared && (op == OpNotEqual || op == OpNotRegex)
}
