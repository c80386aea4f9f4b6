package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Versions of the peers, the newest that the Go module proxy serves.
const (
	VictoriaMetricsVersion = "v1.117.0"
	PrometheusVersion      = "v0.315.0" // module version of Prometheus 3.15
	JaegerVersion          = "v1.76.0"
)

// Lookup returns the spec of a server by name; binary is its executable and
// version what to write into reports.
func Lookup(name, binary, version string) (Spec, error) {
	s := Spec{Name: name, Binary: binary, Version: version}
	switch name {
	case Vedette:
		return vedetteSpec(s), nil
	case VictoriaMetrics:
		return victoriaMetricsSpec(s), nil
	case Prometheus:
		return prometheusSpec(s), nil
	case Jaeger:
		return jaegerSpec(s), nil
	}
	return Spec{}, fmt.Errorf("look up peer: unknown name %q, want %s, %s, %s or %s", name, Vedette, VictoriaMetrics, Prometheus, Jaeger)
}

func victoriaMetricsSpec(s Spec) Spec {
	s.Title = "VictoriaMetrics"
	s.Ready = "/health"
	s.OTLP = "/opentelemetry/v1/metrics"
	s.Args = func(addr, runDir string) []string {
		return []string{
			"-storageDataPath=" + filepath.Join(runDir, Data),
			"-httpListenAddr=" + addr,
			"-loggerLevel=WARN",
			// Else OTLP's names would not be those that the others make.
			"-opentelemetry.usePrometheusNaming",
		}
	}
	s.Flush = func(ctx context.Context, p *Process) error {
		_, _, err := p.Get(ctx, "/internal/force_flush")
		return err
	}
	return s
}

func prometheusSpec(s Spec) Spec {
	s.Title = "Prometheus"
	s.Ready = "/-/ready"
	s.OTLP = "/api/v1/otlp/v1/metrics"
	s.Prepare = func(runDir string) error {
		return os.WriteFile(filepath.Join(runDir, "prometheus.yml"), []byte("global: {}\n"), 0o644)
	}
	s.Args = func(addr, runDir string) []string {
		return []string{
			"--config.file=" + filepath.Join(runDir, "prometheus.yml"),
			"--storage.tsdb.path=" + filepath.Join(runDir, Data),
			"--web.listen-address=" + addr,
			"--web.enable-remote-write-receiver",
			"--web.enable-otlp-receiver",
			"--web.enable-admin-api", // for the snapshot that tells the size
			"--log.level=warn",
			// Else it refuses functions over several metric names at once.
			"--enable-feature=promql-delayed-name-removal",
		}
	}
	s.Log = []string{"wal", "wbl"}
	s.StoreSize = snapshotSize
	return s
}

// snapshotSize writes a snapshot, in which the head is a block too, and measures
// that: what is in memory and in the log alone would otherwise count nothing.
func snapshotSize(ctx context.Context, p *Process) (Disk, error) {
	dir, err := snapshot(ctx, p)
	if err != nil {
		return Disk{}, err
	}
	d, err := DiskUse(dir)
	if err != nil {
		return d, err
	}
	return d, os.RemoveAll(dir)
}

// snapshot asks for a snapshot through the admin API that Prometheus and Vedette
// share, and returns its directory.
func snapshot(ctx context.Context, p *Process) (string, error) {
	body, err := p.Post(ctx, "/api/v1/admin/tsdb/snapshot")
	if err != nil {
		return "", fmt.Errorf("snapshot %s: %w", p.Name, err)
	}
	var answer struct{ Data struct{ Name string } }
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("snapshot %s: %w", p.Name, err)
	}
	if answer.Data.Name == "" || answer.Data.Name != filepath.Base(answer.Data.Name) {
		return "", fmt.Errorf("snapshot %s: got name %q, want one directory name", p.Name, answer.Data.Name)
	}
	return filepath.Join(p.DataDir(), "snapshots", answer.Data.Name), nil
}

// jaegerSpec runs all of Jaeger in one process on its own store. Every other
// listener takes the port of its query API at another loopback address.
func jaegerSpec(s Spec) Spec {
	const otlpHost = "127.0.0.2"
	s.Title = "Jaeger with badger"
	s.Ready = "/api/services"
	s.Traces, s.TracesHost, s.TracesOnly = "/v1/traces", otlpHost, true
	s.Env = []string{"SPAN_STORAGE_TYPE=badger"}
	// Badger maps files that are much longer than what is in them.
	s.StoreSize = func(_ context.Context, p *Process) (Disk, error) {
		d, err := DiskUse(p.DataDir())
		d.Bytes = d.Allocated
		return d, err
	}
	s.Args = func(addr, runDir string) []string {
		data := filepath.Join(runDir, Data)
		args := []string{
			"--query.http-server.host-port=" + addr,
			"--collector.otlp.http.host-port=" + onHost(otlpHost, addr),
			"--badger.ephemeral=false", "--badger.directory-key=" + data, "--badger.directory-value=" + data,
			"--collector.queue-size=100000", // else it refuses what comes at full speed
			"--log-level=warn",
		}
		for i, name := range []string{
			"query.grpc-server", "collector.otlp.grpc", "collector.grpc-server", "collector.http-server", "admin.http",
		} {
			args = append(args, fmt.Sprintf("--%s.host-port=%s", name, onHost(fmt.Sprintf("127.0.0.%d", 3+i), addr)))
		}
		return args
	}
	return s
}

func vedetteSpec(s Spec) Spec {
	s.Title = "Vedette"
	s.Ready = "/-/ready"
	s.OTLP = "/api/v1/otlp/v1/metrics"
	s.Traces = "/v1/traces"
	s.Args = func(addr, runDir string) []string {
		return []string{
			"run",
			"--config", filepath.Join(runDir, configFile),
			"--data", filepath.Join(runDir, Data),
			"--listen", addr,
		}
	}
	// A snapshot flushes first; it is links, and goes away again.
	s.Flush = func(ctx context.Context, p *Process) error {
		dir, err := snapshot(ctx, p)
		if err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	s.Log = []string{"buffer"}
	return s.WithConfig(baseConfig)
}

// configFile is Vedette's configuration below a run directory.
const configFile = "vedette.yml"

// baseConfig keeps Vedette from scraping itself, from storing its own spans and
// from listening at ports that others may want, lets it take snapshots and answer the query over several
// metric names.
const baseConfig = `scrape_configs: []
collect: {enabled: false}
tracing: {store: false}
otlp:
  grpc: {listen: ""}
  http: {listen: ""}
query_api:
  enable_admin_api: true
query:
  delayed_name_removal: true
`

// WithConfig returns a spec of Vedette that runs with the given YAML besides
// what it has. No section may come twice.
func (s Spec) WithConfig(yaml string) Spec {
	s.config += yaml
	config := s.config
	s.Prepare = func(runDir string) error {
		return os.WriteFile(filepath.Join(runDir, configFile), []byte(config), 0o644)
	}
	return s
}
