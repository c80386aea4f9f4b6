package stream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
)

// How often the ring is looked into that has not woken its reader: while there
// are events, and while there are none.
const (
	lookEvery     = 50 * time.Millisecond
	lookIdleEvery = 200 * time.Millisecond
)

// lostInKernel names the kernel's counters of what was not sent.
var lostInKernel = map[bpf.StreamStreamStat]string{
	bpf.StreamStreamStatSTREAM_RING:       "ring_full",
	bpf.StreamStreamStatSTREAM_UNREADABLE: "unreadable",
	bpf.StreamStreamStatSTREAM_IO_URING:   "io_uring",
	bpf.StreamStreamStatSTREAM_SYSCALL:    "system_call",
	bpf.StreamStreamStatSTREAM_REFUTED:    "refuted",
}

// Feature follows connections of HTTP/2, databases and Kafka.
type Feature struct {
	config Config
	only   string // the one way to try; empty: all; for tests
	table  *Table
	piece  protocol.Piece // of the event at hand; made once, for parsers make it escape

	mu      sync.Mutex // taken after the table's
	objects *ebpf.Collection
	links   []link.Link
}

// New returns the feature, not loaded. bounds are those of histograms of
// durations, in seconds.
func New(c Config, bounds []float64) *Feature {
	f := &Feature{config: c}
	f.table = NewTable(TableOptions{Name: f.Name(), Bounds: bounds, MaxConnections: c.MaxConnections, Lost: f.lost})
	return f
}

// Name is stream.
func (f *Feature) Name() string { return "stream" }

// way is one set of programs, whole or without some of them.
type way struct {
	name    string // for tests, which ask for each
	lacks   string
	spec    func() (*ebpf.CollectionSpec, error)
	without []string
	mend    func(*ebpf.CollectionSpec) error // fits them to the kernel; nil: they need it not
}

// ways, best first.
var ways = []way{
	{name: "tracepoints", spec: bpf.LoadStream},
	{name: "tracepoints without ready", lacks: "durations begin when the server reads, not when data arrives",
		spec: bpf.LoadStream, without: []string{bpf.StreamProgStreamReady}},
	{name: "tracepoints alone", lacks: "durations begin when the server reads; connections are forgotten late",
		spec: bpf.LoadStream, without: []string{bpf.StreamProgStreamReady, bpf.StreamProgStreamClosed}},
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost",
		spec: bpf.LoadStreamFexit, mend: feature.FitFunctions},
	{name: "kprobe", lacks: "hooks functions of the kernel (kprobe), at a higher cost; follows 16384 connections",
		spec: bpf.LoadStreamKprobe, mend: feature.FitFunctions},
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

// open reads the programs of a way, those that this kernel has a place for.
func (w *way) open() (*ebpf.CollectionSpec, error) {
	spec, err := w.spec()
	if err != nil {
		return nil, fmt.Errorf("read the programs of feature stream: %w", err)
	}
	for _, name := range w.without {
		delete(spec.Programs, name)
	}
	if w.mend != nil {
		if err := w.mend(spec); err != nil {
			return nil, fmt.Errorf("fit the programs of feature stream to the kernel: %w", err)
		}
	}
	return spec, nil
}

// load brings the programs of a way into the kernel.
func (f *Feature) load(env *feature.Environment, w way) error {
	spec, err := w.open()
	if err != nil {
		return err
	}
	spec.Maps[bpf.StreamMapEvents].MaxEntries = uint32(f.config.RingBytes)
	for name, v := range map[string]any{
		bpf.StreamVarSelfTgid: env.Self, bpf.StreamVarFollow: f.config.mask(), bpf.StreamVarHeadBytes: uint32(f.config.HeadBytes),
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s of feature stream: %w", name, err)
		}
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load the programs of feature stream: %w", err)
	}
	f.table.Use(env)
	links, err := feature.AttachSections(spec, objects.Programs)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the programs of feature stream: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects, f.links = objects, links
	return nil
}

// Arrivals announces processes with connections that are followed.
func (f *Feature) Arrivals() *ebpf.Map { return f.objects.Maps[bpf.StreamMapArrivals] }

// Run reads events until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	r, err := ringbuf.NewReader(f.objects.Maps[bpf.StreamMapEvents])
	if err != nil {
		return fmt.Errorf("open the ring buffer of feature stream: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer func() {
		if stop() {
			r.Close()
		}
	}()
	var record ringbuf.Record
	wait := lookEvery
	for seen := 0; ; {
		r.SetDeadline(time.Now().Add(wait))
		err := r.ReadInto(&record)
		for ; err == nil; err = r.ReadInto(&record) {
			seen++
			f.take(record.RawSample)
		}
		f.table.ReleaseOverdue()
		if errors.Is(err, ringbuf.ErrClosed) {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("read the ring buffer of feature stream: %w", err)
		}
		if wait = lookEvery; seen == 0 {
			wait = lookIdleEvery
		}
		seen = 0
	}
}

// monotonic is the clock of the kernel's programs; 0: it is not known.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0
	}
	return now.Nano()
}

// take hands an event to the table. See struct stream_event of stream.h.
func (f *Feature) take(b []byte) {
	const header = int(unsafe.Sizeof(bpf.StreamStreamEvent{}))
	if len(b) < header {
		return
	}
	e := (*bpf.StreamStreamEvent)(unsafe.Pointer(&b[0]))
	if e.Flags&uint8(bpf.StreamStreamFlagFLAG_CLOSED) != 0 {
		if e.Flags&uint8(bpf.StreamStreamFlagFLAG_UNREAD) != 0 {
			f.table.CloseLater(e.Conn, int64(e.AtNs))
		} else {
			f.table.Close(e.Conn, int64(e.AtNs))
		}
		return
	}
	head, tail := int(e.Head), int(e.Tail)
	if len(b) < header+head+tail || int(e.Length) < head+tail {
		return
	}
	p := &f.piece
	*p = protocol.Piece{
		Direction: protocol.Direction(e.Flags & uint8(bpf.StreamStreamFlagFLAG_SENT)),
		Data:      b[header : header+head], Missed: int(e.Length) - head - tail, Tail: b[header+head : header+head+tail],
		Seq: e.Seq, ReadyNanos: int64(e.ReadyNs), AtNanos: int64(e.AtNs),
	}
	if p.Direction == protocol.Received {
		p.Acked = e.Acked
	}
	f.table.Take(Conn{
		ID:      e.Conn,
		Process: identity.Key{PID: e.Tgid, StartNanos: e.ProcessStart},
		Local:   netip.AddrPortFrom(feature.AddrOf(e.Local), e.LocalPort),
		Peer:    netip.AddrPortFrom(feature.AddrOf(e.Peer), e.PeerPort),
		NetNS:   e.Netns,
	}, protocol.Kind(e.Kind), p)
}

// Close detaches the programs.
func (f *Feature) Close() error {
	f.table.Use(nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	err := feature.CloseAll(f.links)
	f.objects.Close()
	f.objects, f.links = nil, nil
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) { f.table.Describe(ch) }

// Collect folds processes into services.
func (f *Feature) Collect(ch chan<- prometheus.Metric) { f.table.Collect(ch) }

// CollectEdges is Collect that also tells who asked whom, as the clients saw it.
func (f *Feature) CollectEdges(ch chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	return f.table.CollectEdges(ch, visit)
}

// Open tells the spans' recorder of requests that have no whole response yet.
func (f *Feature) Open(visit func(*feature.Call)) (uint64, error) { return f.table.Open(visit) }

// Sweep retires what belongs to processes that are gone.
func (f *Feature) Sweep(now time.Time) { f.table.Sweep(now) }

func (f *Feature) lost(add func(reason string, n uint64)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return nil
	}
	if err := feature.EachStat(f.objects.Maps[bpf.StreamMapStats], lostInKernel, add); err != nil {
		return err
	}
	add("recursion", feature.MissedBy(f.objects.Programs))
	return nil
}
