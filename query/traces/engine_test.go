package traces

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/block"
	"github.com/vedette-io/vedette/storage/trace"
)

var everything = traceql.SearchRequest{Tenant: "default", Query: "{}", Limit: 10_000}

func filled(t testing.TB, seed uint64) (*generator, *trace.DB, *Engine) {
	t.Helper()
	g, db := newGenerator(seed), openStore(t)
	g.fill(t, db, 40, 50)
	return g, db, newEngine(t, db)
}

func TestTrace(t *testing.T) {
	g, db, e := filled(t, 1)
	m := newModel(t, db)
	for _, tr := range m.traces {
		var got signal.Spans
		stats, err := e.Trace(context.Background(), traceql.TraceRequest{Tenant: "default", ID: tr.Spans.TraceIDs[0]}, &got)
		require.NoError(t, err)
		require.Empty(t, stats.Partial)
		require.Equal(t, tr.Spans.SpanIDs, got.SpanIDs)
	}
	var got signal.Spans
	for _, tenant := range []string{"default", "other"} {
		_, err := e.Trace(context.Background(), traceql.TraceRequest{Tenant: tenant, ID: traceID(g.traces + 1)}, &got)
		require.NoError(t, err)
		require.Zero(t, got.Len())
	}
}

func TestOtherTenant(t *testing.T) {
	_, _, e := filled(t, 1)
	r := everything
	r.Tenant = "other"
	res, err := e.Search(context.Background(), r)
	require.NoError(t, err)
	require.Empty(t, res.Traces)
	series, err := e.Metrics(context.Background(), traceql.MetricsRequest{Tenant: "other", Query: "{} | rate()"})
	require.NoError(t, err)
	require.Empty(t, series.Series)
}

func TestBadQuestions(t *testing.T) {
	_, _, e := filled(t, 1)
	ctx := context.Background()
	var parse *traceql.ParseError
	var bad interface{ BadRequest() bool }
	_, err := e.Search(ctx, traceql.SearchRequest{Tenant: "default", Query: "{ a"})
	require.ErrorAs(t, err, &parse)
	_, err = e.Metrics(ctx, traceql.MetricsRequest{Tenant: "default", Query: "{}", Start: t0, End: t0 + 1})
	require.ErrorAs(t, err, &parse)
	_, err = e.Metrics(ctx, traceql.MetricsRequest{Tenant: "default", Query: "{} | rate()", Start: t0, End: t0 + 1e15, Step: 1})
	require.ErrorAs(t, err, &bad)
	_, err = e.Tags(ctx, traceql.TagsRequest{Tenant: "default", Scope: "nope"})
	require.ErrorAs(t, err, &bad)
	_, err = e.TagValues(ctx, traceql.TagsRequest{Tenant: "default", Name: "span."})
	require.ErrorAs(t, err, &parse)
	_, err = e.TagValues(ctx, traceql.TagsRequest{Tenant: "default", Name: "name", Query: "{"})
	require.ErrorAs(t, err, &parse)
	_, err = New(Options{})
	require.ErrorContains(t, err, "max_bytes")
}

// questions ask everything that reads row groups.
var questions = map[string]func(context.Context, *Engine) (traceql.Stats, error){
	"search": func(ctx context.Context, e *Engine) (traceql.Stats, error) {
		res, err := e.Search(ctx, everything)
		if err != nil {
			return traceql.Stats{}, err
		}
		return res.Stats, nil
	},
	"metrics of columns": func(ctx context.Context, e *Engine) (traceql.Stats, error) {
		return askMetrics(ctx, e, "{} | avg_over_time(duration) by (name)")
	},
	"metrics of traces": func(ctx context.Context, e *Engine) (traceql.Stats, error) {
		return askMetrics(ctx, e, "{} >> {} | rate()")
	},
	"tags": func(ctx context.Context, e *Engine) (traceql.Stats, error) {
		res, err := e.Tags(ctx, traceql.TagsRequest{Tenant: "default", Query: "{ duration > 1ns }"})
		if err != nil {
			return traceql.Stats{}, err
		}
		return res.Stats, nil
	},
	"values": func(ctx context.Context, e *Engine) (traceql.Stats, error) {
		res, err := e.TagValues(ctx, traceql.TagsRequest{Tenant: "default", Name: "span.method"})
		if err != nil {
			return traceql.Stats{}, err
		}
		return res.Stats, nil
	},
}

func askMetrics(ctx context.Context, e *Engine, q string) (traceql.Stats, error) {
	res, err := e.Metrics(ctx, traceql.MetricsRequest{Tenant: "default", Query: q, Start: t0, End: t0 + 3600*second, Step: 60 * second})
	if err != nil {
		return traceql.Stats{}, err
	}
	return res.Stats, nil
}

func TestLimits(t *testing.T) {
	_, db, _ := filled(t, 2)
	for _, name := range slices.Sorted(maps.Keys(questions)) {
		ask := questions[name]
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			c.MaxBytes = 1
			e, err := New(Options{Store: db, Config: c})
			require.NoError(t, err)
			stats, err := ask(context.Background(), e)
			require.NoError(t, err)
			require.Contains(t, stats.Partial, "max_bytes")

			c = DefaultConfig()
			c.Timeout = 1
			e, err = New(Options{Store: db, Config: c})
			require.NoError(t, err)
			stats, err = ask(context.Background(), e)
			require.NoError(t, err)
			require.Contains(t, stats.Partial, "timeout")

			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_, err = ask(ctx, e)
			require.ErrorIs(t, err, context.Canceled)
			_, err = ask(cancelLater{context.Background(), new(int)}, newEngine(t, db))
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

// cancelLater is canceled when it is asked for the third time.
type cancelLater struct {
	context.Context
	asked *int
}

func (c cancelLater) Err() error {
	if *c.asked++; *c.asked > 2 {
		return context.Canceled
	}
	return nil
}

func TestMaxSeriesAndValues(t *testing.T) {
	_, db, _ := filled(t, 2)
	c := DefaultConfig()
	c.MaxSeries, c.MaxValues, c.MaxTraces = 3, 2, 4
	e, err := New(Options{Store: db, Config: c})
	require.NoError(t, err)
	ctx := context.Background()
	res, err := e.Metrics(ctx, traceql.MetricsRequest{Tenant: "default", Query: "{} | rate() by (name)", Start: t0, End: t0 + 3600*second, Step: 3600 * second})
	require.NoError(t, err)
	require.Len(t, res.Series, 3)
	require.Contains(t, res.Stats.Partial, "3 series")
	values, err := e.TagValues(ctx, traceql.TagsRequest{Tenant: "default", Name: "name"})
	require.NoError(t, err)
	require.Len(t, values.Values, 2)
	require.Contains(t, values.Stats.Partial, "2 values")
	names, err := e.Tags(ctx, traceql.TagsRequest{Tenant: "default", Scope: "span"})
	require.NoError(t, err)
	require.Len(t, names.Scopes[0].Tags, 2)
	require.Contains(t, names.Stats.Partial, "2 names")
	found, err := e.Search(ctx, everything)
	require.NoError(t, err)
	require.Len(t, found.Traces, 4)
	require.Contains(t, found.Stats.Partial, "more than 4 (limit max_traces)")
	fewer := everything
	fewer.Limit = 3
	found, err = e.Search(ctx, fewer)
	require.NoError(t, err)
	require.Len(t, found.Traces, 3)
	require.Empty(t, found.Stats.Partial)
}

func TestQueue(t *testing.T) {
	_, db, _ := filled(t, 2)
	reg := prometheus.NewRegistry()
	c := DefaultConfig()
	c.MaxConcurrent, c.MaxQueued = 1, 1
	e, err := New(Options{Store: db, Config: c, Registerer: reg})
	require.NoError(t, err)
	ctx := context.Background()
	require.NoError(t, e.gate.enter(ctx))
	done := make(chan error, 1)
	go func() {
		_, err := e.Search(ctx, everything)
		done <- err
	}()
	require.Eventually(t, func() bool { return testutil.ToFloat64(e.metrics.queued) == 1 }, 10*time.Second, time.Millisecond)
	_, err = e.Search(ctx, everything)
	var busy interface{ Busy() bool }
	require.ErrorAs(t, err, &busy)
	require.EqualValues(t, 1, testutil.ToFloat64(e.metrics.refused))
	e.gate.leave()
	require.NoError(t, <-done)

	require.NoError(t, e.gate.enter(ctx))
	short, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, e.gate.enter(short), context.Canceled)
	e.gate.leave()
	require.Zero(t, testutil.ToFloat64(e.metrics.running))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestDamage flips a byte in every part of a block: questions are answered from
// the rest, and say so.
func TestDamage(t *testing.T) {
	for _, section := range []string{"rows", "shapes", "resources", "strings"} {
		t.Run(section, func(t *testing.T) {
			fs := vfs.NewMem()
			open := func() *trace.DB {
				db, err := trace.Open(trace.Options{FS: fs, Dir: "/s", Config: trace.DefaultConfig()})
				require.NoError(t, err)
				return db
			}
			db := open()
			g := newGenerator(0)
			for i := range 2 {
				_, err := db.AppendSpans(context.Background(), g.batch(300), "src", "traces", 0, int64(i))
				require.NoError(t, err)
				require.NoError(t, db.Flush(context.Background()))
			}
			require.NoError(t, db.Close())
			names, err := fs.List("/s/default")
			require.NoError(t, err)
			dir := ""
			for _, n := range names {
				if _, err := fs.Stat(filepath.Join("/s/default", n, "columns")); err == nil {
					dir = filepath.Join("/s/default", n)
				}
			}
			flip(t, fs, dir, section)
			db = open()
			defer func() { require.NoError(t, db.Close()) }()
			e := newEngine(t, db)
			damaged := map[string]func(context.Context, *Engine) (traceql.Stats, error){
				"search": questions["search"], "metrics of traces": questions["metrics of traces"],
			}
			if section == "strings" { // which nothing reads that names no attribute
				damaged = map[string]func(context.Context, *Engine) (traceql.Stats, error){"traces": wholeTraces}
			}
			for name, ask := range damaged {
				stats, err := ask(context.Background(), e)
				require.NoError(t, err, name)
				require.Contains(t, stats.Partial, "damaged", name)
			}
			res, err := e.Search(context.Background(), everything)
			require.NoError(t, err)
			require.NotEmpty(t, res.Traces)
		})
	}
}

// wholeTraces reads every trace that a search finds.
func wholeTraces(ctx context.Context, e *Engine) (sum traceql.Stats, err error) {
	found, err := e.Search(ctx, everything)
	if err != nil {
		return sum, err
	}
	for _, t := range found.Traces {
		var spans signal.Spans
		stats, err := e.Trace(ctx, traceql.TraceRequest{Tenant: "default", ID: t.ID}, &spans)
		if err != nil {
			return sum, err
		}
		sum.Partial += stats.Partial
	}
	return sum, nil
}

// flip damages the middle of a section's first page.
func flip(t *testing.T, fs vfs.FS, dir, section string) {
	t.Helper()
	r, err := block.Open(fs, dir)
	require.NoError(t, err)
	off, size, ok := r.Locate(section, 0)
	require.True(t, ok)
	require.NoError(t, r.Close())
	name := filepath.Join(dir, "columns")
	b, err := vfs.ReadFile(fs, name)
	require.NoError(t, err)
	b[off+size/2] ^= 0xff
	require.NoError(t, vfs.WriteFile(fs, name, b))
}

func TestExemplars(t *testing.T) {
	_, db, e := filled(t, 2)
	m := newModel(t, db)
	known := map[signal.SpanID]int64{}
	for _, tr := range m.traces {
		for i, id := range tr.Spans.SpanIDs {
			known[id] = tr.Spans.Starts[i]
		}
	}
	for _, q := range []string{"{} | rate() by (name)", "{status = error} | quantile_over_time(duration, .9)", "{} | avg_over_time(span.code) with (exemplars=7)"} {
		res, err := e.Metrics(context.Background(), traceql.MetricsRequest{
			Tenant: "default", Query: q, Start: t0, End: t0 + 3600*second, Step: 100 * second, Exemplars: 20,
		})
		require.NoError(t, err)
		n := 0
		for _, s := range res.Series {
			n += len(s.Exemplars)
			for _, x := range s.Exemplars {
				require.Contains(t, known, x.SpanID)
				require.NotZero(t, x.TraceID)
			}
		}
		require.Positive(t, n, q)
		require.LessOrEqual(t, n, 20, q)
	}
}

func TestProgress(t *testing.T) {
	_, db, _ := filled(t, 2)
	e := newEngine(t, db)
	r := everything
	called := 0
	r.Progress = func(res *traceql.SearchResult) {
		called++
		require.NotEmpty(t, res.Traces)
	}
	run, err := e.begin(context.Background(), "search", "default", 0, 1<<62)
	require.NoError(t, err)
	defer run.end()
	s := &search{run: run, request: r, found: make([]traceql.TraceSummary, 1)}
	s.progress()
	require.Equal(t, 1, called)
	s.progress() // too soon
	require.Equal(t, 1, called)
}

func TestTags(t *testing.T) {
	for seed := range uint64(4) {
		g, db, e := filled(t, seed)
		m := newModel(t, db)
		for _, query := range []string{"", "{ status = error }", "{ resource.host = \"a\" && span.code > 200 }", "{ event.method != nil }"} {
			r := traceql.TagsRequest{Tenant: "default", Query: query}
			r.Start, r.End = g.times()
			got, err := e.Tags(context.Background(), r)
			require.NoError(t, err)
			require.Empty(t, got.Stats.Partial)
			want := m.tags(t, r)
			for _, s := range got.Scopes {
				if s.Name == scopeIntrinsic {
					require.Contains(t, s.Tags, "span:name")
					continue
				}
				require.True(t, slices.IsSorted(s.Tags))
				require.Equal(t, want[s.Name], strings.Join(s.Tags, " "), "%s %s", query, s.Name)
			}
			r.Scope = "span"
			got, err = e.Tags(context.Background(), r)
			require.NoError(t, err)
			require.Len(t, got.Scopes, 1)
			for _, name := range []string{
				"name", "kind", "status", "resource.service.name", "resource.n", "resource.zone", "span.method", "span.code", "span.user",
				"span.mixed", ".mixed", ".host", "event.code", "event:name", "instrumentation.lang", "instrumentation:version", "statusMessage", "link.tags",
			} {
				r.Name = name
				values, err := e.TagValues(context.Background(), r)
				require.NoError(t, err)
				require.Empty(t, values.Stats.Partial)
				want := m.values(t, r)
				if name == "resource.service.name" && query == "" && r.Start <= 0 && r.End <= 0 {
					// The store's catalog has strings only.
					want = slices.DeleteFunc(want, func(s traceql.Static) bool { return s.Type != traceql.TypeString })
				}
				require.Equal(t, want, values.Values, "%s %+v", name, r)
			}
		}
	}
}

// spans calls f with every span that a filter holds for and that was running
// within the times.
func (m *model) spans(t testing.TB, r traceql.TagsRequest, f func(tr *traceql.Trace, row int)) {
	q, err := traceql.Parse(r.Query)
	require.NoError(t, err)
	start, end := bounds(r.Start, r.End)
	eval := traceql.NewEvaluator(q.Pipeline)
	for _, tr := range m.traces {
		for _, set := range eval.Eval(tr) {
			for _, row := range set.Rows {
				if s := tr.Spans.Starts[row]; s <= end && s+tr.Spans.Duration(int(row)) >= start {
					f(tr, int(row))
				}
			}
		}
	}
}

func (m *model) tags(t testing.TB, r traceql.TagsRequest) map[string]string {
	names := map[string]map[string]bool{}
	m.spans(t, r, func(tr *traceql.Trace, row int) {
		s := tr.Spans
		add := func(scope string, attrs []signal.Attr) {
			for _, a := range attrs {
				if names[scope] == nil {
					names[scope] = map[string]bool{}
				}
				names[scope][string(s.Bytes(a.Key))] = true
			}
		}
		sc := s.Scopes[s.Scope[row]]
		res := s.Resources[sc.Resource]
		add("span", s.SpanAttrs(row))
		add("resource", s.Attrs[res.AttrBegin:res.AttrEnd])
		add("instrumentation", s.Attrs[sc.AttrBegin:sc.AttrEnd])
		for _, e := range s.Events[s.EventBegin[row]:s.EventEnd[row]] {
			add("event", s.Attrs[e.AttrBegin:e.AttrEnd])
		}
		for _, l := range s.Links[s.LinkBegin[row]:s.LinkEnd[row]] {
			add("link", s.Attrs[l.AttrBegin:l.AttrEnd])
		}
	})
	out := map[string]string{}
	for scope, set := range names {
		out[scope] = strings.Join(slices.Sorted(maps.Keys(set)), " ")
	}
	return out
}

// values returns the distinct values of an attribute; of events and links all.
func (m *model) values(t testing.TB, r traceql.TagsRequest) []traceql.Static {
	a, err := traceql.ParseAttribute(r.Name)
	require.NoError(t, err)
	seen := map[traceql.Static]bool{}
	m.spans(t, r, func(tr *traceql.Trace, row int) {
		s := tr.Spans
		collect := func(attrs []signal.Attr) {
			for _, x := range attrs {
				if string(s.Bytes(x.Key)) != a.Name {
					continue
				}
				if x.Type == signal.AttrArray {
					for _, v := range traceql.AppendArrayElements(nil, s.Bytes(x.Range())) {
						seen[v] = true
					}
				} else if v := traceql.AttrStatic(s, x); !v.IsNil() {
					seen[v] = true
				}
				return
			}
		}
		switch {
		case a.Scope == traceql.ScopeEvent && a.Intrinsic == traceql.IntrinsicNone:
			for _, e := range s.Events[s.EventBegin[row]:s.EventEnd[row]] {
				collect(s.Attrs[e.AttrBegin:e.AttrEnd])
			}
		case a.Scope == traceql.ScopeLink:
			for _, l := range s.Links[s.LinkBegin[row]:s.LinkEnd[row]] {
				collect(s.Attrs[l.AttrBegin:l.AttrEnd])
			}
		case a.Intrinsic == traceql.IntrinsicEventName:
			for _, e := range s.Events[s.EventBegin[row]:s.EventEnd[row]] {
				seen[traceql.String(string(s.Bytes(e.Name)))] = true
			}
		default:
			if v := tr.Value(a, row); !v.IsNil() {
				seen[v] = true
			}
		}
	})
	var out []traceql.Static
	for v := range seen {
		out = append(out, v)
	}
	slices.SortFunc(out, traceql.Static.Order)
	return out
}

func TestValuesOfRoots(t *testing.T) {
	db := openStore(t)
	_, err := db.AppendSpans(context.Background(), batch(
		testSpan{trace: 1, id: 1, name: "root", resource: 0},
		testSpan{trace: 1, id: 2, parent: 1, name: "child", resource: 2},
	), "src", "traces", 0, 0)
	require.NoError(t, err)
	e := newEngine(t, db)
	for name, want := range map[string][]traceql.Static{
		"rootName": {traceql.String("root")}, "rootServiceName": {traceql.String("web")}, "nestedSetLeft": nil,
		"resource.service.name": {traceql.String("cart"), traceql.String("web")},
	} {
		got, err := e.TagValues(context.Background(), traceql.TagsRequest{Tenant: "default", Name: name})
		require.NoError(t, err)
		require.Equal(t, want, got.Values, name)
	}
	ops, _, err := e.Operations(context.Background(), traceql.OperationsRequest{Tenant: "default", Kind: -1})
	require.NoError(t, err)
	require.Equal(t, []traceql.Operation{{Service: "cart", Name: "child"}, {Service: "web", Name: "root"}}, ops)
	ops, _, err = e.Operations(context.Background(), traceql.OperationsRequest{Tenant: "default", Service: "web", Kind: 3})
	require.NoError(t, err)
	require.Empty(t, ops)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err = e.Operations(ctx, traceql.OperationsRequest{Tenant: "default", Kind: -1})
	require.True(t, errors.Is(err, context.Canceled))
}
