package container

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kind is what a cgroup is. The order is that of preference under MaxContainers.
type kind uint8

const (
	kindRoot kind = iota
	kindContainer
	kindPod
	kindService
	kindSlice
	kindOther
	kindIgnored // mounts: never listed
	numKinds    = kindIgnored
)

// String implements fmt.Stringer.
func (k kind) String() string {
	return [...]string{"root", "container", "pod", "service", "slice", "other", "ignored"}[k]
}

// listedBy is the word of Config.Kinds that a kind belongs to; the root needs none.
func (k kind) listedBy() string {
	return [...]string{"", KindContainers, KindPods, KindSystemd, KindSystemd, KindOthers, ""}[k]
}

// place is what the path of a cgroup tells.
type place struct {
	kind    kind
	runtime string // of a container: docker, containerd, cri, cri-o, podman, lxc, nspawn, nomad, garden, ecs, mesos
	id      string // of a container, as its engine knows it
	podUID  string // of a pod and of what is in it, as Kubernetes writes it
	inside  bool   // below a container or a service
}

var (
	hexID   = regexp.MustCompile(`^(?:([a-z-]+)-)?([0-9a-f]{64})$`)
	podName = regexp.MustCompile(`(?:^|-)pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})$`)
	uuid    = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	handle  = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-(?:[0-9a-f]{4}|[0-9a-f]{12})$`) // Garden's
	ecsTask = regexp.MustCompile(`^[0-9a-f]{32}-[0-9]+$`)
	escaped = regexp.MustCompile(`\\x[0-9a-f]{2}`) // in names of units
)

// classify tells what a cgroup is from its path below the hierarchy's root.
//
// A path is read from left to right; its first element that is a container makes
// the cgroup a container if it is the last one, too, and something inside a
// container if not. The same holds for services. Slices hold other units.
func classify(path string) place {
	if path == "/" {
		return place{kind: kindRoot}
	}
	var who place
	elements := strings.Split(strings.Trim(path, "/"), "/")
	if elements[0] == "kata_overhead" { // of hypervisors, under paths of their pods
		return place{kind: kindOther}
	}
	kube := strings.Contains(path, "kubepods")
	for i, e := range elements {
		last := i == len(elements)-1
		if kube && who.podUID == "" {
			if m := podName.FindStringSubmatch(strings.TrimSuffix(podElement(e), ".slice")); m != nil {
				who.podUID = strings.ReplaceAll(m[1], "_", "-")
				if last && !strings.Contains(e, ":") {
					who.kind = kindPod
					return who
				}
			}
		}
		if runtime, id := containerElement(elements, i); id != "" {
			who.kind, who.runtime, who.id = kindContainer, runtime, id
			if !last {
				who.kind, who.inside = kindOther, true
			}
			return who
		}
		if !last && strings.HasSuffix(e, ".service") {
			who.inside = true
		}
	}
	base := elements[len(elements)-1]
	switch {
	case strings.HasSuffix(base, ".mount"):
		who.kind = kindIgnored
	case who.inside:
		who.kind = kindOther
	case strings.HasSuffix(base, ".slice"):
		who.kind = kindSlice
	case strings.HasSuffix(base, ".service"):
		who.kind = kindService
	case kube && slices.Contains([]string{"kubepods", "burstable", "besteffort", "guaranteed"}, base):
		who.kind = kindSlice
	case len(elements) > 1 && isPodOfPodman(elements[len(elements)-2], base):
		who.kind = kindSlice
	default:
		who.kind = kindOther
	}
	return who
}

// podElement is the part of an element that names the pod: with systemd as the
// kubelet's cgroup driver but not the runtime's, elements are slice:runtime:id.
func podElement(e string) string {
	slice, _, _ := strings.Cut(e, ":")
	return slice
}

// containerElement returns the runtime and the container's id if element i of a
// path is the cgroup of a container.
func containerElement(elements []string, i int) (runtime, id string) {
	e := strings.TrimSuffix(elements[i], ".scope")
	parent := ""
	if i > 0 {
		parent = elements[i-1]
	}
	if at := strings.LastIndexByte(e, ':'); at >= 0 { // slice:cri-containerd:<id>
		before := e[:at]
		e = before[strings.LastIndexByte(before, ':')+1:] + "-" + e[at+1:]
	}
	if m := hexID.FindStringSubmatch(e); m != nil {
		switch prefix := m[1]; prefix {
		case "docker":
			return "docker", m[2]
		case "cri-containerd", "nerdctl":
			return "containerd", m[2]
		case "crio":
			return "cri-o", m[2]
		case "libpod", "libpod-payload":
			return "podman", m[2]
		case "":
			if !isPodOfPodman(parent, e) {
				return hexRuntime(elements[:i]), m[2]
			}
		}
		return "", "" // crio-conmon and libpod-conmon watch a container
	}
	switch name, isLXC := strings.CutPrefix(e, "lxc.payload."); {
	case isLXC:
		return "lxc", name
	case parent == "lxc" || parent == "lxc.payload":
		return "lxc", e
	case parent == "mesos" && i == 1 && uuid.MatchString(e):
		return "mesos", e
	case parent == "machine.slice":
		return machine(elements[i])
	case elements[0] == "nomad" || elements[0] == "nomad.slice": // <allocation>.<task>
		if allocation, _, ok := strings.Cut(e, "."); ok && uuid.MatchString(allocation) {
			return "nomad", e
		}
	case slices.Contains(elements[:i], "garden") && handle.MatchString(e):
		return "garden", e
	case slices.Contains(elements[:i], "ecs") && ecsTask.MatchString(e):
		return "ecs", e
	}
	return "", ""
}

// isPodOfPodman tells whether a cgroup holds the containers of a pod of Podman's,
// which with cgroupfs is called by its id alone.
func isPodOfPodman(parent, e string) bool {
	return parent == "libpod_parent" && len(e) == 64 && hexID.MatchString(e)
}

// machine gives the name of a container of systemd's, which is a scope or, started
// as a service, an instance of one. Virtual machines are registered likewise.
func machine(unit string) (runtime, id string) {
	name, isScope := strings.CutSuffix(unit, ".scope")
	name, isMachine := strings.CutPrefix(name, "machine-")
	if instance, ok := strings.CutPrefix(unit, "systemd-nspawn@"); ok {
		name, isScope = strings.CutSuffix(instance, ".service")
		isMachine = true
	}
	if name = unescape(name); !isScope || !isMachine || name == "" || strings.HasPrefix(name, "qemu-") {
		return "", ""
	}
	return "nspawn", name
}

// unescape reads a name in the name of a unit.
func unescape(name string) string {
	return escaped.ReplaceAllStringFunc(name, func(e string) string {
		b, _ := strconv.ParseUint(e[2:], 16, 8)
		return string([]byte{byte(b)})
	})
}

// hexRuntime guesses who made a container whose cgroup is just its id.
func hexRuntime(above []string) string {
	for _, e := range above {
		switch {
		case e == "docker" || e == "ecs" || strings.HasPrefix(e, "docker-"):
			return "docker"
		case e == "libpod_parent" || e == "libpod":
			return "podman"
		case strings.Contains(e, "kubepods"):
			return "cri"
		}
	}
	return "containerd"
}
