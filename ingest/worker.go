package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

type askKind uint8

const (
	askDrain  askKind = iota // answered when the partition's end as of now has been reached
	askCommit                // answered after a commit of what is durable
)

// ask is a question to the goroutine that owns a claim.
type ask struct {
	kind   askKind
	target int64
	done   chan error // has room for the answer
}

var errStopped = errors.New("consumer has stopped")

// worker consumes one claim. All but ask and close run in the claim's goroutine.
type worker struct {
	c         *Consumer
	claim     buffer.Claim
	source    string
	topic     string
	partition int32
	lag       prometheus.Gauge
	store     appender

	decoders  *wire.Decoders // of what comes from the log
	processed int64          // offset behind the last message that the sink has got
	committed int64
	start     int64 // the partition's end when it was claimed
	caughtUp  bool
	due       time.Time // of the next commit
	drains    []*ask

	mu     sync.Mutex
	asks   []*ask             // not yet seen by the goroutine
	cancel context.CancelFunc // ends the wait for messages under way
	closed bool
}

func newWorker(c *Consumer, cl buffer.Claim) *worker {
	return &worker{
		c: c, claim: cl, decoders: c.formats.Decoders(), source: c.buf.Source(), topic: cl.Topic(), partition: int32(cl.Partition()),
		lag: c.metrics.lag.WithLabelValues(strconv.Itoa(cl.Partition())), store: c.store.open(int32(cl.Partition())),
	}
}

func (w *worker) ask(a *ask) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		a.done <- errStopped
		return
	}
	w.asks = append(w.asks, a)
	if w.cancel != nil {
		w.cancel()
	}
}

// close answers what is still open.
func (w *worker) close(err error) {
	if err == nil {
		err = errStopped
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, a := range append(w.asks, w.drains...) {
		a.done <- err
	}
}

func (w *worker) run(ctx context.Context) error {
	w.committed = w.claim.Committed()
	w.processed = w.committed
	// Of a shared buffer, others hold what this store does not.
	if covered := w.c.store.Covered(w.source, w.topic, w.partition); covered < w.committed && !w.c.shared() {
		// The store has less than it once called durable, as after a restore of
		// older blocks. What the log still has of it is read again.
		w.c.log.Warn("store holds less than was committed, reading again", "topic", w.topic,
			"partition", w.partition, "committed", w.committed, "store", covered)
		// What the log has dropped meanwhile is gone: nobody waits for it.
		w.processed = max(covered, w.claim.Oldest())
	}
	w.claim.StartAt(w.processed)
	w.start = w.claim.HighWatermark()
	w.due = time.Now().Add(w.commitInterval())
	for ctx.Err() == nil {
		if err := w.serve(ctx); err != nil {
			return err
		}
		messages, err := w.next(ctx)
		if err != nil {
			return err
		}
		for i := range messages {
			if err := w.deliver(ctx, &messages[i]); err != nil {
				discard(messages[i:])
				return err
			}
		}
	}
	return ctx.Err()
}

// serve does what is due between two reads: notes progress, commits, answers.
func (w *worker) serve(ctx context.Context) error {
	end := w.claim.HighWatermark()
	w.lag.Set(float64(max(end-w.processed, 0)))
	if !w.caughtUp && w.processed >= w.start {
		w.caughtUp = true
		w.c.noteReached(int(w.partition))
	}
	w.mu.Lock()
	asks := w.asks
	w.asks = nil
	w.mu.Unlock()
	for _, a := range asks {
		if a.kind == askCommit {
			a.done <- w.commit(ctx)
			continue
		}
		a.target = end
		w.drains = append(w.drains, a)
	}
	open := w.drains[:0]
	for _, a := range w.drains {
		if w.processed >= a.target {
			a.done <- nil
		} else {
			open = append(open, a)
		}
	}
	w.drains = open
	if now := time.Now(); !now.Before(w.due) {
		w.due = now.Add(w.commitInterval())
		if err := w.commit(ctx); err != nil && ctx.Err() == nil {
			w.c.log.Warn("commit offset", "topic", w.topic, "partition", w.partition, "err", err)
		}
	}
	return nil
}

// commitInterval is the time between two looks at what the sink has made durable.
// On a shared buffer it is short: what is durable but not committed when this
// process dies will be read by another store, too.
func (w *worker) commitInterval() time.Duration {
	const shared = 50 * time.Millisecond
	if w.c.shared() {
		return min(w.c.cfg.CommitInterval, shared)
	}
	return w.c.cfg.CommitInterval
}

// commit records what the sink has made durable since the last commit.
func (w *worker) commit(ctx context.Context) error {
	next := w.c.store.Durable(w.source, w.topic, w.partition)
	if next <= w.committed {
		return nil
	}
	if err := w.claim.Commit(ctx, next); err != nil {
		w.c.metrics.commitFails.Inc()
		return fmt.Errorf("commit offset %d of %s/%d: %w", next, w.topic, w.partition, err)
	}
	w.c.metrics.commits.Inc()
	w.committed = next
	return nil
}

// handOver ends a claim of a shared buffer so that whoever gets the partition
// next begins where this store ends: what the store was given is made durable
// and committed, as long as the group waits for that.
func (w *worker) handOver(ctx context.Context) {
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if w.processed <= w.committed {
		return
	}
	err := w.c.store.Flush(ctx)
	if err == nil {
		err = w.commit(ctx)
	}
	if err != nil {
		w.c.log.Warn("hand partition over: the next owner reads some messages again", "topic", w.topic,
			"partition", w.partition, "processed", w.processed, "committed", w.committed, "err", err)
	}
}

// next waits for messages until a commit is due or a question comes, and then
// returns none.
func (w *worker) next(ctx context.Context) ([]buffer.Message, error) {
	wait, cancel := context.WithDeadline(ctx, w.due)
	defer cancel()
	w.mu.Lock()
	if len(w.asks) > 0 {
		w.mu.Unlock()
		return nil, nil
	}
	w.cancel = cancel
	w.mu.Unlock()
	messages, err := w.claim.Next(wait)
	w.mu.Lock()
	w.cancel = nil
	w.mu.Unlock()
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return nil, nil
	}
	return messages, err
}

// deliver gives one message to the store. An error means that the claim has
// ended and the message is still to be discarded.
func (w *worker) deliver(ctx context.Context, m *buffer.Message) error {
	if m.Format == buffer.FormatPosition {
		w.processed = m.Offset + 1
		return nil
	}
	d, ok := m.Attachment.(*Delivery)
	var b batch
	if ok {
		b = batch{d.Metrics, d.Spans, d.Logs}
		w.c.metrics.fromMemory.Inc()
	} else {
		decoder, err := w.decode(m)
		if err != nil {
			w.c.setAside(w.topic, int(w.partition), m, err)
			w.processed = m.Offset + 1
			return nil
		}
		defer decoder.Reset()
		decoded := decoder.Result()
		switch w.topic {
		case buffer.TopicTraces:
			b.spans = &decoded.Spans
		case buffer.TopicLogs:
			b.logs = &decoded.Logs
		default:
			b.metrics = &decoded.Metrics
		}
		w.c.metrics.countRefused(&decoded.Rejects)
		w.c.metrics.fromLog.Inc()
	}
	b.of(m.Tenant)
	w.store.prepare(b)
	result, err := w.append(ctx, b, m.Offset)
	if err != nil {
		return err
	}
	w.store.stored(b)
	w.c.metrics.count(result)
	w.processed = m.Offset + 1
	if ok {
		m.Attachment = nil
		d.Finish(result)
	}
	return nil
}

// decode decodes a message from the log. Limits were applied at the door; what
// others have put there has none but those of the format.
func (w *worker) decode(m *buffer.Message) (wire.Decoder, error) {
	if topic := m.Format.Topic(); topic != w.topic {
		return nil, &wire.SyntaxError{Message: wire.MessageName(m.Format), Detail: "format of the topic " + topic}
	}
	d, err := w.decoders.For(m.Format)
	if err != nil {
		return nil, err
	}
	return d, d.Decode(m.Format, m.Payload, wire.Limits{})
}

// append offers a batch to the store until it takes it or ctx ends.
func (w *worker) append(ctx context.Context, b batch, offset int64) (signal.AppendResult, error) {
	const first, most = 10 * time.Millisecond, 2 * time.Second
	for pause := first; ; pause = min(2*pause, most) {
		result, err := w.store.append(ctx, b, place{w.source, w.topic, w.partition, offset})
		if err == nil {
			return result, nil
		}
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		w.c.metrics.sinkErrors.Inc()
		if pause == first || pause == most {
			w.c.log.Warn("append to store, trying again", "topic", w.topic, "partition", w.partition, "offset", offset, "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return result, ctx.Err()
		}
	}
}

// discard ends the deliveries of messages that will not be stored by this claim.
func discard(messages []buffer.Message) {
	for i := range messages {
		if d, ok := messages[i].Attachment.(buffer.Discarder); ok {
			d.Discard()
		}
	}
}
