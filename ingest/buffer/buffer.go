// Package buffer is the durable queue between the doors that take telemetry in
// and the store that keeps it: topics, each with a fixed number of partitions,
// each an ordered log of messages with offsets; consumer groups commit the
// offset up to which they are done. It is the pipeline's write-ahead log, and
// the only one: whoever gets nil from Append may tell its client that the data
// is safe.
//
// Two implementations pass one contract suite: the embedded log (files of this
// process) and Kafka.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Topics of the pipeline.
const (
	TopicMetrics = "vedette.metrics"
	TopicTraces  = "vedette.traces"
	TopicLogs    = "vedette.logs"
)

// Format says how a record's payload is encoded. Values are part of the
// on-disk format and never change their meaning.
type Format uint8

const (
	FormatUnknown       Format = 0
	FormatRemoteWriteV1 Format = 1 // prompb.WriteRequest, snappy block
	FormatRemoteWriteV2 Format = 2 // io.prometheus.write.v2.Request, snappy block
	FormatOTLP          Format = 3 // ExportMetricsServiceRequest of OTLP, protobuf, as otlp_proto of others
	FormatOTLPSnappy    Format = 4 // the same as a snappy block

	FormatOTLPTraces       Format = 5 // ExportTraceServiceRequest of OTLP, protobuf, as otlp_proto of others
	FormatOTLPTracesSnappy Format = 6 // the same as a snappy block

	FormatOTLPLogs       Format = 7 // ExportLogsServiceRequest of OTLP, protobuf, as otlp_proto of others
	FormatOTLPLogsSnappy Format = 8 // the same as a snappy block

	FormatPosition Format = 9 // Position.Append: no data, in any topic; consumers pass over it
)

// Topic returns the topic that payloads of the format belong to.
func (f Format) Topic() string {
	switch f {
	case FormatOTLPTraces, FormatOTLPTracesSnappy:
		return TopicTraces
	case FormatOTLPLogs, FormatOTLPLogsSnappy:
		return TopicLogs
	}
	return TopicMetrics
}

// ForeignFormat returns the format of payloads that others have put into a topic:
// OTLP in protobuf, as the OpenTelemetry Collector's Kafka exporter writes it.
func ForeignFormat(topic string) Format {
	switch topic {
	case TopicTraces:
		return FormatOTLPTraces
	case TopicLogs:
		return FormatOTLPLogs
	}
	return FormatOTLP
}

// Record is what a producer appends: a payload as it came over the wire, and a
// small header that lets a consumer route and prune it without decoding.
type Record struct {
	Tenant  string
	Format  Format
	MinTime int64 // unix milliseconds of the oldest sample; 0 if there is none
	MaxTime int64 // unix milliseconds of the newest sample
	Payload []byte

	// From says where the record was forwarded from, for a Recaller, which keeps it
	// with the record; nil if it was not. The others take a record of FormatPosition
	// before it. Consumers do not get it.
	From *Position

	// Attachment travels only in memory, from a producer to a consumer of the
	// same process, and lets the consumer use what the producer has decoded
	// already. A message read back from disk or from Kafka has none; one that has
	// its attachment comes without the Payload. A Discarder is told if no consumer
	// will get it after all.
	Attachment any
}

// Discarder is what an attachment may be. Of every attachment of an append that
// succeeded, either a consumer gets it or Discard is called, once: no consumer
// is there, its memory for attachments is full, or it has ended. The message
// itself is safe, a consumer will read it without its attachment. Discard is
// called by producers and consumers alike and must not block.
type Discarder interface{ Discard() }

// Message is a record at its place in a partition.
type Message struct {
	Offset   int64
	Appended int64 // unix milliseconds of the append if the message was read from the embedded log, else 0
	Record
}

// Buffer is the contract of both implementations.
type Buffer interface {
	// Source names this log for ever ("embedded/<uuid>", "kafka/<cluster id>"),
	// so that a block can say whose offsets it holds.
	Source() string

	// Partitions returns how many partitions topic has.
	Partitions(topic string) int

	// Append adds records to one partition, in order and all or nothing, and
	// returns the offset of the first once every one is durable. Errors are
	// ErrFull, ErrTooLarge, ErrClosed, the context's, or of the medium. The
	// records' payloads are not used after Append returns; attachments may be.
	Append(ctx context.Context, topic string, partition int, records []Record) (int64, error)

	// Consume joins group and calls handle in a goroutine of its own for every
	// partition that is assigned to this member, until ctx ends; it returns nil
	// after all of them have. A claim's context ends when the partition is taken
	// away. A handler that returns an error ends Consume with it.
	Consume(ctx context.Context, group, topic string, handle func(ctx context.Context, c Claim) error) error

	// Close refuses new appends, waits for those under way and releases files
	// and connections. Consumers must have ended.
	Close() error
}

// Claim is one partition while it is assigned to a member of a group. It is
// used by one goroutine.
type Claim interface {
	Topic() string
	Partition() int

	// Committed returns the offset at which the group continues.
	Committed() int64

	// StartAt sets the offset that Next reads first; the default is Committed. An
	// offset below the oldest kept one reads from the oldest.
	StartAt(offset int64)

	// Next waits for at least one durable message and returns those at hand, at
	// most a few MB. The slice and the payloads are valid until the next call.
	// Offsets rise strictly; a gap means that the log lost what was there.
	Next(ctx context.Context) ([]Message, error)

	// Commit records durably that the group needs nothing below offset next.
	Commit(ctx context.Context, next int64) error

	// Oldest returns the offset of the oldest message that the partition still
	// has, or HighWatermark if it has none, as far as this member knows.
	Oldest() int64

	// HighWatermark returns the offset that the next appended record will get,
	// as far as this member knows.
	HighWatermark() int64
}

var (
	ErrClosed   = errors.New("buffer is closed")
	ErrTooLarge = errors.New("record is larger than the buffer takes")
)

// FullError is returned by Append when there is no room: the disk is full or
// the backlog has reached its limit. Nothing of the append was kept.
type FullError struct {
	Reason     string
	RetryAfter time.Duration
	Err        error // of the medium, if any
}

func (e *FullError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("buffer is full: %s: %v", e.Reason, e.Err)
	}
	return "buffer is full: " + e.Reason
}

func (e *FullError) Unwrap() error { return e.Err }
