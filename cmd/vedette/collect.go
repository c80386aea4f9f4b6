package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/vedette-io/vedette/collector/forward"
	"github.com/vedette-io/vedette/internal/footprint"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/internal/vfs"
)

// queueDir is the folder of an agent's queue below the data directory.
const queueDir = "queue"

// collectCmd starts the agent.
type collectCmd struct {
	Config string `help:"YAML configuration file; see docs/agent.md. It has to name a destination in its section forward." type:"path" placeholder:"FILE"`
	Data   string `help:"Data directory (default: ./data, or data_dir of the file)." placeholder:"DIR"`
	Listen string `help:"Address of the HTTP listener (default: 127.0.0.1:9190, or http.listen of the file)." placeholder:"ADDR"`
}

// Help is the second half of the command's help.
func (collectCmd) Help() string {
	return `One process measures this host, reads its logs, scrapes, and takes in what applications send to it, and forwards everything to the Vedette or the Kafka that the section forward of the configuration names. What is not delivered yet waits in a queue on disk, which is bounded. It stores nothing else and answers no queries.

A file with the sections receivers and service is a configuration of the OpenTelemetry Collector: it is handed to vedette-collector, a Collector with Vedette's components; see docs/collector.md.

SIGINT or SIGTERM stops it gracefully: the sources stop, the queue is on disk. The next start goes on where this one ended.

Examples:
  vedette collect --config agent.yml --data /var/lib/vedette-agent
  curl -s 127.0.0.1:9190/metrics | grep vedette_collector_forward`
}

// Run collects until a signal.
func (c collectCmd) Run(ctx context.Context, s streams) error {
	if isCollectorConfig(c.Config) {
		if c.Data != "" || c.Listen != "" {
			return fmt.Errorf("--data, --listen: %s is a configuration of the OpenTelemetry Collector, want these in it: directory, endpoint", c.Config)
		}
		return becomeCollector("--config", c.Config)
	}
	_, _ = footprint.Drop() // what packages have run through before main; it is tried again
	l, err := loadWithFlags(c.Config, c.Data, c.Listen)
	if err != nil {
		return err
	}
	if !l.Forward.IsSet() {
		return fmt.Errorf("forward.endpoint: is empty, want the URL of a server, or forward.kafka.brokers")
	}
	l.agent = l.Collect.instance()
	logger := telemetry.NewLogger(l.Log, s.err)
	defer footprint.Keep(logger)() // the start is what takes most
	srv, err := openAs(ctx, (*server).openCollector, l, logger)
	if err != nil {
		return err
	}
	return errors.Join(srv.collect(ctx, s.out), srv.close())
}

// openCollector opens the parts of `vedette collect`: doors and sources as a server
// has them, and behind them the queue and what empties it.
func (s *server) openCollector(ctx context.Context) error {
	if err := s.listen(ctx); err != nil {
		return err
	}
	c := &s.config
	queue, err := forward.OpenQueue(forward.QueueOptions{
		Config: c.Forward.Queue, Log: c.Buffer.Config, FS: vfs.OS, Dir: s.path(queueDir), Formats: newFormats(&c.Config),
		Logger: s.logger.With("part", "queue"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	s.onClose(queue.Close)
	s.buffer = tracedBuffer{queue, s.tracer}
	s.forward, err = forward.New(forward.Options{
		Queue: queue, Config: c.Forward, Logger: s.logger.With("part", "forward"), Registerer: s.registry,
	})
	if err != nil {
		return err
	}
	// Kafka compresses, and others may read there.
	opened := openedBuffer{Buffer: queue, positions: queue, maxRecordBytes: int(queue.MaxRecordBytes()), compresses: c.Forward.ToKafka()}
	if err := s.openDoors(ctx, opened); err != nil {
		return err
	}
	if err := s.openOwnSpans(ctx); err != nil {
		return err
	}
	if err := s.openAgent(); err != nil {
		return err
	}
	jobs, err := c.scrapeConfig(selfAddress(s.listener.Addr()))
	if err != nil {
		return err
	}
	return s.openScraper(jobs)
}

// collect runs the agent until ctx ends: then the sources stop, and what they have
// brought is in the queue.
func (s *server) collect(ctx context.Context, out io.Writer) error {
	traced := func(name string, h http.Handler) http.Handler { return tracedHandler(s.tracer, name, h) }
	endpoints := slices.Concat(s.doors.endpoints(traced), []endpoint{
		{pattern: "/metrics", show: "GET /metrics", what: "Vedette's own metrics", handler: telemetry.MetricsHandler(s.registry), early: true},
		{pattern: "/debug/traces", show: "GET /debug/traces", what: "Vedette's own newest spans, as JSON", handler: s.ring, early: true},
	}, s.agent.endpoints(), debugEndpoints(), s.health.endpoints())
	g := s.intake(endpoints)
	g.add(part{
		name: "forward",
		run:  s.forward.Run,
		stop: func(context.Context) error { s.doors.Close(); return nil },
	})
	fmt.Fprint(out, endpointLines("http://"+selfAddress(s.listener.Addr()), append(endpoints, s.doors.listeners()...)))
	s.health.ready.Store(true)
	s.logger.Info("ready", "listen", s.listener.Addr().String(), "data", s.config.DataDir)
	return g.run(ctx)
}
