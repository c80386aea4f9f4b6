package profile

import (
	"slices"
	"sync"
	"time"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/profile/symbol"
)

// What an entry takes in memory, with its share of the map that finds it.
const (
	frameBytes   = 112 // and its name
	nodeBytes    = 40
	sourceBytes  = 256
	sampleBytes  = 12
	runningBytes = 32
	emptyBytes   = 4096
)

// source is whose a sample is.
type source struct {
	feature.Who
	pid uint32 // 0: threads of the kernel
}

// node is one step of a stack: a frame called by the path that parent is.
type node struct{ parent, frame uint32 }

// sample is how often one process was seen at one place.
type sample struct{ source, node, count uint32 }

// place is where a process was seen.
type place struct{ source, node uint32 }

// period is one interval whose samples are all in.
type period struct {
	start, end time.Time
	samples    []sample
}

// forest is what stacks are made of. Its slices only grow, so that a reader may
// keep what it was given.
type forest struct {
	frames  []symbol.Frame
	nodes   []node // 0 is the root of all
	sources []source

	frameOf  map[symbol.Frame]uint32
	nodeOf   map[node]uint32
	sourceOf map[source]uint32
	bytes    int64
}

func newForest() *forest {
	return &forest{
		nodes: make([]node, 1), frameOf: make(map[symbol.Frame]uint32), nodeOf: make(map[node]uint32),
		sourceOf: make(map[source]uint32), bytes: emptyBytes,
	}
}

func (f *forest) frame(v symbol.Frame) uint32 {
	id, ok := f.frameOf[v]
	if !ok {
		id = uint32(len(f.frames))
		f.frames = append(f.frames, v)
		f.frameOf[v] = id
		f.bytes += frameBytes + int64(len(v.Name))
	}
	return id
}

func (f *forest) node(v node) uint32 {
	id, ok := f.nodeOf[v]
	if !ok {
		id = uint32(len(f.nodes))
		f.nodes = append(f.nodes, v)
		f.nodeOf[v] = id
		f.bytes += nodeBytes
	}
	return id
}

func (f *forest) source(v source) uint32 {
	id, ok := f.sourceOf[v]
	if !ok {
		id = uint32(len(f.sources))
		f.sources = append(f.sources, v)
		f.sourceOf[v] = id
		f.bytes += sourceBytes
	}
	return id
}

// store holds profiles. It is safe for use by many goroutines.
type store struct {
	interval, keep time.Duration
	maxBytes       int64

	mu      sync.Mutex
	forest  *forest // this and what follows under mu
	start   time.Time
	running map[place]uint32 // of the interval that began at start
	done    []period         // the oldest first
	held    int64            // bytes of done
	waste   int              // intervals dropped since the forest was thinned
	evicted uint64
}

func newStore(c Config) *store {
	return &store{
		interval: c.Interval, keep: c.Keep, maxBytes: c.MaxBytes,
		forest: newForest(), running: make(map[place]uint32),
	}
}

// add counts n samples of a stack, the outermost frame first, at a time that does
// not go back. false: there is no room.
func (s *store) add(at time.Time, from source, stack []symbol.Frame, n uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advanceLocked(at)
	if s.bytesLocked() > s.maxBytes {
		s.evictLocked()
		if s.bytesLocked() > s.maxBytes {
			return false
		}
	}
	p := place{source: s.forest.source(from)}
	for _, f := range stack {
		p.node = s.forest.node(node{p.node, s.forest.frame(f)})
	}
	s.running[p] += n
	return true
}

func (s *store) bytesLocked() int64 {
	return s.forest.bytes + s.held + int64(len(s.running))*runningBytes
}

// advance drops what is older than it is kept.
func (s *store) advance(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advanceLocked(at)
}

// advanceLocked ends the interval that at is behind of.
func (s *store) advanceLocked(at time.Time) {
	start := at.Truncate(s.interval)
	if !start.After(s.start) {
		return
	}
	if len(s.running) > 0 {
		samples := make([]sample, 0, len(s.running))
		for p, n := range s.running {
			samples = append(samples, sample{p.source, p.node, n})
		}
		s.done = append(s.done, period{s.start, s.start.Add(s.interval), samples})
		s.held += int64(len(samples)) * sampleBytes
		s.running = make(map[place]uint32)
	}
	s.start = start
	old := 0
	for old < len(s.done) && !s.done[old].end.After(at.Add(-s.keep)) {
		old++
	}
	s.dropLocked(old)
	if s.waste > len(s.done)/4 {
		s.thinLocked()
	}
}

// evictLocked makes room: a quarter of the intervals goes.
func (s *store) evictLocked() {
	n := min((len(s.done)+3)/4, len(s.done))
	s.evicted += uint64(n)
	s.dropLocked(n)
	if n > 0 {
		s.thinLocked()
	}
}

func (s *store) dropLocked(n int) {
	for _, p := range s.done[:n] {
		s.held -= int64(len(p.samples)) * sampleBytes
	}
	s.done = slices.Delete(s.done, 0, n)
	s.waste += n
}

// thinLocked makes the forest anew, of what is still held.
func (s *store) thinLocked() {
	old, fresh := s.forest, newForest()
	s.forest, s.waste = fresh, 0
	moved := make([]uint32, len(old.nodes)) // 0: not yet, and the root
	var move func(id uint32) uint32
	move = func(id uint32) uint32 {
		if id == 0 || moved[id] != 0 {
			return moved[id]
		}
		n := old.nodes[id]
		moved[id] = fresh.node(node{move(n.parent), fresh.frame(old.frames[n.frame])})
		return moved[id]
	}
	for i, p := range s.done {
		samples := make([]sample, len(p.samples)) // a reader may hold the old ones
		for j, v := range p.samples {
			samples[j] = sample{fresh.source(old.sources[v.source]), move(v.node), v.count}
		}
		s.done[i].samples = samples
	}
	running := make(map[place]uint32, len(s.running))
	for p, n := range s.running {
		running[place{fresh.source(old.sources[p.source]), move(p.node)}] = n
	}
	s.running = running
}

// view is what a query sees of the store; it stays as it is.
type view struct {
	frames   []symbol.Frame
	nodes    []node
	sources  []source
	counts   map[place]uint64
	from, to time.Time // of the intervals that are in it
}

// view adds up the intervals that overlap [from, to); zero times are no bounds.
// service "" is all of them.
func (s *store) view(service string, from, to time.Time) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{frames: s.forest.frames, nodes: s.forest.nodes, sources: s.forest.sources, counts: make(map[place]uint64)}
	within := func(start, end time.Time) bool {
		if !from.IsZero() && !end.After(from) || !to.IsZero() && !start.Before(to) {
			return false
		}
		if v.from.IsZero() {
			v.from = start
		}
		v.to = end
		return true
	}
	count := func(p place, n uint32) {
		if service == "" || v.sources[p.source].Service == service {
			v.counts[p] += uint64(n)
		}
	}
	for _, p := range s.done {
		if within(p.start, p.end) {
			for _, x := range p.samples {
				count(place{x.source, x.node}, x.count)
			}
		}
	}
	if len(s.running) > 0 && within(s.start, s.start.Add(s.interval)) {
		for p, n := range s.running {
			count(p, n)
		}
	}
	return v
}

// size gives the bytes held, the intervals, and how many were dropped for room.
func (s *store) size() (bytes int64, intervals int, evicted uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	intervals = len(s.done)
	if len(s.running) > 0 {
		intervals++
	}
	return s.bytesLocked(), intervals, s.evicted
}
