package process

import (
	"context"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkExec prints what beginning and ending a program costs more with the
// feature, in the program.
//
//	go test -run '^$' -bench Exec -benchtime 1x ./ebpf/process
func BenchmarkExec(b *testing.B) {
	const times = 200
	for b.Loop() {
		featuretest.Overhead(b, func() feature.Feature { return New() }, "exec", func() float64 {
			before := spent(b, unix.RUSAGE_CHILDREN)
			for range times {
				require.NoError(b, exec.CommandContext(context.Background(), "true").Run())
			}
			return float64(spent(b, unix.RUSAGE_CHILDREN)-before) / times
		})
	}
}

// spent is processor time in nanoseconds.
func spent(b *testing.B, who int) int64 {
	var r unix.Rusage
	require.NoError(b, unix.Getrusage(who, &r))
	return r.Utime.Nano() + r.Stime.Nano()
}
