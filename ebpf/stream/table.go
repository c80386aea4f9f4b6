package stream

import (
	"bytes"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// classifyTries is how many pieces of a connection are looked at before it is
// left alone.
const classifyTries = 16

// A connection takes about connBytes without what its parser says that it holds;
// all of them together may take as much as if each had meanBytes.
const (
	connBytes = 2 << 10
	meanBytes = 4 << 10
)

// Conn is one end of a connection.
type Conn struct {
	// ID tells it from all others that its table sees, since boot.
	ID uint64
	// Process is the one that reads and writes.
	Process     identity.Key
	Local, Peer netip.AddrPort
	// NetNS is the network namespace's inode number.
	NetNS uint32
	// TLS: the pieces are what is inside it. Their sequence numbers are then not
	// those of the connection's bytes, but the other end numbers them alike.
	TLS bool
	// Unplaced: the other end numbers its bytes in another way, or the socket is
	// not known.
	Unplaced bool
}

// sampledSeq is what a request's place is sampled by: without an other end that decides
// alike, by the connection, too, for all of those begin with the same numbers.
func (c *Conn) sampledSeq(seq uint32) uint32 {
	if c.Unplaced {
		return seq ^ uint32(c.ID>>8)
	}
	return seq
}

// TableOptions of NewTable.
type TableOptions struct {
	// Name is the feature's, for the names of its own metrics.
	Name string
	// Bounds are the upper bounds of the histograms of durations, in seconds.
	Bounds []float64
	// MaxConnections bounds the connections that are followed at a time; the one
	// that has been silent for longest makes room. 0: 8192.
	MaxConnections int
	// Lost adds what the feature itself has lost, by reason; nil: nothing.
	Lost func(add func(reason string, n uint64)) error
}

// Table follows connections, each with the parser of its protocol, and counts
// the requests that they find. It is safe for use by several goroutines; the
// pieces of one connection come in order.
type Table struct {
	options TableOptions
	descs   descs
	done    func(*protocol.Request) // record, made once

	mu        sync.Mutex
	env       *feature.Environment // all below under mu
	conns     map[uint64]*conn
	memory    int   // of connections, about
	oldest    conn  // head of the ring of connections, by use
	current   *conn // whose parser runs
	series    map[seriesKey]*totals
	methods   map[string]struct{} // of RPC, known so far
	remotes   map[identity.Key]map[netip.AddrPort]struct{}
	ledger    *feature.Ledger[seriesKey, series, totals]
	events    uint64
	held      map[*conn]struct{} // with pieces held back
	ending    map[*conn]int64    // that have ended, and when
	heldAll   int                // bytes of them
	lost      [lostReasons]uint64
	lostCalls uint64       // of those, what may have been requests that are linked to others
	call      feature.Call // reused
}

// conn is a connection that is followed.
type conn struct {
	Conn
	prev, next *conn
	kind       protocol.Kind
	parser     protocol.Parser // nil: not classified, or left alone
	lost       int             // what the parser has told
	memory     int             // about
	tries      int
	first      *protocol.Piece  // before it is classified: a header that was read by itself
	seq        [2]uint32        // of the byte that comes next
	begun      [2]bool          // seq is known
	held       []protocol.Piece // received before what they answer was seen
	overdue    int              // how often that never came
	gone       bool             // its process was, when that was looked at last
	last       *totals          // the series counted last, and its key
	lastKey    seriesKey
}

// What is lost, by reason.
const (
	lostGap    = iota // bytes of a connection that were not seen
	lostOrder         // pieces that came after later ones
	lostPlace         // a parser lost its place
	lostSeries        // requests for which there was no series
	lostConns         // connections that made room for others
	lostMemory        // connections that made room for the memory of others
	lostSocket        // requests whose socket is not known, so that labels are missing
	lostReasons
)

var lostNames = [lostReasons]string{"gap", "order", "framing", "max_series", "max_connections", "memory", "no_socket"}

// NewTable returns an empty table.
func NewTable(o TableOptions) *Table {
	if o.MaxConnections <= 0 {
		o.MaxConnections = 8192
	}
	t := &Table{
		options: o,
		descs:   newDescs(o.Name),
		conns:   make(map[uint64]*conn),
		series:  make(map[seriesKey]*totals),
		methods: make(map[string]struct{}),
		remotes: make(map[identity.Key]map[netip.AddrPort]struct{}),
		held:    make(map[*conn]struct{}),
		ending:  make(map[*conn]int64),
	}
	t.ledger = feature.NewLedger[seriesKey, series](addTotals, func(k seriesKey) error {
		delete(t.series, k)
		return nil
	})
	t.oldest.prev, t.oldest.next = &t.oldest, &t.oldest
	t.done = t.recordLocked
	return t
}

// Use gives the table what it needs of the probe, before the first Take. Without
// it, nil, the table takes and exports nothing.
func (t *Table) Use(env *feature.Environment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.env = env
}

// Take follows a piece of a connection. k is its protocol; Unknown: the table
// finds it by the first bytes. It keeps nothing of p.
func (t *Table) Take(c Conn, k protocol.Kind, p *protocol.Piece) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env == nil {
		return
	}
	t.events++
	s := t.connLocked(&c, k)
	if s.parser == nil {
		if p = s.settle(k, p); p == nil {
			return
		}
	}
	if s.mustWait(p) {
		t.holdLocked(s, p)
		return
	}
	t.feedLocked(s, p)
	t.resumeLocked(s, p.AtNanos)
	t.weighLocked(s)
}

// weighLocked notes what a connection's parser holds. Where that is too much for
// all of them, those that were silent for longest make room, but not c itself.
func (t *Table) weighLocked(c *conn) {
	h, ok := c.parser.(protocol.Holder)
	if !ok {
		return
	}
	now := connBytes + h.Held()
	t.memory += now - c.memory
	c.memory = now
	for t.memory > t.options.MaxConnections*meanBytes && t.oldest.next != c {
		t.evictLocked(lostMemory)
	}
}

// feedLocked hands a piece to the parser.
func (t *Table) feedLocked(c *conn, p *protocol.Piece) {
	t.current = c
	if c.TLS {
		c.seq[p.Direction&1], c.begun[p.Direction&1] = p.Seq+uint32(p.Len()), true
	} else if !t.inOrderLocked(c, p) {
		return
	}
	c.parser.Take(p, t.done)
	t.noteLossLocked(c)
}

// Close ends a connection: what is under way ends with it.
func (t *Table) Close(id uint64, atNanos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.conns[id]; c != nil && t.env != nil {
		t.releaseLocked(c)
		t.dropLocked(c, atNanos)
	}
}

// CloseLater ends a connection of which more may be read, with the Release of a
// time after its end.
func (t *Table) CloseLater(id uint64, atNanos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.conns[id]; c != nil {
		t.ending[c] = atNanos
	}
}

// connLocked finds a connection, or begins to follow it.
func (t *Table) connLocked(c *Conn, k protocol.Kind) *conn {
	s := t.conns[c.ID]
	if s != nil && k != protocol.Unknown && s.kind != protocol.Unknown && s.kind != k {
		t.dropLocked(s, 0) // it was taken for another protocol
		s = nil
	}
	if s == nil {
		if len(t.conns) >= t.options.MaxConnections {
			t.evictLocked(lostConns)
		}
		s = &conn{Conn: *c, memory: connBytes}
		t.memory += connBytes
		t.conns[c.ID] = s
	} else {
		if !s.Local.IsValid() && c.Local.IsValid() {
			s.Conn, s.last = *c, nil // its socket was not known before
		}
		s.prev.next, s.next.prev = s.next, s.prev
		s.Unplaced = c.Unplaced
		if s.Process != c.Process {
			s.Process, s.last = c.Process, nil // handed over, as by a server that forks
		}
	}
	last := t.oldest.prev
	s.prev, s.next = last, &t.oldest
	last.next, t.oldest.prev = s, s
	return s
}

// evictLocked forgets the connection that was silent for longest.
func (t *Table) evictLocked(reason int) {
	c := t.oldest.next
	t.loseLocked(c, reason, 1)
	t.dropLocked(c, 0)
}

// loseLocked counts what was lost of a connection.
func (t *Table) loseLocked(c *conn, reason int, n uint64) {
	t.lost[reason] += n
	if c.carriesCalls() {
		t.lostCalls += n
	}
}

// dropLocked forgets a connection. A time of 0 means that it goes on unseen.
func (t *Table) dropLocked(c *conn, atNanos int64) {
	if c.parser != nil && atNanos != 0 {
		t.current = c
		c.parser.Close(atNanos, t.done)
	}
	t.forgetHeldLocked(c)
	delete(t.ending, c)
	t.memory -= c.memory
	c.prev.next, c.next.prev = c.next, c.prev
	delete(t.conns, c.ID)
}

// settle gives a connection its parser, and what that is to begin with; nil: it has
// none yet.
func (c *conn) settle(k protocol.Kind, p *protocol.Piece) *protocol.Piece {
	if k == protocol.Unknown {
		if c.tries >= classifyTries {
			return nil
		}
		c.tries++
		k, p = c.classify(p)
	}
	c.kind, c.parser = k, newParser(k)
	if c.parser == nil {
		return nil
	}
	return p
}

// classify is that of a piece, or of it with a header that was read before it.
func (c *conn) classify(p *protocol.Piece) (protocol.Kind, *protocol.Piece) {
	first := c.first
	c.first = nil
	if k := classify(p); k != protocol.Unknown {
		return k, p
	}
	if first != nil {
		if whole := join(first, p); whole != nil {
			if k := classify(whole); k != protocol.Unknown {
				return k, whole
			}
		}
	}
	if len(p.Data) == headerApart && p.Len() == headerApart {
		held := *p
		held.Data, held.Tail = bytes.Clone(p.Data), nil
		c.first = &held
	}
	return protocol.Unknown, p
}

// inOrderLocked tells the parser of bytes that went unseen before p, and refuses
// a piece that comes too late.
func (t *Table) inOrderLocked(c *conn, p *protocol.Piece) bool {
	d := p.Direction & 1
	ahead := int32(p.Seq - c.seq[d])
	if c.begun[d] && ahead < 0 && ahead > -1<<20 {
		t.loseLocked(c, lostOrder, 1)
		return false
	}
	if c.begun[d] && ahead != 0 {
		t.loseLocked(c, lostGap, 1)
		// what is far behind is ahead by more than half of all numbers
		gap := protocol.Piece{Direction: d, Missed: int(uint32(ahead)), Seq: c.seq[d], ReadyNanos: p.ReadyNanos, AtNanos: p.AtNanos}
		c.parser.Take(&gap, t.done)
	}
	c.seq[d], c.begun[d] = p.Seq+uint32(p.Len()), true
	return true
}

func (t *Table) noteLossLocked(c *conn) {
	if n := c.parser.Lost(); n > c.lost {
		t.loseLocked(c, lostPlace, uint64(n-c.lost))
		c.lost = n
	}
}

// Sweep forgets the connections and retires the counts of processes that are
// gone, once they have been for two calls: what they did last is told late.
func (t *Table) Sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env == nil {
		return
	}
	alive := make(map[identity.Key]bool)
	for c := t.oldest.next; c != &t.oldest; {
		next := c.next
		if _, known := alive[c.Process]; !known {
			alive[c.Process] = t.env.Resolver.Alive(c.Process)
		}
		switch {
		case alive[c.Process]:
			c.gone = false
		case c.gone:
			t.dropLocked(c, 0)
		default:
			c.gone, c.last = true, nil // the ledger may retire that
		}
		c = next
	}
	for k := range t.remotes {
		if _, known := alive[k]; !known {
			alive[k] = t.env.Resolver.Alive(k)
		}
		if !alive[k] {
			delete(t.remotes, k)
		}
	}
	_ = t.ledger.Sweep(now, t.env.Resolver, t.entriesLocked)
}

// Describe sends the descriptions.
func (t *Table) Describe(ch chan<- *prometheus.Desc) { t.descs.describe(ch) }

// Collect folds processes into series.
func (t *Table) Collect(ch chan<- prometheus.Metric) {
	_ = t.CollectEdges(ch, nil) // it is among the metrics
}

// CollectEdges is Collect that also tells who asked whom.
func (t *Table) CollectEdges(ch chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env == nil {
		return nil
	}
	slots, err := slotsOf(t.options.Bounds)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(t.descs.lost, err)
		return err
	}
	sums, _, err := t.ledger.Totals(t.entriesLocked)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(t.descs.lost, err)
		return err
	}
	for s, v := range sums {
		t.descs.send(ch, t.options.Bounds, &s, v)
		t.tellEdgeLocked(visit, slots, &s, v)
	}
	ch <- prometheus.MustNewConstMetric(t.descs.connections, prometheus.GaugeValue, float64(len(t.conns)))
	ch <- prometheus.MustNewConstMetric(t.descs.events, prometheus.CounterValue, float64(t.events))
	add := func(reason string, n uint64) {
		ch <- prometheus.MustNewConstMetric(t.descs.lost, prometheus.CounterValue, float64(n), reason)
	}
	for i, n := range t.lost {
		add(lostNames[i], n)
	}
	if t.options.Lost != nil {
		if err := t.options.Lost(add); err != nil {
			ch <- prometheus.NewInvalidMetric(t.descs.lost, err)
		}
	}
	return nil
}
