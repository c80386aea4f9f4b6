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

	// recallKept is how long what was read is kept for those who ask next, and for the
	// one who was told to come again since reading took too long.
	recallKept = 5 * time.Minute

	// recallWait is how long one asker waits for another one that reads.
	recallWait = time.Second

	// A run of offsets begins this long ago, or twice, four times … as long: after a
	// few askers all that ask for something older are covered.
	recallAge = 4 * time.Minute

	// recallNear is the oldest that the near run of a partition has.
	recallNear = 4 * recallAge

	// maxRecalled bounds how many sessions are kept of all partitions together, at some
	// 250 bytes each.
	maxRecalled = 1 << 18
)

// recall is what was read of a partition to find senders' positions: a run of
// offsets, read in order, and the last position that counts of each session in it. A
// partition has two: a near one, for those who have tried a moment ago, and a far one
// for those who have been away for longer, which must not hold up the others, nor be begun
// anew for them. Of all far ones of a process one is read at a time.
type recall struct {
	far bool

	turn  chan struct{} // holds one token; whoever has it may use what follows
	since time.Time     // all that was produced from then on is in the run,
	until time.Time     // but for what was produced from then on; zero: it was not read to the end yet
	next  int64         // offset behind the run
	last  map[recallKey]buffer.Position
	full  bool // last lacks sessions

	buf     []byte
	decoder batchDecoder
	forget  *time.Timer // nil while nothing is kept
}

type recallKey struct {
	sender  string
	session uint64
}

func newRecall(far bool) *recall {
	r := &recall{far: far, turn: make(chan struct{}, 1)}
	r.turn <- struct{}{}
	return r
}

// begin begins an empty run at an offset.
func (r *recall) begin(b *Buffer, since time.Time, at int64) {
	r.drop(b)
	r.since, r.next, r.last = since, at, map[recallKey]buffer.Position{}
}

// drop lets go of everything.
func (r *recall) drop(b *Buffer) {
	b.recalled.Add(-int64(len(r.last)))
	r.last, r.full, r.since, r.until, r.next = nil, false, time.Time{}, time.Time{}, 0
	r.buf, r.decoder.arena = nil, nil
}

// keep gives the turn back, and lets go of what was read some time later.
func (r *recall) keep(b *Buffer) {
	if r.forget != nil {
		r.forget.Stop()
	}
	r.forget = time.AfterFunc(recallKept, func() {
		select {
		case <-r.turn:
			r.drop(b)
			r.forget = nil
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

// RecallOnly has recalls keep certain senders only, as of a process that produces for
// no others: it is called before the first Recall.
func (b *Buffer) RecallOnly(own func(sender string) bool) { b.own = own }

// Recall implements buffer.Recaller. It reads what was produced to the partition
// while the sender tried, by the times that messages bear, of which two minutes
// before and after count as well. What takes too long goes on where it was when the
// sender comes again.
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
	from, until := sinceEpoch(of.Tries.From.Add(-recallSlack)), of.Tries.To.Add(recallSlack)
	r := p.near
	if time.Since(from) > recallNear {
		r = p.far
	}
	if !take(ctx, r.turn) {
		return buffer.Position{}, false, p.busy("somebody else reads it")
	}
	defer r.keep(b)
	if err := r.cover(ctx, p, from, until); err != nil {
		var full *buffer.FullError
		switch {
		case errors.As(err, &full):
			return buffer.Position{}, false, err
		case ctx.Err() != nil:
			return buffer.Position{}, false, p.busy("it goes on when it is asked again")
		}
		return buffer.Position{}, false, p.unreachable(fmt.Errorf("recall positions of %s/%d: %w", name, index, err))
	}
	last, known := r.last[recallKey{of.Sender, of.Session}]
	if !known && r.full {
		return buffer.Position{}, false, p.busy(fmt.Sprintf("it has more than %d sessions of senders", maxRecalled))
	}
	return last, known, nil
}

// sinceEpoch returns the time, or 1970 if that is later: Kafka finds no offset by an earlier one. A
// sender whose clock is not set yet has tried about then.
func sinceEpoch(t time.Time) time.Time {
	if epoch := time.Unix(0, 0); t.Before(epoch) {
		return epoch
	}
	return t
}

// take takes the one token of a channel, for which it waits a moment.
func take(ctx context.Context, turn <-chan struct{}) bool {
	timer := time.NewTimer(recallWait)
	defer timer.Stop()
	select {
	case <-turn:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (p *partition) busy(why string) error {
	return &buffer.FullError{Reason: fmt.Sprintf("what was produced to %s/%d while the sender tried is still being read: %s", p.t.kafka, p.index, why), RetryAfter: retryAfterLimit}
}

// cover has all in the run that was produced between two times. What it has read when ctx
// ends is there the next time.
func (r *recall) cover(ctx context.Context, p *partition, from, until time.Time) error {
	now := time.Now()
	covered := r.last != nil && !from.Before(r.since)
	if until.After(now) {
		until = now
	} else if covered && !until.After(r.until) {
		return nil
	}
	if r.far {
		if !take(ctx, p.b.farTurn) {
			return p.busy("so is another one")
		}
		defer func() { p.b.farTurn <- struct{}{} }()
	}
	oldest, high, err := p.b.boundsOnce(ctx, p)
	settling := errors.Is(err, kafkago.OffsetNotAvailable)
	if settling {
		oldest, high, err = p.settlingBounds(ctx)
	}
	if err != nil {
		return err
	}
	tooLong := !r.far && !r.until.IsZero() && now.Sub(r.since) > 2*recallNear
	if !covered || tooLong {
		age := recallAge
		for age < now.Sub(from) {
			age *= 2
		}
		since := sinceEpoch(now.Add(-age))
		at, err := p.offsetAt(ctx, since, oldest, high)
		if err != nil {
			return err
		}
		r.begin(p.b, since, at)
	}
	if err := r.read(ctx, p, high); err != nil || settling {
		return err
	}
	r.until = now
	return nil
}

// settlingBounds returns what a leader shows that does not know yet how much of what those before it
// have acknowledged it may show (OFFSET_NOT_AVAILABLE). It can take until something is appended,
// as where the topic was told to want fewer replicas; so who asks before it appends has to go on. What is
// not shown may come twice into the log, where it counts once.
func (p *partition) settlingBounds(ctx context.Context) (oldest, high int64, err error) {
	resp, err := p.b.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{p.t.kafka: {kafkago.FirstOffsetOf(p.index)}},
	})
	if err != nil {
		return 0, 0, err
	}
	all := resp.Topics[p.t.kafka]
	if len(all) != 1 {
		return 0, 0, fmt.Errorf("list offsets of %s/%d: got %d answers, want one", p.t.kafka, p.index, len(all))
	}
	oldest, err = all[0].FirstOffset, all[0].Error
	if err != nil {
		return 0, 0, err
	}
	f, err := p.fetchOnce(ctx, oldest, nil)
	if err != nil {
		return 0, 0, err
	}
	return oldest, max(f.high, oldest), nil
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
		if errors.Is(o.Error, kafkago.OffsetNotAvailable) {
			return high, nil
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
	for r.next < to {
		f, err := p.fetchOnce(ctx, r.next, r.buf)
		r.buf = nil // the connection may still write to it after an error
		if err != nil {
			return err
		}
		if f.outside {
			r.drop(p.b)
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
	start := r.next
	r.decoder.zstd = p.b.zstd
	for r.next < to {
		b, rest, ok := cutBatch(f.rest)
		if !ok {
			break
		}
		f.rest = rest
		if b.next <= r.next {
			continue
		}
		if err := b.check(); err == nil && !b.isControl() {
			_ = r.decoder.decode(&b, func(offset int64, _ []byte, headers []kafkago.Header) {
				if offset >= r.next {
					r.note(p.b, headers)
				}
			})
		}
		r.decoder.reset()
		r.next = max(b.next, r.next+1)
		p.t.metrics.recalledBytes.Add(float64(len(b.raw)))
	}
	if r.next == start {
		return fmt.Errorf("fetch from offset %d: %w", start, errNoBatch)
	}
	return nil
}

// note is the rule of buffer.Position.After.
func (r *recall) note(b *Buffer, headers []kafkago.Header) {
	p, ok := decodePosition(headers)
	if !ok || b.own != nil && !b.own(p.Sender) {
		return
	}
	k := recallKey{p.Sender, p.Session}
	last, known := r.last[k]
	switch {
	case known && !p.After(&last):
		return
	case !known && r.full:
		return
	case !known && b.recalled.Add(1) > maxRecalled:
		b.recalled.Add(-1)
		r.full = true
		return
	}
	r.last[k] = p
}
