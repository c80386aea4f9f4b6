package stream

import (
	"strings"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// Open visits the wanted requests that have no whole response yet, of HTTP and
// gRPC: those of others carry nothing that a call elsewhere could be linked to them
// by. lost is how often something was lost that may have been a wanted request. It
// is that of feature.Opener.
func (t *Table) Open(visit func(*feature.Call)) (lost uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env == nil || t.env.Calls == nil {
		return 0, nil
	}
	for c := t.oldest.next; c != &t.oldest; c = c.next {
		if o, ok := c.parser.(protocol.Opener); ok {
			o.Open(func(r *protocol.Request) {
				if t.wantedLocked(c, r) {
					call := c.placeOf(r)
					visit(&call)
				}
			})
		}
	}
	lost = t.lostCalls
	if t.options.Lost != nil {
		// Nothing tells whose bytes these were.
		err = t.options.Lost(func(reason string, n uint64) {
			if reason != "refuted" {
				lost += n
			}
		})
	}
	return lost, err
}

// wantedLocked says whether a request becomes a span.
func (t *Table) wantedLocked(c *conn, r *protocol.Request) bool {
	return t.env.Calls != nil && t.env.Calls.Wanted(r.Traceparent, c.sampledSeq(r.Seq), c.Local, c.Peer)
}

// placeOf says whose request it is and where, and when it began. Its strings
// outlive the request.
func (c *conn) placeOf(r *protocol.Request) feature.Call {
	call := feature.Call{
		Process: c.Process, Server: r.Server,
		Local: c.Local, Peer: c.Peer, NetNS: c.NetNS, Seq: r.Seq,
		StartNanos: r.StartNanos, HadNanos: r.HadNanos, Traceparent: validClone(r.Traceparent),
	}
	if c.Unplaced {
		call.Conn = c.ID
	}
	if c.TLS && !r.Server {
		call.AskedNanos = r.StartNanos // inside TLS it is known when calls begin
	}
	return call
}

// validClone copies a string, for those of a request may change after the call and
// those of a span may not, and makes UTF-8 of it.
func validClone(s string) string { return strings.ToValidUTF8(strings.Clone(s), "\uFFFD") }

// carriesCalls says whether requests of the connection may be linked to others: what
// is lost of it puts that in doubt.
func (c *conn) carriesCalls() bool { return c.kind == protocol.HTTP1 || c.kind == protocol.HTTP2 }
