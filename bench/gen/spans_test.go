package gen_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/bench/gen"
)

// The load looks as it says: sizes, services, errors, and trees whose parents are
// there.
func TestSpanSpool(t *testing.T) {
	o := gen.SpanOptions{Spans: 100_000, Duration: time.Hour, EndNanos: 1_800_000_000_000_000_000, Seed: 7}
	spool, truth, err := gen.WriteSpanSpool(filepath.Join(t.TempDir(), "spans"), o)
	require.NoError(t, err)
	defer func() { require.NoError(t, spool.Close()) }()
	require.InDelta(t, 25.8, float64(spool.Samples)/float64(truth.Traces()), 1.5)
	require.InDelta(t, 395, float64(truth.Bytes)/float64(spool.Samples), 10)
	require.Len(t, truth.Services(), len(gen.SpanServices))
	var errs, spans int64
	for _, n := range truth.Counts(false) {
		spans += n
	}
	for _, n := range truth.Counts(true) {
		errs += n
	}
	require.Equal(t, spool.Samples, spans)
	require.InDelta(t, 0.01, float64(errs)/float64(spans), 0.003)
	ids, sizes := map[[8]byte]bool{}, map[[16]byte]int{}
	var parents [][8]byte
	for _, r := range spool.Requests {
		body, err := spool.Body(nil, r)
		require.NoError(t, err)
		request := ptraceotlp.NewExportRequest()
		require.NoError(t, request.UnmarshalProto(body))
		n := 0
		for _, rs := range request.Traces().ResourceSpans().All() {
			require.Equal(t, 16, rs.Resource().Attributes().Len())
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					ids[s.SpanID()] = true
					sizes[s.TraceID()]++
					if !s.ParentSpanID().IsEmpty() {
						parents = append(parents, s.ParentSpanID())
					}
					n++
				}
			}
		}
		require.Equal(t, r.Samples, n)
	}
	for _, p := range parents {
		require.True(t, ids[p], "%x is nobody's parent", p)
	}
	require.Len(t, parents, int(spool.Samples)-truth.Traces())
	require.Len(t, sizes, truth.Traces())
	for _, s := range truth.Samples(50) {
		require.Equal(t, s.Spans, sizes[s.ID])
	}
	for id, n := range sizes {
		require.True(t, n >= 5 && n <= 61, "trace %x has %d spans", id, n)
	}
}
