package probe

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// requireCounter waits for the sum of a counter over the series with these
// labels to reach want, and wants it to be exactly that.
func requireCounter(t *testing.T, reg *prometheus.Registry, name string, labels map[string]string, want float64) {
	t.Helper()
	sum := func() (n float64) {
		for _, m := range family(t, reg, name, labels) {
			n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
		return n
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) && sum() < want {
		<-time.After(10 * time.Millisecond)
	}
	if sum() != want {
		for _, m := range family(t, reg, name, nil) {
			t.Log(m)
		}
	}
	require.Equal(t, want, sum(), "%s%v", name, labels)
}

func TestTCPServerAndClient(t *testing.T) {
	reg := startProbe(t, "tcp", nil)
	addr, _ := startRole(t, "server", "4")
	port := portOf(t, addr)
	// Short connections, gone before anybody looks.
	c := newClient(t, false)
	for range 20 {
		get(t, c, "GET", "http://"+addr+"/status/200", nil)
	}
	server := map[string]string{"service_name": "test-server", "side": "server", "server_port": port}
	requireCounter(t, reg, "tcp_connections_opened_total", server, 20)

	done, _ := startRole(t, "client", "http://"+addr+"/chunked", "10")
	require.Equal(t, "done", done)
	client := map[string]string{"service_name": "test-client", "side": "client", "server_port": port, "server_address": "127.0.0.1"}
	requireCounter(t, reg, "tcp_connections_opened_total", client, 1)
	requireCounter(t, reg, "tcp_connections", client, 1)
	require.Len(t, family(t, reg, "tcp_rtt_seconds", client), 1)
}

func TestTCPBytes(t *testing.T) {
	reg := startProbe(t, "tcp", nil)
	addr, _ := startRole(t, "server", "4")
	server := map[string]string{"service_name": "test-server", "server_port": portOf(t, addr)}
	var sent, received int
	for range 3 {
		c, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		request := append([]byte("POST /echo HTTP/1.0\r\nContent-Length: 200000\r\n\r\n"), make([]byte, 200_000)...)
		_, err = c.Write(request)
		require.NoError(t, err)
		response, err := io.ReadAll(c)
		require.NoError(t, err)
		c.Close()
		sent += len(request)
		received += len(response)
	}
	requireCounter(t, reg, "tcp_received_bytes_total", server, float64(sent))
	requireCounter(t, reg, "tcp_sent_bytes_total", server, float64(received))
}

func TestTCPRefused(t *testing.T) {
	reg := startProbe(t, "tcp", nil)
	port := freePort(t)
	line, _ := startRole(t, "client", "http://127.0.0.1:"+port+"/", "1")
	require.Contains(t, line, "refused")
	requireCounter(t, reg, "tcp_connect_errors_total", map[string]string{
		"service_name": "test-client", "server_address": "127.0.0.1", "server_port": port, "error": "ECONNREFUSED"}, 1)
}

// A connection that was there before the probe is counted from then on.
func TestTCPOlderConnection(t *testing.T) {
	addr, _ := startRole(t, "server", "4")
	c := newClient(t, true)
	get(t, c, "GET", "http://"+addr+"/status/200", nil)
	reg := startProbe(t, "tcp", nil)
	server := map[string]string{"service_name": "test-server", "server_port": portOf(t, addr)}
	requireCounter(t, reg, "tcp_connections", server, 1)
	requireCounter(t, reg, "tcp_received_bytes_total", server, 0)
	before := len(family(t, reg, "tcp_received_bytes_total", server))
	require.Equal(t, 1, before)
	body := make([]byte, 10_000)
	resp, err := c.Post("http://"+addr+"/echo", "text/plain", bytes.NewReader(body))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Eventually(t, func() bool {
		m := family(t, reg, "tcp_received_bytes_total", server)
		return len(m) == 1 && m[0].Counter.GetValue() >= 10_000 && m[0].Counter.GetValue() < 11_000
	}, 10*time.Second, 10*time.Millisecond)
	requireCounter(t, reg, "tcp_connections_opened_total", server, 0)
}
