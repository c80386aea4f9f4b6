package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// methods by the kernel's number.
var methods = [...]string{"_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// httpLost names the kernel's counters of what was not counted.
var httpLost = map[bpf.HttpStat]string{
	bpf.HttpStatSTAT_FULL:       "map_full",
	bpf.HttpStatSTAT_UNREADABLE: "unreadable",
	bpf.HttpStatSTAT_IO_URING:   "io_uring",
	bpf.HttpStatSTAT_SYSCALL:    "system_call",
	bpf.HttpStatSTAT_HTTP2:      "http2",
	bpf.HttpStatSTAT_LOST:       "framing",
	bpf.HttpStatSTAT_UNMATCHED:  "unmatched",
	bpf.HttpStatSTAT_DEEP:       "deep_pipeline",
}

// httpSeries tells one exported series from another.
type httpSeries struct {
	who
	role   bpf.HttpRole
	port   uint16
	status uint16
	method uint8
	server netip.Addr // for a client
}

// httpTotals is what a series has counted.
type httpTotals struct {
	bpf.HttpHttpValue
	gone time.Time // when the last process of the series was swept; zero: some live
}

func (t *httpTotals) add(v *bpf.HttpHttpValue) {
	t.DurationNs += v.DurationNs
	t.RequestBytes += v.RequestBytes
	t.ResponseBytes += v.ResponseBytes
	for i, n := range v.Durations {
		t.Durations[i] += n
	}
	for i := range v.RequestSizes {
		t.RequestSizes[i] += v.RequestSizes[i]
		t.ResponseSizes[i] += v.ResponseSizes[i]
	}
}

// httpFeature counts HTTP/1.x requests.
type httpFeature struct {
	buckets *buckets
	sides   map[bpf.HttpRole]httpDescs
	lost    *prometheus.Desc
	entries *prometheus.Desc

	mu      sync.Mutex
	env     *environment
	objects *ebpf.Collection // nil: not loaded; under mu
	links   []link.Link
	dead    map[bpf.HttpHttpKey]bool // found dead by the last sweep
	retired map[httpSeries]*httpTotals
}

// httpDescs are the metrics of one side of the connections.
type httpDescs struct {
	duration, requestSize, responseSize *prometheus.Desc
}

func newHTTP(b *buckets) *httpFeature {
	return &httpFeature{
		buckets: b,
		sides: map[bpf.HttpRole]httpDescs{
			bpf.HttpRoleROLE_SERVER: newHTTPDescs("server", "url_scheme"),
			bpf.HttpRoleROLE_CLIENT: newHTTPDescs("client", "server_address"),
		},
		lost: prometheus.NewDesc("vedette_ebpf_http_lost_total",
			"What the HTTP feature did not see or could not pair, by reason.", []string{"reason"}, nil),
		entries: prometheus.NewDesc("vedette_ebpf_http_entries",
			"Combinations of process, port, method and status that the kernel keeps; see max_series.", nil, nil),
		dead:    make(map[bpf.HttpHttpKey]bool),
		retired: make(map[httpSeries]*httpTotals),
	}
}

func newHTTPDescs(side, own string) httpDescs {
	labels := append(whoLabels[:len(whoLabels):len(whoLabels)],
		"server_port", "http_request_method", "http_response_status_code", own)
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("http_"+side+"_"+name, help, labels, nil)
	}
	return httpDescs{
		duration:     desc("request_duration_seconds", "Duration of HTTP "+side+" requests, from the arrival of the request to the last byte of the response."),
		requestSize:  desc("request_body_size_bytes", "Size of the bodies of HTTP "+side+" requests, as transferred."),
		responseSize: desc("response_body_size_bytes", "Size of the bodies of HTTP "+side+" responses, as transferred."),
	}
}

func (f *httpFeature) name() string { return "http" }

func (f *httpFeature) ladder() []rung {
	return []rung{
		{"", func(env *environment) error { return f.load(env) }},
		{"durations begin when the server reads, not when data arrives", func(env *environment) error { return f.load(env, bpf.HttpProgReady) }},
		{"durations begin when the server reads; what a closing connection leaves is not counted", func(env *environment) error {
			return f.load(env, bpf.HttpProgReady, bpf.HttpProgClosed)
		}},
	}
}

// load brings the programs into the kernel, but for those named.
func (f *httpFeature) load(env *environment, without ...string) error {
	spec, err := bpf.LoadHttp()
	if err != nil {
		return fmt.Errorf("read the HTTP programs: %w", err)
	}
	for _, name := range without {
		delete(spec.Programs, name)
	}
	spec.Maps[bpf.HttpMapRequests].MaxEntries = uint32(env.config.MaxSeries)
	for name, v := range map[string]any{
		bpf.HttpVarSelfTgid: env.self, bpf.HttpVarEdge: f.buckets.edge, bpf.HttpVarSlot: f.buckets.slot,
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of the HTTP programs: %w", name, err)
		}
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load the HTTP programs: %w", err)
	}
	// Closing first, receiving last: whatever is counted has all it needs.
	links, err := attachAll(objects.Programs[bpf.HttpProgClosed], objects.Programs[bpf.HttpProgReady],
		objects.Programs[bpf.HttpProgSent], objects.Programs[bpf.HttpProgReceived])
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the HTTP programs: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links = env, objects, links
	return nil
}

func (f *httpFeature) arrivals() *ebpf.Map { return f.objects.Maps[bpf.HttpMapArrivals] }

func (f *httpFeature) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := closeAll(f.links)
	f.objects.Close()
	f.objects, f.links = nil, nil
	return err
}

// Describe sends the descriptions.
func (f *httpFeature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range f.sides {
		ch <- d.duration
		ch <- d.requestSize
		ch <- d.responseSize
	}
	ch <- f.lost
	ch <- f.entries
}

// Collect reads the kernel's counts and folds processes into series.
func (f *httpFeature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	totals, n, err := f.totalsLocked()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(f.entries, prometheus.GaugeValue, float64(n))
	for s, t := range totals {
		f.send(ch, s, t)
	}
	f.sendLostLocked(ch)
}

// totalsLocked gives the sums of what lives and what is gone, and the number of
// the kernel's entries.
func (f *httpFeature) totalsLocked() (map[httpSeries]*httpTotals, int, error) {
	totals := make(map[httpSeries]*httpTotals, len(f.retired))
	for s, t := range f.retired {
		c := *t
		totals[s] = &c
	}
	n := 0
	err := eachEntry(f.objects.Maps[bpf.HttpMapRequests], func(k bpf.HttpHttpKey, v *bpf.HttpHttpValue) {
		n++
		s := f.seriesOf(k)
		if totals[s] == nil {
			totals[s] = new(httpTotals)
		}
		totals[s].add(v)
	})
	return totals, n, err
}

func (f *httpFeature) seriesOf(k bpf.HttpHttpKey) httpSeries {
	s := httpSeries{
		who:  f.env.whose(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, ""),
		role: bpf.HttpRole(k.Role), port: k.Port, status: k.Status, method: k.Method,
	}
	if s.role == bpf.HttpRoleROLE_CLIENT {
		s.server = addrOf(k.Addr)
	}
	return s
}

// addrOf reads the kernel's address, which is in network order.
func addrOf(words [4]uint32) netip.Addr {
	return netip.AddrFrom16(*(*[16]byte)(unsafe.Pointer(&words))).Unmap()
}

func (f *httpFeature) send(ch chan<- prometheus.Metric, s httpSeries, t *httpTotals) {
	d, ok := f.sides[s.role]
	if !ok {
		return
	}
	method, status, own := methods[0], "", "http"
	if int(s.method) < len(methods) {
		method = methods[s.method]
	}
	if s.status != 0 {
		status = strconv.Itoa(int(s.status))
	}
	if s.role == bpf.HttpRoleROLE_CLIENT {
		own = s.server.String()
	}
	labels := append(s.who.values(), strconv.Itoa(int(s.port)), method, status, own)
	slots, n := f.buckets.fold(t.Durations[:])
	ch <- prometheus.MustNewConstHistogram(d.duration, n, float64(t.DurationNs)/1e9, slots, labels...)
	sizes, n := foldSizes(t.RequestSizes[:])
	ch <- prometheus.MustNewConstHistogram(d.requestSize, n, float64(t.RequestBytes), sizes, labels...)
	sizes, n = foldSizes(t.ResponseSizes[:])
	ch <- prometheus.MustNewConstHistogram(d.responseSize, n, float64(t.ResponseBytes), sizes, labels...)
}

func (f *httpFeature) sendLostLocked(ch chan<- prometheus.Metric) {
	for stat, reason := range httpLost {
		n, err := sumStat(f.objects.Maps[bpf.HttpMapStats], uint32(stat))
		if err != nil {
			ch <- prometheus.NewInvalidMetric(f.lost, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	n := missed(f.objects.Programs[bpf.HttpProgReceived], f.objects.Programs[bpf.HttpProgSent], f.objects.Programs[bpf.HttpProgClosed])
	ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), "recursion")
}

// sweep retires the entries of processes that two sweeps found dead: what their
// connections still had to say when they closed is then in.
func (f *httpFeature) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	requests := f.objects.Maps[bpf.HttpMapRequests]
	alive := make(map[identity.Key]bool)
	live := make(map[httpSeries]bool)
	dead := make(map[bpf.HttpHttpKey]bool)
	var bury []bpf.HttpHttpKey
	err := eachEntry(requests, func(k bpf.HttpHttpKey, v *bpf.HttpHttpValue) {
		p := identity.Key{PID: k.Tgid, StartNanos: k.StartNs}
		if _, known := alive[p]; !known {
			alive[p] = f.env.resolver.Alive(p)
		}
		s := f.seriesOf(k)
		switch {
		case alive[p]:
			live[s] = true
		case !f.dead[k]:
			live[s] = true
			dead[k] = true
		default:
			if f.retired[s] == nil {
				f.retired[s] = new(httpTotals)
			}
			f.retired[s].add(v)
			bury = append(bury, k)
		}
	})
	if err != nil {
		return // Collect reports it
	}
	f.dead = dead
	for _, k := range bury {
		_ = requests.Delete(k)
	}
	prune(f.retired, live, now, func(t *httpTotals) *time.Time { return &t.gone })
}

// keepRetired is how long the series of a service without processes is exported.
const keepRetired = 15 * time.Minute

// prune drops what has had no live process for keepRetired.
func prune[S comparable, T any](retired map[S]T, live map[S]bool, now time.Time, gone func(T) *time.Time) {
	for s, t := range retired {
		switch at := gone(t); {
		case live[s]:
			*at = time.Time{}
		case at.IsZero():
			*at = now
		case now.Sub(*at) > keepRetired:
			delete(retired, s)
		}
	}
}

// eachEntry reads a hash map in batches, or entry by entry where the kernel
// knows no batches. An entry that is changed meanwhile is seen before or after.
func eachEntry[K, V any](m *ebpf.Map, visit func(K, *V)) error {
	const batch = 256
	keys, values := make([]K, batch), make([]V, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if errors.Is(err, ebpf.ErrNotSupported) {
			break
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read %s: %w", m, err)
		}
		for i := range n {
			visit(keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
	var k K
	var v V
	it := m.Iterate()
	for it.Next(&k, &v) {
		visit(k, &v)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %s: %w", m, err)
	}
	return nil
}
