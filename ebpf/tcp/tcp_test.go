package tcp

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"crawl": crawl, "rightless": rightless})
}

func TestTCPServerAndClient(t *testing.T) {
	reg := startPrograms(t)
	addr, _ := featuretest.StartRole(t, "server", "4")
	port := featuretest.PortOf(t, addr)
	// Short connections, gone before anybody looks.
	c := featuretest.NewClient(t, false)
	for range 20 {
		featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
	}
	server := map[string]string{"service_name": "test-server", "side": "server", "server_port": port}
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", server, 20)

	done, _ := featuretest.StartRole(t, "client", "http://"+addr+"/chunked", "10")
	require.Equal(t, "done", done)
	client := map[string]string{"service_name": "test-client", "side": "client", "server_port": port, "server_address": "127.0.0.1"}
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", client, 1)
	featuretest.RequireCounter(t, reg, "tcp_connections", client, 1)
	require.Len(t, featuretest.Family(t, reg, "tcp_rtt_seconds", client), 1)
	client["service_peer_name"] = "test-server"
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", client, 1)
}

func TestTCPBytes(t *testing.T) {
	reg := startPrograms(t)
	addr, _ := featuretest.StartRole(t, "server", "4")
	server := map[string]string{"service_name": "test-server", "server_port": featuretest.PortOf(t, addr)}
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
	featuretest.RequireCounter(t, reg, "tcp_received_bytes_total", server, float64(sent))
	featuretest.RequireCounter(t, reg, "tcp_sent_bytes_total", server, float64(received))
}

func TestTCPRefused(t *testing.T) {
	reg := startPrograms(t)
	port := featuretest.FreePort(t)
	line, _ := featuretest.StartRole(t, "client", "http://127.0.0.1:"+port+"/", "1")
	require.Contains(t, line, "refused")
	featuretest.RequireCounter(t, reg, "tcp_connect_errors_total", map[string]string{
		"service_name": "test-client", "server_address": "127.0.0.1", "server_port": port, "error": "ECONNREFUSED"}, 1)
}

// A connection that was there before the probe is counted from then on.
func TestTCPOlderConnection(t *testing.T) {
	for _, way := range []string{byPrograms, bySockets} {
		t.Run(way, func(t *testing.T) { driveOlderConnection(t, way) })
	}
}

func driveOlderConnection(t *testing.T, way string) {
	addr, _ := featuretest.StartRole(t, "server", "4")
	c := featuretest.NewClient(t, true)
	featuretest.Get(t, c, "GET", "http://"+addr+"/status/200", nil)
	f := New()
	f.only = way
	reg := featuretest.Start(t, f, nil)
	server := map[string]string{"service_name": "test-server", "server_port": featuretest.PortOf(t, addr)}
	featuretest.RequireCounter(t, reg, "tcp_connections", server, 1)
	featuretest.RequireCounter(t, reg, "tcp_received_bytes_total", server, 0)
	before := len(featuretest.Family(t, reg, "tcp_received_bytes_total", server))
	require.Equal(t, 1, before)
	body := make([]byte, 10_000)
	resp, err := c.Post("http://"+addr+"/echo", "text/plain", bytes.NewReader(body))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Eventually(t, func() bool {
		m := featuretest.Family(t, reg, "tcp_received_bytes_total", server)
		return len(m) == 1 && m[0].Counter.GetValue() >= 10_000 && m[0].Counter.GetValue() < 11_000
	}, time.Minute, 10*time.Millisecond)
	featuretest.RequireCounter(t, reg, "tcp_connections_opened_total", server, 0)
}
