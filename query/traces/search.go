package traces

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

const (
	defaultTraces   = 20
	defaultSpans    = 3
	progressPeriod  = 250 * time.Millisecond
	maxWave         = 64 // groups that are read before their candidates are evaluated
	firstWave       = 2
	maxSearchedSize = 1 << 28 // bytes of one trace that are kept for the next

	// defaultRejected is how many candidates may turn out not to match before it
	// pays to look closer at the groups.
	defaultRejected = 100
)

// Search implements traceql.Querier. A trace is found if one of the spans that
// the query selects of it was running within the times.
func (e *Engine) Search(ctx context.Context, q traceql.SearchRequest) (*traceql.SearchResult, error) {
	query, err := traceql.Parse(q.Query)
	if err != nil {
		return nil, err
	}
	start, end := bounds(q.Start, q.End)
	r, err := e.begin(ctx, "search", q.Tenant, start, end)
	if err != nil {
		return nil, err
	}
	defer r.end()
	s := &search{
		run: r, request: q, start: start, end: end, limit: limit(q.Limit, defaultTraces, e.config.MaxTraces),
		pipeline: query.Pipeline, condition: condition(query.Pipeline), eval: traceql.NewEvaluator(query.Pipeline), attrs: shown(query),
		wanted: columnsOf(query),
		seen:   make(map[signal.TraceID]struct{}), reported: r.begun, local: e.maxRejected < 0,
	}
	if err := s.groups(); err != nil && !errors.Is(err, errStop) {
		return nil, fmt.Errorf("search traces: %w", err)
	}
	if q.Limit > s.limit && len(s.found) >= s.limit {
		r.stop(fmt.Sprintf("the search asks for %d traces, more than %d (limit max_traces)", q.Limit, s.limit))
	}
	return s.result(), nil
}

// search is the work on one search.
type search struct {
	run        *run
	request    traceql.SearchRequest
	start, end int64
	limit      int
	pipeline   *traceql.Pipeline
	condition  traceql.Expr
	eval       *traceql.Evaluator
	attrs      []traceql.Attribute
	wanted     func(c *rows.ColumnInfo) bool // columns that the query looks at
	local      bool                          // candidates are chosen by what groups say of whole traces
	rejected   int                           // candidates that did not match

	workers  []*worker
	found    []traceql.TraceSummary // those that start last first, at most limit
	seen     map[signal.TraceID]struct{}
	spans    signal.Spans
	trace    traceql.Trace
	reported time.Time
}

// columnsOf returns which columns the evaluator needs of a trace to answer a
// query: those of the attributes that it names, at every level, and the few that
// are no attribute's. nil is all.
func columnsOf(q *traceql.Query) func(c *rows.ColumnInfo) bool {
	if q.Metrics != nil && q.Metrics.Func == traceql.MetricsCompare {
		return nil
	}
	names := map[string]struct{}{}
	for _, a := range q.Attributes() {
		names[a.Name] = struct{}{}
	}
	return func(c *rows.ColumnInfo) bool {
		_, named := names[c.Key]
		return named || c.Role != rows.RoleAttr
	}
}

// candidate is a trace that may match.
type candidate struct {
	id    signal.TraceID
	start int64 // of its first row in a group: not before the trace's
}

// bound returns the start that a further trace must have at least.
func (s *search) bound() int64 {
	if len(s.found) < s.limit {
		return math.MinInt64
	}
	return s.found[len(s.found)-1].Start
}

// groups goes through the groups, those with the newest traces first, a wave at
// a time, until no trace of the rest can be among the newest.
func (s *search) groups() error {
	groups := s.run.view.Groups()
	for wave := firstWave; len(groups) > 0; wave = min(2*wave, maxWave) {
		if err := s.run.check(); err != nil {
			return err
		}
		if groups[0].Info().MaxTraceStart < s.bound() {
			return nil
		}
		n := min(wave, len(groups))
		candidates, err := s.wave(groups[:n])
		if err != nil {
			return err
		}
		groups = groups[n:]
		if err := s.evaluate(candidates); err != nil {
			return err
		}
		s.progress()
	}
	return nil
}

// wave returns the candidates of some groups, by their starts, the newest first.
func (s *search) wave(groups []*rows.Group) ([]candidate, error) {
	n := max(1, min(runtime.GOMAXPROCS(0), len(groups)/2))
	for len(s.workers) < n {
		s.workers = append(s.workers, newWorker(s.run))
	}
	parts := make([][]candidate, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { parts[i], errs[i] = s.scan(s.workers[i], groups, i, n) })
	}
	parts[0], errs[0] = s.scan(s.workers[0], groups, 0, n)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	all := slices.Concat(parts...)
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(b.start, a.start) })
	return all, nil
}

// scan returns the candidates of every n-th group from the first on.
func (s *search) scan(w *worker, groups []*rows.Group, first, n int) ([]candidate, error) {
	defer w.charge()
	var out []candidate
	for i := first; i < len(groups); i += n {
		if err := s.run.check(); err != nil {
			if errors.Is(err, errStop) {
				return out, nil
			}
			return nil, err
		}
		var err error
		if out, err = s.candidates(w, groups[i], out); err != nil {
			if err := s.run.damaged(err); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// candidates appends to dst the traces of a group that may match.
func (s *search) candidates(w *worker, g *rows.Group, dst []candidate) ([]candidate, error) {
	if err := w.seek(g); err != nil {
		return dst, err
	}
	var match bitmap
	var err error
	if s.local {
		var irregular bitmap
		if match, irregular, err = w.localRows(s.pipeline, s.condition); match != nil {
			err = s.keepDurations(w, match)
			match.or(irregular)
			w.release(irregular)
		}
	} else {
		match, err = w.matching(s.condition)
	}
	if err != nil || match == nil {
		return dst, err
	}
	defer w.release(match)
	return w.tracesOf(match, s.start, s.end, dst)
}

// keepDurations drops the rows of regular traces that are too short or too long.
func (s *search) keepDurations(w *worker, match bitmap) error {
	if s.request.MinDuration <= 0 && s.request.MaxDuration <= 0 {
		return nil
	}
	begins, err := w.cur.TraceRows()
	if err != nil {
		return err
	}
	for t := range w.info.Traces {
		first, end := begins[t], begins[t+1]
		if !match.anyIn(int(first), int(end)) {
			continue
		}
		d, err := w.traceDuration(traceql.IntrinsicTraceDuration, first, end)
		if err != nil {
			return err
		}
		if !s.lasts(d.Num) {
			match.clearIn(int(first), int(end))
		}
	}
	return nil
}

// lasts reports whether a trace's duration is one that is asked for.
func (s *search) lasts(d int64) bool {
	r := &s.request
	return (r.MinDuration <= 0 || d >= r.MinDuration) && (r.MaxDuration <= 0 || d <= r.MaxDuration)
}

// tracesOf appends to dst the traces with a row in a set that was running between
// two times.
func (w *worker) tracesOf(match bitmap, start, end int64, dst []candidate) ([]candidate, error) {
	if err := w.within(match, start, end); err != nil {
		return dst, err
	}
	if match.empty() {
		return dst, nil
	}
	begins, err := w.cur.TraceRows()
	if err != nil {
		return dst, err
	}
	ids, err := w.cur.TraceIDs()
	if err != nil {
		return dst, err
	}
	starts, err := w.cur.Starts()
	if err != nil {
		return dst, err
	}
	for t, id := range ids {
		if match.anyIn(int(begins[t]), int(begins[t+1])) {
			dst = append(dst, candidate{id: id, start: starts[begins[t]]})
		}
	}
	return dst, nil
}

// matching returns the rows for which a condition may hold, nil if there are
// none.
func (w *worker) matching(e traceql.Expr) (bitmap, error) {
	p := pred(constPred(true))
	if e != nil {
		p = w.pred(e)
	}
	v := p.prune(w)
	if v == none {
		return nil, nil
	}
	w.run.groups.Add(1)
	w.run.spans.Add(int64(w.info.Rows))
	b := w.bitmap()
	if v == all {
		b.fill(w.info.Rows)
		return b, nil
	}
	if err := p.eval(w, b); err != nil || b.empty() {
		w.release(b)
		return nil, err
	}
	return b, nil
}

// within keeps the rows whose spans were running between two times.
func (w *worker) within(match bitmap, start, end int64) error {
	if w.info.MinStart >= start && w.info.MaxStart <= end {
		return nil
	}
	starts, err := w.cur.Starts()
	if err != nil {
		return err
	}
	durations, err := w.cur.Durations()
	if err != nil {
		return err
	}
	for i, word := range match {
		for rest := word; rest != 0; rest &= rest - 1 {
			row := i<<6 + trailing(rest)
			if !running(starts[row], durations[row], start, end) {
				match[i] &^= rest & -rest
			}
		}
	}
	return nil
}

// running reports whether a span was running between two times.
func running(spanStart, duration, start, end int64) bool {
	if spanStart > end {
		return false
	}
	if spanStart >= start {
		return true
	}
	spanEnd := spanStart + max(duration, 0)
	return spanEnd >= start || spanEnd < spanStart
}

// evaluate looks at whole traces, until no further candidate can be among the
// newest.
func (s *search) evaluate(candidates []candidate) error {
	for _, c := range candidates {
		if c.start < s.bound() {
			return nil
		}
		if _, known := s.seen[c.id]; known {
			continue
		}
		s.seen[c.id] = struct{}{}
		if err := s.run.check(); err != nil {
			return err
		}
		if err := s.candidate(c.id); err != nil {
			return err
		}
	}
	return nil
}

// candidate evaluates one trace.
func (s *search) candidate(id signal.TraceID) error {
	if cap(s.spans.Buf) > maxSearchedSize {
		s.spans = signal.Spans{}
	}
	s.spans.Reset()
	if err := s.run.whole(id, s.wanted, &s.spans); err != nil {
		return err
	}
	s.run.bytes.Add(int64(len(s.spans.Buf)))
	if s.spans.Len() == 0 {
		return nil // its block is damaged
	}
	s.trace.Reset(&s.spans)
	var sets []traceql.Set
	if s.lasts(s.trace.Duration()) {
		sets = s.eval.Eval(&s.trace)
	}
	if !s.runs(sets) {
		if s.rejected++; s.rejected > s.run.e.maxRejected {
			s.local = true
		}
		return nil
	}
	at, _ := slices.BinarySearchFunc(s.found, candidate{id: id, start: s.trace.Start}, func(t traceql.TraceSummary, c candidate) int {
		return cmp.Or(cmp.Compare(c.start, t.Start), bytes.Compare(t.ID[:], c.id[:]))
	})
	if at == s.limit {
		return nil
	}
	s.found = slices.Insert(s.found, at, s.summary(sets))
	s.found = s.found[:min(len(s.found), s.limit)]
	return nil
}

// runs reports whether a span of the sets was running within the times.
func (s *search) runs(sets []traceql.Set) bool {
	for _, set := range sets {
		for _, row := range set.Rows {
			if running(s.spans.Starts[row], s.spans.Duration(int(row)), s.start, s.end) {
				return true
			}
		}
	}
	return false
}

// summary returns the trace and the sets as an answer shows them.
func (s *search) summary(sets []traceql.Set) traceql.TraceSummary {
	sum := s.trace.Summary()
	most := s.request.SpansPerSpanset
	if most == 0 {
		most = defaultSpans
	}
	for _, set := range sets {
		s.trace.SortRows(set.Rows)
		x := traceql.Spanset{Attrs: set.Attrs, Matched: len(set.Rows)}
		for i, row := range set.Rows {
			if i == most {
				break
			}
			x.Spans = append(x.Spans, s.trace.SpanMatch(int(row), s.attrs))
		}
		sum.Spansets = append(sum.Spansets, x)
	}
	return sum
}

// progress tells the caller of what was found so far, now and then.
func (s *search) progress() {
	if s.request.Progress == nil || time.Since(s.reported) < progressPeriod {
		return
	}
	s.request.Progress(s.result())
	s.reported = time.Now()
}

func (s *search) result() *traceql.SearchResult {
	return &traceql.SearchResult{Traces: slices.Clone(s.found), Stats: s.run.stats()}
}
