package otlpserver

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
)

// python returns an interpreter that has OpenTelemetry's SDK, in an environment
// that outlives the test.
func python(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".cache", "python", "otlp"))
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/requirements.txt")
	require.NoError(t, err)
	program := filepath.Join(dir, "bin", "python")
	marker := filepath.Join(dir, "requirements.txt")
	if have, err := os.ReadFile(marker); err == nil && bytes.Equal(have, want) {
		return program
	}
	if testing.Short() {
		t.Skip("the environment of OpenTelemetry's SDK for Python is not there, and -short does not make it")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is missing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Skipf("python3 makes no environment: %v: %s", err, out)
	}
	install := exec.CommandContext(ctx, program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--retries", "1", "--timeout", "20", "-r", "testdata/requirements.txt")
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("pip does not install OpenTelemetry's SDK: %v: %s", err, out)
	}
	require.NoError(t, os.WriteFile(marker, want, 0o644))
	return program
}

// What the Python SDK sends arrives, over gRPC's C library and over HTTP.
func TestPythonSDK(t *testing.T) {
	program := python(t)
	for _, transport := range []string{"grpc", "http"} {
		for _, compression := range []string{"none", "gzip", "deflate"} {
			name := transport + "-" + compression
			t.Run(name, func(t *testing.T) {
				s := newServer(t, doortest.Options{}, nil)
				endpoint := s.GRPCAddr().String()
				if transport == "http" {
					endpoint = "http://" + s.HTTPAddr().String() + MetricsPath
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, program, "testdata/push.py", transport, endpoint, compression)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Empty(t, string(out))
				// A provider that shuts down pushes once more.
				got := map[string]bool{}
				for _, l := range s.timeless() {
					got[l] = true
				}
				ids := `instance="` + name + `", job="shop"`
				for _, want := range []string{
					`{__name__="latency_seconds_bucket", ` + ids + `, le="+Inf"} 3 start`,
					`{__name__="latency_seconds_bucket", ` + ids + `, le="0.1"} 1 start`,
					`{__name__="latency_seconds_bucket", ` + ids + `, le="1"} 2 start`,
					`{__name__="latency_seconds_count", ` + ids + `} 3 start`,
					`{__name__="latency_seconds_sum", ` + ids + `} 5.55 start`,
					`{__name__="open_orders", ` + ids + `} -2 start`,
					`{__name__="orders_total", ` + ids + `, kind="book"} 3 start`,
					`{__name__="temperature_celsius", ` + ids + `} 21.5`,
					`{__name__="target_info", host_name="box", ` + ids + `} 1`,
				} {
					require.True(t, got["python "+want], "%s\nis not among\n%v", want, s.timeless())
				}
			})
		}
	}
}
