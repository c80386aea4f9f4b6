package gpu

import (
	"errors"
	"fmt"
	"time"
)

// Config configures a Collector.
type Config struct {
	// Enabled turns GPU metrics on, for machines that have NVIDIA's driver.
	Enabled bool `yaml:"enabled"`

	// Helper is the path of the program vedette-nvml. Empty looks beside the agent's
	// own program and then in PATH.
	Helper string `yaml:"helper"`

	// Timeout is how long the driver may take for an answer.
	Timeout time.Duration `yaml:"timeout"`

	// MaxProcesses is how many processes of each GPU are told apart, those that use
	// most of its memory. 0 turns metrics of processes off.
	MaxProcesses int `yaml:"max_processes"`
}

// DefaultConfig returns the defaults: all GPUs of this machine.
func DefaultConfig() Config {
	return Config{Enabled: true, Timeout: 5 * time.Second, MaxProcesses: 64}
}

// Validate names the keys whose values are not possible.
func (c Config) Validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("timeout: got %s, want > 0s", c.Timeout))
	}
	if c.MaxProcesses < 0 {
		errs = append(errs, fmt.Errorf("max_processes: got %d, want >= 0", c.MaxProcesses))
	}
	return errors.Join(errs...)
}
