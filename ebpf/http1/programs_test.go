package http1

import (
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkNginxPrograms prints how long each program runs for a request to
// nginx, by the kernel's own statistics.
//
//	go test -run '^$' -bench NginxPrograms -benchtime 1x ./ebpf/http1
func BenchmarkNginxPrograms(b *testing.B) {
	const requests, connections = 100_000, 8
	port, _ := featuretest.StartNginx(b, "127.0.0.1:1")
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skip("the kernel keeps no statistics of programs: ", err)
	}
	defer stats.Close()
	f := newFeature(b)
	stop := watchFeature(b, f, nil)
	defer stop()
	for b.Loop() {
		var wg sync.WaitGroup
		for range connections {
			wg.Go(func() { hammer(b, port, requests/connections, false) })
		}
		wg.Wait()
		var sum float64
		for name, p := range f.objects.Programs {
			s, err := p.Stats()
			require.NoError(b, err)
			b.ReportMetric(float64(s.Runtime)/float64(max(s.RunCount, 1)), "ns/"+name)
			b.ReportMetric(float64(s.RunCount)/requests, "runs/"+name)
			sum += float64(s.Runtime) / requests
		}
		b.ReportMetric(sum, "ns/request")
		b.ReportMetric(0, "ns/op")
	}
}
