package door

import (
	"math"
	"sync"
	"time"
)

// rate is a token bucket that may go into debt: a request is let in while there
// is any token left, however large it is, and the next ones wait until it has
// been paid for.
type rate struct {
	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// allow takes n tokens and returns 0, or returns how long to wait.
func (r *rate) allow(n, perSecond, burst float64) time.Duration {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.IsZero() {
		r.tokens = burst
	} else {
		r.tokens = math.Min(burst, r.tokens+now.Sub(r.last).Seconds()*perSecond)
	}
	r.last = now
	if r.tokens <= 0 {
		return time.Duration((1 - r.tokens) / perSecond * float64(time.Second))
	}
	r.tokens -= n
	return 0
}

// rates remembers the rate of everybody who has a limit.
type rates struct {
	mu     sync.Mutex
	byName map[string]*rate
}

// allow takes samples out of somebody's bucket, or returns how long to wait. 0
// per second is no limit; a burst of 0 is ten seconds' worth.
func (t *rates) allow(name string, samples int, perSecond, burst float64) time.Duration {
	if perSecond <= 0 || samples == 0 {
		return 0
	}
	if burst <= 0 {
		burst = 10 * perSecond
	}
	t.mu.Lock()
	r := t.byName[name]
	if r == nil {
		// Names come from clients, so the table is kept small; a tenant that is
		// forgotten starts with a full bucket.
		const most = 10_000
		if t.byName == nil || len(t.byName) >= most {
			t.byName = make(map[string]*rate)
		}
		r = &rate{}
		t.byName[name] = r
	}
	t.mu.Unlock()
	return r.allow(float64(samples), perSecond, burst)
}
