package feature

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// FitFunctions fits programs that hook functions of the kernel (fentry, fexit,
// kprobe) to the one that runs: those whose function it has not are left out, they
// are told how many arguments tcp_recvmsg has, and kprobes' maps take their memory
// beforehand.
func FitFunctions(spec *ebpf.CollectionSpec) error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	var receive *btf.Func
	if err := types.TypeByName("tcp_recvmsg", &receive); err != nil {
		return err
	}
	copies := false
	for name, p := range spec.Programs {
		if !hooksFunction(p) {
			continue
		}
		copies = copies || p.Type == ebpf.Kprobe
		var f *btf.Func
		if types.TypeByName(p.AttachTo, &f) != nil {
			delete(spec.Programs, name)
		}
	}
	for _, m := range spec.Maps {
		if copies && m.Type == ebpf.Hash {
			m.Flags = 0
		}
	}
	proto, ok := receive.Type.(*btf.FuncProto)
	if !ok || len(proto.Params) < 4 || len(proto.Params) > 6 {
		return errArguments
	}
	return spec.Variables["receive_arguments"].Set(uint32(len(proto.Params)))
}

var errArguments = fmt.Errorf("tcp_recvmsg has other arguments than the 4 to 6 that are known: %w", ebpf.ErrNotSupported)

func hooksFunction(p *ebpf.ProgramSpec) bool {
	switch p.Type {
	case ebpf.Tracing:
		return p.AttachType == ebpf.AttachTraceFEntry || p.AttachType == ebpf.AttachTraceFExit
	case ebpf.Kprobe:
		return strings.HasPrefix(p.SectionName, "kprobe/") || strings.HasPrefix(p.SectionName, "kretprobe/")
	}
	return false
}

// AttachSections attaches every program where its section says, in the order of
// their names; uprobes are left alone. On an error nothing stays attached.
func AttachSections(spec *ebpf.CollectionSpec, programs map[string]*ebpf.Program) ([]link.Link, error) {
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	var links []link.Link
	for _, name := range names {
		s := spec.Programs[name]
		if s.Type == ebpf.Kprobe && !hooksFunction(s) {
			continue
		}
		l, err := attachSection(s, programs[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), CloseAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

func attachSection(spec *ebpf.ProgramSpec, p *ebpf.Program) (link.Link, error) {
	switch spec.Type {
	case ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: p, AttachType: spec.AttachType})
	case ebpf.RawTracepoint:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: strings.TrimPrefix(spec.SectionName, "raw_tp/"), Program: p})
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

// MissedBy adds up how often the programs did not run, because they were running
// already on the same processor.
func MissedBy(programs map[string]*ebpf.Program) uint64 {
	var n uint64
	for _, p := range programs {
		n += Missed(p)
	}
	return n
}
