package traces

import (
	"errors"
	"fmt"
	"time"
)

// Config bounds what questions about spans may use.
type Config struct {
	// Timeout is how long one question may be worked on; what was found until
	// then is the answer, marked as partial.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBytes is how many bytes of stored columns one question may read; what
	// was found until then is the answer, marked as partial.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxSeries is how many series one metrics query may make.
	MaxSeries int `yaml:"max_series"`
	// MaxTraces is how many traces one search may ask for.
	MaxTraces int `yaml:"max_traces"`
	// MaxValues is how many names or values of attributes one answer lists.
	MaxValues int `yaml:"max_values"`
	// MaxConcurrent is how many questions are worked on at the same time.
	MaxConcurrent int `yaml:"max_concurrent"`
	// MaxQueued is how many more may wait for their turn; beyond, they are refused.
	MaxQueued int `yaml:"max_queued"`
}

// DefaultConfig returns bounds that suit a small server.
func DefaultConfig() Config {
	return Config{
		Timeout:       30 * time.Second,
		MaxBytes:      8 << 30,
		MaxSeries:     10_000,
		MaxTraces:     10_000,
		MaxValues:     10_000,
		MaxConcurrent: 8,
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
	check(c.MaxBytes > 0, "max_bytes", c.MaxBytes, "more than 0")
	check(c.MaxSeries > 0, "max_series", c.MaxSeries, "more than 0")
	check(c.MaxTraces > 0, "max_traces", c.MaxTraces, "more than 0")
	check(c.MaxValues > 0, "max_values", c.MaxValues, "more than 0")
	check(c.MaxConcurrent > 0 && c.MaxConcurrent <= 4096, "max_concurrent", c.MaxConcurrent, "1 to 4096")
	check(c.MaxQueued >= 0, "max_queued", c.MaxQueued, "0 or more")
	return errors.Join(errs...)
}
