package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// sweepEvery is how often the counts of dead processes leave the kernel.
const sweepEvery = 10 * time.Second

// Options of New.
type Options struct {
	Config Config
	Logger *slog.Logger
}

// Probe watches processes through the kernel.
type Probe struct {
	logger   *slog.Logger
	env      *environment
	features []feature
	states   *states
	started  chan struct{} // closed when every feature was tried
}

// New checks the configuration. Nothing is loaded before Run.
func New(o Options) (*Probe, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("configure the eBPF probe: %w", err)
	}
	b, err := newBuckets(o.Config.Buckets)
	if err != nil {
		return nil, fmt.Errorf("configure the eBPF probe: %w", err)
	}
	p := &Probe{
		logger:  o.Logger,
		env:     &environment{config: o.Config, resolver: identity.New(o.Config.Proc)},
		states:  newStates(),
		started: make(chan struct{}),
	}
	p.features = []feature{newHTTP(b), newTCP()}
	for _, f := range p.features {
		p.states.set(f.name(), Off, "not started")
	}
	return p, nil
}

// Collectors gives the state of the features, and one collector for each of
// them. They may be registered before Run; what is not loaded exports nothing.
func (p *Probe) Collectors() []prometheus.Collector {
	c := []prometheus.Collector{p.states}
	for _, f := range p.features {
		c = append(c, f)
	}
	return c
}

// Started is closed when Run has tried to load every feature.
func (p *Probe) Started() <-chan struct{} { return p.started }

// Feature says what became of a feature.
func (p *Probe) Feature(name string) (State, string) { return p.states.get(name) }

// Run loads the features, keeps them until ctx ends, and detaches them. A
// feature that does not load is logged and reported, not returned. It may be
// called once.
func (p *Probe) Run(ctx context.Context) error {
	if id, err := selfID(); err == nil {
		p.env.self = id
	} else {
		p.env.self = uint32(os.Getpid())
	}
	var loaded []feature
	for _, f := range p.features {
		if !slices.Contains(p.env.config.Features, f.name()) {
			p.states.set(f.name(), Off, "configuration")
			continue
		}
		state, reason := climb(f, p.env)
		p.states.set(f.name(), state, reason)
		if state != Loaded {
			p.logger.Warn("eBPF feature is not available", "feature", f.name(), "state", string(state), "reason", reason)
			continue
		}
		p.logger.Info("eBPF feature is loaded", "feature", f.name(), "lacks", reason)
		loaded = append(loaded, f)
	}
	close(p.started)
	err := p.serve(ctx, loaded)
	for _, f := range loaded {
		if cerr := f.close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("detach eBPF feature %s: %w", f.name(), cerr))
		}
		p.states.set(f.name(), Off, "stopped")
	}
	return err
}

// serve names processes as they arrive and sweeps, until ctx ends.
func (p *Probe) serve(ctx context.Context, loaded []feature) error {
	var wg sync.WaitGroup
	var readers []*ringbuf.Reader
	defer wg.Wait()
	defer func() {
		for _, r := range readers {
			r.Close()
		}
	}()
	for _, f := range loaded {
		r, err := ringbuf.NewReader(f.arrivals())
		if err != nil {
			return fmt.Errorf("open the ring buffer of eBPF feature %s: %w", f.name(), err)
		}
		readers = append(readers, r)
		wg.Go(func() { p.greet(r) })
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, f := range loaded {
				f.sweep(now)
			}
			p.env.resolver.Sweep(now)
		}
	}
}

// greet resolves each process that the kernel sees for the first time, so that
// one that soon exits has a name.
func (p *Probe) greet(r *ringbuf.Reader) {
	var record ringbuf.Record
	for {
		if err := r.ReadInto(&record); err != nil {
			return // closed
		}
		if k, thread, ok := decodeArrival(record.RawSample); ok {
			p.env.resolver.Resolve(k, thread)
		}
	}
}

// decodeArrival reads struct process of kernel.h.
func decodeArrival(b []byte) (identity.Key, string, bool) {
	if len(b) < 32 {
		return identity.Key{}, "", false
	}
	k := identity.Key{
		StartNanos: binary.NativeEndian.Uint64(b),
		PID:        binary.NativeEndian.Uint32(b[8:]),
	}
	thread, _, _ := bytes.Cut(b[16:32], []byte{0})
	return k, string(thread), true
}
