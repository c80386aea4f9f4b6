package tcp

import (
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// source is where counts come from. It is used by one goroutine at a time.
type source interface {
	// update brings the counts up to date, and visits what is open.
	update(visit func(k bpf.TcpTcpKey, rttUS uint32)) error
	// servers visits who answers where.
	servers(visit func(at feature.Place, who identity.Key)) error
	flows(visit func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue)) error
	failures(visit func(k bpf.TcpTcpFailure, n uint64)) error
	drop(k entryKey) error
	// lost gives what was not counted, by reason.
	lost() (map[string]uint64, error)
	arrivals() *ebpf.Map
	close() error
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

// entryKey is a flow's, or a failure's.
type entryKey struct {
	bpf.TcpTcpFailure
	failed bool
}

// found is a connection that is open.
type found struct {
	key bpf.TcpTcpKey
	rtt uint32
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
	labels, errorLabels                             feature.LabelNames // of those of a remote, and of failures

	only string // the one way to try; empty: all; for tests

	mu     sync.Mutex
	env    *feature.Environment
	source source // nil: not loaded; under mu
	pace   pace
	found  []found // by the last look
	ledger *feature.Ledger[entryKey, series, totals]
}

// New returns the feature, not loaded.
func New() *Feature {
	labels := append(feature.WhoLabels[:len(feature.WhoLabels):len(feature.WhoLabels)], "side", "server_address", "server_port", "service_peer_name")
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append(labels[:len(labels):len(labels)], more...), nil)
	}
	f := &Feature{
		labels:      feature.NewLabelNames(labels...),
		errorLabels: feature.NewLabelNames(append(labels[:len(labels):len(labels)], "error")...),
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
			"Combinations of process and remote that are kept; see max_series.", nil, nil),
	}
	f.ledger = feature.NewLedger[entryKey, series](addTotals, func(k entryKey) error { return f.source.drop(k) })
	return f
}

// Name is tcp.
func (f *Feature) Name() string { return "tcp" }

// Ways to count.
const (
	byPrograms = "programs"
	bySockets  = "sockets"
)

// Ladder has a way without programs in the kernel, for whoever may not load any.
func (f *Feature) Ladder() []feature.Rung {
	var rungs []feature.Rung
	add := func(name string, r feature.Rung, open func(*feature.Environment) (source, error)) {
		r.Way, r.Load = name, func(env *feature.Environment) error { return f.load(env, open) }
		if f.only == "" || f.only == name {
			rungs = append(rungs, r)
		}
	}
	add(byPrograms, feature.Rung{}, newPrograms)
	add(bySockets, feature.Rung{
		Lacks:     "asks sock_diag: no failures, no connections that open and close between two looks, none that this user may not look at",
		Rightless: true,
	}, newSockets)
	return rungs
}

func (f *Feature) load(env *feature.Environment, open func(*feature.Environment) (source, error)) error {
	src, err := open(env)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.source = env, src
	if err := f.tellPeersLocked(); err != nil {
		f.source = nil
		return errors.Join(err, src.close())
	}
	return nil
}

// Arrivals announces processes that have connections.
func (f *Feature) Arrivals() *ebpf.Map { return f.source.arrivals() }

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.source.close()
	f.source, f.found, f.pace = nil, nil, pace{}
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.connects, f.failures, f.sent, f.received, f.retransmits, f.open, f.rtt, f.lost, f.entries} {
		ch <- d
	}
}

// readOpenLocked has the counts brought up to date, and gives what is open.
func (f *Feature) readOpenLocked() (map[series]openNow, error) {
	open := make(map[series]openNow)
	if f.pace.due(time.Now()) {
		f.found = f.found[:0]
		took, err := processorOf(func() error {
			return f.source.update(func(k bpf.TcpTcpKey, rtt uint32) { f.found = append(f.found, found{k, rtt}) })
		})
		if err != nil {
			return nil, err
		}
		f.pace.looked(time.Now(), took)
	}
	if err := f.tellPeersLocked(); err != nil {
		return nil, err
	}
	for _, c := range f.found { // now that it is known who answers
		s := f.seriesOf(c.key)
		t := open[s]
		t.n++
		t.rttUS += uint64(c.rtt)
		open[s] = t
	}
	return open, nil
}

// tellPeersLocked names those who answer on this host.
func (f *Feature) tellPeersLocked() error {
	services := make(map[feature.Place]string)
	err := f.source.servers(func(at feature.Place, who identity.Key) {
		if name := f.env.Resolver.Resolve(who, "").Service; name != "" {
			services[at] = name
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

// entriesLocked visits the flows and the failures.
func (f *Feature) entriesLocked(visit func(*feature.Entry[entryKey, series, totals])) error {
	var counted totals
	e := feature.Entry[entryKey, series, totals]{Counted: &counted}
	entry := func(k entryKey) {
		e.Key, e.Series = k, f.seriesOf(k.Remote)
		e.Process = identity.Key{PID: k.Remote.Tgid, StartNanos: k.Remote.StartNs}
		if k.failed {
			e.Series.error = k.Error + 1 // 0 is for what is no failure
		}
		visit(&e)
	}
	err := f.source.flows(func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue) {
		counted = totals{TcpTcpValue: *v}
		entry(entryKey{TcpTcpFailure: bpf.TcpTcpFailure{Remote: k}})
	})
	if err != nil {
		return err
	}
	return f.source.failures(func(k bpf.TcpTcpFailure, n uint64) {
		counted = totals{failures: n}
		entry(entryKey{TcpTcpFailure: k, failed: true})
	})
}

func addTotals(sum, more *totals) {
	sum.Connects += more.Connects
	sum.Sent += more.Sent
	sum.Received += more.Received
	sum.Retransmits += more.Retransmits
	sum.failures += more.failures
}

// Collect brings the counts up to date, and folds processes into series.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source == nil {
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
	lost, err := f.source.lost()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	for reason, n := range lost {
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
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
	if s.error != 0 {
		ch <- feature.NewCounter(f.failures, f.errorLabels.Pairs(append(s.labels(), errnoName(s.error-1))...), float64(t.failures))
		return
	}
	labels := f.labels.Pairs(s.labels()...)
	ch <- feature.NewCounter(f.connects, labels, float64(t.Connects))
	ch <- feature.NewCounter(f.sent, labels, float64(t.Sent))
	ch <- feature.NewCounter(f.received, labels, float64(t.Received))
	ch <- feature.NewCounter(f.retransmits, labels, float64(t.Retransmits))
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
	if f.source == nil {
		return
	}
	// Collect reports what fails of this, too.
	if _, ok := f.source.(*sockets); ok {
		_, _ = f.readOpenLocked() // more looks see more connections
	} else {
		_ = f.tellPeersLocked()
	}
	_ = f.ledger.Sweep(now, f.env.Resolver, f.entriesLocked)
}
