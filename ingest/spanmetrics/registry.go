package spanmetrics

import (
	"math"
	"sync"
	"time"

	"github.com/vedette-io/vedette/internal/labels"
)

// series is what the spans with one label set add up to: a set of RED metrics, or
// an edge of the service graph.
type series struct {
	labels labelSet
	key    labels.Hash
	edge   *Edge // nil of RED metrics
	start  int64 // unix milliseconds

	// What follows is the flush's alone.
	lastSeen      int64 // time of the last flush that found spans
	dead          bool  // ended by a staleness marker, and gone from the registry
	calls, failed uint64
	hists         [2]hist // durations; of an edge, as the server and as the client saw it

	freshCalls, freshFailed uint64 // since the last flush, for the history
}

// tenant is a tenant's series.
type tenant struct {
	name      string
	series    map[labels.Hash]*series
	list      []*series // those of the map, and the overflows
	counts    [2]int    // of RED metrics and of edges, without the overflows
	overflow  [2]*series
	history   map[Edge]*history // by ends and type
	announced int64             // flush that sent metadata last
}

// registry holds the series of all tenants.
type registry struct {
	max int
	now func() time.Time

	mu      sync.RWMutex
	tenants map[string]*tenant

	historyMu sync.Mutex // guards the tenants' history
}

func newRegistry(maxSeries int, now func() time.Time) *registry {
	return &registry{max: maxSeries, now: now, tenants: map[string]*tenant{}}
}

// tenant returns a tenant, which may be a new one.
func (r *registry) tenant(name string) *tenant {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tenants[name]
	if t == nil {
		t = &tenant{name: name, series: map[labels.Hash]*series{}, history: map[Edge]*history{}, announced: math.MinInt32}
		r.tenants[name] = t
	}
	return t
}

// find returns a series, or nil. full says that a new one would be one too many.
func (r *registry) find(t *tenant, key labels.Hash, class int) (s *series, full bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return t.series[key], t.counts[class] >= r.max
}

// classOf returns the index in a tenant's counts of RED metrics or edges.
func classOf(edge *Edge) int {
	if edge != nil {
		return 1
	}
	return 0
}

// add adds a series, unless it is there or there are too many; then it returns
// that one, or the overflow.
func (r *registry) add(t *tenant, key labels.Hash, set labelSet, edge *Edge) *series {
	r.mu.Lock()
	defer r.mu.Unlock()
	class := classOf(edge)
	if s := t.series[key]; s != nil {
		return s
	}
	if t.counts[class] >= r.max {
		return r.overflowLocked(t, class)
	}
	t.counts[class]++
	s := r.newSeriesLocked(t, set, edge)
	s.key = key
	t.series[key] = s
	return s
}

// overflow returns the series of what is beyond the limit.
func (r *registry) overflow(t *tenant, class int) *series {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overflowLocked(t, class)
}

func (r *registry) overflowLocked(t *tenant, class int) *series {
	if t.overflow[class] == nil {
		list, edge := []label{{labelOverflow, "true"}}, (*Edge)(nil)
		if class == 1 {
			list = append(list, label{labelClient, overflowNode}, label{labelServer, overflowNode})
			edge = &Edge{Client: overflowNode, Server: overflowNode}
		}
		t.overflow[class] = r.newSeriesLocked(t, newLabelSet(list), edge)
	}
	return t.overflow[class]
}

func (r *registry) newSeriesLocked(t *tenant, set labelSet, edge *Edge) *series {
	s := &series{labels: set, edge: edge, start: r.now().UnixMilli()}
	t.list = append(t.list, s)
	return s
}

// remove takes series out that have ended.
func (r *registry) remove(t *tenant, ended []*series) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range ended {
		s.dead = true
		class := classOf(s.edge)
		if t.overflow[class] == s {
			t.overflow[class] = nil
			continue
		}
		delete(t.series, s.key)
		t.counts[class]--
	}
	kept := t.list[:0]
	for _, s := range t.list {
		if !s.dead {
			kept = append(kept, s)
		}
	}
	clear(t.list[len(kept):])
	t.list = kept
}

// all appends the tenants to dst.
func (r *registry) all(dst []*tenant) []*tenant {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.tenants {
		dst = append(dst, t)
	}
	return dst
}

// list appends a tenant's series to dst.
func (r *registry) list(t *tenant, dst []*series) []*series {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return append(dst, t.list...)
}

// counts returns how many RED label sets and edges there are.
func (r *registry) counts() (n [2]int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, t := range r.tenants {
		n[0] += t.counts[0]
		n[1] += t.counts[1]
	}
	return n
}

// Edge is a connection between two services and how often it was used.
type Edge struct {
	Client, Server string
	Type           string // "", messaging_system, database or virtual_node
	Calls, Failed  uint64
}

const (
	slotMillis   = 15 * 60 * 1000
	historySlots = 24 * 4
)

// history is how often an edge was used in each quarter of an hour of the last
// day.
type history struct {
	slots  [historySlots]struct{ calls, failed uint32 }
	newest int64 // number of the newest slot, by time
}

// add adds calls at a time.
func (h *history) add(at int64, calls, failed uint64) {
	slot := at / slotMillis
	for s := max(h.newest+1, slot-historySlots+1); s <= slot; s++ {
		h.slots[s%historySlots] = struct{ calls, failed uint32 }{}
	}
	h.newest = max(h.newest, slot)
	to := &h.slots[slot%historySlots]
	to.calls += uint32(min(calls, uint64(math.MaxUint32-to.calls)))
	to.failed += uint32(min(failed, uint64(math.MaxUint32-to.failed)))
}

// since adds up what came since a time, to the quarter of an hour.
func (h *history) since(at int64) (calls, failed uint64) {
	for s := max(at/slotMillis, h.newest-historySlots+1, 0); s <= h.newest; s++ {
		calls += uint64(h.slots[s%historySlots].calls)
		failed += uint64(h.slots[s%historySlots].failed)
	}
	return calls, failed
}

// record notes an edge's fresh calls in its history.
func (r *registry) record(t *tenant, s *series, at int64) {
	if s.freshCalls == 0 {
		return
	}
	r.historyMu.Lock()
	defer r.historyMu.Unlock()
	defer func() { s.freshCalls, s.freshFailed = 0, 0 }()
	h := t.history[*s.edge]
	if h == nil {
		if len(t.history) >= 2*r.max {
			return
		}
		h = &history{newest: at / slotMillis}
		t.history[*s.edge] = h
	}
	h.add(at, s.freshCalls, s.freshFailed)
}

// prune forgets edges of which nothing came for a day.
func (r *registry) prune(t *tenant, now int64) {
	r.historyMu.Lock()
	defer r.historyMu.Unlock()
	for e, h := range t.history {
		if now/slotMillis-h.newest >= historySlots {
			delete(t.history, e)
		}
	}
}

// edges lists a tenant's edges that were used since a time.
func (r *registry) edges(name string, since int64) (list []Edge) {
	r.mu.RLock()
	t := r.tenants[name]
	r.mu.RUnlock()
	if t == nil {
		return nil
	}
	r.historyMu.Lock()
	defer r.historyMu.Unlock()
	for e, h := range t.history {
		if e.Calls, e.Failed = h.since(since); e.Calls > 0 {
			list = append(list, e)
		}
	}
	return list
}
