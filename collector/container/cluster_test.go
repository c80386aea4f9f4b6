package container

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/identity/clustertest"
)

// inCluster is a real cluster with the service account of deploy/kubernetes.
type inCluster struct {
	*clustertest.Cluster
	manifest string
	token    string // the file
	env      map[string]string
}

// TestCluster names what runs in a real cluster, with the rights that
// deploy/kubernetes gives.
func TestCluster(t *testing.T) {
	manifest, err := os.ReadFile("../../deploy/kubernetes/agent.yaml")
	require.NoError(t, err)
	c := &inCluster{Cluster: clustertest.Start(t), manifest: string(manifest)}
	c.Namespace("vedette")
	require.NoError(t, c.DryRun(c.manifest))
	c.Apply(c.manifest)
	c.token = filepath.Join(c.Dir, "token")
	c.newToken(t)
	api, err := url.Parse(c.API)
	require.NoError(t, err)
	c.env = map[string]string{"KUBERNETES_SERVICE_HOST": api.Hostname(), "KUBERNETES_SERVICE_PORT": api.Port(), "NODE_NAME": c.Node}

	c.applyWorkloads(t)
	t.Run("kubelet", c.testKubelet)
	t.Run("API server", c.testAPIServer)
	t.Run("rights", c.testRights)
	t.Run("kinds of containers", c.testKinds)
	t.Run("pods come and go", c.testComeAndGo)
	t.Run("token", c.testToken)
	t.Run("API server restarts", c.testRestart)
	t.Run("kubelet restarts", c.testKubeletRestart)
	t.Run("certificate", c.testCertificate)
}

func (c *inCluster) newToken(t *testing.T) {
	t.Helper()
	require.NoError(t, os.WriteFile(c.token, []byte(c.Token("vedette", "vedette-agent", time.Hour)), 0o600))
}

// pod is the manifest of a pod in the namespace shop.
func (c *inCluster) pod(name, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: shop
  %s
spec:
  nodeName: %s
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: %[4]s, imagePullPolicy: Never}
    - {name: side, image: %[4]s, imagePullPolicy: Never}
`, name, strings.ReplaceAll(strings.TrimSpace(more), "\n", "\n  "), c.Node, clustertest.Image)
}

// owner is the reference to what made an object.
func owner(kind, version, name, uid string) string {
	return fmt.Sprintf("ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true}]", version, kind, name, uid)
}

// applyWorkloads makes what controllers make of workloads.
func (c *inCluster) applyWorkloads(t *testing.T) {
	c.Namespace("shop")
	template := fmt.Sprintf(`{metadata: {labels: {app: x}}, spec: {containers: [{name: app, image: %s}]}}`, clustertest.Image)
	selector := "{matchLabels: {app: x}}"
	deployment := c.Apply(fmt.Sprintf(`
{apiVersion: apps/v1, kind: Deployment, metadata: {name: front, namespace: shop}, spec: {selector: %s, template: %s}}
`, selector, template))
	set := c.Apply(fmt.Sprintf(`
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: front-7d9f8b6c5, namespace: shop, %s}, spec: {selector: %s, template: %s}}
`, owner("Deployment", "apps/v1", "front", deployment["Deployment/front"]), selector, template))
	job := fmt.Sprintf(`{template: {spec: {restartPolicy: Never, containers: [{name: app, image: %s}]}}}`, clustertest.Image)
	others := c.Apply(fmt.Sprintf(`
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: shop}, spec: {serviceName: db, selector: %[1]s, template: %[2]s}}
---
{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: proxy, namespace: shop}, spec: {selector: %[1]s, template: %[2]s}}
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: alone, namespace: shop}, spec: {selector: %[1]s, template: %[2]s}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: migrate, namespace: shop}, spec: %[3]s}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: backup, namespace: shop}, spec: {schedule: "0 3 * * *", jobTemplate: {spec: %[3]s}}}
`, selector, template, job))
	of := c.Apply(fmt.Sprintf(`
{apiVersion: batch/v1, kind: Job, metadata: {name: backup-29384710, namespace: shop, %s}, spec: %s}
`, owner("CronJob", "batch/v1", "backup", others["CronJob/backup"]), job))
	for name, more := range map[string]string{
		"front-7d9f8b6c5-x2x4z": "labels: {pod-template-hash: 7d9f8b6c5}\n" + owner("ReplicaSet", "apps/v1", "front-7d9f8b6c5", set["ReplicaSet/front-7d9f8b6c5"]),
		"alone-4kq2j":           owner("ReplicaSet", "apps/v1", "alone", others["ReplicaSet/alone"]),
		"db-0":                  owner("StatefulSet", "apps/v1", "db", others["StatefulSet/db"]),
		"proxy-8sj2k":           owner("DaemonSet", "apps/v1", "proxy", others["DaemonSet/proxy"]),
		"migrate-w9s4t":         owner("Job", "batch/v1", "migrate", others["Job/migrate"]),
		"backup-29384710-lm2vq": owner("Job", "batch/v1", "backup-29384710", of["Job/backup-29384710"]),
		"bare":                  "labels: {app.kubernetes.io/name: till}",
	} {
		c.Apply(c.pod(name, more))
	}
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "kubelet/static/dns.yaml"), []byte(strings.ReplaceAll(c.pod("dns", ""), "nodeName: "+c.Node, "")), 0o600))
}

// workloads are the pods that applyWorkloads makes, by name, and what they belong to.
func (c *inCluster) workloads() map[string]string {
	return map[string]string{
		"front-7d9f8b6c5-x2x4z": "front", "alone-4kq2j": "alone", "db-0": "db", "proxy-8sj2k": "proxy", "migrate-w9s4t": "migrate",
		"backup-29384710-lm2vq": "backup", "bare": "", "dns-" + c.Node: "dns",
	}
}

// config is the collector's as it is in a pod of deploy/kubernetes.
func (c *inCluster) config() Config {
	cfg := DefaultConfig()
	cfg.RescanInterval = time.Second
	cfg.DockerSockets, cfg.ContainerdSockets = nil, nil
	cfg.MaxContainers = 1 << 16
	cfg.Kubelet = KubeletConfig{URL: c.Kubelet, TokenFile: c.token, CAFile: c.CAFile, InsecureSkipVerify: true}
	return cfg
}

// start runs a collector until the test ends.
func (c *inCluster) start(t *testing.T, cfg Config, env map[string]string) *Collector {
	t.Helper()
	col, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	require.NoError(t, err)
	for _, s := range col.sources {
		if k, ok := s.(*kubelet); ok {
			k.env = func(key string) string { return env[key] }
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- col.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return col
}

// process finds a process of a container.
func process(t *testing.T, id string) uint32 {
	t.Helper()
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	require.NoError(t, err)
	for _, path := range groups {
		text, _ := os.ReadFile(path)
		if strings.Contains(string(text), id) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			return uint32(pid)
		}
	}
	t.Fatalf("container %s has no process", id)
	return 0
}

// names waits until a process of a container of the pod is called what it is.
func (c *inCluster) names(t *testing.T, col *Collector, name, workload string) {
	t.Helper()
	p := c.Running("shop", name)
	r := identity.New("/proc", col)
	for _, container := range []string{"app", "side"} {
		id := p.ContainerID(container)
		require.NotEmpty(t, id)
		k, ok := r.Find(process(t, id))
		require.True(t, ok)
		var got identity.Process
		require.Eventually(t, func() bool {
			got = r.Resolve(k, "")
			return got.Container != "" && got.Pod != ""
		}, time.Minute, 20*time.Millisecond, "%s/%s: %+v", name, container, &got)
		service := ""
		if name == "bare" {
			service = "till"
		}
		require.Equal(t, identity.Names{Container: container, Pod: name, PodNamespace: "shop", Workload: workload, Service: service}, got.Names)
		require.Equal(t, id, got.ContainerID)
		require.Equal(t, "shop", got.Namespace)
		want := "app"
		for _, s := range []string{workload, service} {
			if s != "" {
				want = s
			}
		}
		require.Equal(t, want, got.Service, name)
	}
}

func (c *inCluster) testKubelet(t *testing.T) {
	col := c.start(t, c.config(), nil)
	for name, workload := range c.workloads() {
		c.names(t, col, name, workload)
	}
	require.Zero(t, testutil.ToFloat64(col.metrics.errors.WithLabelValues("kubelet")))
	require.Positive(t, testutil.ToFloat64(col.metrics.asked.WithLabelValues("kubelet")))

	p := c.Running("shop", "db-0")
	found := map[string]bool{}
	for line := range strings.Lines(expose(t, col)) {
		for what, id := range map[string]string{"app": "/" + p.ContainerID("app"), "side": "/" + p.ContainerID("side"), "": "/pod" + p.Metadata.UID} {
			image := ""
			if what != "" {
				image = clustertest.Image
			}
			if strings.HasPrefix(line, "container_memory_working_set_bytes{") && strings.Contains(line, id+`",`) {
				require.Contains(t, line, fmt.Sprintf(`container=%q,`, what))
				require.Contains(t, line, fmt.Sprintf(`image=%q,`, image))
				require.Contains(t, line, `namespace="shop",pod="db-0"}`)
				found[what] = true
			}
		}
	}
	require.Len(t, found, 3)
}

// Where the kubelet is not there, the API server is asked.
func (c *inCluster) testAPIServer(t *testing.T) {
	cfg := c.config()
	cfg.Kubelet.URL = "https://127.0.0.1:1"
	col := c.start(t, cfg, c.env)
	for name, workload := range c.workloads() {
		c.names(t, col, name, workload)
	}
	require.Zero(t, testutil.ToFloat64(col.metrics.errors.WithLabelValues("kubelet")))
}

// The rights of deploy/kubernetes are enough, and are not those to run commands.
func (c *inCluster) testRights(t *testing.T) {
	k := &kubelet{cfg: c.config().Kubelet, env: func(string) string { return "" }}
	for address, want := range map[string]string{
		c.Kubelet + "/pods":                                                  "",
		c.Kubelet + "/metrics":                                               "",
		c.Kubelet + "/configz":                                               "403",
		c.Kubelet + "/containerLogs/shop/db-0/app":                           "403",
		c.API + "/api/v1/pods":                                               "",
		c.API + "/api/v1/nodes":                                              "",
		c.API + "/api/v1/services":                                           "",
		c.API + "/api/v1/endpoints":                                          "",
		c.API + "/apis/discovery.k8s.io/v1/endpointslices":                   "",
		c.API + "/apis/batch/v1/jobs":                                        "",
		c.API + "/apis/networking.k8s.io/v1/ingresses":                       "",
		c.API + "/api/v1/namespaces":                                         "",
		c.API + "/apis/apps/v1/replicasets":                                  "",
		c.API + "/api/v1/secrets":                                            "403",
		c.API + "/api/v1/namespaces/shop/pods/db-0/log":                      "403",
		c.API + "/api/v1/nodes/" + c.Node + "/proxy/pods":                    "403",
		c.API + "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": "403",
	} {
		err := k.get(t.Context(), address, &tls.Config{InsecureSkipVerify: true}, func(*jsonStream) error { return nil })
		if want == "" {
			require.NoError(t, err, address)
		} else {
			require.ErrorContains(t, err, "got status "+want, address)
		}
	}
}

// Containers that begin before the pod's own and that are added to it have names,
// too, and pods are found in the control groups of all classes of quality.
func (c *inCluster) testKinds(t *testing.T) {
	const manifest = `
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop}
spec:
  nodeName: %[2]s
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  initContainers: [{name: before, image: %[3]s, imagePullPolicy: Never, restartPolicy: Always, resources: {%[4]s}}]
  containers: [{name: app, image: %[3]s, imagePullPolicy: Never, resources: {%[4]s}}]
`
	c.Apply(fmt.Sprintf(manifest, "burstable", c.Node, clustertest.Image, "requests: {memory: 16Mi}"))
	c.Apply(fmt.Sprintf(manifest, "guaranteed", c.Node, clustertest.Image, "limits: {memory: 64Mi, cpu: 100m}"))
	col := c.start(t, c.config(), nil)
	for _, name := range []string{"burstable", "guaranteed"} {
		p := c.Running("shop", name)
		c.Debug("shop", name, "later", "app")
		for _, container := range []string{"before", "app", "later"} {
			var id string
			require.Eventually(t, func() bool {
				id = c.Running("shop", name).ContainerID(container)
				return id != ""
			}, time.Minute, 50*time.Millisecond, container)
			want := identity.Names{Container: container, Pod: name, PodNamespace: "shop"}
			require.Eventually(t, func() bool { return col.Names(id, p.Metadata.UID) == want }, time.Minute, 20*time.Millisecond, "%s/%s", name, container)
			g := identity.ParseGroup(groupText(t, id))
			require.Equal(t, []string{id, p.Metadata.UID}, []string{g.ContainerID, g.PodUID})
			limit := fmt.Sprintf(`container_spec_memory_limit_bytes{container=%q,id=%q,image=%q,name=%q,namespace="shop",pod=%q} 6.7108864e+07`, container, g.Path, clustertest.Image, id, name)
			require.Equal(t, name == "guaranteed" && container != "later", strings.Contains(expose(t, col), limit), limit)
		}
	}
	for _, name := range []string{"burstable", "guaranteed"} {
		c.Delete("/api/v1/namespaces/shop/pods/" + name)
	}
}

// groupText is what /proc says of the control groups of a container's process.
func groupText(t *testing.T, id string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", process(t, id)))
	require.NoError(t, err)
	return string(text)
}

// A pod that comes while the agent runs is named within seconds, and one that takes
// the name of another is not taken for it.
func (c *inCluster) testComeAndGo(t *testing.T) {
	const path = "/api/v1/namespaces/shop/pods/late-0"
	for _, source := range []string{c.Kubelet, "https://127.0.0.1:1"} {
		cfg := c.config()
		cfg.Kubelet.URL = source
		col := c.start(t, cfg, c.env)
		before := ""
		for range 3 {
			c.Apply(c.pod("late-0", ""))
			c.names(t, col, "late-0", "")
			uid := c.Running("shop", "late-0").Metadata.UID
			require.NotEqual(t, before, uid)
			before = uid
			c.Delete(path)
			c.Gone(path)
		}
		// What is gone is forgotten with the next that comes.
		c.Apply(c.pod("late-0", ""))
		c.names(t, col, "late-0", "")
		require.Zero(t, col.Names("", before))
		c.Delete(path)
		c.Gone(path)
	}
}

// A token that has run out is refused, names stay, and the one that the kubelet
// writes in its place is taken.
func (c *inCluster) testToken(t *testing.T) {
	for _, source := range []string{c.Kubelet, "https://127.0.0.1:1"} {
		cfg := c.config()
		cfg.Kubelet.URL = source
		col := c.start(t, cfg, c.env)
		c.names(t, col, "db-0", "db")
		good, err := os.ReadFile(c.token)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(c.token, []byte(c.Expired(string(good))), 0o600))

		c.Apply(c.pod("late-1", ""))
		c.Running("shop", "late-1")
		require.Eventually(t, func() bool { return testutil.ToFloat64(col.metrics.errors.WithLabelValues("kubelet")) > 0 }, time.Minute, 20*time.Millisecond)
		c.names(t, col, "db-0", "db")
		c.newToken(t)
		c.names(t, col, "late-1", "")
		c.Delete("/api/v1/namespaces/shop/pods/late-1")
		c.Gone("/api/v1/namespaces/shop/pods/late-1")
	}
}

// While the API server is away nobody is let in, by the kubelet either, and names
// stay.
func (c *inCluster) testRestart(t *testing.T) {
	for _, source := range []string{c.Kubelet, "https://127.0.0.1:1"} {
		cfg := c.config()
		cfg.Kubelet.URL = source
		col := c.start(t, cfg, c.env)
		c.names(t, col, "db-0", "db")
		p := c.Running("shop", "db-0")
		c.StopAPI()
		// Another container than all that were there: its cgroup is enough.
		id := fmt.Sprintf("%064d", time.Now().UnixNano())
		c.makeGroup(t, id)
		asked := testutil.ToFloat64(col.metrics.asked.WithLabelValues("files"))
		require.Eventually(t, func() bool { return testutil.ToFloat64(col.metrics.asked.WithLabelValues("files")) > asked+2 }, time.Minute, 20*time.Millisecond)
		require.Equal(t, identity.Names{Container: "app", Pod: "db-0", PodNamespace: "shop", Workload: "db"}, col.Names(p.ContainerID("app"), p.Metadata.UID))
		c.StartAPI()
		c.Apply(c.pod("late-2", ""))
		c.names(t, col, "late-2", "")
		c.Delete("/api/v1/namespaces/shop/pods/late-2")
		c.Gone("/api/v1/namespaces/shop/pods/late-2")
	}
}

// makeGroup makes a control group called like a container of Docker's, in one
// hierarchy.
func (c *inCluster) makeGroup(t *testing.T, id string) {
	t.Helper()
	h, err := findHierarchies("/sys/fs/cgroup")
	require.NoError(t, err)
	dir := filepath.Join(h.mounts[0], "docker-"+id+".scope")
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
}

// While the kubelet starts again names stay, without an API server to ask, too.
func (c *inCluster) testKubeletRestart(t *testing.T) {
	col := c.start(t, c.config(), nil)
	c.names(t, col, "db-0", "db")
	p := c.Running("shop", "db-0")
	c.StopKubelet()
	c.makeGroup(t, fmt.Sprintf("%064d", time.Now().UnixNano()))
	require.Eventually(t, func() bool { return testutil.ToFloat64(col.metrics.errors.WithLabelValues("kubelet")) > 0 }, time.Minute, 20*time.Millisecond)
	require.Equal(t, identity.Names{Container: "app", Pod: "db-0", PodNamespace: "shop", Workload: "db"}, col.Names(p.ContainerID("app"), p.Metadata.UID))
	c.RestartKubelet()
	c.Apply(c.pod("late-3", ""))
	c.names(t, col, "late-3", "")
	c.names(t, col, "dns-"+c.Node, "dns")
}

// The kubelet's certificate is checked unless it is not to be.
func (c *inCluster) testCertificate(t *testing.T) {
	ask := func(insecure bool, env map[string]string) error {
		cfg := c.config().Kubelet
		cfg.InsecureSkipVerify = insecure
		k := &kubelet{cfg: cfg, env: func(key string) string { return env[key] }}
		_, err := k.ask(t.Context(), new(question))
		return err
	}
	node := map[string]string{"NODE_NAME": c.Node}
	require.NoError(t, ask(true, nil), "it signs its own")
	require.ErrorContains(t, ask(false, nil), "x509: ")
	require.ErrorContains(t, ask(false, node), "x509: ")
	require.NoError(t, ask(false, c.env), "the API server is asked")

	c.SignKubelet()
	require.Eventually(t, func() bool { return ask(false, node) == nil }, time.Minute, 50*time.Millisecond, "%v", ask(false, node))
	require.NoError(t, ask(true, nil))
	require.ErrorContains(t, ask(false, nil), "127.0.0.1", "the cluster signs for the node's name and address")
	require.ErrorContains(t, ask(false, map[string]string{"NODE_NAME": "another"}), "127.0.0.1")
	other := httptest.NewTLSServer(nil)
	defer other.Close()
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "other.crt"), pemOf(other), 0o600))
	k := &kubelet{cfg: c.config().Kubelet, env: func(key string) string { return node[key] }}
	k.cfg.InsecureSkipVerify, k.cfg.CAFile = false, filepath.Join(c.Dir, "other.crt")
	_, err := k.ask(t.Context(), new(question))
	require.ErrorContains(t, err, "x509: certificate signed by unknown authority")
}
