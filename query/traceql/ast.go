package traceql

import "regexp"

// Pos is a place in a query, in bytes from its start.
type Pos int

// Query is a parsed and validated query. It is not changed after Parse.
type Query struct {
	Pipeline *Pipeline // what selects spans; never without stages
	Metrics  *Metrics  // nil of a search
	Hints    []Hint    // with(…)
}

// Hint is one name and value of with(…).
type Hint struct {
	At    Pos
	Name  string
	Value Static
}

// Pipeline is a chain of stages: each works on the spansets that the one before
// it left; the first gets one spanset with all spans of the trace.
type Pipeline struct {
	Stages []Stage
}

// Stage is a *Filter, *SpansetOp, *Nested, *ScalarFilter, *GroupBy, *Select or
// *Coalesce.
type Stage interface {
	Pos() Pos
	String() string
	stage()
}

// SpansetExpr is a stage that can be an operand of a *SpansetOp: a *Filter, a
// *SpansetOp or a *Nested.
type SpansetExpr interface {
	Stage
	spanset()
}

// Filter keeps the spans for which an expression holds: { expr }.
type Filter struct {
	At   Pos
	Expr Expr // nil keeps all
}

// SpansetOp joins two spansets of a trace: Left Op Right.
type SpansetOp struct {
	At          Pos // of the operator
	Op          Op  // OpAnd, OpOr or structural
	Left, Right SpansetExpr
}

// Nested is a pipeline in parentheses that is an operand.
type Nested struct {
	At       Pos
	Pipeline *Pipeline
}

// ScalarFilter keeps spansets for which a comparison of scalars holds, and adds
// its aggregates to the spansets' attributes. With OpNone it only adds those of
// Left, and Right is nil.
type ScalarFilter struct {
	At          Pos // of the operator
	Op          Op
	Left, Right Scalar
}

// GroupBy divides each spanset by values of expressions: by(expr, …).
type GroupBy struct {
	At    Pos
	Exprs []Expr
}

// Select names fields that the answer shows: select(field, …).
type Select struct {
	At     Pos
	Fields []*Field
}

// Coalesce joins the spansets of a trace again: coalesce().
type Coalesce struct {
	At Pos
}

// Scalar is a number that a spanset has: an *Aggregate, *ScalarLiteral,
// *ScalarOp or *ScalarPipeline.
type Scalar interface {
	Pos() Pos
	String() string
	scalar()
}

// Aggregate computes a number from the spans of a spanset.
type Aggregate struct {
	At   Pos
	Func AggregateFunc
	Expr Expr // nil of AggregateCount
}

// ScalarLiteral is a number in a scalar expression.
type ScalarLiteral struct {
	At    Pos
	Value Static // int, float or duration
}

// ScalarOp is arithmetic of scalars.
type ScalarOp struct {
	At          Pos // of the operator
	Op          Op  // OpAdd … OpPow
	Left, Right Scalar
}

// ScalarPipeline is a scalar of the spansets that a pipeline leaves, seen as
// one: ({ … } | count()).
type ScalarPipeline struct {
	At       Pos
	Pipeline *Pipeline
	Scalar   Scalar
}

// AggregateFunc is a function over the spans of a spanset.
type AggregateFunc uint8

// Aggregates.
const (
	AggregateCount AggregateFunc = iota
	AggregateAvg
	AggregateMin
	AggregateMax
	AggregateSum
)

// MetricsFunc is a function that makes series of spans.
type MetricsFunc uint8

// Metrics functions.
const (
	MetricsRate MetricsFunc = iota
	MetricsCount
	MetricsMin
	MetricsMax
	MetricsAvg
	MetricsSum
	MetricsQuantile
	MetricsHistogram
	MetricsCompare
)

// Metrics is the stage that makes series of the spans that the pipeline leaves.
type Metrics struct {
	At        Pos
	Func      MetricsFunc
	Expr      Expr         // the value; nil of MetricsRate, MetricsCount, MetricsCompare
	Quantiles []float64    // of MetricsQuantile
	By        []*Field     // labels of series
	Compare   *CompareArgs // of MetricsCompare
	Second    []SecondStage
}

// CompareArgs say which spans compare() sets against the rest.
type CompareArgs struct {
	Filter     *Filter
	TopN       int   // values of an attribute that are shown
	Start, End int64 // unix nanoseconds within which spans may be selected; both 0: any
}

// DefaultTopN is the number of values that compare() shows of an attribute
// unless it says otherwise.
const DefaultTopN = 10

// SecondStage works on series: topk, bottomk or a comparison with a number.
type SecondStage struct {
	At    Pos
	Op    Op     // OpTopK, OpBottomK or a comparison
	K     int    // of OpTopK and OpBottomK
	Value Static // of a comparison
}

// Expr is an expression over one span: a *Literal, *Field, *Unary or *Binary.
type Expr interface {
	Pos() Pos
	String() string
	expr()
}

// Literal is a constant.
type Literal struct {
	At    Pos
	Value Static
}

// Field is a value of a span: an attribute or an intrinsic.
type Field struct {
	At Pos
	Attribute
}

// Unary is OpSub or OpNot of an expression.
type Unary struct {
	At   Pos
	Op   Op
	Expr Expr
}

// Binary joins two expressions. A comparison with the literal nil has it on the
// right.
type Binary struct {
	At          Pos // of the operator
	Op          Op
	Left, Right Expr

	re *regexp.Regexp // of OpRegex and OpNotRegex
}

// Regexp returns the compiled expression, anchored at both ends, of OpRegex and
// OpNotRegex.
func (b *Binary) Regexp() *regexp.Regexp { return b.re }

// Pos returns where the node stands in the query.
func (f *Filter) Pos() Pos { return f.At }

// Pos returns where the node stands in the query.
func (o *SpansetOp) Pos() Pos { return o.At }

// Pos returns where the node stands in the query.
func (n *Nested) Pos() Pos { return n.At }

// Pos returns where the node stands in the query.
func (f *ScalarFilter) Pos() Pos { return f.At }

// Pos returns where the node stands in the query.
func (g *GroupBy) Pos() Pos { return g.At }

// Pos returns where the node stands in the query.
func (s *Select) Pos() Pos { return s.At }

// Pos returns where the node stands in the query.
func (c *Coalesce) Pos() Pos { return c.At }

// Pos returns where the node stands in the query.
func (a *Aggregate) Pos() Pos { return a.At }

// Pos returns where the node stands in the query.
func (l *ScalarLiteral) Pos() Pos { return l.At }

// Pos returns where the node stands in the query.
func (o *ScalarOp) Pos() Pos { return o.At }

// Pos returns where the node stands in the query.
func (p *ScalarPipeline) Pos() Pos { return p.At }

// Pos returns where the node stands in the query.
func (l *Literal) Pos() Pos { return l.At }

// Pos returns where the node stands in the query.
func (f *Field) Pos() Pos { return f.At }

// Pos returns where the node stands in the query.
func (u *Unary) Pos() Pos { return u.At }

// Pos returns where the node stands in the query.
func (b *Binary) Pos() Pos { return b.At }

func (*Filter) stage()       {}
func (*SpansetOp) stage()    {}
func (*Nested) stage()       {}
func (*ScalarFilter) stage() {}
func (*GroupBy) stage()      {}
func (*Select) stage()       {}
func (*Coalesce) stage()     {}

func (*Filter) spanset()    {}
func (*SpansetOp) spanset() {}
func (*Nested) spanset()    {}

func (*Aggregate) scalar()      {}
func (*ScalarLiteral) scalar()  {}
func (*ScalarOp) scalar()       {}
func (*ScalarPipeline) scalar() {}

func (*Literal) expr() {}
func (*Field) expr()   {}
func (*Unary) expr()   {}
func (*Binary) expr()  {}

// Hint returns the value of a hint.
func (q *Query) Hint(name string) (Static, bool) {
	for _, h := range q.Hints {
		if h.Name == name {
			return h.Value, true
		}
	}
	return Static{}, false
}

// IsMetrics reports whether the query makes series.
func (q *Query) IsMetrics() bool { return q.Metrics != nil }

// MostRecent reports whether the query insists on the newest traces.
func (q *Query) MostRecent() bool {
	v, ok := q.Hint("most_recent")
	return ok && v.Type == TypeBool && v.Num != 0
}

// Exemplars returns how many exemplars the query asks for, if it does: def if it
// only says that it wants some.
func (q *Query) Exemplars(def int) (int, bool) {
	v, ok := q.Hint("exemplars")
	switch {
	case ok && v.Type == TypeBool && v.Num != 0:
		return def, true
	case ok && v.Type == TypeBool:
		return 0, true
	case ok && v.Type == TypeInt:
		return int(min(v.Num, 1<<20)), true
	}
	return 0, false
}
