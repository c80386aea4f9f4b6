package traces

import (
	"context"
	"fmt"
	"sync/atomic"
)

// QueueError reports a question that was not taken because too many wait.
type QueueError struct {
	Limit int
}

func (e *QueueError) Error() string {
	return fmt.Sprintf("question about spans is refused: %d wait already (limit max_queued)", e.Limit)
}

// Busy marks an error that another try, later, may not meet.
func (e *QueueError) Busy() bool { return true }

// gate lets a bounded number of questions run; a bounded number waits.
type gate struct {
	places  chan struct{}
	waiting atomic.Int64
	limit   int
	metrics *metrics
}

func newGate(c Config, m *metrics) *gate {
	return &gate{places: make(chan struct{}, c.MaxConcurrent), limit: c.MaxQueued, metrics: m}
}

// enter waits for a place; leave gives it back.
func (g *gate) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case g.places <- struct{}{}:
		g.metrics.running.Inc()
		return nil
	default:
	}
	if g.waiting.Add(1) > int64(g.limit) {
		g.waiting.Add(-1)
		g.metrics.refused.Inc()
		return &QueueError{Limit: g.limit}
	}
	g.metrics.queued.Inc()
	defer func() {
		g.waiting.Add(-1)
		g.metrics.queued.Dec()
	}()
	select {
	case g.places <- struct{}{}:
		g.metrics.running.Inc()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) leave() {
	<-g.places
	g.metrics.running.Dec()
}
