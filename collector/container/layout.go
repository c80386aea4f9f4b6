package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// hierarchies are the mounted trees of cgroups.
type hierarchies struct {
	unified string            // the mount of cgroup v2, or ""
	v1      map[string]string // mounts of cgroup v1 by controller
	mounts  []string          // all that are walked, each once; see pids for the order
}

// The controllers of cgroup v1 whose trees are walked. systemd's own tree comes
// first, and cgroup v2 beside v1 last: engines leave their containers' processes
// where the engine is in that one.
var walkedControllers = []string{"systemd", "cpu", "cpuacct", "memory", "blkio", "pids"}

// findHierarchies looks below the usual mount point: cgroup v2 has the file
// cgroup.controllers, and v1 a folder for each hierarchy, named by controllers.
func findHierarchies(root string) (hierarchies, error) {
	h := hierarchies{v1: map[string]string{}}
	if exists(filepath.Join(root, "cgroup.controllers")) {
		h.unified = root
		h.mounts = []string{root}
		return h, nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return h, fmt.Errorf("find cgroups: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		switch {
		case !e.IsDir(): // links cpu -> cpu,cpuacct
		case exists(filepath.Join(dir, "cgroup.controllers")):
			h.unified = dir
		case exists(filepath.Join(dir, "cgroup.procs")):
			for c := range strings.SplitSeq(e.Name(), ",") {
				h.v1[c] = dir
			}
		}
	}
	seen := map[string]bool{"": true}
	for _, dir := range append(lookUp(h.v1, walkedControllers), h.unified) {
		if !seen[dir] {
			seen[dir] = true
			h.mounts = append(h.mounts, dir)
		}
	}
	if len(h.mounts) == 0 {
		return h, fmt.Errorf("find cgroups: got neither version 1 nor 2 at %s", root)
	}
	return h, nil
}

func lookUp(m map[string]string, keys []string) []string {
	values := make([]string, 0, len(keys))
	for _, k := range keys {
		values = append(values, m[k])
	}
	return values
}

// file returns the path of a v1 controller's file, or "" if the controller is
// not on v1 or the cgroup is not in its tree.
func (h hierarchies) file(controller, cgroup, name string) string {
	mount := h.v1[controller]
	if mount == "" {
		return ""
	}
	return filepath.Join(mount, cgroup, name)
}

// onV1 tells whether v1 accounts for a cgroup with a controller.
func (h hierarchies) onV1(controller, cgroup string) bool {
	mount := h.v1[controller]
	return mount != "" && exists(filepath.Join(mount, cgroup))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
