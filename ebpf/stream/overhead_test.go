package stream

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// watchAll is the role agent: the feature alone, until its standard input ends.
func watchAll() {
	f := New(DefaultConfig(), bounds())
	self, err := feature.SelfID()
	if err != nil {
		fmt.Println(err)
		return
	}
	env := &feature.Environment{MaxSeries: 4096, Proc: "/proc", Resolver: identity.New("/proc", nil), Self: self,
		Peers: new(feature.Peers), Logger: slog.New(slog.DiscardHandler)}
	if state, reason := feature.Climb(f, env); state != feature.Loaded {
		fmt.Println(state, reason)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = feature.Serve(ctx, f, env.Resolver) })
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	cancel()
	wg.Wait()
	_ = f.Close()
}

// serveBytes is the role bytes: answers what no protocol is with the same.
func serveBytes() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		}
	}()
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
}

// BenchmarkRPCOverhead prints what following costs a gRPC server: its processor
// time for a unary call with the feature on, in a process of its own, minus that
// with it off, taken in turns; and what the feature's process takes.
//
//	go test -run '^$' -bench Overhead -benchtime 1x ./ebpf/stream
func BenchmarkRPCOverhead(b *testing.B) {
	addr, pid := featuretest.StartRole(b, "rpc")
	var clients []testgrpc.TestServiceClient
	for range 4 {
		c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(b, err)
		defer c.Close()
		clients = append(clients, testgrpc.NewTestServiceClient(c))
	}
	overhead(b, pid, 20_000, func(n int) {
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for range n / 16 {
					if err := calls["small"](context.Background(), clients[i%len(clients)]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// BenchmarkForeignOverhead is the same for an exchange on connections that are of
// no protocol that is followed.
func BenchmarkForeignOverhead(b *testing.B) {
	addr, pid := featuretest.StartRole(b, "bytes")
	overhead(b, pid, 100_000, func(n int) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				message := []byte("~ not a protocol that anybody knows ~")
				for range n / 4 {
					if _, err := c.Write(message); err != nil {
						b.Error(err)
						return
					}
					if _, err := io.ReadFull(c, message); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

// overhead runs load with the feature off and on, in turns.
func overhead(b *testing.B, server, n int, load func(n int)) {
	const rounds = 6
	for b.Loop() {
		load(n) // warm
		var off, on, agent []float64
		var rate, rss float64
		for range rounds {
			before := processNanos(b, server)
			load(n)
			off = append(off, float64(processNanos(b, server)-before)/float64(n)/1e3)

			said, pid, stop := featuretest.StartStoppable(b, "agent")
			if said != "ready" {
				b.Skip(said)
			}
			own := processNanos(b, pid)
			before = processNanos(b, server)
			start := time.Now()
			load(n)
			rate = float64(n) / time.Since(start).Seconds()
			on = append(on, float64(processNanos(b, server)-before)/float64(n)/1e3)
			agent = append(agent, float64(processNanos(b, pid)-own)/float64(n)/1e3)
			rss = max(rss, residentMB(b, pid))
			stop()
		}
		slices.Sort(off)
		slices.Sort(on)
		slices.Sort(agent)
		b.ReportMetric(off[rounds/2], "µs/request-off")
		b.ReportMetric(on[rounds/2], "µs/request-on")
		b.ReportMetric(on[rounds/2]-off[rounds/2], "µs/request-overhead")
		b.ReportMetric(agent[rounds/2], "µs/request-agent")
		b.ReportMetric(rate, "requests/s")
		b.ReportMetric(rss, "MB-agent")
		b.ReportMetric(0, "ns/op")
	}
}

// processNanos adds up the processor time of a process's threads.
func processNanos(b *testing.B, pid int) int64 {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	require.NoError(b, err)
	var sum int64
	for _, path := range tasks {
		s, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.Fields(string(s))[0], 10, 64)
		require.NoError(b, err)
		sum += n
	}
	return sum
}

func residentMB(b *testing.B, pid int) float64 {
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(s), "VmRSS:")
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	require.NoError(b, err)
	return n / 1024
}
