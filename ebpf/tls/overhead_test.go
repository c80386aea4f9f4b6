package tls

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// BenchmarkOverhead prints what watching TLS costs a server: its processor time
// for a request with the feature on, minus that with it off, taken in turns.
//
//	go test -run '^$' -bench Overhead -benchtime 1x ./ebpf/tls
func BenchmarkOverhead(b *testing.B) {
	b.Run("nginx", func(b *testing.B) {
		port, nginx := featuretest.StartNginxTLS(b)
		overhead(b, port, "/hello", "nginx", func() int64 {
			d, err := nginx.Processor()
			require.NoError(b, err)
			return int64(d)
		})
	})
	b.Run("asyncio", func(b *testing.B) { // in memory
		python, err := exec.LookPath("python3")
		if err != nil {
			b.Skip("python3 is missing")
		}
		cert, key := featuretest.Certificate(b)
		server := launch(b, python, "testdata/asyncio_server.py", cert, key)
		overhead(b, server.line(b), "/status/404", "python3*", func() int64 { return processNanos(b, strconv.Itoa(server.pid)) })
	})
	b.Run("go", func(b *testing.B) {
		app := buildApp(b, "CGO_ENABLED=0")
		cert, key := featuretest.Certificate(b)
		server := launch(b, app, "serve", cert, key)
		port := featuretest.PortOf(b, server.line(b))
		overhead(b, port, "/status/200", app, func() int64 { return processNanos(b, strconv.Itoa(server.pid)) })
	})
}

func overhead(b *testing.B, port, path, target string, nanos func() int64) {
	const rounds, perRound, connections = 8, 8000, 4
	load := func() float64 {
		before := nanos()
		var wg sync.WaitGroup
		for range connections {
			wg.Go(func() { hammer(b, port, path, perRound/connections) })
		}
		wg.Wait()
		return float64(nanos()-before) / perRound / 1e3
	}
	self, err := feature.SelfID()
	require.NoError(b, err)
	for b.Loop() {
		load() // warm
		var off, on []float64
		for range rounds {
			off = append(off, load())
			f := New(Config{Targets: []string{target}}, bounds)
			env := environment(self)
			if state, reason := feature.Climb(f, env); state != feature.Loaded {
				b.Skipf("eBPF feature tls is %s: %s", state, reason)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- feature.Serve(ctx, f, env.Resolver) }()
			on = append(on, load())
			cancel()
			require.NoError(b, <-done)
			require.NoError(b, f.Close())
		}
		slices.Sort(off)
		slices.Sort(on)
		b.ReportMetric(off[rounds/2], "µs/request-off")
		b.ReportMetric(on[rounds/2], "µs/request-on")
		b.ReportMetric(on[rounds/2]-off[rounds/2], "µs/request-overhead")
		b.ReportMetric(0, "ns/op")
	}
}

// hammer sends n requests over one connection.
func hammer(b *testing.B, port, path string, n int) {
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
	for range n {
		if _, err := c.Write(request); err != nil {
			b.Error(err)
			return
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// processNanos is the processor time of all threads of a process.
func processNanos(b *testing.B, pid string) int64 {
	paths, err := filepath.Glob("/proc/" + pid + "/task/*/schedstat")
	require.NoError(b, err)
	var sum int64
	for _, path := range paths {
		s, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		n, err := strconv.ParseInt(strings.Fields(string(s))[0], 10, 64)
		require.NoError(b, err)
		sum += n
	}
	return sum
}
