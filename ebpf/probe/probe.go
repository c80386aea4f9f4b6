package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	features []*watched
	names    *caller // of env.Resolver
	states   *states
	buckets  *feature.Buckets
	spans    *span.Recorder // nil: nobody wants any
	started  chan struct{}  // closed when every feature was tried
	closing  chan struct{}  // closed when the features are to be detached
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
		started: make(chan struct{}), closing: make(chan struct{}),
	}
	if o.Config.Spans.Ratio > 0 && o.WriteSpans != nil {
		p.spans = span.New(span.Options{Config: o.Config.Spans, Resolver: p.env.Resolver, Write: o.WriteSpans, Logger: o.Logger})
		p.env.Calls = p.spans
	}
	p.names = p.newCaller("identity")
	for _, f := range []feature.Feature{http1.New(b), stream.New(o.Config.Stream, o.Config.Buckets), tcp.New(), dns.New(o.Config.DNS, o.Config.Buckets), profile.New(o.Config.Profile), tls.New(o.Config.TLS, o.Config.Buckets), process.New(), block.New(), runq.New()} {
		p.features = append(p.features, p.newWatched(f))
		p.states.set(f.Name(), feature.Off, "not started")
	}
	return p, nil
}

// Collectors gives the state of the features, what they count, and the graph of
// services. They may be registered before Run; what is not loaded exports
// nothing. It may be called once.
func (p *Probe) Collectors() []prometheus.Collector {
	var all []source
	for _, w := range p.features {
		all = append(all, source{w.Feature, w.caller})
	}
	if p.spans != nil {
		all = append(all, source{p.spans, p.newCaller("spans")})
		all[len(all)-1].ready.Store(true)
	}
	return []prometheus.Collector{newTogether(all, p.states, newEdges(p.buckets))}
}

func (p *Probe) newCaller(name string) *caller { return newCaller(name, p.states, p.logger) }

// Started is closed when Run has tried to load every feature.
func (p *Probe) Started() <-chan struct{} { return p.started }

// Feature says what became of a feature.
func (p *Probe) Feature(name string) (feature.State, string) { return p.states.get(name) }

// Profiles gives the feature profile, which answers queries itself.
func (p *Probe) Profiles() *profile.Feature {
	for _, w := range p.features {
		if own, ok := w.Feature.(*profile.Feature); ok {
			return own
		}
	}
	return nil
}

// Run loads the features, keeps them until ctx ends, and detaches them. A
// feature that does not load is logged and reported, not returned; one that cannot
// be detached for it hangs is left to the end of the process. It may be called once.
func (p *Probe) Run(ctx context.Context) error {
	if id, err := feature.SelfID(); err == nil {
		p.env.Self = id
	} else {
		p.env.Self = uint32(os.Getpid())
	}
	p.checkNames()
	running := p.load(ctx)
	close(p.started)
	spans := make(chan struct{})
	go func() {
		defer close(spans)
		if p.spans != nil {
			_ = p.spans.Run(ctx)
		}
	}()
	p.sweep(ctx, running)
	return p.end(running, spans)
}

// load begins to watch the features that are wanted, and returns when each was
// tried, or has been given up waiting for: it is watched when it is loaded.
func (p *Probe) load(ctx context.Context) (running []*watched) {
	blind := feature.MissingToLook("/proc/self/status")
	if blind != "" {
		blind = "sees less of the processes of other users: missing " + blind
	}
	var began []time.Time
	for _, w := range p.features {
		if !slices.Contains(p.config.Features, w.Name()) {
			p.states.set(w.Name(), feature.Off, "configuration")
			continue
		}
		if own, ok := w.Feature.(feature.Optional); ok && own.Off() != "" {
			p.states.set(w.Name(), feature.Off, own.Off())
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		running, began = append(running, w), append(began, time.Now())
		go p.watch(ctx, w, blind)
		wait(ctx, w.tried, loadTurn)
	}
	for i, w := range running {
		if !wait(ctx, w.tried, loadWithin-time.Since(began[i])) && ctx.Err() == nil {
			w.giveUp()
		}
	}
	return running
}

// sweep has the features and the resolver forget what is gone, until ctx ends.
func (p *Probe) sweep(ctx context.Context, running []*watched) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	callers := make([]*caller, len(running)+1)
	callers[len(running)] = p.names
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for i, w := range running {
				callers[i] = nil
				if w.ready.Load() {
					callers[i] = w.caller
				}
			}
			calls := askAll(ctx, callers, "sweep", func(i int) error {
				if i < len(running) {
					running[i].Sweep(now)
				} else {
					p.env.Resolver.Sweep(now)
				}
				return nil
			})
			for i, k := range calls {
				if k != nil && k.err != nil {
					p.logger.Error("eBPF feature cannot forget what is gone", "feature", callers[i].name, "error", k.err)
				}
			}
		}
	}
}

// end waits until nothing runs any more, and has the features detached.
func (p *Probe) end(running []*watched, spans <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	working, stop := context.WithTimeout(ctx, endWithin/2) // the others are to be detached yet
	defer stop()
	for _, w := range running {
		wait(working, w.served, endWithin)
	}
	var errs []error
	if !wait(ctx, spans, endWithin) {
		errs = append(errs, fmt.Errorf("write the last spans: not done within %s", endWithin))
	}
	close(p.closing)
	for _, w := range running {
		if wait(ctx, w.ended, endWithin) {
			errs = append(errs, w.err)
			continue
		}
		what := w.underWay()
		p.states.hang(w.Name(), "no end of "+what)
		errs = append(errs, fmt.Errorf("detach eBPF feature %s: %s has not returned within %s", w.Name(), what, endWithin))
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
