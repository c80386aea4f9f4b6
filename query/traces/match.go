package traces

import (
	"math"
	"regexp"

	"github.com/vedette-io/vedette/query/traceql"
)

// matcher is the right side of a comparison: an operator and a constant. The
// values of a row match as traceql compares one or several values: a negative
// comparison holds if some value compares with the constant and none equals it,
// others if they hold for any value.
type matcher struct {
	op       traceql.Op
	constant traceql.Static
	re       *regexp.Regexp // of OpRegex and OpNotRegex
}

func (m *matcher) negative() bool { return m.op == traceql.OpNotEqual || m.op == traceql.OpNotRegex }

// isNil reports whether a value is compared with nil.
func (m *matcher) isNil() bool { return m.re == nil && m.constant.IsNil() }

// comparable reports whether a value compares with the constant.
func (m *matcher) comparable(s traceql.Static) bool {
	if m.re != nil {
		return s.Type == traceql.TypeString
	}
	_, ok := s.Compare(m.constant)
	return ok
}

// hit reports whether a value makes a positive comparison hold, or a negative one
// fail.
func (m *matcher) hit(s traceql.Static) bool {
	switch {
	case m.re != nil:
		return s.Type == traceql.TypeString && m.re.MatchString(s.Text)
	case m.op == traceql.OpNotEqual:
		return s.Match(traceql.OpEqual, m.constant)
	}
	return s.Match(m.op, m.constant)
}

// one reports whether the comparison holds for a single value.
func (m *matcher) one(s traceql.Static) bool {
	if m.negative() {
		return m.comparable(s) && !m.hit(s)
	}
	return m.hit(s)
}

// many reports whether the comparison holds for several values.
func (m *matcher) many(values []traceql.Static) bool {
	compared := false
	for _, s := range values {
		compared = compared || m.comparable(s)
		if m.hit(s) {
			return !m.negative()
		}
	}
	return m.negative() && compared
}

// ints returns the ints from lo to hi that are hits, if the constant is a number;
// lo > hi if none are.
func (m *matcher) ints() (lo, hi int64, ok bool) {
	if m.re != nil || !m.constant.Type.IsNumeric() {
		return 0, 0, false
	}
	op := m.op
	if op == traceql.OpNotEqual {
		op = traceql.OpEqual
	}
	// The hits of every comparison with a number lie together, from the least int
	// that is to the greatest.
	below := func(i int64) bool { // i is less than all hits
		order, ok := traceql.Int(i).Compare(m.constant)
		switch op {
		case traceql.OpEqual, traceql.OpGreaterEqual:
			return ok && order < 0
		case traceql.OpGreater:
			return ok && order <= 0
		}
		return !ok
	}
	above := func(i int64) bool { // i is greater than all hits
		order, ok := traceql.Int(i).Compare(m.constant)
		switch op {
		case traceql.OpEqual, traceql.OpLessEqual:
			return ok && order > 0
		case traceql.OpLess:
			return ok && order >= 0
		}
		return !ok
	}
	if m.constant.Type == traceql.TypeFloat && m.constant.F != m.constant.F {
		return 1, 0, true
	}
	lo = searchInt(func(i int64) bool { return !below(i) })
	hi = searchInt(above)
	switch {
	case below(math.MaxInt64) || above(math.MinInt64):
		return 1, 0, true
	case above(math.MaxInt64):
		hi--
	default:
		hi = math.MaxInt64
	}
	return lo, hi, true
}

// searchInt returns the least int for which f holds; f holds for all greater
// ones. It returns the greatest int if f holds for none.
func searchInt(f func(int64) bool) int64 {
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	for lo < hi {
		mid := lo + int64(uint64(hi-lo)>>1)
		if f(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
