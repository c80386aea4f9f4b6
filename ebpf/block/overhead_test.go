package block

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkRequest prints how long the two programs run for a request, as the
// kernel measures it: requests end in threads of its own, whose time cannot be
// told apart otherwise. The measuring is in it.
//
//	go test -run '^$' -bench Request -benchtime 1x ./ebpf/block
func BenchmarkRequest(b *testing.B) {
	path := loopDevice(b, 16<<20)
	f := New()
	stop := featuretest.Load(b, f)
	defer stop()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	require.NoError(b, err)
	defer unix.Close(fd)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(b, err)
	defer func() { require.NoError(b, unix.Munmap(page)) }()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	require.NoError(b, err)
	defer stats.Close()
	for b.Loop() {
		for i := range 20_000 {
			_, err := unix.Pwrite(fd, page, int64(i%4096)*4096)
			require.NoError(b, err)
		}
	}
	issue, err := f.objects.BlockIssue.Stats()
	require.NoError(b, err)
	complete, err := f.objects.BlockComplete.Stats()
	require.NoError(b, err)
	b.ReportMetric(float64(issue.Runtime)/float64(issue.RunCount), "ns/issue")
	b.ReportMetric(float64(complete.Runtime)/float64(complete.RunCount), "ns/completion")
	b.ReportMetric(0, "ns/op")
}
