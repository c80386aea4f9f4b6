package probe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// states is vedette_ebpf_feature.
type states struct {
	desc *prometheus.Desc

	mu sync.Mutex
	of map[string][2]string // name to state and reason, under mu
}

func newStates() *states {
	return &states{
		desc: prometheus.NewDesc("vedette_ebpf_feature",
			"What became of each eBPF feature; the value is always 1. A loaded one has a reason when it does not see all it could.",
			[]string{"name", "state", "reason"}, nil),
		of: make(map[string][2]string),
	}
}

func (s *states) set(name string, state feature.State, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[name] = [2]string{string(state), reason}
}

func (s *states) get(name string) (feature.State, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of[name]
	return feature.State(v[0]), v[1]
}

// Describe sends the one description.
func (s *states) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

// Collect sends one series for each feature.
func (s *states) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.of {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, 1, name, v[0], v[1])
	}
}
