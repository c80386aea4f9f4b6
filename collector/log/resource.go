package log

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// What paths of container engines, kubelets and Mesos agents say.
var pathRules = func() []*regexp.Regexp {
	const id = `(?P<container_id>[0-9a-f]{64})`
	return []*regexp.Regexp{
		regexp.MustCompile(`/containers/` + id + `/[0-9a-f]{64}-json\.log$`),
		regexp.MustCompile(`/pods/(?P<k8s_namespace_name>[^/_]+)_(?P<k8s_pod_name>[^/_]+)_(?P<k8s_pod_uid>[^/_]+)/(?P<k8s_container_name>[^/]+)/(?P<k8s_container_restart__count>\d+)\.log$`),
		regexp.MustCompile(`/containers/(?P<k8s_pod_name>[^/_]+)_(?P<k8s_namespace_name>[^/_]+)_(?P<k8s_container_name>[^/_]+)-` + id + `\.log$`),
		regexp.MustCompile(`/executors/(?P<service_instance_id>[^/]+)/runs/(?P<container_id>[^/]+)/(?:stdout|stderr)$`),
	}
}

// originOf returns what is known of whoever writes the file at path, by OpenTelemetry's
// names. Attributes of the source count most, then those of its pattern, then
// what Docker says of its container, then those of the path; who has no service.instance.id by then gets one:
//
//  1. of a container of Kubernetes, namespace.pod.container,
//  2. of another container, its id,
//  3. otherwise host:path.
//
// The service of a container is named by the rule of package identity: by what its
// environment declares or its labels say, where Docker's description has that, else
// by Services; only where nobody knows it by the container.
func (s *source) originOf(path, host string) origin {
	a := map[string]string{"host.name": host, "log.file.path": path}
	o := origin{attributes: a}
	for _, rule := range s.rules {
		addGroups(a, rule, path)
	}
	if a["container.id"] != "" && s.Format == FormatDocker {
		o.named = addDocker(a, filepath.Join(filepath.Dir(path), "config.v2.json"))
	}
	own := make(map[string]string)
	if s.pathPattern != nil {
		addGroups(own, s.pathPattern, path)
	}
	maps.Copy(own, s.Attributes)
	o.placed = own["service.namespace"] != ""
	if own["service.name"] != "" {
		o.named = true
		delete(a, "service.namespace") // it is another's
	}
	maps.Copy(a, own)
	if a["service.name"] == "" && a["k8s.container.name"] != "" {
		a["service.name"] = a["k8s.container.name"]
	}
	if a["service.namespace"] == "" && !o.named && a["k8s.namespace.name"] != "" {
		a["service.namespace"] = a["k8s.namespace.name"]
	}
	if a["service.instance.id"] == "" {
		switch {
		case a["k8s.pod.name"] != "":
			a["service.instance.id"] = a["k8s.namespace.name"] + "." + a["k8s.pod.name"] + "." + a["k8s.container.name"]
		case a["container.id"] != "":
			a["service.instance.id"] = a["container.id"]
		default:
			a["service.instance.id"] = host + ":" + path
		}
	}
	o.resource = resourceOf(a)
	return o
}

// addGroups adds the named groups of a match: _ in names is a dot, __ is _.
func addGroups(a map[string]string, rule *regexp.Regexp, path string) {
	match := rule.FindStringSubmatch(path)
	for i, name := range rule.SubexpNames() {
		if match != nil && name != "" && match[i] != "" {
			name = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(name, "__", "\x00"), "_", "."), "\x00", "_")
			a[name] = match[i]
		}
	}
}

// maxContainerFile bounds what is read of Docker's description of a container.
const maxContainerFile = 1 << 20

// addDocker adds what Docker's description of a container, beside its log, says of
// it; what Docker has no longer, or not yet, is left out. named: the environment or
// the labels say what the service is called, and not only the container's name.
func addDocker(a map[string]string, path string) (named bool) {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()                                                    //nolint:errcheck // it was read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // who reads a pipe may wait for ever
		return false
	}
	var c struct {
		Name   string
		Config struct {
			Image  string
			Labels map[string]string
			Env    []string
		}
	}
	if json.NewDecoder(io.LimitReader(f, maxContainerFile)).Decode(&c) != nil {
		return false
	}
	name := strings.TrimPrefix(c.Name, "/")
	service, namespace := identity.Declared(c.Config.Env)
	service = cmp.Or(service, identity.Names{Service: c.Config.Labels[identity.LabelCompose]}.ServiceName())
	for key, v := range map[string]string{
		"container.name":       name,
		"container.image.name": c.Config.Image,
		"service.name":         cmp.Or(service, name),
		"service.namespace":    namespace,
	} {
		if v != "" {
			a[key] = v
		}
	}
	return service != ""
}

// resourceOf returns the content of a Resource message.
func resourceOf(attributes map[string]string) []byte {
	var out []byte
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		v := strings.ToValidUTF8(attributes[k], string(replacement))
		out = appendMessage(out, 1, appendKeyValue(nil, k, appendStringValue(nil, v)))
	}
	return out
}

// source is a Source that is ready for use.
type source struct {
	Source
	index       int
	key         string // in checkpoints
	rules       []*regexp.Regexp
	pathPattern *regexp.Regexp
	assembler   assembler
	encoder     encoder
	start       bool // its files are new: they are begun where Start says
}

// compressed are ends of names of files that are not read.
var compressed = func() []string { return []string{".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".tgz"} }

func isCompressed(path string) bool { return slices.Contains(compressed(), filepath.Ext(path)) }

// newSource makes a source of one whose patterns are valid.
func newSource(index int, c Source, maxBytes int, m *metrics) *source {
	s := &source{Source: c, index: index, key: strings.Join(c.Include, "\n"), rules: pathRules()}
	if c.PathPattern != "" {
		s.pathPattern = regexp.MustCompile(c.PathPattern)
	}
	cs := newCharset(c.Encoding)
	s.encoder = encoder{charset: cs, json: newJSONKeys(&c.JSON), metrics: m}
	a := &s.assembler
	*a = assembler{charset: cs, maxLines: 1000, maxBytes: maxBytes, format: c.Format, countBad: func(format string) { m.unparsed.WithLabelValues(format).Inc() }}
	if c.Multiline.MaxLines > 0 {
		a.maxLines = c.Multiline.MaxLines
	}
	if c.Multiline.Start != "" {
		a.start = regexp.MustCompile(c.Multiline.Start)
	}
	if c.Multiline.End != "" {
		a.last = regexp.MustCompile(c.Multiline.End)
	}
	switch c.Format {
	case FormatDocker:
		a.parse = parseDocker
	case FormatCRI:
		a.parse = parseCRI
	}
	return s
}
