package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"uring": uringServer, "crawl": crawl, "rights": tryRights, "late reader": lateReader, "undrained": undrainedServer, "late answer": lateAnswer, "refused client": refusedClient})
}

func newFeature(t testing.TB) *Feature {
	t.Helper()
	b, err := feature.NewBuckets([]float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10})
	require.NoError(t, err)
	f := New(b)
	f.followed = true // packets tell less, and have tests of their own
	return f
}

func start(t testing.TB, edit func(*feature.Environment)) *prometheus.Registry {
	t.Helper()
	return featuretest.Start(t, newFeature(t), edit)
}

// counts of requests by "METHOD status".
type counts map[string]uint64

// countsOn reads what a side has counted on a port.
func countsOn(t testing.TB, reg *prometheus.Registry, side, port string) counts {
	t.Helper()
	got := make(counts)
	for _, m := range featuretest.Family(t, reg, "http_"+side+"_request_duration_seconds", map[string]string{"server_port": port}) {
		got[featuretest.Label(m, "http_request_method")+" "+featuretest.Label(m, "http_response_status_code")] += m.Histogram.GetSampleCount()
	}
	return got
}

// requireCounts waits until as many are counted as wanted, and wants them to be
// the right ones.
func requireCounts(t testing.TB, reg *prometheus.Registry, side, port string, want counts) {
	t.Helper()
	sum := func(c counts) (n uint64) {
		for v := range maps.Values(c) {
			n += v
		}
		return n
	}
	began, looks := time.Now(), 0
	featuretest.Await(func() uint64 {
		looks++
		return sum(countsOn(t, reg, side, port))
	}, sum(want))
	if got := countsOn(t, reg, side, port); !maps.Equal(got, want) {
		t.Logf("looked %d times in %v", looks, time.Since(began))
		logSockets(t, port)
		for _, m := range featuretest.Family(t, reg, "vedette_ebpf_http_lost_total", nil) {
			if v := m.Counter.GetValue(); v > 0 {
				t.Logf("lost: %s %v", featuretest.Label(m, "reason"), v)
			}
		}
		t.Fatalf("got %v, want %v", got, want)
	}
}

// logSockets says in which states the sockets of a server's port are.
func logSockets(t testing.TB, port string) {
	n, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(table)
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, fmt.Sprintf(":%04X ", n)) {
				t.Logf("%s: %s", table, strings.TrimSpace(line))
			}
		}
	}
}

func TestHTTPGoServer(t *testing.T) { driveGoServer(t, start(t, nil), "") }

// driveGoServer wants exact counts of everything but the case that is left out.
func driveGoServer(t *testing.T, reg *prometheus.Registry, leaveOut string) {
	for _, tc := range []struct {
		name   string
		server string
		drive  func(t *testing.T, addr string) counts
	}{
		{"keep-alive", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for range 300 {
				featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
			}
			for range 20 {
				featuretest.Get(t, c, "GET", "http://"+addr+"/status/404", nil)
				featuretest.Get(t, c, "DELETE", "http://"+addr+"/status/204", nil)
				featuretest.Get(t, c, "PUT", "http://"+addr+"/status/500", nil)
			}
			return counts{"GET 200": 300, "GET 404": 20, "DELETE 204": 20, "PUT 500": 20}
		}},
		{"no keep-alive", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, false)
			for range 100 {
				featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
			}
			return counts{"GET 200": 100}
		}},
		{"IPv6", "6", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for range 100 {
				featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
			}
			return counts{"GET 200": 100}
		}},
		{"bodies", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for i := range 50 {
				featuretest.Get(t, c, "POST", "http://"+addr+"/echo", bytes.NewReader(make([]byte, i*3000)))
				// of unknown length: sent in chunks
				featuretest.Get(t, c, "PATCH", "http://"+addr+"/echo", io.LimitReader(endless{}, int64(i*3000)))
			}
			return counts{"POST 200": 50, "PATCH 200": 50}
		}},
		{"body that looks like a request", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			text := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 3000)
			for range 20 {
				featuretest.Get(t, c, "POST", "http://"+addr+"/echo", strings.NewReader(text))
			}
			return counts{"POST 200": 20}
		}},
		{"HEAD, sendfile and chunks", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for range 30 {
				featuretest.Get(t, c, "HEAD", "http://"+addr+"/file", nil)
				featuretest.Get(t, c, "GET", "http://"+addr+"/file", nil)
				featuretest.Get(t, c, "HEAD", "http://"+addr+"/chunked", nil)
				featuretest.Get(t, c, "GET", "http://"+addr+"/chunked", nil)
			}
			return counts{"HEAD 200": 60, "GET 200": 60}
		}},
		{"100-continue", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			c.Transport.(*http.Transport).ExpectContinueTimeout = 10 * time.Second
			for range 20 {
				req, err := http.NewRequest("POST", "http://"+addr+"/echo", bytes.NewReader(make([]byte, 5000)))
				require.NoError(t, err)
				req.Header.Set("Expect", "100-continue")
				resp, err := c.Do(req)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
			}
			return counts{"POST 200": 20}
		}},
		{"pipelining", "4", drivePipelined},
		{"byte by byte", "4", driveBytes},
		{"long heads", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for i := range 40 {
				req, err := http.NewRequest("POST", "http://"+addr+"/echo", strings.NewReader("body"))
				require.NoError(t, err)
				for j := range i {
					req.Header.Set(fmt.Sprintf("X-Long-%d", j), strings.Repeat("c", 400))
				}
				resp, err := c.Do(req)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
			}
			return counts{"POST 200": 40}
		}},
		{"concurrent", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					for range 40 {
						featuretest.Get(t, c, "GET", fmt.Sprintf("http://%s/status/%d", addr, 200+i%2), nil)
					}
				})
			}
			wg.Wait()
			return counts{"GET 200": 1000, "GET 201": 1000}
		}},
		{"closed without a response", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for range 5 {
				_, err := c.Post("http://"+addr+"/abort", "text/plain", nil)
				require.ErrorIs(t, err, io.EOF) // so the request was sent
			}
			return counts{"POST ": 5}
		}},
		{"unknown method", "4", func(t *testing.T, addr string) counts {
			c := featuretest.NewClient(t, true)
			for range 5 {
				featuretest.Get(t, c, "PURGE", "http://"+addr+"/status/200", nil)
			}
			return counts{"_OTHER 200": 5}
		}},
	} {
		if tc.name == leaveOut {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			addr, _ := featuretest.StartRole(t, "server", tc.server)
			// a server that is gone may have had this port
			before := countsOn(t, reg, "server", featuretest.PortOf(t, addr))
			want := tc.drive(t, addr)
			for kind, n := range before {
				want[kind] += n
			}
			requireCounts(t, reg, "server", featuretest.PortOf(t, addr), want)
		})
	}
}

// endless is a body of any length.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func drivePipelined(t *testing.T, addr string) counts {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	var b bytes.Buffer
	const rounds = 8
	for range rounds {
		fmt.Fprintf(&b, "GET /status/200 HTTP/1.1\r\nHost: a\r\n\r\n")
		fmt.Fprintf(&b, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
		fmt.Fprintf(&b, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
		fmt.Fprintf(&b, "HEAD /status/404 HTTP/1.1\r\nHost: a\r\n\r\n")
		_, err = c.Write(b.Bytes())
		require.NoError(t, err)
		b.Reset()
	}
	r := bufio.NewReader(c)
	for range rounds {
		for _, method := range []string{"GET", "POST", "POST", "HEAD"} {
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
		}
	}
	return counts{"GET 200": rounds, "POST 200": 2 * rounds, "HEAD 404": rounds}
}

func driveBytes(t *testing.T, addr string) counts {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.(*net.TCPConn).SetNoDelay(true))
	r := bufio.NewReader(c)
	for range 5 {
		for _, ch := range []byte("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello") {
			_, err := c.Write([]byte{ch})
			require.NoError(t, err)
		}
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
	}
	return counts{"POST 200": 5}
}

func TestHTTPValues(t *testing.T) {
	reg := start(t, func(env *feature.Environment) { env.PerProcess = true })
	addr, pid := featuretest.StartRole(t, "server", "4")
	c := featuretest.NewClient(t, true)
	for range 10 {
		featuretest.Get(t, c, "GET", "http://"+addr+"/slow", nil)
		featuretest.Get(t, c, "GET", "http://"+addr+"/file", nil)
		featuretest.Get(t, c, "POST", "http://"+addr+"/echo", bytes.NewReader(make([]byte, 100_000)))
		featuretest.Get(t, c, "PATCH", "http://"+addr+"/echo", io.LimitReader(endless{}, 70_000))
		featuretest.Get(t, c, "PUT", "http://"+addr+"/chunked", nil)
	}
	port := featuretest.PortOf(t, addr)
	requireCounts(t, reg, "server", port, counts{"GET 200": 20, "POST 200": 10, "PATCH 200": 10, "PUT 200": 10})
	byMethod := func(name, method string) float64 {
		m := featuretest.Family(t, reg, name, map[string]string{"server_port": port, "http_request_method": method})
		require.Len(t, m, 1)
		require.Equal(t, "test-server", featuretest.Label(m[0], "service_name"))
		require.Equal(t, "http1.test", featuretest.Label(m[0], "process_executable_name"))
		require.Equal(t, fmt.Sprint(pid), featuretest.Label(m[0], "process_pid"))
		require.Equal(t, "http", featuretest.Label(m[0], "url_scheme"))
		return m[0].Histogram.GetSampleSum()
	}
	require.EqualValues(t, 10*(100_000+4), byMethod("http_server_response_body_size_bytes", "GET"))
	require.EqualValues(t, 10*5000, byMethod("http_server_response_body_size_bytes", "PUT"))
	require.EqualValues(t, 10*100_000, byMethod("http_server_request_body_size_bytes", "POST"))
	require.EqualValues(t, 10*70_000, byMethod("http_server_request_body_size_bytes", "PATCH"))
	require.GreaterOrEqual(t, byMethod("http_server_request_duration_seconds", "GET"), 10*0.030)
	m := featuretest.Family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port, "http_request_method": "GET"})
	for _, b := range m[0].Histogram.Bucket {
		if b.GetUpperBound() <= 0.025 {
			require.LessOrEqual(t, b.GetCumulativeCount(), uint64(10), "the slow ones are above %v", b.GetUpperBound())
		}
	}
}

func TestHTTPClient(t *testing.T) {
	reg := start(t, nil)
	addr, _ := featuretest.StartRole(t, "server", "4")
	done, _ := featuretest.StartRole(t, "client", "http://"+addr+"/chunked", "500")
	require.Equal(t, "done", done)
	port := featuretest.PortOf(t, addr)
	requireCounts(t, reg, "server", port, counts{"GET 200": 500})
	requireCounts(t, reg, "client", port, counts{"GET 200": 500})
	m := featuretest.Family(t, reg, "http_client_response_body_size_bytes", map[string]string{"server_port": port})
	require.Len(t, m, 1)
	require.Equal(t, "127.0.0.1", featuretest.Label(m[0], "server_address"))
	require.Equal(t, "test-client", featuretest.Label(m[0], "service_name"))
	require.EqualValues(t, 500*5000, m[0].Histogram.GetSampleSum())
}

// What a process counted stays when it is gone, and is added to what the next
// one of its service counts.
func TestHTTPCountsOutliveProcesses(t *testing.T) {
	f := newFeature(t)
	reg := featuretest.Start(t, f, nil)
	port := ""
	for round := range 3 {
		addr, _, stop := featuretest.StartStoppable(t, "server", "4", port)
		port = featuretest.PortOf(t, addr)
		c := featuretest.NewClient(t, false)
		for range 10 {
			featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
		}
		stop()
		requireCounts(t, reg, "server", port, counts{"GET 200": uint64(10 * (round + 1))})
		for range 3 { // twice to bury, once more to see that it stays
			f.Sweep(time.Now())
			require.Equal(t, counts{"GET 200": uint64(10 * (round + 1))}, countsOn(t, reg, "server", port))
		}
		require.NoError(t, feature.EachEntry(f.objects.Maps[bpf.HttpMapRequests], func(k bpf.HttpHttpKey, _ *bpf.HttpHttpValue) {
			require.NotEqual(t, port, fmt.Sprint(k.Port), "entries of dead processes are left in the kernel")
		}))
	}
	f.Sweep(time.Now().Add(time.Hour))
	f.Sweep(time.Now().Add(2 * time.Hour))
	require.Empty(t, countsOn(t, reg, "server", port))
}

// A full map loses requests, and says how many.
func TestHTTPFullMap(t *testing.T) {
	reg := start(t, func(env *feature.Environment) { env.MaxSeries = 64 })
	addr, _ := featuretest.StartRole(t, "server", "4")
	c := featuretest.NewClient(t, true)
	const kinds = 100
	for i := range kinds {
		featuretest.Get(t, c, "GET", fmt.Sprintf("http://%s/status/%d", addr, 200+i), nil)
	}
	var counted, lost float64
	require.Eventually(t, func() bool {
		counted, lost = 0, 0
		for _, n := range countsOn(t, reg, "server", featuretest.PortOf(t, addr)) {
			counted += float64(n)
		}
		for _, m := range featuretest.Family(t, reg, "vedette_ebpf_http_lost_total", map[string]string{"reason": "map_full"}) {
			lost += m.Counter.GetValue()
		}
		return counted+lost >= kinds
	}, time.Minute, 10*time.Millisecond)
	for _, m := range featuretest.Family(t, reg, "http_server_request_duration_seconds", nil) { // others may have been first
		counted += float64(m.Histogram.GetSampleCount())
	}
	require.Positive(t, counted)
	require.Positive(t, lost)
}

func TestHTTPNetworkNamespace(t *testing.T) {
	reg := start(t, nil)
	addr, _ := featuretest.StartRole(t, "namespace")
	port := featuretest.PortOf(t, addr)
	requireCounts(t, reg, "server", port, counts{"GET 404": 50})
	requireCounts(t, reg, "client", port, counts{"GET 404": 50})
}
