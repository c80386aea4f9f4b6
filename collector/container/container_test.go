package container

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/identity"
)

func TestClassify(t *testing.T) {
	const uid = podUID
	under := strings.ReplaceAll(uid, "-", "_")
	for _, tc := range []struct {
		path string
		want place
	}{
		{"/", place{kind: kindRoot}},
		{"/init.scope", place{kind: kindOther}},
		{"/system.slice", place{kind: kindSlice}},
		{"/system.slice/ssh.service", place{kind: kindService}},
		{"/system.slice/ssh.service/inner", place{kind: kindOther, inside: true}},
		{"/system.slice/tmp.mount", place{kind: kindIgnored}},
		{"/system.slice/docker.socket", place{kind: kindOther}},
		{"/user.slice/user-1000.slice/session-3.scope", place{kind: kindOther}},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/a.service", place{kind: kindOther, inside: true}},
		{"/docker", place{kind: kindOther}},
		{"/docker/" + idA, place{kind: kindContainer, runtime: "docker", id: idA}},
		{"/docker/" + idA + "/init", place{kind: kindOther, runtime: "docker", id: idA, inside: true}},
		{"/system.slice/docker-" + idA + ".scope", place{kind: kindContainer, runtime: "docker", id: idA}},
		{"/ecs/task/" + idA, place{kind: kindContainer, runtime: "docker", id: idA}},
		{"/default/" + idA, place{kind: kindContainer, runtime: "containerd", id: idA}},
		{"/system.slice/nerdctl-" + idA + ".scope", place{kind: kindContainer, runtime: "containerd", id: idA}},
		{"/machine.slice/libpod-" + idA + ".scope", place{kind: kindContainer, runtime: "podman", id: idA}},
		{"/machine.slice/libpod-" + idA + ".scope/container", place{kind: kindOther, runtime: "podman", id: idA, inside: true}},
		{"/machine.slice/libpod-conmon-" + idA + ".scope", place{kind: kindOther}},
		{"/libpod_parent/libpod-" + idA, place{kind: kindContainer, runtime: "podman", id: idA}},
		{"/kubepods", place{kind: kindSlice}},
		{"/kubepods/burstable", place{kind: kindSlice}},
		{"/kubepods/burstable/pod" + uid, place{kind: kindPod, podUID: uid}},
		{"/kubepods/pod" + uid + "/" + idA, place{kind: kindContainer, runtime: "cri", id: idA, podUID: uid}},
		{"/kubepods.slice", place{kind: kindSlice}},
		{"/kubepods.slice/kubepods-pod" + under + ".slice", place{kind: kindPod, podUID: uid}},
		{"/kubepods.slice/kubepods-pod" + idA[:32] + ".slice", place{kind: kindPod, podUID: idA[:32]}},
		{"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/cri-containerd-" + idA + ".scope",
			place{kind: kindContainer, runtime: "containerd", id: idA, podUID: uid}},
		{"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-" + idA + ".scope",
			place{kind: kindContainer, runtime: "cri-o", id: idA, podUID: uid}},
		{"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/crio-conmon-" + idA + ".scope",
			place{kind: kindOther, podUID: uid}},
		{"/system.slice/containerd.service/kubepods-besteffort-pod" + under + ".slice:cri-containerd:" + idA,
			place{kind: kindContainer, runtime: "containerd", id: idA, podUID: uid, inside: true}},
		{"/lxc/web", place{kind: kindContainer, runtime: "lxc", id: "web"}},
		{"/lxc.payload.web", place{kind: kindContainer, runtime: "lxc", id: "web"}},
		{"/lxc.monitor.web", place{kind: kindOther}},
		{"/machine.slice/machine-deb\\x2d12.scope", place{kind: kindContainer, runtime: "nspawn", id: "deb-12"}},
		{"/mesos/" + uid, place{kind: kindContainer, runtime: "mesos", id: uid}},
		{"/mesos/" + uid + "/mesos/" + uid, place{kind: kindOther, runtime: "mesos", id: uid, inside: true}},
		{"/system.slice/pod" + uid, place{kind: kindOther}},
	} {
		require.Equal(t, tc.want, classify(tc.path), tc.path)
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	bad := Config{HostRoot: "x", Kinds: []string{"vm"}, Labels: []string{"a.b", "a-b"}, DockerSockets: []string{"y"}, Kubelet: KubeletConfig{URL: "ftp://z"}}
	err := bad.Validate()
	for _, key := range []string{"host_root", "rescan_interval", "max_containers", "kinds", "labels", "docker_sockets", "kubelet.url"} {
		require.ErrorContains(t, err, key+":")
	}
	_, err = New(bad, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.Error(t, err)
}

func TestKindsAndLimit(t *testing.T) {
	root := plant(t, "v2.tree")
	ids := func(cfg Config) (list []string, c *Collector) {
		c = newTest(t, cfg)
		s, err := c.scan()
		require.NoError(t, err)
		for _, g := range s.list {
			list = append(list, short(g.path))
		}
		return list, c
	}
	cfg := testConfig(root)
	cfg.Kinds = nil
	got, _ := ids(cfg)
	require.Equal(t, []string{"/"}, got)

	cfg.Kinds = []string{KindOthers}
	got, _ = ids(cfg)
	require.Equal(t, []string{"/", "/init.scope", "/machine.slice/libpod-conmon-dddd.scope", "/machine.slice/libpod-dddd.scope/container"}, got)

	cfg = testConfig(root)
	cfg.MaxContainers = 3
	got, c := ids(cfg)
	require.Len(t, got, 3)
	require.Contains(t, got[1], "cri-containerd-bbbb")
	require.Equal(t, 8.0, testutil.ToFloat64(c.metrics.skipped))
}

// A walk finds what is new after the interval, and forgets what is gone.
func TestRescan(t *testing.T) {
	root := plant(t, "v2.tree")
	c := newTest(t, testConfig(root))
	now := time.Unix(1_700_001_000, 0)
	c.now = func() time.Time { return now }
	one := filepath.Join(root, "sys/fs/cgroup/system.slice/new.service")
	gone := filepath.Join(root, "sys/fs/cgroup/system.slice/ssh.service")
	has := func(path string) bool { return strings.Contains(expose(t, c), `id="/system.slice/`+path+`"`) }
	require.False(t, has("new.service"))
	require.NoError(t, os.Mkdir(one, 0o755))
	require.NoError(t, os.RemoveAll(gone))
	require.False(t, has("new.service"), "before the interval has passed")
	now = now.Add(c.cfg.RescanInterval)
	require.True(t, has("new.service"))
	require.False(t, has("ssh.service"))
}

func TestNoCgroups(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := testConfig(t.TempDir())
	c, err := New(cfg, slog.New(slog.DiscardHandler), reg)
	require.NoError(t, err)
	require.Contains(t, expose(t, c), "container_scrape_error 1")
	require.Equal(t, 1.0, testutil.ToFloat64(c.metrics.errors.WithLabelValues("scan")))
}

// serveUnix serves what a Docker daemon would.
func serveUnix(t *testing.T, path string, h http.Handler) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(h)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
}

func TestEngines(t *testing.T) {
	root := plant(t, "v2.tree")
	// A path of a Unix socket is short.
	dir, err := os.MkdirTemp("", "vd")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Symlink(dir, filepath.Join(root, "run")))
	serveUnix(t, filepath.Join(dir, "docker.sock"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/containers/json" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprintf(w, `[{"Id":%q,"Names":["/other/db","/web"],"Image":"nginx:1.27","Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"front","secret":"x"}},
			{"Id":"%064d","Names":["/stranger"],"Image":"i"}]`, idA, 0)
	}))
	kubelet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pods" || r.Header.Get("Authorization") != "Bearer s3cret" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		pod := map[string]any{
			"metadata": map[string]any{"name": "api-0", "namespace": "prod", "uid": podUID,
				"ownerReferences": []any{map[string]any{"kind": "StatefulSet", "name": "api", "controller": true}}},
			"status": map[string]any{
				"containerStatuses":     []any{map[string]any{"name": "api", "image": "registry/api:1", "containerID": "containerd://" + idB}},
				"initContainerStatuses": []any{map[string]any{"name": "init", "image": "busybox"}},
			},
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "PodList", "items": []any{pod}})
	}))
	t.Cleanup(kubelet.Close)
	bundle := filepath.Join(dir, "containerd/io.containerd.runtime.v2.task/k8s.io", idB)
	require.NoError(t, os.MkdirAll(bundle, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"ociVersion":"1.1.0","annotations":{
		"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"stale","io.kubernetes.cri.image-name":"registry/api:0",
		"io.kubernetes.cri.sandbox-name":"api-0","io.kubernetes.cri.sandbox-namespace":"prod"}}`), 0o644))
	podman := filepath.Join(root, "var/lib/containers/storage/overlay-containers")
	require.NoError(t, os.MkdirAll(podman, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(podman, "containers.json"),
		fmt.Appendf(nil, `[{"id":%q,"names":["cache"],"metadata":"{\"image-name\":\"docker.io/library/redis:7\",\"name\":\"cache\"}"}]`, idD), 0o644))

	cfg := testConfig(root)
	cfg.Labels = []string{"com.docker.compose.project"}
	cfg.DockerSockets = []string{"/run/docker.sock", "/run/absent.sock"}
	cfg.Kubelet = KubeletConfig{URL: kubelet.URL, TokenFile: filepath.Join(root, "token")}
	require.NoError(t, os.WriteFile(cfg.Kubelet.TokenFile, []byte("s3cret\n"), 0o600))
	c := newTest(t, cfg)
	require.NotContains(t, expose(t, c), "nginx", "before Run")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	require.Eventually(t, func() bool { return len(c.names.Load().containers) > 0 }, time.Minute, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-done)

	var got []string
	for line := range strings.Lines(expose(t, c)) {
		if strings.HasPrefix(line, "container_start_time_seconds{") && strings.Contains(line, "scope") || strings.Contains(line, `slice",image="",name="",namespace="prod"`) && strings.HasPrefix(line, "container_start") {
			got = append(got, short(line[:strings.LastIndexByte(line, ' ')]))
		}
	}
	const pod = `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1b4e28ba_2fa1_11d2_883f_0016d3cca427.slice`
	require.Equal(t, []string{
		`container_start_time_seconds{container="",container_label_com_docker_compose_project="",id="` + pod + `",image="",name="",namespace="prod",pod="api-0"}`,
		`container_start_time_seconds{container="",container_label_com_docker_compose_project="",id="` + pod + `/cri-containerd-cccc.scope",image="",name="cccc",namespace="prod",pod="api-0"}`,
		`container_start_time_seconds{container="",container_label_com_docker_compose_project="",id="/machine.slice/libpod-dddd.scope",image="docker.io/library/redis:7",name="cache",namespace="",pod=""}`,
		`container_start_time_seconds{container="",container_label_com_docker_compose_project="shop",id="/system.slice/docker-aaaa.scope",image="nginx:1.27",name="web",namespace="",pod=""}`,
		`container_start_time_seconds{container="api",container_label_com_docker_compose_project="",id="` + pod + `/cri-containerd-bbbb.scope",image="registry/api:1",name="bbbb",namespace="prod",pod="api-0"}`,
	}, got)
	require.Equal(t, 4.0, testutil.ToFloat64(c.metrics.named))
	require.Equal(t, identity.Names{Container: "api", Pod: "api-0", PodNamespace: "prod", Workload: "api"}, c.Names(idB, podUID))
	require.Equal(t, identity.Names{Container: "web", Service: "front"}, c.Names(idA, ""))
	require.Equal(t, identity.Names{Pod: "api-0", PodNamespace: "prod", Workload: "api"}, c.Names("", podUID))
	require.Zero(t, c.Names("", ""))
	for _, op := range []string{"docker", "kubelet", "files", "scan", "network"} {
		require.Zero(t, testutil.ToFloat64(c.metrics.errors.WithLabelValues(op)), op)
	}
}

// Where the kubelet does not answer, the cluster's API server is asked for the
// pods of the node.
func TestPodsOfAPIServer(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/pods" || r.URL.Query().Get("fieldSelector") != "spec.nodeName=node-7" || r.Header.Get("Authorization") != "Bearer s3cret" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"kind":"PodList","items":[{"metadata":{"name":"shop-5d8f7c9b4-abcde","namespace":"prod","uid":%q,
			"labels":{"pod-template-hash":"5d8f7c9b4"},"ownerReferences":[{"kind":"ReplicaSet","name":"shop-5d8f7c9b4","controller":true}]}}]}`, podUID)
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	cfg := KubeletConfig{URL: "https://127.0.0.1:1", TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt")}
	require.NoError(t, os.WriteFile(cfg.TokenFile, []byte("s3cret\n"), 0o600))
	require.NoError(t, os.WriteFile(cfg.CAFile, pemOf(srv), 0o600))
	host, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	env := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port, "NODE_NAME": "node-7"}
	k := &kubelet{cfg: cfg, env: func(key string) string { return env[key] }}
	q := &question{labels: []string{"pod-template-hash"}}
	got, err := k.ask(t.Context(), q)
	require.NoError(t, err)
	require.Equal(t, meta{Pod: "shop-5d8f7c9b4-abcde", Namespace: "prod", Workload: "shop", Labels: map[string]string{"pod-template-hash": "5d8f7c9b4"}}, got.pods[podUID])

	env["NODE_NAME"] = "another"
	_, err = k.ask(t.Context(), q)
	require.ErrorContains(t, err, "at the API server: got status 403")
	require.NotErrorIs(t, err, syscall.ECONNREFUSED, "which would mean that there is no kubelet")
	delete(env, "NODE_NAME")
	_, err = k.ask(t.Context(), q)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// pemOf is the certificate of a server.
func pemOf(srv *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

func streamOf(text string) *jsonStream { return newJSONStream(strings.NewReader(text)) }

func TestPodNames(t *testing.T) {
	for _, tc := range []struct{ metadata, workload, service string }{
		{`{"name":"a"}`, "", ""},
		{`{"ownerReferences":[{"kind":"DaemonSet","name":"agent","controller":true}]}`, "agent", ""},
		{`{"ownerReferences":[{"kind":"Other","name":"x"}]}`, "", ""},
		{`{"ownerReferences":[{"kind":"Job","name":"backup-29384710","controller":true}]}`, "backup", ""},
		{`{"ownerReferences":[{"kind":"Job","name":"migrate-2","controller":true}]}`, "migrate-2", ""},
		{`{"name":"kube-proxy-node7","ownerReferences":[{"kind":"Node","name":"node7","controller":true}]}`, "kube-proxy", ""},
		{`{"name":"dns-n1","annotations":{"kubernetes.io/config.source":"file"}}, "spec":{"nodeName":"n1"}`, "dns", ""},
		{`{"name":"bare-n1","annotations":{"kubernetes.io/config.source":"api"}},"spec":{"nodeName":"n1"}`, "", ""},
		{`{"labels":{"app.kubernetes.io/name":"shop"}}`, "", "shop"},
		{`{"labels":{"app.kubernetes.io/name":"shop","app.kubernetes.io/instance":"shop-eu"}}`, "", "shop-eu"},
		{`{"labels":{"app.kubernetes.io/name":"shop"},"annotations":{"resource.opentelemetry.io/service.name":"till"}}`, "", "till"},
	} {
		k := new(question).catalog()
		require.NoError(t, decodePods(streamOf(`{"kind":"PodList","items":[{"metadata":`+tc.metadata+`}]}`), new(question), k))
		require.Equal(t, tc.workload, k.pods[""].Workload, tc.metadata)
		require.Equal(t, tc.service, k.pods[""].Service, tc.metadata)
	}
	for answer, want := range map[string]string{
		`{"message":"forbidden"}`:     "got no list",
		`{"items":null}`:              "",
		`{"kind":"PodList","items":[`: "EOF",
		`[]`:                          "want an object",
		`{"items":{}}`:                "want a list",
	} {
		err := decodePods(streamOf(answer), new(question), new(question).catalog())
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want, answer)
		}
	}
}

// An engine that stops answering leaves what it said last, and one that hangs
// does not hold up Collect.
func TestEngineFails(t *testing.T) {
	root := plant(t, "v2.tree")
	synctest.Test(t, func(t *testing.T) {
		c := newTest(t, testConfig(root))
		c.now = time.Now
		src := &scriptedSource{}
		c.sources = []source{src}
		src.play(func(context.Context) (*catalog, error) {
			return &catalog{containers: map[string]meta{idA: {Name: "web"}}}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		require.Contains(t, expose(t, c), `name="web"`)

		src.play(func(ctx context.Context) (*catalog, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		time.Sleep(askAgain + c.cfg.RescanInterval)
		require.Contains(t, expose(t, c), `name="web"`)
		time.Sleep(2 * askTimeout)
		synctest.Wait()
		// After 10 and 20 s, because of the containers that nobody knows.
		require.Equal(t, 2.0, testutil.ToFloat64(c.metrics.errors.WithLabelValues("docker")))
		require.Contains(t, expose(t, c), `name="web"`)

		src.play(func(context.Context) (*catalog, error) { return nil, errAbsent })
		time.Sleep(askAgain + c.cfg.RescanInterval)
		synctest.Wait()
		require.Contains(t, expose(t, c), `name="web"`, "an engine that has answered is being restarted")
		cancel()
		require.NoError(t, <-done)
	})
}

type scriptedSource struct {
	script atomic.Pointer[func(context.Context) (*catalog, error)]
}

func (s *scriptedSource) play(f func(context.Context) (*catalog, error)) { s.script.Store(&f) }

func (s *scriptedSource) name() string { return "docker" }

func (s *scriptedSource) ask(ctx context.Context, _ *question) (*catalog, error) {
	return (*s.script.Load())(ctx)
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"))
	f.Add([]byte("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"))
	f.Add([]byte("8:0 Read 1\n8:0 Total 1\nTotal 1\n"))
	f.Add([]byte("a\nb\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"))
	f.Add([]byte(`{"annotations":{"io.kubernetes.cri.sandbox-name":"p"}}`))
	f.Add([]byte(`[{"Id":"x","Names":["/a"],"Labels":{"b":"c"}}]`))
	f.Add([]byte(`{"items":[{"metadata":{"uid":"u"},"status":{"containerStatuses":[{"containerID":"docker://x"}]}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsePairs(data)
		parsePressure(data)
		size, count := parseIOStat(data)
		require.Len(t, count, len(size))
		parseBlkio(data)
		appendInts(nil, data)
		for _, d := range parseNetDev(data) {
			require.NotContains(t, d.name, ":")
		}
		decodeBundle(data)
		q := &question{ids: map[string]time.Time{"x": {}}, labels: []string{"b"}}
		k := q.catalog()
		_ = decodeDocker(streamOf(string(data)), q, k)
		_ = decodePods(streamOf(string(data)), q, k)
		decodePodman(data, q, k)
		for id, m := range k.containers {
			require.Equal(t, "x", id)
			require.Subset(t, []string{"b"}, slices.Collect(maps.Keys(m.Labels)))
		}
	})
}

func FuzzClassify(f *testing.F) {
	f.Add("/kubepods.slice/kubepods-pod" + podUID + ".slice/crio-" + idA + ".scope")
	f.Add("/a.service/b:c:d")
	f.Fuzz(func(t *testing.T, path string) {
		who := classify(path)
		if who.kind == kindContainer {
			require.NotEmpty(t, who.id)
			require.NotEmpty(t, who.runtime)
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	c, err := New(DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(b, err)
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
