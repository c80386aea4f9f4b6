package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxCached bounds what a resolver remembers; Sweep is what keeps it small.
const maxCached = 16384

// keepGone is how long a process that has exited keeps its name.
const keepGone = 15 * time.Minute

// nanosPerTick is the unit of times in /proc: USER_HZ is 100 on every
// architecture that Vedette runs on.
const nanosPerTick = int64(time.Second / 100)

// Key tells a process from all others since boot.
type Key struct {
	PID        uint32
	StartNanos uint64 // since boot
}

// Process is what is known of a process.
type Process struct {
	Key
	// Service is the name that the rule in the package comment settles.
	Service string
	// Namespace is service.namespace from the process's environment.
	Namespace string
	// Executable is the file name of what runs.
	Executable string
	Group
	Names
}

// Names are what an orchestrator or a container engine calls a process's
// container.
type Names struct {
	Container string // in the pod; without a pod, the engine's name for it
	Pod       string
	// PodNamespace is the pod's namespace.
	PodNamespace string
	// Workload is what the pod belongs to, such as a Deployment or a StatefulSet.
	Workload string
	// Service is what the labels of the container or the pod call the service:
	// app.kubernetes.io/instance, app.kubernetes.io/name or
	// com.docker.compose.service.
	Service string
}

// Directory knows containers by the engine's id and the pod's UID, either of
// which may be empty. It is asked often and must answer from memory.
type Directory interface {
	Names(containerID, podUID string) Names
}

// Resolver names processes. It is safe for use by many goroutines.
type Resolver struct {
	proc      string
	directory Directory // nil: there is none

	mu    sync.Mutex
	cache map[Key]*entry // under mu
}

type entry struct {
	process Process   // without the directory's names
	told    bool      // its environment says what it is called
	gone    time.Time // when Sweep found it gone; zero: it was there
}

// New returns a resolver that reads from proc, usually /proc, and asks the
// directory, if it is not nil, for the names of containers.
func New(proc string, directory Directory) *Resolver {
	return &Resolver{proc: proc, directory: directory, cache: make(map[Key]*entry)}
}

// Resolve says what process k is. thread is the name the kernel gave for it,
// used when the process cannot be read any more.
func (r *Resolver) Resolve(k Key, thread string) Process {
	r.mu.Lock()
	e := r.cache[k]
	r.mu.Unlock()
	if e != nil && (e.process.Executable != "" || thread == "") {
		return r.named(e)
	}
	e = new(entry)
	e.process, e.told = r.read(k, thread)
	r.mu.Lock()
	if len(r.cache) < maxCached {
		r.cache[k] = e
	}
	r.mu.Unlock()
	return r.named(e)
}

// named adds what the directory knows by now: engines are asked later than the
// kernel shows a process.
func (r *Resolver) named(e *entry) Process {
	p := e.process
	if r.directory == nil || p.ContainerID == "" && p.PodUID == "" {
		return p
	}
	p.Names = r.directory.Names(p.ContainerID, p.PodUID)
	if p.Namespace == "" {
		p.Namespace = p.PodNamespace
	}
	for _, name := range []string{p.Names.Service, p.Workload} {
		if !e.told && name != "" {
			p.Service = name
			break
		}
	}
	return p
}

// Alive says whether process k still exists; true when that cannot be told.
func (r *Resolver) Alive(k Key) bool {
	stat, err := os.ReadFile(r.path(k.PID, "stat"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		// ESRCH comes from a process that vanished while it was read.
		return !strings.Contains(err.Error(), "no such process")
	}
	start, ok := startTicks(stat)
	return !ok || start == int64(k.StartNanos)/nanosPerTick
}

// Sweep forgets the processes that have been gone for a quarter of an hour.
func (r *Resolver) Sweep(now time.Time) {
	r.mu.Lock()
	keys := slices.Collect(maps.Keys(r.cache))
	r.mu.Unlock()
	for _, k := range keys {
		alive := r.Alive(k)
		r.mu.Lock()
		switch e := r.cache[k]; {
		case e == nil || alive:
		case e.gone.IsZero():
			e.gone = now
		case now.Sub(e.gone) > keepGone:
			delete(r.cache, k)
		}
		r.mu.Unlock()
	}
}

func (r *Resolver) path(pid uint32, name string) string {
	return filepath.Join(r.proc, strconv.FormatUint(uint64(pid), 10), name)
}

// read gives what /proc says of a process, and whether its environment names it.
func (r *Resolver) read(k Key, thread string) (p Process, told bool) {
	p = Process{Key: k, Service: thread, Executable: thread}
	if k.PID == 0 || !r.Alive(k) {
		return p, false
	}
	if g, err := os.ReadFile(r.path(k.PID, "cgroup")); err == nil {
		p.Group = ParseGroup(string(g))
	}
	var args []string
	if b, err := os.ReadFile(r.path(k.PID, "cmdline")); err == nil {
		args = splitZero(b)
	}
	if exe, err := os.Readlink(r.path(k.PID, "exe")); err == nil {
		p.Executable = filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	} else if p.Executable == "" && len(args) > 0 {
		p.Executable = filepath.Base(args[0])
	}
	var environ []string
	if b, err := os.ReadFile(r.path(k.PID, "environ")); err == nil {
		environ = splitZero(b)
	}
	told = p.settle(args, environ)
	return p, told
}

// settle names the service of a process whose executable and control group are
// known; true: its environment says it.
func (p *Process) settle(args, environ []string) (told bool) {
	name, namespace := fromEnviron(environ)
	p.Namespace = namespace
	switch {
	case name != "":
		p.Service = name
	case serviceOfUnit(p.Unit) != "":
		p.Service = serviceOfUnit(p.Unit)
	case fromInterpreter(p.Executable, args) != "":
		p.Service = fromInterpreter(p.Executable, args)
	case p.Executable != "":
		p.Service = p.Executable
	}
	return name != ""
}

// startTicks reads field 22 of /proc/<pid>/stat. The second field may hold
// anything, so counting begins after its last bracket.
func startTicks(stat []byte) (int64, bool) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(fields[19]), 10, 64)
	return n, err == nil
}

func splitZero(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

// fromEnviron reads what OpenTelemetry's SDKs would.
func fromEnviron(environ []string) (name, namespace string) {
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "OTEL_RESOURCE_ATTRIBUTES="); ok {
			for kv := range strings.SplitSeq(v, ",") {
				k, v, _ := strings.Cut(strings.TrimSpace(kv), "=")
				switch k {
				case "service.name":
					if name == "" {
						name = v
					}
				case "service.namespace":
					namespace = v
				}
			}
		}
	}
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, "OTEL_SERVICE_NAME="); ok && v != "" {
			name = v
		}
	}
	return name, namespace
}

// These units hold processes that they do not name.
var namelessUnits = []string{"user@", "docker.service", "containerd.service", "crio.service", "kubelet.service", "cron.service", "crond.service", "ssh.service", "sshd.service", "getty@", "session-"}

func serviceOfUnit(unit string) string {
	for _, n := range namelessUnits {
		if strings.HasPrefix(unit, n) {
			return ""
		}
	}
	return strings.TrimSuffix(unit, ".service")
}

// fromInterpreter names what java, python, node, ruby, perl or php runs.
func fromInterpreter(exe string, args []string) string {
	lang := strings.TrimRight(exe, "0123456789.")
	switch lang {
	case "java":
		return fromJava(args)
	case "python", "node", "nodejs", "ruby", "perl", "php":
		return fromScript(args)
	}
	return ""
}

func fromJava(args []string) string {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-jar" && i+1 < len(args):
			return strings.TrimSuffix(filepath.Base(args[i+1]), ".jar")
		case a == "-cp" || a == "-classpath" || a == "--class-path" || a == "-p" || a == "--module-path":
			i++
		case strings.HasPrefix(a, "-") || strings.HasPrefix(a, "@"):
		default:
			return a[strings.LastIndexByte(a, '.')+1:]
		}
	}
	return ""
}

func fromScript(args []string) string {
	for i := 1; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-m" && i+1 < len(args):
			return args[i+1]
		case a == "-c" || a == "-e":
			return ""
		case a == "-r" || a == "--require" || a == "-W" || a == "-X":
			i++
		case strings.HasPrefix(a, "-"):
		default:
			base := filepath.Base(a)
			return strings.TrimSuffix(base, filepath.Ext(base))
		}
	}
	return ""
}
