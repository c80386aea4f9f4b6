package forward

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
)

// Kafka is the Destination that produces to the topics that a Vedette with a
// buffer of kind kafka reads.
type Kafka struct {
	cfg        kafka.Config
	batchBytes int
	logger     *slog.Logger
	registerer prometheus.Registerer

	mu  sync.Mutex    // guards buf; held while it is opened
	buf *kafka.Buffer // nil until Kafka was reached
}

// NewKafka returns a destination; it connects when something is sent.
func NewKafka(c Config, logger *slog.Logger, reg prometheus.Registerer) *Kafka {
	k := &Kafka{cfg: c.Kafka, batchBytes: c.BatchBytes, logger: logger, registerer: reg}
	k.cfg.Consumer.TailBytes = 0 // nothing is consumed here
	return k
}

// open connects, for a bounded time.
func (k *Kafka) open(ctx context.Context, source string) (*kafka.Buffer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.buf != nil {
		return k.buf, nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(k.cfg.Producer.Timeout, time.Second))
	defer cancel()
	b, err := kafka.Open(ctx, k.cfg, Topics(), k.logger, k.registerer)
	if err != nil {
		return nil, err
	}
	b.RecallOnly(func(sender string) bool { return strings.Contains(sender, "/"+source+"/") })
	k.buf = b
	return b, nil
}

// Choose implements Destination. A record batch takes messages of any tenant and
// format.
func (k *Kafka) Choose(messages []buffer.Message) int {
	size := len(messages[0].Payload)
	n := 1
	for ; n < len(messages); n++ {
		if size += len(messages[n].Payload) + messageOverhead; size > k.batchBytes {
			break
		}
	}
	return n
}

// messageOverhead is about what a message's headers take.
const messageOverhead = 384

// Send implements Destination. Every message says which one of the queue it is, and
// if any may have been produced before, those that are there are left out.
func (k *Kafka) Send(ctx context.Context, b *Batch) (Receipt, error) {
	buf, err := k.open(ctx, b.Source)
	if err != nil {
		if ctx.Err() != nil {
			return Receipt{}, ctx.Err()
		}
		return Receipt{}, &RetryError{Reason: "network", Unsent: true, Err: err}
	}
	partition := k.partition(b, buf.Partitions(b.Topic))
	records, err := missing(ctx, buf, b, partition)
	unsent := err != nil
	if err == nil && len(records) > 0 {
		_, err = buf.Append(ctx, b.Topic, partition, records)
		unsent = errors.Is(err, kafka.ErrUnsent)
	}
	var full *buffer.FullError
	switch {
	case err == nil:
		return Receipt{}, nil
	case ctx.Err() != nil:
		return Receipt{}, ctx.Err()
	case errors.Is(err, buffer.ErrTooLarge):
		return Receipt{}, &PermanentError{Reason: err.Error()}
	case errors.As(err, &full):
		return Receipt{}, &RetryError{Reason: "unavailable", After: full.RetryAfter, Unsent: unsent, Err: err}
	}
	return Receipt{}, &RetryError{Reason: "kafka", Unsent: unsent, Err: err}
}

// missing returns those of a batch's messages as records that are not in the
// partition.
func missing(ctx context.Context, buf *kafka.Buffer, b *Batch, partition int) ([]buffer.Record, error) {
	records := make([]buffer.Record, 0, len(b.Messages))
	positions := make([]buffer.Position, len(b.Messages))
	last := map[string]int64{} // that is there, by tenant
	sender := b.sender()
	for i := range b.Messages {
		m := &b.Messages[i]
		if m.Format == buffer.FormatPosition {
			continue
		}
		p := &positions[i]
		*p = buffer.Position{Sender: m.Tenant + "/" + sender, Session: b.Session, First: m.Offset, Last: m.Offset, Parts: 1}
		there, asked := last[m.Tenant]
		if !asked {
			there = -1
			if !b.Tries.Never() {
				have, known, err := buf.Recall(ctx, b.Topic, partition, buffer.Origin{Sender: p.Sender, Session: p.Session, Tries: b.Tries})
				if err != nil {
					return nil, err
				}
				if known {
					there = have.Last
				}
			}
			last[m.Tenant] = there
		}
		if m.Offset > there {
			r := m.Record
			r.From = p
			records = append(records, r)
		}
	}
	return records, nil
}

// partition places a batch. All of a queue's partition goes to one of Kafka, so
// that it stays in order: to the same one if the queue has as many as Kafka, since
// the doors have then divided requests as a server does; else by a hash, so that
// agents spread.
func (k *Kafka) partition(b *Batch, n int) int {
	if b.Partitions == n {
		return b.Partition
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, b.sender())
	return int(h.Sum64() % uint64(n))
}

// Close implements Destination.
func (k *Kafka) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.buf == nil {
		return nil
	}
	return k.buf.Close()
}
