package http1

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
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
	f := newFeature(t)
	f.only = "tracepoints"
	featuretest.Start(t, f, nil) // or skips
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
		"packets":    {byPackets[0].name, []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN}, "loaded:"},
		"no net admin": {byPackets[0].name, []uintptr{unix.CAP_BPF, unix.CAP_PERFMON},
			"denied: attach the HTTP programs: attach arrives to the control groups: missing CAP_NET_ADMIN: "},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.way == byPackets[0].name && groups == "" {
				t.Skip("no control groups of version 2 are mounted")
			}
			got := featuretest.RunAsNobody(t, tc.caps, "rights", tc.way)
			if !strings.HasSuffix(tc.want, " ") { // else what follows is the system's
				got += "\n"
				tc.want += "\n"
			}
			require.Truef(t, strings.HasPrefix(got, tc.want), "got %q, want %q", got, tc.want)
		})
	}
}
