package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// nanosPerTick is the unit of times in /proc: USER_HZ is 100 on every
// architecture that Vedette runs on.
const nanosPerTick = int64(time.Second / 100)

// stat is what /proc/<pid>/stat says.
type stat struct {
	start int64 // in ticks since boot; -1: not told
	program
}

// program tells one program of a process from the next: the main thread's name,
// and where its arguments begin, which the kernel chooses anew for each exec and
// a fork takes over. Without the right to trace the process the place is 0.
type program struct {
	comm string
	args string
}

// follows says whether another program than was runs now. Of a process that ends,
// or that may not be traced any more, it is not told where the arguments are.
func (p program) follows(was program) bool {
	if p.comm != was.comm {
		return true
	}
	return p.args != was.args && p.args != noArgs && was.args != noArgs
}

// noArgs stands for arguments that are nowhere, or not to be told.
const noArgs = "0"

// is says whether it is process k that was read.
func (s *stat) is(k Key) bool { return s.start < 0 || s.start == int64(k.StartNanos)/nanosPerTick }

func (r *Resolver) stat(pid uint32) (stat, error) {
	b, err := os.ReadFile(r.path(pid, "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b), nil
}

// parseStat reads fields 2, 22 and 48. The second may hold anything, so counting
// begins after its last bracket.
func parseStat(b []byte) stat {
	s := stat{start: -1}
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return s
	}
	s.comm = string(b[open+1 : shut])
	fields := bytes.Fields(b[shut+1:])
	if len(fields) > 19 {
		if n, err := strconv.ParseInt(string(fields[19]), 10, 64); err == nil {
			s.start = n
		}
	}
	if len(fields) > 45 {
		s.args = string(fields[45])
	}
	return s
}

// SameProcess says whether directory, of a mounted /proc, is that of the process
// whose file stat has the contents own.
func SameProcess(own []byte, directory string) bool {
	b, err := os.ReadFile(filepath.Join(directory, "stat"))
	if err != nil {
		return false
	}
	a, o := parseStat(b), parseStat(own)
	return a.start >= 0 && a == o
}

// bootNanos is the clock that processes' starts are told by.
func bootNanos() (int64, bool) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, false
	}
	return now.Nano(), true
}
