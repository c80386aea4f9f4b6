package tls

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/stream"
)

const (
	readEvery  = 50 * time.Millisecond  // the ring, when little is in it
	lookEvery  = 100 * time.Millisecond // at a process that has just begun, for its libraries
	looks      = 20                     // at such a process
	maxYoung   = 1024                   // such processes
	maxDecided = 16384                  // processes whose events are wanted or not
	maxPlaces  = 16384                  // connections whose place is known
	maxClosing = 8192                   // connections that have ended
	closeAfter = 200 * time.Millisecond // for a call may return after its connection has ended
)

// lostReasons names the kernel's counters of what was not seen.
var lostReasons = map[bpf.TlsTlsStat]string{
	bpf.TlsTlsStatTLS_STAT_RING:       "ring_full",
	bpf.TlsTlsStatTLS_STAT_CALLS:      "map_full",
	bpf.TlsTlsStatTLS_STAT_UNREADABLE: "unreadable",
}

// Feature counts requests inside TLS.
type Feature struct {
	config    Config
	scanEvery time.Duration
	linger    time.Duration // how long probes outlast the last process
	table     *stream.Table
	files     *prometheus.Desc
	offsets   *prometheus.Desc

	// Of Run alone.
	execs   chan uint32
	memory  chan identity.Key       // processes that hand OpenSSL memory
	decided map[uint32]verdict      // by process id
	next    map[uint64]*[2]position // by connection

	closingMu sync.Mutex
	closing   []ending // under closingMu

	mu       sync.Mutex
	env      *feature.Environment
	objects  *ebpf.Collection // nil: not loaded; all under mu
	links    []link.Link
	watching fileSet
	readers  readerSet
	search   processes
}

// ending is a connection that is to be forgotten.
type ending struct {
	id      uint64
	atNanos int64
	due     time.Time
}

// verdict says whether a process's events are wanted.
type verdict struct {
	startNanos uint64
	want       bool
	stale      bool // the process runs something else since
}

// position is where a direction of a connection goes on.
type position struct {
	offset uint32
	known  bool
}

// New returns the feature, not loaded. Bounds are those of the histograms of
// durations, in seconds.
func New(c Config, bounds []float64) *Feature {
	f := &Feature{
		config: c, scanEvery: 5 * time.Second, linger: 30 * time.Second,
		execs:   make(chan uint32, 256),
		memory:  make(chan identity.Key, 256),
		decided: make(map[uint32]verdict),
		next:    make(map[uint64]*[2]position),
		files: prometheus.NewDesc("vedette_ebpf_tls_files",
			"Executables and libraries whose TLS is watched.", nil, nil),
		offsets: prometheus.NewDesc("vedette_ebpf_tls_offsets",
			"Instructions at which the TLS feature has probes.", nil, nil),
	}
	f.table = stream.NewTable(stream.TableOptions{Name: "tls", Bounds: bounds, Lost: f.lost})
	return f
}

// Name is tls.
func (f *Feature) Name() string { return "tls" }

// Off says why the configuration leaves the feature off; empty: it does not.
func (f *Feature) Off() string {
	if len(f.config.Targets) == 0 {
		return "no targets are configured"
	}
	return ""
}

// way is one set of programs, whole or without some of them.
type way struct {
	name    string // in short
	lacks   string
	spec    func() (*ebpf.CollectionSpec, error)
	without []string
	mend    func(*ebpf.CollectionSpec) error // fits them to the kernel; nil: they need it not
}

// ways, best first.
var ways = []way{
	{name: "tracepoints", spec: bpf.LoadTls},
	{name: "tracepoints without ready", lacks: "durations begin when the server reads, not when data arrives", spec: bpf.LoadTls, without: []string{bpf.TlsProgReady}},
	{name: "fexit", lacks: "hooks functions of the kernel (fexit) instead of tracepoints, at a higher cost", spec: bpf.LoadTlsFexit, mend: mendFexit},
	{name: "uprobes alone", lacks: "addresses are not known; durations begin when the server reads", spec: bpf.LoadTls,
		without: []string{bpf.TlsProgReady, bpf.TlsProgReceived, bpf.TlsProgSent}},
}

// Ladder drops what older kernels lack.
func (f *Feature) Ladder() []feature.Rung {
	var rungs []feature.Rung
	for _, w := range ways {
		rungs = append(rungs, feature.Rung{Way: w.name, Lacks: w.lacks, Load: func(env *feature.Environment) error { return f.load(env, w) }})
	}
	return rungs
}

// mendFexit takes the memory for calls beforehand, as uprobes want it in kernels
// before 6.1.
func mendFexit(spec *ebpf.CollectionSpec) error {
	spec.Maps[bpf.TlsFexitMapCalls].Flags = 0
	return feature.FitFunctions(spec)
}

// open reads the programs of a way, those that this kernel has a place for.
func (w *way) open() (*ebpf.CollectionSpec, error) {
	spec, err := w.spec()
	if err != nil {
		return nil, fmt.Errorf("read the TLS programs: %w", err)
	}
	for _, name := range w.without {
		delete(spec.Programs, name)
	}
	if w.mend != nil {
		if err := w.mend(spec); err != nil {
			return nil, fmt.Errorf("fit the TLS programs to the kernel: %w", err)
		}
	}
	return spec, nil
}

func (f *Feature) load(env *feature.Environment, w way) error {
	spec, err := w.open()
	if err != nil {
		return err
	}
	if err := spec.Variables[bpf.TlsVarSelfTgid].Set(env.Self); err != nil {
		return fmt.Errorf("set the TLS programs' own process: %w", err)
	}
	if env.RingBytes > 0 {
		spec.Maps[bpf.TlsMapEvents].MaxEntries = env.RingBytes
	}
	multi := features.HaveBPFLinkUprobeMulti() == nil
	for _, p := range spec.Programs {
		if multi && p.Type == ebpf.Kprobe {
			p.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	objects, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}})
	if err != nil {
		return fmt.Errorf("load the TLS programs: %w", err)
	}
	links, err := feature.AttachSections(spec, objects.Programs)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the TLS programs: %w", err)
	}
	f.table.Use(env)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links = env, objects, links
	f.watching = fileSet{logger: env.Logger, programs: objects.Programs, multi: multi, of: make(map[fileID]*file)}
	f.search = processes{env: env, targets: f.config.Targets, known: make(map[uint32]decision)}
	f.readers = readerSet{search: &f.search, files: &f.watching, of: make(map[identity.Key][]link.Link)}
	f.scanLocked(time.Now()) // what runs already is watched when this returns
	return nil
}

// Arrivals announces processes whose TLS is watched.
func (f *Feature) Arrivals() *ebpf.Map { return f.objects.Maps[bpf.TlsMapArrivals] }

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var links []link.Link
	for _, b := range f.watching.of {
		links = append(links, b.links...)
	}
	links = append(links, f.readers.all()...)
	err := detach(append(f.links, links...))
	f.objects.Close()
	f.objects, f.links = nil, nil
	f.watching.of, f.search.known, f.readers.of = nil, nil, nil
	return err
}

// Run looks for processes and reads what the programs tell, until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { f.look(ctx) })
	var e event
	return feature.ReadRing(ctx, f.objects.Maps[bpf.TlsMapEvents], readEvery, func(b []byte) {
		if e.decode(b) {
			f.handle(&e)
		}
	})
}

func (f *Feature) handle(e *event) {
	switch e.kind {
	case bpf.TlsTlsKindTLS_EXEC:
		f.replaced(e.conn.Process.PID)
		select {
		case f.execs <- e.conn.Process.PID:
		default: // the next scan finds it
		}
	case bpf.TlsTlsKindTLS_MEMORY:
		k := identity.Key{PID: e.conn.Process.PID, StartNanos: e.conn.ID}
		if f.decide(k, e.thread) {
			select {
			case f.memory <- k:
			default: // its connections have no addresses
			}
		}
	case bpf.TlsTlsKindTLS_CLOSE:
		delete(f.next, e.conn.ID)
		f.endLater(ending{id: e.conn.ID, atNanos: e.piece.AtNanos, due: time.Now().Add(closeAfter)})
	default:
		if f.decide(e.conn.Process, e.thread) {
			f.fillGap(e)
			f.table.Take(e.conn, protocol.Unknown, &e.piece)
		}
	}
}

// replaced forgets what is known of a process that runs something else now.
func (f *Feature) replaced(pid uint32) {
	v, known := f.decided[pid]
	if !known {
		return
	}
	v.stale = true
	f.decided[pid] = v
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers.forget(pid)
}

// fillGap tells of bytes that the ring had no room for.
func (f *Feature) fillGap(e *event) {
	if !e.placed {
		return
	}
	at := f.next[e.conn.ID]
	if at == nil {
		if len(f.next) >= maxPlaces {
			clear(f.next) // gaps of the next pieces go unseen
		}
		at = new([2]position)
		f.next[e.conn.ID] = at
	}
	p := &at[e.piece.Direction&1]
	if missed := int32(e.offset - p.offset); p.known && missed > 0 {
		f.table.Take(e.conn, protocol.Unknown, &protocol.Piece{
			Direction: e.piece.Direction, Missed: int(missed), Seq: e.piece.Seq - uint32(missed), ReadyNanos: e.piece.ReadyNanos, AtNanos: e.piece.AtNanos,
		})
	}
	*p = position{e.offset + uint32(e.piece.Len()), true}
}

// endLater ends a connection a little later.
func (f *Feature) endLater(e ending) {
	f.closingMu.Lock()
	defer f.closingMu.Unlock()
	if len(f.closing) < maxClosing {
		f.closing = append(f.closing, e)
		return
	}
	f.table.Close(e.id, e.atNanos)
}

// endDue ends the connections that are due.
func (f *Feature) endDue(now time.Time) {
	f.closingMu.Lock()
	defer f.closingMu.Unlock()
	n := 0
	for n < len(f.closing) && f.closing[n].due.Before(now) {
		f.table.Close(f.closing[n].id, f.closing[n].atNanos)
		n++
	}
	f.closing = append(f.closing[:0], f.closing[n:]...)
}

// decide says whether a process is one to watch: others may share its library.
// Those are told to the kernel, so that they are not looked at again.
func (f *Feature) decide(k identity.Key, thread []byte) bool {
	v, known := f.decided[k.PID]
	known = known && v.startNanos == k.StartNanos
	if known && !v.stale {
		return v.want
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	want := f.search.wants(k.PID)
	if !want && (!f.search.runs(k.PID) || !f.env.Resolver.Alive(k)) {
		// It is gone, or ends, and only names are left.
		want = f.search.matchesName(string(thread))
		if !known { // else others know the process by what it ran before
			p := f.env.Resolver.Resolve(k, string(thread))
			want = f.search.matchesName(p.Executable) || f.search.matchesName(p.Service)
		}
	}
	if len(f.decided) >= maxDecided {
		clear(f.decided)
	}
	f.decided[k.PID] = verdict{startNanos: k.StartNanos, want: want}
	if !want {
		ignored := bpf.TlsTlsProcess{StartNs: k.StartNanos, Mode: 4}
		_ = f.objects.Maps[bpf.TlsMapProcesses].Put(k.PID, &ignored) // else its events go on to be dropped here
	}
	return want
}

// look finds processes as they come and go.
func (f *Feature) look(ctx context.Context) {
	scan := time.NewTicker(f.scanEvery)
	defer scan.Stop()
	soon := time.NewTicker(lookEvery)
	defer soon.Stop()
	young := make(map[uint32]int) // processes that have just begun, and how often they were looked at
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-scan.C:
			f.mu.Lock()
			f.scanLocked(now)
			f.mu.Unlock()
		case k := <-f.memory:
			f.mu.Lock()
			f.readers.see(k)
			f.mu.Unlock()
		case pid := <-f.execs:
			if len(young) < maxYoung && f.visit(pid, time.Now()) {
				young[pid] = 0
			}
		case now := <-soon.C:
			f.endDue(now)
			f.table.ReleaseOverdue()
			for pid, n := range young {
				if young[pid] = n + 1; n >= looks || !f.visit(pid, now) {
					delete(young, pid)
				}
			}
		}
	}
}

// visit attaches to the files of a process if it is one to watch.
func (f *Feature) visit(pid uint32, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.search.wants(pid) {
		return false
	}
	f.visitLocked(pid, now)
	return true
}

func (f *Feature) visitLocked(pid uint32, now time.Time) {
	f.search.files(pid, func(id fileID, open func() (*opened, error)) { f.watching.see(id, now, open) })
}

// scanLocked attaches to the files of all processes to watch, and detaches from
// those that have had none for a while.
func (f *Feature) scanLocked(now time.Time) {
	pids, err := f.search.scan()
	if err != nil {
		f.env.Logger.Warn("TLS feature does not see processes", "error", err)
		return
	}
	for _, pid := range pids {
		f.visitLocked(pid, now)
	}
	f.watching.drop(now.Add(-f.linger))
	f.readers.drop()
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	f.table.Describe(ch)
	ch <- f.files
	ch <- f.offsets
}

// Collect sends what was counted.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	_ = f.CollectEdges(ch, nil) // it is among the metrics
}

// CollectEdges is Collect that also tells who asked whom over TLS.
func (f *Feature) CollectEdges(ch chan<- prometheus.Metric, visit func(*feature.Edge)) error {
	f.mu.Lock()
	loaded := f.objects != nil
	files, offsets := f.watching.watched()
	f.mu.Unlock()
	if !loaded {
		return nil
	}
	err := f.table.CollectEdges(ch, visit)
	ch <- prometheus.MustNewConstMetric(f.files, prometheus.GaugeValue, float64(files))
	ch <- prometheus.MustNewConstMetric(f.offsets, prometheus.GaugeValue, float64(offsets))
	return err
}

// lost adds what the kernel's programs did not tell.
func (f *Feature) lost(add func(reason string, n uint64)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return nil
	}
	for stat, reason := range lostReasons {
		n, err := feature.SumStat(f.objects.Maps[bpf.TlsMapStats], uint32(stat))
		if err != nil {
			return err
		}
		add(reason, n)
	}
	return nil
}

// Open tells the spans' recorder of requests that have no whole response yet.
func (f *Feature) Open(visit func(*feature.Call)) (uint64, error) { return f.table.Open(visit) }

// Sweep forgets what belongs to processes that are gone.
func (f *Feature) Sweep(now time.Time) {
	f.table.Sweep(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	calls := f.objects.Maps[bpf.TlsMapCalls]
	alive := make(map[identity.Key]bool)
	var gone []bpf.TlsTlsCallKey
	_ = feature.EachEntry(calls, func(k bpf.TlsTlsCallKey, v *bpf.TlsTlsCall) {
		p := identity.Key{PID: uint32(k.Task), StartNanos: v.ProcessStart}
		if k.G == 0 {
			p.PID = uint32(k.Task >> 32)
		}
		if _, known := alive[p]; !known {
			alive[p] = f.env.Resolver.Alive(p)
		}
		if !alive[p] {
			gone = append(gone, k)
		}
	})
	for _, k := range gone {
		_ = calls.Delete(k)
	}
}
