package realnginx

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func executable(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../.cache/tools/usr/sbin/nginx")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skip("nginx is missing; make test-tools unpacks it")
	}
	return path
}

// It answers as soon as Start returns, with all its workers, and is gone when Stop
// does.
func TestStart(t *testing.T) {
	c := Config{Executable: executable(t), Dir: t.TempDir(), Server: `location /hello { return 200 "hello\n"; }`}
	for range 2 { // the files of the one before are no hindrance
		s, err := Start(t.Context(), c)
		require.NoError(t, err)
		require.Len(t, s.workers, Workers)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://127.0.0.1:" + s.Port + "/hello")
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, "hello\n", string(b))
		took, err := s.Processor()
		require.NoError(t, err)
		require.Positive(t, took)
		require.NoError(t, s.Stop())
		require.NoError(t, s.Stop(), "twice")
		_, err = s.Processor()
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

// What nginx says is in the error.
func TestStartRefused(t *testing.T) {
	c := Config{Executable: executable(t), Dir: t.TempDir(), Server: "nonsense;"}
	_, err := Start(t.Context(), c)
	require.ErrorContains(t, err, `unknown directive "nonsense"`)
	c.Server = ""
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Start(ctx, c)
	require.ErrorIs(t, err, context.Canceled)
	c.Executable = "/nonexistent"
	_, err = Start(t.Context(), c)
	require.ErrorIs(t, err, os.ErrNotExist)
}
