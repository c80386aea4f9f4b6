package enginetest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Image is the name of the image that all containers are made of.
const Image = "vedette/guest:1"

// Docker is a Docker engine of the test's own.
type Docker struct {
	// Dir holds the engine's files: data is what is /var/lib/docker elsewhere.
	Dir string
	// Socket is the path of its API's socket.
	Socket string

	daemon *daemon
	guests int
}

// StartDocker starts a Docker engine with an image of the guest, or skips the test.
func StartDocker(t testing.TB) *Docker {
	t.Helper()
	needs(t, "dockerd", "docker", "containerd", "runc")
	dir := newDir(t)
	startContainerd(t, dir, filepath.Join(dir, "containerd-state"), `disabled_plugins = ["io.containerd.grpc.v1.cri"]`)
	d := &Docker{Dir: dir, Socket: filepath.Join(dir, "docker.sock")}
	if err := os.WriteFile(filepath.Join(dir, "daemon.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop(t) })
	d.Start(t)
	t.Cleanup(func() {
		for _, id := range fields(d.Run(t, "ps", "-aq")) {
			d.Run(t, "rm", "-f", id)
		}
		for _, id := range fields(d.Run(t, "network", "ls", "-q", "--filter", "type=custom")) {
			d.Run(t, "network", "rm", id)
		}
	})
	image := filepath.Join(dir, "image.tar")
	writeImage(t, dir, image)
	d.Run(t, "load", "--input", image)
	return d
}

// Start starts the engine. Containers that it is to keep through a restart need
// its option live-restore, which it has.
func (d *Docker) Start(t testing.TB) {
	t.Helper()
	in := func(name string) string { return filepath.Join(d.Dir, name) }
	d.daemon = startDaemon(t, in("dockerd.log"), "dockerd",
		"--host=unix://"+d.Socket, "--containerd="+in(containerdSocket), "--config-file="+in("daemon.json"),
		"--data-root="+in("data"), "--exec-root="+in("exec"), "--pidfile="+in("dockerd.pid"),
		"--storage-driver=vfs", "--live-restore",
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false")
	d.daemon.ready(t, d.Socket, func() bool { _, err := try(t, "docker", d.args("version")...); return err == nil })
}

// Stop stops the engine and leaves its containers running.
func (d *Docker) Stop(t testing.TB) {
	t.Helper()
	d.daemon.stop(t)
}

func (d *Docker) args(args ...string) []string {
	return append([]string{"--config", d.Dir, "--host", "unix://" + d.Socket}, args...)
}

// Run runs a command of docker and gives what it says.
func (d *Docker) Run(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "docker", d.args(args...)...)
}

// Try is Run for what may not succeed.
func (d *Docker) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return try(t, "docker", d.args(args...)...)
}

// Guest starts a container with options of docker run, such as --memory=64m, and
// waits until the guest in it listens; address, if it is not empty, is where by TCP.
func (d *Docker) Guest(t testing.TB, name, address string, options ...string) *Guest {
	t.Helper()
	d.guests++
	control := filepath.Join(d.Dir, fmt.Sprintf("c%d", d.guests))
	if err := os.Mkdir(control, 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--detach", "--name=" + name, "--volume=" + control + ":/control"}, options...)
	args = append(args, Image)
	if address != "" {
		args = append(args, address)
	}
	g := newGuest(d.Run(t, args...), name, control)
	g.ready(t)
	return g
}

// Network makes a network of the driver bridge, whose addresses are of a block
// kept for benchmarks, and gives its name.
func (d *Docker) Network(t testing.TB) string {
	t.Helper()
	for third := range 256 {
		subnet := fmt.Sprintf("198.19.%d.0/24", third)
		if conn, err := net.DialTimeout("udp", fmt.Sprintf("198.19.%d.1:9", third), time.Second); err == nil {
			local := conn.LocalAddr().(*net.UDPAddr).IP
			_ = conn.Close()
			if local.Equal(net.IPv4(198, 19, byte(third), 1)) {
				continue // another test's
			}
		}
		name := "test"
		if _, err := try(t, "docker", d.args("network", "create", "--subnet="+subnet, name)...); err == nil {
			return name
		}
	}
	t.Skip("no network can be made here")
	return ""
}
