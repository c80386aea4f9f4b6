package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// mount is a line of mountinfo.
type mount struct {
	device, point, fstype string
	major, minor          string
	readonly              bool
}

type filesystem struct {
	src               *sources
	reader            reader
	points, types     *regexp.Regexp
	statfs            *statter
	size, free, avail *family
	files, filesFree  *family
	readonly, failed  *family
	info              *family
}

func openFilesystem(s *sources, m *metrics) collectFunc {
	of := func(name, help string) *family {
		return gauge("node_filesystem_"+name, help, "device", "mountpoint", "fstype", "device_error")
	}
	f := &filesystem{
		src:       s,
		statfs:    newStatter(m.stuck, unix.Statfs),
		size:      of("size_bytes", "Filesystem size in bytes."),
		free:      of("free_bytes", "Filesystem free space in bytes."),
		avail:     of("avail_bytes", "Filesystem space available to non-root users in bytes."),
		files:     of("files", "Filesystem total file nodes."),
		filesFree: of("files_free", "Filesystem total free file nodes."),
		readonly:  of("readonly", "Filesystem read-only status."),
		failed:    of("device_error", "Whether an error occurred while getting statistics for the given device."),
		info:      gauge("node_filesystem_mount_info", "Filesystem mount information.", "device", "major", "minor", "mountpoint"),
	}
	if s.MountPointsExclude != "" {
		f.points = regexp.MustCompile(s.MountPointsExclude)
	}
	if s.FSTypesExclude != "" {
		f.types = regexp.MustCompile(s.FSTypesExclude)
	}
	return f.collect
}

func (f *filesystem) collect(ctx context.Context, b *batch) error {
	mounts, err := f.mounts()
	if err != nil {
		return err
	}
	paths := make([]string, len(mounts))
	for i, m := range mounts {
		paths[i] = f.src.root(m.point)
	}
	for i, st := range f.statfs.all(ctx, paths) {
		m, reason := mounts[i], ""
		if st.err != nil {
			reason = st.err.Error()
		}
		at := []string{m.device, m.point, m.fstype, reason}
		b.add(f.failed, truth(st.err != nil), at...)
		b.add(f.readonly, truth(m.readonly), at...)
		if st.err != nil {
			continue
		}
		block := float64(st.Bsize)
		b.add(f.size, float64(st.Blocks)*block, at...)
		b.add(f.free, float64(st.Bfree)*block, at...)
		b.add(f.avail, float64(st.Bavail)*block, at...)
		b.add(f.files, float64(st.Files), at...)
		b.add(f.filesFree, float64(st.Ffree), at...)
		b.add(f.info, 1, m.device, m.major, m.minor, m.point)
	}
	return nil
}

// mounts returns the mounts of the first process, or of this one, that are
// wanted.
func (f *filesystem) mounts() ([]mount, error) {
	data, err := f.reader.read(f.src.proc("1/mountinfo"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		data, err = f.reader.read(f.src.proc("self/mountinfo"))
	}
	if err != nil {
		return nil, err
	}
	var out []mount
	seen := map[mount]bool{}
	for line := range lines(data) {
		m, err := parseMount(line)
		if err != nil {
			return nil, err
		}
		if f.src.RootFS != "/" {
			rest, under := strings.CutPrefix(m.point, strings.TrimSuffix(f.src.RootFS, "/"))
			if under && (rest == "" || rest[0] == '/') {
				m.point = "/" + strings.TrimPrefix(rest, "/")
			}
		}
		if seen[m] || f.points != nil && f.points.MatchString(m.point) || f.types != nil && f.types.MatchString(m.fstype) {
			continue
		}
		seen[m] = true
		out = append(out, m)
	}
	return out, nil
}

// parseMount reads a line of mountinfo, see proc(5):
// 36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue.
func parseMount(line []byte) (mount, error) {
	words := fields(nil, line)
	dash := slices.IndexFunc(words, func(w []byte) bool { return string(w) == "-" })
	if dash < 6 || len(words) < dash+3 {
		return mount{}, fmt.Errorf("parse mountinfo: got %q, want ten fields", line)
	}
	m := mount{point: unescapeOctal(words[4]), fstype: string(words[dash+1]), device: unescapeOctal(words[dash+2])}
	m.major, m.minor, _ = strings.Cut(string(words[2]), ":")
	options := words[5]
	if len(words) > dash+3 {
		options = append(append(bytes.Clone(options), ','), words[dash+3]...)
	}
	for option := range bytes.SplitSeq(options, []byte{','}) {
		switch string(option) {
		case "ro", "emergency_ro":
			m.readonly = true
		}
	}
	return m, nil
}

// unescapeOctal undoes what the kernel does to white space and backslashes.
func unescapeOctal(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) {
			if n, ok := octal(b[i+1 : i+4]); ok {
				out = append(out, n)
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return string(out)
}

func octal(digits []byte) (byte, bool) {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n*8 + int(c-'0')
	}
	return byte(n), n < 256
}

// errStuck is what a mount point fails with whose file system does not answer.
// The text is node_exporter's.
var errStuck = errors.New("mountpoint timeout")

// statResult is an answer of statfs.
type statResult struct {
	unix.Statfs_t
	err error
}

// statter asks for file systems that may never answer.
type statter struct {
	count prometheus.Counter
	ask   func(string, *unix.Statfs_t) error

	// mu guards stuck: the paths whose question has not returned.
	mu    sync.Mutex
	stuck map[string]bool
}

func newStatter(count prometheus.Counter, ask func(string, *unix.Statfs_t) error) *statter {
	return &statter{count: count, ask: ask, stuck: map[string]bool{}}
}

// all asks for one path after the other. One that does not answer within half of
// the time that is left is given up: its goroutine waits on, and until it returns
// nobody asks for that path again. So every hung mount holds one goroutine, and
// the others are still measured.
func (s *statter) all(ctx context.Context, paths []string) []statResult {
	out := make([]statResult, len(paths))
	ask, answer := s.worker()
	defer func() { close(ask) }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for i, path := range paths {
		s.mu.Lock()
		hung := s.stuck[path]
		s.mu.Unlock()
		if hung {
			out[i].err = errStuck
			continue
		}
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(time.Second)
		}
		timer.Reset(time.Until(deadline) / 2)
		ask <- path
		select {
		case out[i] = <-answer:
		case <-timer.C:
			if s.giveUp(path, answer) {
				s.count.Inc()
				out[i].err = errStuck
				close(ask) // the worker ends when it gets its answer
				ask, answer = s.worker()
			} else {
				out[i] = <-answer
			}
		}
	}
	return out
}

// giveUp marks the path, unless the answer has just come.
func (s *statter) giveUp(path string, answer <-chan statResult) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(answer) > 0 {
		return false
	}
	s.stuck[path] = true
	return true
}

// worker starts a goroutine that ends when ask is closed, or later, when its last
// question is answered.
func (s *statter) worker() (ask chan string, answer chan statResult) {
	ask, answer = make(chan string), make(chan statResult, 1)
	go func() {
		for path := range ask {
			var r statResult
			for r.err = unix.EINTR; r.err == unix.EINTR; {
				r.err = s.ask(path, &r.Statfs_t)
			}
			s.mu.Lock()
			delete(s.stuck, path)
			answer <- r // has room: every question takes its answer out, or is the last one
			s.mu.Unlock()
		}
	}()
	return ask, answer
}
