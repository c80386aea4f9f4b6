package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/collector/container"
	"github.com/vedette-io/vedette/collector/gather"
	"github.com/vedette-io/vedette/collector/gpu"
	"github.com/vedette-io/vedette/collector/host"
	"github.com/vedette-io/vedette/collector/log"
	"github.com/vedette-io/vedette/collector/mesos"
	"github.com/vedette-io/vedette/ebpf/probe"
	"github.com/vedette-io/vedette/ebpf/profile"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

// CollectConfig says what this process measures of its own machine.
type CollectConfig struct {
	// Enabled says whether anything is measured at all.
	Enabled bool `yaml:"enabled"`

	// Interval is the time between two samples.
	Interval time.Duration `yaml:"interval"`

	// Instance is the label instance of what is measured; empty is the machine's
	// name.
	Instance string `yaml:"instance"`

	// Tenant is whose the series are.
	Tenant string `yaml:"tenant"`

	// Host measures the machine as node_exporter does, as job node; see host.md.
	Host HostConfig `yaml:"host"`

	// Containers measures containers as cAdvisor does, as job cadvisor; see
	// containers.md.
	Containers container.Config `yaml:"containers"`

	// EBPF counts what services do, seen from the kernel, as job ebpf; see ebpf.md.
	EBPF EBPFConfig `yaml:"ebpf"`

	// GPU measures NVIDIA GPUs as the DCGM exporter does, as job dcgm; see gpu.md.
	GPU gpu.Config `yaml:"gpu"`

	// Logs are log files to read; see logs.md.
	Logs log.Config `yaml:"logs"`

	// Mesos measures masters and agents of Mesos, as job mesos, if it names any;
	// see mesos.md.
	Mesos mesos.Config `yaml:"mesos"`
}

// HostConfig is the machine.
type HostConfig struct {
	// Enabled turns it on.
	Enabled bool `yaml:"enabled"`

	// What is measured.
	host.Config `yaml:",inline"`
}

// EBPFConfig is what the kernel sees.
type EBPFConfig struct {
	// Enabled turns it on. Without the rights for it nothing happens but a message.
	Enabled bool `yaml:"enabled"`

	// What is counted.
	probe.Config `yaml:",inline"`
}

func defaultCollectConfig() CollectConfig {
	return CollectConfig{
		Enabled: true, Interval: 15 * time.Second, Tenant: tenant.Default,
		Host: HostConfig{true, host.DefaultConfig()}, Containers: container.DefaultConfig(),
		EBPF: EBPFConfig{true, probe.DefaultConfig()}, GPU: gpu.DefaultConfig(), Logs: log.DefaultConfig(), Mesos: mesos.DefaultConfig(),
	}
}

// Validate names every bad key.
func (c *CollectConfig) Validate() error {
	var errs []error
	if c.Interval < time.Second {
		errs = append(errs, fmt.Errorf("interval: got %s, want at least 1s", c.Interval))
	}
	if err := tenant.Validate(c.Tenant); err != nil {
		errs = append(errs, fmt.Errorf("tenant: %w", err))
	}
	return errors.Join(append(errs, under("host", c.Host.Config.Validate()), under("containers", c.Containers.Validate()),
		under("ebpf", c.EBPF.Config.Validate()), under("gpu", c.GPU.Validate()), under("logs", c.Logs.Validate()), under("mesos", c.Mesos.Validate()))...)
}

// agent is what measures this machine.
type agent struct {
	runner     *gather.Runner
	loops      []part               // of sources that have one
	containers *container.Collector // nil: off
	profiles   *profile.Feature     // nil: eBPF is off
	write      gather.Writer
}

// openAgent opens the sources of metrics that are turned on.
func (s *server) openAgent() error {
	c := &s.config.Collect
	if !c.Enabled {
		return nil
	}
	entry, err := s.doors.Entry("collect", s.config.Ingest.ScrapeLimits)
	if err != nil {
		return err
	}
	a := &agent{write: intoDoor(entry)}
	var jobs []gather.Job
	add := func(name string, sources ...prometheus.Collector) error {
		registry := prometheus.NewRegistry()
		for _, source := range sources {
			if err := registry.Register(source); err != nil {
				return fmt.Errorf("collect %s: %w", name, err)
			}
		}
		jobs = append(jobs, gather.Job{Name: name, Instance: c.instance(), Gatherer: registry, Interval: c.Interval})
		return nil
	}
	for _, open := range []func(*agent, func(string, ...prometheus.Collector) error) error{
		s.openHost, s.openContainers, s.openEBPF, s.openGPU, s.openMesos,
	} {
		if err := open(a, add); err != nil {
			return err
		}
	}
	if err := s.openLogFiles(a); err != nil {
		return err
	}
	a.runner = gather.New(gather.Options{
		Jobs: jobs, Tenant: c.Tenant, Logger: s.logger.With("part", "collect"), Registerer: s.registry,
		Write: a.write,
	})
	s.agent = a
	return nil
}

// intoDoor writes requests of sources that ask only whether they were taken.
func intoDoor(entry *door.Entry) func(ctx context.Context, id string, format buffer.Format, payload []byte) error {
	return func(ctx context.Context, id string, format buffer.Format, payload []byte) error {
		_, err := entry.Write(ctx, id, format, payload)
		return err
	}
}

func (c *CollectConfig) instance() string {
	if c.Instance != "" {
		return c.Instance
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func (s *server) openHost(_ *agent, add func(string, ...prometheus.Collector) error) error {
	if !s.config.Collect.Host.Enabled {
		return nil
	}
	h, err := host.New(host.Options{Config: s.config.Collect.Host.Config, Logger: s.logger.With("part", "host"), Registerer: s.registry})
	if err != nil {
		return err
	}
	return add("node", h)
}

func (s *server) openContainers(a *agent, add func(string, ...prometheus.Collector) error) error {
	if !s.config.Collect.Containers.Enabled {
		return nil
	}
	c, err := container.New(s.config.Collect.Containers, s.logger.With("part", "containers"), s.registry)
	if err != nil {
		return err
	}
	a.containers = c
	a.loops = append(a.loops, part{name: "containers", run: c.Run})
	return add("cadvisor", c)
}

func (s *server) openEBPF(a *agent, add func(string, ...prometheus.Collector) error) error {
	if !s.config.Collect.EBPF.Enabled {
		return nil
	}
	o := probe.Options{
		Config: s.config.Collect.EBPF.Config, Logger: s.logger.With("part", "ebpf"),
		WriteSpans: func(ctx context.Context, payload []byte) error {
			return a.write(ctx, s.config.Collect.Tenant, buffer.FormatOTLPTraces, payload)
		},
	}
	if a.containers != nil {
		o.Directory = a.containers
	}
	p, err := probe.New(o)
	if err != nil {
		return err
	}
	a.profiles = p.Profiles()
	a.loops = append(a.loops, part{name: "ebpf", run: p.Run})
	return add("ebpf", p.Collectors()...)
}

func (s *server) openGPU(_ *agent, add func(string, ...prometheus.Collector) error) error {
	if !s.config.Collect.GPU.Enabled {
		return nil
	}
	g, err := gpu.New(s.config.Collect.GPU, gpu.NewHelper(s.config.Collect.GPU), s.logger.With("part", "gpu"), s.registry)
	if err != nil {
		return err
	}
	s.onClose(g.Close)
	return add("dcgm", g)
}

func (s *server) openMesos(_ *agent, add func(string, ...prometheus.Collector) error) error {
	c := s.config.Collect.Mesos
	if len(c.Masters)+len(c.Agents) == 0 {
		return nil
	}
	m, err := mesos.New(c, s.logger.With("part", "mesos"), s.registry)
	if err != nil {
		return err
	}
	return add("mesos", m)
}

// endpoints are what the agent answers itself.
func (a *agent) endpoints() []endpoint {
	if a == nil || a.profiles == nil {
		return nil
	}
	h := a.profiles.Handler()
	return []endpoint{
		{pattern: profile.Path, show: "GET /api/v1/profile", what: "processor time by function: folded stacks, pprof, JSON", handler: h},
		{pattern: profile.PathServices, show: "GET /api/v1/profile/services", what: "services that have profiles", handler: h},
	}
}

// parts are what of the agent runs by itself.
func (a *agent) parts() []part {
	return append([]part{{name: "collect", run: a.runner.Run}}, a.loops...)
}
