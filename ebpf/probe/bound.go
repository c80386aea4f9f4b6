package probe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// How long features are waited for. They are asked one after the other, so that a
// collection takes one processor; but one that is slow has the others wait for its
// turn only, and is waited for at the end, when they have answered.
const (
	askTurn   = 500 * time.Millisecond
	askWithin = 5 * time.Second
	// Loading is the kernel's verifier, for the most part, and what comes late is as
	// good.
	loadTurn   = 10 * time.Second
	loadWithin = time.Minute
	// endWithin is for all of them together. What is attached then goes with the
	// process.
	endWithin = 20 * time.Second
)

// caller makes the calls of one feature: one at a time, each in a goroutine of its
// own, so that one that does not return holds up nobody else. While one hangs no
// other is made, and nobody waits for it. It is safe for use by many goroutines.
type caller struct {
	name   string
	states *states
	logger *slog.Logger
	ready  atomic.Bool   // may be asked: it is loaded
	free   chan struct{} // has its one element while no call is under way

	mu    sync.Mutex
	doing string    // what the call under way is; "": there is none; under mu
	since time.Time // when it began; under mu
	late  bool      // it was given up waiting for; under mu
	told  string    // what hung, until the same returns in time; "": nothing did; under mu
}

func newCaller(name string, s *states, logger *slog.Logger) *caller {
	c := &caller{name: name, states: s, logger: logger, free: make(chan struct{}, 1)}
	c.free <- struct{}{}
	return c
}

// call is one call of a feature.
type call struct {
	ended chan struct{} // closed when it has returned, or will not be made
	made  bool          // it has returned; valid, as err is, when ended is closed
	err   error
}

// ask makes a call when the one under way has returned, if ctx has not ended by
// then. What do writes is the caller's when it has returned, and not before.
func (c *caller) ask(ctx context.Context, what string, do func() error) *call {
	k := &call{ended: make(chan struct{})}
	if c.hangs() {
		close(k.ended)
		return k
	}
	go func() {
		defer close(k.ended)
		select {
		case <-c.free:
		case <-ctx.Done():
			return
		}
		k.made, k.err = true, c.make(what, do)
		c.free <- struct{}{}
	}()
	return k
}

// make makes a call. Whoever calls it has taken the element of free.
func (c *caller) make(what string, do func() error) error {
	c.mu.Lock()
	c.doing, c.since = what, time.Now()
	c.mu.Unlock()
	err := guard(do)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told == what && !c.late {
		c.told = ""
		c.states.answers(c.name)
		c.logger.Info("eBPF feature answers again", "feature", c.name, "to", what)
	}
	if c.late {
		c.logger.Debug("eBPF feature has answered late", "feature", c.name, "to", what, "took", time.Since(c.since))
	}
	c.doing, c.late = "", false
	return err
}

// hangs says whether a call was given up waiting for and has not returned since.
func (c *caller) hangs() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}

// giveUp notes that the call under way is not waited for any more, and tells it,
// once until the same call returns in time.
func (c *caller) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doing == "" {
		return
	}
	c.late = true
	if c.told == "" {
		c.logger.Warn("eBPF feature does not answer: it is left out until it does", "feature", c.name, "to", c.doing, "waited", time.Since(c.since))
	}
	c.told = c.doing
	c.states.hang(c.name, "no answer to "+c.doing)
}

// forgive takes back what giveUp told, for a call that is made once.
func (c *caller) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = ""
	c.states.answers(c.name)
}

// underWay says which call is, to tell why a feature does not end.
func (c *caller) underWay() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doing == "" {
		return "run"
	}
	return c.doing
}

// askAll asks callers in turn, none longer than askWithin, and gives the calls that
// have returned, nil at the place of the others and of callers that are nil. What
// the others do does not concern anybody any more.
func askAll(ctx context.Context, callers []*caller, what string, do func(i int) error) []*call {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	calls, began := make([]*call, len(callers)), make([]time.Time, len(callers))
	for i, c := range callers {
		if c == nil {
			continue
		}
		calls[i], began[i] = c.ask(ctx, what, func() error { return do(i) }), time.Now()
		wait(ctx, calls[i].ended, askTurn)
	}
	for i, k := range calls {
		if k == nil {
			continue
		}
		if !wait(ctx, k.ended, askWithin-time.Since(began[i])) {
			calls[i] = nil
			if ctx.Err() == nil {
				callers[i].giveUp()
			}
		} else if !k.made {
			calls[i] = nil
		}
	}
	return calls
}

// wait says whether a channel is closed within d, and before ctx ends.
func wait(ctx context.Context, closed <-chan struct{}, d time.Duration) bool {
	select {
	case <-closed:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// opener asks a feature for its requests without a response, no longer than it may
// take.
type opener struct {
	feature.Opener
	*caller
	lost uint64 // as it said last
}

// Open implements feature.Opener. Of a feature that does not answer not all are
// known.
func (o *opener) Open(visit func(*feature.Call)) (uint64, error) {
	var calls []feature.Call
	var lost uint64
	k := askAll(context.Background(), []*caller{o.caller}, "open", func(int) error {
		var err error
		lost, err = o.Opener.Open(func(c *feature.Call) { calls = append(calls, *c) })
		return err
	})[0]
	if k == nil {
		return o.lost, errors.New("list open requests: no answer")
	}
	o.lost = lost
	for i := range calls {
		visit(&calls[i])
	}
	return lost, k.err
}
