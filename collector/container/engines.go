package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
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

func (d *docker) ask(ctx context.Context, _ []*cgroup) (*catalog, error) {
	data, err := get(ctx, d.client, "http://docker/containers/json", "")
	if err != nil {
		return nil, fmt.Errorf("list containers at %s: %w", d.socket, err)
	}
	return decodeDocker(data)
}

func decodeDocker(data []byte) (*catalog, error) {
	var list []struct {
		ID     string `json:"Id"`
		Names  []string
		Image  string
		Labels map[string]string
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode list of containers: %w", err)
	}
	k := &catalog{containers: map[string]meta{}}
	for _, c := range list {
		m := meta{
			Image: c.Image, Labels: c.Labels,
			Container: c.Labels[labelContainer], Pod: c.Labels[labelPod], Namespace: c.Labels[labelNamespace],
			Service: c.Labels[labelCompose],
		}
		for _, n := range c.Names { // others are /other/alias, of links
			if n = strings.TrimPrefix(n, "/"); m.Name == "" || !strings.Contains(n, "/") {
				m.Name = n
			}
		}
		k.containers[c.ID] = m
	}
	return k, nil
}

// get makes a request and returns the body of a good answer.
func get(ctx context.Context, client *http.Client, url, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("got status %s, want 200", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("got more than %d bytes", maxAnswer)
	}
	return data, err
}

// bundles reads what containerd, CRI-O and Podman leave in files: the
// annotations in a container's OCI bundle, and Podman's list of names.
type bundles struct{ root string }

func newBundles(hostRoot string) *bundles { return &bundles{hostRoot} }

func (b *bundles) name() string { return "files" }

func (b *bundles) ask(_ context.Context, list []*cgroup) (*catalog, error) {
	k := &catalog{containers: map[string]meta{}}
	podman := false
	for _, g := range list {
		if g.kind != kindContainer {
			continue
		}
		podman = podman || g.runtime == "podman"
		for _, pattern := range []string{
			"run/containerd/io.containerd.runtime.v2.task/*/" + g.id + "/config.json",
			"run/k3s/containerd/io.containerd.runtime.v2.task/*/" + g.id + "/config.json",
			"run/containers/storage/overlay-containers/" + g.id + "/userdata/config.json",
		} {
			if g.runtime == "docker" || g.runtime == "lxc" || g.runtime == "nspawn" || g.runtime == "mesos" {
				break
			}
			paths, _ := filepath.Glob(filepath.Join(b.root, pattern))
			if len(paths) == 0 {
				continue
			}
			data, ok := readFile(paths[0])
			if m, decoded := decodeBundle(data); ok && decoded {
				k.containers[g.id] = m
			}
			break
		}
	}
	if podman {
		if data, ok := readFile(filepath.Join(b.root, "var/lib/containers/storage/overlay-containers/containers.json")); ok {
			decodePodman(data, k)
		}
	}
	return k, nil
}

// decodeBundle reads the annotations of an OCI bundle; false is one that says
// nothing.
func decodeBundle(data []byte) (meta, bool) {
	var spec struct{ Annotations map[string]string }
	if json.NewDecoder(bytes.NewReader(data)).Decode(&spec) != nil {
		return meta{}, false
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
	return m, m.Name+m.Image+m.Pod != ""
}

// decodePodman adds the names in Podman's list of containers.
func decodePodman(data []byte, k *catalog) {
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
			k.containers[c.ID] = k.containers[c.ID].merge(m)
		}
	}
}
