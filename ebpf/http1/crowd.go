package http1

import (
	"maps"
	"net/netip"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// maxRemotes bounds the servers that are told of a process that asks, as in
// tcp.bpf.c; what it asks of others is one series, whose server is called other.
const (
	maxRemotes = 256
	other      = "_OTHER"
)

// crowds keeps the servers of each process few: a crawler's would leave no room for
// the series of others, in the kernel and out of it.
type crowds struct {
	told  map[identity.Key]map[netip.AddrPort]struct{}
	asked map[bpf.HttpHttpKey]uint64 // requests of what is not told, at the last sweep
}

func newCrowds() crowds {
	return crowds{told: make(map[identity.Key]map[netip.AddrPort]struct{})}
}

// tells says whether a server is one of the first that a process has asked.
func (c *crowds) tells(k identity.Key, server netip.AddrPort) bool {
	known := c.told[k]
	if _, ok := known[server]; ok {
		return true
	}
	if len(known) >= maxRemotes {
		return false
	}
	if known == nil {
		known = make(map[netip.AddrPort]struct{})
		c.told[k] = known
	}
	known[server] = struct{}{}
	return true
}

// sweeping marks those entries as over that are of no server that is told and have
// counted nothing since the last sweep: their counts leave the kernel. One of each
// series stays, as a sign that it has a process.
func (c *crowds) sweeping(entries feature.Visit[bpf.HttpHttpKey, series, totals]) feature.Visit[bpf.HttpHttpKey, series, totals] {
	return func(visit func(*feature.Entry[bpf.HttpHttpKey, series, totals])) error {
		asked := make(map[bpf.HttpHttpKey]uint64)
		seen := make(map[identity.Key]bool)
		type place struct {
			process identity.Key
			series  series
		}
		stays := make(map[place]bool)
		err := entries(func(e *feature.Entry[bpf.HttpHttpKey, series, totals]) {
			seen[e.Process] = true
			e.Over = false
			if e.Series.crowded {
				n := requests(e.Counted)
				last, known := c.asked[e.Key]
				at := place{e.Process, e.Series}
				e.Over = known && last == n && stays[at]
				stays[at] = stays[at] || !e.Over
				asked[e.Key] = n
			}
			visit(e)
		})
		if err == nil {
			c.asked = asked
			maps.DeleteFunc(c.told, func(k identity.Key, _ map[netip.AddrPort]struct{}) bool { return !seen[k] })
		}
		return err
	}
}

// requests is how many there were.
func requests(t *totals) (n uint64) {
	for _, d := range t.Durations {
		n += d
	}
	return n
}
