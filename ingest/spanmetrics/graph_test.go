package spanmetrics

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/internal/signal"
)

func counts(lines []string) []string {
	return append(only(lines, "request_total"), only(lines, "failed_total")...)
}

func edge(name, client, server, kind, value string) string {
	if kind != "" {
		kind = `connection_type="` + kind + `", `
	}
	return `{__name__="traces_service_graph_request_` + name + `", client="` + client + `", ` + kind + `server="` + server + `"} ` + value
}

func TestPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // halves expire after 10 s
		frontend, cart := newService(t, "frontend"), newService(t, "cart")
		r := newRig(t, func(c *Config) { c.Buckets = []float64{.01, .1, 1} })

		// In one batch, across batches, and the child first.
		ctx, _ := frontend.span(t.Context(), "call", trace.SpanKindClient, 200*time.Millisecond)
		cart.span(ctx, "GET", trace.SpanKindServer, 50*time.Millisecond)
		r.Observe(0, batch(frontend, cart))

		ctx, _ = frontend.span(t.Context(), "call", trace.SpanKindClient, 200*time.Millisecond)
		r.Observe(0, batch(frontend))
		cart.span(ctx, "GET", trace.SpanKindServer, 50*time.Millisecond)
		r.Observe(0, batch(cart))

		ctx, _ = frontend.span(t.Context(), "call", trace.SpanKindClient, 200*time.Millisecond)
		failed := cart.failed(ctx, "GET", trace.SpanKindServer, 50*time.Millisecond)
		cart.span(failed, "inside", trace.SpanKindInternal, 0)
		r.Observe(0, batch(cart))
		require.Equal(t, 1.0, r.metric("pending_spans"))
		r.Observe(0, batch(frontend))
		require.Zero(t, r.metric("pending_spans"))

		got := only(r.write(), "service_graph")
		const ends = `client="frontend", server="cart"} `
		const withLe = `client="frontend", le="%s", server="cart"} %s`
		want := []string{
			`{__name__="traces_service_graph_request_client_seconds_bucket", ` + fmt.Sprintf(withLe, "+Inf", "3"),
			`{__name__="traces_service_graph_request_client_seconds_bucket", ` + fmt.Sprintf(withLe, "0.01", "0"),
			`{__name__="traces_service_graph_request_client_seconds_bucket", ` + fmt.Sprintf(withLe, "0.1", "0"),
			`{__name__="traces_service_graph_request_client_seconds_bucket", ` + fmt.Sprintf(withLe, "1.0", "3"),
			`{__name__="traces_service_graph_request_client_seconds_count", ` + ends + "3",
			`{__name__="traces_service_graph_request_client_seconds_sum", ` + ends + "0.6000000000000001",
			`{__name__="traces_service_graph_request_failed_total", ` + ends + "1",
			`{__name__="traces_service_graph_request_server_seconds_bucket", ` + fmt.Sprintf(withLe, "+Inf", "3"),
			`{__name__="traces_service_graph_request_server_seconds_bucket", ` + fmt.Sprintf(withLe, "0.01", "0"),
			`{__name__="traces_service_graph_request_server_seconds_bucket", ` + fmt.Sprintf(withLe, "0.1", "3"),
			`{__name__="traces_service_graph_request_server_seconds_bucket", ` + fmt.Sprintf(withLe, "1.0", "3"),
			`{__name__="traces_service_graph_request_server_seconds_count", ` + ends + "3",
			`{__name__="traces_service_graph_request_server_seconds_sum", ` + ends + "0.15000000000000002",
			`{__name__="traces_service_graph_request_total", ` + ends + "3",
		}
		require.Equal(t, want, got)
		require.Equal(t, 3.0, r.metric("edges_total", "kind", "paired"))
		require.Equal(t, []Edge{{Client: "frontend", Server: "cart", Calls: 3, Failed: 1}}, r.Edges("default", time.Now().Add(-time.Hour)))
		require.Empty(t, r.Edges("other", time.Time{}))
		// Metadata of RED metrics and of the graph.
		require.Len(t, r.Sink.Metadata(), 6)
	})
}

// A client and a server of Zipkin share an id, and a root's has no parent.
func TestSharedSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // halves expire after 10 s
		front, back := newService(t, "front"), newService(t, "back")
		r := newRig(t, nil)
		shared := attribute.Bool("zipkin.shared", true)
		for _, serverFirst := range []bool{false, true} {
			ctx, client := front.span(t.Context(), "call", trace.SpanKindClient, time.Second, attribute.String("peer.service", "BACK"))
			back.span(ctx, "call", trace.SpanKindServer, time.Second, shared)
			calls, serves := batch(front), batch(back)
			serves.SpanIDs[0], serves.Parents[0] = signal.SpanID(client.SpanContext().SpanID()), signal.SpanID{}
			if serverFirst {
				calls, serves = serves, calls
			}
			r.Observe(0, calls)
			r.Observe(0, serves)
		}
		require.Equal(t, []string{edge("total", "front", "back", "", "2")}, only(r.write(), "service_graph_request_total"))
		require.Zero(t, r.metric("pending_spans"))
	})
}

func TestVirtualNodesAndTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		a, b := newService(t, "a"), newService(t, "b")
		str := attribute.String

		ctx, _ := a.span(t.Context(), "root", trace.SpanKindServer, time.Second)
		a.span(ctx, "query", trace.SpanKindClient, time.Second, str("db.system", "postgresql"), str("db.name", "orders"), str("server.address", "10.0.0.1"))
		a.span(ctx, "get", trace.SpanKindClient, time.Second, str("db.system.name", "redis"), str("db.namespace", "0"))
		a.span(ctx, "call", trace.SpanKindClient, time.Second, str("server.address", "api.example.com"), str("peer.service", "billing"))
		a.span(ctx, "call", trace.SpanKindClient, time.Second, str("server.address", "api.example.com"))
		a.span(ctx, "call", trace.SpanKindClient, time.Second, attribute.Int("server.address", 1))
		a.failed(ctx, "call", trace.SpanKindClient, time.Second)
		b.span(ctx, "no client", trace.SpanKindServer, time.Second)
		b.span(t.Context(), "root", trace.SpanKindConsumer, time.Second)
		r.Observe(3, batch(a, b))
		now := only(r.write(), "service_graph_request_total")
		require.Equal(t, []string{
			edge("total", "a", "orders", "database", "1"),
			edge("total", "a", "redis", "database", "1"),
			edge("total", "user", "a", "virtual_node", "1"),
		}, now)
		require.Equal(t, 5.0, r.metric("pending_spans"))
		// Answered within the wait: a real edge rather than a virtual one.
		ctx, _ = a.span(t.Context(), "call", trace.SpanKindClient, time.Second, str("peer.service", "bee"))
		r.Observe(3, batch(a))
		time.Sleep(9 * time.Second)
		require.Len(t, only(r.write(), "service_graph_request_total"), 3)
		b.span(ctx, "late", trace.SpanKindServer, time.Second)
		r.Observe(3, batch(b))
		time.Sleep(time.Second)
		got := r.write()
		require.ElementsMatch(t, []string{
			edge("total", "a", "api.example.com", "virtual_node", "1"),
			edge("total", "a", "b", "", "1"),
			edge("total", "a", "billing", "virtual_node", "1"),
			edge("total", "a", "orders", "database", "1"),
			edge("total", "a", "redis", "database", "1"),
			edge("total", "user", "a", "virtual_node", "1"),
		}, only(got, "service_graph_request_total"))
		require.Empty(t, only(got, "client_seconds", "user"))
		require.NotEmpty(t, only(got, "server_seconds", "billing"))
		require.Equal(t, 3.0, r.metric("expired_edge_spans_total"))
		require.Equal(t, 3.0, r.metric("edges_total", "kind", "virtual"))
		require.Equal(t, 2.0, r.metric("edges_total", "kind", "database"))
		require.Zero(t, r.metric("pending_spans"))

		// The history outlives the series.
		time.Sleep(time.Hour)
		r.write()
		require.Empty(t, r.write())
		require.Len(t, r.Edges("default", time.Now().Add(-2*time.Hour)), 6)
		require.Empty(t, r.Edges("default", time.Now().Add(-30*time.Minute)))
		a.span(t.Context(), "root", trace.SpanKindServer, time.Second)
		r.Observe(0, batch(a))
		r.write()
		require.Equal(t, []Edge{{Client: "user", Server: "a", Type: "virtual_node", Calls: 1}}, r.Edges("default", time.Now().Add(-30*time.Minute)))
		require.Len(t, r.Edges("default", time.Time{}), 6)
		time.Sleep(25 * time.Hour)
		r.write()
		require.Empty(t, r.Edges("default", time.Time{}))
	})
}

func TestMessaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		shop, mail, audit := newService(t, "shop"), newService(t, "mail"), newService(t, "audit")
		ctx, _ := shop.span(t.Context(), "publish", trace.SpanKindProducer, time.Second)
		r.Observe(0, batch(shop))
		mail.span(ctx, "receive", trace.SpanKindConsumer, time.Second)
		r.Observe(0, batch(mail))
		audit.failed(ctx, "receive", trace.SpanKindConsumer, time.Second)
		r.Observe(0, batch(audit))
		want := []string{
			edge("total", "shop", "audit", "messaging_system", "1"),
			edge("total", "shop", "mail", "messaging_system", "1"),
			edge("failed_total", "shop", "audit", "messaging_system", "1"),
			edge("failed_total", "shop", "mail", "messaging_system", "0"),
		}
		require.Equal(t, want, counts(r.write()))

		// The consumers first.
		ctx, _ = shop.span(t.Context(), "publish", trace.SpanKindProducer, time.Second)
		mail.span(ctx, "receive", trace.SpanKindConsumer, time.Second)
		audit.span(ctx, "receive", trace.SpanKindConsumer, time.Second)
		r.Observe(0, batch(mail, audit))
		r.Observe(0, batch(shop))
		mail.span(ctx, "receive again", trace.SpanKindConsumer, time.Second)
		r.Observe(0, batch(mail))
		require.Equal(t, []string{edge("total", "shop", "audit", "messaging_system", "2"), edge("total", "shop", "mail", "messaging_system", "3")},
			only(r.write(), "service_graph_request_total"))
		time.Sleep(11 * time.Second)
		r.write()
		require.Zero(t, r.metric("pending_spans"))
		require.Zero(t, r.metric("expired_edge_spans_total"))
	})
}

func TestPendingLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // halves expire after 10 s
		r := newRig(t, func(c *Config) { c.ServiceGraph.MaxPending, c.MaxSeries = 10, 3 })
		a, b := newService(t, "a"), newService(t, "b")
		var contexts []context.Context
		for range 25 {
			ctx, _ := a.span(t.Context(), "call", trace.SpanKindClient, time.Second)
			contexts = append(contexts, ctx)
		}
		r.Observe(0, batch(a))
		require.Equal(t, 10.0, r.metric("pending_spans"))
		require.Equal(t, 15.0, r.metric("dropped_edge_spans_total", "reason", "pending"))
		for _, ctx := range contexts[15:] {
			b.span(ctx, "GET", trace.SpanKindServer, time.Second)
		}
		r.Observe(0, batch(b))
		require.Zero(t, r.metric("pending_spans"))
		require.Equal(t, []string{edge("total", "a", "b", "", "10")}, only(r.write(), "service_graph_request_total"))

		// Edges beyond the limit.
		for i := range 6 {
			s := newService(t, fmt.Sprint("s", i))
			s.span(t.Context(), "root", trace.SpanKindServer, time.Second)
			r.Observe(0, batch(s))
		}
		require.Equal(t, []string{
			edge("total", "a", "b", "", "10"),
			`{__name__="traces_service_graph_request_total", client="overflow", otel_metric_overflow="true", server="overflow"} 4`,
			edge("total", "user", "s0", "virtual_node", "1"),
			edge("total", "user", "s1", "virtual_node", "1"),
		}, only(r.write(), "service_graph_request_total"))

		// Many spans that claim to be children of one.
		ctx, _ := a.span(t.Context(), "call", trace.SpanKindClient, time.Second)
		a.out.Reset()
		r.Generator.cfg.ServiceGraph.MaxPending = 1000
		for range 100 {
			b.span(ctx, "GET", trace.SpanKindServer, time.Second)
		}
		big := batch(b)
		big.Tenant = "other"
		r.Observe(0, big)
		require.Equal(t, float64(maxHalves), r.metric("pending_spans"))
	})
}

// More names than a shard keeps: it forgets them and goes on.
func TestNamesLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // halves expire after 10 s
		r := newRig(t, func(c *Config) { c.MaxSeries = 10 })
		a := newService(t, "a")
		for i := range maxNames + 100 {
			a.span(t.Context(), "call", trace.SpanKindClient, time.Second, attribute.String("peer.service", fmt.Sprint("peer", i)))
			if i%1000 == 0 {
				r.Observe(0, batch(a))
			}
		}
		r.Observe(0, batch(a))
		require.InDelta(t, maxNames, r.metric("dropped_edge_spans_total", "reason", "names"), 10)
		b := newService(t, "b")
		ctx, _ := a.span(t.Context(), "call", trace.SpanKindClient, time.Second)
		b.span(ctx, "GET", trace.SpanKindServer, time.Second)
		r.Observe(0, batch(a, b))
		require.Equal(t, []string{edge("total", "a", "b", "", "1")}, only(r.write(), "service_graph_request_total"))
	})
}

// The store of pairs does what a map and a list would.
func TestPairsStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := newPairs(200, 42)
	type id struct {
		trace signal.TraceID
		key   signal.SpanID
	}
	var order []id
	random := func() (x id) {
		binary.LittleEndian.PutUint64(x.trace[:], rng.Uint64N(20))
		x.key[0] = byte(rng.Uint64N(20))
		return x
	}
	for step := range 100_000 {
		x := random()
		at := -1
		for i, o := range order {
			if o == x {
				at = i
				break
			}
		}
		slot := p.find(&x.trace, &x.key)
		require.Equal(t, at >= 0, slot >= 0, "step %d", step)
		switch {
		case at < 0 && p.n < p.max:
			require.NotNil(t, p.add(&x.trace, &x.key))
			order = append(order, x)
		case at >= 0:
			p.remove(slot)
			order = append(order[:at], order[at+1:]...)
		default:
			require.Equal(t, order[0], id{p.list[p.oldest].trace, p.list[p.oldest].key})
			p.removeOldest()
			order = order[1:]
		}
		require.Equal(t, len(order), p.n)
	}
	i := p.oldest
	for _, o := range order {
		require.Equal(t, o, id{p.list[i].trace, p.list[i].key})
		i = p.list[i].newer
	}
	require.Equal(t, int32(-1), i)
	require.LessOrEqual(t, len(p.list), 200)
}

// Partitions observe while flushes run; nothing is lost or counted twice.
func TestConcurrent(t *testing.T) {
	r := newRig(t, nil)
	const partitions, rounds = 4, 50
	var batches []*signal.Spans
	for p := range partitions {
		a, b := newService(t, "a"), newService(t, "b")
		for i := range 20 {
			ctx, _ := a.span(t.Context(), fmt.Sprint("call", i%7), trace.SpanKindClient, time.Duration(p)*time.Second)
			b.span(ctx, "GET", trace.SpanKindServer, time.Second)
		}
		batches = append(batches, batch(a, b))
	}
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for range rounds {
				r.Observe(int32(p), batches[p])
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
			r.write()
			r.Edges("default", time.Time{})
		}
	}
	got := r.write()
	require.Equal(t, []string{edge("total", "a", "b", "", fmt.Sprint(partitions*rounds*20))}, only(got, "service_graph_request_total"))
	require.Equal(t, []string{
		fmt.Sprintf(`{__name__="traces_spanmetrics_calls_total", service="b", span_kind="SPAN_KIND_SERVER", span_name="GET", status_code="STATUS_CODE_UNSET"} %d`, partitions*rounds*20),
	}, only(got, "calls_total", "SERVER"))
	require.Equal(t, uint64(partitions*rounds*20), r.Edges("default", time.Time{})[0].Calls)
}
