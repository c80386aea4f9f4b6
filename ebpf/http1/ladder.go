package http1

import (
	"errors"
	"fmt"
	"slices"

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
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost", spec: bpf.LoadHttpFexit, mend: mendFexit},
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

// mendFexit leaves out functions that later kernels have not, and tells how many
// arguments tcp_recvmsg has.
func mendFexit(spec *ebpf.CollectionSpec) error {
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
		return errors.New("tcp_recvmsg has other arguments than 5 or 6")
	}
	return spec.Variables[bpf.HttpFexitVarReceiveArguments].Set(uint32(len(proto.Params)))
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
	}
	return nil, fmt.Errorf("no way to attach programs of type %s", spec.Type)
}
