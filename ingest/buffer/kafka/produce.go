package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"github.com/vedette-io/vedette/ingest/buffer"
)

const (
	firstRetryPause = 10 * time.Millisecond
	maxRetryPause   = 500 * time.Millisecond
	warnRetryPause  = 4 * firstRetryPause // a new leader may be found before
	// What clients are told to wait.
	retryAfterLimit       = time.Second
	retryAfterUnreachable = 2 * time.Second
)

// partition is one partition of an open topic.
type partition struct {
	b     *Buffer
	t     *topic
	index int

	mu       sync.Mutex // guards what follows
	queue    []*appendCall
	flushing bool          // a goroutine produces what is queued
	flight   chan struct{} // closed when the request under way has been answered; nil without one
	away     error         // why an append was refused since the last answer from Kafka; nil if none was
	awayAt   time.Time     // when that was seen last
	high     int64         // all offsets below it are known to be in the log
	tail     tail
	claims   []*claim

	near, far *recall
}

func newPartition(b *Buffer, t *topic, index int) *partition {
	return &partition{b: b, t: t, index: index, near: newRecall(false), far: newRecall(true), tail: tail{Tail: buffer.Tail{MaxBytes: b.cfg.Consumer.TailBytes}}}
}

// appendCall is one Append.
type appendCall struct {
	records  []buffer.Record
	bytes    int64 // in a batch, at most
	deadline time.Time
	taken    bool // it is being produced; guarded by partition.mu
	left     bool // a request with it may have reached a broker
	done     chan struct{}
	offset   int64
	err      error
}

// batchBuffer is what a batch is encoded to.
type batchBuffer struct{ batch, spare []byte }

// batchReader is a batch on its way into a request. It tells whether a connection has begun to
// take it, and none does after that.
type batchReader struct {
	*bytes.Reader

	mu           sync.Mutex // guards what follows
	begun, ended bool
}

// Read implements io.Reader.
func (r *batchReader) Read(p []byte) (int, error) {
	if !r.begin() {
		return 0, errEnded
	}
	return r.Reader.Read(p)
}

// WriteTo implements io.WriterTo.
func (r *batchReader) WriteTo(w io.Writer) (int64, error) {
	if !r.begin() {
		return 0, errEnded
	}
	return r.Reader.WriteTo(w)
}

func (r *batchReader) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = r.begun || !r.ended
	return r.begun
}

// end returns whether anything of the batch may have left.
func (r *batchReader) end() (left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.begun
}

// Append implements buffer.Buffer. While Kafka does not take what it is given,
// it returns a *buffer.FullError: at once when too much waits already or when
// Kafka is known to be away, otherwise when the timeout is over. It wraps ErrUnsent if
// no broker has got the records.
func (b *Buffer) Append(ctx context.Context, name string, index int, records []buffer.Record) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t := b.topics[name]
	if t == nil {
		return 0, fmt.Errorf("append to %s: topic is not open", name)
	}
	if index < 0 || index >= t.known {
		return 0, fmt.Errorf("append to %s: got partition %d, want 0 to %d", name, index, t.known-1)
	}
	p := t.partition(b, index)
	batch, payload, err := b.checkRecords(records)
	if err != nil {
		return 0, fmt.Errorf("append to %s/%d: %w", name, index, err)
	}
	if !b.begin() {
		return 0, fmt.Errorf("append to %s/%d: %w", name, index, buffer.ErrClosed)
	}
	defer b.appends.Done()
	if len(records) == 0 {
		return p.highWatermark(), nil
	}
	if b.inFlight.Add(payload) > b.cfg.Producer.MaxInFlightBytes {
		b.inFlight.Add(-payload)
		t.metrics.limitReached.Inc()
		return 0, &buffer.FullError{
			Reason:     fmt.Sprintf("more than %d bytes wait for kafka", b.cfg.Producer.MaxInFlightBytes),
			RetryAfter: retryAfterLimit,
		}
	}
	defer b.inFlight.Add(-payload)
	start := time.Now()
	c := &appendCall{records: records, bytes: batch, deadline: start.Add(b.cfg.Producer.Timeout), done: make(chan struct{})}
	if err := p.enqueue(c); err != nil {
		return 0, fmt.Errorf("append to %s/%d: %w", name, index, err)
	}
	if err := p.await(ctx, c); err != nil {
		return 0, fmt.Errorf("append to %s/%d: %w", name, index, err)
	}
	t.metrics.appendSeconds.Observe(time.Since(start).Seconds())
	return c.offset, nil
}

// checkRecords returns the size of a batch with the records and of their payloads.
func (b *Buffer) checkRecords(records []buffer.Record) (batch, payload int64, err error) {
	batch = batchHeader
	for i := range records {
		r := &records[i]
		n := int64(len(r.Payload))
		if n > b.MaxRecordBytes() {
			return 0, 0, fmt.Errorf("record %d: got %d bytes, want at most %d: %w", i, n, b.MaxRecordBytes(), buffer.ErrTooLarge)
		}
		if len(r.Tenant) > maxTenantBytes {
			return 0, 0, fmt.Errorf("record %d: tenant has %d bytes, want at most %d", i, len(r.Tenant), maxTenantBytes)
		}
		if r.From != nil {
			if err := buffer.CheckSender(r.From.Sender); err != nil {
				return 0, 0, fmt.Errorf("record %d: %w", i, err)
			}
		}
		batch += recordBytes(r)
		payload += n
	}
	if batch > b.maxBatch {
		return 0, 0, fmt.Errorf("got %d bytes in %d records, want at most %d: %w", batch, len(records), b.maxBatch, buffer.ErrTooLarge)
	}
	return batch, payload, nil
}

func (p *partition) highWatermark() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.high
}

// enqueue adds the call and sees to it that somebody produces. While Kafka is
// known to be away, one call at a time finds out whether it is back, with a
// request every now and then until its timeout, and all others are refused.
func (p *partition) enqueue(c *appendCall) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away != nil && p.flushing && time.Since(p.awayAt) < p.b.cfg.Producer.Timeout {
		return p.unreachable(unsent(p.away))
	}
	p.queue = append(p.queue, c)
	if p.flushing {
		return nil
	}
	p.flushing = true
	p.b.appends.Add(1) // the caller is counted, so Close does not wait yet
	go func() {
		defer p.b.appends.Done()
		p.flush()
	}()
	return nil
}

// noteAway keeps why Kafka did not answer in time; nil means that it has
// answered, whatever it said.
func (p *partition) noteAway(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.awayAt = cause, time.Now()
}

// isAway says whether Kafka is known to be away.
func (p *partition) isAway() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away != nil
}

// await waits for the call's end. One that is being produced is waited for even
// when ctx has ended: its payload is in use, and it may succeed.
func (p *partition) await(ctx context.Context, c *appendCall) error {
	timer := time.NewTimer(time.Until(c.deadline))
	defer timer.Stop()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if p.withdraw(c) {
			return ctx.Err()
		}
	case <-timer.C:
		if p.withdraw(c) {
			return p.unreachable(unsent(context.DeadlineExceeded))
		}
	}
	<-c.done
	return c.err
}

// withdraw takes the call out of the queue, unless it is being produced.
func (p *partition) withdraw(c *appendCall) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.taken {
		return false
	}
	p.queue = slices.DeleteFunc(p.queue, func(o *appendCall) bool { return o == c })
	return true
}

func (p *partition) unreachable(cause error) error {
	p.t.metrics.unreachable.Inc()
	return &buffer.FullError{Reason: "kafka is unreachable", RetryAfter: retryAfterUnreachable, Err: cause}
}

// flush produces until the queue is empty.
func (p *partition) flush() {
	for {
		calls := p.takeCalls()
		if calls == nil {
			return
		}
		p.produce(calls)
		p.mu.Lock()
		close(p.flight)
		p.flight = nil
		p.mu.Unlock()
	}
}

// takeCalls takes what fits into one batch from the queue.
func (p *partition) takeCalls() []*appendCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	bytes, n := int64(batchHeader), 0
	for n < len(p.queue) && (n == 0 || bytes+p.queue[n].bytes <= p.b.maxBatch) {
		bytes += p.queue[n].bytes
		p.queue[n].taken = true
		n++
	}
	if n == 0 {
		p.flushing = false
		return nil
	}
	calls := slices.Clone(p.queue[:n])
	p.queue = slices.Delete(p.queue, 0, n)
	p.flight = make(chan struct{})
	return calls
}

// produce sends the calls as one batch until Kafka has it, refuses it or they
// are too old.
func (p *partition) produce(calls []*appendCall) {
	pause := firstRetryPause
	for retry := false; len(calls) > 0; retry = true {
		if retry {
			p.t.metrics.retries.Inc()
		}
		base, err := p.request(calls)
		switch {
		case err == nil:
			p.acknowledge(calls, base)
			return
		case isTooLarge(err) && len(calls) > 1:
			p.noteAway(nil)
			// The topic's limit was lowered: append by append it may still fit.
			for i := range calls {
				p.produce(calls[i : i+1])
			}
			return
		case isTooLarge(err):
			p.noteAway(nil)
			p.fail(calls, fmt.Errorf("%w: %w", buffer.ErrTooLarge, err))
			return
		case isRefusal(err):
			p.noteAway(nil)
			p.t.metrics.errors.Inc()
			p.b.logger.Error("produce to kafka", "topic", p.t.kafka, "partition", p.index, "err", err)
			p.fail(calls, err)
			return
		}
		p.t.metrics.errors.Inc()
		if pause >= warnRetryPause && p.b.warned.produce.allow() {
			p.b.logger.Warn("produce to kafka, trying again", "topic", p.t.kafka, "partition", p.index, "err", err)
		}
		if p.isAway() {
			p.noteAway(err)
		}
		calls = p.failExpired(calls, err)
		if len(calls) > 0 {
			sleep(context.Background(), pause)
			pause = min(2*pause, maxRetryPause)
		}
	}
}

// failExpired ends calls whose time is up and returns the others.
func (p *partition) failExpired(calls []*appendCall, cause error) []*appendCall {
	now := time.Now()
	var kept, expired []*appendCall
	for _, c := range calls {
		if now.Before(c.deadline) {
			kept = append(kept, c)
		} else {
			expired = append(expired, c)
		}
	}
	if len(expired) > 0 {
		p.noteAway(cause)
	}
	for _, c := range expired {
		why := cause
		if !c.left {
			why = unsent(cause)
		}
		p.fail([]*appendCall{c}, p.unreachable(why))
	}
	return kept
}

func (p *partition) fail(calls []*appendCall, err error) {
	for _, c := range calls {
		c.err = err
		close(c.done)
	}
}

// request encodes and sends one batch, and returns the offset of its first
// record. Without an answer it may be in the log all the same.
func (p *partition) request(calls []*appendCall) (int64, error) {
	b := p.b
	var latest time.Time
	for _, c := range calls {
		if c.deadline.After(latest) {
			latest = c.deadline
		}
	}
	timeout := max(min(b.cfg.Producer.Timeout/2, time.Until(latest)), 50*time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	bb := b.batches.Get().(*batchBuffer)
	start := time.Now()
	var err error
	if bb.batch, bb.spare, err = encodeBatch(bb.batch, bb.spare, calls, codecFor(calls, b.codec), start.UnixMilli()); err != nil {
		return 0, err
	}
	size := len(bb.batch)
	reader := &batchReader{Reader: bytes.NewReader(bb.batch)}
	resp, err := b.transport.RoundTrip(ctx, b.client.Addr, &rawproduce.Request{
		Acks:    int16(kafkago.RequireAll),
		Timeout: int32(timeout.Milliseconds()),
		Topics: []rawproduce.RequestTopic{{
			Topic: p.t.kafka,
			Partitions: []rawproduce.RequestPartition{{
				Partition: int32(p.index),
				RecordSet: protocol.RawRecordSet{Reader: reader},
			}},
		}},
	})
	left := reader.end()
	for _, c := range calls {
		c.left = c.left || left
	}
	if ctx.Err() == nil || !left {
		b.batches.Put(bb) // else the connection may still be reading it
	}
	if err != nil {
		return 0, err
	}
	base, err := producedAt(resp, p)
	if err != nil {
		return 0, err
	}
	p.t.metrics.requestSeconds.Observe(time.Since(start).Seconds())
	p.t.metrics.requestAppends.Observe(float64(len(calls)))
	p.t.metrics.producedBytes.Add(float64(size))
	return base, nil
}

// codecFor returns how to compress a batch: not at all if every payload is
// compressed already.
func codecFor(calls []*appendCall, codec compress.Compression) compress.Compression {
	for _, c := range calls {
		for i := range c.records {
			switch c.records[i].Format {
			case buffer.FormatRemoteWriteV1, buffer.FormatRemoteWriteV2, buffer.FormatOTLPSnappy, buffer.FormatOTLPTracesSnappy, buffer.FormatOTLPLogsSnappy:
			default:
				return codec
			}
		}
	}
	return compress.None
}

// producedAt returns the offset that the answer gives the batch's first record.
// The others follow it: the leader gives a batch offsets without gaps, whoever
// else appends.
func producedAt(resp protocol.Message, p *partition) (int64, error) {
	r, ok := resp.(*produce.Response)
	if !ok || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return 0, errors.New("produce: got an answer without the partition")
	}
	part := &r.Topics[0].Partitions[0]
	if r.Topics[0].Topic != p.t.kafka || part.Partition != int32(p.index) {
		return 0, fmt.Errorf("produce: got an answer for %s/%d, want %s/%d", r.Topics[0].Topic, part.Partition, p.t.kafka, p.index)
	}
	if part.ErrorCode != 0 {
		if part.ErrorMessage != "" {
			return 0, fmt.Errorf("%w: %s", kafkago.Error(part.ErrorCode), part.ErrorMessage)
		}
		return 0, kafkago.Error(part.ErrorCode)
	}
	if part.BaseOffset < 0 {
		return 0, fmt.Errorf("produce: got offset %d", part.BaseOffset)
	}
	return part.BaseOffset, nil
}

// acknowledge hands attachments to the partition's consumer and ends the calls.
func (p *partition) acknowledge(calls []*appendCall, base int64) {
	var discarded []any
	records := 0
	p.mu.Lock()
	next := base
	for _, c := range calls {
		c.offset = next
		for i := range c.records {
			r := &c.records[i]
			if r.Attachment != nil && !p.tail.push(next, r) {
				discarded = append(discarded, r.Attachment)
			}
			next++
		}
		records += len(c.records)
	}
	p.high = max(p.high, next)
	p.away = nil
	claims := p.claims
	for _, c := range claims {
		c.notify()
	}
	p.mu.Unlock()
	p.t.metrics.producedRecords.Add(float64(records))
	p.discard(discarded)
	for _, c := range calls {
		close(c.done)
	}
}

// discard tells attachments that nobody will get them.
func (p *partition) discard(attachments []any) {
	for _, a := range attachments {
		p.t.metrics.discarded.Inc()
		if d, ok := a.(buffer.Discarder); ok {
			d.Discard()
		}
	}
}
