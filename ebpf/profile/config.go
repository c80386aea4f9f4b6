package profile

import (
	"errors"
	"fmt"
	"time"
)

// Config says how stacks are sampled and how long profiles are held.
type Config struct {
	// Frequency is the number of samples a second on each processor. 99 does not
	// keep step with what happens a hundred times a second.
	Frequency int `yaml:"frequency"`
	// Interval is the time that samples are added up over; a query sees whole
	// intervals.
	Interval time.Duration `yaml:"interval"`
	// Keep is how long profiles are held.
	Keep time.Duration `yaml:"keep"`
	// MaxBytes bounds the memory of the profiles. The oldest are dropped, and
	// counted, when it is full.
	MaxBytes int64 `yaml:"max_bytes"`
	// SymbolBytes bounds the memory of the tables that names of functions are
	// looked up in. Those of files not met for longest are dropped.
	SymbolBytes int64 `yaml:"symbol_bytes"`
}

// DefaultConfig is 99 Hz, in intervals of a minute, held for an hour.
func DefaultConfig() Config {
	return Config{Frequency: 99, Interval: time.Minute, Keep: time.Hour, MaxBytes: 16 << 20, SymbolBytes: 16 << 20}
}

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Frequency < 1 || c.Frequency > 999 {
		errs = append(errs, fmt.Errorf("frequency: got %d, want 1 to 999", c.Frequency))
	}
	if c.Interval < time.Second || c.Interval > time.Hour {
		errs = append(errs, fmt.Errorf("interval: got %s, want 1s to 1h", c.Interval))
	}
	if c.Keep < c.Interval || c.Keep > 7*24*time.Hour {
		errs = append(errs, fmt.Errorf("keep: got %s, want interval (%s) to 168h", c.Keep, c.Interval))
	}
	if c.MaxBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("max_bytes: got %d, want at least %d", c.MaxBytes, 1<<20))
	}
	if c.SymbolBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("symbol_bytes: got %d, want at least %d", c.SymbolBytes, 1<<20))
	}
	return errors.Join(errs...)
}
