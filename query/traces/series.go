package traces

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

const (
	maxExemplars     = 1000
	defaultExemplars = 100
)

// Metrics implements traceql.Querier. A span counts at the time of its start.
func (e *Engine) Metrics(ctx context.Context, q traceql.MetricsRequest) (*traceql.MetricsResult, error) {
	query, err := traceql.Parse(q.Query)
	if err != nil {
		return nil, err
	}
	if !query.IsMetrics() {
		return nil, &traceql.ParseError{
			Query: q.Query, Offset: len(q.Query), Line: 1, Column: len(q.Query) + 1,
			Message: "query ends without a metrics function such as rate()",
		}
	}
	times, err := e.times(&q)
	if err != nil {
		return nil, err
	}
	first, last := times.Bounds()
	r, err := e.begin(ctx, "metrics", q.Tenant, first, last)
	if err != nil {
		return nil, err
	}
	defer r.end()
	exemplars, ok := query.Exemplars(defaultExemplars)
	if !ok {
		exemplars = q.Exemplars
	}
	m := &series{
		wanted: columnsOf(query),
		run:    r, query: query, times: times, first: first, last: last, condition: condition(query.Pipeline),
		limits: traceql.Limits{
			MaxSeries: limit(q.MaxSeries, e.config.MaxSeries, e.config.MaxSeries), Exemplars: min(exemplars, maxExemplars),
		},
	}
	var res *traceql.MetricsResult
	switch p := query.Pipeline; {
	case !m.columnar():
		res, err = m.evaluate()
	case plain(p):
		res, err = m.scan()
	case local(p):
		m.local = true
		res, err = m.scan()
	default:
		res, err = m.evaluate()
	}
	if err != nil {
		return nil, fmt.Errorf("compute series of spans: %w", err)
	}
	partial := res.Stats.Partial
	res.Stats = r.stats()
	res.Stats.Partial = cmp.Or(res.Stats.Partial, partial)
	return res, nil
}

// times returns the range of a request: until now if it names no end, from the
// oldest span if it names no start.
func (e *Engine) times(q *traceql.MetricsRequest) (traceql.Range, error) {
	start, end, step := q.Start, q.End, q.Step
	if end <= 0 {
		end = e.now().UnixNano()
	}
	if start <= 0 {
		v := e.store.View(q.Tenant, noGroupsMin, noGroupsMax)
		first, last := v.Bounds()
		v.Close()
		if start = max(first, 0); first > last {
			start = end
		}
		start = min(start, end)
	}
	if step <= 0 {
		step = traceql.DefaultStep(start, end)
	}
	r, err := traceql.NewRange(start, end, step)
	if err != nil {
		return r, &RangeError{err}
	}
	return r, nil
}

// RangeError reports times that make no series.
type RangeError struct{ err error }

func (e *RangeError) Error() string { return "compute series of spans: " + e.err.Error() }

// Unwrap returns what is wrong.
func (e *RangeError) Unwrap() error { return e.err }

// BadRequest marks an error of the one who asks.
func (e *RangeError) BadRequest() bool { return true }

// series is the work on one metrics query.
type series struct {
	run         *run
	query       *traceql.Query
	times       traceql.Range
	first, last int64 // starts of spans that count
	condition   traceql.Expr
	wanted      func(c *rows.ColumnInfo) bool // columns that the query looks at
	limits      traceql.Limits
	repeated    map[*rows.Group]bitmap

	// Of a query that is local, irregular traces are evaluated as a whole.
	local     bool
	mu        sync.Mutex
	irregular map[signal.TraceID]struct{}
}

// columnar reports whether columns say the values and labels of the series.
func (m *series) columnar() bool {
	s := m.query.Metrics
	if s.Func == traceql.MetricsCompare {
		return false
	}
	if s.Expr != nil {
		f, ok := s.Expr.(*traceql.Field)
		if !ok || !readable(f.Attribute) {
			return false
		}
	}
	for _, f := range s.By {
		if !readable(f.Attribute) {
			return false
		}
	}
	return true
}

// scan computes the series from columns, on all processors.
func (m *series) scan() (*traceql.MetricsResult, error) {
	var err error
	if m.repeated, err = m.run.repeatedRows(); err != nil {
		return nil, err
	}
	groups := m.run.view.Groups()
	n := max(1, min(runtime.GOMAXPROCS(0), len(groups)))
	observers := make([]*observer, n)
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	// Groups near each other are of about the same time, and with them counters.
	chunk := max(1, min(32, len(groups)/(4*n)))
	for i := range observers {
		observers[i] = newObserver(m)
		work := func() { errs[i] = observers[i].groups(groups, chunk, &next) }
		if i == n-1 {
			work()
		} else {
			wg.Go(work)
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	acc := observers[0].acc
	for _, o := range observers[1:] {
		acc.Merge(o.acc)
	}
	for _, o := range observers {
		if o.index.beyond() {
			m.run.stop(fmt.Sprintf("more than %d values of a label", maxLabelValues))
		}
	}
	if len(m.irregular) > 0 {
		eval, err := traceql.NewMetricsEvaluator(m.query, m.times, m.limits)
		if err != nil {
			return nil, err
		}
		if err := m.wholes(eval); err != nil && !errors.Is(err, errStop) {
			return nil, err
		}
		acc.Merge(eval.Accumulator())
	}
	return acc.Result(), nil
}

// wholes evaluates the irregular traces.
func (m *series) wholes(eval *traceql.MetricsEvaluator) error {
	var spans signal.Spans
	var t traceql.Trace
	for id := range m.irregular {
		if err := m.run.check(); err != nil {
			return err
		}
		if err := m.whole(eval, id, &spans, &t); err != nil {
			return err
		}
	}
	return nil
}

// whole evaluates one trace. Spans and t are scratch.
func (m *series) whole(eval *traceql.MetricsEvaluator, id signal.TraceID, spans *signal.Spans, t *traceql.Trace) error {
	spans.Reset()
	if err := m.run.whole(id, m.wanted, spans); err != nil {
		return err
	}
	m.run.bytes.Add(int64(len(spans.Buf)))
	t.Reset(spans)
	eval.Add(t)
	return nil
}

// observer feeds the rows of groups to an accumulator. It belongs to one
// goroutine.
type observer struct {
	m     *series
	w     *worker
	acc   *traceql.Accumulator
	index *seriesIndex

	sel    []uint32
	series []int32
	starts []int64
	values []float64
	picked []int32
	found  []candidate
}

func newObserver(m *series) *observer {
	acc := traceql.NewAccumulator(m.query.Metrics, m.times, m.limits)
	return &observer{m: m, w: newWorker(m.run), acc: acc, index: newSeriesIndex(m.query.Metrics, acc)}
}

// groups observes one chunk of groups after another until none is left.
func (o *observer) groups(groups []*rows.Group, chunk int, next *atomic.Int64) error {
	defer o.w.charge()
	for {
		end := int(next.Add(int64(chunk)))
		if end-chunk >= len(groups) {
			return nil
		}
		for _, g := range groups[end-chunk : min(end, len(groups))] {
			if err := o.m.run.check(); err != nil {
				if errors.Is(err, errStop) {
					return nil
				}
				return err
			}
			if err := o.group(g); err != nil {
				if err := o.m.run.damaged(err); err != nil {
					return err
				}
			}
		}
	}
}

// group observes one group. What can fail comes before the first observation, so
// that a damaged group counts as a whole or not at all.
func (o *observer) group(g *rows.Group) error {
	info, m := g.Info(), o.m
	if info.MaxStart < m.first || info.MinStart > m.last {
		return nil
	}
	w := o.w
	if err := w.seek(g); err != nil {
		return err
	}
	match, err := o.matching()
	if err != nil || match == nil {
		return err
	}
	defer w.release(match)
	if r := m.repeated[g]; r != nil {
		match.andNot(r)
	}
	if err := o.within(match); err != nil {
		return err
	}
	o.sel = o.sel[:0]
	if match.count() < info.Rows {
		if o.sel = match.rows(o.sel); len(o.sel) == 0 {
			return nil
		}
	}
	values, err := o.valuesOf(match)
	if err != nil {
		return err
	}
	n := len(o.sel)
	sel := o.sel
	if n == 0 {
		n, sel = info.Rows, nil
		if values != nil && len(values) < n {
			return nil // of no row
		}
	}
	o.series = grow(o.series, n)
	if err := o.index.series(w, sel, o.series); err != nil {
		return err
	}
	starts, err := o.startsOf(sel, n)
	if err != nil {
		return err
	}
	if m.limits.Exemplars > 0 { // they are read after the observation
		if _, err := w.cur.SpanIDs(); err != nil {
			return err
		}
		if _, err := w.cur.TraceIDs(); err != nil {
			return err
		}
		if _, err := w.cur.Starts(); err != nil {
			return err
		}
	}
	o.picked = o.acc.ObserveBatch(o.series, starts, values, o.picked[:0])
	return o.exemplars(sel, values)
}

// matching returns the rows of the group that count, and leaves the others of
// irregular traces to wholes.
func (o *observer) matching() (bitmap, error) {
	m, w := o.m, o.w
	if !m.local {
		return w.matching(m.condition)
	}
	match, irregular, err := w.localRows(m.query.Pipeline, m.condition)
	if err != nil || match == nil {
		return nil, err
	}
	defer w.release(irregular)
	if o.found, err = w.tracesOf(irregular, m.first, m.last, o.found[:0]); err != nil {
		return nil, err
	}
	if len(o.found) > 0 {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.irregular == nil {
			m.irregular = make(map[signal.TraceID]struct{})
		}
		for _, c := range o.found {
			m.irregular[c.id] = struct{}{}
		}
	}
	return match, nil
}

// within keeps the rows that start within the times of the series.
func (o *observer) within(match bitmap) error {
	m, info := o.m, &o.w.info
	if info.MinStart >= m.first && info.MaxStart <= m.last {
		return nil
	}
	starts, err := o.w.cur.Starts()
	if err != nil {
		return err
	}
	for i, word := range match {
		for rest := word; rest != 0; rest &= rest - 1 {
			if s := starts[i<<6+trailing(rest)]; s < m.first || s > m.last {
				match[i] &^= rest & -rest
			}
		}
	}
	return nil
}

// startsOf returns the starts of rows, or any of the same bin.
func (o *observer) startsOf(sel []uint32, n int) ([]int64, error) {
	info := &o.w.info
	if bin := o.m.times.Bin(info.MinStart); bin >= 0 && bin == o.m.times.Bin(info.MaxStart) {
		o.starts = grow(o.starts, n)
		for i := range o.starts {
			o.starts[i] = info.MinStart
		}
		return o.starts, nil
	}
	starts, err := o.w.cur.Starts()
	if err != nil || sel == nil {
		return starts, err
	}
	o.starts = grow(o.starts, n)
	for i, row := range sel {
		o.starts[i] = starts[row]
	}
	return o.starts, nil
}

// valuesOf returns the values of the rows in match, nil if the function takes
// none. Rows are in o.sel then, if they are not all: each as often as it has
// numbers.
func (o *observer) valuesOf(match bitmap) ([]float64, error) {
	e := o.m.query.Metrics.Expr
	if e == nil {
		return nil, nil
	}
	a := e.(*traceql.Field).Attribute
	if a.Intrinsic == traceql.IntrinsicDuration {
		return o.durations()
	}
	o.sel, o.values = o.sel[:0], o.values[:0]
	if ok, err := o.numberColumns(a, match); ok || err != nil {
		return o.ofSome(), err
	}
	f, err := o.w.read(a, false)
	if err != nil {
		return nil, err
	}
	for i, word := range match {
		for ; word != 0; word &= word - 1 {
			row := i<<6 + trailing(word)
			f.each(row, func(s traceql.Static) {
				if v, ok := s.Float64(); ok {
					o.sel, o.values = append(o.sel, uint32(row)), append(o.values, v)
				}
			})
		}
	}
	return o.ofSome(), nil
}

// ofSome returns the values that were gathered, not nil.
func (o *observer) ofSome() []float64 {
	if o.values == nil {
		o.values = []float64{}
	}
	return o.values
}

func (o *observer) durations() ([]float64, error) {
	durations, err := o.w.cur.Durations()
	if err != nil {
		return nil, err
	}
	if len(o.sel) > 0 {
		o.values = grow(o.values, len(o.sel))
		for i, row := range o.sel {
			o.values[i] = float64(max(durations[row], 0))
		}
		return o.values, nil
	}
	o.values = grow(o.values, len(durations))
	for i, d := range durations {
		o.values[i] = float64(max(d, 0))
	}
	return o.values, nil
}

// numberColumns gathers the numbers of an attribute of spans, if single columns
// have them.
func (o *observer) numberColumns(a traceql.Attribute, match bitmap) (bool, error) {
	w := o.w
	if a.Intrinsic != traceql.IntrinsicNone || a.Scope != traceql.ScopeSpan {
		return false, nil
	}
	k := w.keyColumns(rows.LevelSpan, a.Name)
	if w.state(k) == keyMore {
		return false, nil
	}
	for _, col := range k.cols {
		if w.space.sp.Columns[col].Type == signal.AttrArray {
			return false, nil
		}
	}
	for _, col := range k.cols {
		t := w.space.sp.Columns[col].Type
		if t != signal.AttrInt && t != signal.AttrDouble {
			continue
		}
		c, err := w.cur.Column(col)
		if err != nil {
			return false, err
		}
		if c == nil {
			continue
		}
		owners, err := w.cur.RowsOf(col)
		if err != nil {
			return false, err
		}
		for i, row := range owners {
			if !match.has(int(row)) {
				continue
			}
			v := float64(int64(c.Nums[i]))
			if t == signal.AttrDouble {
				v = math.Float64frombits(c.Nums[i])
			}
			o.sel, o.values = append(o.sel, row), append(o.values, v)
		}
	}
	return true, nil
}

// exemplars adds the spans that the accumulator picked.
func (o *observer) exemplars(sel []uint32, values []float64) error {
	if len(o.picked) == 0 {
		return nil
	}
	w := o.w
	spans, err := w.cur.SpanIDs()
	if err != nil {
		return err
	}
	traces, err := w.cur.TraceIDs()
	if err != nil {
		return err
	}
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	starts, err := w.cur.Starts()
	if err != nil {
		return err
	}
	for _, i := range o.picked {
		row, v := int(i), 0.0
		if sel != nil {
			row = int(sel[i])
		}
		if values != nil {
			v = values[i]
		}
		t := sort.Search(len(traces), func(t int) bool { return int(begins[t+1]) > row })
		o.acc.AddExemplar(o.series[i], traces[t], spans[row], starts[row], v)
	}
	return nil
}

// evaluate computes the series from whole traces: those with a span that the
// condition may hold for.
func (m *series) evaluate() (*traceql.MetricsResult, error) {
	eval, err := traceql.NewMetricsEvaluator(m.query, m.times, m.limits)
	if err != nil {
		return nil, err
	}
	w := newWorker(m.run)
	defer w.charge()
	seen := make(map[signal.TraceID]struct{})
	var found []candidate
	var spans signal.Spans
	var t traceql.Trace
	for _, g := range m.run.view.Groups() {
		if err := m.run.check(); err != nil {
			if errors.Is(err, errStop) {
				break
			}
			return nil, err
		}
		if found, err = m.candidates(w, g, found[:0]); err != nil {
			if err := m.run.damaged(err); err != nil {
				return nil, err
			}
		}
		w.charge()
		for _, c := range found {
			if _, known := seen[c.id]; known {
				continue
			}
			seen[c.id] = struct{}{}
			if err := m.whole(eval, c.id, &spans, &t); err != nil {
				return nil, err
			}
		}
	}
	return eval.Result(), nil
}

// candidates appends to dst the traces of a group that may have spans that count.
func (m *series) candidates(w *worker, g *rows.Group, dst []candidate) ([]candidate, error) {
	if err := w.seek(g); err != nil {
		return dst, err
	}
	match, err := w.matching(m.condition)
	if err != nil || match == nil {
		return dst, err
	}
	defer w.release(match)
	return w.tracesOf(match, m.first, m.last, dst)
}
