package probe

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
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
)

// feature is one collection of programs and what it exports.
type feature interface {
	prometheus.Collector
	name() string
	// ladder lists the ways to load it, best first.
	ladder() []rung
	// sweep moves the counts of dead processes out of the kernel.
	sweep(now time.Time)
	// arrivals is the ring buffer of processes seen for the first time.
	arrivals() *ebpf.Map
	// close detaches and frees what load made.
	close() error
}

// rung is one way to load a feature. lacks says what is worse than on the rung
// above.
type rung struct {
	lacks string
	load  func(env *environment) error
}

// environment is what features need of the probe.
type environment struct {
	config   Config
	resolver *identity.Resolver
	self     uint32 // the probe's own thread group, as the kernel numbers it
}

// climb loads f on the first rung that holds. reason is empty when that is the
// best one.
func climb(f feature, env *environment) (State, string) {
	state, reason := Unsupported, "no way to load it"
	var first string
	for i, r := range f.ladder() {
		err := r.load(env)
		if err == nil {
			if i == 0 {
				return Loaded, ""
			}
			return Loaded, r.lacks + " (" + first + ")"
		}
		state, reason = classify(err)
		if i == 0 {
			first = reason
		}
		if state == Denied {
			break // a lesser rung needs the same rights
		}
	}
	return state, reason
}

// classify tells missing rights from a missing kernel feature.
func classify(err error) (State, string) {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, link.ErrNotSupported):
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
		return Unsupported, "the kernel's verifier refuses it: " + short(err)
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

// missingCapabilities names those of CAP_BPF and CAP_PERFMON that the process
// lacks, or "". CAP_SYS_ADMIN stands for both.
func missingCapabilities(status string) string {
	b, err := os.ReadFile(status)
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil || caps&(1<<21) != 0 {
		return ""
	}
	var missing []string
	if caps&(1<<39) == 0 {
		missing = append(missing, "CAP_BPF")
	}
	if caps&(1<<38) == 0 {
		missing = append(missing, "CAP_PERFMON")
	}
	return strings.Join(missing, " and ")
}

// selfID asks the kernel how it numbers this process, which a process in a
// namespace of process ids does not know otherwise.
func selfID() (uint32, error) {
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

// attachAll attaches programs of tp_btf. On an error nothing stays attached.
func attachAll(programs ...*ebpf.Program) ([]link.Link, error) {
	var links []link.Link
	for _, p := range programs {
		if p == nil {
			continue
		}
		l, err := link.AttachTracing(link.TracingOptions{Program: p, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", p, err), closeAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

func closeAll(links []link.Link) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// sumStat adds up one entry of a per-CPU array of counters.
func sumStat(m *ebpf.Map, stat uint32) (uint64, error) {
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

// missed adds up the runs that the kernel refused because the program was
// running on that CPU already.
func missed(programs ...*ebpf.Program) uint64 {
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
