// Package featuretest drives features of the eBPF probe in tests: it loads one,
// starts servers and clients that the probe can see, and reads what was counted.
package featuretest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
	"github.com/vedette-io/vedette/internal/freeport"
)

// roleEnv says which role a process started by StartRole plays.
const roleEnv = "VEDETTE_PROBE_TEST_ROLE"

// Main is TestMain of a package whose tests start roles. The probe does not see
// its own process, so servers and clients under test are the test's binary,
// started again in a role: server, client, namespace or one of the package's own.
func Main(m *testing.M, roles map[string]func()) {
	all := map[string]func(){"server": serve, "client": client, "namespace": namespace}
	maps.Copy(all, roles)
	switch role := os.Getenv(roleEnv); {
	case role == "":
		goleak.VerifyTestMain(m)
	case all[role] != nil:
		all[role]()
	default:
		fmt.Fprintf(os.Stderr, "no such role: %q\n", role)
		os.Exit(2)
	}
}

// Start loads a feature and serves it until the test ends, or skips the test.
func Start(t testing.TB, f feature.Feature, edit func(*feature.Environment)) *prometheus.Registry {
	t.Helper()
	self, err := feature.SelfID()
	if err != nil {
		self = uint32(os.Getpid())
	}
	env := &feature.Environment{
		MaxSeries: 4096, Proc: "/proc", Resolver: identity.New("/proc", nil), Peers: new(feature.Peers), Self: self, Logger: slog.New(slog.DiscardHandler),
		RingBytes: 64 << 20, // others may keep the processors for seconds
	}
	if edit != nil {
		edit(env)
	}
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(f))
	if state, reason := climb(f, env); state != feature.Loaded {
		t.Skipf("eBPF feature %s is %s: %s", f.Name(), state, reason)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- feature.Serve(ctx, f, env.Resolver) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, f.Close())
	})
	return reg
}

// StartRole starts this binary again, and gives its first line of output.
func StartRole(t testing.TB, role string, args ...string) (line string, pid int) {
	t.Helper()
	line, pid, stop := StartStoppable(t, role, args...)
	t.Cleanup(stop)
	return line, pid
}

// StartStoppable is StartRole that leaves the ending to the caller.
func StartStoppable(t testing.TB, role string, args ...string) (line string, pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "OTEL_SERVICE_NAME=test-"+role)
	cmd.Stderr = os.Stderr
	if role == "namespace" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop = func() {
		in.Close() // ends it
		_ = cmd.Wait()
	}
	var b bytes.Buffer
	one := make([]byte, 1)
	for {
		if _, err := out.Read(one); err != nil || one[0] == '\n' {
			return b.String(), cmd.Process.Pid, stop
		}
		b.WriteByte(one[0])
	}
}

// serve is the role server: net/http on a port of the system's choice,
// until its standard input ends.
func serve() {
	network, addr := "tcp4", "127.0.0.1:0"
	if len(os.Args) > 1 && os.Args[1] == "6" {
		network, addr = "tcp6", "[::1]:0"
	}
	if len(os.Args) > 2 && os.Args[2] != "" {
		addr = "127.0.0.1:" + os.Args[2]
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 100_000), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, n)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		<-time.After(30 * time.Millisecond)
		fmt.Fprint(w, "slow")
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for range 5 {
			fmt.Fprint(w, strings.Repeat("x", 1000))
			w.(http.Flusher).Flush()
		}
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	go http.Serve(l, mux)
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
}

// client is the role client: GETs the URL as often as told, one after
// another, says how that went, and stays until its standard input ends.
func client() {
	n, _ := strconv.Atoi(os.Args[2])
	said := "done"
	for range n {
		resp, err := http.Get(os.Args[1])
		if err != nil {
			said = err.Error()
			break
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

// namespace is the role namespace: in a network of its own, a server and
// its client.
func namespace() {
	said, err := func() (string, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return "", err
		}
		lo.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
			return "", err
		}
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		go http.Serve(l, http.NotFoundHandler())
		for range 50 {
			resp, err := http.Get("http://" + l.Addr().String())
			if err != nil {
				return "", err
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return l.Addr().String(), nil
	}()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(said)
	io.Copy(io.Discard, os.Stdin)
}

// Family gathers the series of one metric whose labels contain all of want.
func Family(t testing.TB, reg *prometheus.Registry, name string, want map[string]string) []*dto.Metric {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	var found []*dto.Metric
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			hit := 0
			for _, l := range m.Label {
				if v, ok := want[l.GetName()]; ok && v == l.GetValue() {
					hit++
				}
			}
			if hit == len(want) {
				found = append(found, m)
			}
		}
	}
	return found
}

// Label gives the value of a label, or "".
func Label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// PortOf gives the port of an address.
func PortOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}

// Get sends one request with c and reads the response.
func Get(t testing.TB, c *http.Client, method, url string, body io.Reader) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
}

// NewClient gives a client whose connections end with the test.
func NewClient(t testing.TB, keepAlive bool) *http.Client {
	tr := &http.Transport{DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// RequireCounter waits for the sum of a counter over the series with these
// labels to reach want, and wants it to be exactly that.
func RequireCounter(t testing.TB, reg *prometheus.Registry, name string, labels map[string]string, want float64) {
	t.Helper()
	sum := func() (n float64) {
		for _, m := range Family(t, reg, name, labels) {
			n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return n
	}
	Await(sum, want)
	if sum() != want {
		for _, m := range Family(t, reg, name, nil) {
			t.Log(m)
		}
	}
	require.Equal(t, want, sum(), "%s%v", name, labels)
}

// patience is how long a count may stay as it is before it is taken for the last one;
// slow or busy machines count slowly, too. It is looked at looks times in between, at
// least: a machine that stood still meanwhile has counted nothing.
const (
	patience = 20 * time.Second
	looks    = 200
)

// Await waits for a count to reach want, as long as it grows.
func Await[N cmp.Ordered](count func() N, want N) {
	last, since, seen := count(), time.Now(), 0
	for last < want && (seen < looks || time.Since(since) < patience) {
		<-time.After(10 * time.Millisecond)
		seen++
		if n := count(); n != last {
			last, since, seen = n, time.Now(), 0
		}
	}
}

// FreePort gives a port where nobody listens until the test ends, but who names it.
func FreePort(t testing.TB) string {
	t.Helper()
	p, err := freeport.Reserve()
	require.NoError(t, err)
	t.Cleanup(p.Release)
	return p.Text()
}

// Edges visits the edges that a collection tells.
func Edges(a feature.Asker, visit func(*feature.Edge)) error {
	ch := make(chan prometheus.Metric, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range ch {
		}
	}()
	err := a.CollectEdges(ch, visit)
	close(ch)
	<-done
	return err
}
