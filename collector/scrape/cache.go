package scrape

import (
	"math"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/vedette-io/vedette/internal/labels"
)

// point is the last sample of a series.
type point struct {
	time int64  // unix milliseconds
	bits uint64 // of the value; a histogram's is 0
	kind kind
}

type kind uint8

const (
	kindNone kind = iota
	kindFloat
	kindHistogram
)

// series is what the cache knows of a series.
type series struct {
	ref   storage.SeriesRef
	hash  labels.Hash
	lset  []byte // canonical labels
	last  point
	usage time.Time

	exemplarTime int64  // unix milliseconds of the newest exemplar
	exemplarSame uint64 // hash of its labels and value
}

// freshLocked returns the exemplars, oldest first, that are new: exporters show
// one until there is another. One without a timestamp of its own, which the
// scraper gives the scrape's, is known by its labels and value.
func (s *series) freshLocked(all []exemplar.Exemplar) []exemplar.Exemplar {
	begin := 0
	for begin < len(all) && all[begin].Ts <= s.exemplarTime {
		begin++
	}
	fresh := all[begin:]
	if len(fresh) == 0 {
		return nil
	}
	last := &fresh[len(fresh)-1]
	same := last.Labels.Hash() ^ math.Float64bits(last.Value)
	if !last.HasTs && same == s.exemplarSame {
		return nil
	}
	s.exemplarTime, s.exemplarSame = last.Ts, same
	return fresh
}

// cache maps references to series. References are never used twice, so one that
// the cache has forgotten finds its series again by its labels.
type cache struct {
	mu     sync.Mutex
	byRef  map[storage.SeriesRef]*series
	byHash map[labels.Hash]*series
	next   storage.SeriesRef
	swept  time.Time
}

func newCache() *cache {
	return &cache{byRef: map[storage.SeriesRef]*series{}, byHash: map[labels.Hash]*series{}, next: 1}
}

// getLocked returns the series of ref, or of ls if ref is unknown.
func (c *cache) getLocked(ref storage.SeriesRef, ls promlabels.Labels, now time.Time) *series {
	if s := c.byRef[ref]; s != nil {
		s.usage = now
		return s
	}
	var lset []byte
	ls.Range(func(l promlabels.Label) {
		if l.Value != "" {
			lset = labels.Append(lset, l.Name, l.Value)
		}
	})
	hash := labels.HashCanonical(lset)
	s := c.byHash[hash]
	if s == nil {
		s = &series{ref: c.next, hash: hash, lset: lset}
		c.next++
		c.byRef[s.ref], c.byHash[hash] = s, s
	}
	s.usage = now
	return s
}

// sweep forgets series that no scrape has touched for a while.
func (c *cache) sweep(now time.Time) {
	const every, keep = 5 * time.Minute, 20 * time.Minute
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) < every {
		return
	}
	c.swept = now
	for ref, s := range c.byRef {
		if now.Sub(s.usage) > keep {
			delete(c.byRef, ref)
			delete(c.byHash, s.hash)
		}
	}
}

func (c *cache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byRef)
}
