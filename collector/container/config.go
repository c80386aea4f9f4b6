package container

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"
)

// Kinds of cgroups that Config.Kinds chooses from.
const (
	KindContainers = "containers"
	KindPods       = "pods"
	KindSystemd    = "systemd"
	KindOthers     = "others"
)

// Config configures a Collector.
type Config struct {
	// Enabled turns container metrics on.
	Enabled bool `yaml:"enabled"`

	// HostRoot is where the file system of the host is seen: / on the host, and the
	// place where it is mounted if the agent runs in a container itself.
	HostRoot string `yaml:"host_root"`

	// RescanInterval is how long a new cgroup may go unnoticed.
	RescanInterval time.Duration `yaml:"rescan_interval"`

	// MaxContainers is how many cgroups are listed at most; containers come first,
	// then pods, services and slices.
	MaxContainers int `yaml:"max_containers"`

	// Kinds are the cgroups that are listed beside the root: containers, pods,
	// systemd (slices and services of the system) and others (all the rest, such as
	// sessions of users and cgroups inside containers).
	Kinds []string `yaml:"kinds"`

	// Labels are the labels of containers that become labels container_label_<name>
	// of their series, such as com.docker.compose.project.
	Labels []string `yaml:"labels"`

	// DockerSockets are Unix sockets, below host_root, that are asked for names,
	// images and labels by Docker's API; those that do not exist are passed over.
	DockerSockets []string `yaml:"docker_sockets"`

	// ContainerdSockets are Unix sockets, below host_root, that are asked for images
	// and labels by containerd's API; those that do not exist are passed over.
	ContainerdSockets []string `yaml:"containerd_sockets"`

	// Kubelet is asked which pods the containers belong to.
	Kubelet KubeletConfig `yaml:"kubelet"`
}

// KubeletConfig says how the kubelet is reached.
type KubeletConfig struct {
	// URL is the address of the kubelet. Empty is off.
	URL string `yaml:"url"`

	// TokenFile holds the token to authenticate with; while it does not exist the
	// kubelet is asked only if its URL begins with http:.
	TokenFile string `yaml:"token_file"`

	// CAFile holds the certificates that the kubelet's is checked against, if it
	// exists; without it the system's are.
	CAFile string `yaml:"ca_file"`

	// InsecureSkipVerify takes any certificate of the kubelet's, which signs its own
	// unless the cluster is told otherwise.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// DefaultConfig returns the defaults: everything that is found on this host.
func DefaultConfig() Config {
	return Config{
		Enabled:           true,
		HostRoot:          "/",
		RescanInterval:    10 * time.Second,
		MaxContainers:     1000,
		Kinds:             []string{KindContainers, KindPods, KindSystemd},
		DockerSockets:     []string{"/run/docker.sock", "/run/podman/podman.sock"},
		ContainerdSockets: []string{"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"},
		Kubelet: KubeletConfig{
			URL:       "https://127.0.0.1:10250",
			TokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
			CAFile:    "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
		},
	}
}

// Validate names the keys whose values are not possible.
func (c Config) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.HostRoot) {
		fault("host_root: got %q, want an absolute path", c.HostRoot)
	}
	if c.RescanInterval < time.Second {
		fault("rescan_interval: got %s, want >= 1s", c.RescanInterval)
	}
	if c.MaxContainers < 1 {
		fault("max_containers: got %d, want >= 1", c.MaxContainers)
	}
	known := []string{KindContainers, KindPods, KindSystemd, KindOthers}
	for _, k := range c.Kinds {
		if !slices.Contains(known, k) {
			fault("kinds: got %q, want some of %q", k, known)
		}
	}
	names := map[string]string{}
	for _, l := range c.Labels {
		name := labelName(l)
		if other, twice := names[name]; l == "" || twice {
			fault("labels: got %q beside %q, want names that differ in letters and digits", l, other)
		}
		names[name] = l
	}
	for _, s := range c.DockerSockets {
		if !filepath.IsAbs(s) {
			fault("docker_sockets: got %q, want absolute paths", s)
		}
	}
	for _, s := range c.ContainerdSockets {
		if !filepath.IsAbs(s) {
			fault("containerd_sockets: got %q, want absolute paths", s)
		}
	}
	if u := c.Kubelet.URL; u != "" {
		if p, err := url.Parse(u); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
			fault("kubelet.url: got %q, want http:// or https:// and a host", u)
		}
	}
	return errors.Join(errs...)
}

// labelName is the name of the series' label for a container's label.
func labelName(label string) string {
	b := []byte("container_label_" + label)
	for i, c := range b {
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			b[i] = '_'
		}
	}
	return string(b)
}
