package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Paths as engines and orchestrators write them, by version of the control groups and
// by driver, each of which is a container's unless it says otherwise.
func TestPathsOfEngines(t *testing.T) {
	const uid = podUID
	under := strings.ReplaceAll(uid, "-", "_")
	const allocation = "8f1b3c9e-5d35-7a60-2a0e-5f0a9c1d2e3f"
	container := func(runtime, id string) place { return place{kind: kindContainer, runtime: runtime, id: id} }
	ofPod := func(runtime string) place {
		return place{kind: kindContainer, runtime: runtime, id: idA, podUID: uid}
	}
	within := func(p place) place {
		p.inside = true
		return p
	}
	insideOf := func(p place) place {
		p.kind, p.inside = kindOther, true
		return p
	}
	burstable := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice"
	user := "/user.slice/user-1000.slice/user@1000.service"
	for _, tc := range []struct {
		name, path string
		want       place
	}{
		{"docker, --cgroup-parent, cgroupfs", "/batch/" + idA, container("containerd", idA)},
		{"docker, --cgroup-parent, systemd", "/batch.slice/docker-" + idA + ".scope", container("docker", idA)},
		{"docker, rootless", user + "/user.slice/docker-" + idA + ".scope", within(container("docker", idA))},
		{"docker in docker, cgroupfs", "/docker/" + idA + "/docker/" + idB, insideOf(container("docker", idA))},
		{"docker in docker, systemd", "/system.slice/docker-" + idA + ".scope/system.slice/docker-" + idB + ".scope", insideOf(container("docker", idA))},
		{"docker, below the agent's own group", "/docker/" + idB + "/kubelet/kubepods/burstable/pod" + uid + "/" + idA,
			insideOf(place{runtime: "docker", id: idB})},
		{"cri-dockerd, systemd", burstable + "/docker-" + idA + ".scope", ofPod("docker")},
		{"kubelet, with a root of its own, systemd", "/my_root.slice/my_root-kubepods.slice/my_root-kubepods-pod" + under + ".slice/crio-" + idA + ".scope", ofPod("cri-o")},
		{"kubelet, with a root of its own, cgroupfs", "/my-root/kubepods/besteffort/pod" + uid + "/" + idA, ofPod("cri")},
		{"containerd, of a snap, cgroupfs", "/kubepods/besteffort/pod" + uid + "/" + idA, ofPod("cri")},
		{"containerd, systemd", burstable + "/cri-containerd-" + idA + ".scope", ofPod("containerd")},
		{"containerd, cgroupfs below a systemd kubelet", "/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + idA, ofPod("containerd")},
		{"containerd, the same within k3s", "/system.slice/k3s.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + idA, within(ofPod("containerd"))},
		{"a process group that a program made in a container", "/kubepods/besteffort/pod" + uid + "/" + idA + "/worker", insideOf(ofPod("cri"))},
		{"nerdctl, rootless", user + "/user.slice/nerdctl-" + idA + ".scope", within(container("containerd", idA))},
		{"cri-o, cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-" + idA, ofPod("cri-o")},
		{"cri-o, its watcher, cgroupfs", "/kubepods/burstable/pod" + uid + "/crio-conmon-" + idA, place{kind: kindOther, podUID: uid}},
		{"cri-o, its watcher, systemd", "/system.slice/crio-conmon-" + idA + ".scope", place{kind: kindOther}},
		{"cri-o with crun", burstable + "/crio-" + idA + ".scope/container", insideOf(ofPod("cri-o"))},
		{"podman, cgroupfs", "/libpod_parent/libpod-" + idA, container("podman", idA)},
		{"podman, its watcher, cgroupfs", "/libpod_parent/conmon", place{kind: kindOther}},
		{"podman, a pod, cgroupfs", "/libpod_parent/" + idB, place{kind: kindSlice}},
		{"podman, in a pod, cgroupfs", "/libpod_parent/" + idB + "/libpod-" + idA, container("podman", idA)},
		{"podman, a pod, systemd", "/machine.slice/machine-libpod_pod_" + idB + ".slice", place{kind: kindSlice}},
		{"podman, in a pod, systemd", "/machine.slice/machine-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope", container("podman", idA)},
		{"podman, rootless", user + "/user.slice/libpod-" + idA + ".scope", within(container("podman", idA))},
		{"podman, rootless, in a pod", user + "/user.slice/user-libpod_pod_" + idB + ".slice/libpod-" + idA + ".scope", within(container("podman", idA))},
		{"podman, a unit of Quadlet's", "/system.slice/web.service/libpod-payload-" + idA, within(container("podman", idA))},
		{"podman, the watcher there", "/system.slice/web.service/runtime", place{kind: kindOther, inside: true}},
		{"lxc before 3.1, Proxmox", "/lxc/101", container("lxc", "101")},
		{"lxc, what Proxmox puts in it", "/lxc/101/ns/system.slice/ssh.service", insideOf(container("lxc", "101"))},
		{"lxc 3.1", "/lxc.payload/web", container("lxc", "web")},
		{"lxc 4, LXD, Incus", "/lxc.payload.web/system.slice/ssh.service", insideOf(container("lxc", "web"))},
		{"LXD, a project", "/lxc.payload.shop_web", container("lxc", "shop_web")},
		{"LXD, its watcher", "/lxc.monitor.shop_web", place{kind: kindOther}},
		{"nspawn, its payload", `/machine.slice/machine-deb.scope/payload`, insideOf(container("nspawn", "deb"))},
		{"nspawn, as a service", `/machine.slice/systemd-nspawn@a\x2db.service`, container("nspawn", "a-b")},
		{"nspawn, escaped twice", `/machine.slice/machine-a\x5cx2db.scope`, container("nspawn", `a\x2db`)},
		{"libvirt, a virtual machine", `/machine.slice/machine-qemu\x2d1\x2dvm.scope`, place{kind: kindOther}},
		{"libvirt, LXC", `/machine.slice/machine-lxc\x2d7\x2dweb.scope`, container("nspawn", "lxc-7-web")},
		{"nomad, version 1", "/nomad/" + allocation + ".web", container("nomad", allocation+".web")},
		{"nomad, version 2", "/nomad.slice/share.slice/" + allocation + ".web.scope", container("nomad", allocation+".web")},
		{"nomad, with cores of its own", "/nomad.slice/reserve.slice/" + allocation + ".web.scope", container("nomad", allocation+".web")},
		{"nomad, docker", "/nomad.slice/docker-" + idA + ".scope", container("docker", idA)},
		{"nomad, shared cores", "/nomad/share", place{kind: kindOther}},
		{"garden", "/garden/" + allocation, container("garden", allocation)},
		{"garden, by entitlement", "/garden/good/5c1e3a58-2c4c-4d0e-6d7a-13f2", container("garden", "5c1e3a58-2c4c-4d0e-6d7a-13f2")},
		{"garden, its init", "/garden/init", place{kind: kindOther}},
		{"ecs, systemd", "/ecstasks.slice/ecstasks-" + idB[:32] + ".slice/docker-" + idA + ".scope", container("docker", idA)},
		{"ecs, Fargate", "/ecs/" + idA[:32] + "/" + idA[:32] + "-2731584903", container("ecs", idA[:32]+"-2731584903")},
		{"mesos, docker", "/mesos/" + idA, container("containerd", idA)},
		{"buildkit, a step, cgroupfs", "/docker/buildkit/k3jq0t5m1xw2v9y8z7a6b5c4d", place{kind: kindOther}},
		{"buildkit, a step, systemd", "/system.slice/buildkit-k3jq0t5m1xw2v9y8z7a6b5c4d.scope", place{kind: kindOther}},
		{"kata, in a pod", "/kubepods/burstable/pod" + uid + "/kata_" + idA, place{kind: kindOther, podUID: uid}},
		{"kata, the hypervisor's", "/kata_overhead/" + idA, place{kind: kindOther}},
		{"kata, the hypervisor's, by path", "/kata_overhead/kubepods/pod" + uid + "/" + idA, place{kind: kindOther}},
		{"kata, the same, a pod", "/kata_overhead/kubepods/pod" + uid, place{kind: kindOther}},
		{"talos", "/podruntime/kubelet", place{kind: kindOther}},
		{"snap", "/system.slice/snap.docker.dockerd.service", place{kind: kindService}},
	} {
		require.Equal(t, tc.want, classify(tc.path), tc.name)
	}
}

// write makes the files of a tree, with what they hold.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// The processes of a container that is a part of a service, as all of rootless Podman's
// are, belong to both, and those in groups inside the container, too.
func TestContainerInService(t *testing.T) {
	root := t.TempDir()
	service := "user.slice/user-1000.slice/user@1000.service"
	scope := service + "/user.slice/libpod-" + idA + ".scope"
	write(t, root, map[string]string{
		"proc/stat":                        "btime 1700000000\n",
		"sys/fs/cgroup/cgroup.controllers": "cpu\n",
		"sys/fs/cgroup/" + service + "/init.scope/cgroup.procs":           "39\n",
		"sys/fs/cgroup/" + service + "/app.slice/a.service/cgroup.procs":  "40\n",
		"sys/fs/cgroup/" + scope + "/container/cgroup.procs":              "41\n42\n",
		"sys/fs/cgroup/user.slice/user-1000.slice/session-3/cgroup.procs": "38\n",
	})
	got := expose(t, newTest(t, testConfig(root)))
	require.Contains(t, got, `container_processes{container="",id="/`+scope+`",image="",name="`+idA+`",namespace="",pod=""} 2`)
	require.Contains(t, got, `container_processes{container="",id="/`+service+`",image="",name="",namespace="",pod=""} 4`)
}

// Where engines know version 1 alone, their containers' processes stay in the engine's
// service in version 2 beside it.
func TestProcessesBesideUnified(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"proc/stat": "btime 1700000000\n",
		"sys/fs/cgroup/unified/cgroup.controllers":                           "",
		"sys/fs/cgroup/unified/system.slice/containerd.service/cgroup.procs": "10\n41\n42\n",
		"sys/fs/cgroup/memory/system.slice/cgroup.procs":                     "10\n",
	}
	for _, c := range []string{"systemd", "memory", "cpu,cpuacct"} {
		files["sys/fs/cgroup/"+c+"/cgroup.procs"] = ""
		files["sys/fs/cgroup/"+c+"/docker/"+idA+"/cgroup.procs"] = "41\n42\n"
	}
	files["sys/fs/cgroup/systemd/system.slice/containerd.service/cgroup.procs"] = "10\n"
	write(t, root, files)
	got := expose(t, newTest(t, testConfig(root)))
	require.Contains(t, got, `container_processes{container="",id="/docker/`+idA+`",image="",name="`+idA+`",namespace="",pod=""} 2`)
	require.Contains(t, got, `container_processes{container="",id="/system.slice/containerd.service",image="",name="",namespace="",pod=""} 1`)
}

// Old kernels, as RHEL 7's, do not count the processes killed for want of memory.
func TestNoOOMKillsBefore413(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"proc/stat":                         "btime 1700000000\n",
		"sys/fs/cgroup/memory/cgroup.procs": "",
		"sys/fs/cgroup/memory/a.slice/memory.usage_in_bytes": "4096\n",
		"sys/fs/cgroup/memory/a.slice/memory.stat":           "cache 1\nrss 2\ntotal_cache 3\ntotal_rss 4\n",
		"sys/fs/cgroup/memory/a.slice/memory.use_hierarchy":  "0\n",
		"sys/fs/cgroup/memory/a.slice/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\n",
		"sys/fs/cgroup/memory/b.slice/memory.usage_in_bytes": "4096\n",
		"sys/fs/cgroup/memory/b.slice/memory.stat":           "",
		"sys/fs/cgroup/memory/b.slice/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
	})
	got := expose(t, newTest(t, testConfig(root)))
	require.NotContains(t, got, `container_oom_events_total{container="",id="/a.slice"`)
	require.Contains(t, got, `container_oom_events_total{container="",id="/b.slice",image="",name="",namespace="",pod=""} 3`)
	require.Contains(t, got, `container_memory_rss{container="",id="/a.slice",image="",name="",namespace="",pod=""} 2`)
}

// Each disk has the scheduler that it has: what one file knows nothing of, another does.
func TestDisksOfSchedulers(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  []diskIO
	}{
		"throttle alone": {
			map[string]string{"blkio.throttle.io_service_bytes": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n"},
			[]diskIO{{[2]uint64{8, 0}, map[string]uint64{"Read": 1, "Write": 2, "Total": 3}}},
		},
		"CFQ of one": {
			map[string]string{
				"blkio.io_service_bytes_recursive": "8:0 Read 7\n8:16 Read 0\nTotal 7\n",
				"blkio.throttle.io_service_bytes":  "8:0 Read 9\n8:16 Read 5\n252:0 Read 0\nTotal 14\n",
			},
			[]diskIO{{[2]uint64{8, 0}, map[string]uint64{"Read": 7}}, {[2]uint64{8, 16}, map[string]uint64{"Read": 5}}, {[2]uint64{252, 0}, map[string]uint64{"Read": 0}}},
		},
		"BFQ, and a throttled one": {
			map[string]string{
				"blkio.bfq.io_service_bytes_recursive":      "8:0 Read 7\nTotal 7\n",
				"blkio.throttle.io_service_bytes_recursive": "8:0 Read 0\n8:16 Read 5\nTotal 5\n",
			},
			[]diskIO{{[2]uint64{8, 0}, map[string]uint64{"Read": 7}}, {[2]uint64{8, 16}, map[string]uint64{"Read": 5}}},
		},
		"none": {nil, nil},
	} {
		root := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(root, "g"), 0o755), name)
		for file, text := range tc.files {
			write(t, root, map[string]string{"g/" + file: text})
		}
		h := hierarchies{v1: map[string]string{"blkio": root}}
		size, count := h.io(&cgroup{path: "/g"})
		require.Equal(t, tc.want, size, name)
		require.Empty(t, count, name)
	}
}

// crun has the limits in a group that it makes below the scope of systemd's.
func TestLimitsOfCrun(t *testing.T) {
	scope := "machine.slice/libpod-" + idA + ".scope"
	v2, v1 := map[string]string{"proc/stat": "btime 1700000000\n"}, map[string]string{"proc/stat": "btime 1700000000\n"}
	for file, texts := range map[string][2]string{ // of the scope and of the group in it
		"cgroup.procs":   {"", "41\n"},
		"cpu.stat":       {"usage_usec 7000000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n", "usage_usec 7000000\nnr_periods 9\nnr_throttled 5\nthrottled_usec 2000000\n"},
		"cpu.max":        {"max 100000\n", "20000 100000\n"},
		"cpu.weight":     {"50\n", "100\n"},
		"memory.max":     {"max\n", "52428800\n"},
		"memory.current": {"4096\n", "4096\n"},
		"memory.stat":    {"anon 1\n", "anon 1\n"},
		"memory.events":  {"max 3\noom_kill 2\n", "max 3\noom_kill 2\n"},
	} {
		v2["sys/fs/cgroup/"+scope+"/"+file] = texts[0]
		v2["sys/fs/cgroup/"+scope+"/container/"+file] = texts[1]
	}
	v2["sys/fs/cgroup/cgroup.controllers"] = "cpu memory\n"
	for file, texts := range map[string][2]string{
		"cpu,cpuacct cgroup.procs":      {"", "41\n"},
		"cpu,cpuacct cpuacct.usage":     {"7000000000\n", "7000000000\n"},
		"cpu,cpuacct cpu.shares":        {"513\n", "1024\n"},
		"cpu,cpuacct cpu.stat":          {"nr_periods 0\nnr_throttled 0\nthrottled_time 0\n", "nr_periods 9\nnr_throttled 5\nthrottled_time 2000000000\n"},
		"cpu,cpuacct cpu.cfs_quota_us":  {"-1\n", "20000\n"},
		"cpu,cpuacct cpu.cfs_period_us": {"100000\n", "100000\n"},
		"memory memory.limit_in_bytes":  {"9223372036854771712\n", "52428800\n"},
		"memory memory.usage_in_bytes":  {"4096\n", "4096\n"},
		"memory memory.stat":            {"rss 1\n", "rss 1\n"},
		"memory memory.failcnt":         {"0\n", "3\n"},
		"memory memory.oom_control":     {"oom_kill 0\n", "oom_kill 2\n"},
	} {
		controller, name, _ := strings.Cut(file, " ")
		v1["sys/fs/cgroup/"+controller+"/cgroup.procs"] = ""
		v1["sys/fs/cgroup/"+controller+"/"+scope+"/"+name] = texts[0]
		v1["sys/fs/cgroup/"+controller+"/"+scope+"/container/"+name] = texts[1]
	}
	for version, files := range map[string]map[string]string{"v2": v2, "v1": v1} {
		root := t.TempDir()
		write(t, root, files)
		got := expose(t, newTest(t, testConfig(root)))
		for name, want := range map[string]string{
			"processes": "1", "spec_cpu_quota": "20000", "spec_cpu_period": "100000", "spec_memory_limit_bytes": "5.24288e+07",
			"cpu_cfs_periods_total": "9", "cpu_cfs_throttled_periods_total": "5", "cpu_cfs_throttled_seconds_total": "2",
			"memory_failcnt": "3", "oom_events_total": "2",
		} {
			require.Contains(t, got, "container_"+name+`{container="",id="/`+scope+`",image="",name="`+idA+`",namespace="",pod=""} `+want+"\n", version)
		}
	}
}

// A container that was listed before it had a process has the process's start once it is
// there.
func TestStartOfLateProcess(t *testing.T) {
	root := t.TempDir()
	group := "sys/fs/cgroup/docker/" + idA
	write(t, root, map[string]string{
		"proc/stat": "btime 1700000000\n", "sys/fs/cgroup/cgroup.controllers": "", group + "/cgroup.procs": "",
		"proc/41/stat": "41 (a) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 1000 1000 1\n",
	})
	made := time.Unix(1_700_000_500, 0)
	require.NoError(t, os.Chtimes(filepath.Join(root, group), made, made))
	c := newTest(t, testConfig(root))
	now := time.Unix(1_700_001_000, 0)
	c.now = func() time.Time { return now }
	started := func() string {
		_, rest, _ := strings.Cut(expose(t, c), `container_start_time_seconds{container="",id="/docker/`+idA+`",image="",name="`+idA+`",namespace="",pod=""} `)
		first, _, _ := strings.Cut(rest, "\n")
		return first
	}
	require.Equal(t, "1.7000005e+09", started())
	write(t, root, map[string]string{group + "/cgroup.procs": "41\n"})
	require.NoError(t, os.Chtimes(filepath.Join(root, group), made, made))
	now = now.Add(c.cfg.RescanInterval)
	require.Equal(t, "1.70000001e+09", started())
	write(t, root, map[string]string{group + "/cgroup.procs": "", "proc/41/stat": ""})
	now = now.Add(c.cfg.RescanInterval)
	require.Equal(t, "1.70000001e+09", started())
}
