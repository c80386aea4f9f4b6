package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestHTTPNginx(t *testing.T) {
	reg := start(t, nil)
	app, _ := featuretest.StartRole(t, "server", "4")
	port, _ := featuretest.StartNginx(t, app)
	want := make(counts)
	for _, host := range []string{"127.0.0.1:", "[::1]:"} {
		for _, keepAlive := range []bool{true, false} {
			c := featuretest.NewClient(t, keepAlive)
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			for range 25 {
				url := "http://" + host + port
				featuretest.Get(t, c, "GET", url+"/hello", nil)
				featuretest.Get(t, c, "GET", url+"/file", nil)
				featuretest.Get(t, c, "HEAD", url+"/file", nil)
				featuretest.Get(t, c, "GET", url+"/missing", nil)
				featuretest.Get(t, c, "GET", url+"/away", nil)
				featuretest.Get(t, c, "GET", url+"/broken", nil)
				featuretest.Get(t, c, "POST", url+"/hello", bytes.NewReader(make([]byte, 3000)))
				featuretest.Get(t, c, "POST", url+"/app/echo", bytes.NewReader(make([]byte, 30_000)))
				featuretest.Get(t, c, "GET", url+"/app/chunked", nil)
				featuretest.Get(t, c, "GET", url+"/app/status/500", nil)
			}
			want["GET 200"] += 75
			want["HEAD 200"] += 25
			want["GET 404"] += 25
			want["GET 302"] += 25
			want["GET 503"] += 25
			want["POST 200"] += 50
			want["GET 500"] += 25
		}
	}
	requireCounts(t, reg, "server", port, want)
	behind := counts{"POST 200": 100, "GET 200": 100, "GET 500": 100}
	requireCounts(t, reg, "server", featuretest.PortOf(t, app), behind)
	requireCounts(t, reg, "client", featuretest.PortOf(t, app), behind)
	for _, m := range featuretest.Family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port}) {
		require.Equal(t, "nginx", featuretest.Label(m, "service_name"))
	}
	require.Empty(t, countsOn(t, reg, "client", port), "the probe sees its own process")
}

func TestHTTPNginxPipelining(t *testing.T) {
	reg := start(t, nil)
	port, _ := featuretest.StartNginx(t, "127.0.0.1:1")
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	require.NoError(t, err)
	defer c.Close()
	const requests = 200
	var b bytes.Buffer
	for i := range requests {
		path := "/hello"
		if i%2 == 1 {
			path = "/missing"
		}
		fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	}
	go c.Write(b.Bytes())
	r := bufio.NewReader(c)
	for range requests {
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
	}
	requireCounts(t, reg, "server", port, counts{"GET 200": requests / 2, "GET 404": requests / 2})
}
