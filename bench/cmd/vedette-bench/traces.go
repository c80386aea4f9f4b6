package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/bench/crash"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/bench/report"
	"github.com/vedette-io/vedette/ingest/buffer/kafkatest"
)

// build builds the peers that the scenarios asked for need. Jaeger, which only
// the one with traces does, is left out if it cannot be built.
func (c *runCommand) build(e *env) ([]peer.Spec, error) {
	traces := c.asked(report.TracesKey)
	var specs []peer.Spec
	for _, name := range c.Peers {
		name = strings.TrimSpace(name)
		if name == peer.Jaeger && !traces || name != peer.Jaeger && name != peer.Vedette && !c.metrics() {
			continue
		}
		built, err := e.build([]string{name})
		switch {
		case err != nil && name == peer.Jaeger && e.Err() == nil:
			e.log.Warn("peer left out", "peer", name, "err", err)
		case err != nil:
			return nil, err
		}
		specs = append(specs, built...)
	}
	return specs, nil
}

// traces runs the scenario with spans and the rounds of kill -9 that go with it,
// if it is asked for.
func (c *runCommand) traces(e *env, r *report.Runner, shrink int, rep *report.Report, save func() error) error {
	if !c.asked(report.TracesKey) {
		return nil
	}
	if c.Nezha == "" {
		c.Nezha = filepath.Join(e.root, "..", "shared", "data", "nezha")
	}
	if _, err := os.Stat(c.Nezha); err != nil {
		e.log.Warn("recorded traces left out", "why", err)
		c.Nezha = ""
	}
	err := r.RunTraces(e, c.Spans/shrink, c.Nezha, func(t *report.TracesReport) error {
		rep.Traces = t
		return save()
	})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Peers, func(s peer.Spec) bool { return s.Name == peer.Vedette })
	if i < 0 {
		return nil
	}
	for _, v := range []struct {
		rounds  int
		onKafka bool
	}{{c.CrashRounds, false}, {c.KafkaRounds, true}} {
		if v.rounds == 0 {
			continue
		}
		if why := kafkatest.Missing(); v.onKafka && why != "" {
			e.log.Warn("kill -9 with Kafka left out", "why", why)
			continue
		}
		o := crash.DefaultSpanOptions(r.Peers[i], filepath.Join(e.work, "crash"))
		o.Rounds, o.Log = v.rounds, e.log
		out, err := crashOn(e, o, crash.RunSpans, v.onKafka)
		if err != nil {
			return err
		}
		rep.Traces.Crashes = append(rep.Traces.Crashes, out)
		if err := errors.Join(save(), os.RemoveAll(o.RunDir)); err != nil {
			return err
		}
	}
	return nil
}
