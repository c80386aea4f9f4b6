package sampling

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/vedette-io/vedette/internal/tenant"
)

// Config configures sampling. The default keeps everything.
type Config struct {
	HeadConfig `yaml:",inline"`

	// Tenants are tenants with other head sampling than the rest.
	Tenants map[string]TenantConfig `yaml:"tenants"`

	// Tail configures the sampling of complete traces.
	Tail TailConfig `yaml:"tail"`
}

// HeadConfig configures the sampling of traces before they are stored.
type HeadConfig struct {
	// Probability is the share of traces that are kept, by trace id.
	Probability float64 `yaml:"probability"`

	// SpansPerSecond is about how many spans of a tenant are kept. 0 is no limit.
	SpansPerSecond float64 `yaml:"spans_per_second"`
}

// TenantConfig configures what differs for a tenant before its traces are
// stored.
type TenantConfig struct {
	// Probability is the share of the tenant's traces that are kept.
	Probability *float64 `yaml:"probability"`

	// SpansPerSecond is about how many spans of the tenant are kept. 0 is no limit.
	SpansPerSecond *float64 `yaml:"spans_per_second"`
}

// headOf returns the head sampling of a tenant.
func (c *Config) headOf(id string) HeadConfig {
	h, t := c.HeadConfig, c.Tenants[id]
	if t.Probability != nil {
		h.Probability = *t.Probability
	}
	if t.SpansPerSecond != nil {
		h.SpansPerSecond = *t.SpansPerSecond
	}
	return h
}

// TailConfig configures the sampling of complete traces.
type TailConfig struct {
	// Enabled says whether complete traces are decided about at all.
	Enabled bool `yaml:"enabled"`

	// Errors keeps traces that have a span with an error.
	Errors bool `yaml:"errors"`

	// SlowQuantile keeps traces that take longer than this quantile of those that
	// begin with the same service and operation. 0 is off.
	SlowQuantile float64 `yaml:"slow_quantile"`

	// RarePerHour keeps so many traces of each service and operation in each hour.
	RarePerHour int `yaml:"rare_per_hour"`

	// Probability is the share of the other traces that are kept.
	Probability float64 `yaml:"probability"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		HeadConfig: HeadConfig{Probability: 1},
		Tail:       TailConfig{Errors: true, SlowQuantile: 0.99, RarePerHour: 10, Probability: 0.1},
	}
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	head := func(prefix string, h HeadConfig) {
		bad(h.Probability >= 0 && h.Probability <= 1, "%sprobability: got %g, want 0 to 1", prefix, h.Probability)
		bad(h.SpansPerSecond >= 0 && !math.IsInf(h.SpansPerSecond, 0), "%sspans_per_second: got %g, want 0 or more", prefix, h.SpansPerSecond)
	}
	head("", c.HeadConfig)
	for _, name := range slices.Sorted(maps.Keys(c.Tenants)) {
		head("tenants."+name+".", c.headOf(name))
		if err := tenant.Validate(name); err != nil {
			errs = append(errs, fmt.Errorf("tenants: %w", err))
		}
	}
	t := c.Tail
	bad(t.SlowQuantile >= 0 && t.SlowQuantile < 1, "tail.slow_quantile: got %g, want 0 to less than 1", t.SlowQuantile)
	bad(t.RarePerHour >= 0 && t.RarePerHour <= math.MaxInt32, "tail.rare_per_hour: got %d, want 0 to %d", t.RarePerHour, math.MaxInt32)
	bad(t.Probability >= 0 && t.Probability <= 1, "tail.probability: got %g, want 0 to 1", t.Probability)
	return errors.Join(errs...)
}
