package probe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// findNginx gives the path of a real nginx, or skips.
func findNginx(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	path, err := filepath.Abs("../../.cache/tools/usr/sbin/nginx")
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skip("nginx is missing; make test-tools unpacks it")
	}
	return path
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return portOf(t, l.Addr().String())
}

// startNginx serves static files, fixed answers and a proxy to upstream, and
// gives the port.
func startNginx(t testing.TB, upstream string) (port string, master int) {
	t.Helper()
	nginx := findNginx(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	port = freePort(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 50_000), 0o644))
	conf := fmt.Sprintf(`
user root;
daemon off;
worker_processes 2;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream app { server %[3]s; keepalive 8; }
	server {
		listen 127.0.0.1:%[2]s;
		listen [::1]:%[2]s;
		root %[1]s;
		location /hello { return 200 "hello\n"; }
		location /away { return 302 /hello; }
		location /broken { return 503; }
		location /app/ {
			proxy_pass http://app/;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, dir, port, upstream)
	path := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o644))
	cmd := exec.Command(nginx, "-c", path, "-p", dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}, 10*time.Second, 10*time.Millisecond, "nginx does not answer: %s", &log)
	return port, cmd.Process.Pid
}

func TestHTTPNginx(t *testing.T) {
	reg := startProbe(t, "http", nil)
	app, _ := startRole(t, "server", "4")
	port, _ := startNginx(t, app)
	want := make(counts)
	for _, host := range []string{"127.0.0.1:", "[::1]:"} {
		for _, keepAlive := range []bool{true, false} {
			c := newClient(t, keepAlive)
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			for range 25 {
				url := "http://" + host + port
				get(t, c, "GET", url+"/hello", nil)
				get(t, c, "GET", url+"/file", nil)
				get(t, c, "HEAD", url+"/file", nil)
				get(t, c, "GET", url+"/missing", nil)
				get(t, c, "GET", url+"/away", nil)
				get(t, c, "GET", url+"/broken", nil)
				get(t, c, "POST", url+"/hello", bytes.NewReader(make([]byte, 3000)))
				get(t, c, "POST", url+"/app/echo", bytes.NewReader(make([]byte, 30_000)))
				get(t, c, "GET", url+"/app/chunked", nil)
				get(t, c, "GET", url+"/app/status/500", nil)
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
	requireCounts(t, reg, "server", portOf(t, app), behind)
	requireCounts(t, reg, "client", portOf(t, app), behind)
	for _, m := range family(t, reg, "http_server_request_duration_seconds", map[string]string{"server_port": port}) {
		require.Equal(t, "nginx", label(m, "service_name"))
	}
	require.Empty(t, countsOn(t, reg, "client", port), "the probe sees its own process")
}

func TestHTTPNginxPipelining(t *testing.T) {
	reg := startProbe(t, "http", nil)
	port, _ := startNginx(t, "127.0.0.1:1")
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
