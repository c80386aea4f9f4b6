package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/collector/container/enginetest"
)

func TestContainerd(t *testing.T) {
	t.Parallel()
	e := enginetest.StartContainerd(t)
	plainly := e.Guest(t, "default", "")
	nerdctl := e.Guest(t, "default", "", "--label=nerdctl/name=web",
		"--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=front")
	other := e.Guest(t, "k8s.io", "", "--cpu-quota=5000", "--cpu-period=100000", "--memory-limit=67108864")
	pod := e.Pod(t, "shop", "web-0")
	app, side := pod.Guest(t, "app", ""), pod.Guest(t, "side", "")
	const image = "docker.io/" + enginetest.Image

	withAPI := func(c *Config) {
		c.HostRoot, c.ContainerdSockets = e.HostRoot, []string{"/run/containerd/containerd.sock"}
	}
	t.Run("names", func(t *testing.T) {
		w := newWatch(t, withAPI)
		w.called(t, plainly.ID, map[string]string{"id": "/default/" + plainly.ID, "name": plainly.ID, "image": image})
		w.called(t, nerdctl.ID, map[string]string{"id": "/default/" + nerdctl.ID, "name": "web", "image": image,
			"container_label_com_docker_compose_project": "shop", "container_label_com_docker_compose_service": "front"})
		is := whoIs(t, w, pidOf(t, nerdctl.ID))
		require.Equal(t, "front", is.Service)
		require.Equal(t, "web", is.Container)
		require.Equal(t, nerdctl.ID, is.ContainerID)
		w.called(t, other.ID, map[string]string{"id": "/k8s.io/" + other.ID, "name": other.ID, "image": image, "pod": ""})
		isPod := func(name, id string) map[string]string {
			return map[string]string{"id": "/kubepods/pod" + pod.UID + "/" + id, "name": id, "image": image, "container": name, "pod": "web-0", "namespace": "shop"}
		}
		w.called(t, app.ID, isPod("app", app.ID))
		w.called(t, side.ID, isPod("side", side.ID))
		w.called(t, pod.ID, isPod("", pod.ID))
		is = whoIs(t, w, pidOf(t, app.ID))
		require.Equal(t, pod.UID, is.PodUID)
		require.Equal(t, app.ID, is.ContainerID)
		require.Equal(t, [3]string{"app", "web-0", "shop"}, [3]string{is.Container, is.Pod, is.PodNamespace})
		require.Equal(t, "guest", is.Service, "no kubelet says what the pod belongs to")
	})
	t.Run("names without the API", func(t *testing.T) {
		w := newWatch(t, func(c *Config) { c.HostRoot = e.HostRoot })
		w.called(t, app.ID, map[string]string{"image": image, "container": "app", "pod": "web-0", "namespace": "shop"})
		w.called(t, pod.ID, map[string]string{"container": "", "pod": "web-0", "namespace": "shop"})
		w.called(t, plainly.ID, map[string]string{"name": plainly.ID})
	})
	t.Run("values", func(t *testing.T) {
		w := newWatch(t, withAPI)
		labels := w.called(t, other.ID, map[string]string{"image": image}).labels
		files := filesOf(t, labels)
		require.True(t, until(func() bool { // a busy machine may leave it less than its limit
			other.Tell(t, "/burn?ms=60")
			return files.number(t, "cpu.stat:nr_throttled") > 0
		}))
		other.Tell(t, "/hold?mb=20")
		usage := func() float64 {
			n := files.number(t, "cpuacct.usage", "cpu.stat:usage_usec")
			if files.h.onV1("cpuacct", files.path) {
				return n / 1e9
			}
			return n / 1e6
		}
		before := usage()
		got := w.container(t, other.ID).values
		between(t, before, got["container_cpu_usage_seconds_total,total"], usage(), "processor")
		require.GreaterOrEqual(t, before, 0.06)
		require.Positive(t, got["container_cpu_cfs_throttled_periods_total"])
		require.Equal(t, 5000.0, got["container_spec_cpu_quota"])
		require.Equal(t, float64(64<<20), got["container_spec_memory_limit_bytes"])
		require.InDelta(t, files.number(t, "memory.usage_in_bytes", "memory.current"), got["container_memory_usage_bytes"], 2<<20)
		require.GreaterOrEqual(t, got["container_memory_rss"], float64(20<<20))
		require.Equal(t, 1.0, got["container_processes"])
	})
	t.Run("stop", func(t *testing.T) {
		w := newWatch(t, withAPI)
		w.called(t, side.ID, map[string]string{"container": "side"})
		e.Ctr(t, "k8s.io", "tasks", "kill", "--signal=SIGKILL", side.ID)
		w.gone(t, side.ID)
		late := pod.Guest(t, "late", "")
		w.called(t, late.ID, map[string]string{"container": "late", "pod": "web-0"})
	})
}

// pidOf finds a process of a container by its control group.
func pidOf(t *testing.T, id string) string {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), "/"+id+"\n") {
			return filepath.Base(filepath.Dir(file))
		}
	}
	t.Fatalf("no process in %s", id)
	return ""
}

func FuzzContainerd(f *testing.F) {
	pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "nerdctl/name")
	pair = protowire.AppendString(protowire.AppendTag(pair, 2, protowire.BytesType), "web")
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "id")
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), pair)
	b = protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), "image:1")
	id, m := decodeContainerd(b)
	if id != "id" || m.Name != "web" || m.Image != "image:1" {
		f.Fatalf("got %q, %+v", id, m)
	}
	f.Add(b)
	f.Add([]byte{0x12, 0x02, 0x0a, 0x7f})
	f.Fuzz(func(_ *testing.T, b []byte) { decodeContainerd(b) })
}
