package tcp

import (
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// lostReasons names the kernel's counters of what was not counted.
var lostReasons = map[bpf.TcpTcpStat]string{
	bpf.TcpTcpStatTCP_STAT_FULL:    "map_full",
	bpf.TcpTcpStatTCP_STAT_UNOWNED: "unowned",
}

// programs is the source that counts in the kernel.
type programs struct {
	objects *bpf.TcpObjects
	links   []link.Link
	walk    *link.Iter
}

// newPrograms loads and attaches the programs, and takes stock of what is open.
func newPrograms(env *feature.Environment) (source, error) {
	spec, err := bpf.LoadTcp()
	if err != nil {
		return nil, fmt.Errorf("read the TCP programs: %w", err)
	}
	spec.Maps[bpf.TcpMapFlows].MaxEntries = uint32(env.MaxSeries)
	spec.Maps[bpf.TcpMapFailures].MaxEntries = uint32(env.MaxSeries)
	if err := spec.Variables[bpf.TcpVarSelfTgid].Set(env.Self); err != nil {
		return nil, fmt.Errorf("set the TCP programs' own process: %w", err)
	}
	objects := new(bpf.TcpObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return nil, fmt.Errorf("load the TCP programs: %w", err)
	}
	links, err := feature.AttachAll(objects.TcpState)
	if err != nil {
		objects.Close()
		return nil, fmt.Errorf("attach the TCP programs: %w", err)
	}
	walk, err := link.AttachIter(link.IterOptions{Program: objects.TcpWalk})
	if err != nil {
		_ = feature.CloseAll(links)
		objects.Close()
		return nil, fmt.Errorf("attach the iterator of TCP sockets: %w", err)
	}
	p := &programs{objects: objects, links: links, walk: walk}
	// First the listeners; then stock is taken of older connections, for what
	// they have carried before is not counted.
	ignore := func(bpf.TcpTcpKey, uint32) {}
	if err = p.update(ignore); err == nil {
		err = objects.ListenersKnown.Set(uint32(1))
	}
	if err == nil {
		err = p.update(ignore)
	}
	if err != nil {
		_ = p.close()
		return nil, fmt.Errorf("take stock of the TCP connections: %w", err)
	}
	return p, nil
}

func (p *programs) arrivals() *ebpf.Map { return p.objects.Arrivals }

func (p *programs) close() error {
	err := feature.CloseAll(append(p.links, p.walk))
	p.objects.Close()
	return err
}

func (p *programs) update(visit func(k bpf.TcpTcpKey, rttUS uint32)) error {
	r, err := p.walk.Open()
	if err != nil {
		return fmt.Errorf("open the iterator of TCP sockets: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("walk the TCP sockets: %w", err)
	}
	const size = int(unsafe.Sizeof(bpf.TcpTcpOpen{}))
	for ; len(b) >= size; b = b[size:] {
		var o bpf.TcpTcpOpen
		copy((*[size]byte)(unsafe.Pointer(&o))[:], b)
		visit(o.Key, o.RttUs)
	}
	return nil
}

func (p *programs) servers(visit func(at feature.Place, who identity.Key)) error {
	return feature.EachEntry(p.objects.Servers, func(at bpf.TcpTcpPlace, k *bpf.TcpProcessKey) {
		visit(feature.Place{Addr: feature.AddrOf(at.Addr), NetNS: at.Netns, Port: at.Port}, identity.Key{PID: k.Tgid, StartNanos: k.StartNs})
	})
}

func (p *programs) flows(visit func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue)) error {
	return feature.EachEntry(p.objects.Flows, visit)
}

func (p *programs) failures(visit func(k bpf.TcpTcpFailure, n uint64)) error {
	return feature.EachEntry(p.objects.Failures, func(k bpf.TcpTcpFailure, n *uint64) { visit(k, *n) })
}

func (p *programs) drop(k entryKey) error {
	if k.failed {
		return p.objects.Failures.Delete(k.TcpTcpFailure)
	}
	return p.objects.Flows.Delete(k.Remote)
}

func (p *programs) lost() (map[string]uint64, error) {
	lost := map[string]uint64{"recursion": feature.Missed(p.objects.TcpState)}
	err := feature.EachStat(p.objects.Stats, lostReasons, func(reason string, n uint64) { lost[reason] = n })
	return lost, err
}
