package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/invariants"
)

const (
	// quietBeforeFetch is how long a claim that has everything waits for messages
	// of this process before it asks Kafka for those of others.
	quietBeforeFetch = 100 * time.Millisecond
	// settleTime bounds the wait for the answer to a produce request when its
	// messages may have been fetched before it came.
	settleTime = 50 * time.Millisecond
	// commitPatience bounds one Commit: through a rebalance, not through an outage.
	commitPatience = 5 * time.Second
	// damageTries is how often a batch that cannot be read is fetched.
	damageTries = 3
)

// claim is one assigned partition. Next and what it calls run in the handler's
// goroutine, fetches in one of their own.
type claim struct {
	p      *partition
	m      *member
	ctx    context.Context // ends when the partition is taken away
	cancel context.CancelFunc
	wake   chan struct{} // there may be something new
	done   chan struct{} // closed when the handler has returned
	wg     sync.WaitGroup

	pos  int64 // offset that Next returns first; written under partition.mu
	msgs []buffer.Message
	busy time.Time // when Next has last returned some

	fetches  chan *fetched // has room for the one that is under way
	fetching bool
	got      *fetched // the last one, as long as it has messages
	used     *fetched // msgs may be in its memory
	spare    []byte   // for the next fetch

	decoder batchDecoder // has payloads of msgs
	tenant  string       // of the last message: most have the same
	damaged int64        // offset of the last batch that could not be read
	tries   int          // how often it was fetched

	mu        sync.Mutex // guards what follows
	committed int64
	oldest    int64
	lost      bool // the member has left the group
}

// newClaim learns where to start. It does not return before it knows, unless
// ctx ends.
func newClaim(ctx context.Context, m *member, index int) (*claim, error) {
	c := &claim{
		p: m.t.partition(m.b, index), m: m,
		wake: make(chan struct{}, 1), done: make(chan struct{}), fetches: make(chan *fetched, 1),
		decoder: batchDecoder{zstd: m.b.zstd},
	}
	committed, err := m.committedOffset(ctx, index)
	if err != nil {
		return nil, err
	}
	oldest, high, err := m.b.bounds(ctx, c.p)
	if err != nil {
		return nil, err
	}
	if committed < 0 { // there is no commit yet
		committed = oldest
	}
	c.committed, c.oldest, c.pos = committed, oldest, committed
	c.ctx, c.cancel = context.WithCancel(ctx)
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.high = max(p.high, high)
	p.claims = append(slices.Clip(p.claims), c)
	if p.tail.owner == nil {
		p.tail.owner = c
	}
	return c, nil
}

// close gives up what the claim holds.
func (c *claim) close() {
	c.cancel()
	c.wg.Wait()
	p := c.p
	var discarded []any
	p.mu.Lock()
	p.claims = slices.DeleteFunc(slices.Clone(p.claims), func(o *claim) bool { return o == c })
	if p.tail.owner == c {
		discarded = p.tail.Clear(nil)
		p.tail.owner = nil
		if len(p.claims) > 0 {
			p.tail.owner = p.claims[0]
		}
	}
	p.mu.Unlock()
	p.discard(discarded)
}

func (c *claim) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Topic implements buffer.Claim.
func (c *claim) Topic() string { return c.p.t.name }

// Partition implements buffer.Claim.
func (c *claim) Partition() int { return c.p.index }

// Committed implements buffer.Claim.
func (c *claim) Committed() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed
}

// StartAt implements buffer.Claim.
func (c *claim) StartAt(offset int64) { c.moveTo(max(offset, c.Oldest(), 0)) }

func (c *claim) moveTo(offset int64) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.pos = offset
}

// Oldest implements buffer.Claim.
func (c *claim) Oldest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.oldest
}

// HighWatermark implements buffer.Claim.
func (c *claim) HighWatermark() int64 { return c.p.highWatermark() }

// Commit implements buffer.Claim. It may be called with a context of its own
// until the handler returns, also when the partition is being taken away.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	where := fmt.Sprintf("commit %s/%d for group %s", c.Topic(), c.Partition(), c.m.group)
	if high := c.HighWatermark(); next < 0 || next > high {
		return fmt.Errorf("%s: got offset %d, want 0 to %d", where, next, high)
	}
	c.mu.Lock()
	committed, lost := c.committed, c.lost
	c.mu.Unlock()
	if lost {
		return fmt.Errorf("%s: %w", where, errLost)
	}
	if next <= committed {
		return nil
	}
	if err := c.m.commit(ctx, c, next); err != nil {
		c.p.t.metrics.commitErrors.Inc()
		return fmt.Errorf("%s: offset %d: %w", where, next, err)
	}
	c.p.t.metrics.commits.Inc()
	c.mu.Lock()
	c.committed = max(c.committed, next)
	c.mu.Unlock()
	return nil
}

func (c *claim) lose() {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	c.cancel()
}

func (c *claim) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Next implements buffer.Claim.
func (c *claim) Next(ctx context.Context) ([]buffer.Message, error) {
	c.release()
	// The wait counts on over calls that end without messages, however short their
	// contexts are: others may be producing all the while.
	quiet := time.NewTimer(quietBeforeFetch - time.Since(c.busy))
	defer quiet.Stop()
	isQuiet := false
	defer func() {
		if len(c.msgs) > 0 {
			c.busy = time.Now()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		upTo, behind := c.takeTail()
		if len(c.msgs) > 0 {
			return c.msgs, nil
		}
		if c.got != nil {
			if err := c.read(upTo); err != nil {
				return nil, err
			}
			if len(c.msgs) > 0 {
				return c.msgs, nil
			}
			continue
		}
		if (behind || isQuiet) && !c.fetching {
			c.startFetch()
		}
		select {
		case <-c.wake:
		case f := <-c.fetches:
			c.fetching, c.got = false, f
			c.settle(ctx)
		case <-quiet.C:
			isQuiet = true
		case <-c.m.b.closing:
			return nil, buffer.ErrClosed
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
	}
}

// noLimit is beyond every offset.
const noLimit = int64(1) << 62

// takeTail moves messages that are at hand to c.msgs. Without any it returns
// the offset up to which Kafka has to be asked, and whether it is known to have
// something.
func (c *claim) takeTail() (upTo int64, behind bool) {
	p := c.p
	var discarded []any
	p.mu.Lock()
	upTo, behind = noLimit, c.pos < p.high
	if p.tail.owner == c {
		discarded = p.tail.SkipTo(c.pos, nil)
		c.msgs = p.tail.Take(c.pos, c.msgs)
		if first, ok := p.tail.First(); ok {
			upTo = first
		}
	}
	if n := len(c.msgs); n > 0 {
		c.pos = c.msgs[n-1].Offset + 1
	}
	p.mu.Unlock()
	p.discard(discarded)
	if n := len(c.msgs); n > 0 {
		p.t.metrics.fromTail.Add(float64(n))
	}
	return upTo, behind
}

// settle waits for the answer to a produce request that is under way: what was
// fetched may be what it has written, and comes with its attachments then.
func (c *claim) settle(ctx context.Context) {
	c.p.mu.Lock()
	flight := c.p.flight
	c.p.mu.Unlock()
	if flight == nil {
		return
	}
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-flight:
	case <-timer.C:
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
}

// release ends the validity of what Next returned last.
func (c *claim) release() {
	clear(c.msgs) // lets go of attachments
	c.msgs = c.msgs[:0]
	if invariants.Enabled {
		invariants.Mangle(c.decoder.arena)
	}
	c.decoder.reset()
	if c.used == nil {
		return
	}
	if invariants.Enabled {
		invariants.Mangle(c.used.buf)
	}
	const most = 2 * buffer.MaxNextBytes
	if c.spare = c.used.buf[:0]; cap(c.spare) > most {
		c.spare = nil
	}
	c.used = nil
}

// startFetch asks Kafka for messages from c.pos on.
func (c *claim) startFetch() {
	c.fetching = true
	offset, buf := c.pos, c.spare
	c.spare = nil
	c.wg.Go(func() {
		if f := c.p.fetch(c.ctx, offset, buf); f != nil {
			c.fetches <- f
		}
	})
}

// finish is called when nothing more is read from the last fetch.
func (c *claim) finish() {
	if len(c.got.all) > 0 {
		c.used = c.got
	}
	c.got = nil
}

// read moves messages below upTo from the last fetch to c.msgs, batch by batch.
func (c *claim) read(upTo int64) error {
	f := c.got
	if f.outside {
		c.finish()
		return c.returnToLog()
	}
	c.noteBounds(f.oldest, f.high)
	if f.offset != c.pos { // StartAt has gone somewhere else
		c.finish()
		return nil
	}
	pos, bytes := c.pos, 0
	for bytes < buffer.MaxNextBytes && c.got != nil {
		b, rest, ok := cutBatch(f.rest)
		switch {
		case !ok && pos == f.asked && len(f.all) > 0:
			f.rest = nil
			pos = c.passDamage(&recordBatch{raw: f.all, base: pos, next: pos + 1}, pos, errNoBatch)
		case !ok:
			c.finish()
		case b.base >= upTo:
			c.finish()
			pos = upTo
		case b.next <= pos && b.next > b.base: // it is before what was asked for
			f.rest = rest
		default:
			f.rest = rest
			n, err := c.addBatch(&b, pos, upTo)
			if err != nil {
				pos = min(c.passDamage(&b, pos, err), upTo)
				continue
			}
			bytes += n
			pos = min(b.next, upTo)
		}
	}
	f.offset = pos
	c.moveTo(pos)
	c.noteBounds(f.oldest, pos) // the broker may have read beyond the end that it had noted before
	if n := len(c.msgs); n > 0 {
		c.p.t.metrics.fetchedRecords.Add(float64(n))
		c.p.t.metrics.fetchedBytes.Add(float64(bytes))
	}
	if c.got == nil && pos < f.high && pos < upTo && !c.fetching {
		c.startFetch() // while the handler works on these
	}
	return nil
}

var errNoBatch = errors.New("got no complete batch with the offset that was asked for")

// addBatch adds the batch's messages from pos up to upTo, all or none. It
// returns the bytes of their payloads.
func (c *claim) addBatch(b *recordBatch, pos, upTo int64) (bytes int, err error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	if b.isControl() {
		return 0, nil
	}
	first := len(c.msgs)
	err = c.decoder.decode(b, func(offset int64, value []byte, headers []kafkago.Header) {
		if offset >= pos && offset < upTo {
			c.addMessage(offset, value, headers)
			bytes += len(value)
		}
	})
	if err != nil {
		clear(c.msgs[first:])
		c.msgs = c.msgs[:first]
		return 0, err
	}
	return bytes, nil
}

// passDamage is called for a batch of the last fetch that cannot be read. It is
// fetched again first, as it may have suffered on the way; then it is passed
// over, and the consumer gets its bytes instead of its messages. passDamage
// returns where to go on.
func (c *claim) passDamage(b *recordBatch, pos int64, cause error) int64 {
	if c.damaged != pos {
		c.damaged, c.tries = pos, 0
	}
	if c.tries++; c.tries < damageTries {
		c.p.t.metrics.fetchErrors.Inc()
		c.finish()
		return pos
	}
	c.tries = 0
	next := min(b.next, c.got.high)
	if following, _, ok := cutBatch(c.got.rest); ok {
		next = following.base // what the batch says of itself may be wrong
	}
	next = max(next, pos+1)
	c.p.t.metrics.damaged.Inc()
	c.p.b.logger.Error("passed over a record batch that cannot be read", "topic", c.p.t.kafka, "partition", c.p.index,
		"offset", pos, "next", next, "size_bytes", len(b.raw), "err", cause)
	c.msgs = append(c.msgs, damagedMessage(pos, b.raw))
	return next
}

// addMessage adds a record to c.msgs. Tombstones and empty messages of others
// are passed over.
func (c *claim) addMessage(offset int64, value []byte, headers []kafkago.Header) {
	m := buffer.Message{Offset: offset}
	ours := decodeHeaders(c.p.t.name, headers, &m.Record)
	if len(value) == 0 && !ours {
		c.p.t.metrics.skipped.Inc()
		return
	}
	if !ours {
		c.p.t.metrics.foreign.Inc()
	}
	if m.Tenant == c.tenant {
		m.Tenant = c.tenant
	} else {
		c.tenant = m.Tenant
	}
	m.Payload = value
	c.msgs = append(c.msgs, m)
}

// noteBounds keeps what a fetch says of the partition.
func (c *claim) noteBounds(oldest, high int64) {
	c.mu.Lock()
	c.oldest = max(c.oldest, oldest)
	c.mu.Unlock()
	c.p.mu.Lock()
	c.p.high = max(c.p.high, high)
	c.p.mu.Unlock()
}

// returnToLog moves to the oldest offset after what was asked for turned out not
// to be in the log: retention has removed it, or the log has lost its end.
func (c *claim) returnToLog() error {
	oldest, high, err := c.m.b.bounds(c.ctx, c.p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.oldest = oldest
	c.mu.Unlock()
	if c.pos >= oldest && c.pos <= high {
		return nil
	}
	c.p.t.metrics.outOfRange.Inc()
	c.p.b.logger.Error("offset is not in the log, continuing at the oldest", "topic", c.p.t.kafka,
		"partition", c.p.index, "offset", c.pos, "oldest", oldest, "end", high)
	c.p.mu.Lock()
	c.p.high = high
	c.p.mu.Unlock()
	c.moveTo(oldest)
	return nil
}
