package http1

import (
	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// tellEdge tells who asked whom, of a client's series. What is not of this host goes
// by its address. As OpenTelemetry has it, a client's request has failed when it was
// answered 4xx or 5xx, or not at all.
func (f *Feature) tellEdge(visit func(*feature.Edge), s *series, t *totals) {
	if visit == nil || s.role != bpf.HttpRoleROLE_CLIENT {
		return
	}
	server := other
	if !s.crowded {
		server = f.env.Peers.NameOf(s.server, s.port)
	}
	e := feature.Edge{
		Client: s.Service, Server: server,
		Requests: requests(t), DurationNanos: t.DurationNs, Durations: t.Durations[:],
	}
	if s.status == 0 || s.status >= 400 {
		e.Failed = e.Requests
	}
	visit(&e)
}
