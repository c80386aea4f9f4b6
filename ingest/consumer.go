package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/signal"
)

// ConsumerConfig configures a Consumer.
type ConsumerConfig struct {
	// Group is the consumer group whose offsets are committed; that of spans has
	// `.traces` behind it, that of log records `.logs`.
	Group string `yaml:"group"`

	// CommitInterval is the least time between two commits of a partition.
	CommitInterval time.Duration `yaml:"commit_interval"`

	// SetAsideDir is where payloads that cannot be decoded are written, at most
	// 100 of them; if it is empty they are only counted and logged.
	SetAsideDir string `yaml:"set_aside_dir"`

	// MaxDeltaStreams is for how many series with delta temporality a partition
	// keeps the sum; deltas of further ones are dropped. One takes about 150 bytes.
	MaxDeltaStreams int `yaml:"max_delta_streams"`
}

// DefaultConsumerConfig returns the defaults.
func DefaultConsumerConfig() ConsumerConfig {
	return ConsumerConfig{Group: "vedette.store", CommitInterval: time.Second, MaxDeltaStreams: 1_000_000}
}

// Validate names every bad key.
func (c ConsumerConfig) Validate() error {
	var errs []error
	if c.Group == "" {
		errs = append(errs, errors.New("group: is empty"))
	}
	if c.CommitInterval <= 0 {
		errs = append(errs, fmt.Errorf("commit_interval: got %s, want > 0", c.CommitInterval))
	}
	if c.MaxDeltaStreams <= 0 {
		errs = append(errs, fmt.Errorf("max_delta_streams: got %d, want > 0", c.MaxDeltaStreams))
	}
	return errors.Join(errs...)
}

// Consumer reads one topic of a buffer into a store.
type Consumer struct {
	buf     buffer.Buffer
	topic   string
	group   string
	store   store
	cfg     ConsumerConfig
	formats *wire.Formats
	joined  func(context.Context) (int, error) // nil if no other store consumes
	log     *slog.Logger
	metrics *metrics

	caughtUp chan struct{} // closed once every partition of this consumer has been read up to where it stood at its first claim
	once     sync.Once     // closes caughtUp

	mu      sync.Mutex
	workers map[*worker]struct{}
	want    int          // partitions that count for caughtUp; -1 until they are known
	reached map[int]bool // of which done
	aside   []SetAside   // oldest first
}

// ConsumerOptions are what a Consumer is made of. The topic is that of the one
// sink that is not nil.
type ConsumerOptions struct {
	Buffer   buffer.Buffer
	Sink     Sink
	SpanSink SpanSink
	LogSink  LogSink
	Config   ConsumerConfig
	Formats  *wire.Formats // that can be decoded

	// Observe, if it is set, sees every batch of spans once the store has it, in
	// the order of its partition.
	Observe func(partition int32, b *signal.Spans)

	// Joined is nil if all partitions are this consumer's for ever. Otherwise other
	// stores consume from Buffer, too, and partitions come and go: Joined waits
	// until Buffer has been told for the first time which are its own and returns
	// how many; what was committed beyond what Sink holds is held by another.
	Joined func(context.Context) (partitions int, err error)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// NewConsumer returns a consumer. Run starts it.
func NewConsumer(o ConsumerOptions) (*Consumer, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	c := &Consumer{
		buf: o.Buffer, topic: buffer.TopicMetrics, group: o.Config.Group, cfg: o.Config, formats: o.Formats, joined: o.Joined, log: o.Logger,
		caughtUp: make(chan struct{}), workers: map[*worker]struct{}{}, reached: map[int]bool{}, want: -1,
	}
	// Groups of their own: with Kafka, a member of a group has one topic here.
	switch {
	case o.SpanSink != nil:
		c.topic, c.group = buffer.TopicTraces, o.Config.Group+".traces"
	case o.LogSink != nil:
		c.topic, c.group = buffer.TopicLogs, o.Config.Group+".logs"
	}
	c.metrics = newMetrics(o.Registerer, c.topic)
	c.store = newStore(&o, c.metrics)
	if o.Joined == nil {
		c.want = o.Buffer.Partitions(c.topic)
	}
	return c, nil
}

// Topic returns the topic that c reads.
func (c *Consumer) Topic() string { return c.topic }

// Group returns the group whose offsets c commits.
func (c *Consumer) Group() string { return c.group }

// Run consumes until ctx ends, which is not an error, or a partition fails.
func (c *Consumer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.shared() {
		wg.Go(func() { c.awaitJoin(ctx) })
	}
	err := c.buf.Consume(ctx, c.group, c.topic, c.claim)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// shared reports whether other stores consume, too.
func (c *Consumer) shared() bool { return c.joined != nil }

// awaitJoin learns how many partitions this consumer begins with.
func (c *Consumer) awaitJoin(ctx context.Context) {
	n, err := c.joined(ctx)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want = n
	c.checkReachedLocked()
}

// CaughtUp is closed once the sink has got everything that was in the buffer
// when this process began to read it.
func (c *Consumer) CaughtUp() <-chan struct{} { return c.caughtUp }

// Drain waits until the sink has got everything that is in the partitions of
// this consumer now.
func (c *Consumer) Drain(ctx context.Context) error {
	return c.askAll(ctx, askDrain)
}

// Commit records the offsets up to which the sink is durable now.
func (c *Consumer) Commit(ctx context.Context) error {
	return c.askAll(ctx, askCommit)
}

// askAll sends a question to every worker and waits for the answers.
func (c *Consumer) askAll(ctx context.Context, kind askKind) error {
	c.mu.Lock()
	var asks []*ask
	for w := range c.workers {
		a := &ask{kind: kind, done: make(chan error, 1)}
		asks = append(asks, a)
		w.ask(a)
	}
	c.mu.Unlock()
	for _, a := range asks {
		select {
		case err := <-a.done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// claim consumes one partition.
func (c *Consumer) claim(ctx context.Context, cl buffer.Claim) error {
	w := newWorker(c, cl)
	c.mu.Lock()
	c.workers[w] = struct{}{}
	c.mu.Unlock()
	err := w.run(ctx)
	c.mu.Lock()
	delete(c.workers, w)
	c.mu.Unlock()
	w.close(err)
	if c.shared() {
		c.noteReached(cl.Partition())
		w.handOver(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// noteReached counts a partition as read up to where it stood at its claim, or as
// nobody's any more.
func (c *Consumer) noteReached(partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached[partition] = true
	c.checkReachedLocked()
}

func (c *Consumer) checkReachedLocked() {
	if c.want >= 0 && len(c.reached) >= c.want {
		c.once.Do(func() { close(c.caughtUp) })
	}
}
