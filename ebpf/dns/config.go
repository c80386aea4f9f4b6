package dns

import (
	"errors"
	"fmt"
	"time"
)

// maxPorts is how many ports the programs have room for; it mirrors dns.h.
const maxPorts = 4

// Config says which lookups are counted, and how names are told.
type Config struct {
	// Ports that name servers answer on, four at most.
	Ports []int `yaml:"ports"`
	// Timeout is how long a question may wait for its answer; then it is counted
	// with error_type "timeout".
	Timeout time.Duration `yaml:"timeout"`
	// Names bounds the domains that are told of each service as the label
	// dns_question_name; those beyond are "other". 0 turns the label off.
	Names int `yaml:"names"`
}

// DefaultConfig watches port 53.
func DefaultConfig() Config { return Config{Ports: []int{53}, Timeout: 5 * time.Second, Names: 32} }

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	if len(c.Ports) == 0 || len(c.Ports) > maxPorts {
		errs = append(errs, fmt.Errorf("ports: got %d, want 1 to %d", len(c.Ports), maxPorts))
	}
	for _, p := range c.Ports {
		if p < 1 || p > 65535 {
			errs = append(errs, fmt.Errorf("ports: got %d, want 1 to 65535", p))
		}
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		errs = append(errs, fmt.Errorf("timeout: got %s, want 100ms to 1m", c.Timeout))
	}
	if c.Names < 0 || c.Names > 4096 {
		errs = append(errs, fmt.Errorf("names: got %d, want 0 to 4096", c.Names))
	}
	return errors.Join(errs...)
}
