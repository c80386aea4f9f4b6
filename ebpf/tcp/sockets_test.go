package tcp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

func startPrograms(t *testing.T) *prometheus.Registry {
	t.Helper()
	f := New()
	f.only, f.pace.eager = byPrograms, true
	return featuretest.Start(t, f, nil)
}

func startSockets(t *testing.T) *prometheus.Registry {
	t.Helper()
	f := New()
	f.only, f.pace.eager = bySockets, true
	return featuretest.Start(t, f, nil)
}

// Connections that are open when somebody looks are counted exactly.
func TestSocketsOpen(t *testing.T) {
	reg := startSockets(t)
	for _, version := range []string{"4", "6"} {
		addr, _ := featuretest.StartRole(t, "server", version)
		server := map[string]string{"service_name": "test-server", "side": "server", "server_port": featuretest.PortOf(t, addr)}
		var sent, received int
		for range 20 {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			request := append([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n"), make([]byte, 30_000)...)
			_, err = c.Write(request)
			require.NoError(t, err)
			sent += len(request)
			received += readResponse(t, c)
		}
		featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", server, 20)
		featuretest.RequireCounter(t, reg, "tcp_connections", server, 20)
		featuretest.RequireCounter(t, reg, "tcp_received_bytes_total", server, float64(sent))
		featuretest.RequireCounter(t, reg, "tcp_sent_bytes_total", server, float64(received))
		featuretest.RequireCounter(t, reg, "tcp_retransmits_total", server, 0)
		require.Len(t, featuretest.Family(t, reg, "tcp_rtt_seconds", server), 1)

		done, _ := featuretest.StartRole(t, "client", "http://"+addr+"/chunked", "10")
		require.Equal(t, "done", done)
		host, _, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		client := map[string]string{
			"service_name": "test-client", "side": "client", "server_port": featuretest.PortOf(t, addr),
			"server_address": host, "service_peer_name": "test-server",
		}
		featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", client, 1)
		featuretest.RequireCounter(t, reg, "tcp_connections", client, 1)
	}
}

// readResponse reads one response and says how long it was on the wire.
func readResponse(t *testing.T, c net.Conn) int {
	t.Helper()
	var b bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &b)), nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	return b.Len()
}

// Counts stay when connections and processes end, and those that ended are not
// open.
func TestSocketsEnd(t *testing.T) {
	reg := startSockets(t)
	addr, _, stop := featuretest.StartStoppable(t, "server", "4")
	server := map[string]string{"service_name": "test-server", "side": "server", "server_port": featuretest.PortOf(t, addr)}
	c := featuretest.NewClient(t, true)
	featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", server, 1)
	stop()
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", server, 1)
	require.Eventually(t, func() bool { return len(featuretest.Family(t, reg, "tcp_connections", server)) == 0 }, time.Minute, 10*time.Millisecond)
}

func TestSocketsNamespace(t *testing.T) {
	reg := startSockets(t)
	line, _ := featuretest.StartRole(t, "namespace")
	if !strings.HasPrefix(line, "127.0.0.1:") {
		t.Skipf("no network namespace: %s", line)
	}
	port := featuretest.PortOf(t, line)
	for _, side := range []string{"client", "server"} {
		labels := map[string]string{"service_name": "test-namespace", "side": side, "server_port": port}
		featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", labels, 1)
		featuretest.RequireCounter(t, reg, "tcp_connections", labels, 1)
	}
}

// rightless is the role rightless: says how far an unprivileged user gets, who
// has a server and its client.
func rightless() {
	start := func(role string, args ...string) string {
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE="+role, "OTEL_SERVICE_NAME=test-"+role)
		cmd.Stdin = os.Stdin // ends it
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return err.Error()
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		return strings.TrimSpace(line)
	}
	f := New()
	env := &feature.Environment{
		MaxSeries: 64, Proc: "/proc", Resolver: identity.New("/proc", nil), Peers: new(feature.Peers),
		Self: uint32(os.Getpid()), Logger: slog.New(slog.DiscardHandler),
	}
	state, reason := feature.Climb(f, env)
	fmt.Printf("%s: %s\n", state, reason)
	if state != feature.Loaded {
		return
	}
	addr := start("server", "4")
	fmt.Println(start("client", "http://"+addr+"/chunked", "3"))
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(f); err != nil {
		fmt.Println(err)
		return
	}
	families, err := reg.Gather()
	if err != nil {
		fmt.Println(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == "tcp_connections_opened_total" && strings.HasPrefix(featuretest.Label(m, "service_name"), "test-") {
				fmt.Println(featuretest.Label(m, "service_name"), featuretest.Label(m, "service_peer_name"), m.Counter.GetValue())
			}
		}
	}
	_ = f.Close()
}

// Without any right the processes of the same user are counted.
func TestSocketsRightless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	// A copy that another user may execute.
	dir, err := os.MkdirTemp("", "rightless")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "tcp.test")
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, program, 0o755))
	cmd := exec.Command(path)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=rightless")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	b, err := io.ReadAll(out)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	said := string(b)
	if strings.HasPrefix(said, "denied") || strings.HasPrefix(said, "unsupported") {
		t.Skip(said)
	}
	require.Contains(t, said, "loaded: asks sock_diag")
	// Kernels before 5.8 know no kind of map that the programs need, before it comes to rights.
	require.Regexp(t, `\((missing CAP_BPF and CAP_PERFMON|.*map create: invalid argument)\)\ndone\n`, said)
	require.Contains(t, said, "test-client test-server 1\n")
	require.Contains(t, said, "test-server  1\n")
}

func TestMessages(t *testing.T) {
	fd, err := openDiag()
	require.NoError(t, err)
	defer unix.Close(fd)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	var listener, client bool
	err = dump(fd, func(s *socket) {
		listener = listener || s.state == listening && s.local.String() == l.Addr().String()
		client = client || s.state == established && s.local.String() == c.LocalAddr().String() && s.peer.String() == l.Addr().String() && s.inode != 0
	})
	if err != nil {
		t.Skipf("no sock_diag: %v", err)
	}
	require.True(t, listener)
	require.True(t, client)

	for _, bad := range [][]byte{{1: 0, 15: 0}, append([]byte{20}, make([]byte, 15)...)} {
		_, err := messages(bad, func(*socket) {})
		require.ErrorIs(t, err, errShort)
	}
}

func FuzzMessages(f *testing.F) {
	one := append(request(unix.AF_INET), make([]byte, 400)...)
	one[0], one[1] = byte(len(one)&0xff), byte(len(one)>>8)
	one[messageHead+diagSize], one[messageHead+diagSize+2] = 200, diagInfo
	f.Add(one)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = messages(b, func(*socket) {})
	})
}
