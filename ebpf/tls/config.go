package tls

import (
	"errors"
	"fmt"
	"path"
)

// Config says whose TLS is looked into.
type Config struct {
	// Targets are patterns (*, ?, [a-z]) of the programs to watch: of the whole
	// path of an executable where they have a slash, else of its file name or of
	// the service's name. None: the feature is off.
	Targets []string `yaml:"targets"`
}

// DefaultConfig watches nothing.
func DefaultConfig() Config { return Config{} }

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.Targets {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			errs = append(errs, fmt.Errorf("targets: got %q, want a pattern such as nginx or /usr/bin/*", p))
		}
	}
	return errors.Join(errs...)
}
