package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
)

// Latency is how long one query took.
type Latency struct {
	Title string        `json:"title"`
	Runs  int           `json:"runs"`
	P50   time.Duration `json:"p50_nanos"`
	P95   time.Duration `json:"p95_nanos"`
	Bytes int           `json:"bytes"` // of the answer
	// Refused is what the server said instead of answering.
	Refused string `json:"refused,omitempty"`
}

// Bounds of one latency measurement.
const (
	latencyRuns = 20
	latencyTime = 12 * time.Second
)

// latencies measures the queries that dashboards and alerts ask most, over what
// the scenario has stored, at most the last four hours.
func (x *run) latencies(ctx context.Context) ([]Latency, error) {
	end := x.spool.EndMillis
	length := min(4*time.Hour, time.Duration(x.s.Scrapes)*gen.IntervalMillis*time.Millisecond)
	start := end - length.Milliseconds()
	ranged := func(query string) string {
		return "/api/v1/query_range?" + client.RangeParams(query, start, end, time.Minute)
	}
	instant := func(query string) string { return "/api/v1/query?" + client.InstantParams(query, end) }
	span := fmt.Sprintf("last %s", length)
	asked := []struct{ title, path string }{
		{"`sum by (mode)(rate(cpu[5m]))`, " + span + " / 60 s", ranged(`sum by (mode) (rate(node_cpu_seconds_total[5m]))`)},
		{fmt.Sprintf("`histogram_quantile` over %d buckets, same range", 20*x.s.Targets), ranged(`histogram_quantile(0.99, sum by (le) (rate(` + gen.HistogramMetric + `_bucket[5m])))`)},
		{"`sum(rate({__name__=~\"node_.*_total\"}[5m]))`, same range", ranged(`sum(rate({__name__=~"node_.*_total"}[5m]))`)},
		{"instant `sum by (mode)(rate(cpu[5m]))`", instant(`sum by (mode) (rate(node_cpu_seconds_total[5m]))`)},
		{fmt.Sprintf("instant, raw %s of one target", length), instant(fmt.Sprintf(`{instance=%q}[%ds]`, gen.Instance(x.s.Targets/2), int(length.Seconds())))},
	}
	var out []Latency
	for _, q := range asked {
		l, err := x.latency(ctx, q.path)
		if err != nil {
			return nil, fmt.Errorf("measure query %s: %w", q.title, err)
		}
		l.Title = q.title
		out = append(out, l)
	}
	return out, nil
}

// latency asks once to warm up and then until enough runs are measured.
func (x *run) latency(ctx context.Context, path string) (Latency, error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	var (
		l     Latency
		took  []time.Duration
		began = time.Now()
	)
	for i := range latencyRuns + 1 {
		start := time.Now()
		body, err := client.Fetch(ctx, c, x.p.URL+path)
		var refused *client.StatusError
		if errors.As(err, &refused) {
			return Latency{Refused: refused.Message}, nil
		}
		if err != nil {
			return l, err
		}
		if i > 0 {
			took = append(took, time.Since(start))
		}
		l.Bytes = len(body)
		if len(took) >= 3 && time.Since(began) > latencyTime {
			break
		}
	}
	slices.Sort(took)
	l.Runs = len(took)
	l.P50, l.P95 = took[len(took)/2], took[len(took)*95/100]
	return l, nil
}
