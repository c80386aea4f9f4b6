package mesos

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/vedette-io/vedette/internal/config"
)

// Config configures a Collector. Without masters and agents it does nothing.
type Config struct {
	// Masters are the URLs of the cluster's masters, such as http://10.0.0.1:5050.
	Masters []string `yaml:"masters"`

	// Agents are the URLs of agents, such as http://127.0.0.1:5051.
	Agents []string `yaml:"agents"`

	// DiscoverAgents asks the masters for the agents of the cluster, and those for
	// their tasks. Set it on one host, or list each host's own agent instead.
	DiscoverAgents bool `yaml:"discover_agents"`

	// Timeout bounds one collection from all masters and agents together.
	Timeout time.Duration `yaml:"timeout"`

	// MaxExecutors is how many executors of one agent, and how many roles and
	// frameworks of a master's metric, are told apart.
	MaxExecutors int `yaml:"max_executors"`

	// Username is the principal to authenticate as, with password.
	Username string `yaml:"username"`

	// Password is the secret of the principal.
	Password config.Secret `yaml:"password"`

	// Token is an authentication token as DC/OS makes them, sent instead of a
	// username.
	Token config.Secret `yaml:"token"`

	// CAFile holds the certificates that those of https URLs are checked against.
	// Empty is the system's.
	CAFile string `yaml:"ca_file"`

	// InsecureSkipVerify takes any certificate.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// DefaultConfig returns the defaults, which ask nobody.
func DefaultConfig() Config {
	return Config{Timeout: 5 * time.Second, MaxExecutors: 1000}
}

// Validate names the keys whose values are not possible.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]string{}
	for _, list := range []struct {
		key  string
		urls []string
	}{{"masters", c.Masters}, {"agents", c.Agents}} {
		for _, s := range list.urls {
			u, err := url.Parse(s)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" {
				fault("%s: got %q, want http://host:port or https://host:port", list.key, s)
				continue
			}
			if seen[u.Host] == list.key {
				fault("%s: got %s twice", list.key, u.Host)
			}
			seen[u.Host] = list.key
		}
	}
	if c.DiscoverAgents && len(c.Masters) == 0 {
		fault("discover_agents: got no masters, want at least one")
	}
	if c.Timeout <= 0 {
		fault("timeout: got %s, want > 0s", c.Timeout)
	}
	if c.MaxExecutors < 1 {
		fault("max_executors: got %d, want >= 1", c.MaxExecutors)
	}
	if (c.Username == "") != (c.Password == "") {
		fault("username: got one of username and password, want both")
	}
	if c.Username != "" && c.Token != "" {
		fault("token: got username, too, want one of them")
	}
	return errors.Join(errs...)
}
