package crash

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// read puts the spans of one trace out of requests together, as a server would.
func read(t *testing.T, w *spanWriter, id [16]byte, requests ...int) ptrace.Traces {
	t.Helper()
	out := ptrace.NewTraces()
	spans := out.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for _, k := range requests {
		body, err := w.request(k)
		require.NoError(t, err)
		req := ptraceotlp.NewExportRequest()
		require.NoError(t, req.UnmarshalProto(body))
		require.EqualValues(t, spansIn(k), req.Traces().SpanCount())
		for _, s := range req.Traces().ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
			if s.TraceID() == id {
				s.CopyTo(spans.AppendEmpty())
			}
		}
	}
	return out
}

func TestCompareSpansFindsEveryFault(t *testing.T) {
	w := &spanWriter{id: 1, seed: 7, start: 1_800_000_000_000_000_000, fates: []fate{acknowledged, acknowledged, unknown}}
	spans := func(got ptrace.Traces) ptrace.SpanSlice {
		return got.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
	}
	for _, c := range []struct {
		name    string
		request int
		have    []int
		spoil   func(ptrace.SpanSlice)
		want    Verdict
		found   int64
	}{
		{"as sent", 0, []int{0, 1}, nil, Verdict{Compared: 25}, 25},
		{"late ones lost", 0, []int{0}, nil, Verdict{Compared: 25, Lost: 5}, 20},
		{"all lost", 0, nil, nil, Verdict{Compared: 25, Lost: 25}, 0},
		{"unknown late ones absent", 1, []int{1}, nil, Verdict{Compared: 20}, 20},
		{"unknown late ones there", 1, []int{1, 2}, nil, Verdict{Compared: 20}, 25},
		{"unknown absent", 2, nil, nil, Verdict{}, 0},
		{"one twice", 0, []int{0, 1}, func(s ptrace.SpanSlice) { s.At(3).CopyTo(s.AppendEmpty()) }, Verdict{Compared: 25, Doubled: 1}, 25},
		{"another name", 0, []int{0, 1}, func(s ptrace.SpanSlice) { s.At(3).SetName("x") }, Verdict{Compared: 25, Altered: 1}, 25},
		{"never sent", 0, []int{0, 1}, func(s ptrace.SpanSlice) { s.AppendEmpty().SetSpanID([8]byte{1}) }, Verdict{Compared: 25, Foreign: 1}, 25},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := read(t, w, w.traceID(c.request, 3), c.have...)
			if c.spoil != nil {
				c.spoil(spans(got))
			}
			var v Verdict
			require.Equal(t, c.found, w.compare(&v, got, c.request, 3, 0))
			v.Examples = nil
			require.Equal(t, c.want, v)
		})
	}
	// Only what requests from the given one on carry is compared.
	var v Verdict
	require.EqualValues(t, 5, w.compare(&v, read(t, w, w.traceID(0, 3), 0, 1), 0, 3, 1))
	require.EqualValues(t, 5, v.Compared)
}

// TestVedetteKeepsSpans is a short run of vedette-bench crash --traces.
func TestVedetteKeepsSpans(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and kills it four times; skipped with -short")
	}
	o := DefaultSpanOptions(buildVedette(t), t.TempDir())
	o.Rounds, o.MinLoad, o.MaxLoad = 4, 50*time.Millisecond, 400*time.Millisecond
	runSpans(t, o)
}

// TestVedetteOnKafkaKeepsSpans is the same with Kafka as the buffer.
func TestVedetteOnKafkaKeepsSpans(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server and kills it twice; skipped with -short")
	}
	if why := kafkatest.Missing(); why != "" {
		t.Skip(why)
	}
	broker, err := peer.StartBroker(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Kill()) })
	o := DefaultSpanOptions(buildVedette(t), t.TempDir()).WithKafka(broker)
	o.Rounds, o.MinLoad, o.MaxLoad = 2, 50*time.Millisecond, 300*time.Millisecond
	runSpans(t, o)
}

func buildVedette(t *testing.T) peer.Spec {
	t.Helper()
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	require.NoError(t, err)
	return spec
}

// runSpans fails the test if anything acknowledged is not as it was sent.
func runSpans(t *testing.T, o Options) {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	rep, err := RunSpans(t.Context(), o)
	require.NoError(t, err, "seed %d", o.Seed)
	require.Positive(t, rep.Acked())
	judge(t, o, rep)
}
