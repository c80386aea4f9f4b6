package identity

import (
	"regexp"
	"strings"
)

// Group is what a process's control group says about it.
type Group struct {
	// Path of the control group, of the unified hierarchy where there is one.
	Path string
	// Unit is the systemd service, such as nginx.service.
	Unit string
	// ContainerID is the engine's 64 hexadecimal digits.
	ContainerID string
	// Engine is docker, containerd, cri-o or podman, when the path says it.
	Engine string
	// PodUID is the Kubernetes pod's.
	PodUID string
}

var (
	containerSegment = regexp.MustCompile(`^(?:(docker|cri-containerd|nerdctl|crio|libpod|libpod-payload)-)?([0-9a-f]{64})(?:\.scope)?$`)
	podSegment       = regexp.MustCompile(`^(?:(?:.*-)?kubepods(?:-burstable|-besteffort)?-)?pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$`)
	engines          = map[string]string{"docker": "docker", "cri-containerd": "containerd", "crio": "cri-o", "libpod": "podman", "libpod-payload": "podman", "nerdctl": "containerd"}
)

// ParseGroup reads the contents of /proc/<pid>/cgroup. Of several hierarchies the
// line that says most is taken: a container counts more than a pod, and that more
// than a unit, for beside version 1 engines leave their containers' processes in the
// engine's own group of version 2.
func ParseGroup(contents string) Group {
	var best Group
	for line := range strings.Lines(contents) {
		_, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		_, path, ok := strings.Cut(rest, ":")
		if !ok || path == "" {
			continue
		}
		if g := parsePath(path); best.Path == "" || g.weight() > best.weight() {
			best = g
		}
	}
	return best
}

func (g Group) weight() int {
	n := 0
	for i, s := range []string{g.Unit, g.PodUID, g.ContainerID} {
		if s != "" {
			n += 1 << i
		}
	}
	return n
}

func parsePath(path string) Group {
	g := Group{Path: path}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i, s := range segments {
		if strings.HasSuffix(s, ".service") {
			g.Unit = s
		}
		slice, _, _ := strings.Cut(s, ":")
		if m := podSegment.FindStringSubmatch(slice); m != nil {
			g.PodUID = strings.ReplaceAll(m[1], "_", "-")
		}
		// where the kubelet's driver is systemd and the engine's cgroupfs
		if j := strings.LastIndexByte(s, ':'); j >= 0 {
			if parts := strings.Split(s, ":"); len(parts) == 3 {
				s = parts[1] + "-" + parts[2]
			}
		}
		m := containerSegment.FindStringSubmatch(s)
		if m == nil || m[1] == "" && i > 0 && segments[i-1] == "libpod_parent" {
			continue // the latter is a pod of Podman's
		}
		g.ContainerID, g.Engine = m[2], engines[m[1]]
		if g.Engine == "" && i > 0 && segments[i-1] == "docker" {
			g.Engine = "docker"
		}
	}
	if g.ContainerID != "" {
		g.Unit = "" // the engine's, if any
	}
	g.Unit = clean(g.Unit)
	return g
}
