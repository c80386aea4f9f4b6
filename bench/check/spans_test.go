package check

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vedette-io/vedette/bench/client"
)

// writtenTraces is a ledger of two acknowledged traces and one without an answer.
func writtenTraces() *traceLedger {
	l := &traceLedger{rng: rand.New(rand.NewPCG(1, 1))}
	for i := range 3 {
		if n := l.add(int64(1000 * i)); i != 2 {
			l.traces[n].acked = time.Unix(0, int64(1000*i+5))
		}
	}
	return l
}

func TestCompareTracesNamesEveryGap(t *testing.T) {
	l := writtenTraces()
	require.Empty(t, l.compareTrace(0, spansPerTrace))
	require.Empty(t, l.compareTrace(2, 0), "no answer, not there")
	for n, got := range map[int]int{0: 0, 1: spansPerTrace - 1, 2: spansPerTrace + 1} {
		require.Len(t, l.compareTrace(n, got), 1)
	}
	require.Len(t, l.compareTrace(2, 1), 1, "half a request")
	require.Empty(t, l.compareTrace(2, spansPerTrace))
	require.Len(t, l.compareTrace(2, 0), 1, "was there once")
}

func TestCompareFoundNamesEveryGap(t *testing.T) {
	l := writtenTraces()
	right := client.Found{ID: l.traces[1].id, Matched: spansPerTrace}
	require.Empty(t, l.compareFound(1, []client.Found{right}))
	require.Empty(t, l.compareFound(2, nil))
	for _, found := range [][]client.Found{nil, {right, right}, {{ID: l.traces[0].id, Matched: spansPerTrace}}, {{ID: right.ID, Matched: 1}}} {
		require.Len(t, l.compareFound(1, found), 1)
	}
}

func TestCompareCountNamesEveryGap(t *testing.T) {
	l := writtenTraces()
	require.Empty(t, l.compareCount(2*spansPerTrace))
	require.Empty(t, l.compareCount(3*spansPerTrace), "the one without an answer is there")
	require.Len(t, l.compareCount(2*spansPerTrace), 1, "it was counted once")
	require.Len(t, l.compareCount(3*spansPerTrace+1), 1)
	require.Len(t, writtenTraces().compareCount(2*spansPerTrace-1), 1)
}

func TestTraceBody(t *testing.T) {
	l := writtenTraces()
	body, err := l.traceBody(1)
	require.NoError(t, err)
	req := ptraceotlp.NewExportRequest()
	require.NoError(t, req.UnmarshalProto(body))
	ids := map[[8]byte]bool{}
	for _, s := range req.Traces().ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		ids[s.SpanID()] = true
		require.EqualValues(t, l.traces[1].id, s.TraceID())
	}
	require.Len(t, ids, spansPerTrace)
}
