package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// endless repeats a text after a beginning, and counts what is read.
type endless struct {
	begin, again string
	at           string
	read         int
}

func (e *endless) Read(b []byte) (int, error) {
	if e.at == "" {
		e.at = e.begin + strings.Repeat(e.again, 1+(64<<10)/len(e.again))
		e.begin = ""
	}
	n := copy(b, e.at)
	e.at = e.at[n:]
	e.read += n
	return n, nil
}

// An answer without end ends, and nothing is kept of it but what was asked for.
func TestAnswerWithoutEnd(t *testing.T) {
	q := &question{ids: map[string]time.Time{idA: {}}}
	docker := func(s *jsonStream, k *catalog) error { return decodeDocker(s, q, k) }
	pods := func(s *jsonStream, k *catalog) error { return decodePods(s, q, k) }
	for name, tc := range map[string]struct {
		decode func(*jsonStream, *catalog) error
		from   endless
		want   string
		atMost int
	}{
		"containers":       {docker, endless{begin: `[{"Id":"` + idA + `"}`, again: `,{"Id":"x"}`}, "more than 65536 elements", 1 << 20},
		"large containers": {docker, endless{begin: `[{}`, again: `,{"Id":"` + strings.Repeat("x", 1<<20) + `"}`}, "more than 67108864 bytes", maxAnswer + 8<<20},
		"a container":      {docker, endless{begin: `[{"Names":["`, again: "x"}, "a piece of more than 4194304 bytes", 8 << 20},
		"its labels":       {docker, endless{begin: `[{"Labels":{"a":""`, again: `,"b":"c"`}, "a piece of more than 4194304 bytes", 8 << 20},
		"spaces":           {docker, endless{begin: `[{}`, again: " "}, "EOF", 8 << 20},
		"before pods":      {pods, endless{begin: `{"metadata":{"a":"`, again: "x"}, "a piece of more than 4194304 bytes", 8 << 20},
		"a key":            {pods, endless{begin: `{"`, again: "x"}, "EOF", 8 << 20},
		"keys":             {pods, endless{begin: `{"a":1`, again: `,"b":` + strings.Repeat("1", 1<<20)}, "more than 67108864 bytes", maxAnswer + 8<<20},
	} {
		t.Run(name, func(t *testing.T) {
			k := q.catalog()
			require.ErrorContains(t, tc.decode(newJSONStream(&tc.from), k), tc.want)
			require.LessOrEqual(t, tc.from.read, tc.atMost)
			require.LessOrEqual(t, len(k.containers), 1)
		})
	}
}

// Of what an engine tells of a container, only the labels that are wanted are kept,
// and of each a piece; and series are UTF-8 whatever it says.
func TestLabelsAreFew(t *testing.T) {
	c := map[string]any{"Id": idA, "Names": []string{"/w"}, "Labels": map[string]string{}}
	for i := range 10_000 {
		c["Labels"].(map[string]string)[fmt.Sprintf("label-%d", i)] = "v"
	}
	c["Labels"].(map[string]string)["wanted"] = strings.Repeat("é", maxText)
	text, err := json.Marshal([]any{c})
	require.NoError(t, err)
	q := &question{ids: map[string]time.Time{idA: {}}, labels: []string{"wanted", "label-7", "none"}}
	k := q.catalog()
	require.NoError(t, decodeDocker(newJSONStream(bytes.NewReader(text)), q, k))
	require.Equal(t, map[string]string{"wanted": strings.Repeat("é", maxText/2), "label-7": "v"}, k.containers[idA].Labels)

	root := plant(t, "v2.tree")
	cfg := testConfig(root)
	cfg.Labels = []string{"wanted"}
	col := newTest(t, cfg)
	col.names.Store(&catalog{containers: map[string]meta{idA: {Name: "a\xff", Image: "\xc3", Labels: map[string]string{"wanted": "é\xc3"}}}})
	require.Contains(t, expose(t, col), `container_label_wanted="é�"`)
	require.Contains(t, expose(t, col), `name="a�"`)
}

// field appends a field of bytes.
func field(b []byte, n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// serveContainerd serves a containerd of one namespace, and gives its socket.
func serveContainerd(t *testing.T, containers func(grpc.ServerStream) error) (root, socket string) {
	t.Helper()
	root, err := os.MkdirTemp("", "vd") // a path of a Unix socket is short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	l, err := net.Listen("unix", filepath.Join(root, "s"))
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.ForceServerCodec(plain{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { //nolint:staticcheck // the codec is the client's
		method, _ := grpc.MethodFromServerStream(s)
		if err := s.RecvMsg(new([]byte)); err != nil {
			return err
		}
		if strings.HasSuffix(method, "Namespaces/List") {
			answer := field(field(nil, 1, string(field(nil, 1, "default"))), 1, string(field(nil, 1, dockersNamespace)))
			return s.SendMsg(&answer)
		}
		return containers(s)
	}))
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return root, "/s"
}

func TestContainerdWithoutEnd(t *testing.T) {
	send := func(s grpc.ServerStream, container []byte) error {
		message := field(nil, 1, string(container))
		return s.SendMsg(&message)
	}
	q := &question{ids: map[string]time.Time{idA: {}}, labels: []string{"wanted"}}
	for name, tc := range map[string]struct {
		serve func(grpc.ServerStream) error
		want  string
	}{
		"all is well": {func(s grpc.ServerStream) error {
			c := field(field(nil, 1, idA), 3, "image:1")
			for i := range 10_000 {
				c = field(c, 2, string(field(field(nil, 1, fmt.Sprint("label", i)), 2, "v\xff")))
			}
			c = field(c, 2, string(field(field(nil, 1, "wanted"), 2, "yes")))
			return errors.Join(send(s, c), send(s, field(nil, 1, idB)), send(s, field(nil, 2, "\xff")))
		}, ""},
		"containers": {func(s grpc.ServerStream) error {
			var message []byte
			for range 1000 {
				message = field(message, 1, string(field(nil, 1, "x")))
			}
			for {
				if err := s.SendMsg(&message); err != nil {
					return err
				}
			}
		}, "more than 65536 elements"},
		"a container": {func(s grpc.ServerStream) error { return send(s, make([]byte, maxItem)) }, "larger than max"},
		"nothing":     {func(s grpc.ServerStream) error { <-s.Context().Done(); return nil }, "DeadlineExceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContainerd(serveContainerd(t, tc.serve))
			ctx := t.Context()
			if name == "nothing" {
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				ctx = short
			}
			k, err := c.ask(ctx, q)
			if tc.want != "" {
				require.ErrorContains(t, err, tc.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, map[string]meta{idA: {Image: "image:1", Labels: map[string]string{"wanted": "yes"}, known: true}}, k.containers)
		})
	}
}

// A kubelet that takes connections and says nothing leaves time for the API server.
func TestKubeletHangs(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(func() { close(end); hanging.Close() })
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"kind":"PodList","items":[{"metadata":{"name":"web-0","uid":"u"}}]}`)
	}))
	t.Cleanup(api.Close)
	host, port, err := net.SplitHostPort(api.Listener.Addr().String())
	require.NoError(t, err)
	k := &kubelet{
		cfg: KubeletConfig{URL: hanging.URL, CAFile: filepath.Join(t.TempDir(), "ca.crt")},
		env: func(key string) string {
			return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "NODE_NAME": "n"}[key]
		},
	}
	require.NoError(t, os.WriteFile(k.cfg.CAFile, pemOf(api), 0o600))
	c, err := New(DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	c.sources = []source{k}
	e := enricher{c: c}
	e.refresh(t.Context(), snapshot{list: []*cgroup{{place: place{kind: kindContainer, id: idA, podUID: "u"}}}})
	require.Equal(t, identity.Names{Pod: "web-0"}, c.Names(idA, "u"))
}
