package etcd

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/stretchr/testify/require"
)

func load(section string) (*Config, error) {
	c, err := config.Load("scrape_configs:\n- job_name: services\n  etcd_sd_configs:\n  - "+strings.ReplaceAll(section, "\n", "\n    "), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	c.SetDirectory("/etc/vedette")
	return c.ScrapeConfigs[0].ServiceDiscoveryConfigs[0].(*Config), nil
}

func TestConfig(t *testing.T) {
	c, err := load("endpoints: ['10.0.0.1:2379', '[::1]:2379']\nprefix: /service")
	require.NoError(t, err)
	require.Equal(t, "/service/", c.Prefix)
	require.Equal(t, model.Duration(10*time.Second), c.Timeout)

	c, err = load(`endpoints: ["https://etcd.example:2379"]
prefix: /service/
username: vedette
password_file: password
timeout: 3s
tls_config: {ca_file: ca.pem, cert_file: /keys/cert.pem, key_file: key.pem}`)
	require.NoError(t, err)
	require.Equal(t, filepath.FromSlash("/etc/vedette/password"), c.PasswordFile)
	require.Equal(t, "/etc/vedette/ca.pem", c.TLSConfig.CAFile)
	require.Equal(t, "/keys/cert.pem", c.TLSConfig.CertFile)
	require.Equal(t, "/etc/vedette/key.pem", c.TLSConfig.KeyFile)
}

func TestBadConfig(t *testing.T) {
	for _, tc := range []struct{ section, want string }{
		{"prefix: /a/", "endpoints: got none, want at least one"},
		{"endpoints: ['a:1']", "prefix: got nothing, want the beginning of the services' keys, such as /service/"},
		{"endpoints: [etcd]\nprefix: /a/", `endpoints: got "etcd", want host:port, or http:// or https:// before it`},
		{"endpoints: ['etcd:0']\nprefix: /a/", "want a port from 1 to 65535"},
		{"endpoints: ['ftp://etcd:21']\nprefix: /a/", `endpoints: got "ftp://etcd:21", want host:port, http://host:port or https://host:port`},
		{"endpoints: ['http://user@etcd:21']\nprefix: /a/", "want host:port, http://host:port"},
		{"endpoints: ['https://a:1', 'b:1']\nprefix: /a/", `endpoints: got "b:1" beside "https://a:1", want https for all or for none`},
		{"endpoints: ['http://a:1']\nprefix: /a/\ntls_config: {insecure_skip_verify: true}", `tls_config: got endpoint "http://a:1", want https`},
		{"endpoints: ['a:1']\nprefix: /a/\ntls_config: {cert_file: x}", "exactly one of key or key_file"},
		{"endpoints: ['a:1']\nprefix: /a/\nusername: u", "username: got no password, want password or password_file"},
		{"endpoints: ['a:1']\nprefix: /a/\npassword: u", "password: got no username, want one"},
		{"endpoints: ['a:1']\nprefix: /a/\nusername: u\npassword: p\npassword_file: f", "password: got password_file, too, want one of them"},
		{"endpoints: ['a:1']\nprefix: /a/\ntimeout: 0s", "timeout: got 0s, want > 0s"},
		{"endpoints: ['a:1']\nprefixes: /a/", "field prefixes not found"},
	} {
		_, err := load(tc.section)
		require.ErrorContains(t, err, tc.want, tc.section)
	}
	// Every fault is named at once.
	_, err := load("endpoints: [etcd]\nusername: u")
	for _, key := range []string{"endpoints: ", "prefix: ", "username: "} {
		require.ErrorContains(t, err, key)
	}
}

func TestMetricsRegister(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	require.NoError(t, m.Register())
	other := newMetrics(reg)
	require.Error(t, other.Register())
	m.Unregister()
	require.NoError(t, other.Register())

	c, err := load("endpoints: ['a:1']\nprefix: /a/")
	require.NoError(t, err)
	_, err = c.NewDiscoverer(discovery.DiscovererOptions{Metrics: &discovery.NoopDiscovererMetrics{}})
	require.ErrorContains(t, err, "want those of NewDiscovererMetrics")
}
