package main

import (
	"errors"
	"fmt"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/influx"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/pushgateway"
	"github.com/vedette-io/vedette/ingest/statsd"
)

// IngestConfig is what all ways in have in common, and the limits of those that
// have no section of their own.
type IngestConfig struct {
	// The door.
	door.Config `yaml:",inline"`

	// RemoteWriteLimits hold for remote write, beside the limits above.
	RemoteWriteLimits door.EntryConfig `yaml:"remote_write_limits"`

	// ScrapeLimits hold for all scrapes together, beside the limits above.
	ScrapeLimits door.EntryConfig `yaml:"scrape_limits"`
}

// Validate names every bad key.
func (c *IngestConfig) Validate() error {
	return errors.Join(c.Config.Validate(), under("remote_write_limits", c.RemoteWriteLimits.Validate()), under("scrape_limits", c.ScrapeLimits.Validate()))
}

// OTLPConfig is the OTLP door.
type OTLPConfig struct {
	// Where it is served.
	Server otlpserver.Config `yaml:",inline"`

	// How metrics become series.
	Translation otlp.Config `yaml:",inline"`
}

// Validate names every bad key.
func (c *OTLPConfig) Validate() error {
	return errors.Join(c.Server.Validate(), c.Translation.Validate())
}

// InfluxConfig is the door for InfluxDB line protocol.
type InfluxConfig struct {
	// How lines become series.
	influx.Config `yaml:",inline"`

	// Limits hold for this door, beside those of ingest.
	Limits door.EntryConfig `yaml:"limits"`
}

// Validate names every bad key.
func (c *InfluxConfig) Validate() error {
	return errors.Join(c.Config.Validate(), under("limits", c.Limits.Validate()))
}

// PushgatewayConfig is the door of batch jobs.
type PushgatewayConfig struct {
	// How groups are kept.
	pushgateway.Config `yaml:",inline"`

	// Limits hold for this door, beside those of ingest.
	Limits door.EntryConfig `yaml:"limits"`
}

// Validate names every bad key.
func (c *PushgatewayConfig) Validate() error {
	return errors.Join(c.Config.Validate(), under("limits", c.Limits.Validate()))
}

// StatsDConfig is the door of StatsD and DogStatsD clients.
type StatsDConfig struct {
	// Where it listens and what events become.
	statsd.Config `yaml:",inline"`

	// Limits hold for this door, beside those of ingest.
	Limits door.EntryConfig `yaml:"limits"`
}

// Validate names every bad key.
func (c *StatsDConfig) Validate() error {
	return errors.Join(c.Config.Validate(), under("limits", c.Limits.Validate()))
}

// SpanDoorConfig is a door of spans that has nothing to set but limits.
type SpanDoorConfig struct {
	// Limits hold for this door, beside those of ingest.
	Limits door.EntryConfig `yaml:"limits"`
}

// Validate names every bad key.
func (c *SpanDoorConfig) Validate() error { return under("limits", c.Limits.Validate()) }

// under puts a section's name before every key that err names.
func under(section string, err error) error {
	if err == nil {
		return nil
	}
	all := []error{err}
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // what errors.Join has just made
		all = many.Unwrap()
	}
	out := make([]error, len(all))
	for i, e := range all {
		out[i] = fmt.Errorf("%s.%w", section, e)
	}
	return errors.Join(out...)
}
