package spanmetrics

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/internal/signal"
)

// traffic makes batches of traces over 20 services whose spans have 12
// attributes; half of the spans are clients and servers.
func traffic(tb testing.TB, batches, traces int) (list []*signal.Spans) {
	var services []*service
	for i := range 20 {
		services = append(services, newService(tb, fmt.Sprintf("service-%d", i), common("resource", 14)...))
	}
	attrs := common("http.request.header", 12)
	for range batches {
		for i := range traces {
			ctx, at := context.Background(), i
			for depth := range 6 {
				a, b := services[at%20], services[(at+depth+1)%20]
				op := fmt.Sprintf("GET /api/v1/things/%d", depth)
				ctx, _ = a.span(ctx, op, trace.SpanKindServer, time.Duration(10+i+depth)*time.Millisecond, attrs...)
				a.span(ctx, "validate", trace.SpanKindInternal, time.Millisecond, attrs...)
				a.span(ctx, "query", trace.SpanKindClient, 3*time.Millisecond, append(attrs, attribute.String("db.system", "postgresql"), attribute.String("db.name", "orders"))...)
				ctx, _ = b.span(ctx, op, trace.SpanKindClient, time.Duration(10+i+depth)*time.Millisecond, attrs...)
				at += depth + 1
			}
		}
		list = append(list, batch(services...))
	}
	return list
}

func common(prefix string, n int) (list []attribute.KeyValue) {
	for i := range n {
		list = append(list, attribute.String(fmt.Sprintf("%s.attribute.%d", prefix, i), "some value or other"))
	}
	return list
}

func BenchmarkObserve(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*Config)
	}{
		{"classic", nil},
		{"native", func(c *Config) { c.Histograms = HistogramsNative }},
		{"dimensions", func(c *Config) { c.Dimensions = []string{"http.request.header.attribute.3", "resource.attribute.2"} }},
		{"no_graph", func(c *Config) { c.ServiceGraph.Enabled = false }},
		{"overflow", func(c *Config) { c.MaxSeries = 10 }},
	} {
		b.Run(c.name, func(b *testing.B) {
			list := traffic(b, 8, 20)
			r := newRig(b, func(cfg *Config) {
				cfg.MaxAge = time.Hour
				if c.change != nil {
					c.change(cfg)
				}
			})
			spans := 0
			for _, batch := range list {
				r.Observe(0, batch)
				spans += batch.Len()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Observe(0, list[i%len(list)])
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(spans/len(list)), "ns/span")
		})
	}
}
