package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// containerdSocket is the name of containerd's socket in the engine's directory.
const containerdSocket = "containerd.sock"

// ociImage is what images of a tar archive are called.
const ociImage = "docker.io/" + Image

// Containerd is a containerd of the test's own, with its CRI plugin.
type Containerd struct {
	// Dir holds the engine's files.
	Dir string
	// HostRoot is a directory that has the host's /proc and /sys, and containerd's
	// files where they would be on a host with one containerd: /run/containerd.
	HostRoot string
	// Socket is the path of its socket, which is /run/containerd/containerd.sock
	// below HostRoot.
	Socket string

	daemon *daemon
	guests int
	cri    *cri
}

// startContainerd starts containerd in an engine's directory.
func startContainerd(t testing.TB, dir, state, settings string) *daemon {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n%s\n[grpc]\naddress = %q\n", in("containerd"), state, settings, in(containerdSocket))
	if err := os.WriteFile(in("containerd.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, in("containerd.log"), "containerd", "--config", in("containerd.toml"))
	t.Cleanup(func() { d.stop(t) })
	d.ready(t, in(containerdSocket), func() bool {
		_, err := try(t, "ctr", "--address", in(containerdSocket), "version")
		return err == nil
	})
	return d
}

// StartContainerd starts containerd with an image of the guest in the namespaces
// default and k8s.io, or skips the test.
func StartContainerd(t testing.TB) *Containerd {
	t.Helper()
	needs(t, "containerd", "ctr", "runc")
	dir := newDir(t)
	c := &Containerd{Dir: dir, HostRoot: filepath.Join(dir, "host")}
	state := filepath.Join(c.HostRoot, "run/containerd")
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"proc", "sys", "etc"} {
		if err := os.Symlink("/"+name, filepath.Join(c.HostRoot, name)); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, containerdSocket)
	c.Socket = filepath.Join(state, containerdSocket)
	if err := os.Symlink(socket, c.Socket); err != nil {
		t.Fatal(err)
	}
	// The sandboxes' program is the guest, too: it waits for its end as well as any.
	// Making a process less likely to be killed than this one takes a right that
	// root in a virtual machine's container may lack.
	c.daemon = startContainerd(t, dir, state, fmt.Sprintf(`
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
stream_server_port = "0"
max_container_log_line_size = 16384
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = %q`, ociImage, filepath.Join(dir, "cni")))
	image := filepath.Join(dir, "image.tar")
	writeImage(t, dir, image)
	for _, namespace := range []string{"default", "k8s.io"} {
		c.Ctr(t, namespace, "images", "import", "--snapshotter=native", image)
	}
	t.Cleanup(func() {
		for _, namespace := range []string{"default", "k8s.io"} {
			for _, id := range fields(c.Ctr(t, namespace, "tasks", "ls", "-q")) {
				_, _ = try(t, "ctr", c.args(namespace, "tasks", "rm", "--force", id)...)
			}
			for _, id := range fields(c.Ctr(t, namespace, "containers", "ls", "-q")) {
				_, _ = try(t, "ctr", c.args(namespace, "containers", "rm", id)...)
			}
		}
	})
	c.cri = dialCRI(t, socket)
	return c
}

func (c *Containerd) args(namespace string, args ...string) []string {
	return append([]string{"--address", filepath.Join(c.Dir, containerdSocket), "--namespace", namespace}, args...)
}

// Ctr runs a command of ctr and gives what it says.
func (c *Containerd) Ctr(t testing.TB, namespace string, args ...string) string {
	t.Helper()
	return run(t, "ctr", c.args(namespace, args...)...)
}

func (c *Containerd) control(t testing.TB) string {
	t.Helper()
	c.guests++
	dir := filepath.Join(c.Dir, fmt.Sprintf("c%d", c.guests))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Guest starts a container with options of ctr run, such as --label, and waits
// until the guest in it listens, by TCP at address if that is not empty. It is in
// the host's network.
func (c *Containerd) Guest(t testing.TB, namespace, address string, options ...string) *Guest {
	t.Helper()
	id := newID()
	control := c.control(t)
	args := append([]string{"run", "--detach", "--snapshotter=native", "--net-host", "--mount", "type=bind,src=" + control + ",dst=/control,options=rbind:rw"}, options...)
	args = append(args, ociImage, id, "/guest")
	if address != "" {
		args = append(args, address)
	}
	c.Ctr(t, namespace, args...)
	g := newGuest(id, "", control)
	g.ready(t)
	return g
}

// Pod is a pod that containerd runs as for a kubelet.
type Pod struct {
	// ID is the sandbox's.
	ID string
	// Name, Namespace and UID are what the kubelet would call the pod.
	Name, Namespace, UID string
	// Logs is its directory of logs.
	Logs string

	config message
	engine *Containerd
}

// Pod makes a pod in the host's network, whose cgroup and logs are where a kubelet
// with the driver cgroupfs has them: the logs below HostRoot.
func (c *Containerd) Pod(t testing.TB, namespace, name string) *Pod {
	t.Helper()
	id := newID()
	p := &Pod{Name: name, Namespace: namespace, engine: c}
	p.UID = fmt.Sprintf("%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:32])
	p.Logs = filepath.Join(c.HostRoot, "var/log/pods", namespace+"_"+name+"_"+p.UID)
	if err := os.MkdirAll(p.Logs, 0o755); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.uid": p.UID}
	parent := "/kubepods/pod" + p.UID
	const inHost = 2                                                                             // NamespaceMode NODE
	options := message{}.number(1, inHost).number(2, 1).number(3, inHost)                        // NamespaceOption
	linux := message{}.text(1, parent).message(2, message{}.message(1, options))                 // LinuxPodSandboxConfig
	metadata := message{}.text(1, name).text(2, p.UID).text(3, namespace)                        // PodSandboxMetadata
	p.config = message{}.message(1, metadata).text(3, p.Logs).texts(6, labels).message(8, linux) // PodSandboxConfig
	t.Cleanup(func() {                                                                           // last: containerd's cgroups are in it
		for _, dir := range []string{parent, "/kubepods"} {
			dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + dir)
			for _, d := range append(dirs, "/sys/fs/cgroup"+dir) {
				_ = os.Remove(d)
			}
		}
	})
	p.ID = c.cri.call(t, "RunPodSandbox", message{}.message(1, p.config))[1]
	t.Cleanup(func() {
		c.cri.call(t, "StopPodSandbox", message{}.text(1, p.ID))
		c.cri.call(t, "RemovePodSandbox", message{}.text(1, p.ID))
	})
	return p
}

// Guest starts a container in the pod and waits until the guest in it listens, by
// TCP at address if that is not empty.
func (p *Pod) Guest(t testing.TB, name, address string) *Guest {
	t.Helper()
	control := p.engine.control(t)
	log := filepath.Join(name, "0.log")
	if err := os.Mkdir(filepath.Join(p.Logs, name), 0o755); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{
		"io.kubernetes.pod.name": p.Name, "io.kubernetes.pod.namespace": p.Namespace, "io.kubernetes.pod.uid": p.UID,
		"io.kubernetes.container.name": name,
	}
	config := message{}.message(1, message{}.text(1, name)). // ContainerMetadata
									message(2, message{}.text(1, ociImage)). // ImageSpec
									text(3, "/guest")
	if address != "" {
		config = config.text(4, address)
	}
	config = config.message(7, message{}.text(1, "/control").text(2, control)).texts(9, labels).text(11, log)
	id := p.engine.cri.call(t, "CreateContainer", message{}.text(1, p.ID).message(2, config).message(3, p.config))[1]
	p.engine.cri.call(t, "StartContainer", message{}.text(1, id))
	g := newGuest(id, name, control)
	g.ready(t)
	return g
}

// Rotate does to a container's log what the kubelet does to one that has become too
// large: it renames it and has it begun anew.
func (p *Pod) Rotate(t testing.TB, g *Guest) {
	t.Helper()
	log := filepath.Join(p.Logs, g.Name, "0.log")
	to := ""
	for at := time.Now(); ; at = at.Add(time.Second) {
		to = log + "." + at.Format("20060102-150405")
		if _, err := os.Stat(to); err != nil {
			break
		}
	}
	if err := os.Rename(log, to); err != nil {
		t.Fatal(err)
	}
	p.engine.cri.call(t, "ReopenContainerLog", message{}.text(1, g.ID))
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func fields(s string) []string { return strings.Fields(s) }

// soon is a context for one call.
func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
