package promql

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds what queries may use and sets the engine's defaults.
type Config struct {
	// Timeout ends a query that runs or waits for longer.
	Timeout time.Duration `yaml:"timeout"`
	// LookbackDelta is how old a series' newest sample may be to count as its
	// current value.
	LookbackDelta time.Duration `yaml:"lookback_delta"`
	// SubqueryStep is the step of subqueries that name none.
	SubqueryStep time.Duration `yaml:"subquery_step"`
	// MaxSamples is how many samples one query may hold in memory.
	MaxSamples int `yaml:"max_samples"`
	// MaxBytes is how many bytes of series and samples one query may decode.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxConcurrent is how many queries run at the same time.
	MaxConcurrent int `yaml:"max_concurrent"`
	// MaxQueued is how many queries of one tenant may wait for their turn.
	MaxQueued int `yaml:"max_queued"`
	// ExperimentalFunctions enables PromQL functions that may still change.
	ExperimentalFunctions bool `yaml:"experimental_functions"`
	// DelayedNameRemoval drops metric names at the end of a query instead of in
	// every function, so that sum(rate({__name__=~"a|b"}[5m])) has an answer.
	DelayedNameRemoval bool `yaml:"delayed_name_removal"`
}

// DefaultConfig returns the settings of a Prometheus server, and a queue.
func DefaultConfig() Config {
	return Config{
		Timeout:       2 * time.Minute,
		LookbackDelta: 5 * time.Minute,
		SubqueryStep:  time.Minute,
		MaxSamples:    50_000_000,
		MaxBytes:      4 << 30,
		MaxConcurrent: 20,
		MaxQueued:     100,
	}
}

// Validate names every key whose value makes no sense.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, key string, got any, want string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: got %v, want %s", key, got, want))
		}
	}
	check(c.Timeout > 0, "timeout", c.Timeout, "more than 0")
	check(c.LookbackDelta >= time.Millisecond, "lookback_delta", c.LookbackDelta, "at least 1ms")
	check(c.SubqueryStep >= time.Millisecond, "subquery_step", c.SubqueryStep, "at least 1ms")
	check(c.MaxSamples > 0, "max_samples", c.MaxSamples, "more than 0")
	check(c.MaxBytes > 0, "max_bytes", c.MaxBytes, "more than 0")
	check(c.MaxConcurrent > 0 && c.MaxConcurrent <= 4096, "max_concurrent", c.MaxConcurrent, "1 to 4096")
	check(c.MaxQueued >= 0, "max_queued", c.MaxQueued, "0 or more")
	return errors.Join(errs...)
}
