package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/block"
	"github.com/vedette-io/vedette/ebpf/dns"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/http1"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/process"
	"github.com/vedette-io/vedette/ebpf/profile"
	"github.com/vedette-io/vedette/ebpf/runq"
	"github.com/vedette-io/vedette/ebpf/span"
	"github.com/vedette-io/vedette/ebpf/stream"
	"github.com/vedette-io/vedette/ebpf/tcp"
	"github.com/vedette-io/vedette/ebpf/tls"
)

// sweepEvery is how often the counts of dead processes leave the kernel.
const sweepEvery = 10 * time.Second

// Options of New.
type Options struct {
	Config Config
	Logger *slog.Logger
	// Directory names containers and pods; nil: nobody does.
	Directory identity.Directory
	// WriteSpans takes spans as OTLP; nil: none are made.
	WriteSpans span.Write
}

// Probe watches processes through the kernel.
type Probe struct {
	config   Config
	logger   *slog.Logger
	env      *feature.Environment
	features []feature.Feature
	states   *states
	buckets  *feature.Buckets
	spans    *span.Recorder // nil: nobody wants any
	started  chan struct{}  // closed when every feature was tried
}

// New checks the configuration. Nothing is loaded before Run.
func New(o Options) (*Probe, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("configure the eBPF probe: %w", err)
	}
	b, err := feature.NewBuckets(o.Config.Buckets)
	if err != nil {
		return nil, fmt.Errorf("configure the eBPF probe: %w", err)
	}
	p := &Probe{
		config: o.Config,
		logger: o.Logger,
		env: &feature.Environment{
			PerProcess: o.Config.PerProcess, MaxSeries: o.Config.MaxSeries, Proc: o.Config.Proc,
			Resolver: identity.New(o.Config.Proc, o.Directory), Peers: new(feature.Peers), Logger: o.Logger,
		},
		buckets: b,
		states:  newStates(),
		started: make(chan struct{}),
	}
	if o.Config.Spans.Ratio > 0 && o.WriteSpans != nil {
		p.spans = span.New(span.Options{Config: o.Config.Spans, Resolver: p.env.Resolver, Write: o.WriteSpans, Logger: o.Logger})
		p.env.Calls = p.spans
	}
	p.features = []feature.Feature{http1.New(b), stream.New(o.Config.Stream, o.Config.Buckets), tcp.New(), dns.New(o.Config.DNS, o.Config.Buckets), profile.New(o.Config.Profile), tls.New(o.Config.TLS, o.Config.Buckets), process.New(), block.New(), runq.New()}
	for _, f := range p.features {
		p.states.set(f.Name(), feature.Off, "not started")
	}
	return p, nil
}

// Collectors gives the state of the features, what they count, and the graph of
// services. They may be registered before Run; what is not loaded exports
// nothing. It may be called once.
func (p *Probe) Collectors() []prometheus.Collector {
	var all []prometheus.Collector
	for _, f := range p.features {
		all = append(all, f)
	}
	if p.spans != nil {
		all = append(all, p.spans)
	}
	return []prometheus.Collector{p.states, newTogether(all, newEdges(p.buckets))}
}

// Started is closed when Run has tried to load every feature.
func (p *Probe) Started() <-chan struct{} { return p.started }

// Feature says what became of a feature.
func (p *Probe) Feature(name string) (feature.State, string) { return p.states.get(name) }

// Profiles gives the feature profile, which answers queries itself.
func (p *Probe) Profiles() *profile.Feature {
	for _, f := range p.features {
		if own, ok := f.(*profile.Feature); ok {
			return own
		}
	}
	return nil
}

// Run loads the features, keeps them until ctx ends, and detaches them. A
// feature that does not load is logged and reported, not returned. It may be
// called once.
func (p *Probe) Run(ctx context.Context) error {
	if id, err := feature.SelfID(); err == nil {
		p.env.Self = id
	} else {
		p.env.Self = uint32(os.Getpid())
	}
	p.checkNames()
	blind := feature.MissingToLook("/proc/self/status")
	if blind != "" {
		blind = "sees less of the processes of other users: missing " + blind
	}
	var loaded []feature.Feature
	for _, f := range p.features {
		if !slices.Contains(p.config.Features, f.Name()) {
			p.states.set(f.Name(), feature.Off, "configuration")
			continue
		}
		if own, ok := f.(feature.Optional); ok && own.Off() != "" {
			p.states.set(f.Name(), feature.Off, own.Off())
			continue
		}
		state, reason := feature.Climb(f, p.env)
		if _, ok := f.(feature.Anonymous); !ok && state == feature.Loaded && blind != "" {
			reason = strings.TrimPrefix(reason+"; "+blind, "; ")
		}
		p.states.set(f.Name(), state, reason)
		if state != feature.Loaded {
			p.logger.Warn("eBPF feature is not available", "feature", f.Name(), "state", string(state), "reason", reason)
			continue
		}
		if reason == "" {
			p.logger.Info("eBPF feature is loaded", "feature", f.Name())
		} else {
			p.logger.Info("eBPF feature is loaded in part", "feature", f.Name(), "lacks", reason)
		}
		loaded = append(loaded, f)
	}
	close(p.started)
	failures := p.serve(ctx, loaded)
	var errs []error
	for i, f := range loaded {
		if failures[i] != nil {
			continue // detached already
		}
		if err := f.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach eBPF feature %s: %w", f.Name(), err))
		}
		p.states.set(f.Name(), feature.Off, "stopped")
	}
	return errors.Join(errs...)
}

// checkNames warns where processes cannot be named, for /proc numbers them
// otherwise than the kernel's programs do.
func (p *Probe) checkNames() {
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil || p.env.Self == 0 {
		return
	}
	if !identity.SameProcess(own, filepath.Join(p.config.Proc, strconv.FormatUint(uint64(p.env.Self), 10))) {
		p.logger.Warn("eBPF: processes have no names but those of their threads, for proc does not number them as the host does",
			"proc", p.config.Proc, "remedy", "the host's process ids (hostPID, --pid=host), or its /proc mounted and named by proc")
	}
}

// serve runs the features and sweeps, until ctx ends. A feature that stops before
// is detached; what it stopped for is returned at its place.
func (p *Probe) serve(ctx context.Context, loaded []feature.Feature) []error {
	failures := make([]error, len(loaded))
	var wg sync.WaitGroup
	if p.spans != nil {
		for _, f := range loaded {
			if o, ok := f.(feature.Opener); ok {
				p.spans.Watch(o)
			}
		}
		wg.Go(func() { _ = p.spans.Run(ctx) })
	}
	for i, f := range loaded {
		wg.Go(func() {
			err := guard(func() error { return feature.Serve(ctx, f, p.env.Resolver) })
			if err == nil {
				return
			}
			failures[i] = errors.Join(err, f.Close())
			p.logger.Error("eBPF feature has stopped", "feature", f.Name(), "error", failures[i])
			p.states.set(f.Name(), feature.Off, feature.Reason("stopped: ", err))
		})
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			wg.Wait()
			return failures
		case now := <-tick.C:
			for _, f := range loaded {
				f.Sweep(now)
			}
			p.env.Resolver.Sweep(now)
		}
	}
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
