package peer

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary play a server: one that is ready at once.
func TestMain(m *testing.M) {
	if addr := os.Getenv("PEER_TEST_LISTEN"); addr != "" {
		os.Exit(serve(addr))
	}
	os.Exit(m.Run())
}

func serve(addr string) int {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	if err := http.Serve(l, mux); err != nil { //nolint:gosec // a test's server
		return 1
	}
	return 0
}

// testSpec runs this test binary as a server.
func testSpec(t *testing.T) Spec {
	t.Helper()
	script := filepath.Join(t.TempDir(), "server")
	text := "#!/bin/sh\nPEER_TEST_LISTEN=$1 exec " + os.Args[0] + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name: "test", Binary: script, Ready: "/ready",
		Args: func(addr, _ string) []string { return []string{addr} },
	}
}

func TestProcessLifeAndMeasures(t *testing.T) {
	p, err := testSpec(t).Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if took, err := p.WaitReady(t.Context()); err != nil || took <= 0 {
		t.Fatalf("got %s, %v", took, err)
	}
	if m, err := p.Memory(); err != nil || m.Peak < m.RSS || m.RSS < 1<<20 || m.RSS != m.Anon+m.File && m.RSS < m.Anon {
		t.Fatalf("got %+v, %v", m, err)
	}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Settle(t.Context(), 500*time.Millisecond, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if after, err := p.CPU(); err != nil || after < before {
		t.Fatalf("CPU time went from %s to %s, error %v", before, after, err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	default:
		t.Fatal("the process lives on after Kill")
	}
	if err := p.Stop(); err != nil {
		t.Fatalf("stop a process that has ended: %v", err)
	}
}

func TestWaitReadyTellsTheLastWords(t *testing.T) {
	s := testSpec(t)
	s.Binary = filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(s.Binary, []byte("#!/bin/sh\necho no disk left; exit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := s.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitReady(t.Context()); err == nil || !strings.Contains(err.Error(), "no disk left") {
		t.Fatalf("got %v, want what the server said", err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestWaitReadyEndsWithItsContext(t *testing.T) {
	s := testSpec(t)
	s.Ready = "/never"
	p, err := s.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
}

func TestDiskUseCountsALinkedFileOnce(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a")
	if err := os.WriteFile(a, make([]byte, 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(a, filepath.Join(dir, "d", "b")); err != nil {
		t.Fatal(err)
	}
	d, err := DiskUse(dir)
	if err != nil || d.Bytes != 5000 || d.Files != 1 {
		t.Fatalf("got %+v, %v, want 5000 bytes in 1 file", d, err)
	}
	if d, err := DiskUse(filepath.Join(dir, "absent")); err != nil || d.Bytes != 0 {
		t.Fatalf("got %+v, %v for a directory that is not there", d, err)
	}
}

func TestLookupNamesItsPeers(t *testing.T) {
	for _, name := range []string{Vedette, VictoriaMetrics, Prometheus, Jaeger} {
		s, err := Lookup(name, "/bin/x", "v1")
		if err != nil || s.Name != name || s.Ready == "" || s.Args == nil {
			t.Errorf("%s: got %+v, %v", name, s, err)
		}
	}
	if _, err := Lookup("other", "", ""); err == nil || !strings.Contains(err.Error(), Prometheus) {
		t.Errorf("got %v, want an error that lists the names", err)
	}
}

func TestWithConfigAddsSections(t *testing.T) {
	base, err := Lookup(Vedette, "vedette", "v1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spec := base.WithConfig("store: {flush_interval: 1s}\n").WithConfig("buffer: {kind: kafka}\n")
	if err := spec.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, configFile))
	if want := baseConfig + "store: {flush_interval: 1s}\nbuffer: {kind: kafka}\n"; err != nil || string(got) != want {
		t.Fatalf("got %q (error %v), want %q", got, err, want)
	}
	if err := base.Prepare(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, configFile)); err != nil || string(got) != baseConfig {
		t.Fatalf("the spec it was made of now has %q (error %v)", got, err)
	}
}
