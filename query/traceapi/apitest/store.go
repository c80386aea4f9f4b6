package apitest

import (
	"cmp"
	"context"
	"slices"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// Store is a traceql.Querier over traces in memory.
type Store struct {
	tenants map[string][]*trace

	// Partial is what all answers say of why they are not whole.
	Partial string
	// Err is what all calls return if it is set.
	Err error

	Searches []traceql.SearchRequest  // that were asked
	Queries  []traceql.MetricsRequest // that were asked
}

type trace struct {
	td    *tracepb.TracesData
	spans *signal.Spans
	eval  traceql.Trace
}

// NewStore returns a store with traces, one in each element, of a tenant.
func NewStore(tenant string, traces ...*tracepb.TracesData) *Store {
	st := &Store{tenants: make(map[string][]*trace)}
	for _, td := range traces {
		t := &trace{td: td, spans: Spans(td)}
		t.eval.Reset(t.spans)
		st.tenants[tenant] = append(st.tenants[tenant], t)
	}
	slices.SortFunc(st.tenants[tenant], func(a, b *trace) int { return cmp.Compare(b.eval.Start, a.eval.Start) })
	return st
}

func (st *Store) stats(traces []*trace) traceql.Stats {
	s := traceql.Stats{Groups: 1, TotalGroups: 2, Partial: st.Partial}
	for _, t := range traces {
		s.InspectedTraces++
		s.InspectedSpans += int64(t.spans.Len())
		s.InspectedBytes += int64(len(t.spans.Buf))
	}
	return s
}

// between returns the traces of a tenant that overlap a range of times.
func (st *Store) between(tenant string, start, end int64) []*trace {
	var out []*trace
	for _, t := range st.tenants[tenant] {
		if t.eval.End >= start && (end == 0 || t.eval.Start <= end) {
			out = append(out, t)
		}
	}
	return out
}

// Trace implements traceql.Querier.
func (st *Store) Trace(ctx context.Context, r traceql.TraceRequest, dst *signal.Spans) (traceql.Stats, error) {
	if err := cmp.Or(st.Err, ctx.Err()); err != nil {
		return traceql.Stats{}, err
	}
	for _, t := range st.between(r.Tenant, r.Start, r.End) {
		if t.spans.TraceIDs[0] == r.ID {
			tenant := dst.Tenant
			*dst = *Spans(t.td)
			dst.Tenant = tenant
			return st.stats([]*trace{t}), nil
		}
	}
	return st.stats(nil), nil
}

// parse returns a query's form; the empty one selects all spans.
func parse(query string) (*traceql.Query, error) {
	return traceql.Parse(cmp.Or(query, "{}"))
}

// Search implements traceql.Querier.
func (st *Store) Search(ctx context.Context, r traceql.SearchRequest) (*traceql.SearchResult, error) {
	st.Searches = append(st.Searches, r)
	if err := cmp.Or(st.Err, ctx.Err()); err != nil {
		return nil, err
	}
	q, err := parse(r.Query)
	if err != nil {
		return nil, err
	}
	traces := st.between(r.Tenant, r.Start, r.End)
	out := &traceql.SearchResult{Stats: st.stats(traces)}
	for _, t := range traces {
		d := t.eval.Duration()
		if r.MinDuration > 0 && d < r.MinDuration || r.MaxDuration > 0 && d > r.MaxDuration || len(out.Traces) == r.Limit {
			continue
		}
		summary := t.eval.Summary()
		for _, set := range traceql.NewEvaluator(q.Pipeline).Eval(&t.eval) {
			x := traceql.Spanset{Attrs: set.Attrs, Matched: len(set.Rows)}
			for i, row := range set.Rows {
				if i < r.SpansPerSpanset || r.SpansPerSpanset < 0 {
					x.Spans = append(x.Spans, t.eval.SpanMatch(int(row), []traceql.Attribute{{Intrinsic: traceql.IntrinsicStatus}}))
				}
			}
			summary.Spansets = append(summary.Spansets, x)
		}
		if len(summary.Spansets) > 0 {
			out.Traces = append(out.Traces, summary)
		}
	}
	return out, nil
}

// Metrics implements traceql.Querier.
func (st *Store) Metrics(ctx context.Context, r traceql.MetricsRequest) (*traceql.MetricsResult, error) {
	st.Queries = append(st.Queries, r)
	if err := cmp.Or(st.Err, ctx.Err()); err != nil {
		return nil, err
	}
	q, err := traceql.Parse(r.Query)
	if err != nil {
		return nil, err
	}
	times, err := traceql.NewRange(r.Start, r.End, r.Step)
	if err != nil {
		return nil, err
	}
	e, err := traceql.NewMetricsEvaluator(q, times, traceql.Limits{MaxSeries: r.MaxSeries, Exemplars: r.Exemplars})
	if err != nil {
		return nil, err
	}
	traces := st.between(r.Tenant, 0, 0)
	for _, t := range traces {
		e.Add(&t.eval)
	}
	out := e.Result()
	out.Stats = st.stats(traces)
	return out, nil
}

// matching calls f with every span that a request's query selects.
func (st *Store) matching(ctx context.Context, r traceql.TagsRequest, f func(t *trace, row int)) (traceql.Stats, error) {
	if err := cmp.Or(st.Err, ctx.Err()); err != nil {
		return traceql.Stats{}, err
	}
	q, err := parse(r.Query)
	if err != nil {
		return traceql.Stats{}, err
	}
	traces := st.between(r.Tenant, r.Start, r.End)
	for _, t := range traces {
		for _, set := range traceql.NewEvaluator(q.Pipeline).Eval(&t.eval) {
			for _, row := range set.Rows {
				f(t, int(row))
			}
		}
	}
	return st.stats(traces), nil
}

// Tags implements traceql.Querier.
func (st *Store) Tags(ctx context.Context, r traceql.TagsRequest) (*traceql.TagsResult, error) {
	names := map[string]map[string]bool{"resource": {}, "span": {}, "event": {}, "intrinsic": {"name": true, "status": true}}
	stats, err := st.matching(ctx, r, func(t *trace, row int) {
		add := func(scope string, attrs []signal.Attr) {
			for _, a := range attrs {
				names[scope][string(t.spans.Bytes(a.Key))] = true
			}
		}
		add("span", t.spans.SpanAttrs(row))
		add("resource", traceapi.ResourceAttrs(t.spans, t.spans.Scopes[t.spans.Scope[row]].Resource))
		for _, e := range t.spans.Events[t.spans.EventBegin[row]:t.spans.EventEnd[row]] {
			add("event", t.spans.Attrs[e.AttrBegin:e.AttrEnd])
		}
	})
	if err != nil {
		return nil, err
	}
	out := &traceql.TagsResult{Stats: stats}
	for _, scope := range []string{"resource", "span", "event", "intrinsic"} {
		if r.Scope != "" && r.Scope != scope {
			continue
		}
		x := traceql.TagScope{Name: scope}
		for name := range names[scope] {
			x.Tags = append(x.Tags, name)
		}
		slices.Sort(x.Tags)
		out.Scopes = append(out.Scopes, x)
	}
	return out, nil
}

// TagValues implements traceql.Querier.
func (st *Store) TagValues(ctx context.Context, r traceql.TagsRequest) (*traceql.TagValuesResult, error) {
	a, err := traceql.ParseAttribute(r.Name)
	if err != nil {
		return nil, err
	}
	values := make(map[traceql.Static]bool)
	stats, err := st.matching(ctx, r, func(t *trace, row int) {
		if v := t.eval.Value(a, row); !v.IsNil() {
			values[v] = true
		}
	})
	if err != nil {
		return nil, err
	}
	out := &traceql.TagValuesResult{Stats: stats}
	for v := range values {
		out.Values = append(out.Values, v)
	}
	slices.SortFunc(out.Values, traceql.Static.Order)
	return out, nil
}

// Operations implements traceql.Querier.
func (st *Store) Operations(ctx context.Context, r traceql.OperationsRequest) ([]traceql.Operation, traceql.Stats, error) {
	found := make(map[traceql.Operation]bool)
	stats, err := st.matching(ctx, traceql.TagsRequest{Tenant: r.Tenant, Start: r.Start, End: r.End}, func(t *trace, row int) {
		o := traceql.Operation{
			Service: traceapi.Services(t.spans)[t.spans.Scope[row]], Name: string(t.spans.Bytes(t.spans.Names[row])), Kind: t.spans.Kinds[row],
		}
		if (r.Service == "" || r.Service == o.Service) && (r.Kind < 0 || r.Kind == int(o.Kind)) {
			found[o] = true
		}
	})
	if err != nil {
		return nil, stats, err
	}
	var out []traceql.Operation
	for o := range found {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b traceql.Operation) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return out, stats, nil
}

// Equal reports whether both hold the same spans. A status that says nothing is
// the same as none.
func Equal(a, b *tracepb.TracesData) bool { return proto.Equal(withoutStatus(a), withoutStatus(b)) }

func withoutStatus(td *tracepb.TracesData) *tracepb.TracesData {
	td = proto.Clone(td).(*tracepb.TracesData)
	for _, rs := range td.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				if proto.Equal(span.GetStatus(), &tracepb.Status{}) {
					span.Status = nil
				}
			}
		}
	}
	return td
}

var _ traceql.Querier = (*Store)(nil)
