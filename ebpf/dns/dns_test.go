package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

var testBounds = []float64{0.001, 0.01, 0.1, 1}

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"nameserver": nameserver, "resolver": resolver, "unconnected": unconnected, "vector": vector, "asker": asker})
}

// nameserver is a name server on 127.0.0.1, or what the first argument says, UDP
// and TCP. What it answers is told by the first label that is asked for. With a
// second argument the loopback device is brought up first.
func nameserver() {
	host, port := "127.0.0.1", "0"
	if len(os.Args) > 1 && os.Args[1] != "" {
		host = os.Args[1]
	}
	if len(os.Args) > 2 {
		port = os.Args[2]
		raise()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			if r := respond(b[:n], false); r != nil {
				_, _ = u.WriteTo(r, from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveTCP(c)
		}
	}()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func serveTCP(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if r := respond(b, true); r != nil {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...))
		}
	}
}

func respond(b []byte, tcp bool) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	label, _, _ := strings.Cut(q.Name.String(), ".")
	m.Header.Response, m.Header.RecursionAvailable = true, true
	m.Additionals = nil
	switch {
	case label == "drop":
		return nil
	case label == "nx":
		m.Header.RCode = dnsmessage.RCodeNameError
	case label == "fail":
		m.Header.RCode = dnsmessage.RCodeServerFailure
	case label == "big" && !tcp:
		m.Header.Truncated = true
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		}}
	}
	r, err := m.Pack()
	if err != nil {
		return nil
	}
	return r
}

// raise brings up the loopback device.
func raise() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// resolver asks the server of its first argument for IPv4 addresses of the others,
// with Go's own resolver.
func resolver() {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, os.Args[1])
	}}
	for _, name := range os.Args[2:] {
		_, _ = r.LookupIP(context.Background(), "ip4", name)
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func question(id uint16, name string) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(strings.TrimSuffix(name, ".") + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		fatal(err)
	}
	return b
}

// unconnected asks over one socket that is not connected, and once more for
// what was dropped.
func unconnected() {
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		fatal(err)
	}
	to, err := net.ResolveUDPAddr("udp", os.Args[1])
	if err != nil {
		fatal(err)
	}
	b := make([]byte, 512)
	for i, name := range os.Args[2:] {
		if _, err := c.WriteTo(question(uint16(i), name), to); err != nil {
			fatal(err)
		}
		if strings.HasPrefix(name, "drop") {
			_, _ = c.WriteTo(question(uint16(i), name), to) // sent again
			continue
		}
		if _, _, err := c.ReadFrom(b); err != nil {
			fatal(err)
		}
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// vector is a server that reads with recvmmsg and answers with sendmmsg, 3
// messages at a time, and its client.
func vector() {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		fatal(err)
	}
	client, err := net.Dial("udp4", server.LocalAddr().String())
	if err != nil {
		fatal(err)
	}
	fmt.Println(server.LocalAddr())
	one := make([]byte, 1)
	_, _ = os.Stdin.Read(one) // the ports are known
	sock, err := server.(*net.UDPConn).File()
	if err != nil {
		fatal(err)
	}
	var v vectors
	b := make([]byte, 512)
	for round := range 4 {
		n := 1 + round%3
		for i := range n {
			if _, err := client.Write(question(uint16(round*8+i), fmt.Sprintf("n%d.example.org", i))); err != nil {
				fatal(err)
			}
		}
		got := v.receive(int(sock.Fd()), n)
		v.answer(int(sock.Fd()), got)
		for range got {
			if _, err := client.Read(b); err != nil {
				fatal(err)
			}
		}
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// start loads the feature for a port, by the way named, or by the best.
func start(t *testing.T, port int, edit func(*Config), only ...string) *prometheus.Registry {
	t.Helper()
	c := DefaultConfig()
	c.Ports = []int{port}
	if edit != nil {
		edit(&c)
	}
	require.NoError(t, c.Validate())
	f := New(c, testBounds)
	f.only = strings.Join(only, "")
	return featuretest.Start(t, f, nil)
}

func portOf(t *testing.T, addr string) int {
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	n, err := net.LookupPort("udp", port)
	require.NoError(t, err)
	return n
}

// lookups sums a histogram's counts over the series with these labels.
func lookups(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string) (n uint64) {
	for _, m := range featuretest.Family(t, reg, name, labels) {
		n += m.GetHistogram().GetSampleCount()
	}
	return n
}

// requireLookups waits for a histogram's counts, and wants exactly that many.
func requireLookups(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string, want int) {
	t.Helper()
	featuretest.Await(func() uint64 { return lookups(t, reg, name, labels) }, uint64(want))
	if got := lookups(t, reg, name, labels); got != uint64(want) {
		for _, m := range featuretest.Family(t, reg, name, nil) {
			t.Log(m)
		}
		require.Equal(t, uint64(want), got, "%s%v", name, labels)
	}
}

const (
	asked    = "dns_lookup_duration_seconds"
	answered = "dns_server_lookup_duration_seconds"
)

// Go's resolver: a socket for each lookup, EDNS, TCP after a truncated answer.
func TestGoResolver(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			addr, _ := featuretest.StartRole(t, "nameserver", host)
			reg := start(t, portOf(t, addr), nil)
			names := []string{"a.example.com.", "b.example.com.", "nx.example.co.uk.", "fail.example.net.", "big.example.com."}
			line, _ := featuretest.StartRole(t, "resolver", append([]string{addr}, names...)...)
			require.Equal(t, "done", line)
			for _, side := range []struct{ metric, service string }{{asked, "test-resolver"}, {answered, "test-nameserver"}} {
				want := func(n int, domain, code, failure string) {
					t.Helper()
					requireLookups(t, reg, side.metric, map[string]string{
						"service_name": side.service, "dns_question_name": domain, "dns_question_type": "A",
						"dns_response_code": code, "error_type": failure}, n)
				}
				want(4, "example.com", "NOERROR", "") // a, b, and big twice: UDP and TCP
				want(1, "example.co.uk", "NXDOMAIN", "NXDOMAIN")
				requireLookups(t, reg, side.metric, map[string]string{"service_name": side.service, "dns_response_code": "NOERROR"}, 4)
			}
			// The resolver asks a server that fails twice.
			requireLookups(t, reg, asked, map[string]string{"dns_response_code": "SERVFAIL", "error_type": "SERVFAIL", "server_address": host}, 2)
			requireLookups(t, reg, asked, map[string]string{"service_name": "test-resolver", "server_address": host}, 7)
			requireNothingLost(t, reg)
		})
	}
}

func requireNothingLost(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	for _, m := range featuretest.Family(t, reg, "vedette_ebpf_dns_lost_total", nil) {
		require.Zero(t, m.GetCounter().GetValue(), featuretest.Label(m, "reason"))
	}
}

// What is dropped is counted once, however often it is asked, when its time is up.
func TestTimeout(t *testing.T) {
	addr, _ := featuretest.StartRole(t, "nameserver")
	const timeout = 2 * time.Second // a busy machine answers within it
	reg := start(t, portOf(t, addr), func(c *Config) { c.Timeout = timeout })
	line, _ := featuretest.StartRole(t, "unconnected", addr, "drop.example.com", "a.example.com", "drop.example.com", "nx.example.com")
	require.Equal(t, "done", line)
	labels := map[string]string{"service_name": "test-unconnected", "error_type": "timeout", "dns_response_code": "", "server_address": "127.0.0.1"}
	requireLookups(t, reg, asked, labels, 2)
	labels["error_type"], labels["dns_response_code"] = "", "NOERROR"
	requireLookups(t, reg, asked, labels, 1)
	requireLookups(t, reg, asked, map[string]string{"service_name": "test-unconnected"}, 4)
	requireLookups(t, reg, answered, map[string]string{"service_name": "test-nameserver", "error_type": "timeout"}, 2)
	for _, m := range featuretest.Family(t, reg, asked, map[string]string{"error_type": "timeout"}) {
		require.InDelta(t, 2*timeout.Seconds(), m.GetHistogram().GetSampleSum(), 0.001)
	}
}

func TestNamesAreBounded(t *testing.T) {
	addr, _ := featuretest.StartRole(t, "nameserver")
	reg := start(t, portOf(t, addr), func(c *Config) { c.Names = 2 })
	line, _ := featuretest.StartRole(t, "unconnected", addr,
		"a.one.com", "a.two.com", "a.three.com", "a.four.com", "b.one.com", "big.two.com")
	require.Equal(t, "done", line)
	for domain, n := range map[string]int{"one.com": 2, "two.com": 2, "other": 2} {
		requireLookups(t, reg, asked, map[string]string{"service_name": "test-unconnected", "dns_question_name": domain}, n)
	}
}

// A resolver that asks any number of name servers leaves room for others.
func TestServersAreBounded(t *testing.T) {
	f := New(DefaultConfig(), testBounds)
	f.env = &feature.Environment{Resolver: identity.New(t.TempDir(), nil)}
	f.tally = feature.NewTally[series, histogram](4096)
	f.domains = make(map[feature.Who]map[string]struct{})
	f.servers = make(map[feature.Who]map[netip.Addr]struct{})
	for i := range 1000 {
		l := bpf.DnsDnsLookup{Tgid: 1, Addr: [4]uint32{1, 2, 3, uint32(i)}}
		l.NameLength = uint16(copy(l.Name[:], "\x07example\x03com\x00"))
		f.countLocked(&l, false)
	}
	require.Equal(t, maxServers+1, f.tally.Len())
	f.tally.Each(func(s series, h *histogram) {
		if !s.addr.IsValid() {
			require.EqualValues(t, 1000-maxServers, h.counts[0])
		}
	})
}

func TestNamesOff(t *testing.T) {
	addr, _ := featuretest.StartRole(t, "nameserver")
	reg := start(t, portOf(t, addr), func(c *Config) { c.Names = 0 })
	line, _ := featuretest.StartRole(t, "unconnected", addr, "a.one.com", "a.two.com")
	require.Equal(t, "done", line)
	requireLookups(t, reg, asked, map[string]string{"service_name": "test-unconnected", "dns_question_name": ""}, 2)
	require.Len(t, featuretest.Family(t, reg, asked, nil), 1)
}

// The C library asks for both kinds of address with one sendmmsg, and its
// processes are gone in an instant.
func TestCLibrary(t *testing.T) {
	for _, tool := range []string{"unshare", "getent", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing", tool)
		}
	}
	reg := start(t, 53, nil)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	require.NoError(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644))
	// The server runs in the network that the clients are in.
	cmd := exec.Command("unshare", "-n", "-m", "sh", "-c", `
mount --bind "$CONF" /etc/resolv.conf || exit 1
mkfifo "$CONF.ready" "$CONF.end"
OTEL_SERVICE_NAME=test-nameserver VEDETTE_PROBE_TEST_ROLE=nameserver "$EXE" 127.0.0.1 53 <"$CONF.end" >"$CONF.ready" &
exec 3>"$CONF.end"
read -r line <"$CONF.ready"
for i in 1 2 3 4 5; do getent ahosts "n$i.example.com"; getent ahosts "nx.example.com"; done
exec 3>&-
wait`)
	cmd.Env = append(os.Environ(), "CONF="+conf, "EXE="+os.Args[0])
	out, err := cmd.CombinedOutput()
	if err != nil && bytes.Contains(out, []byte("not permitted")) {
		t.Skipf("no namespaces: %s", out)
	}
	require.NoError(t, err, string(out))
	require.Equal(t, 5, bytes.Count(out, []byte("STREAM")), string(out))
	// Some of them are gone before their environment can be read.
	want := func(metric, executable, kind, code string, n int) {
		t.Helper()
		requireLookups(t, reg, metric, map[string]string{
			"process_executable_name": executable, "dns_question_type": kind, "dns_response_code": code}, n)
	}
	for metric, executable := range map[string]string{asked: "getent", answered: filepath.Base(os.Args[0])} {
		want(metric, executable, "A", "NOERROR", 5)
		want(metric, executable, "AAAA", "NOERROR", 5)
		want(metric, executable, "A", "NXDOMAIN", 5)
		want(metric, executable, "AAAA", "NXDOMAIN", 5)
	}
}

// Vectors of messages: each is counted once, though which buffers the kernel has
// filled is not known.
func TestVectors(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=vector", "OTEL_SERVICE_NAME=test-vector")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		in.Close()
		_ = cmd.Wait()
	}()
	var addr string
	_, err = fmt.Fscanln(out, &addr)
	require.NoError(t, err)
	reg := start(t, portOf(t, addr), nil)
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	var line string
	_, err = fmt.Fscanln(out, &line)
	require.NoError(t, err)
	require.Equal(t, "done", line)
	requireLookups(t, reg, asked, map[string]string{"service_name": "test-vector"}, 1+2+3+1)
	requireLookups(t, reg, answered, map[string]string{"service_name": "test-vector"}, 1+2+3+1)
}

func TestNameOf(t *testing.T) {
	for in, want := range map[string]string{
		"\x00":                        ".",
		"\x07example\x03COM\x00":      "example.com",
		"\x03a.b\x02\x01\\\x01\"\x00": `a\.b.\001\\.\"`,
	} {
		got, ok := nameOf([]byte(in))
		require.True(t, ok, "%q", in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "\x03ab", "\x01a", "\xc0\x0c", "\x40" + strings.Repeat("a", 64) + "\x00"} {
		_, ok := nameOf([]byte(in))
		require.False(t, ok, "%q", in)
	}
}

func TestDomainOf(t *testing.T) {
	for in, want := range map[string]string{
		"www.example.com":                 "example.com",
		"a.b.example.co.uk":               "example.co.uk",
		"localhost":                       "localhost",
		"com":                             "com",
		"1.2.0.192.in-addr.arpa":          "in-addr.arpa",
		"1.0.ip6.arpa":                    "ip6.arpa",
		"db.shop.svc.cluster.local":       "db.shop.svc.cluster.local",
		"pod-0.db.shop.svc.cluster.local": "db.shop.svc.cluster.local",
	} {
		require.Equal(t, want, domainOf(in), in)
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add([]byte("\x07example\x03com\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, ok := nameOf(b); ok {
			require.NotEmpty(t, domainOf(name))
			require.False(t, strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }))
		}
	})
}

func FuzzDecodeLookup(f *testing.F) {
	f.Add(make([]byte, 76))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, ok := decodeLookup(b); ok {
			_, _ = nameOf(l.Name[:l.NameLength])
		}
	})
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for want, edit := range map[string]func(*Config){
		"ports: got 0, want 1 to 4":       func(c *Config) { c.Ports = nil },
		"ports: got 5":                    func(c *Config) { c.Ports = []int{1, 2, 3, 4, 5} },
		"ports: got 70000, want 1 to 655": func(c *Config) { c.Ports = []int{70000} },
		"timeout: got 0s":                 func(c *Config) { c.Timeout = 0 },
		"names: got -1":                   func(c *Config) { c.Names = -1 },
	} {
		c := DefaultConfig()
		edit(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
}
