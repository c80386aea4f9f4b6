package main

import (
	"context"
	"fmt"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/sampling"
	"github.com/vedette-io/vedette/ingest/spanmetrics"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/vfs"
	"github.com/vedette-io/vedette/query/traces"
	"github.com/vedette-io/vedette/storage/trace"
)

// traceParts are the parts that spans pass after the buffer.
type traceParts struct {
	store    *trace.DB
	consumer *ingest.Consumer
	counts   *spanmetrics.Generator // nil if spans are not counted
	engine   *traces.Engine
}

// openTraceStore opens the store of spans.
func (s *server) openTraceStore() (err error) {
	o := trace.Options{
		Dir: s.path(traceStoreDir), FS: vfs.OS, Config: s.config.TraceStore,
		Logger: s.logger.With("part", "trace store"), Registerer: s.registry, Tracer: s.provider.Tracer(traceStoreScope),
	}
	if s.config.Sampling.Tail.Enabled {
		o.Sampler = tailSampler{sampling.NewTail(s.config.Sampling.Tail, s.registry)}
	}
	if s.traces.store, err = trace.Open(o); err != nil {
		return err
	}
	s.onClose(s.traces.store.Close)
	return nil
}

// tailSampler lets the store ask the sampling policy.
type tailSampler struct{ *sampling.Tail }

// Keep implements trace.Sampler.
func (t tailSampler) Keep(s trace.TraceSummary) bool {
	return t.Tail.Keep(sampling.TraceSummary(s))
}

// openTraceConsumer opens what moves spans from the buffer into their store and
// counts them on the way.
func (s *server) openTraceConsumer(opened openedBuffer) error {
	t := &s.traces
	var observe func(int32, *signal.Spans)
	if s.config.SpanMetrics.Enabled {
		entry, err := s.doors.Entry("span_metrics", s.config.Ingest.ScrapeLimits)
		if err != nil {
			return err
		}
		t.counts, err = spanmetrics.New(spanmetrics.Options{
			Entry: entry, Config: s.config.SpanMetrics, Logger: s.logger.With("part", "span metrics"), Registerer: s.registry,
		})
		if err != nil {
			return err
		}
		observe = t.counts.Observe
	}
	var err error
	t.consumer, err = ingest.NewConsumer(ingest.ConsumerOptions{
		Buffer: s.buffer, SpanSink: tracedSpanSink{t.store, s.tracer}, Config: s.config.Consumer, Formats: s.doors.formats,
		Joined: opened.joined(buffer.TopicTraces), Observe: observe,
		Logger: s.logger.With("part", "trace consumer"), Registerer: s.registry,
	})
	return err
}

// parts are what of them runs by itself, in the order in which it stops: the
// consumer once everything in the buffer is durable in the store, then what was
// counted of it, which the consumer of metrics takes.
func (t *traceParts) parts() []part {
	list := []part{{
		name: "trace consumer",
		run:  t.consumer.Run,
		stop: func(ctx context.Context) error { return settle(ctx, t.consumer, t.store.Flush) },
	}}
	if t.counts != nil {
		list = append(list, part{name: "span metrics", run: t.counts.Run})
	}
	return append(list, part{name: "trace store", run: t.store.Run})
}

// settle brings what is in the buffer into the store for good.
func settle(ctx context.Context, c *ingest.Consumer, flush func(context.Context) error) error {
	if err := c.Drain(ctx); err != nil {
		return fmt.Errorf("drain the buffer: %w", err)
	}
	if err := flush(ctx); err != nil {
		return fmt.Errorf("flush the heads: %w", err)
	}
	return c.Commit(ctx)
}
