package ingest

import (
	"context"

	"github.com/vedette-io/vedette/internal/signal"
)

// Sink is a store of metrics as the consumer sees it.
type Sink interface {
	Keeper

	// AppendMetrics stores a batch that came from the message at offset of a
	// partition, in the order of offsets; what it returns without error can be
	// queried from then on. A sink skips what it holds already. b is valid until
	// AppendMetrics returns. Bad data is reported in the result; an error says
	// that the store cannot take the batch now, and the consumer tries again.
	AppendMetrics(ctx context.Context, b *signal.Metrics, source, topic string, partition int32, offset int64) (signal.AppendResult, error)
}

// SpanSink is a store of spans as the consumer sees it.
type SpanSink interface {
	Keeper

	// AppendSpans stores a batch as Sink.AppendMetrics does.
	AppendSpans(ctx context.Context, b *signal.Spans, source, topic string, partition int32, offset int64) (signal.AppendResult, error)
}

// LogSink is what takes log records in as the consumer sees it.
type LogSink interface {
	Keeper

	// AppendLogs takes what is known of the records of a message, as
	// Sink.AppendMetrics does. The records themselves stay in the buffer.
	AppendLogs(ctx context.Context, b *signal.Logs, source, topic string, partition int32, offset int64) (signal.AppendResult, error)
}

// Keeper is what every store says about what it was given.
type Keeper interface {
	// Durable returns the offset below which everything that was appended of a
	// partition would survive a crash; 0 if nothing was yet.
	Durable(source, topic string, partition int32) (next int64)

	// Covered returns the highest offset up to which some part of the sink says
	// that it holds a partition's data. Other parts may hold less: after a crash
	// the group's committed offset says where to go on. A sink that covers less
	// than was committed has been replaced by an older copy.
	Covered(source, topic string, partition int32) (next int64)

	// Flush makes everything durable that was appended before.
	Flush(ctx context.Context) error
}
