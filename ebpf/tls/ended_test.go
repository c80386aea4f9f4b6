package tls

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// A process that has ended and is not waited for yet has no executable; it is known
// by its thread's name.
func TestDecideOnEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = cmd.Wait() }()
	f := New(Config{Targets: []string{"ended*"}}, bounds)
	f.env = &feature.Environment{Proc: "/proc", Resolver: identity.New("/proc", nil), Self: uint32(os.Getpid())}
	f.search = processes{env: f.env, targets: f.config.Targets, known: make(map[uint32]decision)}
	pid := uint32(cmd.Process.Pid)
	require.Eventually(t, func() bool { return !f.search.runs(pid) }, time.Minute, time.Millisecond)
	k, ok := f.search.key(pid)
	require.True(t, ok)
	require.True(t, f.env.Resolver.Alive(k))
	require.True(t, f.decide(k, []byte("ended-soon")))
}
