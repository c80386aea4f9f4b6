package stream

import (
	"bytes"
	"unsafe"

	"github.com/vedette-io/vedette/ebpf/protocol"
)

// A client may write with one thread and read with another, and the kernel tells
// of a write after it: the answer may have been read and told by then. Its piece
// is held back until that of the write comes, for a parser would take it for the
// answer to an older request.

// Bounds of what is held back.
const (
	maxHeld      = 128     // pieces of a connection
	maxHeldBytes = 4 << 20 // of all connections, with heldBytes for each piece
	maxOverdue   = 3       // a connection's writes are not seen, then
	patience     = 1e9     // nanoseconds
)

// heldBytes is what a piece takes beside its bytes, in a list that has grown.
const heldBytes = 2 * int(unsafe.Sizeof(protocol.Piece{}))

// weightOf is about what a piece takes that is held back.
func weightOf(p *protocol.Piece) int { return heldBytes + len(p.Data) + len(p.Tail) }

// mustWait says whether p answers, or may, what was sent and not told yet.
func (c *conn) mustWait(p *protocol.Piece) bool {
	if p.Direction != protocol.Received || c.overdue >= maxOverdue {
		return false
	}
	if len(c.held) > 0 {
		return true // in order
	}
	return c.isAhead(p)
}

// isAhead says whether bytes had arrived at the peer that were not told, or may have,
// for inside TLS it is known only that they were being written. The end of a
// connection has a number, too.
func (c *conn) isAhead(p *protocol.Piece) bool {
	if c.TLS {
		return p.Acked != 0 && (!c.begun[protocol.Sent] || int32(p.Acked-c.seq[protocol.Sent]) > 0)
	}
	return p.Acked != 0 && c.begun[protocol.Sent] && int32(p.Acked-c.seq[protocol.Sent]) > 1
}

// holdLocked keeps a copy of p.
func (t *Table) holdLocked(c *conn, p *protocol.Piece) {
	k := *p
	k.Data, k.Tail = bytes.Clone(p.Data), bytes.Clone(p.Tail)
	c.held = append(c.held, k)
	t.held[c] = struct{}{}
	t.heldAll += weightOf(&k)
	if len(c.held) >= maxHeld || t.heldAll > maxHeldBytes {
		c.overdue++
		t.releaseLocked(c)
	}
}

// resumeLocked hands on what need not be held back any more, since something else
// of the connection was told.
func (t *Table) resumeLocked(c *conn, atNanos int64) {
	n := 0
	for n < len(c.held) && !c.isAhead(&c.held[n]) {
		p := &c.held[n]
		p.AtNanos = max(p.AtNanos, atNanos) // not before what it answers
		t.feedLocked(c, p)
		t.heldAll -= weightOf(p)
		n++
	}
	if n == 0 {
		return
	}
	c.overdue = 0
	if c.held = append(c.held[:0], c.held[n:]...); len(c.held) == 0 {
		t.forgetHeldLocked(c)
	}
}

// releaseLocked hands on all that is held back.
func (t *Table) releaseLocked(c *conn) {
	for i := range c.held {
		t.feedLocked(c, &c.held[i])
	}
	t.forgetHeldLocked(c)
}

func (t *Table) forgetHeldLocked(c *conn) {
	for i := range c.held {
		t.heldAll -= weightOf(&c.held[i])
	}
	c.held = nil
	delete(t.held, c)
}

// ReleaseOverdue is Release of what has been held back for too long.
func (t *Table) ReleaseOverdue() { t.Release(monotonic() - patience) }

// Release hands on the pieces that have been held back since before a time, for
// a write whose piece has not come, and ends the connections that have ended
// before it. Who feeds the table calls it now and then.
func (t *Table) Release(beforeNanos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env == nil {
		return
	}
	for c := range t.held {
		if c.held[0].AtNanos < beforeNanos {
			c.overdue++
			t.releaseLocked(c)
		}
	}
	for c, at := range t.ending {
		if at < beforeNanos {
			t.releaseLocked(c)
			t.dropLocked(c, at)
		}
	}
}
