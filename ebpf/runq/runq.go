package runq

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// minExp is where the kernel's buckets begin, 1 µs; it mirrors runq.h.
const minExp = 10

// bounds of the histogram, in seconds. A wait is some microseconds where a
// processor is free, and some of the scheduler's slices of milliseconds where not.
var bounds = []float64{0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1}

// Feature counts waits.
type Feature struct {
	wait, averaged, lost, entries *prometheus.Desc
	labels                        feature.LabelNames // of wait

	mu      sync.Mutex
	env     *feature.Environment
	objects *bpf.RunqObjects // nil: not loaded; under mu
	links   []link.Link
	buckets *feature.Buckets
	ledger  *feature.Ledger[bpf.RunqProcessKey, feature.Who, bpf.RunqRunqValue]
}

// New returns the feature, not loaded.
func New() *Feature {
	f := &Feature{
		labels: feature.NewLabelNames(feature.WhoLabels[:]...),
		wait: prometheus.NewDesc("process_cpu_queue_duration_seconds",
			"How long threads that could run waited for a processor, once for each time they got one, told when they leave it again.", feature.WhoLabels[:], nil),
		averaged: prometheus.NewDesc("vedette_ebpf_runq_averaged_total",
			"Waits that were told together with others of their thread and are counted at the mean of those.", nil, nil),
		lost: prometheus.NewDesc("vedette_ebpf_runq_lost_total",
			"Waits for a processor that were not counted, by reason.", []string{"reason"}, nil),
		entries: prometheus.NewDesc("vedette_ebpf_runq_entries",
			"Processes whose waits the kernel keeps; see max_series.", nil, nil),
	}
	f.ledger = feature.NewLedger[bpf.RunqProcessKey, feature.Who](addWaits, func(k bpf.RunqProcessKey) error {
		return f.objects.Queues.Delete(k)
	})
	return f
}

// Name is runq.
func (f *Feature) Name() string { return "runq" }

// Ladder has one way.
func (f *Feature) Ladder() []feature.Rung { return []feature.Rung{{Way: "tracepoint", Load: f.load}} }

func (f *Feature) load(env *feature.Environment) error {
	if kernel, err := btf.LoadKernelSpec(); err == nil && !allocatesWhileSwitching(kernel) {
		return fmt.Errorf("memory for programs where threads are switched, as kernels have it from 6.4 on: %w", ebpf.ErrNotSupported)
	}
	buckets, err := feature.NewBucketsFrom(minExp, bounds)
	if err != nil {
		return fmt.Errorf("BUG: bounds of waits: %w", err)
	}
	spec, err := bpf.LoadRunq()
	if err != nil {
		return fmt.Errorf("read the run queue program: %w", err)
	}
	spec.Maps[bpf.RunqMapQueues].MaxEntries = uint32(env.MaxSeries)
	for name, v := range map[string]any{bpf.RunqVarSelfTgid: env.Self, bpf.RunqVarEdge: buckets.Edge, bpf.RunqVarSlot: buckets.Slot} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the run queue program: %w", name, err)
		}
	}
	objects := new(bpf.RunqObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the run queue program: %w", err)
	}
	// First the walk: threads that are older have no baseline else.
	if err := walk(objects.RunqWalk); err != nil {
		objects.Close()
		return err
	}
	links, err := feature.AttachAll(objects.RunqSwitch)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the run queue program: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links, f.buckets = env, objects, links, buckets
	return nil
}

// walk has the program meet each thread.
func walk(program *ebpf.Program) error {
	l, err := link.AttachIter(link.IterOptions{Program: program})
	if err != nil {
		return fmt.Errorf("attach the iterator of threads: %w", err)
	}
	defer l.Close()
	r, err := l.Open()
	if err != nil {
		return fmt.Errorf("open the iterator of threads: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("walk the threads: %w", err)
	}
	return nil
}

// types are those of a kernel.
type types interface {
	TypeByName(name string, typ any) error
}

// allocatesWhileSwitching says whether the kernel has memory set aside for what
// programs keep of a thread. Others ask the allocator, which may wake a thread to
// make some, and where threads are switched that needs the lock that is held: the
// processor stands still.
func allocatesWhileSwitching(kernel types) bool {
	var storage *btf.Struct
	if err := kernel.TypeByName("bpf_local_storage_map", &storage); err == nil {
		for _, m := range storage.Members {
			if m.Name == "selem_ma" {
				return true
			}
		}
	}
	var without *btf.Func // later kernels have an allocator that takes no locks
	return kernel.TypeByName("kmalloc_nolock_noprof", &without) == nil
}

// Arrivals is nil: to announce a process where threads are switched would wake
// the probe there. Processes are named when metrics are collected.
func (f *Feature) Arrivals() *ebpf.Map { return nil }

// Close detaches the program.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errors.Join(feature.CloseAll(f.links), f.objects.Close())
	f.objects, f.links = nil, nil
	return err
}

func (f *Feature) entriesLocked(visit func(*feature.Entry[bpf.RunqProcessKey, feature.Who, bpf.RunqRunqValue])) error {
	var e feature.Entry[bpf.RunqProcessKey, feature.Who, bpf.RunqRunqValue]
	return feature.EachEntry(f.objects.Queues, func(k bpf.RunqProcessKey, v *bpf.RunqRunqValue) {
		thread, _, _ := bytes.Cut(v.Comm[:], []byte{0})
		e.Key, e.Counted = k, v
		e.Process = identity.Key{PID: k.Tgid, StartNanos: k.StartNs}
		e.Series = f.env.Whose(e.Process, string(thread))
		visit(&e)
	})
}

func addWaits(sum, more *bpf.RunqRunqValue) {
	sum.WaitedNs += more.WaitedNs
	for i, n := range more.Waits {
		sum.Waits[i] += n
	}
}

// Sweep retires the waits of processes that are gone.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	_ = f.ledger.Sweep(now, f.env.Resolver, f.entriesLocked) // Collect reports what fails
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	ch <- f.wait
	ch <- f.averaged
	ch <- f.lost
	ch <- f.entries
}

// Collect reads the kernel's counts and folds processes into services.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	sums, n, err := f.ledger.Totals(f.entriesLocked)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	full, err := feature.SumStat(f.objects.Stats, uint32(bpf.RunqRunqStatRUNQ_STAT_FULL))
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	averaged, err := feature.SumStat(f.objects.Stats, uint32(bpf.RunqRunqStatRUNQ_STAT_AVERAGED))
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.averaged, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(f.averaged, prometheus.CounterValue, float64(averaged))
	ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(full), "map_full")
	ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(feature.Missed(f.objects.RunqSwitch)), "recursion")
	ch <- prometheus.MustNewConstMetric(f.entries, prometheus.GaugeValue, float64(n))
	for who, t := range sums {
		ch <- f.buckets.Histogram(f.wait, f.labels.Pairs(who.Values()...), t.Waits[:], float64(t.WaitedNs)/1e9)
	}
}
