package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Labels of a target, there for relabelling.
const (
	labelPrefix   = model.MetaLabelPrefix + "etcd_prefix"   // of the configuration
	labelService  = model.MetaLabelPrefix + "etcd_service"  // path element after the prefix
	labelKey      = model.MetaLabelPrefix + "etcd_key"      // the whole key
	labelInstance = model.MetaLabelPrefix + "etcd_instance" // last path element of the key
	labelLease    = model.MetaLabelPrefix + "etcd_lease"    // hexadecimal as etcdctl prints it
)

// document is the value of a key that has more to say than an address: an
// element of what file_sd_configs and http_sd_configs read.
type document struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// decodeValue returns the addresses and labels of a value: host:port, or a
// document.
func decodeValue(value []byte) ([]string, model.LabelSet, error) {
	text := strings.TrimSpace(string(value))
	if !strings.HasPrefix(text, "{") {
		return []string{text}, nil, checkAddress(text)
	}
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, nil, fmt.Errorf("decode JSON: %w", err)
	}
	if len(d.Targets) == 0 {
		return nil, nil, errors.New(`targets: got none, want {"targets": ["host:port"], "labels": {}}`)
	}
	for _, t := range d.Targets {
		if err := checkAddress(t); err != nil {
			return nil, nil, fmt.Errorf("targets: %w", err)
		}
	}
	labels := make(model.LabelSet, len(d.Labels))
	for name, v := range d.Labels {
		if !model.UTF8Validation.IsValidLabelName(name) || !model.LabelValue(v).IsValid() {
			return nil, nil, fmt.Errorf("labels: got %q: %q, want a name and UTF-8", name, v)
		}
		labels[model.LabelName(name)] = model.LabelValue(v)
	}
	for _, name := range []model.LabelName{labelPrefix, labelService, labelLease} {
		delete(labels, name) // those are not the service's to say
	}
	return d.Targets, labels, nil
}

// checkAddress wants host:port.
func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || strings.ContainsAny(host, "/ \t\r\n") || !utf8.ValidString(host) {
		return fmt.Errorf("got %q, want host:port", shorten(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("got %q, want a port from 1 to 65535", shorten(s))
	}
	return nil
}

// shorten bounds what a log line repeats of a value.
func shorten(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// state is what a prefix holds at one revision.
type state struct {
	prefix   string
	services map[string]map[string][]model.LabelSet // targets by service and key
	bad      map[string]int64                       // modification revision of keys that make no target
	targets  int
}

func newState(prefix string) *state {
	return &state{prefix: prefix, services: map[string]map[string][]model.LabelSet{}, bad: map[string]int64{}}
}

// service returns the first path element of a key after the prefix. A key right
// below the prefix belongs to the service that the prefix names.
func (s *state) service(key string) string {
	if name, _, ok := strings.Cut(strings.TrimPrefix(key, s.prefix), "/"); ok {
		return name
	}
	return lastElement(strings.TrimSuffix(s.prefix, "/"))
}

func lastElement(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// put takes a key in and returns its service. The error says why its value makes
// no target; an earlier one of the key is gone then, too.
func (s *state) put(kv *mvccpb.KeyValue) (string, error) {
	key := string(kv.Key)
	service := s.service(key)
	s.remove(service, key)
	addresses, labels, err := decodeValue(kv.Value)
	if err == nil && !utf8.Valid(kv.Key) {
		err = errors.New("key is not UTF-8")
	}
	if err != nil {
		s.bad[key] = kv.ModRevision
		return service, err
	}
	delete(s.bad, key)
	targets := make([]model.LabelSet, 0, len(addresses))
	for _, a := range addresses {
		t := model.LabelSet{
			model.AddressLabel: model.LabelValue(a),
			labelKey:           model.LabelValue(key),
			labelInstance:      model.LabelValue(lastElement(key)),
		}
		if kv.Lease != 0 {
			t[labelLease] = model.LabelValue(strconv.FormatUint(uint64(kv.Lease), 16))
		}
		targets = append(targets, labels.Merge(t))
	}
	if s.services[service] == nil {
		s.services[service] = map[string][]model.LabelSet{}
	}
	s.services[service][key] = targets
	s.targets += len(targets)
	return service, nil
}

// drop forgets a key and returns its service.
func (s *state) drop(key string) string {
	service := s.service(key)
	s.remove(service, key)
	delete(s.bad, key)
	return service
}

func (s *state) remove(service, key string) {
	keys := s.services[service]
	s.targets -= len(keys[key])
	delete(keys, key)
	if len(keys) == 0 {
		delete(s.services, service)
	}
}

// group returns the targets of a service in the order of their keys; it is empty
// if there are none.
func (s *state) group(service string) *targetgroup.Group {
	g := &targetgroup.Group{Source: s.prefix + service}
	keys := s.services[service]
	if len(keys) == 0 {
		return g
	}
	g.Labels = model.LabelSet{labelPrefix: model.LabelValue(s.prefix), labelService: model.LabelValue(service)}
	names := make([]string, 0, len(keys))
	for key := range keys {
		names = append(names, key)
	}
	slices.Sort(names)
	for _, key := range names {
		g.Targets = append(g.Targets, keys[key]...)
	}
	return g
}

// groups returns those of the given services, in their order by name.
func (s *state) groups(services map[string]bool) []*targetgroup.Group {
	names := make([]string, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]*targetgroup.Group, 0, len(names))
	for _, name := range names {
		out = append(out, s.group(name))
	}
	return out
}
