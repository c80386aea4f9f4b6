package traces

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/query/traceql"
	"github.com/vedette-io/vedette/storage/trace"
)

// benchHour is the data time that the benchmark's spans cover.
const benchHour = 3600 * second

// shop makes spans as 20 services do: trees of 10 to 42 spans, ten operations a
// service, ten pods, a user in every fourth span, 1% errors.
type shop struct {
	rng   *rand.Rand
	spans uint64
	trace uint64
	every int64 // nanoseconds between traces
	b     *signal.Spans
	rows  []shopSpan
}

type shopSpan struct {
	id, parent      uint64
	start, duration int64
	service, op     int
}

func (g *shop) traceOf() []shopSpan {
	r := g.rng
	g.trace++
	begin := int64(g.trace) * g.every
	g.rows = g.rows[:0]
	for i := range 10 + r.IntN(33) {
		g.spans++
		s := shopSpan{id: g.spans*0x9e3779b97f4a7c15 | 1, service: r.IntN(20), op: r.IntN(10), start: begin}
		s.duration = int64(math.Exp(13+1.6*r.NormFloat64())) / 1000 * 1000
		if i > 0 {
			p := &g.rows[r.IntN(i)]
			s.parent, s.start = p.id, p.start+r.Int64N(max(1000, p.duration))/1000*1000
		}
		g.rows = append(g.rows, s)
	}
	return g.rows
}

// fill appends spans in batches of about 750, of whole traces.
func (g *shop) fill(b testing.TB, db *trace.DB, spans int) {
	ctx := context.Background()
	g.every = benchHour / int64(spans/26+1)
	batch := &signal.Spans{Tenant: "default"}
	byService := make([][]shopRow, 20)
	n := 0
	for offset := int64(0); int(g.spans) < spans; offset++ {
		for i := range byService {
			byService[i] = byService[i][:0]
		}
		for n = 0; n < 750; {
			for _, s := range g.traceOf() {
				byService[s.service] = append(byService[s.service], shopRow{s, g.trace})
				n++
			}
		}
		batch.Reset()
		batch.Tenant = "default"
		g.b = batch
		for service, list := range byService {
			g.appendService(service, list)
		}
		_, err := db.AppendSpans(ctx, batch, "src", "traces", 0, offset)
		require.NoError(b, err)
		if offset%170 == 169 {
			require.NoError(b, db.Flush(ctx))
			require.NoError(b, db.Maintain(ctx))
		}
	}
}

type shopRow struct {
	shopSpan
	trace uint64
}

func (g *shop) appendService(service int, list []shopRow) {
	x := batchBuilder{g.b}
	for pod := range 10 {
		first := true
		for i, s := range list {
			if i%10 != pod {
				continue
			}
			if first {
				first = false
				from, to := x.attrs([]attr{
					{"service.name", fmt.Sprint("service-", service)}, {"service.version", "1.2.3"},
					{"k8s.pod.name", fmt.Sprintf("service-%d-%d", service, pod)}, {"deployment.environment", "production"},
				})
				g.b.Resources = append(g.b.Resources, signal.Resource{AttrBegin: from, AttrEnd: to})
				g.b.Scopes = append(g.b.Scopes, signal.Scope{Resource: uint32(len(g.b.Resources) - 1), Name: x.text("otelhttp"), Version: x.text("0.50.0")})
			}
			g.appendSpan(x, s)
		}
	}
}

func (g *shop) appendSpan(x batchBuilder, s shopRow) {
	r := g.rng
	span := testSpan{
		trace: s.trace, id: s.id, parent: s.parent, start: s.start, duration: s.duration,
		name: fmt.Sprintf("GET /api/%d/thing%d", s.service, s.op), kind: uint8(1 + s.op%3),
		attrs: []attr{
			{"http.request.method", "GET"}, {"http.route", fmt.Sprintf("/api/%d/thing%d", s.service, s.op)},
			{"http.response.status_code", 200}, {"server.address", fmt.Sprintf("10.0.0.%d", r.IntN(200))},
			{"server.port", 8080}, {"thread.id", r.IntN(64)},
		},
	}
	if s.op%4 == 0 {
		span.attrs = append(span.attrs, attr{"user.id", fmt.Sprintf("user-%07d", r.IntN(1_000_000))})
	}
	if r.IntN(100) == 0 {
		span.status, span.message = 2, "connection refused"
		span.events = []testEvent{{at: s.start, name: "exception", attrs: []attr{{"exception.type", "Refused"}}}}
	}
	x.span(span)
}

var shopStore struct {
	once   sync.Once
	engine *Engine
	db     *trace.DB
	spans  int
}

// benchEngine returns an engine over a million spans, or VEDETTE_SPANS, in merged
// blocks, fresh ones and a head. The store is made once.
func benchEngine(b testing.TB) (*Engine, int) {
	s := &shopStore
	s.once.Do(func() {
		s.spans = 1_000_000
		if n, err := strconv.Atoi(os.Getenv("VEDETTE_SPANS")); err == nil {
			s.spans = n
		}
		dir, err := os.MkdirTemp("", "vedette-traces-*")
		require.NoError(b, err)
		s.db, err = trace.Open(trace.Options{FS: vfs.OS, Dir: dir + "/s", Config: trace.DefaultConfig()})
		require.NoError(b, err)
		begin := time.Now()
		g := &shop{rng: rand.New(rand.NewPCG(1, 2))}
		g.fill(b, s.db, s.spans)
		s.engine = newEngine(b, s.db)
		v := s.db.View("default", math.MinInt64, math.MaxInt64)
		b.Logf("%d spans, %d traces, %d sources, %d groups, made in %v", g.spans, g.trace, len(v.Sources()), len(v.Groups()), time.Since(begin))
		v.Close()
		require.NoError(b, os.RemoveAll(dir)) // what is open stays readable
	})
	return s.engine, s.spans
}

// cpuTime returns the time that the process has computed.
func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkMetrics(b *testing.B) {
	e, spans := benchEngine(b)
	for _, q := range []string{
		"{} | rate()",
		"{} | rate() by (resource.service.name)",
		"{} | quantile_over_time(duration, .99) by (resource.service.name)",
		"{} | count_over_time() by (name)",
		"{} | rate() by (span.http.route)",
		"{} | rate() by (resource.service.name, status)",
		"{status = error} | rate() by (resource.service.name)",
		"{} | histogram_over_time(duration)",
		"{} | avg_over_time(span.thread.id)",
		"{nestedSetParent < 0} | rate() by (resource.service.name)",
		"{status = error} && {duration > 10ms} | rate()",
		`{resource.service.name = "service-3"} | compare({status = error})`,
	} {
		b.Run(q, func(b *testing.B) {
			r := traceql.MetricsRequest{Tenant: "default", Query: q, Start: t0, End: t0 + benchHour, Step: 15 * second}
			before, n := cpuTime(b), 0
			for b.Loop() {
				res, err := e.Metrics(context.Background(), r)
				require.NoError(b, err)
				require.NotEmpty(b, res.Series)
				n++
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n)/float64(spans), "cpu-ns/span")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(spans), "ns/span")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms")
		})
	}
}

func BenchmarkSearch(b *testing.B) {
	e, _ := benchEngine(b)
	for _, q := range []string{
		`{}`,
		`{resource.service.name = "service-7" && name = "GET /api/7/thing3"}`,
		`{resource.service.name = "service-7" && status = error}`,
		`{resource.service.name = "service-7" && duration > 60ms}`,
		`{resource.service.name = "service-7" && span.user.id = "user-0012345"}`,
		`{span.user.id = "user-0012345"}`,
		`{.user.id = "user-0012345"}`,
		`{span.user.id = "user-none"}`,
		`{span.http.route = "/none"}`,
		`{name =~ "GET /api/7.*" && status = error}`,
		`{resource.service.name = "service-7"} >> {status = error}`,
		`{resource.service.name = "service-7" && status = error} && {resource.service.name = "service-8" && status = error}`,
		`{} | count() > 41`,
		`{rootServiceName = "service-7" && status = error}`,
		`{traceDuration > 2s}`,
		`{event.exception.type = "Refused"}`,
	} {
		b.Run(q, func(b *testing.B) {
			r := traceql.SearchRequest{Tenant: "default", Query: q, Start: t0, End: t0 + 2*benchHour, Limit: 20}
			found := 0
			for b.Loop() {
				res, err := e.Search(context.Background(), r)
				require.NoError(b, err)
				require.Empty(b, res.Stats.Partial)
				found = len(res.Traces)
			}
			b.ReportMetric(float64(found), "traces")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms")
		})
	}
}

func BenchmarkTags(b *testing.B) {
	e, _ := benchEngine(b)
	ctx := context.Background()
	b.Run("names", func(b *testing.B) {
		for b.Loop() {
			_, err := e.Tags(ctx, traceql.TagsRequest{Tenant: "default"})
			require.NoError(b, err)
		}
	})
	for _, name := range []string{"resource.service.name", "name", "span.http.route", "span.user.id", "status"} {
		b.Run(name, func(b *testing.B) {
			r := traceql.TagsRequest{Tenant: "default", Name: name, Start: t0, End: t0 + 2*benchHour}
			for b.Loop() {
				res, err := e.TagValues(ctx, r)
				require.NoError(b, err)
				require.NotEmpty(b, res.Values)
			}
		})
	}
	b.Run("operations", func(b *testing.B) {
		for b.Loop() {
			_, _, err := e.Operations(ctx, traceql.OperationsRequest{Tenant: "default", Service: "service-7", Kind: -1})
			require.NoError(b, err)
		}
	})
}
