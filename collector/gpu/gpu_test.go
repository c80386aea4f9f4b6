package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

// The test's own program plays vedette-nvml; the variable says how.
const playEnv = "VEDETTE_GPU_TEST_PLAY"

func TestMain(m *testing.M) {
	switch os.Getenv(playEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "serve":
		_ = Serve(context.Background(), &recorded{path: filepath.Join("testdata", "snapshot.json")}, os.Stdin, os.Stdout)
	case "hang":
		select {}
	case "crash":
		fmt.Fprintln(os.Stderr, "driver fell over")
		os.Exit(1)
	case "absent":
		fmt.Fprintln(os.Stderr, "libnvidia-ml.so.1: not here")
		os.Exit(ExitAbsent)
	case "nonsense":
		fmt.Println("{")
		_, _ = os.Stdin.Read(make([]byte, 1))
		_, _ = os.Stdin.Read(make([]byte, 1))
	case "error":
		_ = Serve(context.Background(), &recorded{err: errors.New("count GPUs: got status 999, want 0")}, os.Stdin, os.Stdout)
	}
}

// recorded is a Library that says what one said before.
type recorded struct {
	path   string
	err    error
	reads  int
	closed bool
}

func (r *recorded) Read(context.Context) (s Snapshot, err error) {
	r.reads++
	if r.err != nil {
		return s, r.err
	}
	data, err := os.ReadFile(r.path)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}

func (r *recorded) Close() error {
	r.closed = true
	return nil
}

func newTest(t *testing.T, cfg Config, lib Library, logs *bytes.Buffer) *Collector {
	t.Helper()
	c, err := New(cfg, lib, slog.New(slog.NewTextHandler(logs, nil)), prometheus.NewRegistry())
	require.NoError(t, err)
	c.host = "node1"
	return c
}

func expose(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(t, err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	lib := &recorded{path: filepath.Join("testdata", "snapshot.json")}
	c := newTest(t, DefaultConfig(), lib, &bytes.Buffer{})
	got := expose(t, c)
	path := filepath.Join("testdata", "gpus.prom")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.Equal(t, 2.0, testutil.ToFloat64(c.metrics.devices))
	require.NoError(t, c.Close())
	require.True(t, lib.closed)
}

func TestMaxProcesses(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxProcesses = 1
	c := newTest(t, cfg, &recorded{path: filepath.Join("testdata", "snapshot.json")}, &bytes.Buffer{})
	got := expose(t, c)
	require.Contains(t, got, `pid="4000000002"`, "it uses more")
	require.NotContains(t, got, `pid="4000000001"`)
	require.Equal(t, 1.0, testutil.ToFloat64(c.metrics.skipped))
	c.cfg.MaxProcesses = 0
	require.NotContains(t, expose(t, c), "pid=")
	require.Equal(t, 1.0, testutil.ToFloat64(c.metrics.skipped))
}

// A machine without a GPU costs nothing and says nothing.
func TestAbsent(t *testing.T) {
	var logs bytes.Buffer
	lib := &recorded{err: fmt.Errorf("load: %w", ErrAbsent)}
	c := newTest(t, DefaultConfig(), lib, &logs)
	now := time.Unix(1_700_000_000, 0)
	c.now = func() time.Time { return now }
	for range 5 {
		require.Empty(t, expose(t, c))
		now = now.Add(15 * time.Second)
	}
	require.Equal(t, 1, lib.reads)
	require.Zero(t, testutil.ToFloat64(c.metrics.errors))
	require.Empty(t, logs.String(), "debug lines only")

	lib.err, lib.path = nil, filepath.Join("testdata", "snapshot.json")
	now = now.Add(retryAbsent)
	require.Contains(t, expose(t, c), "DCGM_FI_DEV_GPU_UTIL")
}

// A driver that fails is complained about once.
func TestFails(t *testing.T) {
	var logs bytes.Buffer
	lib := &recorded{err: errors.New("status 999")}
	c := newTest(t, DefaultConfig(), lib, &logs)
	now := time.Unix(1_700_000_000, 0)
	c.now = func() time.Time { return now }
	for range 3 {
		require.Empty(t, expose(t, c))
		now = now.Add(retryFailed)
	}
	require.Equal(t, 3.0, testutil.ToFloat64(c.metrics.errors))
	require.Equal(t, 1, strings.Count(logs.String(), "status 999"))
}

func play(t *testing.T, how string) *Helper {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	t.Setenv(playEnv, how)
	cfg := DefaultConfig()
	cfg.Helper = exe
	h := NewHelper(cfg)
	h.driver = exe // exists
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h
}

func TestHelper(t *testing.T) {
	h := play(t, "serve")
	for range 3 {
		s, err := h.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "570.86.15", s.Driver)
		require.Len(t, s.Devices, 2)
	}
	first := h.running.cmd.Process.Pid
	require.NoError(t, h.running.cmd.Process.Kill())
	<-h.running.ended
	_, err := h.Read(t.Context())
	require.Error(t, err)
	_, err = h.Read(t.Context())
	require.NoError(t, err, "it is started again")
	require.NotEqual(t, first, h.running.cmd.Process.Pid)
}

func TestHelperFails(t *testing.T) {
	for how, want := range map[string]string{
		"crash":    "driver fell over",
		"nonsense": "decode answer",
		"error":    "status 999",
	} {
		t.Run(how, func(t *testing.T) {
			_, err := play(t, how).Read(t.Context())
			require.ErrorContains(t, err, want)
			require.NotErrorIs(t, err, ErrAbsent)
		})
	}
	t.Run("absent", func(t *testing.T) {
		_, err := play(t, "absent").Read(t.Context())
		require.ErrorIs(t, err, ErrAbsent)
		require.ErrorContains(t, err, "not here")
	})
	t.Run("hang", func(t *testing.T) {
		h := play(t, "hang")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := h.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Nil(t, h.running)
	})
	t.Run("no driver", func(t *testing.T) {
		h := play(t, "serve")
		h.driver = filepath.Join(t.TempDir(), "absent")
		_, err := h.Read(t.Context())
		require.ErrorIs(t, err, ErrAbsent)
		require.Nil(t, h.running)
	})
	t.Run("no program", func(t *testing.T) {
		h := play(t, "serve")
		h.path = filepath.Join(t.TempDir(), "absent")
		_, err := h.Read(t.Context())
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NotErrorIs(t, err, ErrAbsent)
	})
}

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{MaxProcesses: -1}.Validate()
	require.ErrorContains(t, err, "timeout:")
	require.ErrorContains(t, err, "max_processes:")
}

// Whatever the helper says, a registry takes what is made of it.
func FuzzSnapshot(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "snapshot.json"))
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"devices":[{"uuid":"a","processes":[{"pid":1},{"pid":1,"busy":{"sm":1}}]},{"uuid":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s Snapshot
		if json.Unmarshal(data, &s) != nil {
			return
		}
		c := newTest(t, DefaultConfig(), fixed{s}, &bytes.Buffer{})
		expose(t, c)
	})
}

type fixed struct{ s Snapshot }

func (f fixed) Read(context.Context) (Snapshot, error) { return f.s, nil }
func (f fixed) Close() error                           { return nil }
