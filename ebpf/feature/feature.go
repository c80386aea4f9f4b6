package feature

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// State says how far a feature got.
type State string

// The states of a feature.
const (
	// Off: the configuration leaves it out, or Run has not begun or has ended.
	Off State = "off"
	// Loaded: its programs are attached.
	Loaded State = "loaded"
	// Unsupported: the kernel lacks what it needs.
	Unsupported State = "unsupported"
	// Denied: a right is missing.
	Denied State = "denied"
	// Hung: it was asked for something and has not answered in time. It is left out,
	// and not asked again, until it does; one that is only slow is late by a collection.
	Hung State = "hung"
)

// Feature is one collection of programs and what it exports. Nothing is loaded
// before a rung's Load; a feature that is not loaded exports nothing. The probe
// makes one call at a time of Load, Collect, Sweep, Open and Close, while Run runs,
// and does not wait for ever: what Collect sends too late goes to the next collection,
// unless that has an answer of its own, which is to have all of it again.
type Feature interface {
	prometheus.Collector
	// Name is how configuration and vedette_ebpf_feature call it.
	Name() string
	// Ladder lists the ways to load it, best first.
	Ladder() []Rung
	// Sweep moves the counts of dead processes out of the kernel.
	Sweep(now time.Time)
	// Arrivals is the ring buffer of processes seen for the first time; nil: there
	// is none. It is asked of a loaded feature only.
	Arrivals() *ebpf.Map
	// Close detaches and frees what Load made.
	Close() error
}

// Runner is a feature that has work of its own while it is loaded, such as
// reading a ring buffer. Run ends, without an error, when ctx does.
type Runner interface {
	Run(ctx context.Context) error
}

// Optional is a feature that its own settings may leave off.
type Optional interface {
	// Off says why it stays off; empty: it does not.
	Off() string
}

// Anonymous is a feature that tells nothing of processes.
type Anonymous interface{ Anonymous() }

// Rung is one way to load a feature, and what it is called in short. Lacks says what
// is worse than on the rung above. A Load that fails leaves nothing behind.
type Rung struct {
	Way   string
	Lacks string
	// Rightless needs no rights: it is tried where a rung above lacked them.
	Rightless bool
	Load      func(env *Environment) error
}

// Environment is what features need of the probe.
type Environment struct {
	// PerProcess tells the processes of a service apart.
	PerProcess bool
	// MaxSeries bounds the entries that a feature keeps in each map.
	MaxSeries int
	// Proc is where the host's /proc is.
	Proc string
	// Resolver names processes.
	Resolver *identity.Resolver
	// Self is the probe's own thread group, as the kernel numbers it.
	Self   uint32
	Logger *slog.Logger
	// Peers says which service answers where; the feature tcp tells it.
	Peers *Peers
	// Calls takes requests that have ended, for spans; nil: nobody wants any.
	Calls Calls
	// RingBytes is the size of the ring that hands over a feature's events, a power of
	// two; 0: what its programs say. Tests want more, on machines that are busy.
	RingBytes uint32
}

// Climb loads f on the first rung that holds. reason is empty when that is the
// best one.
func Climb(f Feature, env *Environment) (State, string) {
	// Kernels before 5.11 charge maps to a limit that is 64 kB by default. Where it
	// is not to be had, loading says so.
	_ = rlimit.RemoveMemlock()
	state, reason := Unsupported, "no way to load it"
	var first string
	denied := false
	for i, r := range f.Ladder() {
		if denied && !r.Rightless {
			continue // it needs the same rights as the one that lacked them
		}
		err := r.Load(env)
		if err == nil {
			if i == 0 {
				return Loaded, ""
			}
			return Loaded, r.Lacks + " (" + first + ")"
		}
		if denied {
			continue // the rights are what is worth telling
		}
		state, reason = classify(err)
		if i == 0 {
			first = reason
		}
		denied = state == Denied && missingCapabilities("/proc/self/status") != ""
	}
	return state, reason
}

// classify tells missing rights from a missing kernel feature.
func classify(err error) (State, string) {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, link.ErrNotSupported):
		// What is tried to find out whether the kernel can fails without rights, too.
		if missing := missingCapabilities("/proc/self/status"); missing != "" {
			return Denied, "missing " + missing
		}
		return Unsupported, short(err)
	case errors.Is(err, btf.ErrNotFound):
		return Unsupported, "no such tracepoint or type in the kernel: " + short(err)
	case errors.Is(err, os.ErrNotExist):
		return Unsupported, "no type information (BTF) of the kernel: " + short(err)
	case errors.Is(err, unix.EPERM):
		if missing := missingCapabilities("/proc/self/status"); missing != "" {
			return Denied, "missing " + missing
		}
		return Denied, short(err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL), errors.Is(err, unix.E2BIG):
		var program *ebpf.VerifierError // which no map has, and nothing that is attached
		if errors.As(err, &program) {
			return Unsupported, "the kernel's verifier refuses it: " + short(err)
		}
		return Unsupported, "the kernel refuses it: " + short(err)
	}
	return Unsupported, short(err)
}

// short keeps a reason fit for a label.
func short(err error) string {
	s := err.Error()
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	if len(s) > 160 {
		s = s[:160]
	}
	return strings.ToValidUTF8(s, "")
}

// Capabilities by the kernel's numbers.
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capSysPtrace     = 19
	capSysAdmin      = 21
	capPerfmon       = 38
	capBPF           = 39
)

// missingCapabilities names those of CAP_BPF and CAP_PERFMON that the process
// lacks, or "". CAP_SYS_ADMIN stands for both.
func missingCapabilities(status string) string {
	has := capabilities(status)
	var missing []string
	if !has(capBPF, capSysAdmin) {
		missing = append(missing, "CAP_BPF")
	}
	if !has(capPerfmon, capSysAdmin) {
		missing = append(missing, "CAP_PERFMON")
	}
	return strings.Join(missing, " and ")
}

// MissingToLook names those capabilities that the process lacks, by its status in
// /proc, to look into the processes of other users, or "".
func MissingToLook(status string) string {
	has := capabilities(status)
	var missing []string
	if !has(capSysPtrace) {
		missing = append(missing, "CAP_SYS_PTRACE")
	}
	if !has(capDACReadSearch, capDACOverride) {
		missing = append(missing, "CAP_DAC_READ_SEARCH")
	}
	return strings.Join(missing, " and ")
}

// capabilities tells whether a process has one of some capabilities; yes, where that
// is not known.
func capabilities(status string) func(oneOf ...int) bool {
	b, err := os.ReadFile(status)
	_, rest, _ := strings.Cut(string(b), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, bad := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return func(oneOf ...int) bool {
		return err != nil || bad != nil || slices.ContainsFunc(oneOf, func(c int) bool { return caps&(1<<c) != 0 })
	}
}

// SelfID asks the kernel how it numbers this process, which a process in a
// namespace of process ids does not know otherwise.
func SelfID() (uint32, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint,
		Instructions: asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(),
			asm.RSh.Imm(asm.R0, 32),
			asm.Return(),
		},
		License: "Dual BSD/GPL",
	})
	if err != nil {
		return 0, fmt.Errorf("load the program that asks for the process id: %w", err)
	}
	defer prog.Close()
	id, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, fmt.Errorf("run the program that asks for the process id: %w", err)
	}
	return id, nil
}

// AttachAll attaches programs of tp_btf. On an error nothing stays attached.
func AttachAll(programs ...*ebpf.Program) ([]link.Link, error) {
	var links []link.Link
	for _, p := range programs {
		if p == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", p, err), CloseAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

// CloseAll closes every link.
func CloseAll(links []link.Link) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// SumStat adds up one entry of a per-CPU array of counters.
func SumStat(m *ebpf.Map, stat uint32) (uint64, error) {
	var perCPU []uint64
	if err := m.Lookup(stat, &perCPU); err != nil {
		return 0, fmt.Errorf("read counter %d of %s: %w", stat, m, err)
	}
	var n uint64
	for _, v := range perCPU {
		n += v
	}
	return n, nil
}

// EachStat tells the sums of a per-CPU array of counters by what they are called.
func EachStat[S ~uint32](m *ebpf.Map, names map[S]string, tell func(name string, n uint64)) error {
	for stat, name := range names {
		n, err := SumStat(m, uint32(stat))
		if err != nil {
			return err
		}
		tell(name, n)
	}
	return nil
}

// Missed adds up the runs that the kernel refused because the program was
// running on that CPU already.
func Missed(programs ...*ebpf.Program) uint64 {
	var n uint64
	for _, p := range programs {
		if p == nil {
			continue
		}
		if s, err := p.Stats(); err == nil {
			n += s.RecursionMisses
		}
	}
	return n
}
