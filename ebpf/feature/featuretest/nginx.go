package featuretest

import (
	"bytes"
	"fmt"
	"net"
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

// StartNginx serves static files, fixed answers and a proxy to upstream, and
// gives the port.
func StartNginx(t testing.TB, upstream string) (port string, master int) {
	t.Helper()
	nginx := findNginx(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	port = FreePort(t)
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
