package dns

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

const (
	// readEvery is how long an answer may lie in the ring buffer.
	readEvery = 100 * time.Millisecond
	// expireEvery is how often questions without answers are looked for.
	expireEvery = time.Second
	// otherDomain stands for domains beyond Config.Names, and servers beyond
	// maxServers.
	otherDomain = "other"
	timedOut    = "timeout"
	// maxServers bounds the name servers that are told of each service: one that
	// looks names up from the root down asks thousands.
	maxServers = 16
)

// lostReasons names the kernel's counters of what was not counted.
var lostReasons = map[bpf.DnsDnsStat]string{
	bpf.DnsDnsStatDNS_STAT_FULL:       "map_full",
	bpf.DnsDnsStatDNS_STAT_DROPPED:    "ring_full",
	bpf.DnsDnsStatDNS_STAT_IO_URING:   "io_uring",
	bpf.DnsDnsStatDNS_STAT_SYSCALL:    "system_call",
	bpf.DnsDnsStatDNS_STAT_UNREADABLE: "unreadable",
	bpf.DnsDnsStatDNS_STAT_FRAMING:    "framing",
	bpf.DnsDnsStatDNS_STAT_UNMATCHED:  "unmatched",
}

// series tells one exported series from another.
type series struct {
	feature.Who
	server bool // the process answers; else it asks
	domain string
	kind   uint16
	code   uint8
	late   bool       // never answered
	addr   netip.Addr // of the server, for one that asks; invalid: one of many
}

// histogram is what a series has counted; the last count is of what is above all
// bounds.
type histogram struct {
	counts []uint64
	sum    time.Duration
}

// Feature counts lookups.
type Feature struct {
	config         Config
	bounds         []float64
	client, server *prometheus.Desc
	lost           *prometheus.Desc

	only string // the one way to try; empty: all; for tests

	mu      sync.Mutex
	env     *feature.Environment
	objects *ebpf.Collection // nil: not loaded; under mu
	links   []link.Link
	tally   *feature.Tally[series, histogram]
	domains map[feature.Who]map[string]struct{} // those told, of each service
	servers map[feature.Who]map[netip.Addr]struct{}
	crowded uint64 // lookups for whose series there was no room
}

// New returns the feature, not loaded. bounds are those of the histograms, in
// seconds, and rise.
func New(c Config, bounds []float64) *Feature {
	labels := append(feature.WhoLabels[:len(feature.WhoLabels):len(feature.WhoLabels)],
		"dns_question_name", "dns_question_type", "dns_response_code", "error_type")
	return &Feature{
		config: c,
		bounds: bounds,
		client: prometheus.NewDesc("dns_lookup_duration_seconds",
			"Duration of DNS lookups, from the question's sending to the answer's reading.",
			append(labels[:len(labels):len(labels)], "server_address"), nil),
		server: prometheus.NewDesc("dns_server_lookup_duration_seconds",
			"Duration of DNS lookups on the server, from the question's reading to the answer's sending.", labels, nil),
		lost: prometheus.NewDesc("vedette_ebpf_dns_lost_total",
			"What the DNS feature did not count, by reason.", []string{"reason"}, nil),
	}
}

// Name is dns.
func (f *Feature) Name() string { return "dns" }

// way is one set of programs.
type way struct {
	name  string // for tests, which ask for each
	lacks string
	spec  func() (*ebpf.CollectionSpec, error)
	mend  func(*ebpf.CollectionSpec) error // fits them to the kernel; nil: they need it not
}

// ways, best first.
var ways = []way{
	{name: "tracepoints", spec: bpf.LoadDns},
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost", spec: bpf.LoadDnsFexit, mend: feature.FitFunctions},
	{name: "kprobe", lacks: "hooks functions of the kernel (kprobe), at a higher cost; follows 16384 connections over TCP",
		spec: bpf.LoadDnsKprobe, mend: feature.FitFunctions},
}

// Ladder drops what older kernels lack.
func (f *Feature) Ladder() []feature.Rung {
	var rungs []feature.Rung
	for _, w := range ways {
		if f.only == "" || f.only == w.name {
			rungs = append(rungs, feature.Rung{Way: w.name, Lacks: w.lacks, Load: func(env *feature.Environment) error { return f.load(env, w) }})
		}
	}
	return rungs
}

func (f *Feature) load(env *feature.Environment, w way) error {
	spec, err := w.spec()
	if err != nil {
		return fmt.Errorf("read the DNS programs: %w", err)
	}
	if w.mend != nil {
		if err := w.mend(spec); err != nil {
			return fmt.Errorf("fit the DNS programs to the kernel: %w", err)
		}
	}
	spec.Maps[bpf.DnsMapQuestions].MaxEntries = uint32(env.MaxSeries)
	var ports [maxPorts]uint16
	for i, p := range f.config.Ports {
		ports[i] = uint16(p)
	}
	for name, v := range map[string]any{bpf.DnsVarSelfTgid: env.Self, bpf.DnsVarPorts: ports} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the DNS programs: %w", name, err)
		}
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load the DNS programs: %w", err)
	}
	links, err := feature.AttachSections(spec, objects.Programs)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the DNS programs: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links = env, objects, links
	f.tally = feature.NewTally[series, histogram](env.MaxSeries)
	f.domains = make(map[feature.Who]map[string]struct{})
	f.servers = make(map[feature.Who]map[netip.Addr]struct{})
	return nil
}

// Arrivals announces processes that ask or answer.
func (f *Feature) Arrivals() *ebpf.Map { return f.objects.Maps[bpf.DnsMapArrivals] }

// Run reads answers, and finds what has none, until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	expired := make(chan struct{})
	go func() {
		defer close(expired)
		tick := time.NewTicker(min(expireEvery, f.config.Timeout/2))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f.expire()
			}
		}
	}()
	err := feature.ReadRing(ctx, f.objects.Maps[bpf.DnsMapEvents], readEvery, func(b []byte) {
		if l, ok := decodeLookup(b); ok {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.countLocked(&l, false)
		}
	})
	<-expired
	return err
}

// decodeLookup reads struct dns_lookup, without what follows the name.
func decodeLookup(b []byte) (bpf.DnsDnsLookup, bool) {
	var l bpf.DnsDnsLookup
	const size, head = int(unsafe.Sizeof(l)), int(unsafe.Offsetof(l.Name))
	if len(b) < head {
		return l, false
	}
	copy((*[size]byte)(unsafe.Pointer(&l))[:], b)
	return l, int(l.NameLength) <= len(l.Name)
}

// expire counts the questions that have waited for too long.
func (f *Feature) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	var late []bpf.DnsDnsKey
	err := feature.EachEntry(f.objects.Maps[bpf.DnsMapQuestions], func(k bpf.DnsDnsKey, l *bpf.DnsDnsLookup) {
		if waited := now.Nano() - int64(l.StartNs); waited >= int64(f.config.Timeout) {
			late = append(late, k)
		}
	})
	if err != nil {
		f.env.Logger.Warn("DNS questions without answers are not looked for this time", "error", err)
	}
	for _, k := range late {
		var l bpf.DnsDnsLookup
		if err := feature.Take(f.objects.Maps[bpf.DnsMapQuestions], k, &l); err != nil {
			continue // answered just now
		}
		l.DurationNs = uint64(f.config.Timeout)
		f.countLocked(&l, true)
	}
}

// countLocked adds one lookup to its series.
func (f *Feature) countLocked(l *bpf.DnsDnsLookup, late bool) {
	k := identity.Key{PID: l.Tgid, StartNanos: l.ProcessStart}
	thread, _, _ := bytes.Cut(l.Comm[:], []byte{0})
	s := series{
		Who:    f.env.Whose(k, string(thread)),
		server: l.Side == uint8(bpf.DnsDnsSideDNS_SERVER),
		kind:   l.Type, code: l.Code & 15, late: late,
	}
	if _, known := types[s.kind]; !known {
		s.kind = 0
	}
	if !s.server {
		if addr := feature.AddrOf(l.Addr); few(f.servers, s.Who, addr, maxServers) {
			s.addr = addr
		}
	}
	s.domain = f.domainLocked(s.Who, l.Name[:l.NameLength])
	h := f.tally.Of(s, k)
	if h == nil {
		f.crowded++
		return
	}
	if h.counts == nil {
		h.counts = make([]uint64, len(f.bounds)+1)
	}
	d := time.Duration(l.DurationNs)
	i, _ := slices.BinarySearch(f.bounds, d.Seconds())
	h.counts[i]++
	h.sum += d
}

// domainLocked folds a name, and keeps the domains of a service few.
func (f *Feature) domainLocked(who feature.Who, wire []byte) string {
	if f.config.Names == 0 {
		return ""
	}
	name, ok := nameOf(wire)
	if !ok {
		return otherDomain
	}
	domain := domainOf(name)
	if !few(f.domains, who, domain, f.config.Names) {
		return otherDomain
	}
	return domain
}

// few says whether v is one of the first limit values of a service.
func few[T comparable](of map[feature.Who]map[T]struct{}, who feature.Who, v T, limit int) bool {
	known := of[who]
	if _, ok := known[v]; ok {
		return true
	}
	if len(known) >= limit {
		return false
	}
	if known == nil {
		known = make(map[T]struct{})
		of[who] = known
	}
	known[v] = struct{}{}
	return true
}

// Sweep forgets services that are gone, and with them their domains and servers.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	f.tally.Sweep(now, f.env.Resolver)
	live := make(map[feature.Who]bool)
	f.tally.Each(func(s series, _ *histogram) { live[s.Who] = true })
	maps.DeleteFunc(f.domains, func(who feature.Who, _ map[string]struct{}) bool { return !live[who] })
	maps.DeleteFunc(f.servers, func(who feature.Who, _ map[netip.Addr]struct{}) bool { return !live[who] })
}

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := feature.CloseAll(f.links)
	f.objects.Close()
	f.objects, f.links = nil, nil
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	ch <- f.client
	ch <- f.server
	ch <- f.lost
}

// Collect sends what has been counted.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	f.tally.Each(func(s series, h *histogram) { f.send(ch, s, h) })
	counter := func(reason string, n uint64) {
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	if err := feature.EachStat(f.objects.Maps[bpf.DnsMapStats], lostReasons, counter); err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	counter("max_series", f.crowded)
	counter("recursion", feature.MissedBy(f.objects.Programs))
}

func (f *Feature) send(ch chan<- prometheus.Metric, s series, h *histogram) {
	code, failure := codes[s.code], ""
	switch {
	case s.late:
		code, failure = "", timedOut
	case s.code != 0:
		failure = code
	}
	labels := append(s.Who.Values(), s.domain, typeName(s.kind), code, failure)
	desc := f.server
	if !s.server {
		desc = f.client
		server := otherDomain
		if s.addr.IsValid() {
			server = s.addr.String()
		}
		labels = append(labels, server)
	}
	cumulative := make(map[float64]uint64, len(f.bounds))
	var n uint64
	for i, c := range h.counts {
		n += c
		if i < len(f.bounds) {
			cumulative[f.bounds[i]] = n
		}
	}
	ch <- prometheus.MustNewConstHistogram(desc, n, h.sum.Seconds(), cumulative, labels...)
}
