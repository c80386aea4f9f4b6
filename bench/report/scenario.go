package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
)

// Scenario is one shape of load.
type Scenario struct {
	Key       string `json:"key"`
	Title     string `json:"title"`
	Targets   int    `json:"targets"`
	Scrapes   int    `json:"scrapes"`
	ChurnEach int    `json:"churn_each"`
	Queries   bool   `json:"queries"` // measure query latencies
	Crash     bool   `json:"crash"`   // kill -9 at the end and time the restart
}

// Keys of the scenarios, as the report names them.
const (
	Wide  = "A"
	Long  = "B"
	Churn = "C"
)

// Scenarios returns the scenarios, scaled: targets and scrapes are divided by
// shrink.
func Scenarios(shrink int) []Scenario {
	all := []Scenario{
		{Key: Wide, Targets: 1000, Scrapes: 30, Crash: true},
		{Key: Long, Targets: 100, Scrapes: 960, Queries: true},
		{Key: Churn, Targets: 1000, Scrapes: 30, ChurnEach: 10},
	}
	for i, s := range all {
		scrapes := s.Scrapes
		if s.Key == Long {
			scrapes = max(20, s.Scrapes/shrink)
		}
		all[i] = s.Resize(max(10, s.Targets/shrink), scrapes)
	}
	return all
}

// Resize returns the scenario with other numbers of targets and scrapes, where
// they are above zero.
func (s Scenario) Resize(targets, scrapes int) Scenario {
	if targets > 0 {
		s.Targets = targets
	}
	if scrapes > 0 {
		s.Scrapes = scrapes
	}
	s.Title = fmt.Sprintf("%d targets × %d scrapes", s.Targets, s.Scrapes)
	if s.ChurnEach > 0 {
		s.Title += fmt.Sprintf(", 10%% of series churning every %d", s.ChurnEach)
	}
	return s
}

// Fixed parts of every run.
const (
	samplesPerRequest = 5000
	connections       = 4
	tailScrapes       = 2 // sent before the kill, after everything else is measured
	seed              = 20261121
)

// Result is what one peer did in one scenario.
type Result struct {
	Scenario Scenario `json:"scenario"`
	Peer     string   `json:"peer"`
	Title    string   `json:"title"`
	Version  string   `json:"version"`

	Series     int64 `json:"series"` // created by the first scrape
	AllSeries  int64 `json:"all_series"`
	Samples    int64 `json:"samples"` // without those sent just before the kill
	WireBytes  int64 `json:"wire_bytes"`
	FoundCount int64 `json:"found_count"` // samples that a query counted afterwards; -1: not asked

	Create        client.Sent   `json:"create"`
	Steady        client.Sent   `json:"steady"`
	CreateCPU     time.Duration `json:"create_cpu_nanos"`
	SteadyCPU     time.Duration `json:"steady_cpu_nanos"`
	SteadyLoadCPU time.Duration `json:"steady_load_cpu_nanos"` // of which while the load ran
	Settled       time.Duration `json:"settled_nanos"`         // waiting after the load

	Memory peer.Memory `json:"memory"`
	Store  peer.Disk   `json:"store"`
	Log    peer.Disk   `json:"log"`

	Queries []Latency  `json:"queries,omitempty"`
	Restart *Restart   `json:"restart,omitempty"`
	Broker  *BrokerUse `json:"broker,omitempty"` // beside the peer, if there was one
}

// Restart is what happened after kill -9.
type Restart struct {
	Ready     time.Duration `json:"ready_nanos"`   // until the server said it is ready
	Answers   time.Duration `json:"answers_nanos"` // until it answered with data
	Newest    bool          `json:"newest"`        // that the newest acknowledged sample was there
	Lost      int64         `json:"lost"`          // acknowledged samples that a count no longer finds
	Acked     int64         `json:"acked"`
	LogAtKill peer.Disk     `json:"log_at_kill"`
}

// SteadyPerMillion is the CPU time for a million samples of known series.
func (r Result) SteadyPerMillion() time.Duration {
	return time.Duration(float64(r.SteadyCPU) / float64(max(1, r.Steady.Samples)) * 1e6)
}

// TotalPerMillion is the CPU time for a million samples, creation included.
func (r Result) TotalPerMillion() time.Duration {
	return time.Duration(float64(r.SteadyCPU+r.CreateCPU) / float64(max(1, r.Samples)) * 1e6)
}

// PerCreatedSeries is the CPU time that a series' first sample costs beyond what
// a sample of a known series costs.
func (r Result) PerCreatedSeries() time.Duration {
	steady := float64(r.SteadyPerMillion()) * float64(r.Create.Samples) / 1e6
	return time.Duration((float64(r.CreateCPU) - steady) / float64(max(1, r.Series)))
}

// BytesPerSample is the size of the store, index included, over all samples.
func (r Result) BytesPerSample() float64 { return float64(r.Store.Bytes) / float64(max(1, r.Samples)) }

// Runner runs scenarios.
type Runner struct {
	Recording *gen.Recording
	Peers     []peer.Spec
	WorkDir   string // for spools and data directories
	OutDir    string // for profiles
	Profile   bool   // save a CPU profile of the steady phase where the server offers one
	KeepData  bool
	// Quiet and Patience are the settle rule.
	Quiet, Patience time.Duration
	Log             *slog.Logger
}

// Run generates the scenario's load and puts every peer under it in turn,
// handing each result to done.
func (r *Runner) Run(ctx context.Context, s Scenario, done func(Result) error) (err error) {
	spool, err := r.writeSpool(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	for _, p := range r.Peers {
		if p.TracesOnly {
			continue
		}
		res, err := r.runPeer(ctx, s, p, spool, nil)
		if err != nil {
			return fmt.Errorf("run scenario %s on %s: %w", s.Key, p.Name, err)
		}
		if err := done(res); err != nil {
			return err
		}
	}
	return nil
}

// writeSpool writes the load of a scenario.
func (r *Runner) writeSpool(s Scenario) (*gen.Spool, error) {
	start := time.Now()
	scrapes := s.Scrapes
	if s.Crash {
		scrapes += tailScrapes
	}
	spool, err := gen.WriteSpool(r.Recording, filepath.Join(r.WorkDir, "spool-"+s.Key), gen.Options{
		Targets: s.Targets, Scrapes: scrapes, SamplesPerRequest: samplesPerRequest,
		ChurnEach: s.ChurnEach, EndMillis: time.Now().UnixMilli(), Seed: seed,
	})
	if err != nil {
		return nil, err
	}
	r.Log.Info("load written", "scenario", s.Key, "load", s.Title, "samples", spool.Samples,
		"requests", len(spool.Requests), "wire_mb", spool.Bytes>>20, "took", time.Since(start).Round(time.Millisecond))
	return spool, nil
}

// run is one peer in one scenario.
type run struct {
	*Runner
	s      Scenario
	spool  *gen.Spool
	p      *peer.Process
	broker *peer.Broker // that the peer uses, or nil
	res    Result
}

// prepareDir empties the directory of a run; done removes it, unless it is to
// be kept.
func (r *Runner) prepareDir(name string) (dir string, done func() error, err error) {
	dir = filepath.Join(r.WorkDir, name)
	if r.KeepData {
		return dir, func() error { return nil }, os.RemoveAll(dir)
	}
	return dir, func() error { return os.RemoveAll(dir) }, os.RemoveAll(dir)
}

func (r *Runner) runPeer(ctx context.Context, s Scenario, spec peer.Spec, spool *gen.Spool, broker *peer.Broker) (_ Result, err error) {
	dir, done, err := r.prepareDir("run-" + s.Key + "-" + spec.Name)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	p, err := spec.Start(dir)
	if err != nil {
		return Result{}, err
	}
	x := &run{Runner: r, s: s, spool: spool, p: p, broker: broker, res: Result{
		Scenario: s, Peer: spec.Name, Title: spec.Title, Version: spec.Version, FoundCount: -1,
		Series: int64(spool.Created[0]),
	}}
	for _, n := range spool.Created {
		x.res.AllSeries += int64(n)
	}
	defer func() { err = errors.Join(err, x.p.Kill()) }() // nothing is left to keep
	if _, err := p.WaitReady(ctx); err != nil {
		return Result{}, err
	}
	for _, step := range []func(context.Context) error{x.ingest, x.measure, x.crash} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	return x.res, nil
}

// ingest sends the load and charges its CPU time.
func (x *run) ingest(ctx context.Context) error {
	idle, err := x.p.CPU()
	if err != nil {
		return err
	}
	if err := x.startBrokerUse(); err != nil {
		return err
	}
	if x.res.Create, err = client.Send(ctx, client.RemoteWrite(x.p.URL), x.spool, 0, 1, connections); err != nil {
		return err
	}
	created, _, err := x.settle(ctx)
	if err != nil {
		return err
	}
	x.res.CreateCPU = created - idle
	if err := x.noteBrokerCreate(); err != nil {
		return err
	}
	name := x.s.Key
	if x.broker != nil {
		name = KafkaKey + "-" + name
	}
	stopProfile := x.profile(ctx, name)
	x.res.Steady, err = client.Send(ctx, client.RemoteWrite(x.p.URL), x.spool, 1, x.s.Scrapes, connections)
	if err := errors.Join(err, stopProfile()); err != nil {
		return err
	}
	loaded, err := x.p.CPU()
	if err != nil {
		return err
	}
	final, waited, err := x.settle(ctx)
	if err != nil {
		return err
	}
	if err := x.noteBrokerSteady(); err != nil {
		return err
	}
	x.res.SteadyCPU, x.res.SteadyLoadCPU, x.res.Settled = final-created, loaded-created, waited
	x.res.Samples = x.res.Create.Samples + x.res.Steady.Samples
	x.res.WireBytes = int64(float64(x.spool.Bytes) * float64(x.res.Samples) / float64(x.spool.Samples))
	x.Log.Info("ingested", "scenario", x.s.Key, "peer", x.p.Name,
		"steady_per_million", x.res.SteadyPerMillion().Round(time.Millisecond),
		"per_created_series", x.res.PerCreatedSeries().Round(10*time.Nanosecond),
		"load_took", x.res.Steady.Wall.Round(time.Millisecond), "settled_in", waited.Round(time.Millisecond),
		"retries", x.res.Create.Retries+x.res.Steady.Retries)
	return nil
}

// settle lets background work end, has data flushed, lets that work end, and
// returns the CPU time used so far and how long all this took. It is quiet twice
// over, so that a server which writes data out some seconds after it came has
// done so.
func (x *run) settle(ctx context.Context) (cpu, waited time.Duration, err error) {
	start := time.Now()
	if _, err := x.p.Settle(ctx, x.Quiet, x.Patience); err != nil {
		return 0, 0, err
	}
	if x.p.Flush != nil {
		if err := x.p.Flush(ctx, x.p); err != nil {
			return 0, 0, fmt.Errorf("flush %s: %w", x.p.Name, err)
		}
	}
	if _, err := x.p.Settle(ctx, x.Quiet, x.Patience); err != nil {
		return 0, 0, err
	}
	cpu, err = x.p.CPU()
	return cpu, time.Since(start), err
}

// measure reads memory, asks queries, counts, and measures the disk, in an
// order in which no step disturbs a later figure.
func (x *run) measure(ctx context.Context) (err error) {
	if x.res.Memory, err = x.p.Memory(); err != nil {
		return err
	}
	if x.res.Log, err = x.p.LogSize(); err != nil {
		return err
	}
	if x.s.Queries {
		if x.res.Queries, err = x.latencies(ctx); err != nil {
			return err
		}
	}
	if x.res.FoundCount, err = x.count(ctx, x.s.Scrapes); err != nil {
		return err
	}
	if x.res.Store, err = x.p.Store(ctx); err != nil {
		return err
	}
	x.Log.Info("measured", "scenario", x.s.Key, "peer", x.p.Name,
		"bytes_per_sample", fmt.Sprintf("%.3f", x.res.BytesPerSample()), "log_mb", x.res.Log.Bytes>>20,
		"peak_mb", x.res.Memory.Peak>>20, "missing", x.res.Samples-x.res.FoundCount)
	return nil
}

// crash sends a little more, kills the process at the last acknowledgement and
// sees what is left after a restart.
func (x *run) crash(ctx context.Context) error {
	if !x.s.Crash {
		return nil
	}
	sent, err := client.Send(ctx, client.RemoteWrite(x.p.URL), x.spool, x.s.Scrapes, x.s.Scrapes+tailScrapes, connections)
	if err := errors.Join(err, x.p.Kill()); err != nil {
		return err
	}
	out := &Restart{Acked: x.res.Samples + sent.Samples}
	if out.LogAtKill, err = x.p.LogSize(); err != nil {
		return err
	}
	p, err := x.p.Spec.Start(x.p.RunDir)
	if err != nil {
		return err
	}
	x.p = p
	if out.Ready, err = p.WaitReady(ctx); err != nil {
		return err
	}
	if out.Answers, out.Newest, err = x.waitAnswer(ctx); err != nil {
		return err
	}
	found, err := x.count(ctx, x.s.Scrapes+tailScrapes)
	if err != nil {
		return err
	}
	out.Lost = out.Acked - found
	x.res.Restart = out
	x.Log.Info("restarted after kill -9", "scenario", x.s.Key, "peer", p.Name, "ready", out.Ready.Round(time.Millisecond),
		"answers", out.Answers.Round(time.Millisecond), "newest", out.Newest, "lost", out.Lost)
	return nil
}

// answerPatience bounds how long a server may go on answering without data
// before it counts as having lost it.
const answerPatience = 20 * time.Second

// waitAnswer polls until the last target's probe has data, and tells how long
// that took and whether its newest sample is the newest acknowledged one.
func (x *run) waitAnswer(ctx context.Context) (time.Duration, bool, error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	last := len(x.spool.Times) - 1
	target := x.s.Targets - 1
	newest := x.spool.Times[last][target]
	query := fmt.Sprintf(`%s{instance=%q}[1h]`, gen.ProbeMetric, gen.Instance(target))
	patience := time.Now().Add(answerPatience)
	for {
		series, err := client.Instant(ctx, c, x.p.URL, query, newest)
		if err != nil {
			return 0, false, fmt.Errorf("ask after restart: %w", err)
		}
		if len(series) > 0 {
			points := series[0].Points
			return time.Since(x.p.Started), len(points) > 0 && points[len(points)-1].Millis == newest, nil
		}
		if time.Now().After(patience) {
			return time.Since(x.p.Started), false, nil
		}
		select {
		case <-ctx.Done():
			return 0, false, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// countBatch bounds the samples that one counting query reads.
const countBatch = 1_000_000

// count reads the raw samples of the first scrapes back and returns how many
// there are. A sum of count_over_time would be shorter, but Prometheus refuses it
// across metric names.
func (x *run) count(ctx context.Context, scrapes int) (int64, error) {
	c := client.New(1)
	defer c.CloseIdleConnections()
	window := time.Duration(scrapes+10) * gen.IntervalMillis * time.Millisecond
	batch := max(1, min(50, countBatch/(scrapes*gen.SeriesPerTarget)))
	total := int64(0)
	for from := 0; from < x.s.Targets; from += batch {
		var instances []string
		for t := from; t < min(from+batch, x.s.Targets); t++ {
			instances = append(instances, strings.ReplaceAll(gen.Instance(t), ".", `\\.`))
		}
		query := fmt.Sprintf(`{job="node",instance=~"%s"}[%ds]`, strings.Join(instances, "|"), int(window.Seconds()))
		body, err := client.Fetch(ctx, c, x.p.URL+"/api/v1/query?"+client.InstantParams(query, x.spool.EndMillis))
		if err != nil {
			return total, fmt.Errorf("count samples: %w", err)
		}
		// Every sample, and nothing else in an answer, ends with these two bytes.
		total += int64(bytes.Count(body, []byte(`"]`)))
	}
	return total, nil
}

// profile fetches a CPU profile for as long as the steady load lasts; the
// function it returns waits for it.
func (x *run) profile(ctx context.Context, name string) (stop func() error) {
	if !x.Profile || x.p.Name != peer.Vedette {
		return func() error { return nil }
	}
	const length = 10 * time.Second
	done := make(chan error, 1)
	go func() {
		address := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", x.p.URL, int(length.Seconds()))
		body, err := client.Fetch(ctx, http.DefaultClient, address)
		if err == nil {
			err = os.WriteFile(filepath.Join(x.OutDir, "cpu-"+name+".prof"), body, 0o644)
		}
		done <- err
	}()
	return func() error { return <-done }
}
