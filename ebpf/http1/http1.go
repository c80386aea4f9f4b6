package http1

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// methods by the kernel's number.
var methods = [...]string{"_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// lostReasons names the kernel's counters of what was not counted.
var lostReasons = map[bpf.HttpStat]string{
	bpf.HttpStatSTAT_FULL:       "map_full",
	bpf.HttpStatSTAT_UNREADABLE: "unreadable",
	bpf.HttpStatSTAT_IO_URING:   "io_uring",
	bpf.HttpStatSTAT_SYSCALL:    "system_call",
	bpf.HttpStatSTAT_HTTP2:      "http2",
	bpf.HttpStatSTAT_LOST:       "framing",
	bpf.HttpStatSTAT_UNMATCHED:  "unmatched",
	bpf.HttpStatSTAT_DEEP:       "deep_pipeline",
}

// series tells one exported series from another.
type series struct {
	feature.Who
	role   bpf.HttpRole
	port   uint16
	status uint16
	method uint8
	server netip.Addr // for a client
	// The server is one of those beyond maxRemotes.
	crowded bool
}

// totals is what an entry of the kernel's, or a series, has counted.
type totals = bpf.HttpHttpValue

func addTotals(sum, more *totals) {
	sum.DurationNs += more.DurationNs
	sum.RequestBytes += more.RequestBytes
	sum.ResponseBytes += more.ResponseBytes
	for i, n := range more.Durations {
		sum.Durations[i] += n
	}
	for i := range more.RequestSizes {
		sum.RequestSizes[i] += more.RequestSizes[i]
		sum.ResponseSizes[i] += more.ResponseSizes[i]
	}
}

// Feature counts HTTP/1.x requests.
type Feature struct {
	buckets  *feature.Buckets
	only     string // the one way to try; empty: all; for tests
	followed bool   // not to try those by packets; likewise
	sides    map[bpf.HttpRole]feature.HTTPDescs
	lost     *prometheus.Desc
	spans    *prometheus.Desc
	entries  *prometheus.Desc

	mu      sync.Mutex
	env     *feature.Environment
	objects *ebpf.Collection // nil: not loaded; under mu
	links   []link.Link
	ledger  *feature.Ledger[bpf.HttpHttpKey, series, totals]
	crowds  crowds
}

// New returns the feature, not loaded.
func New(b *feature.Buckets) *Feature {
	f := &Feature{
		buckets: b,
		crowds:  newCrowds(),
		sides: map[bpf.HttpRole]feature.HTTPDescs{
			bpf.HttpRoleROLE_SERVER: feature.NewHTTPDescs("server"),
			bpf.HttpRoleROLE_CLIENT: feature.NewHTTPDescs("client"),
		},
		lost: prometheus.NewDesc("vedette_ebpf_http_lost_total",
			"What the HTTP feature did not see or could not pair, by reason.", []string{"reason"}, nil),
		spans: feature.SpanLostDesc(),
		entries: prometheus.NewDesc("vedette_ebpf_http_entries",
			"Combinations of process, port, method and status that the kernel keeps; see max_series.", nil, nil),
	}
	f.ledger = feature.NewLedger[bpf.HttpHttpKey, series](addTotals, func(k bpf.HttpHttpKey) error {
		return f.objects.Maps[bpf.HttpMapRequests].Delete(k)
	})
	return f
}

// Name is http.
func (f *Feature) Name() string { return "http" }

// load brings the programs of a way into the kernel.
func (f *Feature) load(env *feature.Environment, w way) error {
	spec, err := w.open()
	if err != nil {
		return err
	}
	spec.Maps[bpf.HttpMapRequests].MaxEntries = uint32(env.MaxSeries)
	spanning, threshold := uint32(0), uint64(0)
	if env.Calls != nil {
		spanning = 1
		if s, ok := env.Calls.(feature.Sampler); ok {
			threshold = s.Threshold()
		}
		if env.RingBytes > 0 && spec.Maps[bpf.HttpMapSpans] != nil {
			spec.Maps[bpf.HttpMapSpans].MaxEntries = env.RingBytes
		}
	} else if spec.Maps[bpf.HttpMapSpans] != nil {
		spec.Maps[bpf.HttpMapSpans].MaxEntries = uint32(os.Getpagesize())
		spec.Maps[bpf.HttpMapHeads].MaxEntries = 1
	}
	for name, v := range map[string]any{
		bpf.HttpVarSelfTgid: env.Self, bpf.HttpVarEdge: f.buckets.Edge, bpf.HttpVarSlot: f.buckets.Slot,
		bpf.HttpVarSpanning: spanning, bpf.HttpVarThreshold: threshold,
	} {
		if spec.Variables[name] == nil {
			continue // a way without spans
		}
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the HTTP programs: %w", name, err)
		}
	}
	if m := spec.Maps[bpf.HttpSkbMapBounds]; m != nil { // variables, where there are none
		bounds := bpf.HttpSkbDurationBounds{Edge: f.buckets.Edge, Slot: f.buckets.Slot}
		m.Contents = []ebpf.MapKV{{Key: uint32(0), Value: &bounds}}
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load the HTTP programs: %w", err)
	}
	attach := w.attach
	if attach == nil {
		attach = feature.AttachSections
	}
	links, err := attach(spec, objects.Programs)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the HTTP programs: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links = env, objects, links
	return nil
}

// Arrivals announces processes that speak HTTP; nil where packets are counted.
func (f *Feature) Arrivals() *ebpf.Map { return f.objects.Maps[bpf.HttpMapArrivals] }

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
	for _, d := range f.sides {
		d.Describe(ch)
	}
	ch <- f.lost
	ch <- f.spans
	ch <- f.entries
}

// Collect reads the kernel's counts and folds processes into series.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	_ = f.CollectEdges(ch, nil) // it is among the metrics
}

// CollectEdges is Collect that also tells who asked whom.
func (f *Feature) CollectEdges(ch chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return nil
	}
	sums, n, err := f.ledger.Totals(f.entriesLocked)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return err
	}
	ch <- prometheus.MustNewConstMetric(f.entries, prometheus.GaugeValue, float64(n))
	for s, t := range sums {
		f.send(ch, &s, t)
		f.tellEdge(visit, &s, t)
	}
	f.sendLostLocked(ch)
	f.sendSpanLostLocked(ch)
	return nil
}

func (f *Feature) entriesLocked(visit func(*feature.Entry[bpf.HttpHttpKey, series, totals])) error {
	var e feature.Entry[bpf.HttpHttpKey, series, totals]
	return feature.EachEntry(f.objects.Maps[bpf.HttpMapRequests], func(k bpf.HttpHttpKey, v *totals) {
		e.Key, e.Counted = k, v
		e.Process = identity.Key{PID: k.Tgid, StartNanos: k.StartNs}
		e.Series = f.seriesOfLocked(k)
		visit(&e)
	})
}

func (f *Feature) seriesOfLocked(k bpf.HttpHttpKey) series {
	s := series{role: bpf.HttpRole(k.Role), port: k.Port, status: k.Status, method: k.Method}
	process := identity.Key{PID: k.Tgid, StartNanos: k.StartNs}
	if k.Tgid != 0 { // else packets were counted
		s.Who = f.env.Whose(process, "")
	}
	if s.role == bpf.HttpRoleROLE_CLIENT {
		s.server = feature.AddrOf(k.Addr)
		if !f.crowds.tells(process, netip.AddrPortFrom(s.server, k.Port)) {
			s.server, s.port, s.crowded = netip.Addr{}, 0, true
		}
	}
	return s
}

func (f *Feature) send(ch chan<- prometheus.Metric, s *series, t *totals) {
	d, ok := f.sides[s.role]
	if !ok {
		return
	}
	l := feature.HTTPLabels{Who: s.Who, Port: strconv.Itoa(int(s.port)), Method: methods[0], Scheme: "http", Version: "1.1"}
	if int(s.method) < len(methods) {
		l.Method = methods[s.method]
	}
	if s.status != 0 {
		l.Status = strconv.Itoa(int(s.status))
	}
	switch {
	case s.crowded:
		l.Server, l.Port = other, ""
	case s.role == bpf.HttpRoleROLE_CLIENT:
		l.Server = s.server.String()
	}
	labels := d.Labels.Pairs(l.Values()...)
	ch <- f.buckets.Histogram(d.Duration, labels, t.Durations[:], float64(t.DurationNs)/1e9)
	ch <- feature.SizeHistogram(d.RequestSize, labels, t.RequestSizes[:], float64(t.RequestBytes))
	ch <- feature.SizeHistogram(d.ResponseSize, labels, t.ResponseSizes[:], float64(t.ResponseBytes))
}

func (f *Feature) sendLostLocked(ch chan<- prometheus.Metric) {
	lost := func(reason string, n uint64) {
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	err := feature.EachStat(f.objects.Maps[bpf.HttpMapStats], lostReasons, lost)
	if m := f.objects.Maps[bpf.HttpSkbMapPipelined]; m != nil && err == nil {
		err = feature.EachStat(m, map[uint32]string{0: "pipelined"}, lost)
	}
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	var refused uint64
	for name, p := range f.objects.Programs {
		if name != bpf.HttpProgReady { // without which only a start is late
			refused += feature.Missed(p)
		}
	}
	lost("recursion", refused)
}

// Sweep retires the entries of processes that are gone, and those of servers that are
// not told. What packets have counted is no process's, and stays.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil || f.objects.Maps[bpf.HttpSkbMapPacketConns] != nil {
		return
	}
	_ = f.ledger.Sweep(now, f.env.Resolver, f.crowds.sweeping(f.entriesLocked)) // Collect reports what fails
}
