package tls

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// inMemory are programs that do TLS in memory and carry the bytes themselves.
var inMemory = []struct{ name, program, server, client string }{
	{"asyncio", "python3", "testdata/asyncio_server.py", "testdata/asyncio_client.py"},
	{"node", "node", "testdata/node_server.js", "testdata/node_client.js"},
}

// named makes what the test starts from now on a service of a name that nothing else
// on this host has: without a port, requests cannot be told from those of others.
func named(t *testing.T) (service string) {
	t.Helper()
	service = fmt.Sprintf("in-memory-%d", os.Getpid())
	t.Setenv("OTEL_SERVICE_NAME", service)
	return service
}

// awaitReaders waits until what a number of processes read from memory is watched.
func awaitReaders(t *testing.T, f *Feature, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.readers.all()) >= 2*want
	}, time.Minute, 5*time.Millisecond, "memory is not watched")
}

// Of servers in memory, requests are counted by port from the second connection
// on; those before are counted, too.
func TestMemoryServer(t *testing.T) {
	for _, tc := range inMemory {
		t.Run(tc.name, func(t *testing.T) {
			program, err := exec.LookPath(tc.program)
			if err != nil {
				t.Skip(tc.program + " is missing")
			}
			cert, key := featuretest.Certificate(t)
			service := named(t)
			server := launch(t, program, tc.server, cert, key)
			port := server.line(t)
			f, reg := start(t, service)
			watching(t, reg, 1)
			url := "https://127.0.0.1:" + port + "/status/"
			featuretest.Get(t, featuretest.NewTLSClient(t, false, false), "GET", url+"404", nil)
			awaitReaders(t, f, 1)
			const n, clients = 20, 5
			want := counts{}
			for _, keepAlive := range []bool{true, false} {
				done := make(chan struct{})
				for range clients {
					c := featuretest.NewTLSClient(t, false, keepAlive)
					go func() {
						defer func() { done <- struct{}{} }()
						for range n {
							featuretest.Get(t, c, "GET", url+"200", nil)
							featuretest.Get(t, c, "POST", url+"201", bytes.NewReader(make([]byte, 30_000)))
							featuretest.Get(t, c, "DELETE", url+"503", nil)
						}
					}()
				}
				for range clients {
					<-done
				}
				want["GET 200 1.1"] += n * clients
				want["POST 201 1.1"] += n * clients
				want["DELETE 503 1.1"] += n * clients
			}
			requireMost(t, reg, "server", port, "GET 404 1.1", 1, want)
		})
	}
}

// requireMost wants counts on a port, and n of what, which may be without a port.
func requireMost(t *testing.T, reg *prometheus.Registry, side, port, what string, n uint64, want counts) {
	t.Helper()
	base := want[what]
	deadline := time.Now().Add(time.Minute)
	var with, without counts
	for {
		with, without = countsOn(t, reg, side, port), countsOn(t, reg, side, "")
		if with[what]+without[what] == base+n || time.Now().After(deadline) {
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	require.Equal(t, base+n, with[what]+without[what], "%v and without a port %v", with, without)
	require.GreaterOrEqual(t, with[what], base, "with the port %v, without %v", with, without)
	want[what] = with[what]
	if want[what] == 0 {
		delete(want, what)
	}
	requireCounts(t, reg, side, port, want)
	for k := range without {
		require.Equal(t, what, k, fmt.Sprint("without a port: ", without))
	}
	noSocket := featuretest.Family(t, reg, "vedette_ebpf_tls_lost_total", map[string]string{"reason": "no_socket"})
	require.Len(t, noSocket, 1)
	require.Equal(t, float64(without[what]), noSocket[0].Counter.GetValue())
}

// Likewise of clients.
func TestMemoryClient(t *testing.T) {
	for _, tc := range inMemory {
		t.Run(tc.name, func(t *testing.T) {
			program, err := exec.LookPath(tc.program)
			if err != nil {
				t.Skip(tc.program + " is missing")
			}
			port, _ := featuretest.StartNginxTLS(t)
			service := named(t)
			client := launch(t, program, tc.client, port)
			require.Equal(t, "ready", client.line(t))
			f, reg := start(t, service)
			watching(t, reg, 1)
			ask := func(n int) {
				_, err := client.in.Write([]byte(strconv.Itoa(n) + "\n"))
				require.NoError(t, err)
				require.Equal(t, "done", client.line(t))
			}
			ask(1)
			awaitReaders(t, f, 1)
			ask(30)
			requireMost(t, reg, "client", port, "GET 200 1.1", 5, counts{"GET 200 1.1": 5 * 30})
		})
	}
}
