package symbol

import (
	"bytes"
	"container/list"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Bounds and times of what is remembered of processes.
const (
	maxProcesses = 4096
	maxMapsBytes = 8 << 20
	maxPaths     = 8192
	mappingBytes = 80
	// staleMaps is how long mappings are believed when nothing speaks against them.
	staleMaps = 60 * time.Second
	// retryKernel is how often kallsyms is read again for an unknown address.
	retryKernel = time.Minute
)

// Frame is one function on a stack.
type Frame struct {
	// Name of the function; of code without symbols, the object in brackets.
	Name string
	// Object is the file's name, kernel, or what kind of memory it is.
	Object string
}

// Unknown is the name of a frame at an address that nothing is mapped at.
const Unknown = "[unknown]"

// Options of New.
type Options struct {
	// Proc is where the host's /proc is.
	Proc string
	// MaxBytes bounds the memory of the tables. One file that is larger than that
	// alone is kept while it is looked at.
	MaxBytes int64
}

// Stats are counters of a Symboliser.
type Stats struct {
	Bytes                             int64
	Files, Processes                  int
	Hits, Misses, Evictions, Failures uint64
}

// process is what is known of a process.
type process struct {
	key     identity.Key
	exe     [2]uint64 // device and inode of what it runs
	maps    []mapping
	read    time.Time
	checked time.Time // in this round
	perf    *perfMap
	jit     *opened // the perf map, open until the round ends
	jitOld  bool    // the perf map was looked at in this round
	bytes   int64   // of the mappings and the perf map
}

// Symboliser names addresses. It is safe for use by many goroutines; what it
// opens stays open until Release.
type Symboliser struct {
	proc     string
	maxBytes int64

	mu        sync.Mutex
	processes map[identity.Key]*process // this and what follows under mu
	files     map[fileKey]*file
	recent    *list.List // of *file, the one used last in front
	bytes     int64
	vdso      []byte
	kernel    *kernelTable
	kernelAt  time.Time
	open      []*opened
	paths     map[string]string
	round     time.Time // when the round began; zero: none runs

	hits, misses, evictions, failures uint64
}

// New returns a symboliser that has read nothing.
func New(o Options) *Symboliser {
	return &Symboliser{
		proc: o.Proc, maxBytes: o.MaxBytes,
		processes: make(map[identity.Key]*process), files: make(map[fileKey]*file), recent: list.New(), paths: make(map[string]string),
	}
}

func (s *Symboliser) path(pid uint32, name string) string {
	return filepath.Join(s.proc, strconv.FormatUint(uint64(pid), 10), name)
}

// Note reads the mappings of a process now, for it may be gone when its stacks
// are read.
func (s *Symboliser) Note(k identity.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processOf(k, time.Now())
}

// processOf gives a process with mappings that are fresh enough, or what is left
// of one; nil: it was never readable.
func (s *Symboliser) processOf(k identity.Key, now time.Time) *process {
	p := s.processes[k]
	if p != nil && p.checked.Equal(now) {
		return p
	}
	exe := s.executable(k.PID)
	if p != nil && (exe == p.exe && now.Sub(p.read) < staleMaps || exe == [2]uint64{}) {
		p.checked = now
		return p
	}
	if p == nil && len(s.processes) >= maxProcesses {
		return nil
	}
	maps, err := s.readMaps(k.PID)
	if err != nil || len(maps) == 0 {
		if p != nil {
			p.checked = now
		}
		return p
	}
	if p == nil || p.exe != exe {
		if p != nil {
			s.bytes -= p.bytes
		}
		p = &process{key: k, exe: exe}
		s.processes[k] = p
	}
	p.checked = now
	s.remap(p, maps, now)
	return p
}

// remap gives a process new mappings.
func (s *Symboliser) remap(p *process, maps []mapping, now time.Time) {
	carry(maps, p.maps)
	for i := range maps {
		m := &maps[i]
		if path, ok := s.paths[m.path]; ok {
			m.path = path // one string for all
		} else if len(s.paths) < maxPaths {
			s.paths[m.path] = m.path
		}
	}
	s.account(p, int64(len(maps)-len(p.maps))*mappingBytes)
	p.maps, p.read = maps, now
	s.shrink(nil)
}

// account notes that a process takes so many bytes more.
func (s *Symboliser) account(p *process, n int64) {
	p.bytes += n
	s.bytes += n
}

func (s *Symboliser) readMaps(pid uint32) ([]mapping, error) {
	b, err := readAtMost(s.path(pid, "maps"), maxMapsBytes)
	if err != nil {
		return nil, errGone(pid, err)
	}
	return parseMaps(b), nil
}

// carry takes over the files of mappings that have not changed.
func carry(fresh, old []mapping) {
	for i := range fresh {
		m := &fresh[i]
		if o := mappingAt(old, m.start); o != nil && o.start == m.start && o.inode == m.inode && o.offset == m.offset && o.path == m.path {
			m.file = o.file
		}
	}
}

// executable tells what a process runs, which changes when it execs.
func (s *Symboliser) executable(pid uint32) [2]uint64 {
	var st unix.Stat_t
	if err := unix.Stat(s.path(pid, "exe"), &st); err != nil {
		return [2]uint64{}
	}
	return [2]uint64{st.Dev, st.Ino}
}

// User appends the frames of a stack of process k to dst, in the order of the
// addresses. All but the first are return addresses: the call before is meant.
func (s *Symboliser) User(dst []Frame, k identity.Key, addrs []uint64) []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.round.IsZero() {
		s.round = time.Now()
	}
	p := s.processOf(k, s.round)
	for i, a := range addrs {
		if i > 0 && a > 0 {
			a--
		}
		dst = append(dst, s.userFrame(p, a))
	}
	return dst
}

func (s *Symboliser) userFrame(p *process, addr uint64) Frame {
	unknown := Frame{Name: Unknown}
	if p == nil {
		return unknown
	}
	m := mappingAt(p.maps, addr)
	if m == nil && !p.read.Equal(s.round) {
		if maps, err := s.readMaps(p.key.PID); err == nil && len(maps) > 0 && s.executable(p.key.PID) == p.exe {
			s.remap(p, maps, s.round)
			m = mappingAt(p.maps, addr)
		}
		p.read = s.round // once a round
	}
	if m == nil {
		return unknown
	}
	object := m.object()
	unknown = Frame{Name: "[" + object + "]", Object: object}
	if m.generated() {
		if name, ok := s.generated(p, addr); ok {
			return Frame{Name: name, Object: "jit"}
		}
		return unknown
	}
	f := s.fileOf(p, m)
	if f == nil {
		return unknown
	}
	at, ok := addressOf(f.segments, addr-m.start+m.offset)
	if !ok {
		return unknown
	}
	for _, t := range f.tables {
		if i := t.find(at); i >= 0 {
			if name, ok := s.nameOf(p, m, t, i); ok {
				return Frame{Name: name, Object: object}
			}
		}
	}
	return unknown
}

// generated names code that a JIT compiler has written.
func (s *Symboliser) generated(p *process, addr uint64) (string, bool) {
	if !p.jitOld {
		p.jitOld = true
		p.jit = s.openPerfMap(p)
	}
	if p.jit == nil || p.perf == nil {
		return "", false
	}
	e, ok := p.perf.find(addr)
	if !ok {
		return "", false
	}
	name, ok := p.perf.name(p.jit, e)
	return Clean(name), ok
}

// openPerfMap opens a process's perf map and reads what is new in it.
func (s *Symboliser) openPerfMap(p *process) *opened {
	f, err := s.inRoot(p.key.PID, "/tmp/perf-"+s.innerPID(p.key.PID)+".map")
	if err != nil {
		return nil
	}
	s.open = append(s.open, f)
	if p.perf != nil && (p.perf.inode != f.stat.Ino || p.perf.read > f.stat.Size) {
		s.account(p, -int64(cap(p.perf.entries))*16)
		p.perf = nil
	}
	if p.perf == nil {
		p.perf = &perfMap{inode: f.stat.Ino}
	}
	before := cap(p.perf.entries)
	if err := p.perf.extend(f, f.stat.Size); err != nil {
		s.failures++
	}
	s.account(p, int64(cap(p.perf.entries)-before)*16)
	s.shrink(nil)
	if s.bytes > s.maxBytes {
		s.account(p, -int64(cap(p.perf.entries))*16)
		p.perf = nil
	}
	return f
}

// innerPID is how a process calls itself, in the innermost namespace.
func (s *Symboliser) innerPID(pid uint32) string {
	outer := strconv.FormatUint(uint64(pid), 10)
	b, err := readAtMost(s.path(pid, "status"), 64<<10)
	if err != nil {
		return outer
	}
	_, rest, ok := bytes.Cut(b, []byte("\nNSpid:"))
	if !ok {
		return outer
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return outer
	}
	if _, err := strconv.ParseUint(string(fields[len(fields)-1]), 10, 32); err != nil {
		return outer
	}
	return string(fields[len(fields)-1])
}

// Kernel appends the frames of a stack of the kernel to dst.
func (s *Symboliser) Kernel(dst []Frame, addrs []uint64) []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel == nil {
		s.readKernel()
	}
	for i, a := range addrs {
		if i > 0 {
			a--
		}
		name, ok := s.kernel.find(a)
		if !ok && len(s.kernel.symbols) > 0 && time.Since(s.kernelAt) > retryKernel {
			// A module or an eBPF program that was loaded since.
			s.readKernel()
			name, ok = s.kernel.find(a)
		}
		if !ok {
			name = "[kernel]"
		}
		dst = append(dst, Frame{Name: name, Object: "kernel"})
	}
	return dst
}

func (s *Symboliser) readKernel() {
	s.kernelAt = time.Now()
	k, err := readKernel(filepath.Join(s.proc, "kallsyms"))
	if err != nil {
		s.failures++
		k = &kernelTable{}
	}
	s.kernel = k
}

// Release ends a round: it closes what was opened.
func (s *Symboliser) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.recent.Front(); e != nil; e = e.Next() {
		f := e.Value.(*file)
		f.main, f.debug, f.noNames = nil, nil, false
	}
	for _, p := range s.processes {
		p.jit, p.jitOld = nil, false
	}
	for _, o := range s.open {
		_ = o.Close()
	}
	clear(s.open)
	s.open = s.open[:0]
	s.round = time.Time{}
}

// Sweep forgets processes that are gone.
func (s *Symboliser) Sweep(alive func(identity.Key) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, p := range s.processes {
		if !alive(k) {
			s.bytes -= p.bytes
			delete(s.processes, k)
		}
	}
}

// Stats reads the counters.
func (s *Symboliser) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Bytes: s.bytes, Files: len(s.files), Processes: len(s.processes),
		Hits: s.hits, Misses: s.misses, Evictions: s.evictions, Failures: s.failures,
	}
	if s.kernel != nil {
		st.Bytes += s.kernel.bytes()
	}
	return st
}

// HasKernel says whether the kernel tells its symbols.
func (s *Symboliser) HasKernel() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel == nil {
		s.readKernel()
	}
	return len(s.kernel.symbols) > 0
}
