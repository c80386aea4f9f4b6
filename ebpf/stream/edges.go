package stream

import (
	"math"
	"math/bits"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// tellEdgeLocked tells who asked whom, as the client saw it. What is not of this
// host goes by its address.
func (t *Table) tellEdgeLocked(visit func(*feature.Edge), slots []int, s *series, v *totals) {
	if visit == nil || s.server || !s.address.IsValid() && !s.crowded {
		return
	}
	server := other
	if !s.crowded {
		server = t.env.Peers.NameOf(s.address, s.port)
	}
	e := feature.Edge{
		Client: s.Service, Server: server, Type: connectionType(s.kind),
		Failed: v.failures, DurationNanos: uint64(v.durationNanos), Durations: make([]uint64, feature.MaxSlots),
	}
	for i, n := range v.durations {
		e.Requests += n
		e.Durations[slots[i]] += n
	}
	visit(&e)
}

// connectionType is the service graph's.
func connectionType(k protocol.Kind) string {
	switch {
	case isDatabase(k):
		return "database"
	case k == protocol.Kafka:
		return "messaging_system"
	}
	return ""
}

// slotsOf gives, for each bound, the slot of feature.Buckets that ends there, and
// the last slot for what is above all of them.
func slotsOf(bounds []float64) ([]int, error) {
	b, err := feature.NewBuckets(bounds)
	if err != nil {
		return nil, err
	}
	slot := func(nanos uint64) int {
		// as duration_slot of http_core.h
		v := max(nanos, 1) - 1
		e := max(bits.Len64(v), 1) - 1
		f := 0
		switch {
		case e >= 34:
			f = 81
		case e >= 14:
			f = 1 + (e-14)*4 + int(v>>(e-2)&3)
		}
		if nanos > b.Edge[f] {
			return int(b.Slot[f]) + 1
		}
		return int(b.Slot[f])
	}
	var slots []int
	for _, bound := range bounds {
		slots = append(slots, slot(uint64(math.Round(bound*1e9))))
	}
	return append(slots, slot(math.MaxUint64)), nil
}
