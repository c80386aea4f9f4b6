package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/vedette-io/vedette/bench/overhead"
	"github.com/vedette-io/vedette/bench/peer"
	"github.com/vedette-io/vedette/bench/report"
)

// agent measures what the agent costs, if that is asked for, nginx can be
// started and this process has the agent's rights.
func (c *runCommand) agent(e *env, specs []peer.Spec, shrink int, rep *report.Report, save func() error) error {
	i := slices.IndexFunc(specs, func(s peer.Spec) bool { return s.Name == peer.Vedette })
	if !c.asked(report.AgentKey) || i < 0 {
		return nil
	}
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = filepath.Join(e.root, ".cache", "tools", "usr", "sbin", "nginx")
	}
	if _, err := os.Stat(nginx); err != nil {
		e.log.Warn("scenario left out", "scenario", report.AgentKey, "why", "nginx is missing; make test-tools unpacks it")
		return nil
	}
	if os.Geteuid() != 0 {
		e.log.Warn("scenario left out", "scenario", report.AgentKey, "why", "it wants root, to watch nginx")
		return nil
	}
	o := overhead.DefaultOptions(specs[i], nginx, filepath.Join(e.work, "agent"))
	o.Log = e.log
	if shrink > 1 {
		o.Rounds, o.PerTurn, o.Span = 3, o.PerTurn/shrink, o.Span/4
	}
	m, err := overhead.Run(e, o)
	if err != nil {
		return err
	}
	rep.Agent = report.NewAgentReport(specs[i], m)
	return save()
}
