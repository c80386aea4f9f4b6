package profile

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// lostReasons names the kernel's counters.
var lostReasons = map[bpf.ProfileProfileStat]string{
	bpf.ProfileProfileStatPROFILE_STAT_FULL:   "map_full",
	bpf.ProfileProfileStatPROFILE_STAT_STACKS: "stack_map_full",
	bpf.ProfileProfileStatPROFILE_STAT_DEEP:   "deep",
}

// seen is how often a service was sampled.
type seen struct {
	n    uint64
	last time.Time
}

// metrics is what the feature exports.
type metrics struct {
	samples, lost, spent                  *prometheus.Desc
	bytes, intervals, evicted             *prometheus.Desc
	symbolBytes, symbolFiles, symbolReads *prometheus.Desc

	mu         sync.Mutex
	of         map[feature.Who]*seen // this and what follows under mu
	refused    uint64                // samples of services beyond the bound of series
	noRoom     uint64                // samples that the store did not take
	reading    time.Duration
	symbolised time.Duration
}

func newMetrics() *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &metrics{
		samples: desc("process_cpu_profile_samples_total", "Times that the service was found on a processor.", feature.WhoLabels[:]...),
		lost:    desc("vedette_ebpf_profile_lost_total", "Samples that are not in the profiles, or not whole, by reason.", "reason"),
		spent: desc("vedette_ebpf_profile_seconds_total",
			"Time the profiler spent on reading samples, and on naming and keeping them.", "part"),
		bytes:       desc("vedette_ebpf_profile_bytes", "Memory that the profiles take."),
		intervals:   desc("vedette_ebpf_profile_intervals", "Intervals that are held."),
		evicted:     desc("vedette_ebpf_profile_evicted_intervals_total", "Intervals dropped before their time for want of room; see max_bytes."),
		symbolBytes: desc("vedette_ebpf_profile_symbol_bytes", "Memory that the tables of functions take."),
		symbolFiles: desc("vedette_ebpf_profile_symbol_files", "Files whose functions are known."),
		symbolReads: desc("vedette_ebpf_profile_symbol_lookups_total",
			"Files looked up, by result: hit, miss (read), failed (not readable), and evicted for want of room.", "result"),
		of: make(map[feature.Who]*seen),
	}
}

// count adds samples of a service.
func (m *metrics) count(w feature.Who, n uint64, at time.Time, limit int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.of[w]
	if s == nil {
		if len(m.of) >= limit {
			m.refused += n
			return
		}
		s = &seen{}
		m.of[w] = s
	}
	s.n += n
	s.last = at
}

// forget drops the series of services that have not run for long.
func (m *metrics) forget(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w, s := range m.of {
		if now.Sub(s.last) > feature.KeepRetired {
			delete(m.of, w)
		}
	}
}

// refuse counts samples that the store did not take.
func (m *metrics) refuse(n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noRoom += n
}

func (m *metrics) took(reading, symbolised time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading += reading
	m.symbolised += symbolised
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	m := f.metrics
	for _, d := range []*prometheus.Desc{
		m.samples, m.lost, m.spent, m.bytes, m.intervals, m.evicted, m.symbolBytes, m.symbolFiles, m.symbolReads,
	} {
		ch <- d
	}
}

// Collect sends what was counted until the last reading.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	m := f.metrics
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	err := feature.EachStat(f.objects.Stats, lostReasons, func(reason string, n uint64) { send(m.lost, counter, float64(n), reason) })
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.lost, err)
		return
	}
	send(m.lost, counter, float64(feature.Missed(f.objects.Profile)), "recursion")
	bytes, intervals, evicted := f.store.size()
	send(m.bytes, gauge, float64(bytes))
	send(m.intervals, gauge, float64(intervals))
	send(m.evicted, counter, float64(evicted))
	s := f.symbols.Stats()
	send(m.symbolBytes, gauge, float64(s.Bytes))
	send(m.symbolFiles, gauge, float64(s.Files))
	for result, n := range map[string]uint64{"hit": s.Hits, "miss": s.Misses, "failed": s.Failures, "evicted": s.Evictions} {
		send(m.symbolReads, counter, float64(n), result)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	send(m.lost, counter, float64(m.refused), "series")
	send(m.lost, counter, float64(m.noRoom), "memory")
	send(m.spent, counter, m.reading.Seconds(), "read")
	send(m.spent, counter, m.symbolised.Seconds(), "symbolise")
	for w, s := range m.of {
		send(m.samples, counter, float64(s.n), w.Values()...)
	}
}
