package http1

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// kept keeps every call of a port, or counts those of others.
type kept struct {
	mu    sync.Mutex
	calls []feature.Call
}

func (k *kept) Wanted(string, uint32, netip.AddrPort, netip.AddrPort) bool { return true }

func (*kept) Full() bool { return false }

func (k *kept) Add(c *feature.Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, *c)
	k.calls[len(k.calls)-1].Attributes = slices.Clone(c.Attributes)
}

func (k *kept) on(port string, server bool) (calls []feature.Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.calls {
		at := c.Local.Port()
		if !server {
			at = c.Peer.Port()
		}
		if c.Server == server && fmt.Sprint(at) == port {
			calls = append(calls, c)
		}
	}
	return calls
}

func value(c feature.Call, key string) string {
	for i := 0; i+1 < len(c.Attributes); i += 2 {
		if c.Attributes[i] == key {
			return c.Attributes[i+1]
		}
	}
	return ""
}

// Heads split byte by byte, long ones, pipelines and every way of the counting
// tests give one call for each request that is counted.
func TestCallsEqualCounts(t *testing.T) {
	for _, w := range ways {
		if w.without == nil {
			t.Run(w.name, func(t *testing.T) { driveCalls(t, w.name) })
		}
	}
}

func driveCalls(t *testing.T, way string) {
	calls := &kept{}
	f := newFeature(t)
	f.only = way
	reg := featuretest.Start(t, f, func(env *feature.Environment) { env.Calls = calls })
	for name, drive := range map[string]func(*testing.T, string) counts{
		"pipelining": drivePipelined, "byte by byte": driveBytes,
		"long heads": func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for i := range 40 {
				req, err := http.NewRequest("GET", fmt.Sprintf("http://%s/status/404?q=%d", addr, i), nil)
				require.NoError(t, err)
				for j := range i {
					req.Header.Set(fmt.Sprintf("X-Long-%d", j), fmt.Sprintf("%0100d", j))
				}
				req.Header.Set("Traceparent", fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", i+1))
				resp, err := c.Do(req)
				require.NoError(t, err)
				resp.Body.Close()
			}
			return counts{"GET 404": 40}
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := featuretest.StartRole(t, "server", "4")
			want := drive(t, addr)
			port := featuretest.PortOf(t, addr)
			requireCounts(t, reg, "server", port, want)
			total := 0
			for _, n := range want {
				total += int(n)
			}
			least := total
			if name == "pipelining" {
				least = 1 // as many as 16 at once; more are counted as lost
			}
			require.Eventually(t, func() bool { return len(calls.on(port, true)) >= least }, waitLong, waitShort)
			got := make(counts)
			seqs := make(map[string]bool)
			all := calls.on(port, true)
			for _, c := range all {
				got[c.Name+" "+value(c, "http.response.status_code")]++
				seqs[fmt.Sprint(c.Peer, c.Seq)] = true
				require.Equal(t, "127.0.0.1", value(c, "client.address"))
				require.LessOrEqual(t, c.StartNanos, c.EndNanos)
				if name == "long heads" {
					require.Equal(t, "/status/404", value(c, "url.path"))
					require.Len(t, c.Traceparent, 55)
				}
			}
			require.Len(t, seqs, len(all), "sequence numbers tell requests apart")
			for kind, n := range got {
				require.LessOrEqual(t, n, want[kind], kind)
			}
			if least == total {
				require.Equal(t, want, got)
			}
		})
	}
}

// What finds no room in the kernel is counted.
func TestSpanOverflow(t *testing.T) {
	f := newFeature(t)
	self, err := feature.SelfID()
	if err != nil {
		self = uint32(os.Getpid())
	}
	calls := &kept{}
	env := &feature.Environment{
		MaxSeries: 4096, Resolver: identity.New("/proc", nil), Self: self, Logger: slog.New(slog.DiscardHandler), Calls: calls,
	}
	if state, reason := feature.Climb(f, env); state != feature.Loaded {
		t.Skipf("eBPF feature http is %s: %s", state, reason)
	}
	defer f.Close()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(f))
	addr, _ := featuretest.StartRole(t, "server", "4")
	c := featuretest.NewClient(t, true)
	const n = 3000 // a span takes about 420 bytes of 1 MiB; nobody reads
	for range n {
		featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
	}
	require.Eventually(t, func() bool {
		m := featuretest.Family(t, reg, "vedette_ebpf_span_lost_total", map[string]string{"reason": "ring_full"})
		return len(m) == 1 && m[0].Counter.GetValue() >= n-1<<20/424
	}, waitLong, waitShort)
}

func TestStartLine(t *testing.T) {
	for line, want := range map[string][3]string{
		"GET /a/b?secret HTTP/1.1\r":     {"GET", "/a/b", "1.1"},
		"GET / HTTP/1.0":                 {"GET", "/", "1.0"},
		"POST http://h:1/p?q HTTP/1.1\r": {"POST", "/p", "1.1"},
		"GET http://h HTTP/1.1\r":        {"GET", "/", "1.1"},
		"CONNECT h:443 HTTP/1.1\r":       {"CONNECT", "", "1.1"},
		"OPTIONS * HTTP/1.1\r":           {"OPTIONS", "", "1.1"},
		"GET /cut-o":                     {"GET", "/cut-o", "1.1"},
		"GET /cut?secr":                  {"GET", "/cut", "1.1"},
		"GET":                            {"GET", "", "1.1"},
		"":                               {"", "", "1.1"},
		"GET /\xff HTTP/1.1\r":           {"GET", "/\uFFFD", "1.1"},
		"GET /a#b?c HTTP/1.1\r":          {"GET", "/a", "1.1"},
	} {
		method, path, version := startLine([]byte(line))
		require.Equal(t, want, [3]string{method, path, version}, "%q", line)
	}
}

func TestDescribe(t *testing.T) {
	s := &bpf.HttpHttpSpan{
		ProcessStart: 5, Tgid: 6, StartNs: 10, EndNs: 20, Seq: 7, Netns: 8, LocalPort: 80, PeerPort: 4000,
		LocalAddr: [4]uint32{0, 0, 0xffff0000, 0x0100007f}, PeerAddr: [4]uint32{0, 0, 0xffff0000, 0x0200007f},
		Status: 404, Role: uint8(bpf.HttpRoleROLE_CLIENT), Method: uint8(bpf.HttpMethodGET), Line: 20,
	}
	copy(s.Target[:], "GET /a?x=1 HTTP/1.1\r")
	c := new(feature.Call)
	describe(c, s)
	require.False(t, c.Server)
	require.True(t, c.Failed)
	require.Equal(t, identity.Key{PID: 6, StartNanos: 5}, c.Process)
	require.Equal(t, "127.0.0.1:80", c.Local.String())
	require.Equal(t, "http://127.0.0.2:4000/a", value(*c, "url.full"))
	require.Equal(t, "404", value(*c, "error.type"))
	s.Role = uint8(bpf.HttpRoleROLE_SERVER)
	describe(c, s)
	require.False(t, c.Failed, "a client's fault")
	require.Equal(t, "/a", value(*c, "url.path"))
	s.Status, s.Method = 0, 0
	describe(c, s)
	require.True(t, c.Failed)
	require.Equal(t, "HTTP", c.Name)
	require.Equal(t, "no_response", value(*c, "error.type"))
}

func FuzzDecodeSpan(f *testing.F) {
	f.Add(make([]byte, unsafe.Sizeof(bpf.HttpHttpSpan{})))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s bpf.HttpHttpSpan
		if decodeSpan(&s, b) {
			c := new(feature.Call)
			describe(c, &s)
			require.Zero(t, len(c.Attributes)%2)
			require.LessOrEqual(t, len(value(*c, "url.path")), maxPath)
		}
	})
}

const (
	waitLong  = time.Minute
	waitShort = 20 * time.Millisecond
)
