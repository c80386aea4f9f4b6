package report

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/nezha"
)

// Keys of the loads of spans.
const (
	tracesMain  = "main"
	tracesGzip  = "gzip"
	tracesPeers = "peers"
	tracesNezha = "nezha"
)

// traceLoad is one load of spans.
type traceLoad struct {
	key, title string
	config     string // of Vedette, beside the defaults
	peers      bool   // sent to every peer that takes traces, not to Vedette alone
	write      func(path string) (*writtenTraces, error)
}

// writtenTraces is a load, ready to be sent, and what it holds.
type writtenTraces struct {
	spool       *gen.Spool
	facts       *gen.SpanFacts
	traces      int              // of all spans
	words       map[string]int64 // spans by a word of db.query.text; nil if they have none
	raw         int64            // bytes before compression
	services    []string         // of all spans, sorted
	first, last int64            // starts of the first and of the last span that facts know, unix nanoseconds
}

// mergeSoon lets the blocks of a small load be merged without waiting for minutes
// for what never comes.
const mergeSoon = "trace_store: {flush_interval: 10s, merge_interval: 20s}\n"

// traceLoads are the loads of the scenario: what is to be reached with so many
// spans, a tenth of them as SDKs and Collectors compress them, a tenth of them for
// peers that take more time, and the recorded ones.
func traceLoads(spans int, nezhaDir string) []traceLoad {
	tenth := max(1000, spans/10)
	made := func(n int, plain bool, seed uint64) func(string) (*writtenTraces, error) {
		return func(path string) (*writtenTraces, error) { return writeMadeSpans(path, n, plain, seed) }
	}
	loads := []traceLoad{
		{key: tracesMain, title: fmt.Sprintf("%.1f million spans over an hour", float64(spans)/1e6), write: made(spans, true, seed)},
		{key: tracesGzip, title: fmt.Sprintf("%.1f million spans, gzip", float64(tenth)/1e6), config: mergeSoon, write: made(tenth, false, seed+1)},
		{key: tracesPeers, title: fmt.Sprintf("%.2f million spans", float64(tenth)*0.8/1e6), config: mergeSoon, peers: true, write: made(tenth*4/5, true, seed+2)},
	}
	if nezhaDir != "" {
		loads = append(loads, traceLoad{key: tracesNezha, title: "recorded spans of Online Boutique and Train Ticket", config: mergeSoon,
			write: func(path string) (*writtenTraces, error) { return writeNezha(path, nezhaDir) }})
	}
	return loads
}

func writeMadeSpans(path string, spans int, plain bool, seed uint64) (*writtenTraces, error) {
	o := gen.SpanOptions{Spans: spans, Duration: time.Hour, EndNanos: time.Now().UnixNano(), Seed: seed}
	if !plain {
		o.PlainFrom = 2 * spans
	}
	spool, truth, err := gen.WriteSpanSpool(path, o)
	if err != nil {
		return nil, err
	}
	return &writtenTraces{spool: spool, facts: truth.SpanFacts, traces: truth.Traces(), services: truth.Services(), words: truth.Words, raw: truth.Bytes, first: truth.First, last: truth.Last}, nil
}

// nezhaRequest is how many spans a request of recorded spans has.
const nezhaRequest = 1000

// writeNezha writes all recorded spans; questions are asked about those of the
// first archive, which is the larger one.
func writeNezha(path, dir string) (*writtenTraces, error) {
	o, err := nezha.DefaultOptions(dir, "")
	if err != nil {
		return nil, err
	}
	w := &writtenTraces{facts: gen.NewSpanFacts()}
	services, traces := map[string]bool{}, map[gen.TraceID]bool{}
	w.spool, err = gen.CollectSpool(path, func(add func([]byte, gen.Request) error) error {
		p := nezha.NewPacker(nezhaRequest, func(body []byte, spans int) error {
			w.raw += int64(len(body))
			return add(body, gen.Request{Samples: spans, Raw: len(body), Plain: true})
		})
		for i, file := range o.Files {
			_, err := nezha.Read(file, func(s *nezha.Span) error {
				services[s.Service()], traces[s.Trace] = true, true
				if i == 0 {
					w.note(s)
				}
				return p.Add(s)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(file), err)
			}
		}
		return p.Flush()
	})
	w.services, w.traces = slices.Sorted(maps.Keys(services)), len(traces)
	return w, err
}

func (w *writtenTraces) note(s *nezha.Span) {
	if w.first == 0 || s.Start < w.first {
		w.first = s.Start
	}
	w.last = max(w.last, s.Start)
	w.facts.Span(w.facts.Trace(s.Trace), s.Service(), s.Name, s.Start, s.End-s.Start)
}
