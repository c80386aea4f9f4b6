package spanmetrics

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/vedette-io/vedette/ingest/sampling"
	"github.com/vedette-io/vedette/internal/labels"
	"github.com/vedette-io/vedette/internal/signal"
)

const (
	// maxNames is how many names of services and peers a shard knows of a tenant at
	// once.
	maxNames = 16384

	kindServer, kindClient, kindProducer, kindConsumer = 2, 3, 4, 5
	statusError                                        = 2
)

// cell is what a shard has counted for a series since the last flush.
type cell struct {
	series        *series
	calls, failed uint64
	hists         []hist // one of RED metrics, two of an edge
}

// edgeKey is an edge by the shard's numbers of its ends.
type edgeKey struct {
	client, server uint32
	connection     connection
}

// shardTenant is a tenant's part of a shard.
type shardTenant struct {
	tenant   *tenant
	cells    map[labels.Hash]*cell
	edges    map[edgeKey]*cell
	overflow [2]*cell
	touched  []*cell // those that have calls

	ids   map[string]uint32
	names []string
	pairs pairs
}

// noName is no service.
const noName = 0

func newShardTenant(t *tenant, maxPending int) *shardTenant {
	s := &shardTenant{tenant: t, cells: map[labels.Hash]*cell{}, edges: map[edgeKey]*cell{}, pairs: newPairs(maxPending, rand.Uint64())}
	s.resetNames()
	return s
}

func (t *shardTenant) resetNames() {
	t.ids, t.names = map[string]uint32{}, []string{""}
	clear(t.edges)
}

// touch returns the counts of a cell, which are written by the next flush.
func (t *shardTenant) touch(c *cell, calls uint64) *cell {
	if c.calls == 0 {
		t.touched = append(t.touched, c)
	}
	c.calls += calls
	return c
}

// tally is what became of a batch's spans.
type tally struct {
	counted, overflow                   int
	old, future, probe                  int // not counted, by reason
	paired, virtual, database           int
	expired, crowdedOut, droppedByNames int
}

// spanRef is what a histogram needs of a span.
type spanRef struct {
	trace         *signal.TraceID
	span          *signal.SpanID
	duration, end int64
}

// shard is a partition's state. Its lock guards everything in it; the registry's
// is taken after it.
type shard struct {
	g *Generator

	mu      sync.Mutex
	tenants map[string]*shardTenant
	key     []byte
	ends    []byte // key of an edge
	values  []byte // of the resource's dimensions, and behind them of the span's
	marked  int    // where the span's begin
	dims    []dim  // of the resource
	merged  []dim  // of the span and the resource

	// Of the batch at hand.
	batch    *signal.Spans
	now      int64 // unix nanoseconds
	scope    int64 // the one that probe is of; -1 is none
	probe    bool  // its spans are those of the eBPF probe
	resource int64 // the one that service and dims are of; -1 is none
	service  uint32
	prefix   int // of key, which holds the service
	n        tally
}

// dim is the value of a dimension, a part of values.
type dim struct{ begin, end int }

// probeScope is the scope of the eBPF probe's spans. They are samples of requests
// which the probe has counted itself, and may be a second span of what a service's
// own tracer has told: counted here, edges and requests would be there twice.
const probeScope = "github.com/vedette-io/vedette/ebpf"

// observe counts a batch.
func (s *shard) observe(b *signal.Spans, now int64) tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[b.Tenant]
	if t == nil {
		t = newShardTenant(s.g.registry.tenant(b.Tenant), s.g.cfg.ServiceGraph.MaxPending)
		s.tenants[b.Tenant] = t
	}
	s.batch, s.now, s.scope, s.resource, s.n = b, now, -1, -1, tally{}
	oldest, newest := now-s.g.cfg.MaxAge.Nanoseconds(), now+s.g.cfg.MaxAge.Nanoseconds()
	graph := s.g.cfg.ServiceGraph.Enabled
	if graph {
		s.expire(t)
	}
	for i := range b.SpanIDs {
		end := max(b.Starts[i], b.Ends[i])
		if end < oldest {
			s.n.old++
			continue
		}
		if end > newest {
			s.n.future++
			continue
		}
		if scope := b.Scope[i]; int64(scope) != s.scope {
			s.scope, s.probe = int64(scope), string(b.Bytes(b.Scopes[scope].Name)) == probeScope
		}
		if s.probe {
			s.n.probe++
			continue
		}
		if r := b.Scopes[b.Scope[i]].Resource; int64(r) != s.resource {
			s.enter(t, r)
		}
		ref := spanRef{trace: &b.TraceIDs[i], span: &b.SpanIDs[i], duration: b.Duration(i), end: end}
		n := uint64(1)
		if b.States[i].Len > 0 {
			n = adjustedCount(b.Bytes(b.States[i]), ref.span)
		}
		t.touch(s.findRED(t, i), n).hists[0].observe(s.g.layout, &ref, n)
		if graph {
			if k := b.Kinds[i]; k >= kindServer && k <= kindConsumer {
				s.pair(t, i, &ref)
			}
		}
	}
	s.n.counted = b.Len() - s.n.old - s.n.future - s.n.probe
	s.batch = nil
	return s.n
}

// enter takes what its spans have in common from a resource.
func (s *shard) enter(t *shardTenant, r uint32) {
	b := s.batch
	s.resource = int64(r)
	res := &b.Resources[r]
	name := valid(serviceOf(b, res))
	if len(name) == 0 {
		name = append(s.key[:0], unknownService...)
	}
	s.service = s.intern(t, name)
	s.key = append(append(s.key[:0], name...), separator)
	s.prefix = len(s.key)
	if len(s.dims) > 0 {
		clear(s.dims)
		s.values = s.values[:0]
		s.takeDims(b.Attrs[res.AttrBegin:res.AttrEnd], s.dims)
		s.marked = len(s.values)
	}
}

// takeDims puts the values of the dimensions among attrs into dst.
func (s *shard) takeDims(attrs []signal.Attr, dst []dim) {
	set, mark := &s.g.dimensions, len(s.values)
	for i := range attrs {
		at := set.index(s.batch.Bytes(attrs[i].Key))
		if at < 0 || dst[at].end > mark { // the first of several counts
			continue
		}
		begin := len(s.values)
		var ok bool
		if s.values, ok = appendValue(s.values, s.batch, &attrs[i]); ok {
			dst[at] = dim{begin, len(s.values)}
		} else {
			s.values = s.values[:begin]
		}
	}
}

// separator ends the parts of a key; it is in no UTF-8.
const separator = 0xff

// maxAdjusted bounds how many spans one may stand for.
const maxAdjusted = 1 << 20

// adjustedCount returns how many spans one stands for that was sampled before it
// was sent, if its trace state says so. Fractions are rounded up for as many spans
// as they are.
func adjustedCount(state []byte, id *signal.SpanID) uint64 {
	n := min(sampling.ParseState(state).AdjustedCount(), maxAdjusted)
	whole := math.Floor(n)
	if float64(binary.LittleEndian.Uint64(id[:])>>11)*0x1p-53 < n-whole {
		whole++
	}
	return uint64(whole)
}

// findRED returns the cell of span i.
func (s *shard) findRED(t *shardTenant, i int) *cell {
	b := s.batch
	kind, status := min(b.Kinds[i], kindConsumer), min(b.Statuses[i], statusError)
	key := append(s.key[:s.prefix], kind, status)
	if len(s.dims) > 0 {
		s.values = s.values[:s.marked]
		copy(s.merged, s.dims)
		s.takeDims(b.SpanAttrs(i), s.merged)
		for _, d := range s.merged {
			key = append(key, s.values[d.begin:d.end]...)
			key = append(key, separator)
		}
	}
	name := valid(cut(b.Bytes(b.Names[i])))
	key = append(key, name...)
	s.key = key
	hash := labels.HashCanonical(key)
	c := t.cells[hash]
	if c == nil {
		c = s.newRED(t, hash, name, kindNames[kind], statusNames[status])
	}
	return c
}

// newRED finds the series for a key that the shard has not seen.
func (s *shard) newRED(t *shardTenant, hash labels.Hash, name []byte, kind, status string) *cell {
	r := s.g.registry
	series, full := r.find(t.tenant, hash, 0)
	if series == nil && full {
		return s.overflow(t, 0)
	}
	if series == nil {
		list := []label{
			{s.g.names.service, string(s.key[:s.prefix-1])}, {labelSpanName, string(name)}, {labelKind, kind}, {labelStatus, status},
		}
		for i, d := range s.merged {
			list = append(list, label{s.g.dimensionLabels[i], string(s.values[d.begin:d.end])})
		}
		series = r.add(t.tenant, hash, newLabelSet(list), nil)
		if series.key != hash {
			return s.overflow(t, 0)
		}
	}
	c := &cell{series: series, hists: make([]hist, 1)}
	t.cells[hash] = c
	return c
}

// overflow returns the cell of what is beyond the limit.
func (s *shard) overflow(t *shardTenant, class int) *cell {
	s.n.overflow++
	if c := t.overflow[class]; c != nil {
		return c
	}
	c := &cell{series: s.g.registry.overflow(t.tenant, class), hists: make([]hist, 1+class)}
	t.overflow[class] = c
	return c
}

// intern returns a number for a service's or peer's name, which is valid.
func (s *shard) intern(t *shardTenant, name []byte) uint32 {
	if id, ok := t.ids[string(name)]; ok {
		return id
	}
	if len(t.names) > maxNames {
		s.n.droppedByNames += t.pairs.n
		t.pairs = newPairs(t.pairs.max, t.pairs.seed)
		t.resetNames()
		s.resource = -1 // its service's number is gone
	}
	id := uint32(len(t.names))
	t.names = append(t.names, string(name))
	t.ids[string(name)] = id
	return id
}

// drain adds everything that was counted to the series, at the time of a flush.
func (s *shard) drain(now, at int64) tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.n = now, tally{}
	for name, t := range s.tenants {
		s.expire(t)
		for i, c := range t.touched {
			c.drain(at)
			t.touched[i] = nil
		}
		t.touched = t.touched[:0]
		t.pairs.shrink()
		if len(t.cells) == 0 && len(t.edges) == 0 && t.overflow == [2]*cell{} && t.pairs.n == 0 {
			delete(s.tenants, name)
		}
	}
	return s.n
}

func (c *cell) drain(at int64) {
	to := c.series
	to.lastSeen = at
	to.calls += c.calls
	to.failed += c.failed
	to.freshCalls += c.calls
	to.freshFailed += c.failed
	for i := range c.hists {
		to.hists[i].take(&c.hists[i])
	}
	c.calls, c.failed = 0, 0
}

// sweep lets go of cells whose series have ended. Spans that came after the drain
// begin the series anew.
func (s *shard) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.g.registry
	for _, t := range s.tenants {
		gone := func(c *cell) bool {
			if !c.series.dead {
				return false
			}
			if c.calls > 0 {
				c.series = r.add(t.tenant, c.series.key, c.series.labels, c.series.edge)
			}
			return true
		}
		for k, c := range t.cells {
			if gone(c) {
				delete(t.cells, k)
			}
		}
		for k, c := range t.edges {
			if gone(c) {
				delete(t.edges, k)
			}
		}
		for class, c := range t.overflow {
			if c == nil || !c.series.dead {
				continue
			}
			if c.calls > 0 {
				c.series = r.overflow(t.tenant, class)
			}
			t.overflow[class] = nil
		}
	}
}

// pending returns how many spans wait for the other side of their edge.
func (s *shard) pending() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tenants {
		n += t.pairs.n
	}
	return n
}
