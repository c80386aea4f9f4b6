package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/vedette-io/vedette/ebpf/identity/clustertest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/vfs"
)

const agentImage = "vedette.test/vedette:1"

// clusterJobs are the scrapes of the agent in the cluster, one for each role.
const clusterJobs = `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: pod
  kubernetes_sd_configs: [{role: pod, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: web, action: keep}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_controller_name], target_label: controller}
  - {source_labels: [__meta_kubernetes_pod_deployment_name], target_label: deployment}
  - {source_labels: [__meta_kubernetes_node_label_kubernetes_io_os], target_label: os}
  - {source_labels: [__meta_kubernetes_namespace_label_team], target_label: team}
- job_name: endpoints
  kubernetes_sd_configs: [{role: endpoints}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_service_name], target_label: service}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
- job_name: endpointslice
  kubernetes_sd_configs: [{role: endpointslice}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_service_name], target_label: service}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
- job_name: service
  kubernetes_sd_configs: [{role: service, namespaces: {names: [shop]}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_service_name], target_label: service}
- job_name: ingress
  kubernetes_sd_configs: [{role: ingress}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_ingress_name], target_label: ingress}
  - {target_label: __address__, replacement: '127.0.0.1:1'}
- job_name: node
  scheme: https
  authorization: {credentials_file: /var/run/secrets/kubernetes.io/serviceaccount/token}
  tls_config: {insecure_skip_verify: true} # the kubelet signs its own
  kubernetes_sd_configs: [{role: node}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_node_name], target_label: node}
  - {source_labels: [__address__], regex: '.*:(\d+)', replacement: '127.0.0.1:$1', target_label: __address__}
`

// agentPod makes of the DaemonSet in deploy/kubernetes what its controller would,
// but for what this machine has elsewhere: directories, ports, the API server.
type agentPod struct {
	t            *testing.T
	c            *clustertest.Cluster
	server, port string // of Vedette, and of the agent
}

// manifest is deploy/kubernetes/agent.yaml with another configuration of the agent.
func (a *agentPod) manifest() string {
	text, err := os.ReadFile("../../deploy/kubernetes/agent.yaml")
	if err != nil {
		a.t.Fatal(err)
	}
	more := clusterJobs + `
otlp: {grpc: {listen: ""}, http: {listen: ""}}
`
	s := string(text)
	for _, r := range [][2]string{
		{`listen: 127\.0\.0\.1:9190`, "listen: 127.0.0.1:" + a.port},
		{`endpoint: http://.*`, "endpoint: " + a.server},
		{`collect:\n`, "collect:\n      interval: 1s\n      containers: {rescan_interval: 1s, kubelet: {url: '" + a.c.Kubelet + "', insecure_skip_verify: true}}\n" +
			"      logs: {sources: [{include: [/var/log/pods/*/*/*.log], format: cri, start: beginning, exclude: [/var/log/pods/vedette_*/**]}]}\n"},
		{`(  agent\.yml: \|)`, "$1" + strings.NewReplacer("$", "$$", "\n", "\n    ").Replace(more)},
	} {
		re := regexp.MustCompile(r[0])
		if len(re.FindAllString(s, -1)) != 1 {
			a.t.Fatalf("deploy/kubernetes/agent.yaml: want %s once", r[0])
		}
		s = re.ReplaceAllString(s, r[1])
	}
	return s
}

// start runs the pod.
func (a *agentPod) start() {
	a.t.Helper()
	a.c.Namespace("vedette")
	if err := a.c.DryRun(a.manifest()); err != nil {
		a.t.Fatal(err)
	}
	uids := a.c.Apply("{apiVersion: v1, kind: Secret, metadata: {name: vedette-agent, namespace: vedette}, stringData: {token: secret}}\n---\n" + a.manifest())
	var set struct {
		Spec struct{ Template map[string]any }
	}
	if err := a.c.Get("/apis/apps/v1/namespaces/vedette/daemonsets/vedette-agent", &set); err != nil {
		a.t.Fatal(err)
	}
	pod := set.Spec.Template
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	m := pod["metadata"].(map[string]any)
	m["name"], m["namespace"] = "vedette-agent-x7k2p", "vedette"
	m["ownerReferences"] = []any{map[string]any{
		"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "vedette-agent", "uid": uids["DaemonSet/vedette-agent"], "controller": true,
	}}
	spec := pod["spec"].(map[string]any)
	spec["nodeName"] = a.c.Node
	for _, v := range spec["volumes"].([]any) {
		v := v.(map[string]any)
		at, ok := v["hostPath"].(map[string]any)
		if !ok {
			continue
		}
		switch v["name"] {
		case "data":
			at["path"] = filepath.Join(a.c.Dir, "agent")
		case "containerd":
			at["path"] = a.c.Containerd
		case "logs":
			at["path"] = a.c.Logs
		}
	}
	container := spec["containers"].([]any)[0].(map[string]any)
	container["image"], container["imagePullPolicy"] = agentImage, "Never"
	api, err := url.Parse(a.c.API)
	if err != nil {
		a.t.Fatal(err)
	}
	container["env"] = append(container["env"].([]any), // there is no kube-proxy
		map[string]any{"name": "KUBERNETES_SERVICE_HOST", "value": api.Hostname()}, map[string]any{"name": "KUBERNETES_SERVICE_PORT", "value": api.Port()})
	for _, probe := range []string{"readinessProbe", "livenessProbe"} {
		container[probe].(map[string]any)["httpGet"].(map[string]any)["port"] = json.Number(a.port)
	}
	text, err := json.Marshal(pod)
	if err != nil {
		a.t.Fatal(err)
	}
	a.c.Apply(string(text))
	a.c.Running("vedette", "vedette-agent-x7k2p")
}

// importAgent makes the image of Vedette.
func importAgent(t *testing.T, c *clustertest.Cluster) {
	t.Helper()
	program := filepath.Join(c.Dir, "vedette")
	build := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build vedette: %v: %s", err, out)
	}
	c.Import(agentImage, program)
}

// clusterShop is a Deployment of which each pod serves at an address, with a Service
// and an Ingress.
type clusterShop struct {
	c   *clustertest.Cluster
	uid string // of the ReplicaSet
}

func newClusterShop(c *clustertest.Cluster) *clusterShop {
	c.Namespace("shop")
	labels := "{app: front, pod-template-hash: 7d9f8b6c5}"
	template := fmt.Sprintf("{metadata: {labels: %s}, spec: {containers: [{name: app, image: %s}]}}", labels, clustertest.Image)
	spec := fmt.Sprintf("spec: {selector: {matchLabels: %s}, template: %s}", labels, template)
	uid := c.Apply("{apiVersion: apps/v1, kind: Deployment, metadata: {name: front, namespace: shop}, " + spec + "}")["Deployment/front"]
	uids := c.Apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: front-7d9f8b6c5, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: front, uid: %s, controller: true}]}
%s
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: till}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop}
spec: {rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: front, port: {name: web}}}}]}}]}
`, uid, spec))
	return &clusterShop{c, uids["ReplicaSet/front-7d9f8b6c5"]}
}

// pod starts a pod of the shop and waits until it runs.
func (s *clusterShop) pod(name, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	s.c.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: shop
  labels: {app: front, pod-template-hash: 7d9f8b6c5}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: front-7d9f8b6c5, uid: %s, controller: true}]
spec:
  nodeName: %s
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: %s
      imagePullPolicy: Never
      args: [serve]
      env: [{name: ADDR, value: %q}]
      ports: [{name: web, containerPort: %s}]
`, name, s.uid, s.c.Node, clustertest.Image, addr, port))
	s.c.Running("shop", name)
}

// service makes the Service in front of a pod, and the endpoints that it has.
func (s *clusterShop) service(pod, addr string) {
	host, port, _ := net.SplitHostPort(addr)
	ports := fmt.Sprintf("ports: [{name: web, port: %s, protocol: TCP}]", port)
	reference := "targetRef: {kind: Pod, name: " + pod + ", namespace: shop}"
	s.c.Apply(fmt.Sprintf(`
{apiVersion: v1, kind: Service, metadata: {name: front, namespace: shop}, spec: {%[1]s}}
---
{apiVersion: v1, kind: Endpoints, metadata: {name: front, namespace: shop}, subsets: [{addresses: [{ip: %[2]s, %[3]s}], %[1]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: front-abcde, namespace: shop, labels: {kubernetes.io/service-name: front}}
addressType: IPv4
endpoints: [{addresses: [%[2]s], conditions: {ready: true}, %[3]s}]
%[1]s
`, ports, host, reference))
}

// freeAddressAt is freeAddress of another host.
func freeAddressAt(t *testing.T, host string) string {
	t.Helper()
	_, port, _ := net.SplitHostPort(freeAddress(t))
	return net.JoinHostPort(host, port)
}

// The agent runs as deploy/kubernetes has it, in a real cluster: it names what the
// kernel shows and what the pods write by pod and workload, and finds what to scrape,
// with the rights of its service account.
func TestE2ECluster(t *testing.T) {
	c := clustertest.Start(t)
	importAgent(t, c)
	data := t.TempDir()
	server := start(t, data, "--config", agentFile(t, serverOnly))
	const pod, later = "front-7d9f8b6c5-x2x4z", "front-7d9f8b6c5-b7v9q"
	addr := freeAddressAt(t, c.NodeIP)
	shop := newClusterShop(c)
	shop.pod(pod, addr)
	shop.service(pod, addr)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	a := &agentPod{t: t, c: c, server: server.url, port: port}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(c.Logs, "pods/vedette_*/*/*.log"))
			for _, path := range logs {
				text, _ := os.ReadFile(path)
				t.Logf("%s:\n%s", path, text[max(0, len(text)-6000):])
			}
		}
	})
	a.start()

	server.finds(`container_memory_working_set_bytes{namespace="shop",pod="` + pod + `",container="app"} > 0`)
	server.finds(`container_cpu_usage_seconds_total{namespace="vedette",pod="vedette-agent-x7k2p",container="agent"}`)
	server.finds(`node_load1`)
	a.targets(server, pod, addr)
	// Its log is rotated again and again, and its files go with its pod.
	const numbers = 60000
	c.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: count, namespace: shop}
spec:
  nodeName: %s
  hostNetwork: true
  restartPolicy: Never
  containers: [{name: app, image: %s, imagePullPolicy: Never, args: [count, "%d"]}]
`, c.Node, clustertest.Image, numbers))
	t.Run("requests", func(t *testing.T) { requestsToPod(t, server.in(t), pod, addr) })

	// The API server goes while it is watched; what happens after is seen.
	c.StopAPI()
	c.StartAPI()
	c.Delete("/api/v1/namespaces/shop/pods/" + pod)
	c.Gone("/api/v1/namespaces/shop/pods/" + pod)
	other := freeAddressAt(t, c.NodeIP)
	shop.pod(later, other)
	server.finds(`up{job="pod",instance="` + other + `",pod="` + later + `"} == 1`)
	server.finds(`absent(up{job="pod",pod="` + pod + `"})`)
	server.finds(`container_memory_working_set_bytes{namespace="shop",pod="` + later + `",container="app"} > 0`)

	eventually(t, "log records arrive", func() bool {
		return server.metric("vedette_ingest_door_log_records_total", `result="accepted"`) > 25+numbers
	})
	if rotated, _ := filepath.Glob(filepath.Join(c.Logs, "pods/shop_count_*/app/0.log.*")); len(rotated) < 2 {
		t.Errorf("the kubelet has not rotated the log of the pod count: %q", rotated)
	}
	server.stop()
	compareNumbers(t, logsIn(t, data, "shop", "count"), numbers)
	for pod, addr := range map[string]string{pod: addr, later: other} {
		logs := logsIn(t, data, "shop", pod)
		if want := "app: listening on " + addr; len(logs) == 0 || logs[0] != want {
			t.Errorf("logs of pod %s: got %q, want %q first", pod, logs, want)
		}
	}
}

// targets wants those of every role.
func (a *agentPod) targets(server *process, pod, addr string) {
	_, port, _ := net.SplitHostPort(addr)
	server.finds(`up{job="pod",instance="` + addr + `",namespace="shop",pod="` + pod + `",controller="front-7d9f8b6c5",deployment="front",os="linux",team="till"} == 1`)
	server.finds(`up{job="endpoints",instance="` + addr + `",service="front",pod="` + pod + `"} == 1`)
	server.finds(`up{job="endpointslice",instance="` + addr + `",service="front",pod="` + pod + `"} == 1`)
	server.finds(`up{job="service",instance="front.shop.svc:` + port + `",service="front"}`)
	server.finds(`up{job="ingress",ingress="shop"}`)
	server.finds(`up{job="node",node="` + a.c.Node + `"} == 1`)
	server.finds(`kubelet_running_pods{job="node",node="` + a.c.Node + `"} >= 2`)
}

// requestsToPod sends requests to a pod, which the kernel shows under its names.
func requestsToPod(t *testing.T, server *process, pod, addr string) {
	server.loaded("http")
	const n = 25
	for range n {
		resp, err := http.Post("http://"+addr+"/item", "text/plain", strings.NewReader("1"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	_, port, _ := net.SplitHostPort(addr)
	server.counts(`http_server_request_duration_seconds_count{service_name="front",service_namespace="shop",k8s_namespace_name="shop",k8s_pod_name="`+
		pod+`",container_name="app",server_port="`+port+`",http_request_method="POST",http_response_status_code="200"}`, n)
	server.counts(`http_server_request_duration_seconds_count{server_port="`+port+`",http_request_method="POST"}`, n) // and under no other
}

// compareNumbers wants all lines of app count, once and in order.
func compareNumbers(t *testing.T, got []string, numbers int) {
	t.Helper()
	for i, body := range got {
		if want := fmt.Sprintf("app: number %d of %d, with some more text to make the line long", i+1, numbers); body != want {
			t.Fatalf("log of pod count: got %q as line %d, want %q", body, i+1, want)
		}
	}
	if len(got) != numbers {
		t.Errorf("log of pod count: got %d lines, want %d", len(got), numbers)
	}
}

// logsIn gives the bodies of the log records of a pod in the buffer of a server that
// has stopped.
func logsIn(t *testing.T, data, namespace, pod string) (bodies []string) {
	t.Helper()
	l, err := buffer.Open(buffer.DefaultConfig(), vfs.OS, filepath.Join(data, bufferDir), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	take := func(payload []byte) error {
		r := plogotlp.NewExportRequest()
		if err := r.UnmarshalProto(payload); err != nil {
			return err
		}
		for _, resource := range r.Logs().ResourceLogs().All() {
			of := resource.Resource().Attributes().AsRaw()
			if of["k8s.namespace.name"] != namespace || of["k8s.pod.name"] != pod {
				continue
			}
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					bodies = append(bodies, fmt.Sprint(of["k8s.container.name"], ": ", record.Body().AsString()))
				}
			}
		}
		return nil
	}
	err = l.Consume(ctx, "e2e", buffer.TopicLogs, func(ctx context.Context, c buffer.Claim) error {
		defer cancel()
		for next := c.Oldest(); next < c.HighWatermark(); {
			messages, err := c.Next(ctx)
			if err != nil {
				return err
			}
			for _, m := range messages {
				next = m.Offset + 1
				payload := m.Payload
				switch m.Format {
				case buffer.FormatPosition:
					continue
				case buffer.FormatOTLPLogsSnappy:
					if payload, err = snappy.Decode(nil, payload); err != nil {
						return err
					}
				}
				if err := take(payload); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bodies
}
