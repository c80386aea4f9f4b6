package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// part is something that runs for as long as the server does.
type part struct {
	name string
	// run blocks until its context ends; a return before that stops the server.
	run func(ctx context.Context) error
	// stop, if set, is called when it is the part's turn to end, before its
	// context is cancelled: the place to drain.
	stop func(ctx context.Context) error
}

// group runs parts and stops them one after the other, in the order in which
// they were added: what takes data in first, what keeps it last.
type group struct {
	logger *slog.Logger
	grace  time.Duration // for each part's stop
	parts  []part
}

func (g *group) add(p part) { g.parts = append(g.parts, p) }

// running is a part that has been started.
type running struct {
	part
	cancel context.CancelFunc
	done   chan error // one value, when run has returned
}

// run starts all parts and returns when all have ended: after ctx has, or after
// one of them has returned by itself. The error joins those of all parts.
func (g *group) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan string, len(g.parts))
	started := make([]running, len(g.parts))
	for i, p := range g.parts {
		// A part ends when its turn comes, not when ctx does.
		pctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		started[i] = running{p, cancel, make(chan error, 1)}
		wg.Go(func() {
			err := p.run(pctx)
			started[i].done <- err
			ended <- p.name
		})
	}
	var errs []error
	select {
	case <-ctx.Done():
		g.logger.Info("stopping: a second signal stops at once")
	case name := <-ended:
		g.logger.Error("stopping: a part of the server has ended", "part", name)
		errs = append(errs, fmt.Errorf("run server: %s has ended", name))
	}
	for i := range started {
		errs = append(errs, g.end(ctx, &started[i]))
	}
	return errors.Join(errs...)
}

// end stops one part and waits for it.
func (g *group) end(ctx context.Context, r *running) error {
	begin := time.Now()
	var stopErr error
	if r.stop != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.grace)
		stopErr = r.stop(stopCtx)
		cancel()
	}
	r.cancel()
	err := <-r.done
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if err = errors.Join(stopErr, err); err != nil {
		err = fmt.Errorf("%s: %w", r.name, err)
	}
	g.logger.Debug("part has ended", "part", r.name, "took", time.Since(begin), "err", err)
	return err
}
