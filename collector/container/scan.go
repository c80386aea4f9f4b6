package container

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	maxDepth  = 24
	maxWalked = 1 << 16 // cgroups that one walk looks at

	// crunsGroup is what crun makes below the scope that it has systemd make; limits
	// are there.
	crunsGroup = "container"
)

// cgroup is one cgroup that is listed.
type cgroup struct {
	place
	path    string   // below the root of the hierarchies, as in /system.slice/ssh.service
	inode   uint64   // tells a cgroup from an earlier one of the same path
	started int64    // Unix seconds
	guessed bool     // started is that of the cgroup: no process was in the container yet
	below   []string // of containers and services: all cgroups inside, whose processes are its own
	limited string   // of containers: the cgroup inside that has the limits, if any has
}

// walk finds the cgroups to list, containers first, and says how many of them
// are left out. Those in before that are still there keep their start times.
func (c *Collector) walk(h hierarchies, before []*cgroup) (list []*cgroup, skipped int, err error) {
	w := walker{c: c, h: h, before: map[string]*cgroup{}}
	for _, g := range before {
		w.before[g.path] = g
	}
	if err := w.visit("/", 0); err != nil {
		return nil, 0, fmt.Errorf("walk cgroups: %w", err)
	}
	slices.SortFunc(w.found, func(a, b *cgroup) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.path, b.path))
	})
	if more := len(w.found) - c.cfg.MaxContainers; more > 0 {
		w.found, skipped = w.found[:c.cfg.MaxContainers], more
	}
	for _, g := range w.found {
		if g.started == 0 || g.guessed {
			g.started, g.guessed = c.startTime(h, g)
		}
	}
	return w.found, skipped, nil
}

type walker struct {
	c      *Collector
	h      hierarchies
	before map[string]*cgroup
	found  []*cgroup
	walked int
}

// visit looks at one cgroup and those below it; owners are the service and the
// container that it is in.
func (w *walker) visit(path string, depth int, owners ...*cgroup) error {
	if w.walked++; w.walked > maxWalked || depth > maxDepth {
		return nil
	}
	inode, children, err := w.children(path)
	if err != nil {
		if depth > 0 {
			return nil // gone since its parent was read
		}
		return err
	}
	var who place
	old := w.before[path]
	if old != nil && old.inode == inode {
		who = old.place
	} else {
		old, who = nil, classify(path)
	}
	if who.kind == kindIgnored {
		return nil
	}
	for _, o := range owners {
		o.below = append(o.below, path)
	}
	if who.kind == kindRoot || w.c.kinds[who.kind] {
		g := &cgroup{place: who, path: path, inode: inode}
		if old != nil {
			g.started, g.guessed = old.started, old.guessed
		}
		if who.kind == kindContainer || who.kind == kindService {
			owners = append(owners[:len(owners):len(owners)], g)
		}
		w.found = append(w.found, g)
	}
	for _, name := range children {
		inside := filepath.Join(path, name)
		if len(owners) > 0 && who.kind == kindContainer && name == crunsGroup && (who.runtime == "podman" || who.runtime == "cri-o") {
			owners[len(owners)-1].limited = inside
		}
		if err := w.visit(inside, depth+1, owners...); err != nil {
			return err
		}
	}
	return nil
}

// children returns the names of the cgroups below one, in all hierarchies.
func (w *walker) children(path string) (inode uint64, names []string, err error) {
	union := map[string]bool{}
	there := false
	for _, mount := range w.h.mounts {
		dir := filepath.Join(mount, path)
		info, statErr := os.Stat(dir)
		if statErr != nil {
			err = statErr
			continue
		}
		there = true
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			if inode == 0 {
				inode = stat.Ino
			}
			if stat.Nlink == 2 {
				continue // a folder without folders
			}
		}
		entries, readErr := os.ReadDir(dir)
		if readErr != nil {
			err = readErr
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				union[e.Name()] = true
			}
		}
	}
	if !there {
		return 0, nil, err
	}
	return inode, slices.Sorted(maps.Keys(union)), nil
}

// startTime is that of the oldest process for a container, and else the time at
// which the cgroup was made, but not before the machine. A container is listed as soon
// as its cgroup is there, a moment before there is a process in it.
func (c *Collector) startTime(h hierarchies, g *cgroup) (started int64, guessed bool) {
	boot := c.proc.bootTime()
	if g.kind == kindRoot {
		return boot, false
	}
	oldest := int64(0)
	if g.kind == kindContainer {
		for _, pid := range c.pids(h, g) {
			if t := c.proc.startTime(pid, boot); t > 0 && (oldest == 0 || t < oldest) {
				oldest = t
			}
		}
	}
	if oldest > 0 {
		return oldest, false
	}
	oldest = g.started
	for _, mount := range h.mounts {
		for _, name := range []string{"", "cgroup.clone_children", "cgroup.events"} {
			info, err := os.Stat(filepath.Join(mount, g.path, name))
			if err != nil {
				continue
			}
			if t := info.ModTime().Unix(); oldest == 0 || t < oldest {
				oldest = t
			}
		}
	}
	return max(oldest, boot), g.kind == kindContainer
}

// pids returns the processes of a cgroup and, of a container or a service, of
// the cgroups inside it.
func (c *Collector) pids(h hierarchies, g *cgroup) []int {
	var pids []int
	for _, path := range append([]string{g.path}, g.below...) {
		for _, mount := range h.mounts {
			data, ok := readFile(filepath.Join(mount, path, "cgroup.procs"))
			if !ok {
				continue
			}
			before := len(pids)
			pids = appendInts(pids, data)
			if len(pids) > before {
				break // v1 has a process in every hierarchy
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// snapshot is the outcome of a walk.
type snapshot struct {
	at   time.Time
	h    hierarchies
	list []*cgroup
}

// scan returns the last walk's outcome, of now if that one is too old.
func (c *Collector) scan() (snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if !c.last.at.IsZero() && now.Sub(c.last.at) < c.cfg.RescanInterval {
		return c.last, nil
	}
	h, err := findHierarchies(c.cgroupRoot)
	if err != nil {
		return snapshot{}, err
	}
	list, skipped, err := c.walk(h, c.last.list)
	if err != nil {
		return snapshot{}, err
	}
	c.last = snapshot{at: now, h: h, list: list}
	c.metrics.scans.Inc()
	c.metrics.skipped.Set(float64(skipped))
	var counts [numKinds]int
	for _, g := range list {
		counts[g.kind]++
	}
	for k, n := range counts {
		c.metrics.listed.WithLabelValues(kind(k).String()).Set(float64(n))
	}
	return c.last, nil
}
