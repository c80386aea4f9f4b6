package tcp

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
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

// lostReasons names the kernel's counters of what was not counted.
var lostReasons = map[bpf.TcpTcpStat]string{
	bpf.TcpTcpStatTCP_STAT_FULL:    "map_full",
	bpf.TcpTcpStatTCP_STAT_UNOWNED: "unowned",
}

// series is one service and one remote; of incoming connections only the
// local port is told.
type series struct {
	feature.Who
	role   bpf.TcpTcpRole
	port   uint16
	server netip.Addr
	peer   string // the service that answers there, if it is of this host
	error  uint32 // of failures only
}

// totals is what a series has counted.
type totals struct {
	bpf.TcpTcpValue
	failures uint64
}

// openNow is what a series' open connections are like now.
type openNow struct {
	n     int
	rttUS uint64 // the sum
}

// Feature counts connections, bytes and retransmits.
type Feature struct {
	connects, failures, sent, received, retransmits *prometheus.Desc
	open, rtt, lost, entries                        *prometheus.Desc

	mu      sync.Mutex
	env     *feature.Environment
	objects *bpf.TcpObjects // nil: not loaded; under mu
	links   []link.Link
	walk    *link.Iter
	ledger  *feature.Ledger[series, totals]
}

// New returns the feature, not loaded.
func New() *Feature {
	labels := append(feature.WhoLabels[:len(feature.WhoLabels):len(feature.WhoLabels)], "side", "server_address", "server_port", "service_peer_name")
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append(labels[:len(labels):len(labels)], more...), nil)
	}
	return &Feature{
		connects:    desc("tcp_connections_opened_total", "TCP connections established."),
		failures:    desc("tcp_connect_errors_total", "TCP connections that were not established, by errno; ABANDONED: the process gave up.", "error"),
		sent:        desc("tcp_sent_bytes_total", "Bytes sent over TCP, once each."),
		received:    desc("tcp_received_bytes_total", "Bytes received over TCP."),
		retransmits: desc("tcp_retransmits_total", "TCP segments sent again."),
		open:        desc("tcp_connections", "TCP connections that are open."),
		rtt:         desc("tcp_rtt_seconds", "Smoothed round trip of the open TCP connections, the mean of them."),
		lost: prometheus.NewDesc("vedette_ebpf_tcp_lost_total",
			"What the TCP feature did not count, by reason.", []string{"reason"}, nil),
		entries: prometheus.NewDesc("vedette_ebpf_tcp_entries",
			"Combinations of process and remote that the kernel keeps; see max_series.", nil, nil),
		ledger: feature.NewLedger[series, totals](),
	}
}

// Name is tcp.
func (f *Feature) Name() string { return "tcp" }

// Ladder has one way.
func (f *Feature) Ladder() []feature.Rung { return []feature.Rung{{Load: f.load}} }

func (f *Feature) load(env *feature.Environment) error {
	spec, err := bpf.LoadTcp()
	if err != nil {
		return fmt.Errorf("read the TCP programs: %w", err)
	}
	spec.Maps[bpf.TcpMapFlows].MaxEntries = uint32(env.MaxSeries)
	spec.Maps[bpf.TcpMapFailures].MaxEntries = uint32(env.MaxSeries)
	if err := spec.Variables[bpf.TcpVarSelfTgid].Set(env.Self); err != nil {
		return fmt.Errorf("set the TCP programs' own process: %w", err)
	}
	objects := new(bpf.TcpObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the TCP programs: %w", err)
	}
	links, err := feature.AttachAll(objects.TcpState)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the TCP programs: %w", err)
	}
	walk, err := link.AttachIter(link.IterOptions{Program: objects.TcpWalk})
	if err != nil {
		_ = feature.CloseAll(links)
		objects.Close()
		return fmt.Errorf("attach the iterator of TCP sockets: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links, f.walk = env, objects, links, walk
	// First the listeners; then stock is taken of older connections, for what
	// they have carried before is not counted.
	if _, err = f.readOpenLocked(); err == nil {
		err = objects.ListenersKnown.Set(uint32(1))
	}
	if err == nil {
		_, err = f.readOpenLocked()
	}
	if err != nil {
		_ = feature.CloseAll(append(links, walk))
		objects.Close()
		f.objects, f.links, f.walk = nil, nil, nil
		return fmt.Errorf("take stock of the TCP connections: %w", err)
	}
	return nil
}

// Arrivals announces processes that have connections.
func (f *Feature) Arrivals() *ebpf.Map { return f.objects.Arrivals }

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := feature.CloseAll(append(f.links, f.walk))
	f.objects.Close()
	f.objects, f.links, f.walk = nil, nil, nil
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.connects, f.failures, f.sent, f.received, f.retransmits, f.open, f.rtt, f.lost, f.entries} {
		ch <- d
	}
}

// readOpenLocked has the kernel bring its counts up to date, and gives what is
// open.
func (f *Feature) readOpenLocked() (map[series]openNow, error) {
	r, err := f.walk.Open()
	if err != nil {
		return nil, fmt.Errorf("open the iterator of TCP sockets: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("walk the TCP sockets: %w", err)
	}
	if err := f.tellPeersLocked(); err != nil {
		return nil, err
	}
	open := make(map[series]openNow)
	const size = int(unsafe.Sizeof(bpf.TcpTcpOpen{}))
	for ; len(b) >= size; b = b[size:] {
		var o bpf.TcpTcpOpen
		copy((*[size]byte)(unsafe.Pointer(&o))[:], b)
		s := f.seriesOf(o.Key)
		t := open[s]
		t.n++
		t.rttUS += uint64(o.RttUs)
		open[s] = t
	}
	return open, nil
}

// tellPeersLocked names those who answer on this host.
func (f *Feature) tellPeersLocked() error {
	services := make(map[feature.Place]string)
	err := feature.EachEntry(f.objects.Servers, func(at bpf.TcpTcpPlace, k *bpf.TcpProcessKey) {
		if name := f.env.Resolver.Resolve(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, "").Service; name != "" {
			services[feature.Place{Addr: feature.AddrOf(at.Addr), NetNS: at.Netns, Port: at.Port}] = name
		}
	})
	if err != nil {
		return err
	}
	f.env.Peers.Set(services)
	return nil
}

func (f *Feature) seriesOf(k bpf.TcpTcpKey) series {
	s := series{
		Who:  f.env.Whose(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, ""),
		role: bpf.TcpTcpRole(k.Role), port: k.Port,
	}
	if s.role == bpf.TcpTcpRoleTCP_OUTGOING {
		s.server = feature.AddrOf(k.Addr)
		s.peer = f.env.Peers.Service(s.server, k.Port)
	}
	return s
}

// entriesLocked visits the entries of both maps.
func (f *Feature) entriesLocked(visit func(feature.Entry[series, totals])) error {
	entry := func(m *ebpf.Map, key any, k bpf.TcpTcpKey, s series, add func(*totals)) {
		visit(feature.Entry[series, totals]{
			Key: key, Process: identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, Series: s, Add: add,
			Drop: func() error { return m.Delete(key) },
		})
	}
	err := feature.EachEntry(f.objects.Flows, func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue) {
		entry(f.objects.Flows, k, k, f.seriesOf(k), func(t *totals) {
			t.Connects += v.Connects
			t.Sent += v.Sent
			t.Received += v.Received
			t.Retransmits += v.Retransmits
		})
	})
	if err != nil {
		return err
	}
	return feature.EachEntry(f.objects.Failures, func(k bpf.TcpTcpFailure, n *uint64) {
		s := f.seriesOf(k.Remote)
		s.error = k.Error + 1 // 0 is for what is no failure
		entry(f.objects.Failures, k, k.Remote, s, func(t *totals) { t.failures += *n })
	})
}

// Collect brings the counts up to date, and folds processes into series.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	open, err := f.readOpenLocked()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	sums, n, err := f.ledger.Totals(f.entriesLocked)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(f.entries, prometheus.GaugeValue, float64(n))
	for s, t := range sums {
		f.send(ch, s, t)
	}
	for s, o := range open {
		ch <- prometheus.MustNewConstMetric(f.open, prometheus.GaugeValue, float64(o.n), s.labels()...)
		ch <- prometheus.MustNewConstMetric(f.rtt, prometheus.GaugeValue, float64(o.rttUS)/float64(o.n)/1e6, s.labels()...)
	}
	for stat, reason := range lostReasons {
		n, err := feature.SumStat(f.objects.Stats, uint32(stat))
		if err != nil {
			ch <- prometheus.NewInvalidMetric(f.lost, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(feature.Missed(f.objects.TcpState)), "recursion")
}

func (s series) labels() []string {
	side, server, port := "server", "", strconv.Itoa(int(s.port))
	if s.role == bpf.TcpTcpRoleTCP_OUTGOING {
		side, server = "client", s.server.String()
	}
	if s.port == 0 { // remotes beyond those told of a process
		port = ""
		if side == "client" {
			server = "_OTHER"
		}
	}
	return append(s.Who.Values(), side, server, port, s.peer)
}

func (f *Feature) send(ch chan<- prometheus.Metric, s series, t *totals) {
	counter := func(d *prometheus.Desc, n uint64, labels []string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	labels := s.labels()
	if s.error != 0 {
		counter(f.failures, t.failures, append(labels, errnoName(s.error-1)))
		return
	}
	counter(f.connects, t.Connects, labels)
	counter(f.sent, t.Sent, labels)
	counter(f.received, t.Received, labels)
	counter(f.retransmits, t.Retransmits, labels)
}

func errnoName(n uint32) string {
	if n == 0 {
		return "ABANDONED"
	}
	if s := unix.ErrnoName(syscall.Errno(n)); s != "" {
		return s
	}
	return strconv.Itoa(int(n))
}

// Sweep retires the entries of processes that are gone.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	_ = f.tellPeersLocked() // Collect reports what fails of this, too
	_ = f.ledger.Sweep(now, f.env.Resolver, f.entriesLocked)
}
