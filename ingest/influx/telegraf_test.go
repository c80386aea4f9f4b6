package influx

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
)

// TestTelegraf lets a real Telegraf write by both of its outputs.
func TestTelegraf(t *testing.T) {
	program, err := exec.LookPath("telegraf")
	if err != nil {
		t.Skip("telegraf is not on the PATH")
	}
	s := newServer(t, doortest.Options{}, nil)
	config := filepath.Join(t.TempDir(), "telegraf.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = false
  hostname = "test host"
[[inputs.cpu]]
[[inputs.mem]]
[[outputs.influxdb]]
  urls = [%q]
  database = "one"
[[outputs.influxdb_v2]]
  urls = [%q]
  token = "x"
  organization = "o"
  bucket = "two"
`, s.URL, s.URL), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--config", config)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		all := strings.Join(s.Sink.Lines(), "\n")
		ok := true
		for _, db := range []string{"one", "two"} {
			ok = ok && strings.Contains(all, `{__name__="mem_used_percent", db="`+db+`", host="test host"}`) &&
				strings.Contains(all, `{__name__="cpu_usage_idle", cpu="cpu-total", db="`+db+`", host="test host"}`)
		}
		return ok
	}, 50*time.Second, 100*time.Millisecond)
	cancel()
	_ = cmd.Wait() // it was interrupted
	require.NotContains(t, log.String(), " E! ")
	require.Zero(t, testutil.ToFloat64(s.handler.metrics.refused))
}
