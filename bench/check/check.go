package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/internal/labels"
)

const metricName = "check_sample"

// Options of a run.
type Options struct {
	Spec     peer.Spec
	RunDir   string
	Duration time.Duration
	Series   int
	Pace     time.Duration // between writes
	Recent   time.Duration // looked at after every write; the whole run every WholeEach writes
	// WholeEach is how many writes lie between two looks at the whole run.
	WholeEach int
	// DisturbEach is the time between two things done to the server.
	DisturbEach time.Duration
	Log         *slog.Logger
}

// smallSteps makes Vedette flush every second, and so merge often.
const smallSteps = "store:\n  flush_samples: 1000\n  flush_interval: 1s\ntrace_store:\n  flush_spans: 1000\n  flush_interval: 1s\n  merge_interval: 2s\n"

// DefaultOptions returns a run of five minutes. Vedette runs with thresholds that
// make it flush and merge all the time.
func DefaultOptions(spec peer.Spec, runDir string) Options {
	if spec.Name == peer.Vedette {
		spec = spec.WithConfig(smallSteps)
	}
	return Options{
		Spec: spec, RunDir: runDir, Duration: 5 * time.Minute, Series: 50, Pace: 50 * time.Millisecond,
		Recent: 30 * time.Second, WholeEach: 40, DisturbEach: 5 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
}

// Report is what a run found.
type Report struct {
	Peer       string         `json:"peer"`
	Writes     int            `json:"writes"`  // acknowledged
	Unknown    int            `json:"unknown"` // without an answer
	Traces     int            `json:"traces"`  // acknowledged
	Looks      int            `json:"looks"`   // queries compared
	Disturbed  map[string]int `json:"disturbed"`
	Gaps       []Gap          `json:"gaps"`
	WorstReady time.Duration  `json:"worst_ready_nanos"`
	// LongestLook is the slowest query, which bounds how stale an answer was.
	LongestLook time.Duration `json:"longest_look_nanos"`
}

// String summarises the report in a few lines.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d writes and %d traces acknowledged, %d without an answer, %d looks, done to it: %v, worst restart %s, slowest look %s, %d gaps",
		r.Peer, r.Writes, r.Traces, r.Unknown, r.Looks, r.Disturbed, r.WorstReady.Round(time.Millisecond), r.LongestLook.Round(time.Millisecond), len(r.Gaps))
	for i, g := range r.Gaps {
		if i == 20 {
			fmt.Fprintf(&b, "\n  … and %d more", len(r.Gaps)-i)
			break
		}
		fmt.Fprintf(&b, "\n  series %s, sample %s (%d of them), acknowledged %s, looked at %s by %s after %s: %s",
			g.Series, clock(g.Sample), g.Count, clock(g.Acked), clock(g.Seen), g.Asked, g.After, g.Why)
	}
	return b.String()
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// disturbance is something done to the server between two looks.
type disturbance struct {
	name string
	do   func(context.Context, *run) error
}

// disturbances are done in turn. A server without flush is only restarted.
func disturbances(s peer.Spec) []disturbance {
	var all []disturbance
	if s.Flush != nil {
		all = append(all, disturbance{"flush", flush}, disturbance{"flush", flush})
	}
	all = append(all, disturbance{"restart", restart})
	if s.Flush != nil {
		all = append(all, disturbance{"flush", flush})
	}
	return append(all, disturbance{"kill", kill})
}

// flush runs beside the writes and looks that follow.
func flush(ctx context.Context, x *run) error {
	if err := x.awaitFlush(); err != nil {
		return err
	}
	done := make(chan error, 1)
	x.flushing = done
	p := x.p
	go func() { done <- p.Flush(ctx, p) }()
	return nil
}

func restart(ctx context.Context, x *run) error {
	return errors.Join(x.awaitFlush(), x.p.Stop(), x.start(ctx))
}

// kill sends one more write, kills the server while that is under way, and
// starts it again.
func kill(ctx context.Context, x *run) error {
	if err := x.awaitFlush(); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() { written <- x.write(ctx, x.client) }()
	err := x.p.Kill()
	return errors.Join(err, <-written, x.start(ctx))
}

// run is the state of a run.
type run struct {
	Options
	p         *peer.Process
	client    *http.Client
	ledger    ledger
	traces    *traceLedger // nil: the server takes none
	canonical [][]byte
	raw, body []byte
	report    *Report
	after     string
	flushing  chan error
}

// Run checks the server on an empty directory for the given time. Gaps are in
// the report; the error is for what kept it from looking.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	x := &run{
		Options: o, ledger: ledger{series: o.Series}, after: "start",
		report: &Report{Peer: o.Spec.Name, Disturbed: map[string]int{}},
	}
	if o.Spec.Traces != "" {
		x.traces = &traceLedger{rng: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))}
	}
	for i := range o.Series {
		c := labels.Append(nil, "__name__", metricName)
		x.canonical = append(x.canonical, labels.Append(c, "series", strconv.Itoa(i)))
	}
	x.client = client.New(2)
	defer x.client.CloseIdleConnections()
	if err := x.start(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.awaitFlush(), x.p.Kill()) }()
	return x.report, x.loop(ctx)
}

func (x *run) start(ctx context.Context) error {
	p, err := x.Spec.Start(x.RunDir)
	if err != nil {
		return err
	}
	x.p = p
	took, err := p.WaitReady(ctx)
	x.report.WorstReady = max(x.report.WorstReady, took)
	return err
}

// awaitFlush waits for a flush that is under way.
func (x *run) awaitFlush() error {
	if x.flushing == nil {
		return nil
	}
	err := <-x.flushing
	x.flushing = nil
	return err
}

// loop writes, looks and disturbs until the time is over.
func (x *run) loop(ctx context.Context) error {
	var (
		end     = time.Now().Add(x.Duration)
		pace    = time.NewTicker(x.Pace)
		plan    = disturbances(x.Spec)
		nextAt  = time.Now().Add(x.DisturbEach)
		planned = 0
	)
	defer pace.Stop()
	for n := 1; time.Now().Before(end); n++ {
		if err := x.write(ctx, x.client); err != nil {
			return err
		}
		whole := n%x.WholeEach == 0
		if err := x.look(ctx, whole); err != nil {
			return err
		}
		if time.Now().After(nextAt) {
			d := plan[planned%len(plan)]
			planned++
			if err := d.do(ctx, x); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			x.after = d.name
			x.report.Disturbed[d.name]++
			if err := x.look(ctx, true); err != nil {
				return err
			}
			nextAt = time.Now().Add(x.DisturbEach)
			x.Log.Info("disturbed", "by", d.name, "writes", x.report.Writes, "gaps", len(x.report.Gaps))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pace.C:
		}
	}
	return x.look(ctx, true)
}

// write sends one sample of every series and a trace, and notes whether they were
// acknowledged.
func (x *run) write(ctx context.Context, c *http.Client) error {
	if err := x.writeSample(ctx, c); err != nil || x.traces == nil {
		return err
	}
	return x.writeTrace(ctx, c)
}

func (x *run) writeSample(ctx context.Context, c *http.Client) error {
	now := time.Now().UnixMilli()
	if n := len(x.ledger.samples); n > 0 {
		now = max(now, x.ledger.samples[n-1].millis+1)
	}
	x.raw = x.raw[:0]
	for i, canonical := range x.canonical {
		x.raw = gen.AppendSeries(x.raw, canonical, []int64{now}, []float64{value(i, now)})
	}
	x.body = snappy.Encode(x.body[:cap(x.body)], x.raw)
	err := client.Write(ctx, c, x.p.URL, x.body)
	var refused *client.StatusError
	switch {
	case err == nil:
		x.ledger.add(sample{millis: now, acked: time.Now()})
		x.report.Writes++
		return nil
	case errors.As(err, &refused):
		return fmt.Errorf("write: %w", err)
	}
	x.ledger.add(sample{millis: now})
	x.report.Unknown++
	return ctx.Err()
}

// look asks for what was written, in three ways, and notes every gap.
func (x *run) look(ctx context.Context, whole bool) error {
	if len(x.ledger.samples) == 0 {
		return nil
	}
	first, last := x.ledger.samples[0], x.ledger.samples[len(x.ledger.samples)-1]
	length := x.Recent
	if whole {
		length = time.Duration(last.millis-first.millis+1000) * time.Millisecond
	}
	asked := fmt.Sprintf("%s[%dms]", metricName, length.Milliseconds())
	start := time.Now()
	answer, err := client.Instant(ctx, x.client, x.p.URL, asked, last.millis)
	if err != nil {
		return fmt.Errorf("look at %s: %w", asked, err)
	}
	x.note(asked, start, x.ledger.compare(answer, last.millis-length.Milliseconds(), last.millis))
	if err := x.lookAtTraces(ctx, whole); err != nil {
		return err
	}
	if last.acked.IsZero() {
		return nil
	}
	return x.lookAtLast(ctx, last)
}

// lookAtLast asks for the newest sample as an instant vector and over a range.
func (x *run) lookAtLast(ctx context.Context, last sample) error {
	start := time.Now()
	answer, err := client.Instant(ctx, x.client, x.p.URL, metricName, last.millis)
	if err != nil {
		return fmt.Errorf("look at the newest value: %w", err)
	}
	x.note("instant query", start, newest(answer, x.Series, last))
	start = time.Now()
	answer, err = client.Range(ctx, x.client, x.p.URL, metricName, last.millis-5000, last.millis, time.Second)
	if err != nil {
		return fmt.Errorf("look at the newest range: %w", err)
	}
	for i := range answer {
		if n := len(answer[i].Points); n > 0 {
			answer[i].Points = answer[i].Points[n-1:]
		}
	}
	x.note("range query", start, newest(answer, x.Series, last))
	return nil
}

// newest returns a gap unless every series has the newest value.
func newest(answer []client.Series, series int, last sample) []Gap {
	right := 0
	for _, s := range answer {
		i, err := strconv.Atoi(s.Labels["series"])
		if err == nil && len(s.Points) == 1 && s.Points[0].Millis == last.millis && s.Points[0].Value == value(i, last.millis) {
			right++
		}
	}
	if right == series && len(answer) == series {
		return nil
	}
	return []Gap{{
		Series: "some", Sample: time.UnixMilli(last.millis), Acked: last.acked, Count: series - right,
		Why: fmt.Sprintf("%d of %d series have the newest value, %d answered", right, series, len(answer)),
	}}
}

// note adds the gaps of one look to the report.
func (x *run) note(asked string, start time.Time, gaps []Gap) {
	x.report.Looks++
	x.report.LongestLook = max(x.report.LongestLook, time.Since(start))
	for _, g := range gaps {
		g.Seen, g.Asked, g.After = start, asked, x.after
		x.report.Gaps = append(x.report.Gaps, g)
		x.Log.Warn("gap", "series", g.Series, "sample", g.Sample, "count", g.Count, "acked", g.Acked, "asked", asked, "after", g.After, "why", g.Why)
	}
}
