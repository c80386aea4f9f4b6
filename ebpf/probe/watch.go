package probe

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// watched is a feature, and how far it has got.
type watched struct {
	feature.Feature
	*caller
	tried  chan struct{} // closed when it is loaded, or is known not to
	served chan struct{} // closed when it does no work of its own any more
	ended  chan struct{} // closed when it is detached
	err    error         // of detaching; valid when ended is closed
}

func (p *Probe) newWatched(f feature.Feature) *watched {
	return &watched{Feature: f, caller: p.newCaller(f.Name()), tried: make(chan struct{}), served: make(chan struct{}), ended: make(chan struct{})}
}

// watch loads a feature, does its work until ctx ends, and detaches it when the
// probe says so; one that stops by itself at once. It returns when all of it has,
// however long that takes.
func (p *Probe) watch(ctx context.Context, w *watched, blind string) {
	defer close(w.ended)
	loaded := p.try(w, blind)
	close(w.tried)
	if !loaded {
		close(w.served)
		return
	}
	err := guard(func() error { return feature.Serve(ctx, w.Feature, p.env.Resolver) })
	if err != nil {
		err = errors.Join(err, w.detach())
		p.logger.Error("eBPF feature has stopped", "feature", w.Name(), "error", err)
		p.states.set(w.Name(), feature.Off, feature.Reason("stopped: ", err))
		close(w.served)
		return
	}
	close(w.served)
	<-p.closing
	if err := w.detach(); err != nil {
		w.err = fmt.Errorf("detach eBPF feature %s: %w", w.Name(), err)
	}
	p.states.set(w.Name(), feature.Off, "stopped")
}

// try loads a feature.
func (p *Probe) try(w *watched, blind string) bool {
	var state feature.State
	var reason string
	<-w.free
	err := w.make("load", func() error {
		state, reason = feature.Climb(w.Feature, p.env)
		return nil
	})
	w.free <- struct{}{}
	if err != nil {
		state, reason = feature.Off, feature.Reason("stopped: ", err)
		p.logger.Error("eBPF feature has stopped", "feature", w.Name(), "error", err)
	}
	if _, ok := w.Feature.(feature.Anonymous); !ok && state == feature.Loaded && blind != "" {
		reason = strings.TrimPrefix(reason+"; "+blind, "; ")
	}
	w.forgive()
	p.states.set(w.Name(), state, reason)
	if state != feature.Loaded {
		p.logger.Warn("eBPF feature is not available", "feature", w.Name(), "state", string(state), "reason", reason)
		return false
	}
	if reason == "" {
		p.logger.Info("eBPF feature is loaded", "feature", w.Name())
	} else {
		p.logger.Info("eBPF feature is loaded in part", "feature", w.Name(), "lacks", reason)
	}
	if o, ok := w.Feature.(feature.Opener); ok && p.spans != nil {
		p.spans.Watch(&opener{Opener: o, caller: w.caller})
	}
	w.ready.Store(true)
	return true
}

// detach detaches a feature when the call under way has returned.
func (w *watched) detach() error {
	<-w.free
	w.ready.Store(false)
	err := w.make("close", w.Close)
	w.free <- struct{}{} // what was asked for meanwhile finds nothing
	return err
}

// panicked is what guard makes of a panic.
type panicked struct {
	what  any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.what, p.stack) }

// guard makes an error of a panic: what processes send each other is read here, and
// a mistake in one feature ends no other.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{what: p, stack: debug.Stack()}
		}
	}()
	return do()
}
