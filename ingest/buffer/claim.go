package buffer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/vedette-io/vedette/internal/invariants"
	"github.com/vedette-io/vedette/internal/vfs"
)

// claim is the embedded log's Claim. It reads the partition through its own
// file handles, so that the removal of a segment does not disturb it.
type claim struct {
	p    *partition
	g    *group
	ctx  context.Context // ends when the partition is taken away
	wake chan struct{}   // there may be something new

	pos  int64 // offset that Next returns first
	msgs []Message

	// The segment that is being read, if any.
	seg    *segment
	file   vfs.File
	at     int64 // offset of the record at scan.pos, as far as is known
	scan   scanner
	tenant string // of the last message: most have the same
}

// newClaim registers a claim. The first of a partition gets the attachments.
func newClaim(ctx context.Context, p *partition, g *group) *claim {
	c := &claim{p: p, g: g, ctx: ctx, wake: make(chan struct{}, 1), pos: g.committedAt(p.index)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, c)
	if p.tail.owner == nil {
		p.tail.owner = c
	}
	return c
}

// close gives up what the claim holds.
func (c *claim) close() {
	p := c.p
	var discarded []any
	p.mu.Lock()
	p.claims = slices.DeleteFunc(p.claims, func(o *claim) bool { return o == c })
	if p.tail.owner == c {
		discarded = p.tail.SkipTo(p.next, nil)
		p.tail.owner = nil
		if len(p.claims) > 0 {
			p.tail.owner = p.claims[0]
		}
	}
	p.mu.Unlock()
	p.discard(discarded)
	c.closeSegment()
}

func (c *claim) closeSegment() {
	if c.file != nil {
		// It was opened for reading: there is nothing to lose.
		_ = c.file.Close()
	}
	c.seg, c.file = nil, nil
}

func (c *claim) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Topic implements Claim.
func (c *claim) Topic() string { return c.p.topic.name }

// Partition implements Claim.
func (c *claim) Partition() int { return c.p.index }

// Committed implements Claim.
func (c *claim) Committed() int64 { return c.g.committedAt(c.p.index) }

// StartAt implements Claim.
func (c *claim) StartAt(offset int64) { c.pos = max(offset, 0) }

// Oldest implements Claim.
func (c *claim) Oldest() int64 {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.oldestLocked()
}

// HighWatermark implements Claim.
func (c *claim) HighWatermark() int64 {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.next
}

// Commit implements Claim.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if high := c.HighWatermark(); next < 0 || next > high {
		return fmt.Errorf("commit %s/%d for group %s: got offset %d, want 0 to %d", c.Topic(), c.Partition(), c.g.name, next, high)
	}
	return c.g.commit(c.p, next)
}

// Next implements Claim.
func (c *claim) Next(ctx context.Context) ([]Message, error) {
	if invariants.Enabled {
		invariants.Mangle(c.scan.window)
		c.scan.window = nil
	}
	clear(c.msgs) // lets go of attachments
	c.msgs = c.msgs[:0]
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		upTo, err := c.takeTail()
		if err != nil || len(c.msgs) > 0 {
			return c.msgs, err
		}
		if c.pos < upTo {
			if err := c.readSegment(upTo); err != nil || len(c.msgs) > 0 {
				return c.msgs, err
			}
			continue
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
	}
}

// takeTail moves messages that are at hand to c.msgs. Without any it returns
// the offset up to which the disk has to be read.
func (c *claim) takeTail() (upTo int64, err error) {
	p := c.p
	var discarded []any
	p.mu.Lock()
	upTo = p.next
	if p.tail.owner == c {
		discarded = p.tail.SkipTo(c.pos, nil)
		c.msgs = p.tail.Take(c.pos, c.msgs)
		if first, ok := p.tail.First(); ok {
			upTo = first
		}
	}
	if n := len(c.msgs); n > 0 {
		c.pos = c.msgs[n-1].Offset + 1
	} else if p.log.closed.Load() {
		err = ErrClosed
	}
	p.mu.Unlock()
	p.discard(discarded)
	return upTo, err
}

// readSegment reads messages from the segment that has c.pos, none from upTo
// on. It may move c.pos without a message, over what is not there.
func (c *claim) readSegment(upTo int64) error {
	seg, end, size, jump := c.locate(upTo)
	if seg == nil {
		return nil
	}
	if err := c.openSegment(seg, size); err != nil || c.seg == nil {
		return err
	}
	stop := min(end, upTo)
	for bytes := int64(0); c.pos < stop && bytes < MaxNextBytes; {
		r, err := c.scan.next(len(c.msgs) == 0)
		switch {
		case errors.Is(err, errMore):
			return nil
		case errors.Is(err, io.EOF):
			c.skipTo(end, jump)
			return nil
		case errors.Is(err, errDamaged):
			if len(c.msgs) > 0 {
				return nil // resync reads over what they point to
			}
			if more, err := c.resync(); err != nil || !more {
				if err == nil {
					c.skipTo(end, jump)
				}
				return err
			}
			continue
		case err != nil:
			c.closeSegment()
			return fmt.Errorf("read %s: %w", seg.path, err)
		}
		if r.offset >= stop {
			c.scan.pos = r.pos
			if r.offset >= end { // it belongs to an append that failed
				c.skipTo(end, jump)
			} else if len(c.msgs) == 0 {
				c.skipTo(stop, false)
			}
			return nil
		}
		c.at = r.offset + 1
		if r.offset < c.pos {
			continue
		}
		c.skipTo(r.offset, false)
		c.msgs = append(c.msgs, c.message(&r))
		c.pos = r.offset + 1
		bytes += int64(len(r.payload))
	}
	return nil
}

func (c *claim) message(r *scanned) Message {
	if string(r.tenant) != c.tenant {
		c.tenant = string(r.tenant)
	}
	c.p.topic.metrics.readBytes.Add(float64(len(r.payload)))
	return Message{Offset: r.offset, Appended: r.appendMilli, Record: Record{
		Tenant:  c.tenant,
		Format:  r.format,
		MinTime: r.minTime,
		MaxTime: r.maxTime,
		Payload: r.payload,
	}}
}

// locate returns the segment that has c.pos, the offset at which it ends and
// how much of it may be read; jump says that what follows left out offsets on
// purpose.
func (c *claim) locate(upTo int64) (seg *segment, end, size int64, jump bool) {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.segments) == 0 {
		c.pos = upTo
		return nil, 0, 0, false
	}
	c.pos = max(c.pos, p.segments[0].base)
	i := len(p.segments) - 1
	for p.segments[i].base > c.pos {
		i--
	}
	seg, end = p.segments[i], p.next
	if i+1 < len(p.segments) {
		end = p.segments[i+1].base
		jump = p.segments[i+1].flags&segmentJump != 0
	} else {
		jump = p.jump
	}
	return seg, end, seg.size, jump
}

// openSegment makes seg the one that is read, from a record at or before c.pos
// up to size.
func (c *claim) openSegment(seg *segment, size int64) error {
	if c.seg == seg && c.at <= c.pos {
		c.scan.limit = size
		return nil
	}
	if c.seg != seg {
		c.closeSegment()
		f, err := c.p.log.fs.Open(seg.path)
		if errors.Is(err, fs.ErrNotExist) && !c.p.has(seg) {
			return nil // it was removed just now: look again
		}
		if err != nil {
			return fmt.Errorf("read segment: %w", err)
		}
		c.seg, c.file = seg, f
	}
	c.scan.reset(c.file, seg.seed(), segmentHeaderBytes, size)
	c.at = seg.base
	return nil
}

// resync passes over damage.
func (c *claim) resync() (bool, error) {
	seg, from := c.seg, c.scan.pos
	more, err := c.scan.resync()
	if err != nil {
		c.closeSegment()
		return false, fmt.Errorf("read %s: %w", seg.path, err)
	}
	c.p.damage(seg, from, c.scan.pos, c.pos)
	return more, nil
}

// skipTo moves to the offset; records between are missing, unless they were
// left out on purpose.
func (c *claim) skipTo(offset int64, jump bool) {
	if c.pos < offset && !jump {
		c.p.lost(c.seg, c.pos, offset)
	}
	c.pos = max(c.pos, offset)
}
