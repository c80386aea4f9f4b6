package dns

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// ringBytes and ringStep mirror ring.h, and eventBytes is what an answer to asker
// takes of the ring: 8 bytes of the kernel's, 68 of struct dns_lookup and 17 of name,
// rounded up to 8.
const (
	ringBytes  = 256 << 10
	ringStep   = ringBytes / 4
	eventBytes = 96
)

// unread loads the feature for a name server of its own, and does not run it.
func unread(t *testing.T) (f *Feature, addr string) {
	addr, _ = featuretest.StartRole(t, "nameserver")
	c := DefaultConfig()
	c.Ports = []int{portOf(t, addr)}
	f = New(c, testBounds)
	self, err := feature.SelfID()
	if err != nil {
		self = uint32(os.Getpid())
	}
	state, reason := feature.Climb(f, &feature.Environment{
		MaxSeries: 4096, Resolver: identity.New("/proc", nil), Self: self, Logger: slog.New(slog.DiscardHandler),
	})
	if state != feature.Loaded {
		t.Skipf("eBPF feature dns is %s: %s", state, reason)
	}
	t.Cleanup(func() { f.Close() })
	return f, addr
}

// ask has processes ask at once, each so often: two answers are told of each
// question, that of the client and that of the server.
func ask(t *testing.T, addr string, processes, times int) {
	t.Helper()
	var g errgroup.Group
	for range processes {
		g.Go(func() error {
			cmd := exec.Command(os.Args[0], addr, strconv.Itoa(times))
			cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=asker")
			return cmd.Run()
		})
	}
	require.NoError(t, g.Wait())
}

func dropped(t *testing.T, f *Feature) uint64 {
	t.Helper()
	n, err := feature.SumStat(f.objects.Maps[bpf.DnsMapStats], uint32(bpf.DnsDnsStatDNS_STAT_DROPPED))
	require.NoError(t, err)
	return n
}

// A reader that does not come is woken once for each step of the ring, not for each
// event; everything that fits waits for it.
func TestRingWakesOnceForEachStep(t *testing.T) {
	f, addr := unread(t)
	ring := f.objects.Maps[bpf.DnsMapEvents]
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(poll)
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(end)
	require.NoError(t, unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, ring.FD(), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(ring.FD())}))
	require.NoError(t, unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, end, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(end)}))
	woken := make(chan int)
	go func() {
		n := 0
		defer func() { woken <- n }()
		for events := make([]unix.EpollEvent, 2); ; {
			got, err := unix.EpollWait(poll, events, -1)
			if err != nil && err != unix.EINTR {
				return
			}
			for _, e := range events[:max(got, 0)] {
				if e.Fd == int32(end) {
					return
				}
				n++
			}
		}
	}()
	const lookups = 1300 // a little less than the ring has room for
	const steps = 2 * lookups * eventBytes / ringStep
	ask(t, addr, 1, lookups)
	var answers int
	require.Eventually(t, func() bool {
		var told uint64
		require.NoError(t, f.objects.Variables[bpf.DnsVarWoken].Get(&told))
		return told == steps
	}, time.Minute, 10*time.Millisecond)
	_, err = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	// Several processors may find at once that a step was crossed.
	n := <-woken
	require.Positive(t, n)
	require.LessOrEqual(t, n, steps*runtime.NumCPU())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, feature.ReadRing(ctx, ring, time.Hour, func([]byte) { answers++ }))
	require.Equal(t, 2*lookups, answers)
	require.Zero(t, dropped(t, f))
}

// A reader that never looks by itself is woken again and again while several
// processes write the ring full many times: what waits for it in the end is less than
// two steps, and nothing is lost but what was counted as lost.
func TestRingWakesWhileOthersWrite(t *testing.T) {
	f, addr := unread(t)
	var read atomic.Uint64
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- feature.ReadRing(ctx, f.objects.Maps[bpf.DnsMapEvents], time.Hour, func([]byte) { read.Add(1) })
	}()
	const processes, times = 6, 3000
	const events = 2 * processes * times // of 3.4 MB
	ask(t, addr, processes, times)
	require.Eventually(t, func() bool {
		return read.Load()+dropped(t, f) >= events-2*ringStep/eventBytes
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.EqualValues(t, events, read.Load()+dropped(t, f))
}
