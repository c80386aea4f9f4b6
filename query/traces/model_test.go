package traces

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace"
	"github.com/vedette-io/vedette/storage/trace/rows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newEngine(t testing.TB, db Store) *Engine {
	t.Helper()
	e, err := New(Options{Store: db, Config: DefaultConfig()})
	require.NoError(t, err)
	return e
}

// model is the reference: all traces, evaluated whole.
type model struct{ traces []*traceql.Trace }

func newModel(t testing.TB, db *trace.DB) *model {
	v := db.View("default", math.MinInt64, math.MaxInt64)
	defer v.Close()
	seen := map[signal.TraceID]bool{}
	m := &model{}
	var c rows.Cursor
	for _, g := range v.Groups() {
		require.NoError(t, c.Seek(g))
		ids, err := c.TraceIDs()
		require.NoError(t, err)
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			s := &signal.Spans{}
			require.NoError(t, v.Trace(id, s))
			tr := &traceql.Trace{}
			tr.Reset(s)
			m.traces = append(m.traces, tr)
		}
	}
	return m
}

func (m *model) search(t testing.TB, r traceql.SearchRequest) []traceql.TraceSummary {
	q, err := traceql.Parse(r.Query)
	require.NoError(t, err)
	start, end := bounds(r.Start, r.End)
	var out []traceql.TraceSummary
	eval := traceql.NewEvaluator(q.Pipeline)
	for _, tr := range m.traces {
		d := tr.Duration()
		if r.MinDuration > 0 && d < r.MinDuration || r.MaxDuration > 0 && d > r.MaxDuration {
			continue
		}
		sets := eval.Eval(tr)
		within := false
		sum := tr.Summary()
		for _, set := range sets {
			tr.SortRows(set.Rows)
			x := traceql.Spanset{Attrs: set.Attrs, Matched: len(set.Rows)}
			for i, row := range set.Rows {
				s := tr.Spans.Starts[row]
				within = within || s <= end && s+tr.Spans.Duration(int(row)) >= start
				if i < 3 {
					x.Spans = append(x.Spans, tr.SpanMatch(int(row), shown(q)))
				}
			}
			sum.Spansets = append(sum.Spansets, x)
		}
		if within {
			out = append(out, sum)
		}
	}
	slices.SortFunc(out, func(a, b traceql.TraceSummary) int {
		return cmp.Or(cmp.Compare(b.Start, a.Start), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return out[:min(len(out), r.Limit)]
}

func (m *model) metrics(t testing.TB, r traceql.MetricsRequest) *traceql.MetricsResult {
	q, err := traceql.Parse(r.Query)
	require.NoError(t, err)
	times, err := traceql.NewRange(r.Start, r.End, r.Step)
	require.NoError(t, err)
	e, err := traceql.NewMetricsEvaluator(q, times, traceql.Limits{})
	require.NoError(t, err)
	for _, tr := range m.traces {
		e.Add(tr)
	}
	return e.Result()
}

// describe writes series with values rounded: sums are added in another order.
func describe(res *traceql.MetricsResult) []string {
	var out []string
	for _, s := range res.Series {
		var b strings.Builder
		for _, l := range s.Labels {
			fmt.Fprintf(&b, "%s=%s ", l.Key, l.Value)
		}
		for _, v := range s.Values {
			fmt.Fprintf(&b, " %.9g", v)
		}
		out = append(out, b.String())
	}
	return out
}

func (g *generator) pick(list ...string) string { return list[g.rng.IntN(len(list))] }

func (g *generator) field() string {
	key := testKeys[g.rng.IntN(len(testKeys))]
	return g.pick(
		"name", "kind", "status", "statusMessage", "duration", "span:id", "span:parentID", "trace:id",
		"event:name", "event:timeSinceStart", "link:traceID", "link:spanID", "instrumentation:name", "instrumentation:version",
		"resource.service.name", "resource.host", "resource.n", "resource.zone", ".service.name", ".host", ".lang", "instrumentation.lang",
		"span."+key, "span."+key, "span."+key, "."+key, "."+key, "event."+key, "link."+key,
		"rootName", "rootServiceName", "traceDuration", "nestedSetParent", "nestedSetLeft", "childCount", "parent."+key, "parent.span."+key,
	)
}

func (g *generator) literal() string {
	return g.pick(
		`"GET"`, `"operation-1"`, `"web"`, `"a"`, `"x"`, `"200"`, `""`, `"user-17"`, `"mixed"`, `"res"`, `"broken"`, `"retry"`, `"go"`, `"otelhttp"`, `"AP8="`,
		"200", "3", "7", "0", "-1", "2.5", "0.5", "300.5", "true", "false", "500ms", "1s", "0ns", "error", "ok", "unset", "server", "client", "nil", "nil",
	)
}

// valid returns the first of what f makes that is a query.
func valid(f func() string) string {
	for {
		q := f()
		if _, err := traceql.Parse(q); err == nil {
			return q
		}
	}
}

func (g *generator) expr(depth int) string {
	if depth > 0 {
		switch g.rng.IntN(6) {
		case 0, 1:
			return g.expr(depth-1) + " && " + g.expr(depth-1)
		case 2:
			return "(" + g.expr(depth-1) + " || " + g.expr(depth-1) + ")"
		case 3:
			return "!(" + g.expr(depth-1) + ")"
		}
	}
	return strings.Trim(valid(func() string {
		switch g.rng.IntN(12) {
		case 0:
			return "{" + g.field() + g.pick(" =~ ", " !~ ") + g.pick(`"G.*|operation-[12]"`, `"user-1.*"`, `"web|x"`, `".*"`, `"b.*n"`) + "}"
		case 1:
			return "{" + g.field() + "}"
		case 2:
			return "{" + g.literal() + g.pick(" = ", " < ", " >= ", " != ") + g.field() + "}"
		case 3:
			return "{" + g.field() + g.pick(" = ", " < ", " != ") + g.field() + "}"
		case 4:
			return "{" + g.field() + g.pick(" + ", " * ") + g.pick("1", "2.5") + g.pick(" > ", " = ") + g.literal() + "}"
		}
		return "{" + g.field() + g.pick(" = ", " = ", " != ", " > ", " >= ", " < ", " <= ") + g.literal() + "}"
	}), "{}")
}

func (g *generator) spanset(depth int) string {
	if depth > 0 && g.rng.IntN(2) == 0 {
		op := g.pick("&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "&>>", "&~", "&&")
		return "(" + g.spanset(depth-1) + " " + op + " " + g.spanset(depth-1) + ")"
	}
	return "{" + g.pick("", g.expr(1), g.expr(1), g.expr(2)) + "}"
}

func (g *generator) query() string {
	return valid(func() string {
		q := g.spanset(g.rng.IntN(3))
		for range max(0, g.rng.IntN(5)-2) {
			q += " | " + g.pick("{"+g.expr(0)+"}", "by("+g.field()+")", "count() > 1", "avg(duration) > 500ms", "max(span.code) >= 300",
				"select("+g.field()+")", "coalesce()", "min(duration)")
		}
		return q
	})
}

func (g *generator) metricsQuery() string {
	return valid(func() string {
		q := g.spanset(g.rng.IntN(2))
		if g.rng.IntN(5) == 0 {
			q = g.query()
		}
		value := g.pick("duration", "duration", "span.code", "span.ratio", "span.tags", ".mixed", "resource.n", "event:timeSinceStart", "span.code * 2", "childCount", "event.code")
		q += " | " + g.pick("rate()", "rate()", "count_over_time()", "min_over_time("+value+")", "max_over_time("+value+")", "avg_over_time("+value+")",
			"sum_over_time("+value+")", "quantile_over_time("+value+", .5, .99)", "histogram_over_time("+value+")", "compare({"+g.expr(0)+"})")
		if !strings.Contains(q, "compare") {
			switch g.rng.IntN(4) {
			case 0, 1:
				q += " by (" + g.field() + ")"
			case 2:
				q += " by (" + g.field() + ", " + g.field() + ")"
			}
			q += g.pick("", "", "", " | topk(3)", " | bottomk(2)", " > 0.1")
		}
		return q
	})
}

func corpus(t testing.TB) []string {
	data, err := os.ReadFile("../traceql/testdata/queries.txt")
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func (g *generator) times() (start, end int64) {
	switch g.rng.IntN(3) {
	case 0:
		return 0, 0
	case 1:
		return t0 + g.rng.Int64N(g.now+1), 0
	}
	start = t0 + g.rng.Int64N(g.now+1)
	return start, start + g.rng.Int64N(g.now/4+1)
}

// TestModel compares the engine's answers with those of the evaluator of whole
// traces, over stores that are in the middle of everything: six, or
// VEDETTE_SEEDS.
func TestModel(t *testing.T) {
	seeds := uint64(6)
	if n, err := strconv.ParseUint(os.Getenv("VEDETTE_SEEDS"), 10, 32); err == nil {
		seeds = n
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newGenerator(seed)
			db := openStore(t)
			g.fill(t, db, 60, 2+60*int(seed%3))
			m, e := newModel(t, db), newEngine(t, db)
			t.Logf("%d traces, %d spans", len(m.traces), g.spans)
			var searches, metrics []string
			for _, q := range corpus(t) {
				if parsed, err := traceql.Parse(q); err == nil && parsed.IsMetrics() {
					metrics = append(metrics, q)
				} else if err == nil {
					searches = append(searches, q)
				}
			}
			for range 150 {
				searches, metrics = append(searches, g.query()), append(metrics, g.metricsQuery())
			}
			for i, q := range searches {
				e.maxRejected = i%2 - 1
				g.checkSearch(t, e, m, q)
			}
			for _, q := range metrics {
				g.checkMetrics(t, e, m, q)
			}
		})
	}
}

func (g *generator) checkSearch(t *testing.T, e *Engine, m *model, q string) {
	t.Helper()
	r := traceql.SearchRequest{Tenant: "default", Query: q, Limit: 1 + g.rng.IntN(30)}
	r.Start, r.End = g.times()
	if g.rng.IntN(4) == 0 {
		r.MinDuration, r.MaxDuration = g.rng.Int64N(3*second), 2*second+g.rng.Int64N(10*second)
	}
	got, err := e.Search(context.Background(), r)
	require.NoError(t, err, q)
	require.Empty(t, got.Stats.Partial)
	want := m.search(t, r)
	if len(want) == 0 {
		want = nil
	}
	if len(got.Traces) == 0 {
		got.Traces = nil
	}
	require.Equal(t, want, got.Traces, "%s %+v", q, r)
}

func (g *generator) checkMetrics(t *testing.T, e *Engine, m *model, q string) {
	t.Helper()
	r := traceql.MetricsRequest{Tenant: "default", Query: q, Start: t0 + g.rng.Int64N(g.now+1)}
	r.End = r.Start + 1 + g.rng.Int64N(g.now)
	r.Step = 1 + (r.End-r.Start)/(1+g.rng.Int64N(20))
	got, err := e.Metrics(context.Background(), r)
	require.NoError(t, err, q)
	require.Empty(t, got.Stats.Partial)
	want := m.metrics(t, r)
	require.Equal(t, want.Times, got.Times)
	require.Equal(t, describe(want), describe(got), "%s %+v", q, r)
}
