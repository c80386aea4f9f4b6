package identity

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxCached bounds what a resolver remembers; Sweep is what keeps it small.
	maxCached = 16384
	// lookForRoom is how many are looked at for one that is gone when it is full.
	lookForRoom = 64
	// maxRead bounds what is read of a file of a process.
	maxRead = 256 << 10
	// settling is the age at which a process has begun its program, mostly.
	settling = 2 * time.Second
)

// keepGone is how long a process that has exited keeps its name.
const keepGone = 15 * time.Minute

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

// LabelCompose is the label by which Docker Compose says which of its services a
// container is of.
const LabelCompose = "com.docker.compose.service"

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

// ServiceName is what the rule in the package comment takes of them; "": nothing.
func (n Names) ServiceName() string { return cmp.Or(n.Service, n.Workload) }

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
	program program   // that ran when /proc was read; zero: not known
	again   time.Time // when to look whether another program runs by now; zero: Sweep does; under mu
	gone    time.Time // when Sweep found it gone; zero: it was there; under mu
	names   Names     // the directory's last ones; under mu
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
	due := e != nil && !e.again.IsZero() && !time.Now().Before(e.again)
	if due {
		e.again = time.Time{}
	}
	r.mu.Unlock()
	if due {
		e = r.reread(k, e)
	}
	if e != nil && (e.process.Executable != "" || thread == "") {
		return r.named(e)
	}
	e = r.read(k, clean(thread))
	r.put(k, e)
	return r.named(e)
}

// reread gives what is known of process k, read again if another program has
// begun in it since.
func (r *Resolver) reread(k Key, e *entry) *entry {
	s, err := r.stat(k.PID)
	if err != nil || !s.is(k) {
		return e // gone
	}
	return r.compare(k, e, s)
}

func (r *Resolver) compare(k Key, e *entry, s stat) *entry {
	r.mu.Lock()
	was := e.program
	if was == (program{}) { // the kernel has told of it
		e.program = s.program
	}
	r.mu.Unlock()
	if was == (program{}) || !s.program.follows(was) || e.process.Executable == "" {
		return e
	}
	fresh := r.read(k, "")
	if fresh.process.Executable == "" {
		return e
	}
	r.put(k, fresh)
	return fresh
}

// named adds what the directory knows by now: engines are asked later than the
// kernel shows a process. What it does not know any more stays: a container is
// forgotten before the counts of its processes are.
func (r *Resolver) named(e *entry) Process {
	p := e.process
	if r.directory == nil || p.ContainerID == "" && p.PodUID == "" {
		return p
	}
	p.Names = r.directory.Names(p.ContainerID, p.PodUID)
	for _, name := range []*string{&p.Container, &p.Pod, &p.PodNamespace, &p.Workload, &p.Names.Service} {
		*name = clean(*name)
	}
	r.mu.Lock()
	if p.Names == (Names{}) || p.Container == "" && e.names.Container != "" {
		p.Names = e.names
	}
	e.names = p.Names
	r.mu.Unlock()
	if p.Namespace == "" {
		p.Namespace = p.PodNamespace
	}
	if name := p.Names.ServiceName(); !e.told && name != "" {
		p.Service = name
	}
	return p
}

// Alive says whether process k still exists; true when that cannot be told.
func (r *Resolver) Alive(k Key) bool {
	s, err := r.stat(k.PID)
	return err != nil && !gone(err) || err == nil && s.is(k)
}

// gone says whether an error of reading in /proc means that the process is gone.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// Sweep forgets the processes that have been gone for a quarter of an hour, and
// looks whether other programs have begun in those that live.
func (r *Resolver) Sweep(now time.Time) {
	r.mu.Lock()
	var live []Key
	for k, e := range r.cache {
		switch {
		case e.gone.IsZero():
			live = append(live, k)
		case now.Sub(e.gone) > keepGone:
			delete(r.cache, k)
		}
	}
	r.mu.Unlock()
	for _, k := range live {
		s, err := r.stat(k.PID)
		if err != nil && !gone(err) {
			continue
		}
		r.mu.Lock()
		e := r.cache[k]
		dead := err != nil || !s.is(k)
		if e != nil && dead {
			e.gone = now
		}
		r.mu.Unlock()
		if e != nil && !dead {
			r.compare(k, e, s)
		}
	}
}

// put remembers a process. Where there is no room one that is gone makes it, else
// any other, which is read again when it is asked for.
func (r *Resolver) put(k Key, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.cache[k]; !known && len(r.cache) >= maxCached {
		var victim Key
		seen := 0
		for other, o := range r.cache { // in an order of chance
			if seen == 0 || !o.gone.IsZero() {
				victim = other
			}
			if seen++; !o.gone.IsZero() || seen == lookForRoom {
				break
			}
		}
		delete(r.cache, victim)
	}
	r.cache[k] = e
}

func (r *Resolver) path(pid uint32, name string) string {
	return filepath.Join(r.proc, strconv.FormatUint(uint64(pid), 10), name)
}

// read asks /proc what a process is. What it cannot tell is called thread.
func (r *Resolver) read(k Key, thread string) *entry {
	e := &entry{process: Process{Key: k, Service: thread, Executable: thread}}
	p := &e.process
	if k.PID == 0 {
		return e
	}
	s, err := r.stat(k.PID)
	if err != nil && gone(err) || err == nil && !s.is(k) {
		return e
	}
	if err == nil {
		e.program = s.program
		if now, ok := bootNanos(); ok && now < int64(k.StartNanos)+int64(settling) {
			// Between a fork and its exec a process looks like its parent.
			e.again = time.Now().Add(settling)
		}
	}
	if g, err := r.readFile(k.PID, "cgroup"); err == nil {
		p.Group = ParseGroup(string(g))
	}
	var args []string
	if b, err := r.readFile(k.PID, "cmdline"); err == nil {
		args = splitZero(b)
	}
	called := ""
	if exe, err := os.Readlink(r.path(k.PID, "exe")); err == nil {
		called = r.calledBy(k.PID, exe, args)
		p.Executable = clean(filepath.Base(strings.TrimSuffix(exe, " (deleted)")))
	} else if p.Executable == "" && len(args) > 0 {
		p.Executable = clean(filepath.Base(args[0]))
	}
	var environ []string
	if b, err := r.readFile(k.PID, "environ"); err == nil {
		environ = splitZero(b)
	}
	e.told = p.settle(called, args, environ)
	return e
}

// calledBy is the link by which an executable was called, as Debian's redis-server
// is one to redis-check-rdb, and sh in many images one to busybox; "" if it went by
// its own name.
func (r *Resolver) calledBy(pid uint32, exe string, args []string) string {
	if len(args) == 0 {
		return ""
	}
	first, _, _ := strings.Cut(args[0], " ") // some put their state behind it
	name := strings.TrimPrefix(filepath.Base(first), "-")
	if name == "" || name == filepath.Base(exe) {
		return ""
	}
	root := r.path(pid, "root")
	link := filepath.Join(root, filepath.Dir(exe), name)
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(exe), target)
	}
	there, err := os.Stat(filepath.Join(root, target))
	if err != nil {
		return ""
	}
	if own, err := os.Stat(r.path(pid, "exe")); err != nil || !os.SameFile(own, there) {
		return ""
	}
	return name
}

// readFile reads a file of a process, of which the process may make as much as it
// likes.
func (r *Resolver) readFile(pid uint32, name string) ([]byte, error) {
	f, err := os.Open(r.path(pid, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}

// settle names the service of a process whose executable and control group are
// known; true: its environment says it.
func (p *Process) settle(called string, args, environ []string) (told bool) {
	name, namespace := Declared(environ)
	p.Namespace = namespace
	switch {
	case name != "":
		p.Service = name
	case serviceOfUnit(p.Unit) != "":
		p.Service = clean(serviceOfUnit(p.Unit))
	case fromInterpreter(p.Executable, args) != "":
		p.Service = clean(fromInterpreter(p.Executable, args))
	case called != "":
		p.Service = clean(called)
	case p.Executable != "":
		p.Service = p.Executable
	}
	return name != ""
}

func splitZero(b []byte) []string {
	text := strings.TrimRight(string(b), "\x00")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

// Declared is what an environment, of elements key=value, calls the service and its
// namespace, as OpenTelemetry's SDKs read it: the first part of the rule in the
// package comment. Either may be "".
func Declared(environ []string) (name, namespace string) {
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
	return clean(name), clean(namespace)
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
