package probe

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
	"github.com/vedette-io/vedette/ebpf/identity"
)

// tcpLost names the kernel's counters of what was not counted.
var tcpLost = map[bpf.TcpTcpStat]string{
	bpf.TcpTcpStatTCP_STAT_FULL:    "map_full",
	bpf.TcpTcpStatTCP_STAT_UNOWNED: "unowned",
}

// tcpSeries is one service and one remote; of incoming connections only the
// local port is told.
type tcpSeries struct {
	who
	role   bpf.TcpTcpRole
	port   uint16
	server netip.Addr
	error  uint32 // of failures only
}

// tcpTotals is what a series has counted.
type tcpTotals struct {
	bpf.TcpTcpValue
	failures uint64
	gone     time.Time
}

// tcpOpen is what a series' open connections are like now.
type tcpOpen struct {
	n     int
	rttUS uint64 // the sum
}

// tcpFeature counts connections, bytes and retransmits.
type tcpFeature struct {
	connects, failures, sent, received, retransmits *prometheus.Desc
	open, rtt, lost, entries                        *prometheus.Desc

	mu      sync.Mutex
	env     *environment
	objects *bpf.TcpObjects // nil: not loaded; under mu
	links   []link.Link
	walk    *link.Iter
	dead    map[any]bool // found dead by the last sweep
	retired map[tcpSeries]*tcpTotals
}

func newTCP() *tcpFeature {
	labels := append(whoLabels[:len(whoLabels):len(whoLabels)], "side", "server_address", "server_port")
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append(labels[:len(labels):len(labels)], more...), nil)
	}
	return &tcpFeature{
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
		dead:    make(map[any]bool),
		retired: make(map[tcpSeries]*tcpTotals),
	}
}

func (f *tcpFeature) name() string { return "tcp" }

func (f *tcpFeature) ladder() []rung { return []rung{{"", f.load}} }

func (f *tcpFeature) load(env *environment) error {
	spec, err := bpf.LoadTcp()
	if err != nil {
		return fmt.Errorf("read the TCP programs: %w", err)
	}
	spec.Maps[bpf.TcpMapFlows].MaxEntries = uint32(env.config.MaxSeries)
	spec.Maps[bpf.TcpMapFailures].MaxEntries = uint32(env.config.MaxSeries)
	if err := spec.Variables[bpf.TcpVarSelfTgid].Set(env.self); err != nil {
		return fmt.Errorf("set the TCP programs' own process: %w", err)
	}
	objects := new(bpf.TcpObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the TCP programs: %w", err)
	}
	links, err := attachAll(objects.TcpState)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the TCP programs: %w", err)
	}
	walk, err := link.AttachIter(link.IterOptions{Program: objects.TcpWalk})
	if err != nil {
		_ = closeAll(links)
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
		_ = closeAll(append(links, walk))
		objects.Close()
		f.objects, f.links, f.walk = nil, nil, nil
		return fmt.Errorf("take stock of the TCP connections: %w", err)
	}
	return nil
}

func (f *tcpFeature) arrivals() *ebpf.Map { return f.objects.Arrivals }

func (f *tcpFeature) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := closeAll(append(f.links, f.walk))
	f.objects.Close()
	f.objects, f.links, f.walk = nil, nil, nil
	return err
}

// Describe sends the descriptions.
func (f *tcpFeature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.connects, f.failures, f.sent, f.received, f.retransmits, f.open, f.rtt, f.lost, f.entries} {
		ch <- d
	}
}

// readOpenLocked has the kernel bring its counts up to date, and gives what is
// open.
func (f *tcpFeature) readOpenLocked() (map[tcpSeries]tcpOpen, error) {
	r, err := f.walk.Open()
	if err != nil {
		return nil, fmt.Errorf("open the iterator of TCP sockets: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("walk the TCP sockets: %w", err)
	}
	open := make(map[tcpSeries]tcpOpen)
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

func (f *tcpFeature) seriesOf(k bpf.TcpTcpKey) tcpSeries {
	s := tcpSeries{
		who:  f.env.whose(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, ""),
		role: bpf.TcpTcpRole(k.Role), port: k.Port,
	}
	if s.role == bpf.TcpTcpRoleTCP_OUTGOING {
		s.server = addrOf(k.Addr)
	}
	return s
}

// visitLocked calls visit for each entry of both maps.
func (f *tcpFeature) visitLocked(visit func(m *ebpf.Map, key any, k bpf.TcpTcpKey, s tcpSeries, add func(*tcpTotals))) error {
	err := eachEntry(f.objects.Flows, func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue) {
		visit(f.objects.Flows, k, k, f.seriesOf(k), func(t *tcpTotals) {
			t.Connects += v.Connects
			t.Sent += v.Sent
			t.Received += v.Received
			t.Retransmits += v.Retransmits
		})
	})
	if err != nil {
		return err
	}
	return eachEntry(f.objects.Failures, func(k bpf.TcpTcpFailure, n *uint64) {
		s := f.seriesOf(k.Remote)
		s.error = k.Error + 1 // 0 is for what is no failure
		visit(f.objects.Failures, k, k.Remote, s, func(t *tcpTotals) { t.failures += *n })
	})
}

// Collect brings the counts up to date, and folds processes into series.
func (f *tcpFeature) Collect(ch chan<- prometheus.Metric) {
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
	totals := make(map[tcpSeries]*tcpTotals, len(f.retired))
	for s, t := range f.retired {
		c := *t
		totals[s] = &c
	}
	n := 0
	err = f.visitLocked(func(_ *ebpf.Map, _ any, _ bpf.TcpTcpKey, s tcpSeries, add func(*tcpTotals)) {
		n++
		if totals[s] == nil {
			totals[s] = new(tcpTotals)
		}
		add(totals[s])
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	ch <- prometheus.MustNewConstMetric(f.entries, prometheus.GaugeValue, float64(n))
	for s, t := range totals {
		f.send(ch, s, t)
	}
	for s, o := range open {
		ch <- prometheus.MustNewConstMetric(f.open, prometheus.GaugeValue, float64(o.n), s.labels()...)
		ch <- prometheus.MustNewConstMetric(f.rtt, prometheus.GaugeValue, float64(o.rttUS)/float64(o.n)/1e6, s.labels()...)
	}
	for stat, reason := range tcpLost {
		n, err := sumStat(f.objects.Stats, uint32(stat))
		if err != nil {
			ch <- prometheus.NewInvalidMetric(f.lost, err)
			return
		}
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(missed(f.objects.TcpState)), "recursion")
}

func (s tcpSeries) labels() []string {
	side, server := "server", ""
	if s.role == bpf.TcpTcpRoleTCP_OUTGOING {
		side, server = "client", s.server.String()
	}
	return append(s.who.values(), side, server, strconv.Itoa(int(s.port)))
}

func (f *tcpFeature) send(ch chan<- prometheus.Metric, s tcpSeries, t *tcpTotals) {
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

// sweep retires the entries of processes that two sweeps found dead.
func (f *tcpFeature) sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	alive := make(map[identity.Key]bool)
	live := make(map[tcpSeries]bool)
	dead := make(map[any]bool)
	bury := make(map[any]*ebpf.Map)
	err := f.visitLocked(func(m *ebpf.Map, key any, k bpf.TcpTcpKey, s tcpSeries, add func(*tcpTotals)) {
		p := identity.Key{PID: k.Tgid, StartNanos: k.StartNs}
		if _, known := alive[p]; !known {
			alive[p] = f.env.resolver.Alive(p)
		}
		switch {
		case alive[p]:
			live[s] = true
		case !f.dead[key]:
			live[s] = true
			dead[key] = true
		default:
			if f.retired[s] == nil {
				f.retired[s] = new(tcpTotals)
			}
			add(f.retired[s])
			bury[key] = m
		}
	})
	if err != nil {
		return // Collect reports it
	}
	f.dead = dead
	for key, m := range bury {
		_ = m.Delete(key)
	}
	prune(f.retired, live, now, func(t *tcpTotals) *time.Time { return &t.gone })
}
