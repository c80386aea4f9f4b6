package report

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/peer"
)

// TracesKey is the name of the scenario that sends spans.
const TracesKey = "TRACES"

// TracesReport is what the scenario measured.
type TracesReport struct {
	Results []TracesResult `json:"results"`
	// Crashes are rounds of kill -9 under a load of spans, with the embedded buffer
	// and with Kafka.
	Crashes []*crash.Report `json:"crashes,omitempty"`
}

// TracesResult is what one peer did with one load of spans.
type TracesResult struct {
	Load    string `json:"load"`
	Title   string `json:"title"` // of the load
	Peer    string `json:"peer"`
	Name    string `json:"name"` // of the peer, as written in reports
	Version string `json:"version"`

	Spans  int64 `json:"spans"`
	Traces int   `json:"traces"`
	Wire   int64 `json:"wire_bytes"`
	Raw    int64 `json:"raw_bytes"` // before compression

	Sent    client.Sent   `json:"sent"`
	CPU     time.Duration `json:"cpu_nanos"`      // settled
	LoadCPU time.Duration `json:"load_cpu_nanos"` // of which while the load ran
	Settled time.Duration `json:"settled_nanos"`  // waiting after the load

	Memory peer.Memory `json:"memory"`     // once settled
	After  peer.Memory `json:"after"`      // once all queries are answered
	Store  peer.Disk   `json:"store"`      // of spans, indexes included
	Beside peer.Disk   `json:"beside"`     // the rest of the data directory, without the buffer
	Log    peer.Disk   `json:"log"`        // the buffer
	Found  int64       `json:"found"`      // spans that a query counted afterwards; -1: not asked
	Wrong  []string    `json:"wrong"`      // answers that are not as what was sent
	Times  []Latency   `json:"latencies"`  // of queries
	Blocks int         `json:"blocks"`     // that the store has in the end; 0: not known
	Config string      `json:"config_add"` // beside the defaults
}

// PerMillion is the CPU time for a million spans.
func (r *TracesResult) PerMillion() time.Duration {
	return time.Duration(float64(r.CPU) / float64(max(1, r.Spans)) * 1e6)
}

// BytesPerSpan is the size of the store, indexes included, over all spans.
func (r *TracesResult) BytesPerSpan() float64 {
	return float64(r.Store.Bytes) / float64(max(1, r.Spans))
}

// latency returns the figure of a query, nil if it was not asked.
func (r *TracesResult) latency(title string) *Latency {
	for i := range r.Times {
		if r.Times[i].Title == title {
			return &r.Times[i]
		}
	}
	return nil
}

// find returns the result of a peer with a load, nil if there is none.
func (t *TracesReport) find(load, name string) *TracesResult {
	if t == nil {
		return nil
	}
	for i := range t.Results {
		if t.Results[i].Load == load && t.Results[i].Peer == name {
			return &t.Results[i]
		}
	}
	return nil
}

// traceStore is where Vedette keeps spans below its data directory.
const traceStore = "traces"

// RunTraces puts the peers that take traces under every load in turn, handing
// what there is to done after each. nezha is the directory of the Nezha data set.
// Answers of Vedette that are wrong are an error once all is measured.
func (r *Runner) RunTraces(ctx context.Context, spans int, nezha string, done func(*TracesReport) error) error {
	rep := new(TracesReport)
	var wrong []error
	for _, l := range traceLoads(spans, nezha) {
		err := r.runTraceLoad(ctx, l, func(res TracesResult) error {
			if res.Peer == peer.Vedette {
				for _, text := range res.Wrong {
					wrong = append(wrong, fmt.Errorf("load %s: %s", l.key, text))
				}
			}
			rep.Results = append(rep.Results, res)
			return done(rep)
		})
		if err != nil {
			return fmt.Errorf("run scenario %s, load %s: %w", TracesKey, l.key, err)
		}
	}
	return errors.Join(wrong...)
}

// runTraceLoad writes a load and sends it to every peer that is to have it.
func (r *Runner) runTraceLoad(ctx context.Context, l traceLoad, done func(TracesResult) error) (err error) {
	start := time.Now()
	w, err := l.write(filepath.Join(r.WorkDir, "spool-traces-"+l.key))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.spool.Close()) }()
	r.Log.Info("load written", "scenario", TracesKey, "load", l.key, "spans", w.spool.Samples, "traces", w.traces,
		"requests", len(w.spool.Requests), "wire_mb", w.spool.Bytes>>20, "took", time.Since(start).Round(time.Millisecond))
	for _, p := range r.Peers {
		if p.Traces == "" || p.Name != peer.Vedette && !l.peers {
			continue
		}
		res, err := r.runTraces(ctx, p, l, w)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		if err := done(res); err != nil {
			return err
		}
	}
	return nil
}

// tracesRun is one peer with one load of spans.
type tracesRun struct {
	run
	load traceLoad
	sent *writtenTraces
	out  TracesResult
}

func (r *Runner) runTraces(ctx context.Context, spec peer.Spec, l traceLoad, w *writtenTraces) (_ TracesResult, err error) {
	out := TracesResult{
		Load: l.key, Title: l.title, Peer: spec.Name, Name: spec.Title, Version: spec.Version,
		Spans: w.spool.Samples, Traces: w.traces, Wire: w.spool.Bytes, Raw: w.raw, Found: -1,
	}
	if spec.Name == peer.Vedette && l.config != "" {
		spec, out.Config = spec.WithConfig(l.config), l.config
	}
	dir, done, err := r.prepareDir("run-" + TracesKey + "-" + l.key + "-" + spec.Name)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, done()) }()
	p, err := spec.Start(dir)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, p.Kill()) }()
	if _, err := p.WaitReady(ctx); err != nil {
		return out, err
	}
	runner := *r
	runner.Quiet /= 2
	x := &tracesRun{run: run{Runner: &runner, p: p}, load: l, sent: w, out: out}
	for _, step := range []func(context.Context) error{x.ingest, x.verify, x.ask, x.weigh} {
		if err := step(ctx); err != nil {
			return x.out, err
		}
	}
	r.Log.Info("measured", "scenario", TracesKey, "load", l.key, "peer", p.Name, "per_million", x.out.PerMillion().Round(time.Millisecond),
		"bytes_per_span", fmt.Sprintf("%.1f", x.out.BytesPerSpan()), "blocks", x.out.Blocks,
		"peak_mb", x.out.Memory.Peak>>20, "after_queries_mb", x.out.After.Peak>>20, "found", x.out.Found, "wrong", len(x.out.Wrong))
	return x.out, nil
}

// ingest sends the load at full speed and waits until everything is settled.
func (x *tracesRun) ingest(ctx context.Context) error {
	idle, err := x.p.CPU()
	if err != nil {
		return err
	}
	stopProfile := x.profile(ctx, TracesKey+"-"+x.load.key)
	x.out.Sent, err = client.Send(ctx, client.OTLP(x.p.TracesURL()), x.sent.spool, 0, 1, connections)
	if err := errors.Join(err, stopProfile()); err != nil {
		return err
	}
	loaded, err := x.p.CPU()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := x.waitMerged(ctx); err != nil {
		return err
	}
	final, _, err := x.settle(ctx)
	if err != nil {
		return err
	}
	x.out.CPU, x.out.LoadCPU, x.out.Settled = final-idle, loaded-idle, time.Since(start)
	x.out.Memory, err = x.p.Memory()
	x.Log.Info("ingested", "scenario", TracesKey, "load", x.load.key, "peer", x.p.Name, "per_million", x.out.PerMillion().Round(time.Millisecond),
		"load_took", x.out.Sent.Wall.Round(time.Millisecond), "load_cpu", x.out.LoadCPU, "settled_in", x.out.Settled.Round(time.Millisecond),
		"refused", x.out.Sent.Rejected, "retries", x.out.Sent.Retries)
	return err
}

// mergePatience bounds the wait for Vedette's blocks to be merged: what too few
// spans follow waits for five minutes by default.
const mergePatience = 8 * time.Minute

// waitMerged waits until no span of Vedette is in a head or in a fresh block.
func (x *tracesRun) waitMerged(ctx context.Context) error {
	if x.p.Name != peer.Vedette {
		return nil
	}
	patience := min(mergePatience, 6*x.Patience)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < patience; {
		heads, fresh, all, err := x.blocks(ctx)
		if err != nil {
			return err
		}
		if x.out.Blocks = all; heads == 0 && fresh == 0 && all > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	x.Log.Warn("blocks are not merged", "waited", patience)
	return nil
}

// blocks reads from Vedette's metrics how many spans are in heads, and how many
// blocks there are, of level 0 and of all.
func (x *tracesRun) blocks(ctx context.Context) (heads, fresh, all int, err error) {
	body, err := client.Fetch(ctx, http.DefaultClient, x.p.URL+"/metrics")
	if err != nil {
		return 0, 0, 0, err
	}
	const prefix = "vedette_storage_trace_"
	for line := range strings.Lines(string(body)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		var n float64
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if _, err := fmt.Sscan(text, &n); err != nil {
			return 0, 0, 0, fmt.Errorf("read metric %q: %w", line, err)
		}
		switch {
		case name == prefix+"head_spans":
			heads = int(n)
		case name == prefix+`blocks{level="0"}`:
			fresh += int(n)
			all += int(n)
		case strings.HasPrefix(name, prefix+"blocks{"):
			all += int(n)
		}
	}
	return heads, fresh, all, nil
}

// ask measures the latencies of queries. What is asked first of a kind is asked
// of a server that has not answered anything like it.
func (x *tracesRun) ask(ctx context.Context) error {
	kinds := x.vedetteQueries()
	if x.p.Name != peer.Vedette {
		kinds = x.jaegerQueries()
	}
	stopProfile := x.profile(ctx, TracesKey+"-"+x.load.key+"-queries")
	c := client.New(1)
	defer c.CloseIdleConnections()
	for _, q := range kinds {
		if len(q.asks) == 0 {
			continue
		}
		l, err := x.traceLatency(ctx, c, q)
		if err != nil {
			return fmt.Errorf("measure query %s: %w", q.title, err)
		}
		x.out.Times = append(x.out.Times, l)
		x.Log.Info("asked", "load", x.load.key, "peer", x.p.Name, "what", q.title, "runs", l.Runs, "p50", l.P50.Round(10*time.Microsecond), "p95", l.P95.Round(10*time.Microsecond), "refused", l.Refused)
	}
	after, err := x.p.Memory()
	x.out.After = after
	return errors.Join(err, stopProfile())
}

// traceLatency asks each question of a kind once.
func (x *tracesRun) traceLatency(ctx context.Context, c *http.Client, q traceQuery) (Latency, error) {
	l := Latency{Title: q.title}
	var took []time.Duration
	began := time.Now()
	for _, a := range q.asks {
		start := time.Now()
		body, err := client.Fetch(ctx, c, x.p.URL+a.path)
		length := time.Since(start)
		var refused *client.StatusError
		if errors.As(err, &refused) {
			if !a.absent || refused.Status != http.StatusNotFound {
				x.wrong("%s: %s: %v", q.title, a.path, err)
				l.Refused = refused.Message
				return l, nil
			}
			body = nil
		} else if err != nil {
			return l, err
		}
		took = append(took, length)
		l.Bytes = max(l.Bytes, len(body))
		if a.check != nil {
			if err := a.check(body); err != nil {
				x.wrong("%s: %s: %v", q.title, a.path, err)
			}
		}
		if len(took) >= 3 && time.Since(began) > latencyTime {
			break
		}
	}
	slices.Sort(took)
	l.Runs = len(took)
	l.P50, l.P95 = took[len(took)/2], took[len(took)*95/100]
	return l, nil
}

// maxWrong bounds TracesResult.Wrong.
const maxWrong = 20

func (x *tracesRun) wrong(format string, args ...any) {
	if len(x.out.Wrong) < maxWrong {
		text := fmt.Sprintf(format, args...)
		x.out.Wrong = append(x.out.Wrong, text)
		x.Log.Warn("wrong answer", "load", x.load.key, "peer", x.p.Name, "what", text)
	}
}

// weigh measures the disk.
func (x *tracesRun) weigh(ctx context.Context) (err error) {
	if x.out.Log, err = x.p.LogSize(); err != nil {
		return err
	}
	all, err := x.p.Store(ctx)
	if err != nil {
		return err
	}
	x.out.Store = all
	if x.p.Name == peer.Vedette {
		x.out.Store, err = peer.DiskUse(filepath.Join(x.p.DataDir(), traceStore))
		x.out.Beside = peer.Disk{Bytes: all.Bytes - x.out.Store.Bytes, Allocated: all.Allocated - x.out.Store.Allocated, Files: all.Files - x.out.Store.Files}
	}
	return err
}
