package probe

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// tryRights is the role rights: loads all features and says what became of them.
func tryRights() {
	c := DefaultConfig()
	c.Features, c.TLS.Targets = features, []string{"nobody-is-called-so"}
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Started()
	for _, f := range features {
		state, reason := p.Feature(f)
		fmt.Printf("%s %s %s\n", f, state, reason)
	}
	cancel()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
}

// The capabilities that are documented are all that any feature takes, and of each
// that is missing it is told what that costs.
func TestRights(t *testing.T) {
	const bpf, perfmon, ptrace, dac = unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH
	const blind = "sees less of the processes of other users: missing "
	say := func(caps ...uintptr) map[string]string {
		said := make(map[string]string)
		for line := range strings.Lines(featuretest.RunAsNobody(t, caps, "rights")) {
			name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			said[name] = strings.TrimSpace(rest)
		}
		require.Len(t, said, len(features), "%v", said)
		return said
	}
	all := say(bpf, perfmon, ptrace, dac)
	for f, said := range all {
		if said != string(feature.Loaded) {
			t.Skipf("eBPF feature %s is %s", f, said) // by this kernel
		}
	}
	for _, tc := range []struct {
		caps   []uintptr
		reason string // beside loaded
	}{
		{[]uintptr{bpf, perfmon, ptrace}, blind + "CAP_DAC_READ_SEARCH"},
		{[]uintptr{bpf, perfmon, dac}, blind + "CAP_SYS_PTRACE"},
		{[]uintptr{bpf, perfmon}, blind + "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"},
	} {
		for f, said := range say(tc.caps...) {
			want := "loaded " + tc.reason
			if f == "block" {
				want = "loaded"
			}
			require.Equal(t, want, said, f)
		}
	}
	for missing, caps := range map[string][]uintptr{
		"CAP_BPF":                 {perfmon, ptrace, dac},
		"CAP_PERFMON":             {bpf, ptrace, dac},
		"CAP_BPF and CAP_PERFMON": {unix.CAP_NET_ADMIN, ptrace, dac},
	} {
		for f, said := range say(caps...) {
			if f == "tcp" {
				require.Regexp(t, "^loaded asks sock_diag: .*missing "+missing+"\\)$", said)
				continue
			}
			require.Equal(t, "denied missing "+missing, said, f)
		}
	}
}
