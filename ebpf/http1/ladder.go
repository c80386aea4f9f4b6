package http1

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
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
}

const (
	lateStart = "durations begin when the server reads, not when data arrives"
	noClose   = "what a closing connection leaves is not counted"
)

// ways, best first.
var ways = []way{
	{name: "tracepoints", spec: bpf.LoadHttp},
	{name: "tracepoints without ready", lacks: lateStart, spec: bpf.LoadHttp, without: []string{bpf.HttpProgReady}},
	{name: "tracepoints alone", lacks: lateStart + "; " + noClose, spec: bpf.LoadHttp,
		without: []string{bpf.HttpProgReady, bpf.HttpProgClosed}},
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost", spec: bpf.LoadHttpFexit, mend: mendFunctions},
	{name: "kprobe", lacks: "hooks functions of the kernel (kprobe), at a higher cost; spans; bodies that are received by splice; follows 16384 connections",
		spec: bpf.LoadHttpKprobe, mend: mendKprobe},
	{name: "fexit bounded", lacks: "hooks functions of the kernel (fexit), at a higher cost; messages beyond 512 steps of one read or write",
		spec: bpf.LoadHttpFexitBounded, mend: mendFunctions},
	{name: "kprobe bounded", lacks: "hooks functions of the kernel (kprobe), at a higher cost; spans; bodies that are received by splice; follows 16384 connections; messages beyond 512 steps of one read or write",
		spec: bpf.LoadHttpKprobeBounded, mend: mendKprobe},
}

// Ladder drops what older kernels lack.
func (f *Feature) Ladder() []feature.Rung {
	var rungs []feature.Rung
	for _, w := range ways {
		if f.only != "" && w.name != f.only {
			continue
		}
		rungs = append(rungs, feature.Rung{Lacks: w.lacks, Load: func(env *feature.Environment) error { return f.load(env, w) }})
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

// mendFunctions leaves out functions that the kernel has not, and tells how many
// arguments tcp_recvmsg has.
func mendFunctions(spec *ebpf.CollectionSpec) error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	for name, p := range spec.Programs {
		if p.AttachTo != "tcp_sendpage" && p.AttachTo != "tcp_splice_read" {
			continue
		}
		var f *btf.Func
		if types.TypeByName(p.AttachTo, &f) != nil {
			delete(spec.Programs, name)
		}
	}
	var receive *btf.Func
	if err := types.TypeByName("tcp_recvmsg", &receive); err != nil {
		return err
	}
	proto, ok := receive.Type.(*btf.FuncProto)
	if !ok || (len(proto.Params) != 5 && len(proto.Params) != 6) {
		return errArguments
	}
	return spec.Variables[bpf.HttpFexitVarReceiveArguments].Set(uint32(len(proto.Params)))
}

var errArguments = fmt.Errorf("tcp_recvmsg has other arguments than the 5 or 6 that are known: %w", ebpf.ErrNotSupported)

// mendKprobe takes memory for the maps beforehand, as kprobes want it, and drops
// the map that only programs with types can use.
func mendKprobe(spec *ebpf.CollectionSpec) error {
	spec.Maps[bpf.HttpKprobeMapRequests].Flags = 0
	delete(spec.Maps, bpf.HttpKprobeMapConns)
	return mendFunctions(spec)
}

// attach attaches every program where its section says. What is counted last,
// received data, comes last, so that it finds all that it needs.
func attach(spec *ebpf.CollectionSpec, programs map[string]*ebpf.Program) ([]link.Link, error) {
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names) // closed, ready, received, sent
	var links []link.Link
	for _, name := range names {
		l, err := attachOne(spec.Programs[name], programs[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), feature.CloseAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

func attachOne(spec *ebpf.ProgramSpec, p *ebpf.Program) (link.Link, error) {
	switch spec.Type {
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: p, AttachType: spec.AttachType})
	case ebpf.Kprobe:
		if strings.HasPrefix(spec.SectionName, "kretprobe/") {
			// Each call that is under way needs room, and servers wait in them. Only
			// tracefs can be asked for more of it than a few to each processor.
			l, err := link.Kretprobe(spec.AttachTo, p, &link.KprobeOptions{RetprobeMaxActive: 4096})
			if err == nil {
				return l, nil
			}
			return link.Kretprobe(spec.AttachTo, p, nil)
		}
		return link.Kprobe(spec.AttachTo, p, nil)
	}
	return nil, fmt.Errorf("no way to attach programs of type %s", spec.Type)
}
