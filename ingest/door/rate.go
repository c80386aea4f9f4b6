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

// tenants remembers the rate of every tenant that has a limit.
type tenants struct {
	mu    sync.Mutex
	rates map[string]*rate
}

// allow takes samples out of a tenant's bucket, or returns how long to wait.
func (t *tenants) allow(tenant string, samples int, l Limits) time.Duration {
	if l.SamplesPerSecond <= 0 || samples == 0 {
		return 0
	}
	burst := l.SamplesBurst
	if burst <= 0 {
		burst = 10 * l.SamplesPerSecond
	}
	t.mu.Lock()
	r := t.rates[tenant]
	if r == nil {
		// Names come from clients, so the table is kept small; a tenant that is
		// forgotten starts with a full bucket.
		const most = 10_000
		if t.rates == nil || len(t.rates) >= most {
			t.rates = make(map[string]*rate)
		}
		r = &rate{}
		t.rates[tenant] = r
	}
	t.mu.Unlock()
	return r.allow(float64(samples), l.SamplesPerSecond, burst)
}
