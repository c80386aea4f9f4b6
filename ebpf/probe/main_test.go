package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
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
)

// The probe does not see its own process, so servers and clients under test are
// this binary, started again in a role.
const roleEnv = "VEDETTE_PROBE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		goleak.VerifyTestMain(m)
	case "server":
		serveForTest()
	case "client":
		clientForTest()
	case "namespace":
		namespaceForTest()
	default:
		fmt.Fprintf(os.Stderr, "no such role: %q\n", role)
		os.Exit(2)
	}
}

// startProbe runs a probe until the test ends, or skips the test.
func startProbe(t testing.TB, feature string, edit func(*Config)) *prometheus.Registry {
	t.Helper()
	reg, _ := runProbe(t, feature, edit)
	return reg
}

func runProbe(t testing.TB, feature string, edit func(*Config)) (*prometheus.Registry, *Probe) {
	t.Helper()
	c := DefaultConfig()
	c.Features = []string{feature}
	if edit != nil {
		edit(&c)
	}
	p, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	for _, c := range p.Collectors() {
		require.NoError(t, reg.Register(c))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	<-p.Started()
	if state, reason := p.Feature(feature); state != Loaded {
		t.Skipf("eBPF feature %s is %s: %s", feature, state, reason)
	}
	return reg, p
}

// startRole starts this binary again, and gives its first line of output.
func startRole(t testing.TB, role string, args ...string) (line string, pid int) {
	t.Helper()
	line, pid, stop := startStoppable(t, role, args...)
	t.Cleanup(stop)
	return line, pid
}

func startStoppable(t testing.TB, role string, args ...string) (line string, pid int, stop func()) {
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

// serveForTest is the role server: net/http on a port of the system's choice,
// until its standard input ends.
func serveForTest() {
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

// clientForTest is the role client: GETs the URL as often as told, one after
// another, says how that went, and stays until its standard input ends.
func clientForTest() {
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

// namespaceForTest is the role namespace: in a network of its own, a server and
// its client.
func namespaceForTest() {
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

// family gathers the series of one metric whose labels contain all of want.
func family(t testing.TB, reg *prometheus.Registry, name string, want map[string]string) []*dto.Metric {
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

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return port
}
