package tls

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// fileID tells a file from all others.
type fileID struct{ device, inode uint64 }

// opened is a file that a process runs or has mapped.
type opened struct {
	*os.File
	id   fileID
	name string // as the process calls it
}

// processes finds those that match the targets.
type processes struct {
	env     *feature.Environment
	targets []string
	known   map[uint32]decision // by process id, of the last scan and since
}

// decision on a process, which holds as long as it runs the same file.
type decision struct {
	exe  string
	want bool
}

// wants says whether a process is one to watch.
func (p *processes) wants(pid uint32) bool {
	if pid == p.env.Self || pid == uint32(os.Getpid()) {
		return false
	}
	exe, err := os.Readlink(p.path(pid, "exe"))
	if err != nil {
		return false // gone, or of the kernel
	}
	if d, ok := p.known[pid]; ok && d.exe == exe {
		return d.want
	}
	d := decision{exe: exe, want: p.matches(exe, "")}
	if !d.want {
		if k, ok := p.key(pid); ok {
			d.want = p.matches(exe, p.env.Resolver.Resolve(k, "").Service)
		}
	}
	p.known[pid] = d
	return d.want
}

// runs says whether a process has a program; one that has ended and is not waited
// for yet has none.
func (p *processes) runs(pid uint32) bool {
	_, err := os.Readlink(p.path(pid, "exe"))
	return err == nil
}

// matches says whether a pattern is one of an executable or a service.
func (p *processes) matches(exe, service string) bool {
	exe = strings.TrimSuffix(exe, " (deleted)")
	for _, t := range p.targets {
		what := []string{filepath.Base(exe), service}
		if strings.Contains(t, "/") {
			what = []string{exe}
		}
		for _, w := range what {
			if ok, err := path.Match(t, w); w != "" && ok && err == nil {
				return true
			}
		}
	}
	return false
}

// matchesName says whether a pattern, without its directories, is one of a name.
func (p *processes) matchesName(name string) bool {
	for _, t := range p.targets {
		if ok, err := path.Match(path.Base(t), name); name != "" && ok && err == nil {
			return true
		}
	}
	return false
}

// key reads when a process began, to the hundredth of a second, which is as much
// as tells processes with the same number apart.
func (p *processes) key(pid uint32) (identity.Key, bool) {
	stat, err := os.ReadFile(p.path(pid, "stat"))
	if err != nil {
		return identity.Key{}, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return identity.Key{}, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return identity.Key{PID: pid, StartNanos: ticks * 10_000_000}, err == nil
}

func (p *processes) path(pid uint32, name string) string {
	return filepath.Join(p.env.Proc, strconv.FormatUint(uint64(pid), 10), name)
}

// scan gives the processes to watch that there are now.
func (p *processes) scan() ([]uint32, error) {
	dir, err := os.Open(p.env.Proc)
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	var pids []uint32
	there := make(map[uint32]decision, len(p.known))
	for _, name := range names {
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		pid := uint32(n)
		if p.wants(pid) {
			pids = append(pids, pid)
		}
		if d, ok := p.known[pid]; ok {
			there[pid] = d
		}
	}
	p.known = there
	return pids, nil
}

// files calls visit for the executable of a process and its libraries of TLS,
// until the process is gone. open opens the file as the process sees it, though
// it may have been deleted, replaced, or be in another mount namespace.
func (p *processes) files(pid uint32, visit func(id fileID, open func() (*opened, error))) {
	exe := p.path(pid, "exe")
	if id, ok := stat(exe); ok {
		visit(id, func() (*opened, error) {
			name, _ := os.Readlink(exe)
			return open(exe, name)
		})
	}
	p.libraries(pid, "libssl", visit)
}

// libraries calls visit for the libraries of a process whose names begin so.
func (p *processes) libraries(pid uint32, prefix string, visit func(id fileID, open func() (*opened, error))) {
	f, err := os.Open(p.path(pid, "maps"))
	if err != nil {
		return
	}
	defer f.Close()
	mapped(f, prefix, func(span, name string) {
		// map_files needs CAP_CHECKPOINT_RESTORE; without it the name serves,
		// unless the file has been replaced.
		for _, at := range []string{p.path(pid, "map_files/"+span), p.path(pid, "root") + name} {
			if id, ok := stat(at); ok {
				visit(id, func() (*opened, error) { return open(at, name) })
				return
			}
		}
	})
}

// mapped calls visit for each executable mapping of files whose names begin so.
func mapped(maps io.Reader, prefix string, visit func(span, name string)) {
	s := bufio.NewScanner(maps)
	for s.Scan() {
		// 7f00-7f01 r-xp 0002 fe:00 123   /usr/lib/libssl.so.3
		line := s.Text()
		slash := strings.IndexByte(line, '/')
		if slash < 0 {
			continue
		}
		fields := strings.Fields(line[:slash])
		name := strings.TrimSuffix(line[slash:], " (deleted)")
		if len(fields) < 2 || !strings.Contains(fields[1], "x") || !strings.HasPrefix(filepath.Base(name), prefix) {
			continue
		}
		visit(fields[0], name)
	}
}

// stat follows links.
func stat(at string) (fileID, bool) {
	info, err := os.Stat(at)
	if err != nil {
		return fileID{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), st.Ino}, true
}

func open(at, name string) (*opened, error) {
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	id, ok := stat("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if !ok {
		f.Close()
		return nil, fmt.Errorf("look at %s: it is gone", name)
	}
	return &opened{File: f, id: id, name: name}, nil
}
