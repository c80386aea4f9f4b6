package statsd

import (
	"bytes"
	"math"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/vedette-io/vedette/internal/labels"
)

const (
	// maxSketchBytes bounds the buckets of all summaries and native histograms. An
	// observation beyond it counts in a summary's sum and count but not among its
	// quantiles; a native histogram, which must add up, leaves it out.
	maxSketchBytes = 256 << 20
	// maxSetMembers bounds the distinct values of all sets in an interval.
	maxSetMembers = 1 << 20
)

// family is all series of a name.
type family struct {
	name      string
	kind      kind
	series    int
	announced int64 // flush that sent its metadata last
}

// series is what the events of a name with some tags add up to.
type series struct {
	family  *family // nil of a free entry
	id      labels.Hash
	tags    []byte // canonical labels without the name
	nameAt  int32
	extraAt int32
	gen     uint32 // of the entry, which other series have had

	touched  bool  // since the last flush
	lastSeen int64 // time of the flush at which it was touched last; 0 is never

	start   int64   // when it was zero
	value   float64 // sum of a counter or of observations, or last of a gauge
	count   uint64  // of observations
	buckets []uint64
	summary *summary
	native  *sketch[uint64]
	members members
}

// alias leads from the raw bytes of name and tags to a series.
type alias struct {
	index int32
	gen   uint32
}

// table holds all series. Its lock guards everything in it.
type table struct {
	cfg   *Config
	extra string // label that the parts of an observer have for themselves
	now   func() time.Time

	mu          sync.Mutex
	series      []series
	free        []int32
	live        int
	aliases     map[labels.Hash]alias
	byID        map[labels.Hash]int32
	families    map[string]*family // by every name that its series show
	sketchBytes int
	setMembers  int
	scratch     scratch
	key         []byte
}

func newTable(cfg *Config, now func() time.Time) *table {
	t := &table{cfg: cfg, now: now, aliases: map[labels.Hash]alias{}, byID: map[labels.Hash]int32{}, families: map[string]*family{}}
	switch cfg.Observers {
	case ObserversSummary:
		t.extra = "quantile"
	case ObserversHistogram:
		t.extra = "le"
	}
	return t
}

// find returns the series of an event, which may be a new one. It is valid until
// the next call.
func (t *table) find(e *event) (*series, drop, bool) {
	t.key = append(append(append(t.key[:0], e.name...), 0), e.tags...)
	raw := labels.HashCanonical(t.key)
	if a, ok := t.aliases[raw]; ok {
		if s := &t.series[a.index]; s.gen == a.gen && s.family != nil {
			return s, dropConflict, s.family.kind == e.kind
		}
	}
	extra := ""
	if e.kind == observer {
		extra = t.extra
	}
	id, ok := t.scratch.identity(e.name, e.tags, extra)
	if !ok {
		return nil, dropMalformed, false
	}
	t.key = append(append(append(t.key[:0], id.name...), 0), id.tags...)
	hash := labels.HashCanonical(t.key)
	i, ok := t.byID[hash]
	if ok && t.series[i].family.kind != e.kind {
		return nil, dropConflict, false
	}
	if !ok {
		var d drop
		if i, d, ok = t.create(&id, hash, e.kind); !ok {
			return nil, d, false
		}
	}
	if len(t.aliases) >= 4*t.cfg.MaxSeries {
		clear(t.aliases)
	}
	t.aliases[raw] = alias{i, t.series[i].gen}
	return &t.series[i], 0, true
}

// create adds a series.
func (t *table) create(id *identity, hash labels.Hash, k kind) (int32, drop, bool) {
	if t.live >= t.cfg.MaxSeries {
		return 0, dropSeriesLimit, false
	}
	f := t.families[string(id.name)]
	if f == nil {
		f = &family{name: string(id.name), kind: k, announced: -1}
		names := t.shown(f)
		for _, name := range names {
			if t.families[name] != nil {
				return 0, dropConflict, false
			}
		}
		for _, name := range names {
			t.families[name] = f
		}
	}
	if f.name != string(id.name) || f.kind != k {
		return 0, dropConflict, false
	}
	f.series++
	t.live++
	var i int32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		i = int32(len(t.series))
		t.series = append(t.series, series{})
	}
	s := &t.series[i]
	now := t.now().UnixMilli()
	*s = series{
		family: f, id: hash, gen: s.gen, tags: bytes.Clone(id.tags), nameAt: int32(id.nameAt), extraAt: int32(id.extraAt), start: now,
	}
	if k == observer {
		switch t.cfg.Observers {
		case ObserversSummary:
			s.summary = newSummary(now / ageMillis)
		case ObserversHistogram:
			s.buckets = make([]uint64, len(t.cfg.Buckets)+1)
		case ObserversNative:
			s.native = &sketch[uint64]{schema: nativeSchema, most: maxNativeBuckets}
		}
	}
	t.byID[hash] = i
	return i, 0, true
}

// shown lists the names that a family's series have.
func (t *table) shown(f *family) []string {
	names := []string{f.name}
	if f.kind == observer && t.cfg.Observers != ObserversNative {
		names = append(names, f.name+"_sum", f.name+"_count")
		if t.cfg.Observers == ObserversHistogram {
			names = append(names, f.name+"_bucket")
		}
	}
	return names
}

// remove frees an entry.
func (t *table) remove(i int32) {
	s := &t.series[i]
	s.family.series--
	if s.family.series == 0 {
		for _, name := range t.shown(s.family) {
			delete(t.families, name)
		}
	}
	delete(t.byID, s.id)
	if s.summary != nil {
		t.sketchBytes -= s.summary.bytes()
	}
	if s.native != nil {
		t.sketchBytes -= s.native.bytes()
	}
	t.setMembers -= s.members.n
	*s = series{gen: s.gen + 1}
	t.free = append(t.free, i)
	t.live--
}

// take adds an event's value to its series.
func (t *table) take(s *series, e *event, n *tally) (drop, bool) {
	if e.kind == set {
		if len(e.value) == 0 {
			return dropMalformed, false
		}
		if !t.addMember(s, e.value) {
			return dropSetLimit, false
		}
		s.touched = true
		return 0, true
	}
	v, ok := number(e.value)
	if !ok {
		return dropMalformed, false
	}
	switch e.kind {
	case counter:
		if v < 0 {
			return dropNegativeCounter, false
		}
		s.value += v / e.rate
	case gauge:
		if c := e.value[0]; c == '+' || c == '-' {
			v += s.value
		}
		s.value = v
	case observer:
		if e.timer {
			v /= 1000
		}
		t.observe(s, v, e.rate, n)
	}
	s.touched = true
	return 0, true
}

// observe adds an observation as often as its sampling rate says.
func (t *table) observe(s *series, v, rate float64, n *tally) {
	times := uint64(math.Min(math.Round(1/rate), 1e6))
	s.value += v * float64(times)
	s.count += times
	switch {
	case s.buckets != nil:
		i := 0
		for i < len(t.cfg.Buckets) && v > t.cfg.Buckets[i] {
			i++
		}
		s.buckets[i] += times
	case t.sketchBytes > maxSketchBytes:
		n.sketches++
		if s.native != nil {
			s.count, s.value = s.count-times, s.value-v*float64(times) // its buckets must add up
		}
	case s.summary != nil:
		k := s.summary.current()
		before := k.bytes()
		k.observe(v, uint32(times))
		t.sketchBytes += k.bytes() - before
	default:
		before := s.native.bytes()
		s.native.observe(v, times)
		t.sketchBytes += s.native.bytes() - before
	}
}

// members is a set of the hashes of values, open addressing; 0 is an empty slot.
type members struct {
	slots []uint64
	n     int
}

// addMember reports false if there is no room.
func (t *table) addMember(s *series, value []byte) bool {
	h := max(xxh3.Hash(value), 1)
	m := &s.members
	if m.has(h) {
		return true
	}
	if t.setMembers >= maxSetMembers {
		return false
	}
	if 4*(m.n+1) > 3*len(m.slots) {
		old := m.slots
		m.slots = make([]uint64, max(2*len(old), 8))
		for _, o := range old {
			if o != 0 {
				m.put(o)
			}
		}
	}
	m.put(h)
	m.n++
	t.setMembers++
	return true
}

func (m *members) has(h uint64) bool {
	if len(m.slots) == 0 {
		return false
	}
	mask := uint64(len(m.slots) - 1)
	for i := h & mask; m.slots[i] != 0; i = (i + 1) & mask {
		if m.slots[i] == h {
			return true
		}
	}
	return false
}

func (m *members) put(h uint64) {
	mask := uint64(len(m.slots) - 1)
	i := h & mask
	for m.slots[i] != 0 {
		i = (i + 1) & mask
	}
	m.slots[i] = h
}

// empty forgets the members; memory that the last interval did not need goes.
func (t *table) empty(m *members) {
	t.setMembers -= m.n
	if m.n*8 < len(m.slots) {
		m.slots = nil
	}
	clear(m.slots)
	m.n = 0
}
