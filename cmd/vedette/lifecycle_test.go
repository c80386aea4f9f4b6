package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// journal notes what happened in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) String() string { return strings.Join(j.lines, " ") }

func (j *journal) part(name string) part {
	return part{
		name: name,
		run: func(ctx context.Context) error {
			<-ctx.Done()
			j.add("ended:" + name)
			return ctx.Err()
		},
		stop: func(context.Context) error {
			j.add("stop:" + name)
			return nil
		},
	}
}

func TestGroupStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := group{logger: slog.New(slog.DiscardHandler), grace: time.Second}
		for _, name := range []string{"http", "scrape", "consumer"} {
			g.add(j.part(name))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.run(ctx); err != nil {
			t.Fatal(err)
		}
		const want = "stop:http ended:http stop:scrape ended:scrape stop:consumer ended:consumer"
		if j.String() != want {
			t.Errorf("got  %s\nwant %s", j.String(), want)
		}
	})
}

func TestGroupStopsWhenAPartEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		g := group{logger: slog.New(slog.DiscardHandler), grace: time.Second}
		g.add(j.part("http"))
		g.add(part{name: "consumer", run: func(context.Context) error { return errors.New("disk is gone") }})
		err := g.run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "consumer has ended") || !strings.Contains(err.Error(), "consumer: disk is gone") {
			t.Errorf("got %v", err)
		}
		if j.String() != "stop:http ended:http" {
			t.Errorf("got %s", j.String())
		}
	})
}

func TestGroupBoundsDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group{logger: slog.New(slog.DiscardHandler), grace: time.Second}
		g.add(part{
			name: "slow",
			run:  func(ctx context.Context) error { <-ctx.Done(); return nil },
			stop: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		if err := g.run(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "slow: ") {
			t.Errorf("got %v, want the deadline of the stop", err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("took %s, want the grace of 1s", took)
		}
	})
}
