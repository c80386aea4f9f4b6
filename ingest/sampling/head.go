package sampling

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/internal/signal"
)

// maxTenants is how many tenants' rates are known at once; those that have been
// idle give way.
const maxTenants = 10_000

// Head decides by trace ids, before anything is stored.
type Head struct {
	cfg     Config
	metrics *headMetrics

	mu      sync.RWMutex
	tenants map[string]*limiter
}

// NewHead returns a Head; cfg is valid.
func NewHead(cfg Config, reg prometheus.Registerer) *Head {
	return &Head{cfg: cfg, metrics: newHeadMetrics(reg), tenants: map[string]*limiter{}}
}

// KeepTrace returns the function that says which of a tenant's traces are wanted:
// it is called once for every span, by any number of goroutines. nil wants
// all.
func (h *Head) KeepTrace(tenantID string) func(id signal.TraceID) bool {
	c := h.cfg.headOf(tenantID)
	if c.Probability >= 1 && c.SpansPerSecond == 0 {
		return nil
	}
	h.mu.RLock()
	l := h.tenants[tenantID]
	h.mu.RUnlock()
	if l == nil {
		l = h.add(tenantID, c)
	}
	return l.wants
}

func (h *Head) add(tenantID string, c HeadConfig) *limiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.tenants[tenantID]; l != nil {
		return l
	}
	now := time.Now().UnixNano()
	if len(h.tenants) >= maxTenants {
		for name, l := range h.tenants {
			if now-l.began.Load() > int64(time.Minute) {
				delete(h.tenants, name)
			}
		}
		if len(h.tenants) >= maxTenants {
			clear(h.tenants) // their rates are learned anew
		}
	}
	l := newLimiter(c, h.metrics, now)
	h.tenants[tenantID] = l
	return l
}

const (
	// window is the time over which a rate is counted.
	window = time.Second
	// fade is what is left of a higher rate after a window: so a threshold that a
	// burst has raised comes down over some seconds.
	fade = 0.7
	// slack is the share of a window's spans by which a burst may exceed them before
	// the probability is halved, and each time again.
	slack = 0.25
)

// limiter keeps a share of a tenant's traces: a fixed one, and if there is a limit
// the smaller one that meets it.
type limiter struct {
	metrics *headMetrics
	base    uint64 // threshold of the probability
	share   float64
	limit   float64 // spans per second; 0 is none

	threshold atomic.Uint64 // base, or higher for the limit
	began     atomic.Int64  // of the window, unix nanoseconds
	seen      atomic.Int64  // spans of the window
	kept      atomic.Int64

	wants func(id signal.TraceID) bool // keep

	mu     sync.Mutex
	rate   float64 // spans per second that came, fading
	budget float64 // spans of the window at which the probability is halved
	now    func() time.Time
}

func newLimiter(c HeadConfig, m *headMetrics, now int64) *limiter {
	l := &limiter{metrics: m, base: Threshold(c.Probability), share: c.Probability, limit: c.SpansPerSecond, now: time.Now}
	l.threshold.Store(l.base)
	l.began.Store(now)
	l.budget = l.limit * (1 + slack)
	l.wants = l.keep
	return l
}

func (l *limiter) keep(id signal.TraceID) bool {
	r := Randomness(id)
	if l.limit > 0 {
		l.seen.Add(1)
		if now := l.now().UnixNano(); now-l.began.Load() >= int64(window) {
			l.turn(now)
		}
	}
	switch {
	case r < l.base:
		l.metrics.dropProbability.Inc()
		return false
	case r < l.threshold.Load():
		l.metrics.dropRate.Inc()
		return false
	}
	if l.limit > 0 && float64(l.kept.Add(1)) > l.limit*(1+slack) {
		l.halve()
	}
	l.metrics.keep.Inc()
	return true
}

// turn begins a window with the threshold that the rate asks for.
func (l *limiter) turn(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	elapsed := now - l.began.Load()
	if elapsed < int64(window) {
		return
	}
	seconds := float64(elapsed) / 1e9
	rate := float64(l.seen.Swap(0)) / seconds
	l.kept.Store(0)
	l.rate = max(rate, l.rate*math.Pow(fade, seconds))
	l.budget = l.limit * (1 + slack)
	l.began.Store(now)
	if l.rate > 0 {
		l.threshold.Store(max(l.base, Threshold(min(l.share, l.limit/l.rate))))
	}
}

// halve halves the probability when a window has more spans than it may have.
func (l *limiter) halve() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if float64(l.kept.Load()) <= l.budget {
		return
	}
	l.budget += l.limit * slack
	t := l.threshold.Load()
	l.threshold.Store(t + (bits56-t)/2)
}
