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
	"github.com/vedette-io/vedette/ingest/jaeger"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlplogs"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/otlptraces"
	"github.com/vedette-io/vedette/ingest/pushgateway"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/sampling"
	"github.com/vedette-io/vedette/ingest/statsd"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/ingest/zipkin"
	"github.com/vedette-io/vedette/internal/vfs"
)

// doors are the ways in, over one door.
type doors struct {
	*door.Door
	formats     *wire.Formats // of the buffer
	remoteWrite *door.Entry
	scrape      *door.Entry
	otlp        *otlpserver.Server
	influx      *influx.Handler
	pushgateway *pushgateway.Gateway
	statsd      *statsd.Server // nil if it listens nowhere
	zipkin      *zipkin.Handler
	jaeger      *jaeger.Receiver
}

// newFormats returns what payloads of the buffer are decoded by.
func newFormats(c *Config) *wire.Formats {
	f := &wire.Formats{}
	remotewrite.Register(f)
	f.Register(func() wire.Decoder { return otlp.New(c.OTLP.Translation) }, buffer.FormatOTLP, buffer.FormatOTLPSnappy)
	otlptraces.Register(f)
	otlplogs.Register(f)
	return f
}

// openDoors opens every way into the buffer.
func (s *server) openDoors(ctx context.Context, b openedBuffer) (err error) {
	c := &s.config
	d := &s.doors
	d.formats = newFormats(&c.Config)
	d.Door, err = door.New(door.Options{
		Buffer: s.buffer, Config: c.Ingest.Config, Formats: d.formats, MaxRecordBytes: b.maxRecordBytes, Plain: b.compresses, Positions: b.positions, Recaller: b.recaller,
		KeepTrace: sampling.NewHead(c.Sampling, s.registry).KeepTrace,
		Logger:    s.logger.With("part", "ingest"), Registerer: s.registry,
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
	if err := s.openSpanDoors(); err != nil {
		return err
	}
	if err := s.openOTLP(ctx); err != nil {
		return err
	}
	for _, open := range []func() error{s.openInflux, s.openPushgateway, s.openStatsD} {
		if err := open(); err != nil {
			return err
		}
	}
	return nil
}

// openSpanDoors opens the ways in for spans besides OTLP.
func (s *server) openSpanDoors() error {
	entry, err := s.doors.Entry("zipkin", s.config.Zipkin.Limits)
	if err != nil {
		return err
	}
	s.doors.zipkin = zipkin.New(zipkin.Options{Entry: entry, Registerer: s.registry})
	if entry, err = s.doors.Entry("jaeger", s.config.Jaeger.Limits); err != nil {
		return err
	}
	s.doors.jaeger = jaeger.New(jaeger.Options{Entry: entry, Registerer: s.registry})
	return nil
}

func (s *server) openInflux() error {
	c := &s.config.Influx
	entry, err := s.doors.Entry("influx", c.Limits)
	if err != nil {
		return err
	}
	s.doors.influx, err = influx.New(influx.Options{Entry: entry, Config: c.Config, Version: s.build.Version, Registerer: s.registry})
	return err
}

func (s *server) openPushgateway() error {
	c := &s.config.Pushgateway
	entry, err := s.doors.Entry("pushgateway", c.Limits)
	if err != nil {
		return err
	}
	s.doors.pushgateway, err = pushgateway.Open(pushgateway.Options{
		Config: c.Config, Entry: entry, FS: vfs.OS, Dir: s.path(pushgatewayDir),
		Build:  map[string]string{"version": s.build.Version, "revision": s.build.Revision, "goVersion": runtime.Version()},
		Logger: s.logger.With("part", "pushgateway"), Registerer: s.registry,
	})
	return err
}

func (s *server) openStatsD() error {
	c := &s.config.StatsD
	if !c.Enabled() {
		return nil
	}
	entry, err := s.doors.Entry("statsd", c.Limits)
	if err != nil {
		return err
	}
	s.doors.statsd, err = statsd.Open(statsd.Options{
		Entry: entry, Config: c.Config, Logger: s.logger.With("part", "statsd"), Registerer: s.registry,
	})
	if err != nil {
		return fmt.Errorf("open statsd: %w", err)
	}
	s.onClose(s.doors.statsd.Close)
	return nil
}

// parts are what of the doors runs by itself.
func (d *doors) parts() []part {
	list := []part{
		{name: "otlp", run: d.otlp.Run, stop: d.otlp.Stop},
		{name: "pushgateway", run: d.pushgateway.Run},
	}
	if d.statsd != nil {
		list = append(list, part{name: "statsd", run: d.statsd.Run})
	}
	return list
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
		Config: c, Entry: entry, Methods: map[string]otlpserver.Method{jaeger.PostSpansMethod: s.doors.jaeger.PostSpans}, Ready: s.health.ready.Load, BearerToken: s.token,
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

// endpoints lists what the main listener takes in. What agents forward comes in
// once.
func (d *doors) endpoints(traced func(name string, h http.Handler) http.Handler) []endpoint {
	once := func(name string, h http.Handler) http.Handler { return d.Forwarded(traced(name, h)) }
	list := []endpoint{
		{
			pattern: "/api/v1/write", show: "POST /api/v1/write", what: "Prometheus remote write 1.0 and 2.0",
			handler: once("POST /api/v1/write", door.RemoteWrite{Entry: d.remoteWrite}),
		},
		{
			pattern: "/api/v1/otlp/v1/metrics", show: "POST /api/v1/otlp/v1/metrics", what: "OTLP metrics, as on the OTLP port",
			handler: once("POST /api/v1/otlp/v1/metrics", d.otlp.Handler(otlpserver.MetricsPath)),
		},
		{pattern: "/api/v1/otlp/v1/traces", handler: once("POST /v1/traces", d.otlp.Handler(otlpserver.TracesPath))},
		{
			pattern: "/v1/traces", show: "POST /v1/traces", what: "OTLP traces, as on the OTLP port",
			handler: once("POST /v1/traces", d.otlp.Handler(otlpserver.TracesPath)),
		},
		{
			pattern: "/v1/logs", show: "POST /v1/logs", what: "OTLP logs, as on the OTLP port",
			handler: once("POST /v1/logs", d.otlp.Handler(otlpserver.LogsPath)),
		},
		{pattern: "/v1/metrics", handler: once("POST /v1/metrics", d.otlp.Handler(otlpserver.MetricsPath))},
		{
			pattern: "POST " + jaeger.Path, show: "POST " + jaeger.Path, what: "Jaeger spans, Thrift",
			handler: traced("POST "+jaeger.Path, d.jaeger),
		},
	}
	for _, path := range zipkin.Paths() {
		list = append(list, endpoint{pattern: "POST " + path, show: "POST " + path, what: "Zipkin spans", handler: traced("POST "+path, d.zipkin)})
	}
	what := map[string]string{"/write": "InfluxDB 1.x line protocol", "/api/v2/write": "InfluxDB 2.x line protocol"}
	for _, path := range influx.Paths() {
		e := endpoint{pattern: path, what: what[path], handler: traced("influx "+path, d.influx), wrap: influx.Bearer}
		e.open = path == "/ping" || path == "/health" // as with InfluxDB
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
		list = append(list, endpoint{show: "gRPC " + a.String(), what: "OTLP metrics, traces and logs, Jaeger spans"})
	}
	if a := d.otlp.HTTPAddr(); a != nil {
		list = append(list, endpoint{show: "POST http://" + selfAddress(a) + "/v1/metrics", what: "OTLP metrics over HTTP; traces at /v1/traces, logs at /v1/logs"})
	}
	if d.statsd != nil {
		for _, kind := range []string{"udp", "unixgram", "unix", "tcp"} {
			if a := d.statsd.Addr(kind); a != nil {
				list = append(list, endpoint{show: kind + " " + a.String(), what: "StatsD and DogStatsD"})
			}
		}
	}
	return list
}
