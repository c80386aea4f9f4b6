package http1

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// tryRights is the role rights: says how far loading by the way of its argument gets.
func tryRights() {
	b, err := feature.NewBuckets([]float64{0.1, 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	f := New(b)
	f.only = os.Args[1]
	env := &feature.Environment{MaxSeries: 64, Proc: "/proc", Resolver: identity.New("/proc", nil), Logger: slog.New(slog.DiscardHandler)}
	state, reason := feature.Climb(f, env)
	fmt.Printf("%s: %s\n", state, reason)
	if state == feature.Loaded {
		_ = f.Close()
	}
}

// An unprivileged user with the two capabilities can load the programs, those that
// look at packets with a third; without them, what is missing is named.
func TestHTTPRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give capabilities away")
	}
	f := newFeature(t)
	f.only = "tracepoints"
	featuretest.Start(t, f, nil) // or skips
	// A copy that another user may execute.
	dir, err := os.MkdirTemp("", "rights")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "http1.test")
	from, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	groups := groupMount(string(mounts))
	for name, tc := range map[string]struct {
		way  string
		caps []uintptr
		want string
	}{
		"both":       {"tracepoints", []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, "loaded:"},
		"no perfmon": {"tracepoints", []uintptr{unix.CAP_BPF}, "denied: missing CAP_PERFMON"},
		"none":       {"tracepoints", nil, "denied: missing CAP_BPF and CAP_PERFMON"},
		"packets":    {byPackets.name, []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN}, "loaded:"},
		"no net admin": {byPackets.name, []uintptr{unix.CAP_BPF, unix.CAP_PERFMON},
			"denied: attach the HTTP programs: attach arrives to " + groups + ": missing CAP_NET_ADMIN: "},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.way == byPackets.name && groups == "" {
				t.Skip("no control groups of version 2 are mounted")
			}
			cmd := exec.Command(path, tc.way)
			cmd.Dir = "/"
			cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=rights")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: tc.caps,
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			got := string(bytes.TrimSpace(out))
			if !strings.HasSuffix(tc.want, " ") { // else what follows is the system's
				got += "\n"
				tc.want += "\n"
			}
			require.Truef(t, strings.HasPrefix(got, tc.want), "got %q, want %q", got, tc.want)
		})
	}
}
