package spanmetrics

import (
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

// pair joins span i, which is of one side of a call, with the other side, or lets
// it wait.
func (s *shard) pair(t *shardTenant, i int, ref *spanRef) {
	b := s.batch
	kind, failed := b.Kinds[i], b.Statuses[i] == statusError
	side := half{
		self: *ref.span, service: s.service, duration: ref.duration, end: ref.end, failed: failed,
		messaging: kind == kindProducer || kind == kindConsumer, client: kind == kindClient || kind == kindProducer,
	}
	if side.client {
		s.pairClient(t, i, ref, side)
		return
	}
	key := &b.Parents[i]
	if kind == kindServer && isShared(b, i) {
		key = ref.span
	}
	if key.IsZero() {
		if kind == kindServer {
			user := s.named(t, []byte(userNode))
			s.count(t, user, s.service, virtual, failed, nil, ref)
			s.n.virtual++
		}
		return
	}
	if slot := t.pairs.find(ref.trace, key); slot >= 0 && t.pairs.at(slot).client {
		other := t.pairs.at(slot)
		s.join(t, other, &side, ref)
		if other.messaging {
			other.paired = true // and waits for other consumers
		} else {
			t.pairs.remove(slot)
		}
		return
	}
	s.wait(t, ref, *key, side)
}

// sharedAttr says of a server's span that it has the id of its client's, as those
// of Zipkin may.
const sharedAttr = "zipkin.shared"

// isShared reports whether a server's span has the id of the client's.
func isShared(b *signal.Spans, i int) bool {
	for _, a := range b.SpanAttrs(i) {
		if a.Type == signal.AttrBool && a.Key.Len == uint32(len(sharedAttr)) && string(b.Bytes(a.Key)) == sharedAttr {
			return a.Bool()
		}
	}
	return false
}

// pairClient joins a client's or producer's span with the spans that wait for it.
func (s *shard) pairClient(t *shardTenant, i int, ref *spanRef, side half) {
	key := *ref.span
	for {
		slot := t.pairs.find(ref.trace, &key)
		if slot < 0 {
			break
		}
		other := t.pairs.at(slot)
		if other.client { // the span has come before
			return
		}
		s.join(t, &side, other, ref)
		t.pairs.remove(slot)
		side.paired = true
	}
	if side.paired && !side.messaging {
		return
	}
	if !side.paired {
		name, isDatabase := s.g.peers.peer(s.batch, s.batch.SpanAttrs(i))
		if name != nil {
			side.peer = s.named(t, valid(cut(name)))
		}
		if isDatabase && name != nil {
			s.count(t, s.service, side.peer, database, side.failed, ref, ref)
			s.n.database++
			return
		}
		side.service = s.service // names may have been forgotten meanwhile
	}
	s.wait(t, ref, key, side)
}

// named returns the number of a name. If that made room by forgetting the others,
// it learns the service's anew.
func (s *shard) named(t *shardTenant, name []byte) uint32 {
	id := s.intern(t, name)
	if s.resource < 0 && s.batch != nil {
		s.service = s.intern(t, s.key[:s.prefix-1])
	}
	return id
}

// wait keeps one side until the other comes.
func (s *shard) wait(t *shardTenant, ref *spanRef, key signal.SpanID, side half) {
	if t.pairs.n >= t.pairs.max {
		s.n.crowdedOut++
		t.pairs.removeOldest()
	}
	h := t.pairs.add(ref.trace, &key)
	if h == nil {
		s.n.crowdedOut++
		return
	}
	h.self, h.service, h.peer = side.self, side.service, side.peer
	h.duration, h.end = side.duration, side.end
	h.client, h.failed, h.messaging, h.paired = side.client, side.failed, side.messaging, side.paired
	h.deadline = s.now + s.g.cfg.ServiceGraph.Wait.Nanoseconds()
}

// join counts an edge of which both sides are known.
func (s *shard) join(t *shardTenant, client, server *half, ref *spanRef) {
	kind := direct
	if client.messaging || server.messaging {
		kind = messaging
	}
	s.n.paired++
	s.count(t, client.service, server.service, kind, client.failed || server.failed,
		&spanRef{ref.trace, &client.self, client.duration, client.end}, &spanRef{ref.trace, &server.self, server.duration, server.end})
}

// expire takes out what has waited for too long. A client's span whose attributes
// name the other side is an edge to it.
func (s *shard) expire(t *shardTenant) {
	for t.pairs.n > 0 {
		h := &t.pairs.list[t.pairs.oldest]
		if h.deadline > s.now {
			return
		}
		switch {
		case h.paired:
		case h.client && h.peer != noName:
			ref := spanRef{&h.trace, &h.self, h.duration, h.end}
			s.count(t, h.service, h.peer, virtual, h.failed, &ref, &ref)
			s.n.virtual++
		default:
			s.n.expired++
		}
		t.pairs.removeOldest()
	}
}

// count counts an edge. A side that is not known is nil.
func (s *shard) count(t *shardTenant, client, server uint32, kind connection, failed bool, asClient, asServer *spanRef) {
	key := edgeKey{client, server, kind}
	c := t.edges[key]
	if c == nil {
		c = s.newEdge(t, key)
	}
	t.touch(c, 1)
	if failed {
		c.failed++
	}
	if asServer != nil {
		c.hists[0].observe(s.g.layout, asServer, 1)
	}
	if asClient != nil {
		c.hists[1].observe(s.g.layout, asClient, 1)
	}
}

// newEdge finds the series for an edge that the shard has not seen.
func (s *shard) newEdge(t *shardTenant, key edgeKey) *cell {
	r, client, server, kind := s.g.registry, t.names[key.client], t.names[key.server], connectionNames[key.connection]
	s.ends = append(s.ends[:0], separator) // unlike any key of RED metrics
	for _, part := range [...]string{client, server, kind} {
		s.ends = append(append(s.ends, part...), separator)
	}
	hash := labels.HashCanonical(s.ends)
	series, full := r.find(t.tenant, hash, 1)
	if series == nil && full {
		return s.overflow(t, 1)
	}
	if series == nil {
		set := newLabelSet([]label{{labelClient, client}, {labelServer, server}, {labelType, kind}})
		if series = r.add(t.tenant, hash, set, &Edge{Client: client, Server: server, Type: kind}); series.key != hash {
			return s.overflow(t, 1)
		}
	}
	c := &cell{series: series, hists: make([]hist, 2)}
	t.edges[key] = c
	return c
}
