package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

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

	fetches  chan *fetched // has room for the one that is under way
	fetching bool
	got      *fetched // the last one, as long as it has messages

	arena  []byte // payloads of msgs
	tenant string // of the last message: most have the same

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
		discarded = p.tail.clear(nil)
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
	if invariants.Enabled {
		invariants.Mangle(c.arena)
	}
	clear(c.msgs) // lets go of attachments
	c.msgs, c.arena = c.msgs[:0], c.arena[:0]
	quiet := time.NewTimer(quietBeforeFetch)
	defer quiet.Stop()
	isQuiet := false
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
		discarded = p.tail.skipTo(c.pos, nil)
		c.msgs = p.tail.take(c.pos, c.msgs)
		if first, ok := p.tail.first(); ok {
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

// fetched is what a fetch request returned.
type fetched struct {
	offset  int64 // that was asked for
	resp    *kafkago.FetchResponse
	outside bool // the offset is not in the log
}

// startFetch asks Kafka for messages from c.pos on.
func (c *claim) startFetch() {
	c.fetching = true
	offset := c.pos
	c.wg.Go(func() {
		if f := c.p.fetch(c.ctx, offset); f != nil {
			c.fetches <- f
		}
	})
}

// read moves messages below upTo from the last fetch to c.msgs.
func (c *claim) read(upTo int64) error {
	f := c.got
	if f.outside {
		c.got = nil
		return c.returnToLog()
	}
	high := f.resp.HighWatermark
	c.noteBounds(f.resp.LogStartOffset, high)
	if f.offset > c.pos { // StartAt has gone back
		c.got = nil
		return nil
	}
	pos := c.pos
	for len(c.arena) < maxNextBytes {
		r, err := f.resp.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			pos = max(pos, behindControl(f.resp.Records))
			c.got = nil
			break
		}
		if err != nil {
			c.got = nil
			return fmt.Errorf("read %s/%d from offset %d: %w", c.Topic(), c.Partition(), pos, err)
		}
		if r.Offset >= upTo {
			closeRecord(r)
			pos = max(pos, upTo)
			c.got = nil
			break
		}
		if r.Offset >= pos {
			if err := c.addMessage(r); err != nil {
				return err
			}
			pos = r.Offset + 1
		}
		closeRecord(r)
	}
	c.moveTo(pos)
	if n := len(c.msgs); n > 0 {
		c.p.t.metrics.fetchedRecords.Add(float64(n))
		c.p.t.metrics.fetchedBytes.Add(float64(len(c.arena)))
	}
	if c.got == nil && pos < high && pos < upTo && !c.fetching {
		c.startFetch() // while the handler works on these
	}
	return nil
}

// behindControl returns the offset behind the last control batch of records,
// which ReadRecord passes over.
func behindControl(records kafkago.RecordReader) int64 {
	stream, ok := records.(*protocol.RecordStream)
	if !ok || len(stream.Records) == 0 {
		return 0
	}
	switch b := stream.Records[len(stream.Records)-1].(type) {
	case *protocol.ControlBatch:
		return b.BaseOffset + 1
	case *protocol.RecordBatch:
		return b.BaseOffset + 1 // compaction may have emptied it
	}
	return 0
}

func closeRecord(r *kafkago.Record) {
	if r.Key != nil {
		_ = r.Key.Close()
	}
	if r.Value != nil {
		_ = r.Value.Close()
	}
}

// addMessage copies a record to c.msgs. Tombstones and empty messages of others
// are passed over.
func (c *claim) addMessage(r *kafkago.Record) error {
	m := buffer.Message{Offset: r.Offset}
	ours := decodeHeaders(r.Headers, &m.Record)
	n := 0
	if r.Value != nil {
		n = r.Value.Len()
	}
	if n == 0 && !ours {
		c.p.t.metrics.skipped.Inc()
		return nil
	}
	if !ours {
		c.p.t.metrics.foreign.Inc()
	}
	if m.Tenant == c.tenant {
		m.Tenant = c.tenant
	} else {
		c.tenant = m.Tenant
	}
	from := len(c.arena)
	if cap(c.arena)-from < n {
		// Messages already point into the old one, which lives on as long as they.
		c.arena = make([]byte, 0, max(n, min(maxNextBytes, 2*cap(c.arena)), 64<<10))
		from = 0
	}
	c.arena = c.arena[:from+n]
	if n > 0 {
		if _, err := io.ReadFull(r.Value, c.arena[from:]); err != nil {
			return fmt.Errorf("read %s/%d, offset %d: %w", c.Topic(), c.Partition(), r.Offset, err)
		}
	}
	m.Payload = c.arena[from : from+n : from+n]
	c.msgs = append(c.msgs, m)
	return nil
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
