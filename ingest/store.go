package ingest

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/internal/signal"
)

// batch is what a message holds: one of them.
type batch struct {
	metrics *signal.Metrics
	spans   *signal.Spans
	logs    *signal.Logs
}

// of says whose it is.
func (b batch) of(tenant string) {
	switch {
	case b.spans != nil:
		b.spans.Tenant = tenant
	case b.logs != nil:
		b.logs.Tenant = tenant
	default:
		b.metrics.Tenant = tenant
	}
}

// place is where a message stands.
type place struct {
	source, topic string
	partition     int32
	offset        int64
}

// store is a sink as the workers see it.
type store interface {
	Keeper

	// open returns what takes the batches of a claim of the partition.
	open(partition int32) appender
}

// appender takes the batches of one claim, in its goroutine.
type appender interface {
	// prepare makes a batch ready for append, which may come more than once.
	prepare(b batch)
	append(ctx context.Context, b batch, at place) (signal.AppendResult, error)
	// stored sees a batch that append has taken.
	stored(b batch)
}

func newStore(o *ConsumerOptions, m *metrics) store {
	switch {
	case o.SpanSink != nil:
		return spanStore{o.SpanSink, o.Observe}
	case o.LogSink != nil:
		return logStore{o.LogSink}
	}
	return metricStore{o.Sink, m, o.Config.MaxDeltaStreams}
}

type metricStore struct {
	Sink
	metrics    *metrics
	maxStreams int
}

func (s metricStore) open(partition int32) appender {
	return &metricAppender{metricStore: s, streams: s.metrics.deltaStreams.WithLabelValues(strconv.Itoa(int(partition)))}
}

type metricAppender struct {
	metricStore
	deltas  *otlp.Accumulator // nil until there is a delta
	streams prometheus.Gauge
}

// prepare makes the deltas of a batch cumulative.
func (a *metricAppender) prepare(b batch) {
	if len(b.metrics.Deltas) == 0 {
		return
	}
	if a.deltas == nil {
		a.deltas = otlp.NewAccumulator(a.maxStreams)
	}
	r := a.deltas.Apply(b.metrics, time.Now())
	a.metrics.countDeltas(r)
	a.streams.Set(float64(a.deltas.Streams()))
}

func (a *metricAppender) append(ctx context.Context, b batch, at place) (signal.AppendResult, error) {
	return a.AppendMetrics(ctx, b.metrics, at.source, at.topic, at.partition, at.offset)
}

func (a *metricAppender) stored(batch) {}

type spanStore struct {
	SpanSink
	observe func(partition int32, b *signal.Spans) // may be nil
}

func (s spanStore) open(partition int32) appender { return spanAppender{s, partition} }

type spanAppender struct {
	spanStore
	partition int32
}

func (a spanAppender) prepare(batch) {}

func (a spanAppender) append(ctx context.Context, b batch, at place) (signal.AppendResult, error) {
	return a.AppendSpans(ctx, b.spans, at.source, at.topic, at.partition, at.offset)
}

func (a spanAppender) stored(b batch) {
	if a.observe != nil {
		a.observe(a.partition, b.spans)
	}
}

type logStore struct{ LogSink }

func (s logStore) open(int32) appender { return s }

func (s logStore) prepare(batch) {}

func (s logStore) append(ctx context.Context, b batch, at place) (signal.AppendResult, error) {
	return s.AppendLogs(ctx, b.logs, at.source, at.topic, at.partition, at.offset)
}

func (s logStore) stored(batch) {}
