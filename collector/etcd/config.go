package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

func init() { discovery.RegisterConfig(&Config{}) }

// Config is one entry of etcd_sd_configs.
type Config struct {
	// Endpoints are members of the etcd cluster: host:port, or a URL with http or
	// https. One that answers is enough.
	Endpoints []string `yaml:"endpoints"`

	// Prefix is what the keys of all services begin with, such as /service/; a
	// slash at its end is added if it is missing.
	Prefix string `yaml:"prefix"`

	// Username is whom to log in as; etcd then wants a password, too.
	Username string `yaml:"username,omitempty"`

	// Password of Username.
	Password promconfig.Secret `yaml:"password,omitempty"`

	// PasswordFile holds the password of Username; it is read at every login.
	PasswordFile string `yaml:"password_file,omitempty"`

	// TLSConfig says how to speak TLS; without it https endpoints are checked
	// against the roots of the system.
	TLSConfig *promconfig.TLSConfig `yaml:"tls_config,omitempty"`

	// Timeout bounds connecting, a login, and every page of a listing.
	Timeout model.Duration `yaml:"timeout,omitempty"`
}

// DefaultConfig returns the values of the keys that are not given.
func DefaultConfig() Config {
	return Config{Timeout: model.Duration(10 * time.Second)}
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = DefaultConfig()
	type plain Config
	if err := unmarshal((*plain)(c)); err != nil {
		return err
	}
	if c.Prefix != "" && !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	return c.Validate()
}

// Validate names the keys whose values are not possible.
func (c *Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("etcd_sd_configs: "+format, args...)) }
	if len(c.Endpoints) == 0 {
		fault("endpoints: got none, want at least one")
	}
	for _, e := range c.Endpoints {
		if err := checkEndpoint(e); err != nil {
			fault("endpoints: %w", err)
		} else if secure(e) != secure(c.Endpoints[0]) {
			fault("endpoints: got %q beside %q, want https for all or for none", e, c.Endpoints[0])
		}
	}
	if c.Prefix == "" {
		fault("prefix: got nothing, want the beginning of the services' keys, such as /service/")
	}
	switch {
	case c.Password != "" && c.PasswordFile != "":
		fault("password: got password_file, too, want one of them")
	case c.Username != "" && c.Password == "" && c.PasswordFile == "":
		fault("username: got no password, want password or password_file")
	case c.Username == "" && (c.Password != "" || c.PasswordFile != ""):
		fault("password: got no username, want one")
	}
	if c.TLSConfig != nil {
		if err := c.TLSConfig.Validate(); err != nil {
			fault("tls_config: %w", err)
		}
		if len(c.Endpoints) > 0 && strings.HasPrefix(c.Endpoints[0], "http:") {
			fault("tls_config: got endpoint %q, want https", c.Endpoints[0])
		}
	}
	if c.Timeout <= 0 {
		fault("timeout: got %s, want > 0s", c.Timeout)
	}
	return errors.Join(errs...)
}

func secure(endpoint string) bool { return strings.HasPrefix(endpoint, "https://") }

func checkEndpoint(e string) error {
	address := e
	if strings.Contains(e, "://") {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			return fmt.Errorf("got %q, want host:port, http://host:port or https://host:port", e)
		}
		address = u.Host
	}
	if err := checkAddress(address); err != nil {
		return fmt.Errorf("%w, or http:// or https:// before it", err)
	}
	return nil
}

// SetDirectory joins relative file names with dir.
func (c *Config) SetDirectory(dir string) {
	c.PasswordFile = promconfig.JoinDir(dir, c.PasswordFile)
	if c.TLSConfig != nil {
		c.TLSConfig.SetDirectory(dir)
	}
}

// Name implements discovery.Config.
func (*Config) Name() string { return "etcd" }

// NewDiscovererMetrics implements discovery.Config.
func (*Config) NewDiscovererMetrics(reg prometheus.Registerer, _ discovery.RefreshMetricsInstantiator) discovery.DiscovererMetrics {
	return newMetrics(reg)
}

// NewDiscoverer implements discovery.Config.
func (c *Config) NewDiscoverer(o discovery.DiscovererOptions) (discovery.Discoverer, error) {
	return New(*c, o)
}

// dial returns a client that lives until ctx ends; it connects when it is used. Secrets and certificates
// are read anew each time.
func (c *Config) dial(ctx context.Context) (*clientv3.Client, error) {
	conf := clientv3.Config{
		Context:              ctx,
		Endpoints:            c.Endpoints,
		DialTimeout:          time.Duration(c.Timeout),
		DialKeepAliveTime:    10 * time.Second, // etcd allows one in five seconds
		DialKeepAliveTimeout: 5 * time.Second,
		Username:             c.Username,
		Password:             string(c.Password),
		Logger:               zap.NewNop(), // what it has to say comes back as errors, too
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 2, Jitter: .2, MaxDelay: lastRetry},
			MinConnectTimeout: time.Duration(c.Timeout),
		})},
	}
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("read password_file: %w", err)
		}
		conf.Password = strings.TrimSpace(string(text))
	}
	switch {
	case c.TLSConfig != nil:
		t, err := promconfig.NewTLSConfig(c.TLSConfig)
		if err != nil {
			return nil, fmt.Errorf("read tls_config: %w", err)
		}
		conf.TLS = t
	case secure(c.Endpoints[0]):
		conf.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	client, err := clientv3.New(conf)
	if err != nil {
		return nil, fmt.Errorf("log in to etcd: %w", c.explain(err))
	}
	return client, nil
}

// explain names whom a request that got no answer went to.
func (c *Config) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer from %s within %s: %w", strings.Join(c.Endpoints, ", "), c.Timeout, err)
	}
	return err
}
