package rows

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/signal"
)

// serviceBatch returns n spans as 20 services send them: 26 spans a trace, about
// nine attributes a span, few events.
func serviceBatch(r *rand.Rand, n int, now int64) *signal.Spans {
	const perTrace, perService = 26, 10
	b := &signal.Spans{}
	str := func(i int, key, value string) {
		b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, key), Type: signal.AttrString, Num: signal.PackRange(put(b, value))})
		b.AttrEnd[i] = uint32(len(b.Attrs))
	}
	num := func(i int, key string, v uint64) {
		b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, key), Type: signal.AttrInt, Num: v})
		b.AttrEnd[i] = uint32(len(b.Attrs))
	}
	traces := make([]signal.TraceID, max(1, n/perTrace))
	for i := range traces {
		binary.LittleEndian.PutUint64(traces[i][:8], r.Uint64())
		binary.LittleEndian.PutUint64(traces[i][8:], r.Uint64())
	}
	for i := range n {
		if i%perService == 0 {
			svc := r.IntN(20)
			res := signal.Resource{AttrBegin: uint32(len(b.Attrs))}
			for _, kv := range [][2]string{
				{"service.name", fmt.Sprintf("service-%d", svc)}, {"service.version", "1.2.3"},
				{"k8s.pod.name", fmt.Sprintf("service-%d-%d", svc, r.IntN(10))}, {"deployment.environment", "production"},
			} {
				b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, kv[0]), Type: signal.AttrString, Num: signal.PackRange(put(b, kv[1]))})
			}
			res.AttrEnd = uint32(len(b.Attrs))
			b.Resources = append(b.Resources, res)
			b.Scopes = append(b.Scopes, signal.Scope{Resource: uint32(len(b.Resources) - 1), Name: put(b, "otelhttp"), Version: put(b, "0.50.0")})
		}
		*b = withRow(b)
		b.Scope[i] = uint32(len(b.Scopes) - 1)
		b.TraceIDs[i] = traces[r.IntN(len(traces))]
		binary.LittleEndian.PutUint64(b.SpanIDs[i][:], r.Uint64())
		if i > 0 {
			b.Parents[i] = b.SpanIDs[r.IntN(i)]
		}
		b.Starts[i] = now + r.Int64N(1e9)
		b.Ends[i] = b.Starts[i] + r.Int64N(1e8)
		route := r.IntN(30)
		b.Names[i], b.Kinds[i], b.Flags[i] = put(b, fmt.Sprintf("GET /api/v1/thing%d", route)), uint8(1+route%5), 0x101
		b.AttrBegin[i], b.AttrEnd[i] = uint32(len(b.Attrs)), uint32(len(b.Attrs))
		str(i, "http.request.method", "GET")
		str(i, "http.route", fmt.Sprintf("/api/v1/thing%d", route))
		num(i, "http.response.status_code", 200)
		str(i, "server.address", fmt.Sprintf("10.0.0.%d", r.IntN(200)))
		num(i, "server.port", 8080)
		str(i, "url.scheme", "https")
		str(i, "user_agent.original", fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) agent %d", r.IntN(40)))
		str(i, "user.id", fmt.Sprintf("user-%d", r.IntN(1_000_000)))
		num(i, "thread.id", r.Uint64N(64))
		if r.IntN(100) == 0 {
			b.Statuses[i] = 2
			b.Messages[i] = put(b, "connection refused")
			e := signal.Event{Time: b.Starts[i], Name: put(b, "exception"), AttrBegin: uint32(len(b.Attrs))}
			b.Attrs = append(b.Attrs, signal.Attr{Key: put(b, "exception.stacktrace"), Type: signal.AttrString, Num: signal.PackRange(put(b, "goroutine 1 [running]: main.main()"))})
			e.AttrEnd = uint32(len(b.Attrs))
			b.EventBegin[i], b.EventEnd[i] = uint32(len(b.Events)), uint32(len(b.Events)+1)
			b.Events = append(b.Events, e)
		}
	}
	return b
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 8000} {
		b.Run(fmt.Sprint("batch=", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 2))
			batches := make([]*signal.Spans, 128_000/n)
			for i := range batches {
				batches[i] = serviceBatch(r, n, int64(i)*1e9)
			}
			b.ReportAllocs()
			var bytes int
			spans := 0
			for b.Loop() {
				tab := NewTable(DefaultConfig())
				for _, batch := range batches {
					added, _, err := tab.Append(batch)
					if err != nil {
						b.Fatal(err)
					}
					spans += added
				}
				bytes = tab.Bytes()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(spans), "ns/span")
			b.ReportMetric(float64(bytes)/float64(spans/b.N), "bytes/span")
		})
	}
}

func benchTable(b *testing.B, batches, n int) *TableView {
	r := rand.New(rand.NewPCG(1, 2))
	tab := NewTable(DefaultConfig())
	for i := range batches {
		_, _, err := tab.Append(serviceBatch(r, n, int64(i)*1e9))
		require.NoError(b, err)
	}
	return tab.Snapshot()
}

func BenchmarkScan(b *testing.B) {
	view := benchTable(b, 16, 8000)
	sp, _ := view.Space()
	col, ok := sp.FindColumn(ColumnInfo{Key: "http.response.status_code", Type: signal.AttrInt})
	require.True(b, ok)
	var c Cursor
	b.ReportAllocs()
	found, rows := 0, 0
	for b.Loop() {
		for _, g := range view.Groups() {
			if err := c.Seek(g); err != nil {
				b.Fatal(err)
			}
			v, err := c.Column(col)
			if err != nil {
				b.Fatal(err)
			}
			of, err := c.RowsOf(col)
			if err != nil {
				b.Fatal(err)
			}
			durations, err := c.Durations()
			if err != nil {
				b.Fatal(err)
			}
			for i, num := range v.Nums {
				if num == 200 && durations[of[i]] > 1000 {
					found++
				}
			}
			rows += len(durations)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/span")
}

func BenchmarkAppendRun(b *testing.B) {
	view := benchTable(b, 16, 8000)
	runs := allRuns(b, view)
	var c Cursor
	var out signal.Spans
	b.Run("in order", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			out.Reset()
			if err := AppendRun(&out, &c, runs[i%len(runs)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("anywhere", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			out.Reset()
			if err := AppendRun(&out, &c, runs[i*7919%len(runs)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
