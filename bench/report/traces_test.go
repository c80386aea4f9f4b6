package report

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
)

// withTraces adds what the scenario Traces measures.
func withTraces(rep *Report) *Report {
	result := func(load, name string, perMillion float64) TracesResult {
		return TracesResult{
			Load: load, Title: "load " + load, Peer: name, Name: name, Version: "v1", Spans: 1000, Traces: 40, Found: 1000,
			CPU: time.Duration(perMillion * 1e6), Store: peer.Disk{Bytes: 45_000}, Memory: peer.Memory{Peak: 300e6},
			Times: []Latency{{Title: askTrace, P50: 2 * time.Millisecond, P95: 4 * time.Millisecond}, {Title: askAbsent, P50: 2 * time.Millisecond}, {Title: askWord, Refused: "no"}},
		}
	}
	bad := result(tracesNezha, peer.Vedette, 1)
	bad.Wrong = []string{"five\nfingers"}
	rep.Traces = &TracesReport{
		Results: []TracesResult{result(tracesMain, peer.Vedette, 11), result(tracesPeers, peer.Vedette, 12), result(tracesPeers, peer.Jaeger, 190), bad},
		Crashes: []*crash.Report{{Spans: true, Rounds: []crash.Round{{Acked: 2e6}}}, {Spans: true, Buffer: "kafka", Rounds: []crash.Round{{Verdict: crash.Verdict{Doubled: 2}}}}},
	}
	return rep
}

func TestTracesAreShown(t *testing.T) {
	rep := withTraces(sample())
	page := rep.Markdown()
	for _, want := range []string{
		"| spans: server CPU for a million, settled | 11.00 s | 17 | 12 | aim reached |",
		"| spans: bytes on disk each, with indexes | 45.00 bytes | 48 | 42 | within the limit |",
		"| spans: trace by id | 2.00 ms | 3 | 1 | within the limit |",
		"| spans: trace by id, absent | 2.00 ms | 1 | 0.5 | **falls short** |",
		"| spans: a word in db.query.text, rate | not measured |",
		"| spans: acknowledged ones lost or doubled by kill -9 under load | 2 | 0 | 0 | **falls short** |",
		"| spans: answers that are not as what was sent | 1 | 0 | 0 | **falls short** |",
		"|  | vedette | VictoriaTraces, July 2025* | Tempo 3.1-dev* | Jaeger 2.20, badger* |",
		"| server CPU-s per million spans, settled | 11.0 | 33.8 | 58.2 | 196 |",
		"| server CPU-s per million spans, settled | 12.0 | 190.0 |",
		"| trace by id, ms | 2.00 / 4.00 | 27 | 115 | 1.7 |",
		"| a word in db.query.text, rate, ms | refused | 16 | 660 | – |",
		"A wrong answer of vedette: five fingers",
		"| Kafka | 1 | 0.00 million | 0 | 2 |",
	} {
		require.Contains(t, page, want)
	}
	old := sample()
	old.Merge(&Report{Date: old.Date.Add(time.Hour), Command: "later", Machine: old.Machine, Traces: rep.Traces})
	require.Contains(t, old.Markdown(), "| Traces | 15 January 2027, 09:00 UTC | v1 | `later` |")
}

func TestAnswersAboutTracesAreChecked(t *testing.T) {
	want := []gen.FoundTrace{{ID: gen.TraceID{1}}, {ID: gen.TraceID{2}}}
	answer := func(ids ...byte) []byte {
		type trace struct {
			TraceID string `json:"traceID"`
		}
		var a struct {
			Traces []trace `json:"traces"`
		}
		for _, id := range ids {
			a.Traces = append(a.Traces, trace{fmt.Sprintf("%x", gen.TraceID{id})})
		}
		b, err := json.Marshal(a)
		require.NoError(t, err)
		return b
	}
	found := checkFound(want)
	require.NoError(t, found(answer(2, 1)))
	require.ErrorContains(t, found(answer(2)), "got 1 traces, want 2")
	require.ErrorContains(t, found(answer(2, 1, 3)), "not among")
	require.ErrorContains(t, found(answer(2, 1, 1)), "not among")
	require.Error(t, found([]byte("{")))

	series := func(name string, value float64) []byte {
		return fmt.Appendf(nil, `{"series":[{"labels":[{"key":"resource.service.name","value":{"stringValue":%q}}],"value":%g}]}`, name, value)
	}
	counts := checkByService(exactly(map[string]int64{"a": 10}), exactly(map[string]int64{"a": 10}), sum)
	require.NoError(t, counts(series("a", 10)))
	require.ErrorContains(t, counts(series("a", 9)), `service "a": got 9, want 10 to 10`)
	require.ErrorContains(t, counts(series("b", 9)), `service "b"`)
	require.ErrorContains(t, counts([]byte(`{"series":[]}`)), "got 0 services, want 1")

	require.NoError(t, countSpans(2)([]byte(`{"spanId":"a"},{"spanId":"b","parentSpanId":"a"}`)))
	require.Error(t, countSpans(3)([]byte(`{"spanId":"a"}`)))
	require.NoError(t, isEmpty(nil))
	require.Error(t, isEmpty([]byte("{}")))
	names := checkNames([]string{"a", "b"})
	require.NoError(t, names([]byte(`{"data":["b","a"]}`)))
	require.ErrorContains(t, names([]byte(`{"data":[]}`)), "got 0 names, want 2")
}

// TestVedetteAnswersAsSent sends a small load to Vedette and asks all questions,
// in whose answers nothing may be wrong, before and after a flush.
func TestVedetteAnswersAsSent(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the server; skipped with -short")
	}
	spec, err := peer.BuildVedette(t.Context(), "../..", filepath.Join(t.TempDir(), "vedette"))
	require.NoError(t, err)
	p, err := spec.Start(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	_, err = p.WaitReady(t.Context())
	require.NoError(t, err, p.LastWords())
	w, err := writeMadeSpans(filepath.Join(t.TempDir(), "spool"), 30_000, false, 3)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.spool.Close()) })
	sent, err := client.Send(t.Context(), client.OTLP(p.TracesURL()), w.spool, 0, 1, connections)
	require.NoError(t, err)
	require.Zero(t, sent.Rejected)
	for _, when := range []string{"in the head", "in a block"} {
		x := &tracesRun{run: run{Runner: &Runner{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, p: p}, sent: w}
		x.out.Found = -1
		require.NoError(t, x.verify(t.Context()))
		require.NoError(t, x.ask(t.Context()))
		require.Empty(t, x.out.Wrong, when)
		require.Equal(t, w.spool.Samples, x.out.Found)
		require.Len(t, x.out.Times, 14)
		require.NoError(t, p.Flush(t.Context(), p))
	}
}

// TestRecordedTracesAreALoad reads a few lines of the Nezha data set, if it is
// there.
func TestRecordedTracesAreALoad(t *testing.T) {
	dir := os.Getenv("VEDETTE_BENCH_NEZHA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "nezha")
	}
	if _, err := os.Stat(dir); err != nil || testing.Short() {
		t.Skip("the Nezha data set is not there (VEDETTE_BENCH_NEZHA names its directory), or -short")
	}
	w, err := writeNezha(filepath.Join(t.TempDir(), "spool"), dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.spool.Close()) }()
	require.Greater(t, w.spool.Samples, int64(w.facts.Len()))
	require.Contains(t, w.services, "frontend")
	require.Positive(t, w.facts.Quantile("frontend", 0.99))
}

func TestWrongAnswersAreBounded(t *testing.T) {
	x := &tracesRun{run: run{Runner: &Runner{Log: slog.New(slog.DiscardHandler)}, p: new(peer.Process)}}
	for range maxWrong + 3 {
		x.wrong("%s", "no")
	}
	require.Len(t, x.out.Wrong, maxWrong)
}
