// Package realcontainers is what tests that run real container engines have in
// common: a folder for all that an engine writes, at whose end nothing is left of
// it, and the cgroups of the machine.
//
// A test that is killed ends nothing: shims and containers outlive their engine. The
// next one that asks for a folder ends what is left of those whose process is gone,
// which it knows by the lock that every folder has for as long as its process lives.
package realcontainers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long the end of what is left may take.
const patience = 30 * time.Second

// begin is how the names of all folders begin. They are short, for paths of sockets
// are.
const begin = "vedette-engine-"

// Folder is one engine's, or one cluster's.
type Folder struct {
	// Path is that of the folder. A cgroup with its name, in any hierarchy, is the
	// folder's.
	Path string

	held *os.File
}

// New makes a folder, after ending what is left of those whose process was killed.
func New() (*Folder, error) {
	release, err := lock()
	if err != nil {
		return nil, err
	}
	defer release()
	for _, path := range folders() {
		if held, err := hold(path); err == nil {
			err = errors.Join(End(path), held.Close())
			if err != nil {
				return nil, fmt.Errorf("end what a killed test has left: %w", err)
			}
		}
	}
	f := new(Folder)
	if f.Path, err = os.MkdirTemp("", begin); err != nil {
		return nil, err
	}
	f.held, err = hold(f.Path)
	return f, err
}

// End ends what is left of the engine, and removes the folder. The last of all
// removes the cgroups that the first container of an engine makes for all that
// follow, which none may do while another is about to make one below.
func (f *Folder) End() error {
	err := End(f.Path)
	release, locked := lock()
	if locked != nil {
		return errors.Join(err, locked)
	}
	defer release()
	err = errors.Join(err, f.held.Close())
	if len(folders()) == 0 {
		for _, hierarchy := range Hierarchies() {
			for _, parent := range []string{"docker", "default", "k8s.io", "kubepods"} {
				_ = syscall.Rmdir(filepath.Join(hierarchy, parent)) // stays while containers are in it
			}
		}
	}
	return err
}

// lock keeps others from making folders and from looking for those that are left.
func lock() (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "vedette-engine.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// hold locks a folder for as long as this process lives, unless another does.
func hold(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func folders() []string {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), begin+"*"))
	return paths
}

// End ends all processes that name a folder in their arguments, those that they
// began, such as the containers of a shim, and those in the folder's cgroup. It
// removes mounts, cgroups and the folder.
func End(path string) error {
	deadline := time.After(patience)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	groups := map[string]bool{}
	for {
		err := end(path, groups)
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-deadline:
			return fmt.Errorf("end what is left in %s: %w", path, err)
		}
	}
}

func end(path string, groups map[string]bool) error {
	pids := Processes(path)
	for _, pid := range pids {
		for _, g := range groupsOf(pid) {
			groups[g] = true
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if len(pids) > 0 {
		return fmt.Errorf("processes %v are there", pids)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], path+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
	for _, hierarchy := range Hierarchies() {
		for g := range groups {
			if err := syscall.Rmdir(hierarchy + g); errors.Is(err, syscall.EBUSY) {
				return fmt.Errorf("remove cgroup %s: %w", g, err)
			}
			_ = syscall.Rmdir(hierarchy + filepath.Dir(g)) // a pod's, unless others are in it
		}
		if err := removeGroups(filepath.Join(hierarchy, filepath.Base(path))); err != nil {
			return err
		}
	}
	return os.RemoveAll(path)
}

// container is the cgroup of one.
var container = regexp.MustCompile(`^(/.+)?/[^/]*[0-9a-f]{64}[^/]*$`)

// groupsOf gives the cgroups of a process that are a container's.
func groupsOf(pid int) (paths []string) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && container.MatchString(f[2]) {
			paths = append(paths, f[2])
		}
	}
	return paths
}

// Processes lists the processes that End ends. This one, and those that began it,
// are none of them.
func Processes(path string) (pids []int) {
	parents, ours := map[int]int{}, map[int]bool{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, lives := parentOf(pid)
		if err != nil || !lives {
			continue
		}
		parents[pid] = parent
		line, _ := os.ReadFile(file)
		ours[pid] = bytes.Contains(line, []byte(path+"/"))
	}
	for _, pid := range inGroup(filepath.Base(path)) {
		ours[pid] = true
	}
	kin := map[int]bool{}
	for pid := os.Getpid(); pid > 0; pid = parents[pid] {
		kin[pid], ours[pid] = true, false
	}
	for more := true; more; {
		more = false
		for pid, parent := range parents {
			if ours[parent] && !ours[pid] && !kin[pid] {
				ours[pid], more = true, true
			}
		}
	}
	for pid, is := range ours {
		if is {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// parentOf gives the process that a process is the child of; false: it has ended.
func parentOf(pid int) (parent int, lives bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if err != nil || len(f) < 2 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	parent, err = strconv.Atoi(f[1])
	return parent, err == nil
}

// inGroup lists the processes in a cgroup at the root of a hierarchy, and below it.
func inGroup(name string) (pids []int) {
	for _, hierarchy := range Hierarchies() {
		_ = filepath.WalkDir(filepath.Join(hierarchy, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil
			}
			text, _ := os.ReadFile(path)
			for _, f := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// removeGroups removes a cgroup and those in it.
func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // it is gone
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// Hierarchies are where cgroups are mounted.
func Hierarchies() (dirs []string) {
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[2], "cgroup") {
			dirs = append(dirs, f[1])
		}
	}
	return dirs
}
