package scrape

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/discovery"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/collector/etcd/etcdtest"
	"github.com/vedette-io/vedette/ingest/doortest"
)

// every is a job with one entry of each discovery that is linked in.
const every = `
scrape_configs:
- job_name: every
  static_configs: [{targets: ["a:1"], labels: {zone: x}}]
  file_sd_configs: [{files: ["targets/*.yml"], refresh_interval: 1m}]
  http_sd_configs: [{url: "http://127.0.0.1:1/targets"}]
  dns_sd_configs: [{names: [_metrics._tcp.example.org]}, {names: [a.example.org], type: A, port: 9100}]
  consul_sd_configs: [{server: "127.0.0.1:1", services: [web], tags: [prod]}]
  kubernetes_sd_configs:
  - {role: pod, api_server: "http://127.0.0.1:1", namespaces: {names: [default]}}
  - {role: endpointslice, api_server: "http://127.0.0.1:1", selectors: [{role: endpointslice, label: "a=b"}]}
  marathon_sd_configs: [{servers: ["http://127.0.0.1:1"]}]
  docker_sd_configs: [{host: "tcp://127.0.0.1:1", filters: [{name: label, values: ["a=b"]}]}]
  dockerswarm_sd_configs: [{host: "tcp://127.0.0.1:1", role: tasks}]
  nomad_sd_configs: [{server: "http://127.0.0.1:1"}]
  etcd_sd_configs: [{endpoints: ["127.0.0.1:1"], prefix: /service/}]
`

// All discoveries are linked, configure, and come with their metrics.
func TestDiscoveriesLinked(t *testing.T) {
	require.Equal(t, []string{
		"consul", "dns", "docker", "dockerswarm", "etcd", "file", "http", "kubernetes", "marathon", "nomad", "static",
	}, discovery.RegisteredConfigNames())
	cfg := load(t, every)
	var names []string
	sd, err := discovery.CreateAndRegisterSDMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	for _, c := range cfg.ScrapeConfigs[0].ServiceDiscoveryConfigs {
		names = append(names, c.Name())
		_, err := c.NewDiscoverer(discovery.DiscovererOptions{Metrics: sd.MechanismMetrics[c.Name()], SetName: "every"})
		require.NoError(t, err, c.Name())
	}
	slices.Sort(names)
	require.Equal(t, discovery.RegisteredConfigNames(), slices.Compact(names))
}

// A scraper registers the metrics of all discoveries on its own registry, so
// that two can live in one process.
func TestDiscoveryMetrics(t *testing.T) {
	for range 2 {
		reg := prometheus.NewRegistry()
		s, err := New(Options{Writer: &recorder{}, Config: load(t, every), Logger: discard, Registerer: reg})
		require.NoError(t, err)
		defer s.stop()
		require.NoError(t, s.discovery.ApplyConfig(nil))
		got, err := reg.Gather()
		require.NoError(t, err)
		var names []string
		for _, f := range got {
			names = append(names, f.GetName())
		}
		for _, name := range []string{"prometheus_sd_file_read_errors_total", "prometheus_sd_dns_lookups_total", "prometheus_sd_consul_rpc_failures_total", "prometheus_sd_http_failures_total"} {
			require.Contains(t, names, name)
		}
		require.Error(t, reg.Register(prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vedette_collector_etcd_lists_total", Help: "another",
		}, []string{"config"})), "the metrics of etcd are registered")
	}
}

// Targets come from an HTTP endpoint and from Marathon's API, and are scraped.
func TestHTTPDiscoveries(t *testing.T) {
	target := newExporter(t).Listener.Addr().String()
	host, port, _ := strings.Cut(target, ":")
	mux := http.NewServeMux()
	answer := func(path, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		require.True(t, json.Valid([]byte(text)), text)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		})
	}
	answer("/targets", `[{"targets": [%q], "labels": {"from": "http"}}]`, target)
	answer("/v2/apps/", `{"apps": [{"id": "/shop/web", "labels": {"team": "a"}, "tasks": [{"id": "web.1", "host": %q, "ports": [%s]}], "portDefinitions": [{"port": 0}], "runningTasks": 1, "requirePorts": false}]}`, host, port)
	answer("/v1/services", `[{"Namespace": "default", "Services": [{"ServiceName": "web", "Tags": ["prod"]}]}]`)
	answer("/v1/service/web", `[{"ID": "1", "ServiceName": "web", "Namespace": "default", "NodeID": "n", "Datacenter": "dc1", "JobID": "j", "AllocID": "a", "Tags": ["prod"], "Address": %q, "Port": %s}]`, host, port)
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	p := doortest.New(t, doortest.Options{})
	start(t, p.Entry("scrape"), fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
- job_name: http
  http_sd_configs: [{url: "%[1]s/targets"}]
- job_name: marathon
  marathon_sd_configs: [{servers: [%[1]q]}]
  relabel_configs: [{source_labels: [__meta_marathon_app], target_label: app}]
- job_name: nomad
  nomad_sd_configs: [{server: %[1]q}]
  relabel_configs: [{source_labels: [__meta_nomad_service], target_label: service}]
`, api.URL))
	eventually(t, p.Sink,
		fmt.Sprintf(`{__name__="up", from="http", instance=%q, job="http"}`, target),
		fmt.Sprintf(`{__name__="up", app="/shop/web", instance=%q, job="marathon"}`, target),
		fmt.Sprintf(`{__name__="up", instance=%q, job="nomad", service="web"}`, target),
	)
}

// Kubernetes' client and Consul's follow their servers, which hold requests open
// until there is news.
func TestWatchedDiscoveries(t *testing.T) {
	target := newExporter(t).Listener.Addr().String()
	host, port, _ := strings.Cut(target, ":")
	pod := fmt.Sprintf(`{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web-0", "namespace": "shop", "uid": "1", "resourceVersion": "7"},
		"spec": {"nodeName": "n", "containers": [{"name": "web", "ports": [{"name": "metrics", "containerPort": %s, "protocol": "TCP"}]}]},
		"status": {"phase": "Running", "podIP": %q}}`, port, host)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/pods", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.FormValue("sendInitialEvents") != "": // an older server does not know it
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`)
		case r.FormValue("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			_, _ = io.WriteString(w, `{"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [`+pod+`]}`)
		}
	})
	consul := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("index") == "5" {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Consul-Index", "5")
			_, _ = io.WriteString(w, text)
		})
	}
	consul("/v1/agent/self", `{"Config": {"Datacenter": "dc1"}}`)
	consul("/v1/catalog/services", `{"web": ["prod"]}`)
	consul("/v1/health/service/web", fmt.Sprintf(`[{"Node": {"Node": "n", "Address": %[1]q, "Datacenter": "dc1"},
		"Service": {"ID": "web-1", "Service": "web", "Tags": ["prod"], "Address": %[1]q, "Port": %[2]s}, "Checks": []}]`, host, port))
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	p := doortest.New(t, doortest.Options{})
	start(t, p.Entry("scrape"), fmt.Sprintf(`
global: {scrape_interval: 400ms, scrape_timeout: 400ms}
scrape_configs:
- job_name: kubernetes
  kubernetes_sd_configs: [{role: pod, api_server: %[1]q}]
  relabel_configs: [{source_labels: [__meta_kubernetes_pod_name], target_label: pod}]
- job_name: consul
  consul_sd_configs: [{server: %[1]q, refresh_interval: 50ms}] # it ends only with the interval
  relabel_configs: [{source_labels: [__meta_consul_service], target_label: service}]
`, api.URL))
	eventually(t, p.Sink,
		fmt.Sprintf(`{__name__="up", instance=%q, job="consul", service="web"}`, target),
		fmt.Sprintf(`{__name__="up", instance=%q, job="kubernetes", pod="web-0"}`, target),
	)
}

// A real exporter registers in a real etcd under a lease: its samples go all the
// way. When the lease is gone, its series end with staleness markers.
func TestEtcdEndToEnd(t *testing.T) {
	e := etcdtest.Start(t)
	address := startNodeExporter(t)
	p := doortest.New(t, doortest.Options{})
	start(t, p.Entry("scrape"), fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms}
scrape_configs:
- job_name: services
  etcd_sd_configs: [{endpoints: [%q], prefix: /service/}]
  relabel_configs:
  - {source_labels: [__meta_etcd_service], target_label: service}
  - {source_labels: [__meta_etcd_instance], target_label: uuid}
`, e.Address()))
	lease := e.Put("/service/node/7c6a2c", address, time.Hour)
	series := func(name string) string {
		return fmt.Sprintf(`{__name__=%q, instance=%q, job="services", service="node", uuid="7c6a2c"} `, name, address)
	}
	eventually(t, p.Sink, "default "+series("up"), "default "+series("node_load1"))
	_, err := e.Client.Revoke(t.Context(), lease)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(p.Sink.Lines(), func(line string) bool {
			return strings.HasPrefix(line, "default "+series("node_load1")) && strings.HasSuffix(line, "NaN:7ff0000000000002")
		})
	}, time.Minute, 50*time.Millisecond)
}

// startNodeExporter runs Debian's node_exporter, or skips the test, and returns
// its address.
func startNodeExporter(t *testing.T) string {
	t.Helper()
	program := ""
	for _, name := range []string{"prometheus-node-exporter", "node_exporter", filepath.Join("..", "..", ".cache", "tools", "usr", "bin", "prometheus-node-exporter")} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("node_exporter is not here; make test-tools fetches it where there is apt-get")
	}
	cmd := exec.Command(program, "--web.listen-address=127.0.0.1:0", "--log.format=logfmt")
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if _, a, ok := strings.Cut(lines.Text(), "address="); ok {
				select {
				case address <- strings.Fields(a)[0]:
				default:
				}
			}
		}
		close(address)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-read
		_ = cmd.Wait() // it was killed
	})
	a := <-address
	require.NotEmpty(t, a, "node_exporter did not say where it listens")
	return a
}

// What docs/scrape.md shows can be loaded.
func TestDocumentedConfigs(t *testing.T) {
	page, err := os.ReadFile("../../docs/scrape.md")
	require.NoError(t, err)
	n := 0
	for _, part := range strings.Split(string(page), "```yaml\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		require.NotEmpty(t, load(t, text).ScrapeConfigs, text)
		n++
	}
	require.Equal(t, 5, n)
}
