package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/prometheus/config"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/collector/forward"
	"github.com/vedette-io/vedette/collector/scrape"
	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/storage/metric"
)

// Folders and files below the data directory.
const (
	bufferDir      = "buffer"
	storeDir       = "store"
	setAsideDir    = "set-aside"
	snapshotsDir   = "snapshots"
	pushgatewayDir = "pushgateway"
	traceStoreDir  = "traces"
	instanceFile   = "instance-id"
	activityFile   = "queries.active"
)

// server holds the parts of a running process, in the order in which they were
// opened; close releases them in reverse.
type server struct {
	config   loaded
	logger   *slog.Logger
	build    telemetry.Build
	registry *prometheus.Registry
	ring     *telemetry.Ring
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	health   health
	token    *config.LiveSecret // of the listeners

	listener net.Listener
	buffer   buffer.Buffer
	doors    doors
	store    *metric.DB
	consumer *ingest.Consumer
	traces   traceParts
	logs     logParts
	ownSpans *ownSpans          // nil if they are not stored
	agent    *agent             // nil if nothing of this machine is measured
	forward  *forward.Forwarder // of an agent alone
	scraper  *scrape.Scraper
	engine   *promql.Engine

	closers []func() error
}

// openServer listens and opens the data. Nothing runs before run.
func openServer(ctx context.Context, c loaded, logger *slog.Logger) (*server, error) {
	return openAs(ctx, (*server).open, c, logger)
}

// openAs opens what a role needs.
func openAs(ctx context.Context, role func(*server, context.Context) error, c loaded, logger *slog.Logger) (*server, error) {
	s := &server{config: c, logger: logger, build: telemetry.ReadBuild("")}
	s.token = config.NewLiveSecret(c.HTTP.BearerToken, c.HTTP.BearerTokenFile)
	s.registry = telemetry.NewRegistry(s.build)
	s.ring = telemetry.NewRing(c.Tracing.KeepSpans)
	s.provider = telemetry.NewTracerProvider(c.Tracing, s.build, s.ring)
	s.tracer = s.provider.Tracer("vedette")
	otel.SetTracerProvider(s.provider) // the PromQL engine asks there
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("export own spans", "err", err) }))
	s.onClose(func() error { return s.provider.Shutdown(context.WithoutCancel(ctx)) })
	if err := role(s, ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) onClose(f func() error) { s.closers = append(s.closers, f) }

// listen opens the HTTP listener.
func (s *server) listen(ctx context.Context) (err error) {
	if s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.config.HTTP.Listen); err != nil {
		return fmt.Errorf("open listener: %w", err)
	}
	s.onClose(func() error { _ = s.listener.Close(); return nil }) // the HTTP server closes it first
	if !isLoopback(s.listener.Addr()) && s.config.HTTP.BearerToken == "" {
		s.logger.Warn("other machines can reach this listener and nothing asks who they are: set http.bearer_token or listen on loopback", "listen", s.listener.Addr().String())
	}
	return nil
}

// open opens the parts of `vedette run`.
func (s *server) open(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return err
	}
	opened, err := s.openBuffer(ctx)
	if err != nil {
		return err
	}
	s.onClose(opened.Close)
	s.buffer = tracedBuffer{opened.Buffer, s.tracer}

	s.store, err = metric.Open(metric.Options{
		Dir: s.path(storeDir), FS: vfs.OS, Config: s.config.Store,
		Logger: s.logger.With("part", "store"), Registerer: s.registry, Tracer: s.tracer,
	})
	if err != nil {
		return err
	}
	s.onClose(s.store.Close)
	if err := s.openTraceStore(); err != nil {
		return err
	}

	if err := s.openDoors(ctx, opened); err != nil {
		return err
	}
	if s.config.Consumer.SetAsideDir == "" {
		s.config.Consumer.SetAsideDir = s.path(setAsideDir)
	}
	s.consumer, err = ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: s.buffer, Sink: tracedSink{s.store, s.tracer}, Config: s.config.Consumer, Formats: s.doors.formats, Joined: opened.joined(buffer.TopicMetrics),
		Logger: s.logger.With("part", "consumer"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}

	if err := s.openTraceConsumer(opened); err != nil {
		return err
	}
	if err := s.openLogConsumer(opened); err != nil {
		return err
	}
	if err := s.openOwnSpans(ctx); err != nil {
		return err
	}
	if err := s.openAgent(); err != nil {
		return err
	}

	jobs, err := s.config.scrapeConfig(selfAddress(s.listener.Addr()))
	if err != nil {
		return err
	}
	if s.config.QueryAPI.ExternalLabels == nil {
		s.config.QueryAPI.ExternalLabels = jobs.GlobalConfig.ExternalLabels.Map()
	}
	if err := s.openScraper(jobs); err != nil {
		return err
	}

	s.engine, err = promql.OpenEngine(s.config.Query, promql.Options{
		Logger: s.logger.With("part", "query"), Registerer: s.registry, ActivityFile: s.path(activityFile),
	})
	if err != nil {
		return err
	}
	s.onClose(s.engine.Close)
	return s.openTraceQueries()
}

func (s *server) openScraper(jobs *promconfig.Config) (err error) {
	s.scraper, err = scrape.New(scrape.Options{
		Writer: s.doors.scrape, Config: jobs, Logger: s.logger.With("part", "scrape"), Registerer: s.registry,
	})
	return err
}

func (s *server) path(name string) string { return filepath.Join(s.config.DataDir, name) }

// run serves until ctx ends and then stops in the order in which data flows:
// the doors, the scrapes, the buffer, the heads, the offsets.
func (s *server) run(ctx context.Context, out io.Writer) error {
	endpoints, err := s.endpoints()
	if err != nil {
		return err
	}
	g := s.intake(endpoints)
	g.add(s.logs.part())
	for _, p := range s.traces.parts() {
		g.add(p)
	}
	g.add(part{
		name: "consumer",
		run:  s.consume,
		stop: func(ctx context.Context) error {
			s.doors.Close() // HTTP, the scrapes and what counts spans have ended: nobody waits
			return settle(ctx, s.consumer, s.store.Flush)
		},
	})
	g.add(part{name: "store", run: s.store.Run})

	fmt.Fprint(out, endpointLines("http://"+selfAddress(s.listener.Addr()), append(endpoints, s.doors.listeners()...)))
	return g.run(ctx)
}

// intake begins a group with all that takes data in.
func (s *server) intake(endpoints []endpoint) *group {
	g := &group{logger: s.logger, grace: 30 * time.Second}
	g.add(httpPart(s.listener, newMux(endpoints, &s.health, s.token), &s.health, s.logger.With("part", "http")))
	for _, p := range s.doors.parts() {
		g.add(p)
	}
	g.add(part{name: "reload", run: newReloader(s).run})
	g.add(part{name: "scrape", run: s.scraper.Run})
	if s.agent != nil {
		for _, p := range s.agent.parts() {
			g.add(p)
		}
	}
	if s.ownSpans != nil {
		g.add(s.ownSpans.part())
	}
	return g
}

// consume feeds the store until ctx ends.
func (s *server) consume(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.announce(ctx) })
	return s.consumer.Run(ctx)
}

// announce declares the server ready once the buffer has been replayed.
func (s *server) announce(ctx context.Context) {
	begin := time.Now()
	for _, c := range []*ingest.Consumer{s.consumer, s.traces.consumer, s.logs.consumer} {
		select {
		case <-c.CaughtUp():
		case <-ctx.Done():
			return
		}
	}
	s.health.ready.Store(true)
	s.logger.Info("ready", "listen", s.listener.Addr().String(), "data", s.config.DataDir, "replay", time.Since(begin))
}

// close releases what open has opened, the last first.
func (s *server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}
