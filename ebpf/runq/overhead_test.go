package runq

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkSwitch prints what a switch of threads costs more with the feature:
// two processes on one processor hand a byte to and fro.
//
//	go test -run '^$' -bench Switch -benchtime 1x ./ebpf/runq
func BenchmarkSwitch(b *testing.B) {
	const times = 50_000
	for b.Loop() {
		featuretest.Overhead(b, func() feature.Feature { return New() }, "switch", func() float64 {
			out, in, err := os.Pipe()
			require.NoError(b, err)
			back, forth, err := os.Pipe()
			require.NoError(b, err)
			first, second := player(b, out, forth, times, true), player(b, back, in, times, false)
			for _, f := range []*os.File{out, in, back, forth} {
				f.Close()
			}
			require.NoError(b, first.Wait())
			require.NoError(b, second.Wait())
			spent := first.ProcessState.SystemTime() + second.ProcessState.SystemTime() + first.ProcessState.UserTime() + second.ProcessState.UserTime()
			return float64(spent.Nanoseconds()) / (2 * times)
		})
	}
}

// player starts one of the two.
func player(b *testing.B, in, out *os.File, times int, serves bool) *exec.Cmd {
	cmd := exec.Command(os.Args[0], strconv.Itoa(times), strconv.FormatBool(serves))
	cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=player")
	cmd.ExtraFiles = []*os.File{in, out}
	cmd.Stderr = os.Stderr
	require.NoError(b, cmd.Start())
	return cmd
}

// play is the role player: it reads from descriptor 3 and writes to 4, by itself
// on one processor.
func play() {
	runtime.LockOSThread()
	times, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var set unix.CPUSet
	set.Set(0)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in, out := os.NewFile(3, "in"), os.NewFile(4, "out")
	one := make([]byte, 1)
	for i := range times {
		if os.Args[2] == "true" || i > 0 {
			if _, err := out.Write(one); err != nil {
				break
			}
		}
		if _, err := io.ReadFull(in, one); err != nil {
			break
		}
	}
}
