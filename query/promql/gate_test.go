package promql

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10, newMetrics(nil))
		release, err := g.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []string
		wait := func(tenant string) {
			go func() {
				release, err := g.Acquire(t.Context(), tenant)
				if err != nil {
					t.Errorf("acquire for %s: %v", tenant, err)
					return
				}
				mu.Lock()
				order = append(order, tenant)
				mu.Unlock()
				release()
				release() // a second call does nothing
			}()
			synctest.Wait()
		}
		for _, tenant := range []string{"a", "a", "a", "b", "c", "b"} {
			wait(tenant)
		}
		release()
		synctest.Wait()
		if want := []string{"a", "b", "c", "a", "b", "a"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if g.running != 0 || len(g.lines) != 0 || len(g.turns) != 0 {
			t.Errorf("left over: %d running, lines %v, turns %v", g.running, g.lines, g.turns)
		}
	})
}

func TestGateBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1, newMetrics(nil))
		release, _ := g.Acquire(t.Context(), "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		waited := make(chan error)
		go func() {
			_, err := g.Acquire(ctx, "a")
			waited <- err
		}()
		synctest.Wait()
		var full *QueueError
		if _, err := g.Acquire(t.Context(), "a"); !errors.As(err, &full) || full.Tenant != "a" || full.RetryAfter <= 0 {
			t.Errorf("third query: %v, want a QueueError of a", err)
		}
		if err := <-waited; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("query that waited for too long: %v, want deadline exceeded", err)
		}
		release()
		if again, err := g.Acquire(t.Context(), "a"); err != nil {
			t.Errorf("query after the others: %v", err)
		} else {
			again()
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := g.Acquire(ended, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("query that was cancelled before: %v, want canceled", err)
		}
		if g.running != 0 || len(g.lines) != 0 || len(g.turns) != 0 {
			t.Errorf("left over: %d running, lines %v, turns %v", g.running, g.lines, g.turns)
		}
	})
}

// TestGateUnderLoad cancels at random and checks that no place is lost.
func TestGateUnderLoad(t *testing.T) {
	g := newGate(3, 1000, newMetrics(nil))
	var mu sync.Mutex
	running, most := 0, 0
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			ctx, cancel := context.WithCancel(t.Context())
			if r.IntN(3) == 0 {
				go cancel()
			}
			defer cancel()
			release, err := g.Acquire(ctx, []string{"a", "b", "c"}[r.IntN(3)])
			if err != nil {
				return
			}
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			mu.Lock()
			running--
			mu.Unlock()
			release()
		})
	}
	wg.Wait()
	if most > 3 || g.running != 0 || len(g.lines) != 0 || len(g.turns) != 0 {
		t.Errorf("at most %d ran at once, want 3; left over: %d running, lines %v, turns %v", most, g.running, g.lines, g.turns)
	}
}
