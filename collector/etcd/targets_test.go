package etcd

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func TestDecodeValue(t *testing.T) {
	for _, tc := range []struct {
		value  string
		want   []string
		labels model.LabelSet
		err    string
	}{
		{value: "10.0.30.101:41337", want: []string{"10.0.30.101:41337"}},
		{value: " host.example:80\n", want: []string{"host.example:80"}},
		{value: "[fe80::1]:9100", want: []string{"[fe80::1]:9100"}},
		{
			value: `{"targets": ["a:1", "b:2"], "labels": {"zone": "x", "__metrics_path__": "/m", "__meta_etcd_service": "lie", "__address__": "lie"}, "more": 1}`,
			want:  []string{"a:1", "b:2"}, labels: model.LabelSet{"zone": "x", "__metrics_path__": "/m", "__address__": "lie"},
		},
		{value: `{"targets": ["a:1"]}`, want: []string{"a:1"}, labels: model.LabelSet{}},
		{value: "", err: `got "", want host:port`},
		{value: "10.0.30.101", err: `got "10.0.30.101", want host:port`},
		{value: ":80", err: `got ":80", want host:port`},
		{value: "a/b:80", err: "want host:port"},
		{value: "a b:80", err: "want host:port"},
		{value: "a:0", err: "want a port from 1 to 65535"},
		{value: "a:65536", err: "want a port from 1 to 65535"},
		{value: "a:http", err: "want a port from 1 to 65535"},
		{value: "http://a:80", err: "want host:port"},
		{value: "\xff:80", err: "want host:port"},
		{value: strings.Repeat("x", 1000), err: "…"},
		{value: `{"targets": [`, err: "decode JSON: "},
		{value: `{"host": "a", "port": 1}`, err: "targets: got none"},
		{value: `{"targets": ["a:1", "b"]}`, err: `targets: got "b", want host:port`},
		{value: `{"targets": ["a:1"], "labels": {"": "x"}}`, err: `labels: got "": "x", want a name and UTF-8`},
	} {
		got, labels, err := decodeValue([]byte(tc.value))
		if tc.err != "" {
			require.ErrorContains(t, err, tc.err, tc.value)
			continue
		}
		require.NoError(t, err, tc.value)
		require.Equal(t, tc.want, got)
		require.Equal(t, tc.labels, labels)
	}
}

func put(t *testing.T, s *state, key, value string, lease int64) string {
	t.Helper()
	service, err := s.put(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), Lease: lease, ModRevision: 1})
	require.NoError(t, err)
	return service
}

func TestState(t *testing.T) {
	s := newState("/service/")
	require.Equal(t, "web", put(t, s, "/service/web/2", "b:2", 0x694d7a))
	require.Equal(t, "web", put(t, s, "/service/web/eu/1", "c:3", 0))
	require.Equal(t, "web", put(t, s, "/service/web/1", `{"targets": ["a:1", "a:2"], "labels": {"zone": "x", "__meta_etcd_key": "lie"}}`, 0))
	require.Equal(t, "service", put(t, s, "/service/lonely", "d:4", 0))
	require.Equal(t, 5, s.targets)

	g := s.group("web")
	require.Equal(t, "/service/web", g.Source)
	require.Equal(t, model.LabelSet{"__meta_etcd_prefix": "/service/", "__meta_etcd_service": "web"}, g.Labels)
	require.Equal(t, []model.LabelSet{
		{"__address__": "a:1", "__meta_etcd_key": "/service/web/1", "__meta_etcd_instance": "1", "zone": "x"},
		{"__address__": "a:2", "__meta_etcd_key": "/service/web/1", "__meta_etcd_instance": "1", "zone": "x"},
		{"__address__": "b:2", "__meta_etcd_key": "/service/web/2", "__meta_etcd_instance": "2", "__meta_etcd_lease": "694d7a"},
		{"__address__": "c:3", "__meta_etcd_key": "/service/web/eu/1", "__meta_etcd_instance": "1"},
	}, g.Targets)

	// A value that makes no target takes the key's earlier one away.
	_, err := s.put(&mvccpb.KeyValue{Key: []byte("/service/web/1"), Value: []byte("nowhere"), ModRevision: 7})
	require.Error(t, err)
	require.Equal(t, map[string]int64{"/service/web/1": 7}, s.bad)
	require.Len(t, s.group("web").Targets, 2)
	require.Equal(t, "web", s.drop("/service/web/1"))
	require.Empty(t, s.bad)
	_, err = s.put(&mvccpb.KeyValue{Key: []byte("/service/\xff/1"), Value: []byte("a:1")})
	require.EqualError(t, err, "key is not UTF-8")

	s.drop("/service/web/2")
	s.drop("/service/web/eu/1")
	s.drop("/service/web/unheard of")
	require.Equal(t, 1, s.targets)
	gone := s.groups(map[string]bool{"web": true, "service": true})
	require.Equal(t, "/service/service", gone[0].Source)
	require.Len(t, gone[0].Targets, 1)
	require.Equal(t, "/service/web", gone[1].Source)
	require.Empty(t, gone[1].Targets)
}

// Whatever a key holds, it makes valid labels or an error, and removing it
// leaves nothing behind.
func FuzzState(f *testing.F) {
	f.Add("/service/web/1", "10.0.30.101:41337")
	f.Add("/service/x", `{"targets": ["a:1"], "labels": {"zone": "x"}}`)
	f.Add("/service//", `{"targets": ["a:1"], "labels": {"\xff": "\ud800"}}`)
	f.Add("/service/\xff", "[::1]:1")
	f.Fuzz(func(t *testing.T, key, value string) {
		if !strings.HasPrefix(key, "/service/") {
			key = "/service/" + key
		}
		s := newState("/service/")
		service, err := s.put(&mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: 1})
		g := s.group(service)
		if (err != nil) != (len(g.Targets) == 0) || len(g.Targets) != s.targets {
			t.Fatalf("error %v, %d targets, %d counted", err, len(g.Targets), s.targets)
		}
		for _, target := range append(g.Targets, g.Labels) {
			if err := target.Validate(); err != nil {
				t.Error(err)
			}
			for _, v := range target {
				if !utf8.ValidString(string(v)) {
					t.Errorf("got %q, want UTF-8", v)
				}
			}
		}
		s.drop(key)
		if len(s.services)+len(s.bad)+s.targets != 0 {
			t.Errorf("something is left: %+v", s)
		}
	})
}
