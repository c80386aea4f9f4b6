package clustertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/freeport"
	"github.com/vedette-io/vedette/internal/realcontainers"
)

// variable is what makes [Start] start a cluster: the folder of kube-apiserver and
// kubelet.
const variable = "VEDETTE_TEST_CLUSTER"

// patience is how long anything of a cluster may take on a busy machine.
const patience = 3 * time.Minute

// Image is the image of app, the program of the pods; its entry point takes the
// arguments that app has.
const Image = "vedette.test/app:1"

// Cluster is a cluster of one node.
type Cluster struct {
	// Dir holds all that the cluster writes.
	Dir string
	// Node is the name of the node, and NodeIP its address, which its pods have, too.
	Node, NodeIP string
	// API and Kubelet are addresses, as in https://127.0.0.1:6443.
	API, Kubelet string
	// CAFile holds the certificate that the API server's is checked against.
	CAFile string
	// Containerd is what /run/containerd is on other machines.
	Containerd string
	// Logs is what /var/log is on other machines.
	Logs string

	t         testing.TB
	tools     []string // folders of programs
	libraries string   // folders of theirs
	ca        *authority
	accounts  *ecdsa.PrivateKey // signs the tokens of service accounts
	admin     string            // the token that may do everything
	group     string            // the control group of all pods
	folder    *realcontainers.Folder
	client    *http.Client
	programs  map[string]*program
	signed    bool // the kubelet's certificate is the cluster's
}

// Start starts a cluster that ends with the test, and skips the test where it was
// not asked for or a program is missing.
func Start(t testing.TB) *Cluster {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Skipf("%s is not set: make test-cluster sets it and builds what a cluster wants", variable)
	}
	if os.Getuid() != 0 {
		t.Skip("a kubelet wants root")
	}
	tools := filepath.Join(dir, "../tools/usr")
	libraries, _ := filepath.Glob(tools + "/lib/*-linux-gnu")
	c := &Cluster{
		t: t, tools: append([]string{dir, tools + "/bin", tools + "/sbin"}, filepath.SplitList(os.Getenv("PATH"))...),
		libraries: strings.Join(libraries, ":"), programs: map[string]*program{},
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		if c.find(name) == "" {
			t.Skipf("%s is missing: make test-cluster builds or unpacks it", name)
		}
	}
	if err := c.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"etcd", c.startEtcd}, {"kube-apiserver", c.startAPI}, {"what every cluster has", c.populate},
		{"containerd", c.startContainerd}, {"the image", c.importApp}, {"kubelet", c.startKubelet},
	} {
		began := time.Now()
		if err := step.run(); err != nil {
			t.Fatalf("start %s: %v", step.name, err)
		}
		t.Logf("%s after %s", step.name, time.Since(began).Round(10*time.Millisecond))
	}
	return c
}

func (c *Cluster) prepare() error {
	id := make([]byte, 4)
	_, _ = rand.Read(id)
	var err error
	if c.folder, err = realcontainers.New(); err != nil {
		return err
	}
	c.Dir, c.Node, c.group = c.folder.Path, "node-"+hex.EncodeToString(id), "/"+filepath.Base(c.folder.Path)
	c.Containerd, c.Logs = filepath.Join(c.Dir, "run"), filepath.Join(c.Dir, "log")
	for _, dir := range []string{"etcd", "api", "kubelet/static", "run", "log/pods", "cni"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	c.CAFile = filepath.Join(c.Dir, "ca.crt")
	c.admin = hex.EncodeToString(id) + "-admin"
	if c.accounts, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.ca.cert)
	c.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	return errors.Join(
		os.WriteFile(c.CAFile, c.ca.pem(), 0o600),
		writeKey(c.path("accounts.key"), c.accounts),
		c.ca.writeServer(c.Dir, "api", []string{"kubernetes.default.svc"}, net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)),
		os.WriteFile(c.path("tokens.csv"), []byte(c.admin+",admin,admin,\"system:masters\"\n"+
			c.kubeletToken()+",system:node:"+c.Node+",node,\"system:nodes\"\n"), 0o600),
	)
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

func (c *Cluster) kubeletToken() string { return strings.TrimSuffix(c.admin, "admin") + "node" }

// find gives the path of a program; "" if there is none.
func (c *Cluster) find(name string) string {
	for _, dir := range c.tools {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func (c *Cluster) startEtcd() error {
	port, peer := freePort(c.t), freePort(c.t)
	client := "http://127.0.0.1:" + port
	c.programs["etcd"] = c.run("etcd", "--data-dir", c.path("etcd"), "--name", "cluster", "--unsafe-no-fsync",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peer,
		"--initial-cluster", "cluster=http://127.0.0.1:"+peer)
	c.API = "https://127.0.0.1:" + freePort(c.t)
	return c.wait("etcd", func() error {
		_, err := c.request(http.MethodGet, client+"/health", "", nil)
		return err
	}, client)
}

func (c *Cluster) startAPI() error {
	etcd := c.programs["etcd"].address
	u := strings.Split(c.API, ":")
	c.programs["kube-apiserver"] = c.run("kube-apiserver",
		"--etcd-servers", etcd, "--bind-address", "127.0.0.1", "--secure-port", u[len(u)-1],
		"--tls-cert-file", c.path("api.crt"), "--tls-private-key-file", c.path("api.key"), "--client-ca-file", c.CAFile, "--cert-dir", c.path("api"),
		"--token-auth-file", c.path("tokens.csv"), "--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", c.path("accounts.key"),
		"--service-account-signing-key-file", c.path("accounts.key"), "--service-cluster-ip-range", "10.96.0.0/24",
		"--endpoint-reconciler-type", "none", "--allow-privileged")
	return c.wait("kube-apiserver", func() error {
		_, err := c.request(http.MethodGet, c.API+"/readyz", "", nil)
		return err
	}, "")
}

// StopAPI ends the API server, without a goodbye.
func (c *Cluster) StopAPI() { c.programs["kube-apiserver"].kill() }

// StartAPI starts the API server again, at the same address and with the same data.
func (c *Cluster) StartAPI() {
	c.t.Helper()
	if err := c.startAPI(); err != nil {
		c.t.Fatalf("start kube-apiserver again: %v", err)
	}
}

func (c *Cluster) startContainerd() error {
	socket := c.socket()
	config := fmt.Sprintf(`version = 2
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
  address = %[3]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[4]q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[5]q
    conf_dir = %[5]q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = %[6]q
      Root = %[7]q
`, c.path("containerd"), c.Containerd, socket, Image, c.path("cni"), c.find("runc"), c.path("runc"))
	if err := os.WriteFile(c.path("containerd.toml"), []byte(config), 0o600); err != nil {
		return err
	}
	c.programs["containerd"] = c.run("containerd", "--config", c.path("containerd.toml"))
	return c.wait("containerd", func() error {
		_, err := c.ctr("version")
		return err
	}, socket)
}

func (c *Cluster) socket() string { return filepath.Join(c.Containerd, "containerd.sock") }

// ctr talks to containerd.
func (c *Cluster) ctr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.find("ctr"), append([]string{"--address", c.socket(), "--namespace", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (c *Cluster) importApp() error {
	_, file, _, _ := runtime.Caller(0)
	program := c.path("app")
	if err := realcontainers.Build(program, filepath.Join(filepath.Dir(file), "testdata/app")); err != nil {
		return err
	}
	return c.importImage(Image, program)
}

func (c *Cluster) importImage(reference, program string) error {
	tar := c.path("image.tar")
	defer os.Remove(tar)
	if err := realcontainers.WriteImage(tar, reference, "app", program); err != nil {
		return fmt.Errorf("write image %s: %w", reference, err)
	}
	_, err := c.ctr("images", "import", tar)
	return err
}

// Import makes an image of a static program, which its containers have at /app and
// begin with.
func (c *Cluster) Import(reference, program string) {
	c.t.Helper()
	if err := c.importImage(reference, program); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Cluster) startKubelet() error {
	if c.Kubelet == "" {
		c.Kubelet = "https://127.0.0.1:" + freePort(c.t)
		if err := c.makeGroups(); err != nil {
			return err
		}
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(c.Kubelet, "https://"))
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: %s
healthzPort: 0
staticPodPath: %s
fileCheckFrequency: 1s
podLogsDir: %s
containerLogMaxSize: 256Ki
containerLogMaxFiles: 5
containerLogMonitorInterval: 3s
containerRuntimeEndpoint: unix://%s
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
resolvConf: ""
serverTLSBootstrap: %t
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true, cacheTTL: 0s}
  x509: {clientCAFile: %s}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 1s, cacheUnauthorizedTTL: 1s}
evictionHard: {memory.available: 1Mi, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%}
imageGCHighThresholdPercent: 100
volumePluginDir: %s
`, port, c.path("kubelet/static"), c.path("log/pods"), c.socket(), c.group, c.signed, c.CAFile, c.path("kubelet/plugins"))
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: %q}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, c.API, c.CAFile, c.kubeletToken())
	if err := errors.Join(os.WriteFile(c.path("kubelet.yaml"), []byte(config), 0o600), os.WriteFile(c.path("kubeconfig"), []byte(kubeconfig), 0o600)); err != nil {
		return err
	}
	c.programs["kubelet"] = c.run("kubelet", "--config", c.path("kubelet.yaml"), "--kubeconfig", c.path("kubeconfig"),
		"--root-dir", c.path("kubelet"), "--cert-dir", c.path("kubelet/pki"), "--hostname-override", c.Node)
	return c.wait("kubelet", c.nodeIsThere, "")
}

// nodeIsThere looks whether the kubelet has told of its node, and answers.
func (c *Cluster) nodeIsThere() error {
	var node struct {
		Status struct {
			Addresses []struct{ Type, Address string }
		}
	}
	if err := c.Get("/api/v1/nodes/"+c.Node, &node); err != nil {
		return err
	}
	for _, a := range node.Status.Addresses {
		if a.Type == "InternalIP" {
			c.NodeIP = a.Address
		}
	}
	if c.NodeIP == "" {
		return errors.New("the node has no address yet")
	}
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.Kubelet, "https://"), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// SignKubelet restarts the kubelet so that it asks the cluster for its serving
// certificate, and signs that, as serverTLSBootstrap and an approver do. Before, the
// kubelet signs its own, as it does by default.
func (c *Cluster) SignKubelet() {
	c.t.Helper()
	c.programs["kubelet"].kill()
	c.signed = true
	if err := c.startKubelet(); err != nil {
		c.t.Fatalf("start kubelet again: %v", err)
	}
	if err := c.wait("kubelet", c.signRequests, ""); err != nil {
		c.t.Fatal(err)
	}
}

// RestartKubelet ends the kubelet and starts it again; pods live on.
func (c *Cluster) RestartKubelet() {
	c.t.Helper()
	c.programs["kubelet"].kill()
	if err := c.startKubelet(); err != nil {
		c.t.Fatalf("start kubelet again: %v", err)
	}
}

// StopKubelet ends the kubelet; pods live on.
func (c *Cluster) StopKubelet() { c.programs["kubelet"].kill() }

// makeGroups makes the control group of all pods in every hierarchy.
func (c *Cluster) makeGroups() error {
	for _, hierarchy := range realcontainers.Hierarchies() {
		dir := hierarchy + c.group
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if have, err := os.ReadFile(filepath.Join(hierarchy, name)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, name), have, 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func freePort(t testing.TB) string {
	t.Helper()
	p, err := freeport.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p.Text()
}
