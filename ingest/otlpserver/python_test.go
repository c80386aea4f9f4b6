package otlpserver

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/pythontest"
)

// What the Python SDK sends arrives, over gRPC's C library and over HTTP.
func TestPythonSDK(t *testing.T) {
	program := pythontest.OTLP(t)
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
