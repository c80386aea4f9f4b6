package traceql

import (
	"fmt"

	"github.com/vedette-io/vedette/internal/signal"
)

// MetricsEvaluator evaluates a metrics query on whole traces, one after another.
// It is used by one goroutine.
type MetricsEvaluator struct {
	query   *Query
	eval    *Evaluator
	acc     *Accumulator // one of both
	compare *Comparison

	bins  binner
	key   []byte
	plain [len(comparedIntrinsics)]Attribute
}

// comparedIntrinsics are those that compare() counts besides attributes.
var comparedIntrinsics = [...]Intrinsic{
	IntrinsicName, IntrinsicKind, IntrinsicStatus, IntrinsicStatusMessage, IntrinsicRootName, IntrinsicRootService,
}

// NewMetricsEvaluator returns an evaluator of a metrics query.
func NewMetricsEvaluator(q *Query, r Range, l Limits) (*MetricsEvaluator, error) {
	if q.Metrics == nil {
		return nil, fmt.Errorf("evaluate metrics of %q: want a query that ends in a metrics function", q)
	}
	e := &MetricsEvaluator{query: q, eval: NewEvaluator(q.Pipeline), bins: newBinner(r)}
	if q.Metrics.Func == MetricsCompare {
		e.compare = NewComparison(q.Metrics, r, l)
	} else {
		e.acc = NewAccumulator(q.Metrics, r, l)
	}
	for i, in := range comparedIntrinsics {
		e.plain[i] = Attribute{Intrinsic: in}
	}
	return e, nil
}

// Add observes the spans that the query selects of a trace.
func (e *MetricsEvaluator) Add(t *Trace) {
	for _, set := range e.eval.Eval(t) {
		for _, row := range set.Rows {
			if e.bins.find(t.Spans.Starts[row]) < 0 {
				continue
			}
			if e.compare != nil {
				e.compareSpan(t, int(row))
			} else {
				e.observe(t, int(row))
			}
		}
	}
}

// Result returns the series.
func (e *MetricsEvaluator) Result() *MetricsResult {
	if e.compare != nil {
		return e.compare.Result()
	}
	return e.acc.Result()
}

// Accumulator returns what the evaluator observes spans with, nil of compare().
func (e *MetricsEvaluator) Accumulator() *Accumulator { return e.acc }

func (e *MetricsEvaluator) observe(t *Trace, row int) {
	m := e.query.Metrics
	e.eval.fields.reset(t)
	if m.Expr == nil {
		e.observeValue(t, row, Int(0))
		return
	}
	v := e.eval.fields.eval(m.Expr, row)
	if !v.several {
		e.observeValue(t, row, v.one)
		return
	}
	for _, s := range v.many {
		e.observeValue(t, row, s)
	}
}

func (e *MetricsEvaluator) observeValue(t *Trace, row int, s Static) {
	v, ok := s.Float64()
	if !ok {
		return
	}
	series, start := e.series(row), t.Spans.Starts[row]
	if e.acc.Observe(series, start, v) {
		e.acc.AddExemplar(series, t.Spans.TraceIDs[row], t.Spans.SpanIDs[row], start, v)
	}
}

func (e *MetricsEvaluator) series(row int) int32 {
	by := e.query.Metrics.By
	e.key = e.key[:0]
	for _, f := range by {
		e.key = e.eval.groupValue(f, row).AppendKey(e.key)
	}
	return e.acc.Series(e.key, func() []KeyValue {
		labels := make([]KeyValue, len(by))
		for i, f := range by {
			labels[i] = KeyValue{Key: f.String(), Value: e.eval.t.Value(f.Attribute, row)}
		}
		return labels
	})
}

// compareSpan counts all attributes of a span.
func (e *MetricsEvaluator) compareSpan(t *Trace, row int) {
	s, c := t.Spans, e.compare
	start := s.Starts[row]
	selected := c.Selects(e.eval.Match(c.m.Compare.Filter, t, row), start)
	observe := func(scope Scope, attrs []signal.Attr) {
		for _, a := range attrs {
			if v := AttrStatic(s, a); !v.IsNil() {
				key := Attribute{Scope: scope, Name: string(s.Bytes(a.Key))}
				c.Observe(c.Value(c.Attribute(key), v), selected, start)
			}
		}
	}
	observe(ScopeSpan, s.SpanAttrs(row))
	r := t.resource(row)
	observe(ScopeResource, s.Attrs[r.AttrBegin:r.AttrEnd])
	for _, a := range e.plain {
		if v := e.eval.fields.read(a, row, true).one; !v.IsNil() && (v.Type != TypeString || v.Text != "") {
			c.Observe(c.Value(c.Attribute(a), v), selected, start)
		}
	}
}
