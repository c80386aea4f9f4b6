package identity

import (
	"strings"
	"testing"
)

// What /proc/<pid>/cgroup holds where engines and orchestrators other than those of
// TestParseGroup make the groups, and where it is read from within a container.
func TestGroupsOfEngines(t *testing.T) {
	const (
		uid  = "1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901"
		hash = "0123456789abcdef0123456789abcdef"
	)
	other := strings.Repeat("0f", 32)
	under := strings.ReplaceAll(uid, "-", "_")
	v1 := func(path string) string {
		var b strings.Builder
		for _, c := range []string{"12:memory", "11:blkio", "10:cpu,cpuacct", "9:pids", "8:rdma", "1:name=systemd"} {
			if c == "8:rdma" { // which older engines do not know
				b.WriteString(c + ":/\n")
				continue
			}
			b.WriteString(c + ":" + path + "\n")
		}
		return b.String()
	}
	for _, tc := range []struct {
		name, contents string
		want           Group // but for the path
	}{
		{"docker, version 1, cgroupfs", v1("/docker/" + id), Group{ContainerID: id, Engine: "docker"}},
		{"docker, version 1, systemd", v1("/system.slice/docker-" + id + ".scope"), Group{ContainerID: id, Engine: "docker"}},
		{"docker, beside version 2 that it leaves alone", v1("/docker/"+id) + "0::/system.slice/containerd.service\n", Group{ContainerID: id, Engine: "docker"}},
		{"the same, the other way round", "0::/system.slice/containerd.service\n" + v1("/docker/"+id), Group{ContainerID: id, Engine: "docker"}},
		{"docker, rootless", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + id + ".scope\n", Group{ContainerID: id, Engine: "docker"}},
		{"docker in docker", "0::/docker/" + other + "/docker/" + id + "\n", Group{ContainerID: id, Engine: "docker"}},
		{"a unit in docker", "0::/docker/" + id + "/system.slice/nginx.service\n", Group{ContainerID: id, Engine: "docker"}},
		{"ecs", v1("/ecs/" + hash + "/" + id), Group{ContainerID: id}},
		{"a unit that only systemd's tree has", "4:memory:/\n3:cpu,cpuacct:/system.slice\n1:name=systemd:/system.slice/sshd.service\n", Group{Unit: "sshd.service"}},
		{"a unit of a user", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n", Group{Unit: "web.service"}},
		{"a session", v1("/user.slice/user-0.slice/session-1.scope"), Group{}},

		{"kubelet, version 1, cgroupfs", v1("/kubepods/burstable/pod" + uid + "/" + id), Group{ContainerID: id, PodUID: uid}},
		{"kubelet, version 1, systemd", v1("/kubepods.slice/kubepods-pod" + under + ".slice/docker-" + id + ".scope"), Group{ContainerID: id, Engine: "docker", PodUID: uid}},
		{"kubelet, with a root of its own", v1("/my_root1.slice/my_root1-kubepods.slice/my_root1-kubepods-burstable.slice/my_root1-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope"),
			Group{ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"a static pod", v1("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/crio-" + id + ".scope"), Group{ContainerID: id, Engine: "cri-o", PodUID: hash}},
		{"cri-o, cgroupfs", v1("/kubepods/besteffort/pod" + uid + "/crio-" + id), Group{ContainerID: id, Engine: "cri-o", PodUID: uid}},
		{"cri-o with crun", "0::/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope/container\n", Group{ContainerID: id, Engine: "cri-o", PodUID: uid}},
		{"what watches it", "0::/kubepods.slice/kubepods-pod" + under + ".slice/crio-conmon-" + id + ".scope\n", Group{PodUID: uid}},
		{"what watches it, elsewhere", "0::/system.slice/crio-conmon-" + id + ".scope\n", Group{}},
		{"k3s", v1("/system.slice/k3s.service/kubepods-besteffort-pod" + under + ".slice:cri-containerd:" + id), Group{ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"kind", "0::/docker/" + other + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/cri-containerd-" + id + ".scope\n",
			Group{ContainerID: id, Engine: "containerd", PodUID: uid}},

		{"podman, a pod, cgroupfs", v1("/libpod_parent/" + other + "/libpod-" + id), Group{ContainerID: id, Engine: "podman"}},
		{"podman, the pod alone", v1("/libpod_parent/" + other), Group{}},
		{"podman, a pod, systemd", v1("/machine.slice/machine-libpod_pod_" + other + ".slice/libpod-" + id + ".scope"), Group{ContainerID: id, Engine: "podman"}},
		{"podman, Quadlet", "0::/system.slice/web.service/libpod-payload-" + id + "\n", Group{ContainerID: id, Engine: "podman"}},
		{"podman, what watches it", "0::/machine.slice/libpod-conmon-" + id + ".scope\n", Group{}},
		{"lxc", "0::/lxc.payload.web/system.slice/nginx.service\n", Group{Unit: "nginx.service"}},
		{"lxc of Proxmox", v1("/lxc/101/system.slice/nginx.service"), Group{Unit: "nginx.service"}},
		{"nspawn", "0::/machine.slice/machine-deb.scope/payload/system.slice/nginx.service\n", Group{Unit: "nginx.service"}},

		// An agent in a container whose control groups are a name space of their own
		// sees others' groups from where its own is.
		{"its own container", "0::/\n", Group{}},
		{"another of docker's", "0::/../docker-" + id + ".scope\n", Group{ContainerID: id, Engine: "docker"}},
		{"another of docker's, cgroupfs", "0::/../" + id + "\n", Group{ContainerID: id}},
		{"another's unit", "0::/../nginx.service\n", Group{Unit: "nginx.service"}},
		{"a pod", "0::/../../kubepods-besteffort-pod" + under + ".slice/cri-containerd-" + id + ".scope\n", Group{ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"a pod, cgroupfs", "0::/../../pod" + uid + "/" + id + "\n", Group{ContainerID: id, PodUID: uid}},
		{"a unit, from a pod", "0::/../../../../system.slice/nginx.service\n", Group{Unit: "nginx.service"}},
	} {
		got := ParseGroup(tc.contents)
		got.Path = ""
		if got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}
