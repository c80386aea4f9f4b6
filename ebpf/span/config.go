package span

import (
	"errors"
	"fmt"
	"time"
)

// Config says which requests become spans.
type Config struct {
	// Ratio of requests, or of traces where requests carry a traceparent, that
	// become spans, from 0 (none; nothing is then kept for them) to 1.
	Ratio float64 `yaml:"ratio"`
	// Wait is how long a request that has ended is held for the other end of its
	// connection and for the request that caused it.
	Wait time.Duration `yaml:"wait"`
	// Buffer bounds the requests that are held. What finds no room is counted as
	// lost.
	Buffer int `yaml:"buffer"`
	// Fleet says that every host that sends requests to this one makes spans as
	// well, with the same ratio, and that nothing translates addresses or ends
	// connections between them unseen. A request from another host is then the
	// child of that host's span, which is not known here but has a known id.
	Fleet bool `yaml:"fleet"`
}

// DefaultConfig makes no spans.
func DefaultConfig() Config { return Config{Wait: 3 * time.Second, Buffer: 16384} }

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		errs = append(errs, fmt.Errorf("ratio: got %v, want 0 to 1", c.Ratio))
	}
	if c.Wait < 2*tick || c.Wait > time.Minute {
		errs = append(errs, fmt.Errorf("wait: got %v, want %v to %v", c.Wait, 2*tick, time.Minute))
	}
	if c.Buffer < 64 || c.Buffer > 1<<20 {
		errs = append(errs, fmt.Errorf("buffer: got %d, want 64 to %d", c.Buffer, 1<<20))
	}
	return errors.Join(errs...)
}
