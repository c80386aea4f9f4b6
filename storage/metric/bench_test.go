package metric

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	promlabels "github.com/prometheus/prometheus/model/labels"

	"github.com/vedette-io/vedette/internal/signal"
)

// scrapes makes batches as scrapes of targets with 500 series each give them:
// two thirds constant, the rest counters, gauges and noise.
type scrapes struct {
	batches []*signal.Metrics
	rng     *rand.Rand
}

const benchSeries = 500

func newScrapes(targets int) *scrapes {
	s := &scrapes{rng: rand.New(rand.NewPCG(1, 2))}
	for t := range targets {
		var bb batchBuilder
		for i := range benchSeries {
			bb.series(promlabels.FromStrings("__name__", fmt.Sprintf("node_metric_%d_total", i/4), "cluster", "prod-1",
				"cpu", fmt.Sprint(i%4), "instance", fmt.Sprintf("10.0.%d.%d:9100", t/256, t%256), "job", "node", "mode", "user"))
			bb.float(0, float64(i), 0)
		}
		bb.b.Starts = nil
		bb.b.Tenant = "default"
		s.batches = append(s.batches, &bb.b)
	}
	return s
}

func (s *scrapes) next(i int, now int64) *signal.Metrics {
	b := s.batches[i]
	for j := range b.Times {
		b.Times[j] = now + int64(i%1000)
		switch {
		case j%3 != 0:
		case j%9 == 0:
			b.Values[j] = float64(s.rng.IntN(1_000_000)) / 1e9
		case j%9 == 3:
			b.Values[j] += float64(s.rng.IntN(100))
		default:
			b.Values[j] += float64(s.rng.IntN(21) - 10)
		}
	}
	return b
}

// BenchmarkIngest appends scrapes of 400 targets and flushes and merges as the
// store does; an operation is a sample.
func BenchmarkIngest(b *testing.B) {
	const targets = 400
	c := DefaultConfig()
	now := time.Now().Add(-2 * time.Hour).UnixMilli()
	db, err := Open(Options{Dir: b.TempDir(), Config: c})
	if err != nil {
		b.Fatal(err)
	}
	s := newScrapes(targets)
	ctx := context.Background()
	begin := time.Now()
	for t := range targets {
		if _, err := db.AppendMetrics(ctx, s.next(t, now), "s", "m", 0, int64(t)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(begin).Nanoseconds())/targets/benchSeries, "ns/new-series")
	b.ReportAllocs()
	b.ResetTimer()
	offset := int64(targets)
	for i := 0; i < b.N; {
		now += 15_000
		for t := range targets {
			if _, err := db.AppendMetrics(ctx, s.next(t, now), "s", "m", 0, offset); err != nil {
				b.Fatal(err)
			}
			offset++
			i += benchSeries
		}
		if db.buffered.Load() >= int64(c.FlushSamples) {
			if err := db.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			if err := db.Maintain(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := db.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if err := db.Compact(ctx); err != nil {
		b.Fatal(err)
	}
	t := db.totals()
	b.ReportMetric(float64(t.bytes)/float64(offset*benchSeries), "B/sample")
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}
