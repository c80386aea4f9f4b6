package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/vedette-io/vedette/ingest/buffer"
)

const (
	// recallSlack is by how much the clocks of this process, of others that produce
	// and of senders may differ, and how long after it was tried a produce request may
	// still reach the log: it is not waited for beyond.
	recallSlack = 2 * time.Minute

	// recallKept is how long what was read is kept for those who ask next: after a
	// server's restart all its senders do.
	recallKept = time.Minute

	// maxRecalled bounds how many sessions are kept of a partition.
	maxRecalled = 1 << 17
)

// recall is what was read of a partition to find senders' positions: a run of
// offsets, read in order, and the last position that counts of each session in it.
// Who asks for what is beside the run has it extended, or another one begun.
type recall struct {
	turn    chan struct{} // holds one token; whoever has it may use what follows
	from    int64         // offsets that were read: [from, to)
	to      int64
	last    map[recallKey]buffer.Position
	buf     []byte
	decoder batchDecoder
	forget  *time.Timer // nil while nothing is kept
}

type recallKey struct {
	sender  string
	session uint64
}

func newRecall() *recall {
	r := &recall{turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// reset begins an empty run at an offset.
func (r *recall) reset(at int64) {
	r.from, r.to = at, at
	r.last = map[recallKey]buffer.Position{}
}

// keep gives the turn back, and lets go of what was read some time later.
func (r *recall) keep() {
	if r.forget != nil {
		r.forget.Stop()
	}
	r.forget = time.AfterFunc(recallKept, func() {
		select {
		case <-r.turn:
			r.last, r.buf, r.decoder.arena, r.forget = nil, nil, nil, nil
			r.from, r.to = 0, 0
			r.turn <- struct{}{}
		default: // somebody uses it, and keeps it
		}
	})
	r.turn <- struct{}{}
}

func (r *recall) close() {
	<-r.turn
	if r.forget != nil {
		r.forget.Stop()
	}
	r.turn <- struct{}{}
}

// Recall implements buffer.Recaller. It reads what was produced to the partition
// while the sender tried, by the times that messages bear, of which two minutes
// before and after count as well, and at most to the end.
func (b *Buffer) Recall(ctx context.Context, name string, index int, of buffer.Origin) (buffer.Position, bool, error) {
	t := b.topics[name]
	if t == nil || index < 0 || index >= t.known {
		return buffer.Position{}, false, fmt.Errorf("recall positions of %s/%d: topic or partition is not open", name, index)
	}
	if !b.begin() {
		return buffer.Position{}, false, fmt.Errorf("recall positions of %s/%d: %w", name, index, buffer.ErrClosed)
	}
	defer b.appends.Done()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Producer.Timeout)
	defer cancel()
	p := t.partition(b, index)
	r := p.recall
	select {
	case <-r.turn:
	case <-ctx.Done():
		return buffer.Position{}, false, p.unreachable(ctx.Err())
	}
	defer r.keep()
	err := r.cover(ctx, p, &of.Tries)
	if err != nil {
		return buffer.Position{}, false, p.unreachable(fmt.Errorf("recall positions of %s/%d: %w", name, index, err))
	}
	last, known := r.last[recallKey{of.Sender, of.Session}]
	return last, known, nil
}

// cover reads what was produced during the tries. What it has read when ctx ends
// is there the next time.
func (r *recall) cover(ctx context.Context, p *partition, tries *buffer.Tries) error {
	oldest, high, err := p.b.boundsOnce(ctx, p)
	if err != nil {
		return err
	}
	from, err := p.offsetAt(ctx, tries.From.Add(-recallSlack), oldest, high)
	if err != nil {
		return err
	}
	to := high
	if until := tries.To.Add(recallSlack); until.Before(time.Now()) {
		if to, err = p.offsetAt(ctx, until, oldest, high); err != nil {
			return err
		}
	}
	if r.last == nil || from < r.from || from > r.to || len(r.last) > maxRecalled {
		// A little earlier: the next one who asks for the same computes another time.
		if from, err = p.offsetAt(ctx, tries.From.Add(-2*recallSlack), oldest, high); err != nil {
			return err
		}
		r.reset(from)
	}
	return r.read(ctx, p, to)
}

// offsetAt returns the offset of the first message from a time on.
func (p *partition) offsetAt(ctx context.Context, at time.Time, oldest, high int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
	defer cancel()
	resp, err := p.b.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{p.t.kafka: {kafkago.TimeOffsetOf(p.index, at)}},
	})
	if err != nil {
		return 0, err
	}
	for _, o := range resp.Topics[p.t.kafka] {
		if o.Partition != p.index {
			continue
		}
		if o.Error != nil {
			return 0, o.Error
		}
		for offset := range o.Offsets { // one
			if offset >= 0 {
				return max(offset, oldest), nil
			}
		}
	}
	return high, nil // nothing is that new
}

// read extends the run up to an offset.
func (r *recall) read(ctx context.Context, p *partition, to int64) error {
	for r.to < to {
		f, err := p.fetchOnce(ctx, r.to, r.buf)
		r.buf = nil // the connection may still write to it after an error
		if err != nil {
			return err
		}
		if f.outside {
			r.last = nil
			return errors.New("what was asked for is no longer in the log")
		}
		if err := r.add(p, f, to); err != nil {
			return err
		}
		r.buf = f.buf[:0]
	}
	return nil
}

// add takes positions below offset to out of an answer. A batch that cannot be read
// has none.
func (r *recall) add(p *partition, f *fetched, to int64) error {
	start := r.to
	r.decoder.zstd = p.b.zstd
	for r.to < to {
		b, rest, ok := cutBatch(f.rest)
		if !ok {
			break
		}
		f.rest = rest
		if b.next <= r.to {
			continue
		}
		if err := b.check(); err == nil && !b.isControl() {
			_ = r.decoder.decode(&b, func(offset int64, _ []byte, headers []kafkago.Header) {
				if offset >= r.to {
					r.note(headers)
				}
			})
		}
		r.decoder.reset()
		r.to = max(b.next, r.to+1)
		p.t.metrics.recalledBytes.Add(float64(len(b.raw)))
	}
	if r.to == start {
		return fmt.Errorf("fetch from offset %d: %w", start, errNoBatch)
	}
	return nil
}

// note is the rule of buffer.Position.After.
func (r *recall) note(headers []kafkago.Header) {
	p, ok := decodePosition(headers)
	if !ok {
		return
	}
	k := recallKey{p.Sender, p.Session}
	if last, known := r.last[k]; !known || p.After(&last) {
		r.last[k] = p
	}
}
