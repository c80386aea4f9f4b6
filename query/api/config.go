package api

import (
	"errors"
	"fmt"

	"github.com/grafana/regexp"
)

// Config holds the settings of the HTTP API.
type Config struct {
	// EnableAdminAPI allows to delete series, clean tombstones and take
	// snapshots over HTTP.
	EnableAdminAPI bool `yaml:"enable_admin_api"`
	// CORSOrigin is a regular expression for the origins that a browser may call
	// from. It is anchored.
	CORSOrigin string `yaml:"cors_origin"`
	// ExternalLabels are added to series that leave by federation and remote read.
	ExternalLabels map[string]string `yaml:"external_labels"`
	// RemoteReadMaxSamples bounds the samples of one remote read query that is not
	// streamed.
	RemoteReadMaxSamples int `yaml:"remote_read_max_samples"`
	// RemoteReadMaxFrameBytes bounds one frame of a streamed remote read.
	RemoteReadMaxFrameBytes int `yaml:"remote_read_max_frame_bytes"`
}

// DefaultConfig returns the settings of a Prometheus server.
func DefaultConfig() Config {
	return Config{
		CORSOrigin:              ".*",
		RemoteReadMaxSamples:    50_000_000,
		RemoteReadMaxFrameBytes: 1 << 20,
	}
}

// Validate names every key whose value makes no sense.
func (c Config) Validate() error {
	var errs []error
	if _, err := c.corsOrigin(); err != nil {
		errs = append(errs, fmt.Errorf("cors_origin: %w", err))
	}
	for name := range c.ExternalLabels {
		if name == "" || name == "__name__" {
			errs = append(errs, fmt.Errorf("external_labels: got name %q, want a label that series may carry", name))
		}
	}
	if c.RemoteReadMaxSamples <= 0 {
		errs = append(errs, fmt.Errorf("remote_read_max_samples: got %d, want more than 0", c.RemoteReadMaxSamples))
	}
	if c.RemoteReadMaxFrameBytes <= 0 {
		errs = append(errs, fmt.Errorf("remote_read_max_frame_bytes: got %d, want more than 0", c.RemoteReadMaxFrameBytes))
	}
	return errors.Join(errs...)
}

func (c Config) corsOrigin() (*regexp.Regexp, error) {
	return regexp.Compile("^(?:" + c.CORSOrigin + ")$")
}
