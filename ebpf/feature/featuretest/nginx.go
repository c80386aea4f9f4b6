package featuretest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/realnginx"
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

const fixedAnswers = `
		location /hello { return 200 "hello\n"; }
		location /away { return 302 /hello; }
		location /broken { return 503; }
`

// StartNginx serves static files, fixed answers and a proxy to upstream, and
// gives the port.
func StartNginx(t testing.TB, upstream string) (port string, nginx *realnginx.Server) {
	t.Helper()
	return startNginx(t, realnginx.Config{
		IPv6:   true,
		HTTP:   "upstream app { server " + upstream + "; keepalive 8; keepalive_timeout 1h; }",
		Server: fixedAnswers + proxied("http"),
	})
}

func proxied(scheme string) string {
	return `
		location /app/ {
			proxy_pass ` + scheme + `://app/;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
`
}

// StartNginxTLS serves fixed answers and a file over TLS, with HTTP/1.1 and
// HTTP/2, and gives the port.
func StartNginxTLS(t testing.TB) (port string, nginx *realnginx.Server) {
	t.Helper()
	return startNginx(t, overTLS(t, ""))
}

// StartNginxTLSProxy is StartNginxTLS with a proxy to upstream, by http or https.
func StartNginxTLSProxy(t testing.TB, scheme, upstream string) (port string, nginx *realnginx.Server) {
	t.Helper()
	c := overTLS(t, proxied(scheme))
	c.HTTP = "upstream app { server " + upstream + "; keepalive 8; keepalive_timeout 1h; }"
	return startNginx(t, c)
}

func overTLS(t testing.TB, more string) realnginx.Config {
	cert, key := Certificate(t)
	return realnginx.Config{
		Listen: "ssl http2",
		Server: "ssl_certificate " + cert + ";\n\t\tssl_certificate_key " + key + ";" + fixedAnswers + more,
	}
}

func startNginx(t testing.TB, c realnginx.Config) (string, *realnginx.Server) {
	t.Helper()
	c.Executable, c.Dir = findNginx(t), t.TempDir()
	require.NoError(t, os.Chmod(c.Dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, "file"), make([]byte, 50_000), 0o644))
	s, err := realnginx.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s.Port, s
}
