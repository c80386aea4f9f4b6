// Package doortest gives tests of doors a whole pipeline in memory: a door over
// an embedded log, a consumer behind it, and a sink that remembers what it got.
package doortest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/ingest/remotewrite"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Pipeline is a door with everything behind it.
type Pipeline struct {
	Door       *door.Door
	Sink       *ingesttest.Sink // of metrics
	SpanSink   *ingesttest.Sink
	LogSink    *ingesttest.Sink
	Registerer *prometheus.Registry

	t testing.TB
}

// Options change a pipeline; the zero value is one partition and the defaults,
// except that answers wait for the sink for a minute.
type Options struct {
	Partitions int
	Config     func(*door.Config)
	Formats    func(*wire.Formats) // registers formats besides remote write
	Sink       *ingesttest.Sink
}

// New starts a pipeline that ends with the test.
func New(t testing.TB, o Options) *Pipeline {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	logConfig := buffer.DefaultConfig()
	n := max(o.Partitions, 1)
	logConfig.Partitions = map[string]int{buffer.TopicMetrics: n, buffer.TopicTraces: n, buffer.TopicLogs: n}
	l, err := buffer.Open(logConfig, vfs.NewMem(), "log", quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	formats := &wire.Formats{}
	remotewrite.Register(formats)
	if o.Formats != nil {
		o.Formats(formats)
	}
	p := &Pipeline{Sink: o.Sink, SpanSink: &ingesttest.Sink{}, LogSink: &ingesttest.Sink{}, Registerer: prometheus.NewRegistry(), t: t}
	if p.Sink == nil {
		p.Sink = &ingesttest.Sink{}
	}
	options := ingest.ConsumerOptions{
		Buffer: l, Sink: p.Sink, Config: ingest.DefaultConsumerConfig(), Formats: formats, Logger: quiet, Registerer: prometheus.NewRegistry(),
	}
	metrics, err := ingest.NewConsumer(options)
	if err != nil {
		t.Fatal(err)
	}
	options.Sink, options.SpanSink = nil, p.SpanSink
	spans, err := ingest.NewConsumer(options)
	if err != nil {
		t.Fatal(err)
	}
	options.SpanSink, options.LogSink = nil, p.LogSink
	logs, err := ingest.NewConsumer(options)
	if err != nil {
		t.Fatal(err)
	}
	cfg := door.DefaultConfig()
	cfg.StoreTimeout = time.Minute
	if o.Config != nil {
		o.Config(&cfg)
	}
	p.Door, err = door.New(door.Options{Buffer: l, Config: cfg, Formats: formats, Logger: quiet, Registerer: p.Registerer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range []*ingest.Consumer{metrics, spans, logs} {
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("run consumer of %s: %v", c.Topic(), err)
			}
		})
		<-c.CaughtUp()
	}
	t.Cleanup(func() {
		p.Door.Close()
		cancel()
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Errorf("close log: %v", err)
		}
	})
	return p
}

// Entry opens a way in without limits of its own.
func (p *Pipeline) Entry(name string) *door.Entry {
	p.t.Helper()
	e, err := p.Door.Entry(name, door.EntryConfig{})
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}
