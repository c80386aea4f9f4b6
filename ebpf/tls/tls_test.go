package tls

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/ebpf/protocol"
	"github.com/vedette-io/vedette/ebpf/stream"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"postgres": askPostgres, "race": racePostgres, "mysql": askMySQL})
}

var bounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// start watches targets until the test ends.
func start(t testing.TB, targets ...string) (*Feature, *prometheus.Registry) {
	t.Helper()
	f := New(Config{Targets: targets}, bounds)
	f.scanEvery, f.linger = 100*time.Millisecond, 300*time.Millisecond
	return f, featuretest.Start(t, f, func(env *feature.Environment) {
		env.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	})
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// counts of requests by "METHOD status version".
type counts map[string]uint64

func countsOn(t testing.TB, reg *prometheus.Registry, side, port string) counts {
	t.Helper()
	got := make(counts)
	for _, m := range featuretest.Family(t, reg, "http_"+side+"_request_duration_seconds", map[string]string{"server_port": port}) {
		require.Equal(t, "https", featuretest.Label(m, "url_scheme"))
		require.Less(t, m.Histogram.GetSampleSum(), 60*float64(m.Histogram.GetSampleCount()), "durations that begin before the test")
		got[featuretest.Label(m, "http_request_method")+" "+featuretest.Label(m, "http_response_status_code")+" "+
			featuretest.Label(m, "network_protocol_version")] += m.Histogram.GetSampleCount()
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
	featuretest.Await(func() uint64 { return sum(countsOn(t, reg, side, port)) }, sum(want))
	if got := countsOn(t, reg, side, port); !maps.Equal(got, want) {
		for _, m := range featuretest.Family(t, reg, "vedette_ebpf_tls_lost_total", nil) {
			if v := m.Counter.GetValue(); v > 0 {
				t.Logf("lost: %s %v", featuretest.Label(m, "reason"), v)
			}
		}
		t.Fatalf("%s on %s: got %v, want %v", side, port, got, want)
	}
}

// watching waits until probes are in a number of files.
func watching(t testing.TB, reg *prometheus.Registry, want float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		m := featuretest.Family(t, reg, "vedette_ebpf_tls_files", nil)
		return len(m) == 1 && m[0].GetGauge().GetValue() == want
	}, time.Minute, 10*time.Millisecond, "want probes in %v files", want)
}

// buildApp builds testdata/app.
func buildApp(t testing.TB, env string, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("go is missing")
	}
	out := filepath.Join(t.TempDir(), "app-"+strings.ToLower(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]))
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", out}, flags...), "./testdata/app")...)
	cmd.Env = append(os.Environ(), env)
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", b)
	return out
}

// process is one that was started, and reads and writes lines.
type process struct {
	in  io.WriteCloser
	out *bufio.Reader
	pid int
}

func launch(t testing.TB, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, cmd.Wait(), "%s did not survive", name)
	})
	return &process{in: in, out: bufio.NewReader(out), pid: cmd.Process.Pid}
}

func (p *process) line(t testing.TB) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(s)
}

// drive sends requests of many sorts, and says how many.
func drive(t testing.TB, url string, http2 bool, n int) counts {
	t.Helper()
	version := " 1.1"
	if http2 {
		version = " 2"
	}
	want := make(counts)
	for _, keepAlive := range []bool{true, false} {
		c := featuretest.NewTLSClient(t, http2, keepAlive)
		for range n {
			featuretest.Get(t, c, "GET", url+"/status/200", nil)
			featuretest.Get(t, c, "DELETE", url+"/status/204", nil)
			featuretest.Get(t, c, "GET", url+"/status/404?a=b", nil)
			featuretest.Get(t, c, "PUT", url+"/status/500", nil)
			featuretest.Get(t, c, "POST", url+"/echo", bytes.NewReader(make([]byte, 70_000)))
			featuretest.Get(t, c, "PATCH", url+"/echo", io.LimitReader(zeros{}, 50_000))
			featuretest.Get(t, c, "HEAD", url+"/chunked", nil)
			featuretest.Get(t, c, "GET", url+"/chunked", nil)
		}
		for what, m := range map[string]int{
			"GET 200": 2, "DELETE 204": 1, "GET 404": 1, "PUT 500": 1, "POST 200": 1, "PATCH 200": 1, "HEAD 200": 1,
		} {
			want[what+version] += uint64(m * n)
		}
	}
	return want
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestGo(t *testing.T) {
	cert, key := featuretest.Certificate(t)
	for _, tc := range []struct {
		name  string
		env   string
		flags []string
	}{
		{"Static", "CGO_ENABLED=0", nil},
		{"Stripped", "CGO_ENABLED=0", []string{"-trimpath", "-ldflags=-s -w"}},
		{"PIE", "CGO_ENABLED=0", []string{"-buildmode=pie", "-ldflags=-s -w"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := buildApp(t, tc.env, tc.flags...)
			server := launch(t, app, "serve", cert, key)
			addr := server.line(t)
			port := featuretest.PortOf(t, addr)
			_, reg := start(t, app)
			watching(t, reg, 1)
			want := drive(t, "https://"+addr, false, 10)
			maps.Copy(want, drive(t, "https://"+addr, true, 10))
			requireCounts(t, reg, "server", port, want)
			// The client is of the same file, which is watched already.
			asked := make(counts)
			for _, version := range []string{"1", "2"} {
				client := launch(t, app, "ask", "https://"+addr+"/echo", "50", version)
				require.Equal(t, "ready", client.line(t))
				_, err := client.in.Write([]byte("\n"))
				require.NoError(t, err)
				require.Equal(t, "done", client.line(t))
			}
			asked["POST 200 1.1"], asked["POST 200 2"] = 50, 50
			requireCounts(t, reg, "client", port, asked)
			want["POST 200 1.1"] += 50
			want["POST 200 2"] += 50
			requireCounts(t, reg, "server", port, want)
		})
	}
}

// Servers under load survive probes that come and go.
func TestSurvives(t *testing.T) {
	t.Run("Go", func(t *testing.T) {
		app := buildApp(t, "CGO_ENABLED=0")
		cert, key := featuretest.Certificate(t)
		server := launch(t, app, "serve", cert, key)
		comeAndGo(t, "https://"+server.line(t)+"/chunked", app)
	})
	t.Run("nginx", func(t *testing.T) {
		port, _ := featuretest.StartNginxTLS(t)
		comeAndGo(t, "https://127.0.0.1:"+port+"/file", "nginx")
	})
}

// comeAndGo asks for url while probes are placed in target and taken out.
func comeAndGo(t *testing.T, url, target string) {
	t.Helper()
	asked := make(chan struct{}, 1)
	failed := make(chan struct{})
	var once sync.Once
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		c := featuretest.NewTLSClient(t, i%2 == 1, true)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := c.Get(url)
				if err != nil {
					t.Error(err)
					once.Do(func() { close(failed) })
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				select {
				case asked <- struct{}{}:
				default:
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	self, err := feature.SelfID()
	require.NoError(t, err)
	for range 4 {
		f := New(Config{Targets: []string{target}}, bounds)
		if state, reason := feature.Climb(f, environment(self)); state != feature.Loaded {
			t.Skipf("eBPF feature tls is %s: %s", state, reason)
		}
		files, offsets := f.watching.watched()
		require.Equal(t, 1, files)
		require.Greater(t, offsets, 6)
		for range 50 {
			select {
			case <-asked:
			case <-failed:
				t.FailNow()
			}
		}
		require.NoError(t, f.Close())
	}
}

func TestNginx(t *testing.T) {
	port, _ := featuretest.StartNginxTLS(t)
	_, reg := start(t, "nginx")
	watching(t, reg, 1)
	want := make(counts)
	for _, http2 := range []bool{false, true} {
		version := " 1.1"
		if http2 {
			version = " 2"
		}
		for _, keepAlive := range []bool{true, false} {
			c := featuretest.NewTLSClient(t, http2, keepAlive)
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			const n = 20
			url := "https://127.0.0.1:" + port
			for range n {
				featuretest.Get(t, c, "GET", url+"/hello", nil)
				featuretest.Get(t, c, "GET", url+"/file", nil)
				featuretest.Get(t, c, "HEAD", url+"/file", nil)
				featuretest.Get(t, c, "GET", url+"/missing", nil)
				featuretest.Get(t, c, "GET", url+"/away", nil)
				featuretest.Get(t, c, "GET", url+"/broken", nil)
				featuretest.Get(t, c, "POST", url+"/hello", bytes.NewReader(make([]byte, 3000)))
			}
			for what, m := range map[string]uint64{"GET 200": 2, "HEAD 200": 1, "GET 404": 1, "GET 302": 1, "GET 503": 1, "POST 200": 1} {
				want[what+version] += n * m
			}
		}
	}
	requireCounts(t, reg, "server", port, want)
	for _, m := range featuretest.Family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port}) {
		require.Equal(t, "nginx", featuretest.Label(m, "service_name"))
	}
	require.Empty(t, countsOn(t, reg, "client", port), "the probe sees its own process")
}

// Programs that use OpenSSL as clients; the one that is not named shares the
// library and is not counted.
func TestOpenSSLClients(t *testing.T) {
	port, _ := featuretest.StartNginxTLS(t)
	_, reg := start(t, "nginx", "curl", "python3*")
	watching(t, reg, 1)
	url := "https://127.0.0.1:" + port
	want := make(counts)
	if curl, err := exec.LookPath("curl"); err == nil {
		for _, flag := range []string{"--http1.1", "--http2"} {
			args := []string{"-sSk", flag}
			for range 10 {
				args = append(args, url+"/hello", "-o", os.DevNull, url+"/missing", "-o", os.DevNull)
			}
			out, err := exec.Command(curl, args...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		want["GET 200 1.1"] += 10
		want["GET 404 1.1"] += 10
		want["GET 200 2"] += 10
		want["GET 404 2"] += 10
	}
	if python, err := exec.LookPath("python3"); err == nil {
		script := `
import http.client, ssl
c = http.client.HTTPSConnection("127.0.0.1", ` + port + `, context=ssl._create_unverified_context())
for i in range(10):
    c.request("POST", "/hello", body=b"x" * 9000)
    c.getresponse().read()
`
		out, err := exec.Command(python, "-c", script).CombinedOutput()
		require.NoError(t, err, "%s", out)
		want["POST 200 1.1"] += 10
	}
	if len(want) == 0 {
		t.Skip("curl and python3 are missing")
	}
	requireCounts(t, reg, "client", port, want)
	requireCounts(t, reg, "server", port, want)
}

// Files are watched while processes have them.
func TestComeAndGo(t *testing.T) {
	app := buildApp(t, "CGO_ENABLED=0")
	cert, key := featuretest.Certificate(t)
	_, reg := start(t, filepath.Base(app))
	watching(t, reg, 0)
	cmd := exec.Command(app, "serve", cert, key)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	addr, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	addr = strings.TrimSpace(addr)
	// Upgraded while it runs: the old file has lost its name.
	b, err := os.ReadFile(app)
	require.NoError(t, err)
	require.NoError(t, os.Remove(app))
	require.NoError(t, os.WriteFile(app, b, 0o755))
	watching(t, reg, 1)
	c := featuretest.NewTLSClient(t, false, true)
	for range 10 {
		featuretest.Get(t, c, "GET", "https://"+addr+"/status/200", nil)
	}
	requireCounts(t, reg, "server", featuretest.PortOf(t, addr), counts{"GET 200 1.1": 10})
	second := launch(t, app, "serve", cert, key)
	second.line(t)
	watching(t, reg, 2)
	in.Close()
	require.NoError(t, cmd.Wait())
	watching(t, reg, 1)
}

func environment(self uint32) *feature.Environment {
	return &feature.Environment{
		MaxSeries: 4096, Proc: "/proc", Resolver: identity.New("/proc", nil), Self: self, Logger: slog.New(slog.DiscardHandler),
	}
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.NotEmpty(t, New(DefaultConfig(), bounds).Off())
	require.NoError(t, Config{Targets: []string{"nginx", "/usr/bin/*"}}.Validate())
	for _, bad := range []string{"", "[a"} {
		require.ErrorContains(t, Config{Targets: []string{"a", bad}}.Validate(), "targets: got "+strconv.Quote(bad))
	}
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		target, exe, service string
		want                 bool
	}{
		{"nginx", "/usr/sbin/nginx", "", true},
		{"nginx", "/usr/sbin/nginx (deleted)", "", true},
		{"nginx", "/usr/sbin/nginx-debug", "", false},
		{"shop-*", "/usr/bin/java", "shop-api", true},
		{"/usr/sbin/*", "/usr/sbin/nginx", "x", true},
		{"/usr/*", "/usr/sbin/nginx", "x", false},
		{"", "/usr/sbin/nginx", "", false},
	} {
		p := processes{targets: []string{tc.target}}
		require.Equal(t, tc.want, p.matches(tc.exe, tc.service), fmt.Sprint(tc))
	}
}

// Bytes that the ring had no room for are told to the parser, so that it knows
// where a body ends.
func TestGap(t *testing.T) {
	f := New(Config{Targets: []string{"x"}}, bounds)
	f.table.Use(environment(1))
	process := identity.Key{PID: 1 << 30, StartNanos: 1}
	f.decided[process.PID] = verdict{startNanos: process.StartNanos, want: true}
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(f.table))
	var offset [2]uint32
	take := func(d protocol.Direction, b string) {
		e := &event{kind: bpf.TlsTlsKind(d), placed: true, offset: offset[d]}
		e.conn = stream.Conn{ID: 1, Process: process, TLS: true}
		e.piece = protocol.Piece{Direction: d, Data: []byte(b), AtNanos: 1}
		f.handle(e)
		offset[d] += uint32(len(b))
	}
	for range 3 {
		take(protocol.Received, "GET / HTTP/1.1\r\n\r\n")
		take(protocol.Sent, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
		offset[protocol.Sent] += 4990 // lost
		take(protocol.Sent, "0123456789")
	}
	require.Equal(t, counts{"GET 200 1.1": 3}, countsOn(t, reg, "server", ""))
}

// A library that only another mount namespace has, as in a container.
func TestMountNamespace(t *testing.T) {
	libraries, err := filepath.Glob("/usr/lib/*-linux-gnu/libssl.so.3")
	require.NoError(t, err)
	for _, program := range []string{"unshare", "mount", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is missing")
		}
	}
	if len(libraries) == 0 || os.Geteuid() != 0 {
		t.Skip("OpenSSL's library or the right to mount is missing")
	}
	port, _ := featuretest.StartNginxTLS(t)
	script := filepath.Join(t.TempDir(), "ask-from-inside.py")
	require.NoError(t, os.WriteFile(script, []byte(`
import http.client, ssl, sys
print("ready", flush=True)
sys.stdin.readline()
c = http.client.HTTPSConnection("127.0.0.1", `+port+`, context=ssl._create_unverified_context())
for i in range(10):
    c.request("GET", "/hello")
    c.getresponse().read()
print("done", flush=True)
sys.stdin.read()
`), 0o644))
	dir := t.TempDir()
	inside := launch(t, "unshare", "-m", "sh", "-ec",
		`mount -t tmpfs tmpfs "$1"; cp "$2" "$1"/; export LD_LIBRARY_PATH="$1"; exec python3 "$3"`, "sh", dir, libraries[0], script)
	require.Equal(t, "ready", inside.line(t))
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", inside.pid))
	require.NoError(t, err)
	if !strings.Contains(string(maps), filepath.Join(dir, "libssl")) {
		t.Skip("python3 does not take the library that it is given")
	}
	_, err = os.Stat(filepath.Join(dir, "libssl.so.3"))
	require.ErrorIs(t, err, os.ErrNotExist, "the library is seen from outside")
	_, reg := start(t, "ask-from-inside*")
	watching(t, reg, 1)
	_, err = inside.in.Write([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "done", inside.line(t))
	requireCounts(t, reg, "client", port, counts{"GET 200 1.1": 10})
}
