package http1

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// openGroups opens the root of the control groups of version 2. Hosts with version 1
// alone, as RHEL 8, have it mounted nowhere, though all their processes are in it.
func openGroups() (*os.File, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the control groups: %w", err)
	}
	if path := groupMount(string(mounts)); path != "" {
		return os.Open(path)
	}
	return mountGroups("/sys/fs/cgroup")
}

// mountGroups mounts it for as long as the file is open, where nobody else sees it:
// over a directory of a thread that has mounts of its own, and ends. The main thread
// cannot: it stays for as long as the process, whose mounts would be taken for its.
func mountGroups(dir string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	var onThread func()
	onThread = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			another := make(chan struct{})
			go func() {
				defer close(another)
				onThread()
			}()
			<-another
			runtime.UnlockOSThread()
			return
		}
		file, err := mountForThread(dir)
		done <- result{file, err} // still locked, so that the thread ends with the goroutine
	}
	go onThread()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("mount control groups of version 2: %w", r.err)
	}
	return r.file, nil
}

func mountForThread(dir string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	if err := unix.Mount("none", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("the kernel has none: %w", ebpf.ErrNotSupported)
	} else if err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	return os.Open(dir)
}

// groupMount finds in /proc/self/mountinfo where the root of the control groups of
// version 2 is mounted; empty: nowhere.
func groupMount(mountinfo string) string {
	for line := range strings.Lines(mountinfo) {
		mount, rest, ok := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if !ok || len(fields) < 5 || fields[3] != "/" || !strings.HasPrefix(rest, "cgroup2 ") {
			continue
		}
		return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
	}
	return ""
}
