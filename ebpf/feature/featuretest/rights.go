package featuretest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// RunAsNobody runs a role as an unprivileged user with some capabilities, waits for
// its end, and gives what it said. It skips the test where capabilities cannot be
// given away.
func RunAsNobody(t testing.TB, caps []uintptr, role string, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give capabilities away")
	}
	// A copy that another user may execute.
	dir, err := os.MkdirTemp("", "rights")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, filepath.Base(os.Args[0]))
	from, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EINVAL) {
		t.Skip("the kernel is older than one of the capabilities: ", err)
	}
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}
