package promql

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/storage/metric"
)

// lookBehind is how far before a selection a histogram's predecessor may lie.
const lookBehind = 5 * time.Minute

// Queryable gives the reference engine and the HTTP API their view of a Store.
// The tenant of a read is the one in its context. It is safe for concurrent use.
type Queryable struct {
	store    Store
	maxBytes int64
}

var (
	_ storage.SampleAndChunkQueryable = (*Queryable)(nil)
	_ storage.ExemplarQueryable       = (*Queryable)(nil)
)

// NewQueryable returns a view of store. A read whose context has no Budget may
// take maxBytes per querier; 0 is no limit.
func NewQueryable(store Store, maxBytes int64) *Queryable {
	return &Queryable{store: store, maxBytes: maxBytes}
}

// Querier implements storage.Queryable.
func (q *Queryable) Querier(minTime, maxTime int64) (storage.Querier, error) {
	return q.newQuerier(minTime, maxTime), nil
}

// ChunkQuerier implements storage.ChunkQueryable.
func (q *Queryable) ChunkQuerier(minTime, maxTime int64) (storage.ChunkQuerier, error) {
	return &chunkQuerier{q.newQuerier(minTime, maxTime)}, nil
}

// ExemplarQuerier implements storage.ExemplarQueryable.
func (q *Queryable) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	return &exemplarQuerier{ctx, q.store}, nil
}

func (q *Queryable) newQuerier(minTime, maxTime int64) *querier {
	return &querier{store: q.store, minTime: minTime, maxTime: maxTime, fallback: NewBudget(q.maxBytes)}
}

// querier reads one time range. It remembers the sets that it opened until
// Close.
type querier struct {
	store            Store
	minTime, maxTime int64
	fallback         *Budget // for contexts that carry none

	mu   sync.Mutex
	sets []opened
}

// opened is a set to close, and the budget of the query that opened it.
type opened struct {
	SeriesSet
	budget *Budget
}

func (q *querier) budget(ctx context.Context) *Budget {
	if b, ok := budgetFrom(ctx); ok {
		return b
	}
	return q.fallback
}

// Select implements storage.Querier. Series come sorted whether asked for or not.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	sel := metric.Selector{
		Tenant:   tenant.FromContext(ctx),
		MinTime:  q.minTime,
		MaxTime:  q.maxTime,
		Matchers: matchers,
		Charge:   q.budget(ctx).Charge,
	}
	if hints != nil {
		sel.MinTime, sel.MaxTime = hints.Start, hints.End
		if hints.ShardCount == 0 {
			sel.Limit = hints.Limit
		}
	}
	set, err := q.open(ctx, sel)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	s := &seriesSet{ctx: ctx, querier: q, sel: sel, set: set, budget: q.budget(ctx), at: -1}
	if hints != nil {
		s.shardIndex, s.shardCount = hints.ShardIndex, hints.ShardCount
	}
	return s
}

// open selects and remembers the set for Close.
func (q *querier) open(ctx context.Context, sel metric.Selector) (SeriesSet, error) {
	set, err := q.store.Select(ctx, sel)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.sets = append(q.sets, opened{set, q.budget(ctx)})
	q.mu.Unlock()
	return set, nil
}

func (q *querier) labelSelector(ctx context.Context, hints *storage.LabelHints, matchers []*labels.Matcher) metric.Selector {
	sel := metric.Selector{
		Tenant:   tenant.FromContext(ctx),
		MinTime:  q.minTime,
		MaxTime:  q.maxTime,
		Matchers: matchers,
	}
	if hints != nil {
		sel.Limit = hints.Limit
	}
	return sel
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, err := q.store.LabelValues(ctx, name, q.labelSelector(ctx, hints, matchers))
	return values, nil, q.chargeStrings(ctx, values, err)
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, err := q.store.LabelNames(ctx, q.labelSelector(ctx, hints, matchers))
	return names, nil, q.chargeStrings(ctx, names, err)
}

func (q *querier) chargeStrings(ctx context.Context, list []string, err error) error {
	if err != nil {
		return err
	}
	n := 0
	for _, s := range list {
		n += len(s) + 16
	}
	return q.budget(ctx).Charge(int64(n))
}

// Close implements storage.LabelQuerier.
func (q *querier) Close() error {
	q.mu.Lock()
	sets := q.sets
	q.sets = nil
	q.mu.Unlock()
	for _, s := range sets {
		// What a set could not read is known only now, after the last of its series.
		s.budget.warn(s.Warnings())
		s.Close()
	}
	return nil
}

// seriesSet hands out the series of a set one after the other.
type seriesSet struct {
	ctx     context.Context
	querier *querier
	sel     metric.Selector
	set     SeriesSet
	budget  *Budget
	at      int
	err     error

	shardIndex, shardCount uint64

	mu     sync.Mutex
	behind SeriesSet // see predecessor; nil until asked for
	buffer metric.Samples
}

func (s *seriesSet) Next() bool {
	if s.err != nil {
		return false
	}
	for s.at+1 < s.set.Len() {
		s.at++
		if s.at%128 == 0 {
			if s.err = s.ctx.Err(); s.err != nil {
				return false
			}
		}
		if s.shardCount > 0 && labels.StableHash(s.set.Labels(s.at))%s.shardCount != s.shardIndex {
			continue
		}
		return true
	}
	return false
}

// predecessor returns the histogram that series i had just before the
// selection, if there was one within lookBehind and no float after it. It is
// what tells whether the first histogram of a selection continues a counter, and
// therefore only asked for with native histograms. A store that cannot answer
// leaves that unknown, as it may be.
func (s *seriesSet) predecessor(i int) metric.Histogram {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind == nil {
		sel := s.sel
		sel.MinTime, sel.MaxTime, sel.Limit = s.sel.MinTime-lookBehind.Milliseconds(), s.sel.MinTime-1, 0
		set, err := s.querier.open(s.ctx, sel)
		if err != nil {
			return metric.Histogram{}
		}
		s.behind = set
	}
	want := s.set.Labels(i)
	j := sort.Search(s.behind.Len(), func(j int) bool { return labels.Compare(s.behind.Labels(j), want) >= 0 })
	if j == s.behind.Len() || !labels.Equal(s.behind.Labels(j), want) {
		return metric.Histogram{}
	}
	if s.behind.Samples(j, &s.buffer) != nil || s.budget.Charge(sizeOf(&s.buffer)) != nil {
		return metric.Histogram{}
	}
	f, h := len(s.buffer.Times), len(s.buffer.HistogramTimes)
	if h == 0 || f > 0 && s.buffer.Times[f-1] > s.buffer.HistogramTimes[h-1] {
		return metric.Histogram{}
	}
	return s.buffer.Histograms[h-1]
}

func (s *seriesSet) At() storage.Series                { return series{set: s, index: s.at} }
func (s *seriesSet) Err() error                        { return s.err }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// series is one series of a set; it stays valid until the querier is closed.
type series struct {
	set   *seriesSet
	index int
}

func (s series) Labels() labels.Labels { return s.set.set.Labels(s.index) }

// Iterator decodes the series, into the buffers of reuse if that is one of ours.
func (s series) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*columnIterator)
	if !ok {
		it = new(columnIterator)
	}
	it.reset(s)
	return it
}

// chunkQuerier encodes what querier selects into the chunks of the streamed
// remote read protocol.
type chunkQuerier struct{ *querier }

// Select implements storage.ChunkQuerier.
func (q *chunkQuerier) Select(ctx context.Context, sortSeries bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.querier.Select(ctx, sortSeries, hints, matchers...))
}

type exemplarQuerier struct {
	ctx   context.Context
	store Store
}

// Select implements storage.ExemplarQuerier.
func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	found, err := q.store.Exemplars(q.ctx, tenant.FromContext(q.ctx), start, end, matchers)
	if err != nil {
		return nil, err
	}
	out := make([]exemplar.QueryResult, 0, len(found))
	for _, f := range found {
		r := exemplar.QueryResult{SeriesLabels: f.Series, Exemplars: make([]exemplar.Exemplar, 0, len(f.Exemplars))}
		for _, e := range f.Exemplars {
			r.Exemplars = append(r.Exemplars, exemplar.Exemplar{Labels: e.Labels, Value: e.Value, Ts: e.Time, HasTs: true})
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	return out, nil
}

// IsLimit reports whether err says that a query met a limit of its own.
func IsLimit(err error) bool {
	var limit *LimitError
	return errors.As(err, &limit)
}
