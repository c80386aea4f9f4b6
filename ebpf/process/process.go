package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

// readEvery is how long an event may lie in the ring buffer.
const readEvery = 100 * time.Millisecond

// lifetimes are the bounds of the histogram of lifetimes, in seconds: a millisecond
// is a program that does nothing, an hour a service.
var lifetimes = [...]float64{0.001, 0.01, 0.1, 1, 10, 60, 600, 3600}

// series tells one exported series from another.
type series struct {
	feature.Who
	kind bpf.ProcessProcessKind
	life bool   // PROCESS_EXIT: the histogram of lifetimes
	code uint32 // PROCESS_EXIT, not life: as wait() tells it
}

// totals is what a series has counted.
type totals struct {
	n      uint64
	sum    time.Duration
	counts [len(lifetimes) + 1]uint64
}

// Feature counts processes.
type Feature struct {
	starts, forks, exits, lifetime, kills, lost *prometheus.Desc

	mu      sync.Mutex
	env     *feature.Environment
	objects *bpf.ProcessObjects // nil: not loaded; under mu
	links   []link.Link
	tally   *feature.Tally[series, totals]
	crowded uint64 // events for whose series there was no room
}

// New returns the feature, not loaded.
func New() *Feature {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append(feature.WhoLabels[:len(feature.WhoLabels):len(feature.WhoLabels)], more...), nil)
	}
	return &Feature{
		starts:   desc("process_starts_total", "Programs begun, by what they are."),
		forks:    desc("process_forks_total", "Processes forked, by their parent; threads do not count."),
		exits:    desc("process_exits_total", "Processes ended, by exit code or by the signal that ended them.", "process_exit_code", "process_exit_signal"),
		lifetime: desc("process_lifetime_seconds", "How long processes that have ended lived, from their fork."),
		kills:    desc("process_oom_kills_total", "Processes that the kernel killed for want of memory."),
		lost: prometheus.NewDesc("vedette_ebpf_process_lost_total",
			"What the process feature did not count, by reason.", []string{"reason"}, nil),
	}
}

// Name is process.
func (f *Feature) Name() string { return "process" }

// Ladder drops what older kernels tell otherwise.
func (f *Feature) Ladder() []feature.Rung {
	return []feature.Rung{
		{Way: "tracepoints", Load: func(env *feature.Environment) error { return f.load(env, false) }},
		{Way: "without mark_victim", Lacks: "processes killed for want of memory are not told", Load: func(env *feature.Environment) error { return f.load(env, true) }},
	}
}

func (f *Feature) load(env *feature.Environment, oomless bool) error {
	spec, err := bpf.LoadProcess()
	if err != nil {
		return fmt.Errorf("read the process programs: %w", err)
	}
	if oomless {
		// Another in place of the one that does not load; it is not attached.
		spec.Programs[bpf.ProcessProgProcessOom] = spec.Programs[bpf.ProcessProgProcessExit].Copy()
	}
	if env.RingBytes > 0 {
		spec.Maps[bpf.ProcessMapEvents].MaxEntries = env.RingBytes
	}
	if err := spec.Variables[bpf.ProcessVarSelfTgid].Set(env.Self); err != nil {
		return fmt.Errorf("set the process programs' own process: %w", err)
	}
	objects := new(bpf.ProcessObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogDisabled: true}}); err != nil {
		return fmt.Errorf("load the process programs: %w", err)
	}
	programs := []*ebpf.Program{objects.ProcessFork, objects.ProcessExec, objects.ProcessExit}
	if !oomless {
		programs = append(programs, objects.ProcessOom)
	}
	links, err := feature.AttachAll(programs...)
	if err != nil {
		objects.Close()
		return fmt.Errorf("attach the process programs: %w", err)
	}
	if err := introduce(objects.ProcessWalk, env.Resolver); err != nil {
		_ = feature.CloseAll(links)
		objects.Close()
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.env, f.objects, f.links = env, objects, links
	f.tally = feature.NewTally[series, totals](env.MaxSeries)
	return nil
}

// introduce has the processes that there are named, before they end.
func introduce(walk *ebpf.Program, resolver *identity.Resolver) error {
	l, err := link.AttachIter(link.IterOptions{Program: walk})
	if err != nil {
		return fmt.Errorf("attach the iterator of processes: %w", err)
	}
	defer l.Close()
	r, err := l.Open()
	if err != nil {
		return fmt.Errorf("open the iterator of processes: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("walk the processes: %w", err)
	}
	const size = int(unsafe.Sizeof(bpf.ProcessProcessKey{}))
	for ; len(b) >= size; b = b[size:] {
		var k bpf.ProcessProcessKey
		copy((*[size]byte)(unsafe.Pointer(&k))[:], b)
		resolver.Resolve(identity.Key{PID: k.Tgid, StartNanos: k.StartNs}, "")
	}
	return nil
}

// Arrivals is nil: the feature's own events name processes.
func (f *Feature) Arrivals() *ebpf.Map { return nil }

// Run reads events until ctx ends.
func (f *Feature) Run(ctx context.Context) error {
	return feature.ReadRing(ctx, f.objects.Events, readEvery, func(b []byte) {
		if e, ok := decodeEvent(b); ok {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.countLocked(&e)
		}
	})
}

// decodeEvent reads struct process_event, without what a kind of it lacks.
func decodeEvent(b []byte) (bpf.ProcessProcessEvent, bool) {
	var e bpf.ProcessProcessEvent
	const size, short = int(unsafe.Sizeof(e)), int(unsafe.Offsetof(e.Groups))
	if len(b) < short {
		return e, false
	}
	copy((*[size]byte)(unsafe.Pointer(&e))[:], b)
	return e, int(e.Length) <= len(e.Text)
}

// factsOf reads what an exec tells of its process.
func factsOf(e *bpf.ProcessProcessEvent) identity.Facts {
	text := e.Text[:e.Length]
	facts := identity.Facts{Executable: cString(e.Executable[:]), Partial: e.Length < e.Whole || e.Length == 0}
	if facts.Executable == "" {
		facts.Executable = cString(e.Comm[:])
	}
	for i := range e.Groups {
		facts.Groups = append(facts.Groups, groupPath(e.Groups[i][:]))
	}
	split := min(int(e.Arguments), len(text))
	facts.Args = stringsOf(text[:split], split == int(e.Arguments))
	facts.Environ = stringsOf(text[split:], !facts.Partial)
	return facts
}

// stringsOf splits at zeros; what follows the last one is left out unless the
// text is whole.
func stringsOf(text []byte, whole bool) []string {
	if i := bytes.LastIndexByte(text, 0); i >= 0 && (!whole || i == len(text)-1) {
		text = text[:i]
	} else if !whole {
		return nil
	}
	var all []string
	for len(text) > 0 {
		s, rest, _ := bytes.Cut(text, []byte{0})
		all = append(all, string(s))
		text = rest
	}
	return all
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// groupPath joins names that come from the innermost group out.
func groupPath(names []byte) string {
	var segments []string
	for len(names) > 0 && names[0] != 0 {
		s, rest, _ := bytes.Cut(names, []byte{0})
		segments = append(segments, string(s))
		names = rest
	}
	var b bytes.Buffer
	for _, s := range slices.Backward(segments) {
		b.WriteByte('/')
		b.WriteString(s)
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// countLocked names the process of an event and adds the event to its series.
func (f *Feature) countLocked(e *bpf.ProcessProcessEvent) {
	k := identity.Key{PID: e.Tgid, StartNanos: e.StartNs}
	s := series{kind: bpf.ProcessProcessKind(e.Kind)}
	whose := k
	switch s.kind {
	case bpf.ProcessProcessKindPROCESS_FORK:
		whose = identity.Key{PID: e.Parent, StartNanos: e.ParentStartNs}
		f.env.Resolver.Inherit(k, whose)
	case bpf.ProcessProcessKindPROCESS_EXEC:
		f.env.Resolver.Introduce(k, factsOf(e))
	case bpf.ProcessProcessKindPROCESS_EXIT:
		s.code = e.Code & 0xff00
		if signal := e.Code & 0x7f; signal != 0 {
			s.code = signal // whether it left a core besides is not told
		}
	}
	s.Who = f.env.Whose(whose, cString(e.Comm[:]))
	f.addLocked(s, whose, func(t *totals) { t.n++ })
	if s.kind != bpf.ProcessProcessKindPROCESS_EXIT {
		return
	}
	s.code, s.life = 0, true
	f.addLocked(s, whose, func(t *totals) {
		d := time.Duration(e.LifetimeNs)
		i, _ := slices.BinarySearch(lifetimes[:], d.Seconds())
		t.n++
		t.counts[i]++
		t.sum += d
	})
}

func (f *Feature) addLocked(s series, k identity.Key, add func(*totals)) {
	if t := f.tally.Of(s, k); t != nil {
		add(t)
		return
	}
	f.crowded++
}

// Sweep forgets services that are gone.
func (f *Feature) Sweep(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects != nil {
		f.tally.Sweep(now, f.env.Resolver)
	}
}

// Close detaches the programs.
func (f *Feature) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errors.Join(feature.CloseAll(f.links), f.objects.Close())
	f.objects, f.links = nil, nil
	return err
}

// Describe sends the descriptions.
func (f *Feature) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.starts, f.forks, f.exits, f.lifetime, f.kills, f.lost} {
		ch <- d
	}
}

// Collect sends what has been counted.
func (f *Feature) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		return
	}
	f.tally.Each(func(s series, t *totals) { f.send(ch, s, t) })
	lost := func(n uint64, reason string) {
		ch <- prometheus.MustNewConstMetric(f.lost, prometheus.CounterValue, float64(n), reason)
	}
	n, err := feature.SumStat(f.objects.Stats, uint32(bpf.ProcessProcessStatPROCESS_STAT_DROPPED))
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.lost, err)
		return
	}
	lost(n, "ring_full")
	lost(f.crowded, "max_series")
	lost(feature.Missed(f.objects.ProcessFork, f.objects.ProcessExec, f.objects.ProcessExit, f.objects.ProcessOom), "recursion")
}

func (f *Feature) send(ch chan<- prometheus.Metric, s series, t *totals) {
	labels := s.Who.Values()
	counter := func(d *prometheus.Desc, more ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(t.n), append(labels, more...)...)
	}
	switch s.kind {
	case bpf.ProcessProcessKindPROCESS_FORK:
		counter(f.forks)
	case bpf.ProcessProcessKindPROCESS_EXEC:
		counter(f.starts)
	case bpf.ProcessProcessKindPROCESS_OOM:
		counter(f.kills)
	case bpf.ProcessProcessKindPROCESS_EXIT:
		if !s.life {
			counter(f.exits, exitOf(s.code)...)
			return
		}
		cumulative := make(map[float64]uint64, len(lifetimes))
		var n uint64
		for i, bound := range lifetimes {
			n += t.counts[i]
			cumulative[bound] = n
		}
		ch <- prometheus.MustNewConstHistogram(f.lifetime, t.n, t.sum.Seconds(), cumulative, labels...)
	}
}

// exitOf reads what wait() tells: an exit code, or the signal that ended the
// process; the other is empty.
func exitOf(code uint32) []string {
	if signal := syscall.Signal(code & 0x7f); signal != 0 {
		if name := unix.SignalName(signal); name != "" {
			return []string{"", name}
		}
		return []string{"", strconv.Itoa(int(signal))}
	}
	return []string{strconv.Itoa(int(code >> 8 & 0xff)), ""}
}
