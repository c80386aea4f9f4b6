package http1

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// startPackets counts by packets, in the better of the ways that this kernel takes,
// or skips the test.
func startPackets(t *testing.T, edit func(*feature.Environment)) (*Feature, *prometheus.Registry) {
	t.Helper()
	only := byPackets[0].name
	for _, w := range byPackets {
		f := newFeature(t)
		f.only = w.name
		env := &feature.Environment{MaxSeries: 64, Logger: slog.New(slog.DiscardHandler)}
		if state, _ := feature.Climb(f, env); state == feature.Loaded {
			require.NoError(t, f.Close())
			only = w.name
			break
		}
	}
	return startPacketsBy(t, only, edit)
}

func startPacketsBy(t *testing.T, way string, edit func(*feature.Environment)) (*Feature, *prometheus.Registry) {
	t.Helper()
	f := newFeature(t)
	f.only = way
	return f, featuretest.Start(t, f, edit)
}

// countsSince adds to what is wanted what a port has counted already: a server that
// is gone may have had it.
func countsSince(t *testing.T, reg *prometheus.Registry, port string, want counts) counts {
	t.Helper()
	for kind, n := range countsOn(t, reg, "server", port) {
		want[kind] += n
	}
	return want
}

func TestPacketsGoServer(t *testing.T) {
	_, reg := startPackets(t, nil)
	for _, network := range []string{"4", "6"} {
		for _, keepAlive := range []bool{true, false} {
			t.Run(fmt.Sprintf("IPv%s keep-alive %v", network, keepAlive), func(t *testing.T) {
				addr, _ := featuretest.StartRole(t, "server", network)
				port := featuretest.PortOf(t, addr)
				want := countsSince(t, reg, port, counts{
					"GET 200": 300, "GET 404": 60, "DELETE 204": 60, "PUT 500": 60, "POST 200": 60, "HEAD 200": 60,
				})
				var wg sync.WaitGroup
				for range 6 {
					c := featuretest.NewClient(t, keepAlive)
					wg.Go(func() { driveSerial(t, c, addr) })
				}
				wg.Wait()
				requireCounts(t, reg, "server", port, want)
				require.Empty(t, countsOn(t, reg, "client", port))
			})
		}
	}
}

// Every way that this kernel can load counts, spans or not.
func TestPacketsWays(t *testing.T) {
	for _, w := range byPackets {
		t.Run(w.name, func(t *testing.T) {
			_, reg := startPacketsBy(t, w.name, func(env *feature.Environment) { env.Calls = new(tenth) })
			addr, _ := featuretest.StartRole(t, "server", "4")
			port := featuretest.PortOf(t, addr)
			want := countsSince(t, reg, port, counts{"GET 200": 50, "GET 404": 10, "DELETE 204": 10, "PUT 500": 10, "POST 200": 10, "HEAD 200": 10})
			driveSerial(t, featuretest.NewClient(t, true), addr)
			requireCounts(t, reg, "server", port, want)
		})
	}
}

// driveSerial sends 100 requests.
func driveSerial(t *testing.T, c *http.Client, addr string) {
	for range 10 {
		for range 4 {
			featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
		}
		featuretest.Get(t, c, "GET", "http://"+addr+"/file", nil)
		featuretest.Get(t, c, "GET", "http://"+addr+"/status/404", nil)
		featuretest.Get(t, c, "DELETE", "http://"+addr+"/status/204", nil)
		featuretest.Get(t, c, "PUT", "http://"+addr+"/status/500", nil)
		featuretest.Get(t, c, "POST", "http://"+addr+"/echo", bytes.NewReader(make([]byte, 100_000)))
		featuretest.Get(t, c, "HEAD", "http://"+addr+"/file", nil)
	}
}

func TestPacketsNginx(t *testing.T) {
	_, reg := startPackets(t, nil)
	app, _ := featuretest.StartRole(t, "server", "4")
	port, _ := featuretest.StartNginx(t, app)
	want := countsSince(t, reg, port, counts{"GET 200": 240, "HEAD 200": 80, "GET 404": 80, "GET 302": 80, "GET 503": 80, "POST 200": 80, "GET 500": 80})
	behind := countsSince(t, reg, featuretest.PortOf(t, app), counts{"GET 200": 80, "GET 500": 80})
	for _, host := range []string{"127.0.0.1:", "[::1]:"} {
		for _, keepAlive := range []bool{true, false} {
			var wg sync.WaitGroup
			for range 2 {
				c := featuretest.NewClient(t, keepAlive)
				c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				wg.Go(func() {
					url := "http://" + host + port
					for range 10 {
						featuretest.Get(t, c, "GET", url+"/hello", nil)
						featuretest.Get(t, c, "GET", url+"/file", nil)
						featuretest.Get(t, c, "HEAD", url+"/file", nil)
						featuretest.Get(t, c, "GET", url+"/missing", nil)
						featuretest.Get(t, c, "GET", url+"/away", nil)
						featuretest.Get(t, c, "GET", url+"/broken", nil)
						featuretest.Get(t, c, "POST", url+"/hello", bytes.NewReader(make([]byte, 3000)))
						featuretest.Get(t, c, "GET", url+"/app/chunked", nil)
						featuretest.Get(t, c, "GET", url+"/app/status/500", nil)
					}
				})
			}
			wg.Wait()
		}
	}
	requireCounts(t, reg, "server", port, want)
	requireCounts(t, reg, "server", featuretest.PortOf(t, app), behind)
}

// A series of packets has no process, a duration until the response begins, no
// sizes, and lasts.
func TestPacketsValues(t *testing.T) {
	f, reg := startPackets(t, func(env *feature.Environment) {
		env.PerProcess = true
		env.Calls = new(tenth) // no spans, and no harm
	})
	addr, _ := featuretest.StartRole(t, "server", "4")
	port := featuretest.PortOf(t, addr)
	c := featuretest.NewClient(t, true)
	for range 10 {
		featuretest.Get(t, c, "TRACE", "http://"+addr+"/slow", nil)
	}
	for range 3 {
		f.Sweep(time.Now())
	}
	f.Sweep(time.Now().Add(time.Hour))
	f.Sweep(time.Now().Add(2 * time.Hour))
	m := featuretest.Family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port, "http_request_method": "TRACE"})
	require.Len(t, m, 1)
	for _, name := range feature.WhoLabels {
		require.Empty(t, featuretest.Label(m[0], name), name)
	}
	require.EqualValues(t, 10, m[0].Histogram.GetSampleCount())
	require.GreaterOrEqual(t, m[0].Histogram.GetSampleSum(), 10*0.030)
	m = featuretest.Family(t, reg, "http_server_response_body_size_bytes", map[string]string{"server_port": port, "http_request_method": "TRACE"})
	require.Len(t, m, 1)
	require.Zero(t, m[0].Histogram.GetSampleCount())
	visited := 0
	_, err := f.Open(func(*feature.Call) { visited++ })
	require.NoError(t, err)
	require.Zero(t, visited)
}

func TestPacketsNetworkNamespace(t *testing.T) {
	_, reg := startPackets(t, nil)
	addr, _ := featuretest.StartRole(t, "namespace")
	requireCounts(t, reg, "server", featuretest.PortOf(t, addr), counts{"GET 404": 50})
}

// A request that ends the handshake is for a socket that listens, since the
// server's own is made by it.
func TestPacketsDeferredAccept(t *testing.T) {
	f, reg := startPackets(t, nil)
	if f.only != byPackets[0].name {
		t.Skip("the kernel does not tell programs of a packet whether its socket listens")
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets know no such option at first
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	raw, err := l.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5)
	}))
	require.NoError(t, err)
	s := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}()
	port := featuretest.PortOf(t, l.Addr().String())
	want := countsSince(t, reg, port, counts{"GET 404": 20, "PUT 404": 20})
	for range 5 {
		c := featuretest.NewClient(t, true)
		for range 4 {
			featuretest.Get(t, c, "GET", "http://"+l.Addr().String()+"/", nil)
			featuretest.Get(t, c, "PUT", "http://"+l.Addr().String()+"/", nil)
		}
		c.CloseIdleConnections()
	}
	requireCounts(t, reg, "server", port, want)
}

// packet is one of TCP over IPv4 or IPv6, as the programs see it.
func packet(v6 bool, from, to uint16, seq uint32, payload string) []byte {
	tcp := []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to),
		byte(seq >> 24), byte(seq >> 16), byte(seq >> 8), byte(seq), 0, 0, 0, 0, 8 << 4, 0x18, 1, 0, 0, 0, 0, 0,
		1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1} // with options
	body := append(tcp, payload...)
	ether := append(make([]byte, 12), 8, 0)
	ip := append([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}, 10, 0, 0, 1, 10, 0, 0, 1)
	if v6 {
		ether[12], ether[13] = 0x86, 0xdd
		ip = append([]byte{0x60, 0, 0, 0, 0, 0, unix.IPPROTO_TCP, 64}, make([]byte, 32)...)
	}
	return append(append(ether, ip...), body...)
}

// forgetSockets makes a port's connections those of any socket: each run for a test
// has a new one.
func forgetSockets(t *testing.T, f *Feature, port byte) {
	t.Helper()
	m := f.objects.Maps[bpf.HttpSkbMapPacketConns]
	found := make(map[[36]byte][32]byte) // struct skb_ends, struct skb_conn
	require.NoError(t, feature.EachEntry(m, func(k [36]byte, v *[32]byte) {
		if k[34] == 0 && k[35] == port {
			copy(v[:], make([]byte, 8))
			found[k] = *v
		}
	}))
	for k, v := range found {
		require.NoError(t, m.Put(k, v))
	}
}

// Segments that are sent again are counted once, pipelined requests as lost.
func TestPacketsSentAgain(t *testing.T) {
	f, reg := startPackets(t, nil)
	const client, server = 1, 2 // ports that no test's server has
	arrives := bpf.HttpSkbProgArrives
	if f.objects.Programs[arrives] == nil {
		arrives = bpf.HttpSkbProgArrivesAlone
	}
	run := func(program string, p []byte) {
		t.Helper()
		forgetSockets(t, f, server)
		ret, err := f.objects.Programs[program].Run(&ebpf.RunOptions{Data: p})
		if err != nil {
			t.Skip("the kernel runs no such program for a test: ", err)
		}
		require.EqualValues(t, 1, ret, "every packet passes")
	}
	lost := func(reason string) float64 {
		m := featuretest.Family(t, reg, "vedette_ebpf_http_lost_total", map[string]string{"reason": reason})
		require.Len(t, m, 1)
		return m[0].Counter.GetValue()
	}
	for i, v6 := range []bool{false, true} {
		request := func(seq uint32, text string) {
			run(arrives, packet(v6, client, server, seq, text))
		}
		response := func(seq uint32, text string) {
			run(bpf.HttpSkbProgLeaves, packet(v6, server, client, seq, text))
		}
		request(100, "GET / HTTP/1.1\r\n\r\n")
		request(100, "GET / HTTP/1.1\r\n\r\n")
		response(500, "HTTP/1.1 100 Continue\r\n\r\n")
		response(600, "HTTP/1.1 200 OK\r\n\r\n")
		response(600, "HTTP/1.1 200 OK\r\n\r\n")
		request(100, "GET / HTTP/1.1\r\n\r\n")
		request(200, "POST / HTTP/1.1\r\n\r\n")
		response(600, "HTTP/1.1 200 OK\r\n\r\n")
		response(700, "HTTP/1.1 503 No\r\n\r\n")
		request(300, "GET /short")                 // shorter than any
		request(300, "get / HTTP/1.1\r\n\r\n")     // not a method
		response(800, "HTTP/1.1 2x0 OK\r\n\r\n")   // not a status
		response(800, "HTTP/2.0 200 OK\r\n\r\n\n") // not a version
		n := uint64(i + 1)
		require.Equal(t, counts{"GET 200": n, "POST 503": n}, countsOn(t, reg, "server", "2"))
	}
	// beyond 64 kB the kernel has the length in an option of IPv6
	large := packet(true, client, server, 300, "GET / HTTP/1.1\r\n\r\n")
	large[14+6] = 0
	large = slices.Insert(large, 14+40, unix.IPPROTO_TCP, 0, 0xc2, 4, 0, 0, 0, 0)
	run(arrives, large)
	run(bpf.HttpSkbProgLeaves, packet(true, server, client, 800, "HTTP/1.0 200 OK\r\n\r\n"))
	require.Equal(t, counts{"GET 200": 3, "POST 503": 2}, countsOn(t, reg, "server", "2"))
	require.Zero(t, lost("pipelined"))
	if arrives == bpf.HttpSkbProgArrivesAlone {
		return // such kernels run programs for a test without a socket, as if there were none yet
	}
	run(arrives, packet(true, client, server, 900, "GET / HTTP/1.1\r\n\r\n"))
	run(arrives, packet(true, client, server, 950, "PUT / HTTP/1.1\r\n\r\n"))
	run(bpf.HttpSkbProgLeaves, packet(true, server, client, 1000, "HTTP/1.1 204 No\r\n\r\n"))
	run(bpf.HttpSkbProgLeaves, packet(true, server, client, 1100, "HTTP/1.1 204 No\r\n\r\n"))
	require.Equal(t, counts{"GET 200": 3, "POST 503": 2, "GET 204": 1}, countsOn(t, reg, "server", "2"))
	require.EqualValues(t, 1, lost("pipelined"))
}

func TestGroupMount(t *testing.T) {
	for name, tc := range map[string]struct{ mounts, want string }{
		"unified": {"25 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"},
		"hybrid": {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" +
			"41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		"a part":  {"25 1 0:22 /system.slice /mnt rw - cgroup2 cgroup2 rw\n", ""},
		"escaped": {"25 1 0:22 / /mnt/a\\040b rw - cgroup2 cgroup2 rw\n", "/mnt/a b"},
		"none":    {"31 23 0:28 / /cgroup2 rw - tmpfs cgroup rw\nnonsense\n", ""},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, groupMount(tc.mounts)) })
	}
}
