package dns

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// Each of these prints what the feature adds to the processor time of a client
// that asks, or of one that sends and receives datagrams that are not DNS.
//
//	go test -run '^$' -bench Overhead -benchtime 1x ./ebpf/dns
func BenchmarkLookupOverhead(b *testing.B) { benchmark(b, true) }

func BenchmarkOtherUDPOverhead(b *testing.B) { benchmark(b, false) }

func benchmark(b *testing.B, dns bool) {
	const times = 10_000
	addr, _ := featuretest.StartRole(b, "nameserver")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(b, err)
	c := DefaultConfig()
	if n, err := strconv.Atoi(port); dns && err == nil {
		c.Ports = []int{n}
	}
	for b.Loop() {
		featuretest.Overhead(b, func() feature.Feature { return New(c, testBounds) }, "exchange", func() float64 {
			cmd := exec.Command(os.Args[0], addr, strconv.Itoa(times))
			cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=asker")
			require.NoError(b, cmd.Run())
			return float64(cmd.ProcessState.UserTime().Nanoseconds()+cmd.ProcessState.SystemTime().Nanoseconds()) / times
		})
	}
}

// asker asks as often as told over one socket that is connected.
func asker() {
	c, err := net.Dial("udp", os.Args[1])
	if err != nil {
		fatal(err)
	}
	times, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fatal(err)
	}
	b := make([]byte, 512)
	q := question(0, "www.example.com")
	for i := range times {
		q[0], q[1] = byte(i>>8), byte(i)
		if _, err := c.Write(q); err != nil {
			fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			fatal(err)
		}
	}
}

// BenchmarkCount prints what it costs to count a lookup in user space.
func BenchmarkCount(b *testing.B) {
	f := New(DefaultConfig(), testBounds)
	stop := featuretest.Load(b, f)
	defer stop()
	l, ok := decodeLookup(make([]byte, 512))
	require.True(b, ok)
	l.NameLength = uint16(copy(l.Name[:], "\x03www\x07example\x03com\x00"))
	l.Tgid = uint32(os.Getpid())
	b.ReportAllocs()
	for b.Loop() {
		f.mu.Lock()
		f.countLocked(&l, false)
		f.mu.Unlock()
	}
}
