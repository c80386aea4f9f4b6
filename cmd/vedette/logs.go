package main

import (
	"context"

	"github.com/vedette-io/vedette/collector/log"
	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/otlplogs"
)

// logParts are what log records pass after the buffer, which keeps them: they are
// counted.
type logParts struct {
	counter  *otlplogs.Counter
	consumer *ingest.Consumer
}

// openLogConsumer opens what counts the log records in the buffer.
func (s *server) openLogConsumer(opened openedBuffer) (err error) {
	s.logs.counter = otlplogs.NewCounter(s.registry)
	s.logs.consumer, err = ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: s.buffer, LogSink: s.logs.counter, Config: s.config.Consumer, Formats: s.doors.formats,
		Joined: opened.joined(buffer.TopicLogs), Logger: s.logger.With("part", "log consumer"), Registerer: s.registry,
	})
	return err
}

func (l *logParts) part() part {
	return part{
		name: "log consumer",
		run:  l.consumer.Run,
		stop: func(ctx context.Context) error { return settle(ctx, l.consumer, l.counter.Flush) },
	}
}

// openLogFiles opens what reads log files, if any are named.
func (s *server) openLogFiles(a *agent) error {
	c := &s.config.Collect
	if len(c.Logs.Sources) == 0 {
		return nil
	}
	entry, err := s.doors.Entry("log_files", s.config.Ingest.ScrapeLimits)
	if err != nil {
		return err
	}
	o := log.Options{
		Config: c.Logs, Dir: s.config.DataDir, Tenant: c.Tenant, Logger: s.logger.With("part", "log files"), Registerer: s.registry,
		Write: intoDoor(entry),
	}
	if a.containers != nil {
		o.Services = a.containers
	}
	t, err := log.Open(o)
	if err != nil {
		return err
	}
	a.loops = append(a.loops, part{name: "log files", run: t.Run})
	return nil
}
