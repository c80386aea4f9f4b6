package otlptraces

import (
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/otlpspans"
)

// What the Collector reads in random requests is what Decode reads, written anew it
// is still the same, and it survives the way through the buffer.
func TestRandomRequests(t *testing.T) {
	r := New()
	for seed := range uint64(300) {
		td := newRandom(seed).traces()
		body := marshal(t, td)
		want := dumpTraces(td)
		require.NoError(t, r.Decode(buffer.FormatOTLPTraces, body, wire.Limits{}))
		require.False(t, r.Rejects.Any())
		require.Equal(t, want, dump(&r.Spans), "seed %d", seed)

		again, err := unmarshal(otlpspans.AppendRequest(nil, &r.Spans))
		require.NoError(t, err)
		require.Equal(t, want, dumpTraces(again))

		checkReplay(t, r, body, wire.PartOptions{Partitions: 1, Plain: seed%2 == 0})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 5, Plain: seed%2 == 0})
		checkReplay(t, r, body, wire.PartOptions{Partitions: 2, Plain: seed%2 == 0, MaxBytes: 1500})

		require.NoError(t, r.Decode(buffer.FormatOTLPTracesSnappy, s2.EncodeSnappy(nil, body), wire.Limits{}))
		require.Equal(t, want, dump(&r.Spans), "seed %d", seed)
	}
}

// Random requests under narrow limits: what is left survives the buffer, and a
// second decode with the same limits finds nothing more to cut.
func TestRandomCuts(t *testing.T) {
	for seed := range uint64(300) {
		td := newRandom(seed).traces()
		body := marshal(t, td)
		rnd := newRandom(seed + 1000)
		limits := wire.Limits{
			MaxTime: now, MaxAttrs: 1 + rnd.IntN(8), MaxEvents: 1 + rnd.IntN(3), MaxLinks: 1 + rnd.IntN(2),
			MaxAttrBytes: 10 + rnd.IntN(200), MaxSpanBytes: pick(rnd, 0, 400, 1000),
		}
		r := decode(t, body, limits)
		require.Equal(t, td.SpanCount(), r.Spans.Len())
		first := dump(&r.Spans)
		out := otlpspans.AppendRequest(nil, &r.Spans)
		checkReplay(t, r, body, wire.PartOptions{Partitions: 1 + rnd.IntN(3), Plain: true, MaxBytes: pick(rnd, 0, 1200)})
		if limits.MaxSpanBytes == 0 {
			second := decode(t, out, limits)
			require.Equal(t, first, dump(&second.Spans), "seed %d", seed)
			require.Zero(t, second.Cut+second.Skewed)
		}
	}
}

func TestPassThrough(t *testing.T) {
	td := ptrace.NewTraces()
	ss := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	for range 5 {
		newRandom(1).span(ss.Spans().AppendEmpty())
	}
	body := marshal(t, td)
	for _, n := range []int{1, 7} { // all of one trace
		r := decode(t, body, wire.Limits{MaxAttrs: 100})
		parts, err := r.Parts(body, wire.PartOptions{Partitions: n, Plain: true, MaxBytes: len(body)})
		require.NoError(t, err)
		require.Len(t, parts, 1)
		require.Same(t, &body[0], &parts[0].Payload[0])
		require.Equal(t, PartitionOf(r.Spans.TraceIDs[0], n), parts[0].Partition)
		require.Equal(t, []int64{parts[0].MinTime, parts[0].MaxTime}, []int64{r.Spans.Starts[0] / 1e6, r.Spans.Starts[0] / 1e6})
	}
}
