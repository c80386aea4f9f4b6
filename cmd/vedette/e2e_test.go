package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/vedette-io/vedette/internal/freeport"
)

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes, and this is a -short run")
	}
}

func TestE2EWriteStopRestart(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	now := time.Now().UnixMilli()

	p := start(t, data)
	p.write(testSeries("e2e_a", now-2000, 1), testSeries("e2e_b", now-2000, 10))
	p.write(testSeries("e2e_a", now-1000, 2))
	want := []model.SamplePair{{Timestamp: model.Time(now - 2000), Value: 1}, {Timestamp: model.Time(now - 1000), Value: 2}}
	check := func(when string, want ...model.SamplePair) {
		t.Helper()
		if got := p.queryMatrix("e2e_a[10m]"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	check("acknowledged", want...)
	for path, part := range map[string]string{
		"/":                             "/api/v1/write",
		"/-/healthy":                    "Healthy",
		"/-/ready":                      "Ready",
		"/metrics":                      "vedette_build_info",
		"/debug/traces":                 "[",
		"/debug/pprof/":                 "goroutine",
		"/api/v1/status/buildinfo":      `"status":"success"`,
		"/api/v1/status/config":         "flush_samples",
		"/api/v1/label/__name__/values": "e2e_b",
	} {
		if code, body := p.get(path); code != http.StatusOK || !strings.Contains(body, part) {
			t.Errorf("%s: status %d, want 200 and a body with %q", path, code, part)
		}
	}
	p.stop()

	p = start(t, data)
	check("after a stop", want...)
	p.write(testSeries("e2e_a", now, 3))
	p.kill()

	p = start(t, data)
	check("after kill -9", append(want, model.SamplePair{Timestamp: model.Time(now), Value: 3})...)
	p.stop()

	command := func(args ...string) string {
		t.Helper()
		var out, errOut strings.Builder
		if code := run(args, &out, &errOut); code != exitOK {
			t.Fatalf("vedette %s: exit code %d\n%s%s", strings.Join(args, " "), code, &out, &errOut)
		}
		return out.String()
	}
	if out := command("store", "verify", "--data", data); !strings.Contains(out, "0 problems") {
		t.Errorf("store verify: got %s", out)
	}
	if out := command("store", "dump", "--samples", "--data", data); !strings.Contains(out, "e2e_b") {
		t.Errorf("store dump: got %s", out)
	}
	if out := command("store", "repair", "--data", data); !strings.Contains(out, "0 rewritten") {
		t.Errorf("store repair: got %s", out)
	}
	copied := filepath.Join(t.TempDir(), "copy")
	command("store", "snapshot", "--data", data, "--to", copied)
	p = start(t, copied)
	check("from a snapshot", append(want, model.SamplePair{Timestamp: model.Time(now), Value: 3})...)
	p.stop()
}

// A write that does not end keeps a graceful stop waiting; a second signal does
// not wait, and nothing acknowledged is lost.
func TestE2ESecondSignalStopsAtOnce(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	now := time.Now().UnixMilli()
	p := start(t, data)
	p.write(testSeries("e2e_a", now, 1))

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server asks for the body, so it is in the handler.
	fmt.Fprintf(conn, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\n\r\n")
	answer := make([]byte, len("HTTP/1.1 100"))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 100" {
		t.Fatalf("got %q, %v, want 100 Continue", answer, err)
	}

	p.signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if p.log.wait(ctx, stopLine, p.done) == nil {
		t.Fatal("no line says that the server stops")
	}
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != exitFault {
		t.Errorf("exit code after two signals: got %d, want %d", code, exitFault)
	}

	p = start(t, data)
	if got := p.queryMatrix("e2e_a[10m]"); len(got) != 1 {
		t.Errorf("after the restart: got %v, want the acknowledged sample", got)
	}
	p.stop()
}

// Four writers load the server until it is killed; then every sample that was
// acknowledged must be there, once.
func TestE2EKillUnderLoad(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	config := filepath.Join(t.TempDir(), "vedette.yml")
	if err := os.WriteFile(config, []byte("scrape_configs: []\nstore: {flush_samples: 1000, flush_interval: 1s}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 4, 3
	acked := make([]map[int64]float64, writers)
	begin := time.Now().Add(-10 * time.Minute).UnixMilli()
	for w := range acked {
		acked[w] = map[int64]float64{}
	}
	next := begin
	for round := range rounds {
		p := start(t, data, "--config", config)
		enough := make(chan struct{}, writers)
		var wg sync.WaitGroup
		last := make([]int64, writers)
		for w := range writers {
			wg.Go(func() {
				name := fmt.Sprintf("e2e_load_%d", w)
				for i := int64(0); ; i++ {
					at, v := next+i, float64(next+i)
					_, err := p.post(context.WithoutCancel(t.Context()), bytes.NewReader(encodeWrite(t, testSeries(name, at, v))))
					last[w] = at
					if err != nil {
						return // killed
					}
					acked[w][at] = v
					if i == int64(200*(round+1)) {
						enough <- struct{}{}
					}
				}
			})
		}
		<-enough // while the others go on
		p.kill()
		wg.Wait()
		for _, at := range last {
			next = max(next, at+1)
		}
	}

	p := start(t, data, "--config", config)
	for w := range writers {
		got := map[int64]float64{}
		samples := p.queryMatrix(fmt.Sprintf("e2e_load_%d[1h]", w))
		for _, s := range samples {
			got[int64(s.Timestamp)] = float64(s.Value)
		}
		if len(got) != len(samples) {
			t.Errorf("writer %d: %d samples at %d timestamps: some are doubled", w, len(samples), len(got))
		}
		lost := 0
		for at, v := range acked[w] {
			if g, ok := got[at]; !ok || g != v {
				lost++
			}
		}
		if lost > 0 || len(acked[w]) == 0 {
			t.Errorf("writer %d: %d of %d acknowledged samples are lost", w, lost, len(acked[w]))
		}
	}
	p.stop()
}

// Without any configuration the server scrapes itself.
func TestE2EScrapesItself(t *testing.T) {
	skipShort(t)
	p := start(t, t.TempDir())
	eventually(t, "self-scrape", func() bool { return len(p.queryMatrix(`up{job="vedette"}[5m]`)) > 0 })
	if got := p.queryMatrix(`up{job="vedette"}[5m]`); got[0].Value != 1 {
		t.Errorf("up: got %v, want 1", got)
	}
	if got := p.queryMatrix(`process_resident_memory_bytes[5m]`); len(got) == 0 {
		t.Error("own metrics are not stored")
	}
	p.stop()
}

// A real node_exporter, its rate asked for as the README does.
func TestE2ENodeExporter(t *testing.T) {
	skipShort(t)
	exporter := findNodeExporter()
	if exporter == "" {
		t.Skip("node_exporter is not here; make test fetches it where there is apt-get")
	}
	address := freeAddress(t)
	cmd := exec.Command(exporter, "--web.listen-address="+address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	config := filepath.Join(t.TempDir(), "vedette.yml")
	text := "scrape_configs:\n- job_name: node\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['" + address + "']\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, t.TempDir(), "--config", config)
	var v model.Vector
	eventually(t, "rate of node_cpu_seconds_total", func() bool {
		p.query("sum by (mode) (rate(node_cpu_seconds_total[5m]))", &v)
		return len(v) > 0
	})
	modes := map[model.LabelValue]bool{}
	for _, s := range v {
		modes[s.Metric["mode"]] = true
	}
	if !modes["idle"] || !modes["user"] {
		t.Errorf("modes: got %v, want idle and user among them", v)
	}
	p.stop()
}

func findNodeExporter() string {
	for _, name := range []string{"prometheus-node-exporter", "node_exporter", "../../.cache/tools/usr/bin/prometheus-node-exporter"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// freeAddress returns an address that is kept for who listens there, until the test
// ends.
func freeAddress(t *testing.T) string {
	t.Helper()
	p, err := freeport.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p.Addr()
}

// SIGHUP reads the scrape configuration again; a file with a fault changes
// nothing.
func TestE2EReload(t *testing.T) {
	skipShort(t)
	file := filepath.Join(t.TempDir(), "vedette.yml")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	configure("scrape_configs: []\n")
	p := start(t, t.TempDir(), "--config", file)
	target := strings.TrimPrefix(p.url, "http://")
	configure("scrape_configs:\n- job_name: after\n  scrape_interval: 1s\n  static_configs: [{targets: [" + strconv.Quote(target) + "]}]\n")
	p.signal(syscall.SIGHUP)
	eventually(t, "scrape of the new job", func() bool { return len(p.queryMatrix(`up{job="after"}[5m]`)) > 0 })
	configure("scrape_configs: [{job_nam: broken}]\n")
	p.signal(syscall.SIGHUP)
	eventually(t, "a failed reload in the metrics", func() bool {
		_, body := p.get("/metrics")
		return strings.Contains(body, "vedette_config_last_reload_successful 0")
	})
	before := len(p.queryMatrix(`up{job="after"}[5m]`))
	eventually(t, "the old job to go on", func() bool { return len(p.queryMatrix(`up{job="after"}[5m]`)) > before })
	p.stop()
}
