package probe

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/ebpf/dns"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/profile"
	"github.com/vedette-io/vedette/ebpf/span"
	"github.com/vedette-io/vedette/ebpf/stream"
	"github.com/vedette-io/vedette/ebpf/tls"
)

// Config says what the probe watches and how it reports it.
type Config struct {
	// Features to load, of http, stream, tcp, dns, profile, tls, process, block and
	// runq. Those left out are off; of the default only runq and
	// profile are.
	Features []string `yaml:"features"`
	// Buckets are the upper bounds, in seconds, of the histograms of durations.
	// The default is that of OpenTelemetry's semantic conventions.
	Buckets []float64 `yaml:"buckets"`
	// PerProcess adds the label process_pid, for one series per process instead
	// of one per service.
	PerProcess bool `yaml:"per_process"`
	// MaxSeries bounds the entries that each feature keeps in the kernel. What
	// finds no room is counted as lost.
	MaxSeries int `yaml:"max_series"`
	// Proc is where the host's /proc is.
	Proc string `yaml:"proc"`
	// DNS is about the feature dns.
	DNS dns.Config `yaml:"dns"`
	// Profile is about the feature profile.
	Profile profile.Config `yaml:"profile"`
	// Stream is about the feature stream.
	Stream stream.Config `yaml:"stream"`
	// Spans says which requests become spans.
	Spans span.Config `yaml:"spans"`
	// TLS is about the feature tls, which is off until it is told whom to watch.
	TLS tls.Config `yaml:"tls"`
}

// features in the order they load.
var features = []string{"http", "stream", "tcp", "dns", "profile", "tls", "process", "block", "runq"}

// costly are those that the default leaves out: runq is paid for by every switch of
// threads, profile by about a hundredth of a processor.
var costly = []string{"runq", "profile"}

// DefaultConfig loads every feature but the costly.
func DefaultConfig() Config {
	return Config{
		Features:  slices.DeleteFunc(slices.Clone(features), func(f string) bool { return slices.Contains(costly, f) }),
		Buckets:   []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10},
		MaxSeries: 4096,
		Proc:      "/proc",
		DNS:       dns.DefaultConfig(),
		Profile:   profile.DefaultConfig(),
		Stream:    stream.DefaultConfig(),
		Spans:     span.DefaultConfig(),
		TLS:       tls.DefaultConfig(),
	}
}

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	for _, f := range c.Features {
		if !slices.Contains(features, f) {
			errs = append(errs, fmt.Errorf("features: got %q, want some of %s", f, strings.Join(features, ", ")))
		}
	}
	if _, err := feature.NewBuckets(c.Buckets); err != nil {
		errs = append(errs, fmt.Errorf("buckets: %w", err))
	}
	if c.MaxSeries < 64 || c.MaxSeries > 1<<20 {
		errs = append(errs, fmt.Errorf("max_series: got %d, want 64 to %d", c.MaxSeries, 1<<20))
	}
	if c.Proc == "" {
		errs = append(errs, errors.New("proc: is empty"))
	}
	if err := c.DNS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("dns: %w", err))
	}
	if err := c.Profile.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("profile: %w", err))
	}
	if err := c.Spans.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("spans: %w", err))
	}
	if err := c.Stream.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("stream: %w", err))
	}
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("tls: %w", err))
	}
	return errors.Join(errs...)
}
