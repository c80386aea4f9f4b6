package probe

import (
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
)

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, edit := range map[string]func(*Config){
		"features":           func(c *Config) { c.Features = []string{"http", "https"} },
		"buckets":            func(c *Config) { c.Buckets = []float64{2, 1} },
		"rise":               func(c *Config) { c.Buckets = []float64{math.NaN()} },
		"apart":              func(c *Config) { c.Buckets = []float64{1, 1.0001} },
		"max_series":         func(c *Config) { c.MaxSeries = 1 },
		"proc":               func(c *Config) { c.Proc = "" },
		"tls: targets":       func(c *Config) { c.TLS.Targets = []string{"["} },
		"stream":             func(c *Config) { c.Stream.HeadBytes = 1 },
		"profile: frequency": func(c *Config) { c.Profile.Frequency = 0 },
		"dns: ports":         func(c *Config) { c.DNS.Ports = nil },
	} {
		c := DefaultConfig()
		edit(&c)
		require.ErrorContains(t, c.Validate(), want)
		_, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
		require.ErrorContains(t, err, want)
	}
}

// Features that are off, or not started, are told and export nothing else.
func TestStates(t *testing.T) {
	c := DefaultConfig()
	c.Features = nil
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	for _, c := range p.Collectors() {
		require.NoError(t, reg.Register(c))
	}
	const head = `
# HELP vedette_ebpf_feature What became of each eBPF feature; the value is always 1. A loaded one has a reason when it does not see all it could.
# TYPE vedette_ebpf_feature gauge
`
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(head+
		`vedette_ebpf_feature{name="dns",reason="not started",state="off"} 1
vedette_ebpf_feature{name="http",reason="not started",state="off"} 1
vedette_ebpf_feature{name="stream",reason="not started",state="off"} 1
vedette_ebpf_feature{name="profile",reason="not started",state="off"} 1
vedette_ebpf_feature{name="process",reason="not started",state="off"} 1
vedette_ebpf_feature{name="block",reason="not started",state="off"} 1
vedette_ebpf_feature{name="runq",reason="not started",state="off"} 1
vedette_ebpf_feature{name="tcp",reason="not started",state="off"} 1
vedette_ebpf_feature{name="tls",reason="not started",state="off"} 1
`)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Started()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(head+
		`vedette_ebpf_feature{name="dns",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="http",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="stream",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="profile",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="process",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="block",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="runq",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="tcp",reason="configuration",state="off"} 1
vedette_ebpf_feature{name="tls",reason="configuration",state="off"} 1
`)))
	cancel()
	require.NoError(t, <-done)
}

// The committed objects are readable and have what load sets.
func TestSpecs(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"http": bpf.LoadHttp, "stream": bpf.LoadStream, "tcp": bpf.LoadTcp, "profile": bpf.LoadProfile, "dns": bpf.LoadDns, "runq": bpf.LoadRunq, "block": bpf.LoadBlock, "process": bpf.LoadProcess, "tls": bpf.LoadTls} {
		spec, err := load()
		require.NoError(t, err)
		require.NotEmpty(t, spec.Programs, name)
		require.NotNil(t, spec.Variables[bpf.HttpVarSelfTgid], name)
	}
}
