package http1

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

const lacksOfPackets = "looks at packets: requests are counted by the server's port, without processes, and the probe's own with them; " +
	"clients, sizes, spans, pipelined requests, responses that never begin, messages that do not begin a packet; " +
	"a duration ends when the response begins; follows 16384 connections"

// byPackets are the last ways, and all of them is other: their programs are attached
// to the control group that all processes are in, and their maps are fewer.
var byPackets = []way{
	{name: "packets", lacks: lacksOfPackets, spec: bpf.LoadHttpSkb, without: []string{bpf.HttpSkbProgArrivesAlone}, mend: mendPackets, attach: attachPackets},
	{name: "packets alone", lacks: lacksOfPackets + "; requests that end a handshake", spec: bpf.LoadHttpSkb,
		without: []string{bpf.HttpSkbProgArrives}, mend: mendPackets, attach: attachPackets},
}

// mendPackets drops the maps that tell of processes, which kernels before 5.8 have
// no type for.
func mendPackets(spec *ebpf.CollectionSpec) error {
	delete(spec.Maps, bpf.HttpSkbMapArrivals)
	delete(spec.Maps, bpf.HttpSkbMapKnown)
	return nil
}

// attachPackets attaches the programs to the root of the control groups.
func attachPackets(_ *ebpf.CollectionSpec, programs map[string]*ebpf.Program) ([]link.Link, error) {
	groups, err := openGroups()
	if err != nil {
		return nil, missing(err, "CAP_SYS_ADMIN")
	}
	defer groups.Close()
	var links []link.Link
	for _, at := range []struct {
		program string
		attach  ebpf.AttachType
	}{
		// first where what the other one looks for begins
		{bpf.HttpSkbProgArrives, ebpf.AttachCGroupInetIngress},
		{bpf.HttpSkbProgArrivesAlone, ebpf.AttachCGroupInetIngress},
		{bpf.HttpSkbProgLeaves, ebpf.AttachCGroupInetEgress},
	} {
		if programs[at.program] == nil {
			continue
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: fmt.Sprintf("/proc/self/fd/%d", groups.Fd()), Attach: at.attach, Program: programs[at.program]})
		if err != nil {
			err = missing(err, "CAP_NET_ADMIN")
			return nil, errors.Join(fmt.Errorf("attach %s to the control groups: %w", at.program, err), feature.CloseAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

// missing says which right an error means.
func missing(err error, right string) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("missing %s: %w", right, err)
	}
	return err
}
