package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Topics are what a Queue holds and a Forwarder ships.
func Topics() []string {
	return []string{buffer.TopicMetrics, buffer.TopicTraces, buffer.TopicLogs}
}

// group is the consumer group of the Forwarder.
const group = "forward"

// QueueOptions are what a Queue is made of.
type QueueOptions struct {
	Config QueueConfig

	// Log configures the log behind the queue: partitions, fsync and the largest
	// record. Its other limits follow from Config.
	Log buffer.Config

	FS  vfs.FS
	Dir string

	// Formats decode what is dropped, to count it; nil counts messages and bytes
	// alone.
	Formats *wire.Formats

	Logger     *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

// Queue is a bounded log on disk of what is to be forwarded. It is a
// buffer.Buffer that does not refuse appends when it is full, but drops its oldest
// segment. It is safe for concurrent use.
type Queue struct {
	log     *buffer.Log
	cfg     QueueConfig
	limit   int64 // of a record
	logger  *slog.Logger
	metrics *metrics
	said    saidFile
	sent    triedFile
	opened  sessions      // since OpenQueue as they are
	next    atomic.Uint64 // of Add, to go round

	mu       sync.Mutex // guards what follows, and keeps commits and drops apart
	lanes    map[laneKey]*lane
	decoders *wire.Decoders // nil counts no items
}

var _ buffer.Buffer = (*Queue)(nil)

type laneKey struct {
	topic     string
	partition int
}

func (k laneKey) String() string { return k.topic + "/" + strconv.Itoa(k.partition) }

// lane is what the queue knows of a partition.
type lane struct {
	floor int64  // offsets below were dropped, but for those below taken
	taken int64  // offsets below were taken by the forwarder, or delivered before
	since int64  // unix milliseconds at which the oldest message under way was appended; 0 if none is
	tried *tried // the forwarder's; nil before there is one
}

// OpenQueue opens the queue in a directory, and creates it if there is none.
func OpenQueue(o QueueOptions) (*Queue, error) {
	q := &Queue{
		cfg: o.Config, logger: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), metrics: newMetrics(o.Registerer),
		said: saidFile{fs: o.FS, dir: o.Dir}, lanes: map[laneKey]*lane{},
	}
	q.sent = triedFile{fs: o.FS, dir: o.Dir, logger: q.logger}
	if o.Config.MaxBytes < minQueueBytes {
		return nil, fmt.Errorf("open queue: max_bytes: got %d, want %d or more", o.Config.MaxBytes, minQueueBytes)
	}
	if o.Formats != nil {
		q.decoders = o.Formats.Decoders()
	}
	c := o.Log
	c.MaxBytes = o.Config.MaxBytes
	c.SegmentBytes = min(c.SegmentBytes, o.Config.MaxBytes/segmentShare)
	c.MaxRecordBytes = min(c.MaxRecordBytes, o.Config.MaxBytes/4)
	c.TailBytes = 0 // messages are read from disk, where they are as they came
	c.Retention, c.RetentionByTopic = buffer.Retention{}, nil
	q.limit = c.MaxRecordBytes
	var err error
	if q.log, err = buffer.Open(c, o.FS, o.Dir, q.logger, o.Registerer); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	if err := q.openLanes(); err != nil {
		return nil, errors.Join(fmt.Errorf("open queue: %w", err), q.log.Close())
	}
	if err := q.metrics.watch(o.Registerer, q); err != nil {
		return nil, errors.Join(fmt.Errorf("open queue: %w", err), q.log.Close())
	}
	return q, nil
}

func (q *Queue) openLanes() error {
	if err := errors.Join(q.said.load(), q.sent.load()); err != nil {
		return err
	}
	next, done := map[laneKey]int64{}, map[laneKey]int64{}
	for _, topic := range Topics() {
		for i := range q.log.Partitions(topic) {
			committed, err := q.log.CommittedBy(group, topic, i)
			if err != nil {
				return err
			}
			k := laneKey{topic, i}
			q.lanes[k], done[k] = &lane{taken: committed}, committed
			if next[k], err = q.log.Append(context.Background(), topic, i, nil); err != nil {
				return err
			}
			if unsent, ok := q.sent.unsent(k); ok {
				next[k] = min(next[k], max(unsent, committed))
			}
		}
	}
	var err error
	q.opened, err = openSessions(q.said.fs, q.said.dir, next, done, q.logger)
	return err
}

// Source implements buffer.Buffer.
func (q *Queue) Source() string { return q.log.Source() }

// Partitions implements buffer.Buffer.
func (q *Queue) Partitions(topic string) int { return q.log.Partitions(topic) }

// MaxRecordBytes returns the size of the largest payload that is taken.
func (q *Queue) MaxRecordBytes() int64 { return q.limit }

// SizeBytes returns what the queue takes on disk.
func (q *Queue) SizeBytes() int64 { return q.log.SizeBytes() }

// Add appends one payload of a tenant to the topic of its format, in a partition
// that it chooses. It returns nil once the payload is as durable as the log's sync
// mode makes it.
func (q *Queue) Add(ctx context.Context, tenantID string, format buffer.Format, payload []byte) error {
	topic := format.Topic()
	partition := int(q.next.Add(1) % uint64(q.Partitions(topic)))
	_, err := q.Append(ctx, topic, partition, []buffer.Record{{Tenant: tenantID, Format: format, Payload: payload}})
	return err
}

// Append implements buffer.Buffer. A queue that is full drops its oldest messages;
// it refuses records, with a *buffer.FullError, if the disk is full or they are
// larger than all that could be dropped.
func (q *Queue) Append(ctx context.Context, topic string, partition int, records []buffer.Record) (int64, error) {
	for {
		offset, err := q.log.Append(ctx, topic, partition, records)
		var full *buffer.FullError
		if err == nil || !errors.As(err, &full) || full.Err != nil {
			return offset, err
		}
		size := q.log.SizeBytes()
		if dropped, dropErr := q.drop(ctx, size, time.Time{}, dropFull); dropErr != nil || !dropped {
			return 0, errors.Join(err, dropErr)
		}
	}
}

// Consume implements buffer.Buffer. The forwarder does so under a group of its
// own.
func (q *Queue) Consume(ctx context.Context, group, topic string, handle func(context.Context, buffer.Claim) error) error {
	return q.log.Consume(ctx, group, topic, handle)
}

// Close implements buffer.Buffer: what was appended is on disk.
func (q *Queue) Close() error { return q.log.Close() }

// drop removes the oldest segment, if its messages were appended before the given
// time or that is zero, and says what is lost. If the queue has become smaller than
// size meanwhile, others have dropped and nothing is.
func (q *Queue) drop(ctx context.Context, size int64, before time.Time, reason string) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.log.SizeBytes() < size {
		return true, nil
	}
	var lost loss
	d, ok, err := q.log.DropOldest(ctx, before, func(topic string, partition int, m *buffer.Message) {
		if m.Offset >= q.laneLocked(laneKey{topic, partition}).taken {
			lost.add(m, q.items(m))
		}
	})
	if !ok {
		return false, err
	}
	k := laneKey{d.Topic, d.Partition}
	l := q.laneLocked(k)
	from := max(l.taken, l.floor)
	l.floor = max(l.floor, d.To)
	if d.Unread != nil { // their number is what is known of them
		lost.messages = max(lost.messages, int(d.To-max(d.From, l.taken)))
		q.logger.Error("The oldest messages of the queue cannot be read", "topic", d.Topic, "partition", d.Partition, "err", d.Unread)
	}
	if lost.messages == 0 {
		return true, err
	}
	q.metrics.drop(d.Topic, reason, &lost)
	q.logger.Error("The queue drops its oldest messages before they were delivered", append([]any{
		"reason", reason, "topic", d.Topic, "partition", d.Partition,
	}, lost.attrs(d.Topic)...)...)
	if saidErr := q.said.add(k, from, d.To); saidErr != nil { // there is room nevertheless
		q.logger.Warn("What was dropped may be told again at the next start", "err", saidErr)
	}
	return true, err
}

// expire drops what is older than the queue's limit.
func (q *Queue) expire(ctx context.Context, now time.Time) error {
	if q.cfg.MaxAge == 0 {
		return nil
	}
	if err := q.log.RollOlder(ctx, now.Add(-q.cfg.MaxAge/8)); err != nil {
		return err
	}
	for {
		if dropped, err := q.drop(ctx, 0, now.Add(-q.cfg.MaxAge), dropAge); err != nil || !dropped {
			return err
		}
	}
}

func (q *Queue) laneLocked(k laneKey) *lane {
	l := q.lanes[k]
	if l == nil {
		l = &lane{}
		q.lanes[k] = l
	}
	return l
}

// live returns those of the messages that were not dropped meanwhile.
func (l *lane) live(messages []buffer.Message) []buffer.Message {
	for len(messages) > 0 && messages[0].Offset < l.floor && messages[0].Offset >= l.taken {
		messages = messages[1:]
	}
	return messages
}

// take makes messages, those that choose returns the number of, ones that are under
// way and are not dropped any more: they are in memory. The others come back as
// rest.
func (q *Queue) take(k laneKey, messages []buffer.Message, choose func([]buffer.Message) int) (taken, rest []buffer.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.laneLocked(k)
	messages = l.live(messages)
	if len(messages) == 0 {
		return nil, nil
	}
	n := choose(messages)
	l.taken = messages[n-1].Offset + 1
	l.since = messages[0].Appended
	return messages[:n], messages[n:]
}

// tried returns what is known of when the lane's messages were sent, which outlives a
// forwarder: another one may follow it.
func (q *Queue) tried(k laneKey) *tried {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.laneLocked(k)
	if l.tried == nil {
		left, known := q.sent.of(k)
		l.tried = newTried(q.opened.begin(k), left, known)
	}
	return l.tried
}

// rest notes that nothing of the lane is under way.
func (q *Queue) rest(k laneKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.laneLocked(k).since = 0
}

// commit makes the queue forget what is below next.
func (q *Queue) commit(ctx context.Context, c buffer.Claim, next int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return c.Commit(ctx, next)
}

// oldest returns since when the lanes of a topic have had something under way.
func (q *Queue) oldest(topic string) (sinceMillis int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, l := range q.lanes {
		if k.topic == topic && l.since > 0 && (sinceMillis == 0 || l.since < sinceMillis) {
			sinceMillis = l.since
		}
	}
	return sinceMillis
}

// items counts the samples, spans or log records of a message; 0 if nobody knows
// them. The caller has q.mu.
func (q *Queue) items(m *buffer.Message) int {
	if q.decoders == nil || m.Format == buffer.FormatPosition {
		return 0
	}
	d, err := q.decoders.For(m.Format)
	if err != nil {
		return 0
	}
	defer d.Reset()
	if err := d.Decode(m.Format, m.Payload, wire.Limits{}); err != nil {
		return 0
	}
	r := d.Result()
	return r.Metrics.Samples() + r.Spans.Len() + r.Logs.Len()
}

// count is items for messages that are refused.
func (q *Queue) count(lost *loss, messages []buffer.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range messages {
		lost.add(&messages[i], q.items(&messages[i]))
	}
}

// Position implements buffer.Positions, for agents that forward to this one.
func (q *Queue) Position(sender string) (buffer.Position, bool) { return q.log.Position(sender) }
