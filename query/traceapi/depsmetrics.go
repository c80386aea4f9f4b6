package traceapi

import (
	"context"
	"fmt"
	"math"
	"time"

	prom "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
)

// MetricDependencies takes the service graph from the series that are counted
// while spans come in, traces_service_graph_request_total and
// traces_service_graph_request_failed_total. The engine lets each query wait for
// its turn.
type MetricDependencies struct {
	Engine    *promql.Engine
	Queryable storage.Queryable
	// Fallback is asked if there are no such series; there are no edges if it is
	// nil.
	Fallback Dependencies
}

// Edges counts the calls between both times.
func (d MetricDependencies) Edges(ctx context.Context, id string, start, end int64) ([]Edge, error) {
	counts := make(edgeCounts)
	for _, q := range [...]struct {
		series string
		add    func(e *Edge, n int64)
	}{
		{"traces_service_graph_request_total", func(e *Edge, n int64) { e.Calls += n }},
		{"traces_service_graph_request_failed_total", func(e *Edge, n int64) { e.Errors += n }},
	} {
		vector, err := d.increase(tenant.NewContext(ctx, id), q.series, start, end)
		if err != nil {
			return nil, fmt.Errorf("count edges of the service graph: %w", err)
		}
		for _, s := range vector {
			parent, child := s.Metric.Get("client"), s.Metric.Get("server")
			if parent == "user" && s.Metric.Get("connection_type") == "virtual_node" {
				continue // whoever called the first service is no service
			}
			if n := int64(math.Round(s.F)); n > 0 && parent != "" && child != "" {
				q.add(counts.of(parent, child), n)
			}
		}
	}
	if len(counts) == 0 && d.Fallback != nil {
		return d.Fallback.Edges(ctx, id, start, end)
	}
	return counts.edges(), nil
}

// increase returns by how much a counter has grown, by edge. One that was not
// there at the beginning has grown from zero, which increase() does not know.
func (d MetricDependencies) increase(ctx context.Context, series string, start, end int64) (prom.Vector, error) {
	span := max(time.Duration(end-start).Round(time.Millisecond), time.Millisecond)
	text := fmt.Sprintf("sum by (client, server, connection_type) ((increase(%[1]s[%[2]dms]) and %[1]s offset %[2]dms) or max_over_time(%[1]s[%[2]dms]))",
		series, span.Milliseconds())
	q, err := d.Engine.NewInstantQuery(ctx, d.Queryable, nil, text, time.Unix(0, end))
	if err != nil {
		return nil, err
	}
	defer q.Close()
	vector, err := q.Exec(ctx).Vector()
	if err != nil {
		return nil, err
	}
	return append(prom.Vector(nil), vector...), nil // Close takes the result back
}
