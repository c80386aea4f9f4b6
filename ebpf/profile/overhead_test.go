package profile

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkOverhead says what sampling costs while every processor is busy: by
// few stacks that stay the same, and by a compiler, which has many and starts
// many processes. first-ms is the processor time until the first samples are read
// and named, with all symbols that they need; agent-% is the agent's time after
// that, of one processor; kernel-% is the program's own time on each processor.
//
//	go test -run '^$' -bench Overhead -benchtime 1x ./ebpf/profile
func BenchmarkOverhead(b *testing.B) {
	b.Run("steady", func(b *testing.B) {
		for range runtime.NumCPU() {
			featuretest.StartRole(b, "burn")
		}
		measure(b, 20*time.Second)
	})
	b.Run("compiler", func(b *testing.B) {
		goTool, err := exec.LookPath("go")
		if err != nil {
			b.Skipf("no go: %v", err)
		}
		cmd := exec.Command(goTool, "build", "-a", "net/http")
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "OTEL_SERVICE_NAME=compiler")
		require.NoError(b, cmd.Start())
		b.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		measure(b, 20*time.Second)
	})
}

func measure(b *testing.B, span time.Duration) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("the kernel does not time programs: %v", err)
	}
	defer stats.Close()
	for b.Loop() {
		cold := processorTime(b)
		f, _ := start(b)
		<-time.After(5 * time.Second)
		require.NoError(b, f.drain())
		warm, err := f.objects.Profile.Stats()
		require.NoError(b, err)
		before, begin := processorTime(b), time.Now()
		<-time.After(span)
		require.NoError(b, f.drain())
		wall, own := time.Since(begin).Seconds(), processorTime(b)-before
		s, err := f.objects.Profile.Stats()
		require.NoError(b, err)
		bytes, _, _ := f.store.size()
		s.Runtime -= warm.Runtime
		s.RunCount -= warm.RunCount
		b.ReportMetric(float64((before - cold).Milliseconds()), "first-ms")
		b.ReportMetric(own.Seconds()/wall*100, "agent-%")
		b.ReportMetric(s.Runtime.Seconds()/wall*100/float64(runtime.NumCPU()), "kernel-%")
		b.ReportMetric(float64(s.Runtime.Nanoseconds())/float64(s.RunCount), "ns/sample")
		b.ReportMetric(float64(s.RunCount)/wall, "samples/s")
		b.ReportMetric(float64(bytes)/1024, "profile-KiB")
		b.ReportMetric(float64(f.symbols.Stats().Bytes)/1024, "symbols-KiB")
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime is what this process has used.
func processorTime(t testing.TB) time.Duration {
	var r unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
