package promqlsuite

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/teststorage"
)

// Seeds returns the seed that the environment variable PROMQL_SEED names, or n
// of which the first are always the same and the last is new each time.
func Seeds(t *testing.T, n int) []uint64 {
	if s := os.Getenv("PROMQL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("parse PROMQL_SEED: %v", err)
		}
		return []uint64{seed}
	}
	out := make([]uint64, 0, n)
	for i := range n - 1 {
		out = append(out, uint64(i+1))
	}
	last := rand.Uint64()
	t.Logf("new seed is %d; replay it with PROMQL_SEED=%d", last, last)
	return append(out, last)
}

// RunDifferential loads the data that seed stands for into a store and into the
// reference storage, evaluates queries random expressions over both with the
// same engine, and reports every difference with what it takes to see it again.
func RunDifferential(t *testing.T, open Open, seed uint64, queries int) {
	r := rand.New(rand.NewPCG(seed, 0))
	reference := teststorage.New(t, func(o *tsdb.Options) { o.OutOfOrderTimeWindow = time.Hour.Milliseconds() })
	backend := open(t)
	tested := NewStorage(backend)
	defer tested.Close()
	points := generatePoints(r)
	load(t, tested, points)
	load(t, reference, points)

	engine := promqltest.NewTestEngineWithOpts(t, prom.EngineOpts{
		MaxSamples:               5_000_000,
		Timeout:                  time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	g := generator{r}
	failed, refused, empty := 0, 0, 0
	for i := range queries {
		q := g.query()
		want := q.run(engine, sorted{reference})
		got := q.run(engine, tested)
		if want.Err != nil {
			refused++
		} else if len(seriesOf(want.Value)) == 0 {
			empty++
		}
		diff := compareResults(got, want, 0)
		for range 50 {
			if diff == "" {
				break
			}
			// The engine keeps intermediate series in maps, so the order in which
			// it sums floats, and with it the last bits, may change between runs.
			// Where it does not agree with itself, the last bits say nothing.
			again := q.run(engine, sorted{reference})
			within := 0.0
			if compareResults(again, want, 0) != "" {
				within = 1e-12
			}
			got, want = q.run(engine, tested), again
			diff = compareResults(got, want, within)
		}
		if diff != "" {
			t.Errorf("seed %d, query %d: %s\n%s", seed, i, q, diff)
			if failed++; failed == 5 {
				t.Fatalf("seed %d: %d differences, stopping at query %d", seed, failed, i)
			}
		}
	}
	t.Logf("%d queries: %d are errors and %d empty on both sides", queries, refused, empty)
	if (refused+empty)*4 > queries*3 {
		t.Errorf("seed %d: only %d of %d queries returned data", seed, queries-refused-empty, queries)
	}
}

// load appends points in batches of one minute of arrival.
func load(t *testing.T, s storage.Storage, points []point) {
	t.Helper()
	for len(points) > 0 {
		n := 0
		for n < len(points) && points[n].arrival < points[0].arrival+60_000 {
			n++
		}
		batch := slices.Clone(points[:n])
		slices.SortStableFunc(batch, func(a, b point) int { return labels.Compare(a.labels, b.labels) })
		app := s.AppenderV2(context.Background())
		for _, p := range batch {
			var h *histogram.Histogram
			var fh *histogram.FloatHistogram
			if p.int != nil {
				h = p.int.Copy() // the reference storage changes what it is given
			}
			if p.float != nil {
				fh = p.float.Copy()
			}
			if _, err := app.Append(0, p.labels, 0, p.time, p.value, h, fh, storage.AppendV2Options{}); err != nil {
				t.Fatalf("append %s at %d: %v", p.labels, p.time, err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatalf("commit: %v", err)
		}
		points = points[n:]
	}
}

// sorted makes the reference storage return series in the order of labels, as
// ours always does: the order decides how floats are summed.
type sorted struct{ storage.Queryable }

func (s sorted) Querier(minTime, maxTime int64) (storage.Querier, error) {
	q, err := s.Queryable.Querier(minTime, maxTime)
	return sortedQuerier{q}, err
}

type sortedQuerier struct{ storage.Querier }

func (q sortedQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, hints, ms...)
}

// randomQuery is an expression with the times to evaluate it at.
type randomQuery struct {
	expr       string
	start, end time.Time
	step       time.Duration // 0 is an instant query
}

func (q randomQuery) String() string {
	if q.step == 0 {
		return fmt.Sprintf("%s at %d", q.expr, q.start.UnixMilli())
	}
	return fmt.Sprintf("%s from %d to %d step %s", q.expr, q.start.UnixMilli(), q.end.UnixMilli(), q.step)
}

func (g generator) query() randomQuery {
	at := func() time.Time { return time.UnixMilli(baseTime - 10*60_000 + g.Int64N(steps*step+20*60_000)) }
	q := randomQuery{expr: g.vector(g.IntN(4)), start: at(), end: at()}
	if g.IntN(2) == 0 {
		if g.IntN(10) == 0 {
			q.expr = g.matrix(1)
		}
		q.end = q.start
		return q
	}
	if q.end.Before(q.start) {
		q.start, q.end = q.end, q.start
	}
	q.step = []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 11*time.Minute + 123*time.Millisecond}[g.IntN(5)]
	return q
}

func (q randomQuery) run(engine prom.QueryEngine, s storage.Queryable) *prom.Result {
	ctx := context.Background()
	var query prom.Query
	var err error
	if q.step == 0 {
		query, err = engine.NewInstantQuery(ctx, s, nil, q.expr, q.start)
	} else {
		query, err = engine.NewRangeQuery(ctx, s, nil, q.expr, q.start, q.end, q.step)
	}
	if err != nil {
		return &prom.Result{Err: err}
	}
	defer query.Close()
	res := query.Exec(ctx)
	if m, ok := res.Value.(prom.Matrix); ok {
		res.Value = copyMatrix(m) // Close takes the points back
	}
	return res
}

func copyMatrix(m prom.Matrix) prom.Matrix {
	out := make(prom.Matrix, len(m))
	for i, s := range m {
		out[i] = prom.Series{Metric: s.Metric, Floats: slices.Clone(s.Floats), Histograms: slices.Clone(s.Histograms)}
	}
	return out
}

// largest is about the size of the values that cancel out in sums: what is left
// of them may be as wrong as they are.
const largest = 1e6

// compareResults returns a description of the first difference, or nothing.
// Floats are the same bit by bit, or differ by the share within of their size, or of largest's.
func compareResults(got, want *prom.Result, within float64) string {
	if (got.Err == nil) != (want.Err == nil) || got.Err != nil && got.Err.Error() != want.Err.Error() {
		return fmt.Sprintf("error %v, want %v", got.Err, want.Err)
	}
	if got.Err != nil {
		return ""
	}
	if g, w := annotationsOf(got), annotationsOf(want); !slices.Equal(g, w) {
		return fmt.Sprintf("annotations %q, want %q", g, w)
	}
	g, w := seriesOf(got.Value), seriesOf(want.Value)
	if len(g) != len(w) {
		return fmt.Sprintf("%d series, want %d:\n got %v\nwant %v", len(g), len(w), got.Value, want.Value)
	}
	for i := range g {
		if diff := compareSeries(g[i], w[i], within); diff != "" {
			return diff
		}
	}
	return ""
}

// annotationsOf leaves out colliding counter resets, a matter of where the
// reference storage happened to cut its chunks.
func annotationsOf(r *prom.Result) []string {
	warnings, infos := r.Warnings.AsStrings("", 0, 0)
	all := slices.DeleteFunc(append(warnings, infos...), func(s string) bool {
		return strings.Contains(s, "conflicting counter resets")
	})
	slices.Sort(all)
	return all
}

func seriesOf(v parser.Value) []prom.Series {
	var out []prom.Series
	switch v := v.(type) {
	case prom.Matrix:
		out = slices.Clone(v)
	case prom.Vector:
		for _, s := range v {
			series := prom.Series{Metric: s.Metric}
			if s.H != nil {
				series.Histograms = []prom.HPoint{{T: s.T, H: s.H}}
			} else {
				series.Floats = []prom.FPoint{{T: s.T, F: s.F}}
			}
			out = append(out, series)
		}
	case prom.Scalar:
		out = []prom.Series{{Floats: []prom.FPoint{{T: v.T, F: v.V}}}}
	}
	slices.SortStableFunc(out, func(a, b prom.Series) int { return labels.Compare(a.Metric, b.Metric) })
	return out
}

func compareSeries(got, want prom.Series, within float64) string {
	if !labels.Equal(got.Metric, want.Metric) {
		return fmt.Sprintf("series %s, want %s", got.Metric, want.Metric)
	}
	if diff := comparePoints(got.Floats, want.Floats, func(a, b prom.FPoint) bool {
		return a.T == b.T && (math.Float64bits(a.F) == math.Float64bits(b.F) || math.IsNaN(a.F) && math.IsNaN(b.F) ||
			within > 0 && math.Abs(a.F-b.F) <= within*max(math.Abs(a.F), math.Abs(b.F), largest))
	}); diff != "" {
		return fmt.Sprintf("series %s: %s", got.Metric, diff)
	}
	if diff := comparePoints(got.Histograms, want.Histograms, func(a, b prom.HPoint) bool {
		return a.T == b.T && equalHistograms(a.H, b.H)
	}); diff != "" {
		return fmt.Sprintf("series %s: %s", got.Metric, diff)
	}
	return ""
}

func comparePoints[T any](got, want []T, equal func(a, b T) bool) string {
	for i := range min(len(got), len(want)) {
		if !equal(got[i], want[i]) {
			return fmt.Sprintf("point %d is %v, want %v", i, got[i], want[i])
		}
	}
	if c := cmp.Compare(len(got), len(want)); c != 0 {
		return fmt.Sprintf("%d points, want %d", len(got), len(want))
	}
	return ""
}

// equalHistograms compares what two histograms say, however their spans lie.
func equalHistograms(a, b *histogram.FloatHistogram) bool {
	a, b = a.Copy().Compact(0), b.Copy().Compact(0)
	if math.IsNaN(a.Sum) && math.IsNaN(b.Sum) {
		a.Sum, b.Sum = 0, 0
	}
	if math.IsNaN(a.Count) && math.IsNaN(b.Count) {
		a.Count, b.Count = 0, 0
	}
	return a.Equals(b) || a.String() == b.String()
}
