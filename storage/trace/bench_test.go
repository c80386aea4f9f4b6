package trace

import (
	"context"
	"math"
	"testing"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
)

// benchBatches makes n batches of about a thousand spans.
func benchBatches(n int) (out []*signal.Spans, spans int) {
	g := newGenerator(1)
	for range n {
		var some []testSpan
		for range 1000 {
			some = append(some, g.span())
		}
		out = append(out, batch("default", some...))
		spans += 1000
	}
	return out, spans
}

// BenchmarkIngest appends, flushes and merges a hundred thousand spans.
func BenchmarkIngest(b *testing.B) {
	batches, spans := benchBatches(100)
	ctx := context.Background()
	b.ReportAllocs()
	for range b.N {
		db := openTest(b, vfs.NewMem(), Options{})
		for i, s := range batches {
			appendAt(b, db, s, int64(i))
			if i%20 == 19 {
				mustFlush(b, db)
			}
		}
		if err := db.Compact(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(db.totals().bytes)/float64(spans), "B/span")
		mustClose(b, db)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*spans), "ns/span")
}

// BenchmarkTraceByID asks ten blocks and a head for traces that are there and for
// some that are not.
func BenchmarkTraceByID(b *testing.B) {
	db := openTest(b, vfs.NewMem(), Options{})
	batches, _ := benchBatches(55)
	for i, s := range batches {
		appendAt(b, db, s, int64(i))
		if i%5 == 4 && i < 50 {
			mustFlush(b, db)
		}
	}
	for _, c := range []struct {
		name string
		id   func(i int) signal.TraceID
	}{
		{"found", func(i int) signal.TraceID { return batches[i%len(batches)].TraceIDs[i%1000] }},
		{"absent", func(i int) signal.TraceID { return traceID(1<<40 + uint64(i)) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var s signal.Spans
			for i := range b.N {
				s.Reset()
				v := db.View("default", math.MinInt64, math.MaxInt64)
				if err := v.Trace(c.id(i), &s); err != nil {
					b.Fatal(err)
				}
				v.Close()
			}
		})
	}
	mustClose(b, db)
}
