package http1

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// way is one set of programs that counts HTTP, whole or without some of them.
type way struct {
	name    string // for tests, which ask for each
	lacks   string
	spec    func() (*ebpf.CollectionSpec, error)
	without []string
	// mend fits the programs to the running kernel; nil: they need none of it.
	mend func(*ebpf.CollectionSpec) error
	// attach attaches the programs; nil: where their sections say.
	attach func(*ebpf.CollectionSpec, map[string]*ebpf.Program) ([]link.Link, error)
}

const (
	lateStart = "durations begin when the server reads, not when data arrives"
	noClose   = "what a closing connection leaves is not counted"
)

// ways that follow what sockets carry, best first.
var ways = []way{
	{name: "tracepoints", spec: bpf.LoadHttp},
	{name: "tracepoints without ready", lacks: lateStart, spec: bpf.LoadHttp, without: []string{bpf.HttpProgReady}},
	{name: "tracepoints alone", lacks: lateStart + "; " + noClose, spec: bpf.LoadHttp,
		without: []string{bpf.HttpProgReady, bpf.HttpProgClosed, bpf.HttpProgDestroyed}},
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost", spec: bpf.LoadHttpFexit, mend: feature.FitFunctions},
	{name: "kprobe", lacks: "hooks functions of the kernel (kprobe), at a higher cost; bodies that are received by splice; follows 16384 connections",
		spec: bpf.LoadHttpKprobe, mend: feature.FitFunctions},
	{name: "fexit bounded", lacks: "hooks functions of the kernel (fexit), at a higher cost; messages beyond 512 steps of one read or write",
		spec: bpf.LoadHttpFexitBounded, mend: feature.FitFunctions},
	{name: "kprobe bounded", lacks: "hooks functions of the kernel (kprobe), at a higher cost; bodies that are received by splice; follows 16384 connections; messages beyond 512 steps of one read or write",
		spec: bpf.LoadHttpKprobeBounded, mend: feature.FitFunctions},
	{name: "system calls", lacks: lacksOfCalls, spec: bpf.LoadHttpSyscall, mend: mendCopies},
	{name: "system calls without ready", lacks: lateStart + "; " + lacksOfCalls, spec: bpf.LoadHttpSyscall, mend: mendCopies,
		without: []string{bpf.HttpSyscallProgReady}},
}

// lacksOfCalls is worse about the way that hooks the return of system calls.
const lacksOfCalls = "looks at every system call of the host, at a higher cost; what io_uring does is not seen and not counted as lost; follows 16384 connections; messages beyond 512 steps of one read or write"

// Ladder drops what older kernels lack.
func (f *Feature) Ladder() []feature.Rung {
	var rungs []feature.Rung
	for _, w := range slices.Concat(ways, byPackets) {
		if f.only != "" && w.name != f.only || f.only == "" && f.followed && w.attach != nil {
			continue
		}
		rungs = append(rungs, feature.Rung{Way: w.name, Lacks: w.lacks, Load: func(env *feature.Environment) error { return f.load(env, w) }})
	}
	return rungs
}

// open reads the programs of a way, those that this kernel has a place for.
func (w *way) open() (*ebpf.CollectionSpec, error) {
	spec, err := w.spec()
	if err != nil {
		return nil, fmt.Errorf("read the HTTP programs: %w", err)
	}
	for _, name := range w.without {
		delete(spec.Programs, name)
	}
	if w.mend != nil {
		if err := w.mend(spec); err != nil {
			return nil, fmt.Errorf("fit the HTTP programs to the kernel: %w", err)
		}
	}
	return spec, nil
}

// mendCopies takes memory for the map beforehand, as raw tracepoints want it.
func mendCopies(spec *ebpf.CollectionSpec) error {
	spec.Maps[bpf.HttpMapRequests].Flags = 0
	return nil
}
