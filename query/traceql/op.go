package traceql

// Op is an operator.
type Op uint8

// Operators.
const (
	OpNone Op = iota

	OpAnd
	OpOr
	OpNot

	OpEqual
	OpNotEqual
	OpGreater
	OpGreaterEqual
	OpLess
	OpLessEqual
	OpRegex
	OpNotRegex

	OpAdd
	OpSub
	OpMul
	OpDiv
	OpMod
	OpPow

	// Between spansets; the spans of the right side are the result.
	OpChild      // spans on the right that are children of one on the left
	OpDescendant // … somewhere below one on the left
	OpParent     // … parents of one on the left
	OpAncestor   // … somewhere above one on the left
	OpSibling    // … with another child of their parent on the left

	// Spans on the right for which the relation does not hold.
	OpNotChild
	OpNotDescendant
	OpNotParent
	OpNotAncestor
	OpNotSibling

	// As the plain ones, with the spans of the left side that took part.
	OpUnionChild
	OpUnionDescendant
	OpUnionParent
	OpUnionAncestor
	OpUnionSibling

	// On series.
	OpTopK
	OpBottomK
)

var opText = [...]string{
	OpAnd: "&&", OpOr: "||", OpNot: "!",
	OpEqual: "=", OpNotEqual: "!=", OpGreater: ">", OpGreaterEqual: ">=", OpLess: "<", OpLessEqual: "<=",
	OpRegex: "=~", OpNotRegex: "!~",
	OpAdd: "+", OpSub: "-", OpMul: "*", OpDiv: "/", OpMod: "%", OpPow: "^",
	OpChild: ">", OpDescendant: ">>", OpParent: "<", OpAncestor: "<<", OpSibling: "~",
	OpNotChild: "!>", OpNotDescendant: "!>>", OpNotParent: "!<", OpNotAncestor: "!<<", OpNotSibling: "!~",
	OpUnionChild: "&>", OpUnionDescendant: "&>>", OpUnionParent: "&<", OpUnionAncestor: "&<<", OpUnionSibling: "&~",
	OpTopK: "topk", OpBottomK: "bottomk",
}

// String returns the operator as a query writes it.
func (o Op) String() string { return opText[o] }

// IsComparison reports whether o compares two values.
func (o Op) IsComparison() bool { return o >= OpEqual && o <= OpNotRegex }

// IsArithmetic reports whether o computes a number.
func (o Op) IsArithmetic() bool { return o >= OpAdd && o <= OpPow }

// IsStructural reports whether o looks at where spans are in the trace's tree.
func (o Op) IsStructural() bool { return o >= OpChild && o <= OpUnionSibling }

// Relation returns the plain form of a structural operator, and whether o is its
// negated or its union form.
func (o Op) Relation() (plain Op, negated, union bool) {
	switch {
	case o >= OpNotChild && o <= OpNotSibling:
		return o - OpNotChild + OpChild, true, false
	case o >= OpUnionChild && o <= OpUnionSibling:
		return o - OpUnionChild + OpChild, false, true
	}
	return o, false, false
}

// Binding strengths, loosest first.
const (
	precLogic   = 1 // && || alike, from left to right
	precCompare = 2 // comparisons; structural operators
	precAdd     = 3
	precMul     = 4
	precUnary   = 5
	precPow     = 6 // from right to left
)

// prec returns how strongly a binary operator binds; 0 is not one.
func (o Op) prec() int {
	switch {
	case o == OpAnd || o == OpOr:
		return precLogic
	case o.IsComparison() || o.IsStructural():
		return precCompare
	case o == OpAdd || o == OpSub:
		return precAdd
	case o == OpMul || o == OpDiv || o == OpMod:
		return precMul
	case o == OpPow:
		return precPow
	}
	return 0
}

// mirrored returns the comparison that holds with its operands exchanged.
func (o Op) mirrored() Op {
	switch o {
	case OpGreater:
		return OpLess
	case OpGreaterEqual:
		return OpLessEqual
	case OpLess:
		return OpGreater
	case OpLessEqual:
		return OpGreaterEqual
	}
	return o
}

var aggregateText = [...]string{"count", "avg", "min", "max", "sum"}

// String returns the function's name.
func (f AggregateFunc) String() string { return aggregateText[f] }

var metricsText = [...]string{
	"rate", "count_over_time", "min_over_time", "max_over_time", "avg_over_time", "sum_over_time",
	"quantile_over_time", "histogram_over_time", "compare",
}

// String returns the function's name.
func (f MetricsFunc) String() string { return metricsText[f] }

// HasValue reports whether the function works on a value of the span.
func (f MetricsFunc) HasValue() bool { return f >= MetricsMin && f <= MetricsHistogram }
