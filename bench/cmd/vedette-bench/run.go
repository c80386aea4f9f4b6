package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/gen"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/bench/report"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

type runCommand struct {
	Peers       []string `help:"Peers to run." default:"vedette,victoriametrics,prometheus,jaeger"`
	Scenarios   []string `help:"Scenarios to run: A, B, C, OTLP, Kafka, Traces, Agent." default:"A,B,C,OTLP,Kafka,Traces,Agent"`
	Targets     int      `help:"Targets instead of each scenario's own number."`
	Scrapes     int      `help:"Scrapes instead of each scenario's own number."`
	Spans       int      `help:"Spans of the scenario with traces." default:"5000000"`
	Nezha       string   `help:"Directory of the Nezha data set." env:"VEDETTE_BENCH_NEZHA" type:"path"`
	Quick       bool     `help:"A tenth of the load and short settling: to try things out, not to publish."`
	CrashRounds int      `help:"Rounds of kill -9 under full load against Vedette; 0 leaves it out." default:"20"`
	KafkaRounds int      `help:"Rounds of each kind of kill -9 with Kafka as the buffer, if that scenario is run; 0 leaves them out." default:"5"`
	Recording   string   `help:"Directory with the recorded scrapes." env:"VEDETTE_BENCH_SCRAPES" type:"path"`
	Profile     bool     `help:"Save a CPU profile of Vedette's steady phase and print its top."`
	KeepData    bool     `help:"Leave the data directories behind."`
	Write       string   `help:"Also write the page to this file." type:"path"`
}

// Run implements the command.
func (c *runCommand) Run(e *env) error {
	if c.Recording == "" {
		c.Recording = filepath.Join(e.root, "..", "shared", "data", "node_exporter")
	}
	rec, err := gen.LoadRecording(c.Recording)
	if err != nil {
		return fmt.Errorf("%w (name the directory with --recording or VEDETTE_BENCH_SCRAPES)", err)
	}
	specs, err := c.build(e)
	if err != nil {
		return err
	}
	r := &report.Runner{
		Recording: rec, Peers: specs, WorkDir: e.work, OutDir: e.out, Profile: c.Profile, KeepData: c.KeepData,
		Quiet: 8 * time.Second, Patience: 90 * time.Second, Log: e.log,
	}
	shrink := 1
	if c.Quick {
		shrink, r.Quiet, r.Patience = 10, 6*time.Second, 12*time.Second
	}
	if err := removeProfiles(e); err != nil {
		return err
	}
	now := time.Now()
	rep := &report.Report{Date: now, Command: commandText(), Machine: report.ThisMachine()}
	file := now.UTC().Format("20060102T150405Z") + ".json"
	save := func() error { return e.save(file, rep) }
	for _, s := range c.choose(report.Scenarios(shrink)) {
		err := r.Run(e, s, func(res report.Result) error {
			rep.Results = append(rep.Results, res)
			return save()
		})
		if err != nil {
			return err
		}
	}
	if c.asked(report.OTLPKey) {
		err := r.RunOTLP(e, shrink, func(res report.OTLPResult) error {
			rep.OTLP = append(rep.OTLP, res)
			return save()
		})
		if err != nil {
			return err
		}
	}
	if err := c.kafka(e, r, shrink, rep, save); err != nil {
		return err
	}
	if err := c.traces(e, r, shrink, rep, save); err != nil {
		return err
	}
	if err := c.agent(e, specs, shrink, rep, save); err != nil {
		return err
	}
	if err := c.crash(e, specs, rep); err != nil {
		return err
	}
	if err := errors.Join(save(), e.save("latest.json", rep)); err != nil {
		return err
	}
	fmt.Println(rep.Markdown())
	if c.Write != "" {
		if err := os.WriteFile(c.Write, []byte(rep.Markdown()), 0o644); err != nil {
			return err
		}
	}
	if c.Profile {
		return printProfiles(e)
	}
	return nil
}

// asked reports whether a scenario was asked for.
func (c *runCommand) asked(key string) bool {
	return slices.ContainsFunc(c.Scenarios, func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), key) })
}

// metrics reports whether any scenario with metrics was asked for.
func (c *runCommand) metrics() bool {
	return slices.ContainsFunc(c.Scenarios, func(s string) bool {
		return !strings.EqualFold(strings.TrimSpace(s), report.TracesKey) && !strings.EqualFold(strings.TrimSpace(s), report.AgentKey)
	})
}

// kafka runs the scenario with Kafka as the buffer and the rounds of kill -9
// that go with it, if they are asked for and a broker can be started.
func (c *runCommand) kafka(e *env, r *report.Runner, shrink int, rep *report.Report, save func() error) error {
	i := slices.IndexFunc(r.Peers, func(s peer.Spec) bool { return s.Name == peer.Vedette })
	if !c.asked(report.KafkaKey) || i < 0 {
		return nil
	}
	if why := kafkatest.Missing(); why != "" {
		e.log.Warn("scenario left out", "scenario", report.KafkaKey, "why", why)
		return nil
	}
	err := r.RunKafka(e, r.Peers[i], shrink, func(k *report.KafkaReport) error {
		rep.Kafka = k
		return save()
	})
	if err != nil || c.KafkaRounds == 0 {
		return err
	}
	for _, v := range []crashVariant{{stores: 1}, {stores: 2}, {stores: 1, killBroker: true}} {
		o := crash.DefaultOptions(r.Peers[i], filepath.Join(e.work, "crash"))
		o.Rounds, o.Log, o.Stores, o.KillBroker = c.KafkaRounds, e.log, v.stores, v.killBroker
		out, err := crashOn(e, o, crash.Run, true)
		if err != nil {
			return err
		}
		rep.Kafka.Crashes = append(rep.Kafka.Crashes, out)
		if err := errors.Join(save(), os.RemoveAll(o.RunDir)); err != nil {
			return err
		}
	}
	return nil
}

// choose keeps the scenarios asked for, resized if asked for.
func (c *runCommand) choose(all []report.Scenario) []report.Scenario {
	var out []report.Scenario
	for _, s := range all {
		for _, key := range c.Scenarios {
			if s.Key == strings.ToUpper(strings.TrimSpace(key)) {
				out = append(out, s.Resize(c.Targets, c.Scrapes))
			}
		}
	}
	return out
}

// crash runs the rounds of kill -9 against Vedette, if it is among the peers.
func (c *runCommand) crash(e *env, specs []peer.Spec, rep *report.Report) error {
	for _, s := range specs {
		if s.Name != peer.Vedette || c.CrashRounds == 0 || !c.metrics() {
			continue
		}
		o := crash.DefaultOptions(s, filepath.Join(e.work, "crash"))
		o.Rounds, o.Log = c.CrashRounds, e.log
		var err error
		if rep.Crash, err = crashOn(e, o, crash.Run, false); err != nil {
			return err
		}
		return os.RemoveAll(o.RunDir)
	}
	return nil
}

// removeProfiles removes the profiles of earlier runs.
func removeProfiles(e *env) error {
	files, err := filepath.Glob(filepath.Join(e.out, "cpu-*.prof"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// printProfiles prints where the CPU time of each saved profile went.
func printProfiles(e *env) error {
	files, err := filepath.Glob(filepath.Join(e.out, "cpu-*.prof"))
	if err != nil {
		return err
	}
	for _, f := range files {
		out, err := exec.CommandContext(e, "go", "tool", "pprof", "-top", "-nodecount=40", f).Output()
		if err != nil {
			return fmt.Errorf("print profile %s: %w", f, err)
		}
		fmt.Printf("\n%s\n%s", f, out)
	}
	return nil
}
