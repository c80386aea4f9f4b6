package http1

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/internal/realnginx"
)

// BenchmarkNginxOverhead prints what watching costs nginx: its processor time for
// a request with the probe on, minus that with the probe off, taken in turns.
//
//	go test -run '^$' -bench NginxOverhead -benchtime 1x ./ebpf/http1
func BenchmarkNginxOverhead(b *testing.B) { overhead(b, "", nil) }

// BenchmarkNginxSpans is BenchmarkNginxOverhead with spans of a tenth of the
// requests, each of which carries a traceparent.
//
//	go test -run '^$' -bench NginxSpans -benchtime 1x ./ebpf/http1
func BenchmarkNginxSpans(b *testing.B) { overhead(b, "", &tenth{}) }

// BenchmarkNginxSystemCalls is BenchmarkNginxOverhead by the return of system
// calls.
//
//	go test -run '^$' -bench NginxSystemCalls -benchtime 1x ./ebpf/http1
func BenchmarkNginxSystemCalls(b *testing.B) { overhead(b, "system calls", nil) }

// BenchmarkOtherSystemCalls prints what that way costs calls that have nothing to
// do with it: getppid, which is told by its number, and reads that are not from
// sockets.
//
//	go test -run '^$' -bench OtherSystemCalls -benchtime 1x ./ebpf/http1
func BenchmarkOtherSystemCalls(b *testing.B) {
	const n = 500_000
	fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(b, err)
	defer unix.Close(fd)
	one := make([]byte, 1)
	for name, call := range map[string]func(){
		"getppid": func() { unix.Getppid() },
		"read":    func() { _, _ = unix.Read(fd, one) },
	} {
		b.Run(name, func(b *testing.B) {
			featuretest.Overhead(b, func() feature.Feature {
				f := newFeature(b)
				f.only = "system calls"
				return f
			}, "call", func() float64 {
				before := ownNanos(b)
				for range n {
					call()
				}
				return float64(ownNanos(b)-before) / n
			})
		})
	}
}

// ownNanos is the processor time of this process.
func ownNanos(b *testing.B) int64 {
	var now unix.Timespec
	require.NoError(b, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now))
	return now.Nano()
}

// tenth wants a tenth of the calls, and counts them.
type tenth struct{ n atomic.Int64 }

func (*tenth) Threshold() uint64 { return 1 << 56 / 10 * 9 }

func (*tenth) Wanted(string, uint32, netip.AddrPort, netip.AddrPort) bool { return true }

func (*tenth) Full() bool { return false }

func (t *tenth) Add(*feature.Call) { t.n.Add(1) }

func overhead(b *testing.B, way string, calls *tenth) {
	const rounds, perRound, connections = 8, 40_000, 8
	port, nginx := featuretest.StartNginx(b, "127.0.0.1:1")
	load := func() float64 {
		before := processor(b, nginx)
		var wg sync.WaitGroup
		for range connections {
			wg.Go(func() { hammer(b, port, perRound/connections, calls != nil) })
		}
		wg.Wait()
		return float64(processor(b, nginx)-before) / perRound / 1e3
	}
	for b.Loop() {
		load() // warm
		var off, on []float64
		for range rounds {
			off = append(off, load())
			f := newFeature(b)
			f.only = way
			stop := watchFeature(b, f, calls)
			on = append(on, load())
			stop()
		}
		slices.Sort(off)
		slices.Sort(on)
		b.ReportMetric(off[rounds/2], "µs/request-off")
		b.ReportMetric(on[rounds/2], "µs/request-on")
		b.ReportMetric(on[rounds/2]-off[rounds/2], "µs/request-overhead")
		if calls != nil {
			b.ReportMetric(float64(calls.n.Load())/float64(rounds*perRound), "spans/request")
		}
		b.ReportMetric(0, "ns/op")
	}
}

// watchFeature loads the feature until stop is called.
func watchFeature(b *testing.B, f *Feature, calls *tenth) (stop func()) {
	self, err := feature.SelfID()
	require.NoError(b, err)
	env := &feature.Environment{MaxSeries: 4096, Resolver: identity.New("/proc", nil), Self: self, Logger: slog.New(slog.DiscardHandler)}
	if calls != nil {
		env.Calls = calls
	}
	if state, reason := feature.Climb(f, env); state != feature.Loaded {
		b.Skipf("eBPF feature http is %s: %s", state, reason)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(b, <-done)
		require.NoError(b, f.Close())
	}
}

// hammer sends n requests over one connection.
func hammer(b *testing.B, port string, n int, traced bool) {
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		b.Error(err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	request := []byte("GET /hello HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
	if traced {
		request = []byte(strings.Replace(string(request), "Accept:", "Traceparent: 00-"+strings.Repeat("1", 32)+"-00f067aa0ba902b7-01\r\nAccept:", 1))
	}
	at := bytes.Index(request, []byte("00-")) + 3
	for range n {
		if traced {
			hex.Encode(request[at+16:], binary.BigEndian.AppendUint64(nil, rand.Uint64()))
		}
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

// processor is the processor time of the workers.
func processor(b *testing.B, nginx *realnginx.Server) time.Duration {
	d, err := nginx.Processor()
	require.NoError(b, err)
	return d
}
