package probe

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/feature"
)

// states is vedette_ebpf_feature.
type states struct {
	desc *prometheus.Desc

	mu   sync.Mutex
	of   map[string][2]string // name to state and reason, under mu
	hung map[string]string    // name to why, of those that do not answer, under mu
}

func newStates() *states {
	return &states{
		desc: prometheus.NewDesc("vedette_ebpf_feature",
			"What became of each eBPF feature; the value is always 1. A loaded one has a reason when it does not see all it could.",
			[]string{"name", "state", "reason"}, nil),
		of: make(map[string][2]string), hung: make(map[string]string),
	}
}

func (s *states) set(name string, state feature.State, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[name] = [2]string{string(state), reason}
	delete(s.hung, name)
}

// hang notes that a feature does not answer, until answers or set is called.
func (s *states) hang(name, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung[name] = reason
}

func (s *states) answers(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hung, name)
}

func (s *states) get(name string) (feature.State, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason, ok := s.hung[name]; ok {
		return feature.Hung, reason
	}
	v := s.of[name]
	return feature.State(v[0]), v[1]
}

// collect sends one series for each feature, and for what else does not answer.
func (s *states) collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.of {
		if _, ok := s.hung[name]; !ok {
			ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, 1, name, v[0], v[1])
		}
	}
	for name, reason := range s.hung {
		ch <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, 1, name, string(feature.Hung), reason)
	}
}
