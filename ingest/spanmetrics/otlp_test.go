package spanmetrics

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/ingest/sampling"
	"github.com/vedette-io/vedette/ingest/wire"
)

// OTLP, decoded as a door does it and sampled by its head, is counted.
func TestOTLP(t *testing.T) {
	const traces = 400
	td := ptrace.NewTraces()
	services := map[string]ptrace.SpanSlice{}
	for _, name := range []string{"shop", "cart"} {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", name)
		rs.Resource().Attributes().PutInt("shard", 7)
		services[name] = rs.ScopeSpans().AppendEmpty().Spans()
	}
	rng := rand.New(rand.NewPCG(5, 6))
	random := func(b []byte) {
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}
	wanted := 0
	for range traces {
		var id pcommon.TraceID
		random(id[:])
		if sampling.Randomness([16]byte(id)) >= sampling.Threshold(0.5) {
			wanted++
		}
		var parent pcommon.SpanID
		span := func(service, name string, kind ptrace.SpanKind) {
			s := services[service].AppendEmpty()
			s.SetTraceID(id)
			s.SetParentSpanID(parent)
			random(parent[:])
			s.SetSpanID(parent)
			s.SetName(name)
			s.SetKind(kind)
			now := time.Now()
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Second)))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
			s.TraceState().FromRaw("ot=th:8")
			s.Attributes().PutStr("http.route", "/"+name)
		}
		span("shop", "root", ptrace.SpanKindServer)
		span("shop", "call", ptrace.SpanKindClient)
		span("cart", "serve", ptrace.SpanKindServer)
	}
	payload, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)

	r := newRig(t, func(c *Config) { c.Dimensions = []string{"shard", "http.route"} })
	cfg := sampling.DefaultConfig()
	cfg.Probability = 0.5
	head := sampling.NewHead(cfg, prometheus.NewRegistry())
	d := otlptraces.New()
	require.NoError(t, d.Decode(buffer.FormatOTLPTraces, payload, wire.Limits{KeepTrace: head.KeepTrace("default")}))
	spans := &d.Result().Spans
	spans.Tenant = "default"
	require.Equal(t, 3*wanted, spans.Len())
	r.Observe(0, spans)
	got := r.write()
	require.Len(t, only(got, "spanmetrics_calls_total"), 3)
	require.Len(t, only(got, "spanmetrics_calls_total", `http_route="/serve"`, `service="cart", shard="7"`, fmt.Sprintf("} %d", 2*wanted)), 1, "each stands for two")
	require.Equal(t, []string{
		edge("total", "shop", "cart", "", fmt.Sprint(wanted)), edge("total", "user", "shop", "virtual_node", fmt.Sprint(wanted)),
	}, only(got, "service_graph_request_total"))
}
