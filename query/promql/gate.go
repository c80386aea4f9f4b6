package promql

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// QueueError reports a query that was not taken because its tenant's line is
// full.
type QueueError struct {
	Tenant     string
	Limit      int
	RetryAfter time.Duration
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("query is refused: tenant %q has %d queries waiting already (limit query.max_queued)", e.Tenant, e.Limit)
}

// Gate lets a bounded number of queries run. Those over the bound wait, each
// tenant in a line of its own, and the lines take turns, so that a tenant with
// a thousand queries delays another's only by one. It is safe for concurrent use.
type Gate struct {
	maxRunning int
	maxQueued  int
	metrics    *metrics

	mu      sync.Mutex
	running int
	lines   map[string][]*waiter // never holds an empty line
	turns   []string             // tenants with a line, next one first
}

type waiter struct {
	ready   chan struct{} // closed when it may run
	granted bool
}

func newGate(maxRunning, maxQueued int, m *metrics) *Gate {
	return &Gate{maxRunning: maxRunning, maxQueued: maxQueued, metrics: m, lines: make(map[string][]*waiter)}
}

// Acquire waits for its turn and returns the function that gives the place
// back. It returns a *QueueError at once when the tenant's line is full, and
// ctx's error when it ends first.
func (g *Gate) Acquire(ctx context.Context, tenant string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	if g.running < g.maxRunning {
		g.running++
		g.metrics.running.Inc()
		g.mu.Unlock()
		return g.releaser(), nil
	}
	line := g.lines[tenant]
	if len(line) >= g.maxQueued {
		g.mu.Unlock()
		g.metrics.refused.Inc()
		return nil, &QueueError{Tenant: tenant, Limit: g.maxQueued, RetryAfter: time.Second}
	}
	w := &waiter{ready: make(chan struct{})}
	if len(line) == 0 {
		g.turns = append(g.turns, tenant)
	}
	g.lines[tenant] = append(line, w)
	g.metrics.queued.Inc()
	g.mu.Unlock()
	defer g.metrics.queued.Dec()

	select {
	case <-w.ready:
		return g.releaser(), nil
	case <-ctx.Done():
		g.abandon(tenant, w)
		return nil, ctx.Err()
	}
}

// abandon takes w out of its line, or gives its place back if it got one in
// the meantime.
func (g *Gate) abandon(tenant string, w *waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.granted {
		g.releaseLocked()
		return
	}
	line := g.lines[tenant]
	i := slices.Index(line, w)
	g.setLineLocked(tenant, slices.Delete(line, i, i+1))
	if _, ok := g.lines[tenant]; !ok {
		j := slices.Index(g.turns, tenant)
		g.turns = slices.Delete(g.turns, j, j+1)
	}
}

func (g *Gate) setLineLocked(tenant string, line []*waiter) {
	if len(line) == 0 {
		delete(g.lines, tenant)
	} else {
		g.lines[tenant] = line
	}
}

func (g *Gate) releaser() func() {
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			g.releaseLocked()
			g.mu.Unlock()
		})
	}
}

// releaseLocked passes a place on to the next line's first waiter, if any.
func (g *Gate) releaseLocked() {
	if len(g.turns) == 0 {
		g.running--
		g.metrics.running.Dec()
		return
	}
	tenant := g.turns[0]
	g.turns = slices.Delete(g.turns, 0, 1)
	line := g.lines[tenant]
	w := line[0]
	g.setLineLocked(tenant, slices.Delete(line, 0, 1))
	if _, more := g.lines[tenant]; more {
		g.turns = append(g.turns, tenant)
	}
	w.granted = true
	close(w.ready)
}
