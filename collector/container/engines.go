package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Labels that Kubernetes' runtimes put on containers.
const (
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelContainer = "io.kubernetes.container.name"
)

// docker asks Docker, or Podman, which speaks the same language.
type docker struct {
	socket string
	client *http.Client
}

func newDocker(hostRoot, socket string) *docker {
	path := filepath.Join(hostRoot, socket)
	dialer := &net.Dialer{}
	return &docker{socket: path, client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

func (d *docker) name() string { return "docker" }

func (d *docker) ask(ctx context.Context, q *question) (*catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	k := q.catalog()
	err := get(ctx, d.client, "http://docker/containers/json", "", func(s *jsonStream) error { return decodeDocker(s, q, k) })
	if err != nil {
		return nil, fmt.Errorf("list containers at %s: %w", d.socket, err)
	}
	return k, nil
}

// dockersContainer is a container in Docker's list.
type dockersContainer struct {
	ID     string `json:"Id"`
	Names  []string
	Image  string
	Labels map[string]string
}

func decodeDocker(s *jsonStream, q *question, k *catalog) error {
	return each(s, func(c *dockersContainer) {
		m := meta{
			Image: c.Image, Labels: c.Labels,
			Container: c.Labels[labelContainer], Pod: c.Labels[labelPod], Namespace: c.Labels[labelNamespace],
			Service: c.Labels[identity.LabelCompose],
		}
		for _, n := range c.Names { // others are /other/alias, of links
			if n = strings.TrimPrefix(n, "/"); m.Name == "" || !strings.Contains(n, "/") {
				m.Name = n
			}
		}
		q.add(k, c.ID, m)
	})
}

// bundles reads what containerd, CRI-O and Podman leave in files: the
// annotations in a container's OCI bundle, and Podman's list of names.
type bundles struct {
	root string
	read map[string]meta // of the last answer, from bundles, which do not change
}

func newBundles(hostRoot string) *bundles { return &bundles{root: hostRoot} }

func (b *bundles) name() string { return "files" }

func (b *bundles) ask(_ context.Context, q *question) (*catalog, error) {
	read := map[string]meta{}
	podman := false
	for _, g := range q.groups {
		if g.kind != kindContainer {
			continue
		}
		podman = podman || g.runtime == "podman"
		if m, ok := b.read[g.id]; ok {
			read[g.id] = m
		} else if m, ok := b.bundle(g); ok {
			read[g.id] = m
		}
	}
	b.read = read
	k := q.catalog()
	for id, m := range read {
		if m.known {
			q.add(k, id, m)
		}
	}
	if podman {
		if data, ok := readFile(filepath.Join(b.root, "var/lib/containers/storage/overlay-containers/containers.json")); ok {
			decodePodman(data, q, k)
		}
	}
	return k, nil
}

// bundle reads the bundle of a container; false: none is there.
func (b *bundles) bundle(g *cgroup) (meta, bool) {
	switch g.runtime {
	case "docker", "lxc", "nspawn", "mesos":
		return meta{}, false
	}
	for _, pattern := range []string{
		"run/containerd/io.containerd.runtime.v2.task/*/" + g.id + "/config.json",
		"run/k3s/containerd/io.containerd.runtime.v2.task/*/" + g.id + "/config.json",
		"run/containers/storage/overlay-containers/" + g.id + "/userdata/config.json",
	} {
		paths, _ := filepath.Glob(filepath.Join(b.root, pattern))
		if len(paths) == 0 {
			continue
		}
		if data, ok := readFile(paths[0]); ok {
			return decodeBundle(data), true
		}
	}
	return meta{}, false
}

// decodeBundle reads the annotations of an OCI bundle; one that says nothing is not
// known.
func decodeBundle(data []byte) meta {
	var spec struct{ Annotations map[string]string }
	if json.NewDecoder(bytes.NewReader(data)).Decode(&spec) != nil {
		return meta{}
	}
	a := spec.Annotations
	m := meta{
		Name:      a["nerdctl/name"],
		Image:     cmp.Or(a["io.kubernetes.cri.image-name"], a["io.kubernetes.cri-o.ImageName"]),
		Container: cmp.Or(a["io.kubernetes.cri.container-name"], a[labelContainer]),
		Pod:       cmp.Or(a["io.kubernetes.cri.sandbox-name"], a[labelPod]),
		Namespace: cmp.Or(a["io.kubernetes.cri.sandbox-namespace"], a[labelNamespace]),
	}
	if a["io.kubernetes.cri.container-type"] == "sandbox" || a["io.kubernetes.cri-o.ContainerType"] == "sandbox" {
		m.Container = ""
	}
	m.known = m.Name+m.Image+m.Pod != ""
	return m
}

// decodePodman adds the names in Podman's list of containers.
func decodePodman(data []byte, q *question, k *catalog) {
	var list []struct {
		ID       string   `json:"id"`
		Names    []string `json:"names"`
		Metadata string   `json:"metadata"`
	}
	if json.Unmarshal(data, &list) != nil {
		return
	}
	for _, c := range list {
		var inner struct {
			Image string `json:"image-name"`
			Name  string `json:"name"`
		}
		_ = json.Unmarshal([]byte(c.Metadata), &inner) // another program's container may have anything there
		m := meta{Image: inner.Image, Name: inner.Name}
		if len(c.Names) > 0 {
			m.Name = c.Names[0]
		}
		if m.Name+m.Image != "" {
			q.add(k, c.ID, m)
		}
	}
}
