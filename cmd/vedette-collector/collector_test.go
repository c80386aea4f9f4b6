package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/vedette-io/vedette/internal/freeport"
)

// server notes what it is sent.
type server struct {
	mu  sync.Mutex
	got map[string][]byte // bodies by path, under mu
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Content-Encoding") == "snappy" {
		body, _ = snappy.Decode(nil, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[r.URL.Path] = append(s.got[r.URL.Path], body...)
}

func (s *server) has(path, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.got[path], []byte(text))
}

// The example of the documentation runs: what the host measures and what an
// application sends arrive, edited by a processor of others.
func TestExample(t *testing.T) {
	example, err := os.ReadFile("../../deploy/collector.yaml")
	require.NoError(t, err)
	s := &server{got: map[string][]byte{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	door := freeAddr(t)
	_, port, err := net.SplitHostPort(freeAddr(t))
	require.NoError(t, err)
	config := strings.NewReplacer(
		"http://vedette.example:9190", srv.URL, "/var/lib/vedette", t.TempDir(), "127.0.0.1:4318", door, "127.0.0.1:4317", freeAddr(t), "127.0.0.1:13133", freeAddr(t), "15s", "1s", "8888", port,
	).Replace(string(example))
	file := filepath.Join(t.TempDir(), "collector.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o644))
	set := settings()
	set.ConfigProviderSettings.ResolverSettings.URIs = []string{file}
	set.DisableGracefulShutdown = true
	c, err := otelcol.NewCollector(set)
	require.NoError(t, err)
	require.NoError(t, c.DryRun(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	logs := plog.NewLogs()
	logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("a line of an application")
	payload, err := plogotlp.NewExportRequestFromLogs(logs).MarshalProto()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		resp, err := http.Post("http://"+door+"/v1/logs", "application/x-protobuf", bytes.NewReader(payload))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	for path, text := range map[string]string{"/v1/metrics": "node_cpu_seconds_total", "/v1/logs": "a line of an application"} {
		require.Eventually(t, func() bool { return s.has(path, text) }, time.Minute, 20*time.Millisecond, "%s has no %q", path, text)
		require.True(t, s.has(path, "deployment.environment.name"), "the processor resource edits %s", path)
	}
	// What the components measure of themselves is among the Collector's own metrics.
	for _, want := range []string{
		`vedette_collector_forward_sent_messages_total{exporter="vedette",topic="vedette.logs"} `,
		`vedette_collector_forward_dropped_messages_total{exporter="vedette",reason="queue_full",topic="vedette.logs"} 0`,
		`vedette_collector_forward_queue_limit_bytes{exporter="vedette"} 1.073741824e+09`,
		`vedette_collector_forward_request_duration_seconds_count{exporter="vedette",topic="vedette.logs"} `,
		`vedette_collector_host_textfile_refused_total{receiver="vedette_host"`, `vedette_collector_log_`, `vedette_ebpf_feature{`, `otelcol_receiver_accepted_log_records`,
	} {
		require.Eventually(t, func() bool { return strings.Contains(scrape("http://127.0.0.1:"+port+"/metrics"), want) }, time.Minute, 100*time.Millisecond, "own metrics have no %s", want)
	}
	srv.CloseClientConnections()
	srv.Close() // attempts that fail are counted
	require.Eventually(t, func() bool {
		return strings.Contains(scrape("http://127.0.0.1:"+port+"/metrics"), `vedette_collector_forward_retries_total{exporter="vedette",reason="network",`)
	}, time.Minute, 100*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
}

// scrape returns what is there; nothing if nothing answers.
func scrape(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	p, err := freeport.Reserve()
	require.NoError(t, err)
	t.Cleanup(p.Release)
	return p.Addr()
}

// A key that no component knows is told, with where it is.
func TestUnknownKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "collector.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
receivers: {vedette_host: {colection_interval: 1s}}
exporters: {nop: {}}
service: {pipelines: {metrics: {receivers: [vedette_host], exporters: [nop]}}}
`), 0o644))
	set := settings()
	set.ConfigProviderSettings.ResolverSettings.URIs = []string{file}
	c, err := otelcol.NewCollector(set)
	require.NoError(t, err)
	err = c.DryRun(t.Context())
	require.ErrorContains(t, err, "vedette_host")
	require.ErrorContains(t, err, "colection_interval: unknown key")
}
