package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"syscall"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/influx"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/pushgateway"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/vfs"
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

// doors are the ways in, over one door.
type doors struct {
	*door.Door
	formats     *wire.Formats // of the buffer
	remoteWrite *door.Entry
	scrape      *door.Entry
	otlp        *otlpserver.Server
	influx      *influx.Handler
	pushgateway *pushgateway.Gateway
}

// openDoors opens every way into the buffer.
func (s *server) openDoors(ctx context.Context, b openedBuffer) (err error) {
	c := &s.config
	d := &s.doors
	d.formats = &wire.Formats{}
	remotewrite.Register(d.formats)
	d.formats.Register(func() wire.Decoder { return otlp.New(c.OTLP.Translation) }, buffer.FormatOTLP, buffer.FormatOTLPSnappy)
	d.Door, err = door.New(door.Options{
		Buffer: s.buffer, Config: c.Ingest.Config, Formats: d.formats, MaxRecordBytes: b.maxRecordBytes, Plain: b.compresses,
		Logger: s.logger.With("part", "ingest"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	if d.remoteWrite, err = d.Entry("remote_write", c.Ingest.RemoteWriteLimits); err != nil {
		return err
	}
	if d.scrape, err = d.Entry("scrape", c.Ingest.ScrapeLimits); err != nil {
		return err
	}
	if err := s.openOTLP(ctx); err != nil {
		return err
	}
	lines, err := d.Entry("influx", c.Influx.Limits)
	if err != nil {
		return err
	}
	d.influx, err = influx.New(influx.Options{Entry: lines, Config: c.Influx.Config, Version: s.build.Version, Registerer: s.registry})
	if err != nil {
		return err
	}
	pushed, err := d.Entry("pushgateway", c.Pushgateway.Limits)
	if err != nil {
		return err
	}
	d.pushgateway, err = pushgateway.Open(pushgateway.Options{
		Config: c.Pushgateway.Config, Entry: pushed, FS: vfs.OS, Dir: s.path(pushgatewayDir),
		Build:  map[string]string{"version": s.build.Version, "revision": s.build.Revision, "goVersion": runtime.Version()},
		Logger: s.logger.With("part", "pushgateway"), Registerer: s.registry,
	})
	return err
}

// openOTLP listens for OTLP.
func (s *server) openOTLP(ctx context.Context) error {
	c := s.config.OTLP.Server
	usual := otlpserver.DefaultConfig()
	c.GRPC.Listen = s.freeOrNone("otlp.grpc.listen", c.GRPC.Listen, usual.GRPC.Listen)
	c.HTTP.Listen = s.freeOrNone("otlp.http.listen", c.HTTP.Listen, usual.HTTP.Listen)
	entry, err := s.doors.Entry("otlp", c.Limits)
	if err != nil {
		return err
	}
	s.doors.otlp, err = otlpserver.Open(ctx, otlpserver.Options{
		Config: c, Entry: entry, Ready: s.health.ready.Load, BearerToken: s.config.HTTP.BearerToken,
		Logger: s.logger.With("part", "otlp"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	s.onClose(s.doors.otlp.Close)
	return nil
}

// freeOrNone returns an address to listen on. A default one that somebody else
// has, such as an OpenTelemetry Collector on this machine, is left to them; one
// that was asked for is an error when it is opened.
func (s *server) freeOrNone(key, address, usual string) string {
	if address != usual {
		return address
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		s.logger.Warn("going on without a listener whose usual address is in use: set another one", "listen", address, "key", key)
		return ""
	}
	if err == nil {
		_ = l.Close()
	}
	return address
}

// endpoints lists what the main listener takes in.
func (d *doors) endpoints(traced func(name string, h http.Handler) http.Handler) []endpoint {
	list := []endpoint{
		{
			pattern: "/api/v1/write", show: "POST /api/v1/write", what: "Prometheus remote write 1.0 and 2.0",
			handler: traced("POST /api/v1/write", door.RemoteWrite{Entry: d.remoteWrite}),
		},
		{
			pattern: "/api/v1/otlp/v1/metrics", show: "POST /api/v1/otlp/v1/metrics", what: "OTLP metrics, as on the OTLP port",
			handler: traced("POST /api/v1/otlp/v1/metrics", d.otlp.Handler()),
		},
	}
	what := map[string]string{"/write": "InfluxDB 1.x line protocol", "/api/v2/write": "InfluxDB 2.x line protocol"}
	for _, path := range influx.Paths() {
		e := endpoint{pattern: path, what: what[path], handler: traced("influx "+path, d.influx), wrap: influx.Bearer}
		if e.what != "" {
			e.show = "POST " + path
		}
		list = append(list, e)
		e.pattern, e.show = influx.Prefix+path, ""
		list = append(list, e)
	}
	groups := traced("pushgateway", d.pushgateway.Handler())
	return append(list,
		endpoint{pattern: "/metrics/job/", show: "PUT,POST,DELETE /metrics/job/<job>", what: "Push gateway API", handler: groups},
		endpoint{pattern: "/metrics/job@base64/", handler: groups},
		endpoint{
			pattern: "/pushgateway/", show: "GET /pushgateway/metrics", what: "what was pushed; the whole Push gateway API is below /pushgateway",
			handler: http.StripPrefix("/pushgateway", groups),
		},
	)
}

// listeners lists the listeners besides the main one, for people.
func (d *doors) listeners() []endpoint {
	var list []endpoint
	if a := d.otlp.GRPCAddr(); a != nil {
		list = append(list, endpoint{show: "gRPC " + a.String(), what: "OTLP metrics"})
	}
	if a := d.otlp.HTTPAddr(); a != nil {
		list = append(list, endpoint{show: "POST http://" + selfAddress(a) + "/v1/metrics", what: "OTLP metrics over HTTP"})
	}
	return list
}
