package probe

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"crowd": crowd, "rights": tryRights})
}

// crowd is the role crowd: asks the server of its argument for so many statuses by
// each method that there are 2048 series on either side, and stays until its
// standard input ends.
func crowd() {
	said := "done"
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		for code := range 512 {
			req, err := http.NewRequest(method, fmt.Sprintf("http://%s/status/%d", os.Args[1], 300+code), nil)
			if err != nil {
				said = err.Error()
				break
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				said = err.Error()
				break
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

// What a collection costs when the kernel's map of HTTP requests is full.
func BenchmarkCollect(b *testing.B) {
	c := DefaultConfig()
	c.Features = []string{"http"}
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(b, <-done)
	}()
	<-p.Started()
	if state, reason := p.Feature("http"); state != feature.Loaded {
		b.Skipf("eBPF feature http is %s: %s", state, reason)
	}
	reg := prometheus.NewRegistry()
	for _, c := range p.Collectors() {
		require.NoError(b, reg.Register(c))
	}
	addr, _ := featuretest.StartRole(b, "server", "4")
	said, _ := featuretest.StartRole(b, "crowd", addr)
	require.Equal(b, "done", said)
	entries := featuretest.Family(b, reg, "vedette_ebpf_http_entries", nil)
	require.Len(b, entries, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(entries[0].GetGauge().GetValue(), "entries")
}
