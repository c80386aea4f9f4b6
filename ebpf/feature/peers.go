package feature

import (
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Place is where connections come in. NetNS is the inode number of the network
// namespace of a loopback address, and 0 with others.
type Place struct {
	Addr  netip.Addr
	NetNS uint32
	Port  uint16
}

// Peers says which service of this host answers where, so that those who ask
// can be told whom they ask. It is safe for use by several goroutines; the zero
// value knows nobody.
type Peers struct {
	mu     sync.RWMutex
	places map[netip.AddrPort]map[uint32]string // by namespace; under mu
}

// Set replaces what is known.
func (p *Peers) Set(services map[Place]string) {
	places := make(map[netip.AddrPort]map[uint32]string, len(services))
	for at, service := range services {
		k := netip.AddrPortFrom(at.Addr, at.Port)
		if places[k] == nil {
			places[k] = make(map[uint32]string, 1)
		}
		places[k][at.NetNS] = service
	}
	p.mu.Lock()
	p.places = places
	p.mu.Unlock()
}

// Service names the service that answers at an address; "" if that is not known,
// or if it is a loopback address at which several namespaces answer differently.
func (p *Peers) Service(addr netip.Addr, port uint16) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	name := ""
	for _, service := range p.places[netip.AddrPortFrom(addr, port)] {
		if name != "" && service != name {
			return ""
		}
		name = service
	}
	return name
}

// NameOf is Service, or the address and port where no service is known.
func (p *Peers) NameOf(addr netip.Addr, port uint16) string {
	if name := p.Service(addr, port); name != "" {
		return name
	}
	return netip.AddrPortFrom(addr, port).String()
}

// Edge is what one service has asked of another.
type Edge struct {
	Client, Server   string
	Type             string // as traces_service_graph's connection_type: "", "database", "messaging_system"
	Requests, Failed uint64
	DurationNanos    uint64
	Durations        []uint64 // slots of the probe's Buckets, or nil
}

// Asker is a feature that knows who asks whom.
type Asker interface {
	// CollectEdges is Collect that also calls visit for each of its edges, out of
	// what it reads for its metrics; several may be of the same pair. The edge is
	// valid during the call. Counts never fall while the client runs. An error says
	// that not all were visited; it is among the metrics, too. A visit of nil is
	// none.
	CollectEdges(ch chan<- prometheus.Metric, visit func(*Edge)) error
}
