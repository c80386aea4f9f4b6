package spanmetrics

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// TestGrafana asks what Grafana's service graph view asks, and what the
// documentation shows.
func TestGrafana(t *testing.T) {
	values := map[string][]string{}
	var order []string
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		shop, cart := newService(t, "shop"), newService(t, "cart")
		for minute := range 2 {
			for i := range 60 * (minute + 1) {
				ctx, _ := shop.span(t.Context(), "GET /cart", trace.SpanKindServer, 90*time.Millisecond)
				ctx, _ = shop.span(ctx, "cart.Get", trace.SpanKindClient, 80*time.Millisecond)
				if i%10 == 0 {
					ctx = cart.failed(ctx, "cart.Get", trace.SpanKindServer, 60*time.Millisecond)
				} else {
					ctx, _ = cart.span(ctx, "cart.Get", trace.SpanKindServer, 60*time.Millisecond)
				}
				cart.span(ctx, "SELECT", trace.SpanKindClient, 5*time.Millisecond, attribute.String("db.system", "postgresql"), attribute.String("db.name", "carts"))
			}
			r.Observe(0, batch(shop, cart))
			for _, line := range r.write() {
				at := strings.LastIndex(line, " ")
				if values[line[:at]] == nil {
					order = append(order, line[:at])
				}
				values[line[:at]] = append(values[line[:at]], line[at+1:])
			}
			time.Sleep(time.Minute)
		}
	})
	script := "load 1m\n"
	for _, name := range order {
		require.Len(t, values[name], 2)
		script += "  " + name + " " + strings.Join(values[name], " ") + "\n"
	}
	eval := func(query string, want ...string) {
		script += fmt.Sprintf("\neval instant at 1m %s\n", query)
		for _, w := range want {
			script += "  " + w + "\n"
		}
	}
	// The graph, and the table below it.
	eval(`sum by (client, server) (increase(traces_service_graph_request_total[2m]))`,
		`{client="user",server="shop"} 180`, `{client="shop",server="cart"} 180`, `{client="cart",server="carts"} 180`)
	eval(`sum by (client, server) (increase(traces_service_graph_request_failed_total[2m]))`,
		`{client="user",server="shop"} 0`, `{client="shop",server="cart"} 18`, `{client="cart",server="carts"} 0`)
	eval(`sum(rate(traces_service_graph_request_server_seconds_sum{server="cart"}[2m])) / sum(rate(traces_service_graph_request_total{server="cart"}[2m]))`, `{} 0.06`)
	eval(`topk(5, sum(rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[2m])) by (span_name))`,
		`{span_name="GET /cart"} 1.5`, `{span_name="cart.Get"} 1.5`)
	eval(`topk(5, sum(rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR",span_kind="SPAN_KIND_SERVER"}[2m])) by (span_name))`,
		`{span_name="cart.Get"} 0.15`)
	eval(`histogram_quantile(.9, sum(rate(traces_spanmetrics_latency_bucket{service="cart",span_name=~"cart.Get",span_kind="SPAN_KIND_SERVER"}[2m])) by (le))`, `{} 0.095`)
	// The share of failed requests of each service.
	eval(`sum by (service) (rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"}[2m]))
	 / sum by (service) (rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[2m]))`, `{service="cart"} 0.1`)
	script = strings.ReplaceAll(script, "\n\t /", " /")
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, EnableAtModifier: true})
	promqltest.RunTest(t, script, engine)
}
