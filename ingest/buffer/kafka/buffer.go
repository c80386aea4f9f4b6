package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"github.com/vedette-io/vedette/ingest/buffer"
)

const (
	dialTimeout = 3 * time.Second
	// metadataTTL bounds how long a new leader stays unknown.
	metadataTTL = 2 * time.Second
)

// Buffer is buffer.Buffer on Kafka.
type Buffer struct {
	cfg       Config
	codec     compress.Compression
	logger    *slog.Logger
	metrics   *metrics
	source    string
	brokers   *brokers
	transport *kafkago.Transport
	client    *kafkago.Client
	topics    map[string]*topic
	maxBatch  int64                    // bytes of a record batch that every topic takes
	inFlight  atomic.Int64             // payload bytes that wait for Kafka
	recalled  atomic.Int64             // sessions that recalls keep
	farTurn   chan struct{}            // holds one token, of whoever reads for a far recall
	own       func(sender string) bool // senders that recalls keep; nil keeps all
	closing   chan struct{}            // closed by Close
	batches   sync.Pool                // of *batchBuffer
	zstd      *zstd.Decoder            // of batches as a whole; any goroutine may use it
	warned    warnings
	instances instances

	mu      sync.Mutex     // guards closed and the increments of appends
	closed  bool           // no append may begin
	appends sync.WaitGroup // under way, with the goroutines that produce them
}

// topic is an open topic.
type topic struct {
	name    string // without the prefix
	kafka   string // with it
	metrics *topicMetrics

	joined   chan struct{} // closed once a consumer has got its first partitions
	joinOnce sync.Once     // closes joined
	first    int           // how many those were; set before joined is closed

	mu         sync.Mutex // guards the slice; partitions are only ever added
	partitions []*partition
	known      int // partitions when the buffer was opened
}

// partition returns the state of partition i, which a consumer may be assigned
// after the topic has grown.
func (t *topic) partition(b *Buffer, i int) *partition {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.partitions) <= i {
		t.partitions = append(t.partitions, newPartition(b, t, len(t.partitions)))
	}
	return t.partitions[i]
}

func (t *topic) all() []*partition {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.partitions
}

// Open connects to Kafka, waiting for it until ctx ends, and creates the topics
// that are missing. Its metrics are registered with reg, if that is not nil.
func Open(ctx context.Context, cfg Config, topics []string, logger *slog.Logger, reg prometheus.Registerer) (*Buffer, error) {
	return open(ctx, cfg, topics, options{logger: logger, registerer: reg})
}

// options are what tests may want to be different.
type options struct {
	logger     *slog.Logger
	registerer prometheus.Registerer
	dial       func(ctx context.Context, network, address string) (net.Conn, error)
}

func open(ctx context.Context, cfg Config, topics []string, o options) (*Buffer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	b := &Buffer{
		cfg:     cfg,
		logger:  o.logger,
		metrics: newMetrics(),
		topics:  map[string]*topic{},
		closing: make(chan struct{}),
		farTurn: make(chan struct{}, 1),
	}
	b.farTurn <- struct{}{}
	b.codec, _ = parseCompression(cfg.Producer.Compression)
	b.batches.New = func() any { return new(batchBuffer) }
	var err error
	if b.zstd, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxDecompressed)); err != nil {
		return nil, err
	}
	if b.brokers, err = newBrokers(&cfg, o.dial); err != nil {
		return nil, err
	}
	b.transport = newTransport(&cfg, topics, metadataTTL, b.brokers)
	b.client = &kafkago.Client{Addr: kafkago.TCP(anyBroker), Transport: b.transport}
	if err := b.openTopics(ctx, topics); err != nil {
		b.transport.CloseIdleConnections()
		return nil, fmt.Errorf("open kafka at %s: %w", strings.Join(cfg.Brokers, ","), err)
	}
	if o.registerer != nil {
		if err := o.registerer.Register(b); err != nil {
			b.transport.CloseIdleConnections()
			return nil, err
		}
	}
	return b, nil
}

func newTransport(cfg *Config, topics []string, ttl time.Duration, to *brokers) *kafkago.Transport {
	names := make([]string, len(topics))
	for i, name := range topics {
		names[i] = cfg.Topics.Prefix + name
	}
	return &kafkago.Transport{
		Dial:           to.dial,
		DialTimeout:    dialTimeout,
		MetadataTTL:    ttl,
		MetadataTopics: names,
		ClientID:       cfg.ClientID,
		SASL:           cfg.SASL.mechanism(),
	}
}

// Source implements buffer.Buffer. It names the cluster, and the topics' prefix
// if there is one.
func (b *Buffer) Source() string { return b.source }

// Partitions implements buffer.Buffer. It is 0 for a topic that is not open.
// Partitions that are added while this process runs are consumed at once, and
// written to from its next start on.
func (b *Buffer) Partitions(name string) int {
	if t := b.topics[name]; t != nil {
		return t.known
	}
	return 0
}

// MaxRecordBytes returns the size of the largest payload that Append takes.
func (b *Buffer) MaxRecordBytes() int64 { return b.maxBatch - reservedOverhead }

// Consume implements buffer.Buffer. The group's name in Kafka has the topics'
// prefix. While Kafka is away it goes on trying.
func (b *Buffer) Consume(ctx context.Context, group, name string, handle func(context.Context, buffer.Claim) error) error {
	if group == "" {
		return errors.New("consume: group is empty")
	}
	t := b.topics[name]
	if t == nil {
		return fmt.Errorf("consume %s: topic is not open", name)
	}
	if b.isClosed() {
		return fmt.Errorf("consume %s: %w", name, buffer.ErrClosed)
	}
	return newMember(b, t, group, handle).run(ctx)
}

func (b *Buffer) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// begin counts an append, unless the buffer is closed.
func (b *Buffer) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.appends.Add(1)
	return true
}

// Joined waits until a consumer of a topic, one of those that b was opened with,
// has been told for the first time which partitions are its own, once those that move to it have been given up by their
// owners. It returns how many they are: none, if the group has more members than
// the topic has partitions.
func (b *Buffer) Joined(ctx context.Context, name string) (int, error) {
	t := b.topics[name]
	select {
	case <-t.joined:
		return t.first, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (t *topic) noteJoined(partitions int) {
	t.joinOnce.Do(func() {
		t.first = partitions
		close(t.joined)
	})
}

// Close implements buffer.Buffer.
func (b *Buffer) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.closing)
	}
	b.mu.Unlock()
	b.appends.Wait()
	for _, t := range b.topics {
		for _, p := range t.all() {
			p.near.close()
			p.far.close()
		}
	}
	b.transport.CloseIdleConnections()
	return nil
}

// warnings says whether it is time to say again that Kafka is away, which many
// goroutines find out many times a second.
type warnings struct{ produce, fetch, group rate }

// rate lets something happen once per interval.
type rate struct {
	mu   sync.Mutex
	last time.Time
}

const warnInterval = 10 * time.Second

func (r *rate) allow() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.last) < warnInterval {
		return false
	}
	r.last = now
	return true
}

func partitionLabel(i int) string { return strconv.Itoa(i) }

// sleep waits, and says whether the time was up before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
