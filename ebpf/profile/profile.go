package profile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/profile/symbol"
)

// How often samples are read out of the kernel. Soon enough that most processes
// still live when their functions are looked up; sooner where many processors
// would fill the maps.
const (
	drainEvery  = 5 * time.Second
	drainAtMost = time.Second
)

// Feature samples stacks and holds them.
type Feature struct {
	config  Config
	store   *store
	metrics *metrics

	mu      sync.Mutex
	env     *feature.Environment
	objects *bpf.ProfileObjects // nil: not loaded; this and what follows under mu
	events  *events
	symbols *symbol.Symboliser
	every   time.Duration
	since   time.Time // when the samples in the kernel began
	active  uint32    // which set of maps samples go to
	batch   batch
}

// New returns the feature, not loaded.
func New(c Config) *Feature {
	return &Feature{config: c, store: newStore(c), metrics: newMetrics()}
}

// Name is profile.
func (f *Feature) Name() string { return "profile" }

// Ladder has one way.
func (f *Feature) Ladder() []feature.Rung { return []feature.Rung{{Way: "clock", Load: f.load}} }

func (f *Feature) load(env *feature.Environment) error {
	spec, err := bpf.LoadProfile()
	if err != nil {
		return fmt.Errorf("read the profiler's program: %w", err)
	}
	cpus, err := readCPUs()
	if err != nil {
		return err
	}
	every, entries := pace(f.config.Frequency, len(cpus), env.MaxSeries)
	for _, m := range []string{bpf.ProfileMapCountsEven, bpf.ProfileMapCountsOdd} {
		spec.Maps[m].MaxEntries = entries
	}
	for _, m := range []string{bpf.ProfileMapStacksEven, bpf.ProfileMapStacksOdd} {
		spec.Maps[m].MaxEntries = 2 * entries // of both sides
	}
	if err := spec.Variables[bpf.ProfileVarSelfTgid].Set(env.Self); err != nil {
		return fmt.Errorf("set the profiler's own process: %w", err)
	}
	objects := new(bpf.ProfileObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the profiler's program: %w", err)
	}
	e := &events{program: objects.Profile.FD(), frequency: f.config.Frequency, open: make(map[int]int)}
	if err := e.follow(cpus); err != nil {
		e.close()
		objects.Close()
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.events, f.every = env, objects, e, every
	f.symbols = symbol.New(symbol.Options{Proc: env.Proc, MaxBytes: f.config.SymbolBytes})
	f.since, f.active = time.Now(), 0
	if !f.symbols.HasKernel() {
		env.Logger.Warn("the kernel does not tell its functions, so profiles have none of them", "setting", "kernel.kptr_restrict")
	}
	return nil
}

// pace says how often the maps are emptied and how many entries they have: as
// many as there are samples until then, for then nothing can be lost; but not
// more than limit.
func pace(frequency, cpus, limit int) (time.Duration, uint32) {
	perSecond := frequency * max(cpus, 1)
	every := time.Duration(limit) * time.Second / time.Duration(perSecond)
	every = min(max(every.Truncate(time.Second), drainAtMost), drainEvery)
	// A drain is late sometimes: a second more than needed.
	return every, uint32(min(perSecond*int(every/time.Second+1), limit))
}

// Arrivals has none for others: Run reads them.
func (f *Feature) Arrivals() *ebpf.Map { return nil }

// Close stops the clocks and frees the maps. What was sampled stays.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events.close()
	err := f.objects.Close()
	f.objects, f.events, f.symbols = nil, nil, nil
	return err
}

// Run reads the samples until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	f.mu.Lock()
	r, err := ringbuf.NewReader(f.objects.Arrivals)
	every := f.every
	f.mu.Unlock()
	if err != nil {
		return fmt.Errorf("open the ring buffer of the profiler: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer r.Close()
	wg.Go(func() { f.greet(r) })
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return f.drain()
		case <-tick.C:
			if err := f.drain(); err != nil {
				return err
			}
		}
	}
}

// greet names processes and reads what they map as soon as they are sampled for
// the first time: short-lived ones are gone when the samples are read.
func (f *Feature) greet(r *ringbuf.Reader) {
	f.mu.Lock()
	resolver, symbols := f.env.Resolver, f.symbols
	f.mu.Unlock()
	var record ringbuf.Record
	for {
		if err := r.ReadInto(&record); err != nil {
			return // closed
		}
		if k, thread, ok := decodeProcess(record.RawSample); ok {
			resolver.Resolve(k, thread)
			symbols.Note(k)
		}
	}
}

// decodeProcess reads struct process of kernel.h.
func decodeProcess(b []byte) (identity.Key, string, bool) {
	if len(b) < 32 {
		return identity.Key{}, "", false
	}
	k := identity.Key{StartNanos: binary.NativeEndian.Uint64(b), PID: binary.NativeEndian.Uint32(b[8:])}
	return k, text(b[16:32]), true
}

// Sweep forgets processes that are gone.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	f.symbols.Sweep(f.env.Resolver.Alive)
	f.metrics.forget(now)
}

// drain takes the samples out of the kernel and into the store.
func (f *Feature) drain() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return nil
	}
	begin := time.Now()
	at := f.since
	f.since = begin
	counts, stacks := f.objects.CountsEven, f.objects.StacksEven
	if f.active == 1 {
		counts, stacks = f.objects.CountsOdd, f.objects.StacksOdd
	}
	f.active = 1 - f.active
	if err := f.objects.Active.Set(f.active); err != nil {
		return fmt.Errorf("turn the samples to the other maps: %w", err)
	}
	if err := f.wait(); err != nil {
		return err
	}
	if err := f.batch.read(counts, stacks); err != nil {
		return err
	}
	read := time.Now()
	f.store.advance(at)
	f.keep(at)
	f.symbols.Release()
	cpus, err := readCPUs()
	if err == nil {
		err = f.events.follow(cpus)
	}
	if err != nil {
		f.env.Logger.Warn("profiler does not follow the processors", "error", err)
	}
	f.metrics.took(read.Sub(begin), time.Since(read))
	return nil
}

// wait returns when no program that saw the former set is under way.
func (f *Feature) wait() error {
	inner, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make a map to wait for the profiler's programs: %w", err)
	}
	defer inner.Close()
	if err := f.objects.Gate.Put(uint32(0), inner); err != nil {
		return fmt.Errorf("wait for the profiler's programs: %w", err)
	}
	return nil
}

// keep names the stacks of the batch and puts them into the store.
func (f *Feature) keep(at time.Time) {
	var user, kernel, whole []symbol.Frame
	for i := range f.batch.counts {
		c := &f.batch.counts[i]
		from, root := f.whose(&c.key)
		user, kernel = user[:0], kernel[:0]
		k := identity.Key{PID: c.key.Tgid, StartNanos: c.key.StartNs}
		if a, ok := f.batch.stack(c.key.User); ok {
			user = f.symbols.User(user, k, a)
		} else if c.key.User == lostStack {
			user = append(user, symbol.Frame{Name: "[lost]"})
		}
		if a, ok := f.batch.stack(c.key.Kernel); ok {
			kernel = f.symbols.Kernel(kernel, a)
		} else if c.key.Kernel == lostStack {
			kernel = append(kernel, symbol.Frame{Name: "[lost]", Object: "kernel"})
		}
		whole = assemble(whole[:0], root, user, kernel)
		f.metrics.count(from.Who, c.n, at, f.env.MaxSeries)
		if !f.store.add(at, from, whole, uint32(c.n)) {
			f.metrics.refuse(c.n)
		}
	}
}

// assemble gives the whole stack, the outermost frame first. root is "" or what
// stands before.
func assemble(dst []symbol.Frame, root string, user, kernel []symbol.Frame) []symbol.Frame {
	if root != "" {
		dst = append(dst, symbol.Frame{Name: root, Object: "kernel"})
	}
	for i := len(user) - 1; i >= 0; i-- {
		if user[i].Name == symbol.Unknown && i < len(user)-1 && user[i+1].Name == symbol.Unknown {
			continue // code without frame pointers leads astray, often far
		}
		dst = append(dst, user[i])
	}
	for i := len(kernel) - 1; i >= 0; i-- {
		dst = append(dst, kernel[i])
	}
	return dst
}

// whose names the process of a sample. The threads of the kernel are one service,
// with what they are called as the outermost frame.
func (f *Feature) whose(k *bpf.ProfileProfileKey) (from source, root string) {
	if k.Kthread != 0 {
		return source{Who: feature.Who{Service: "kernel"}}, kthread(text(k.Comm[:]))
	}
	from = source{f.env.Whose(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, ""), k.Tgid}
	if from.Service == "" {
		from.Service = "unknown" // gone before it could be asked
	}
	return from, ""
}

// errNotLoaded says that there is nothing to ask.
var errNotLoaded = errors.New("the eBPF feature profile is not loaded")

// loaded says whether samples are taken.
func (f *Feature) loaded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects != nil
}
