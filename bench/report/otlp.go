package report

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/client"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
)

// OTLPKey is the name of the scenario that sends OTLP.
const OTLPKey = "OTLP"

// OTLPPhase is one kind of requests, sent to one peer.
type OTLPPhase struct {
	Title string        `json:"title"`
	Sent  client.Sent   `json:"sent"`
	Wire  int64         `json:"wire_bytes"`
	Raw   int64         `json:"raw_bytes"` // before compression
	CPU   time.Duration `json:"cpu_nanos"`
}

// PerPoint is the CPU time that a data point costs.
func (p OTLPPhase) PerPoint() time.Duration {
	return time.Duration(float64(p.CPU) / float64(max(1, p.Sent.Samples)))
}

// OTLPResult is what one peer did with OTLP.
type OTLPResult struct {
	Peer    string      `json:"peer"`
	Title   string      `json:"title"`
	Version string      `json:"version"`
	Phases  []OTLPPhase `json:"phases"`
	Memory  peer.Memory `json:"memory"`
	Store   peer.Disk   `json:"store"`
	// What queries found afterwards; -1 where the server refused them.
	Series  int64 `json:"series"`
	Samples int64 `json:"samples"`
}

// phase returns a phase by its title, nil if it was not run.
func (r *OTLPResult) phase(title string) *OTLPPhase {
	for i := range r.Phases {
		if r.Phases[i].Title == title {
			return &r.Phases[i]
		}
	}
	return nil
}

// otlpLoad is one flavour of requests: a first scrape, then as many scrapes
// compressed as not.
type otlpLoad struct {
	title   string
	flavour gen.Flavour
	targets int
	scrapes int // of each kind
}

// otlpLoads are the flavours of the scenario.
func otlpLoads(shrink int) []otlpLoad {
	return []otlpLoad{
		{"Collector", gen.Collector, max(10, 200/shrink), 25},
		{"SDK", gen.SDK, max(10, 400/shrink), 30},
	}
}

// Titles of the phases of a load.
const (
	otlpFirst = ", first requests"
	otlpGzip  = ", gzip"
	otlpPlain = ", not compressed"
)

// otlpPoints bounds the data points of a request of the Collector.
const otlpPoints = 5000

// RunOTLP puts every peer that takes OTLP under the same requests in turn,
// handing each result to done.
func (r *Runner) RunOTLP(ctx context.Context, shrink int, done func(OTLPResult) error) (err error) {
	loads := otlpLoads(shrink)
	spools := make([]*gen.Spool, len(loads))
	for i, l := range loads {
		start := time.Now()
		spools[i], err = gen.WriteOTLPSpool(r.Recording, filepath.Join(r.WorkDir, "spool-otlp-"+l.title), l.flavour, gen.Options{
			Targets: l.targets, Scrapes: 1 + 2*l.scrapes, SamplesPerRequest: otlpPoints, EndMillis: time.Now().UnixMilli(), Seed: seed,
		}, 1+l.scrapes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, spools[i].Close()) }()
		r.Log.Info("load written", "scenario", OTLPKey, "load", l.title, "points", spools[i].Samples,
			"requests", len(spools[i].Requests), "wire_mb", spools[i].Bytes>>20, "took", time.Since(start).Round(time.Millisecond))
	}
	for _, p := range r.Peers {
		if p.OTLP == "" {
			continue
		}
		res, err := r.runOTLP(ctx, p, loads, spools)
		if err != nil {
			return fmt.Errorf("run scenario %s on %s: %w", OTLPKey, p.Name, err)
		}
		if err := done(res); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) runOTLP(ctx context.Context, spec peer.Spec, loads []otlpLoad, spools []*gen.Spool) (_ OTLPResult, err error) {
	res := OTLPResult{Peer: spec.Name, Title: spec.Title, Version: spec.Version}
	dir, done, err := r.prepareDir("run-" + OTLPKey + "-" + spec.Name)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, done()) }()
	p, err := spec.Start(dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.Kill()) }()
	if _, err := p.WaitReady(ctx); err != nil {
		return res, err
	}
	runner := *r
	runner.Quiet /= 2 // there are many phases
	x := &run{Runner: &runner, p: p}
	for i, l := range loads {
		for _, phase := range []struct {
			title    string
			from, to int
		}{{otlpFirst, 0, 1}, {otlpGzip, 1, 1 + l.scrapes}, {otlpPlain, 1 + l.scrapes, 1 + 2*l.scrapes}} {
			out, err := x.otlpPhase(ctx, l.title+phase.title, spools[i], phase.from, phase.to)
			if err != nil {
				return res, err
			}
			res.Phases = append(res.Phases, out)
		}
	}
	if res.Memory, err = p.Memory(); err != nil {
		return res, err
	}
	if res.Series, res.Samples, err = x.countOTLP(ctx, spools); err != nil {
		return res, err
	}
	if res.Store, err = p.Store(ctx); err != nil {
		return res, err
	}
	r.Log.Info("measured", "scenario", OTLPKey, "peer", p.Name, "series", res.Series, "samples", res.Samples, "peak_mb", res.Memory.Peak>>20)
	return res, nil
}

// otlpPhase sends some scrapes and charges their CPU time.
func (x *run) otlpPhase(ctx context.Context, title string, spool *gen.Spool, from, to int) (OTLPPhase, error) {
	out := OTLPPhase{Title: title}
	for _, r := range spool.Requests {
		if r.Scrape >= from && r.Scrape < to {
			out.Wire += int64(r.Length)
			out.Raw += int64(r.Raw)
		}
	}
	before, err := x.p.CPU()
	if err != nil {
		return out, err
	}
	stopProfile := func() error { return nil }
	if from == 1 {
		stopProfile = x.profile(ctx, OTLPKey+"-"+strings.TrimSuffix(title, otlpGzip))
	}
	out.Sent, err = client.Send(ctx, client.OTLP(x.p.URL+x.p.OTLP), spool, from, to, connections)
	if err := errors.Join(err, stopProfile()); err != nil {
		return out, err
	}
	after, _, err := x.settle(ctx)
	if err != nil {
		return out, err
	}
	out.CPU = after - before
	x.Log.Info("ingested", "scenario", OTLPKey, "peer", x.p.Name, "phase", title, "points", out.Sent.Samples, "per_point", out.PerPoint(),
		"load_took", out.Sent.Wall.Round(time.Millisecond), "rejected", out.Sent.Rejected, "retries", out.Sent.Retries)
	return out, nil
}

// countOTLP counts series and samples of everything that was sent.
func (x *run) countOTLP(ctx context.Context, spools []*gen.Spool) (series, samples int64, err error) {
	window, end := int64(0), int64(0)
	for _, s := range spools {
		window = max(window, int64(s.Scrapes+10)*gen.IntervalMillis/1000)
		end = max(end, s.EndMillis)
	}
	c := client.New(1)
	defer c.CloseIdleConnections()
	count := func(query string) (int64, error) {
		answer, err := client.Instant(ctx, c, x.p.URL, query, end)
		var refused *client.StatusError
		switch {
		case errors.As(err, &refused):
			x.Log.Warn("count refused", "peer", x.p.Name, "query", query, "err", err)
			return -1, nil
		case err != nil:
			return 0, fmt.Errorf("count: %w", err)
		case len(answer) == 0:
			return 0, nil
		}
		return int64(answer[0].Points[0].Value), nil
	}
	if series, err = count(fmt.Sprintf(`count(last_over_time({__name__!=""}[%ds]))`, window)); err != nil {
		return 0, 0, err
	}
	samples, err = count(fmt.Sprintf(`sum(count_over_time({__name__!=""}[%ds]))`, window))
	return series, samples, err
}
