package log

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// told is what Services know, by the id or by the pod and the name in it.
type told struct {
	mu sync.Mutex
	of map[string][3]string // name, namespace, and whether that is all; under mu
}

func (k *told) Service(containerID, podUID, nameInPod string) (name, namespace string, settled bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.of[containerID+podUID+"/"+nameInPod]
	return v[0], v[1], v[2] == "all"
}

func (k *told) say(container, name, namespace, settled string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[container] = [3]string{name, namespace, settled}
}

// naming runs a Tailer of containers' files under dir that asks k.
func naming(t *testing.T, dir string, k Services, edit func(*Source)) *sink {
	s := new(sink)
	docker, pods := beginning(dir+"/containers/*/*-json.log"), beginning(dir+"/pods/*/*/*.log")
	docker.Format, pods.Format = FormatDocker, FormatCRI
	if edit != nil {
		edit(&pods)
	}
	tail, err := Open(Options{
		Config: testConfig(docker, pods), Dir: t.TempDir(), Host: "box", Tenant: "team", Services: k, Write: s.write,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tail.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s
}

// services are the lines that came, with what their services are called.
func services(s *sink) map[string]string {
	of := make(map[string]string)
	for _, g := range s.all() {
		name, _ := g.resource["service.name"].(string)
		namespace, _ := g.resource["service.namespace"].(string)
		of[g.body] = strings.Trim(namespace+"/"+name, "/")
	}
	return of
}

const podFile = "pods/shop_cart-7d9f-x2x_0a1b/app/0.log"

// Records of a pod wait until its workload is known, and are called after it from the
// first on; what it is called later goes for what is read later.
func TestServiceOfPod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k := t.TempDir(), &told{of: map[string][3]string{}}
		path := filepath.Join(dir, podFile)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		write(t, path, cri("stdout", "F", "one"))
		s := naming(t, dir, k, nil)
		k.say("0a1b/app", "java", "shop", "")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Empty(t, s.all(), "more may be told")
		k.say("0a1b/app", "cart", "shop", "all")
		time.Sleep(2 * nameEvery)
		synctest.Wait()
		require.Equal(t, map[string]string{"one": "shop/cart"}, services(s))
		k.say("0a1b/app", "basket", "shop", "all")
		time.Sleep(nameAgain + nameEvery)
		write(t, path, cri("stdout", "F", "two"))
		time.Sleep(time.Second)
		synctest.Wait()
		want := map[string]string{"one": "shop/cart", "two": "shop/basket"}
		require.Equal(t, want, services(s))
		k.say("0a1b/app", "", "", "") // it has ended
		time.Sleep(nameAgain + nameEvery)
		write(t, path, cri("stdout", "F", "three"))
		time.Sleep(time.Second)
		synctest.Wait()
		want["three"] = "shop/basket"
		require.Equal(t, want, services(s))
	})
}

// Where nobody says more the records wait for so long and no longer, and are called as
// far as it is known, or after their container.
func TestServiceOfUnknown(t *testing.T) {
	for said, want := range map[string]string{"": "shop/app", "java": "shop/java"} {
		synctest.Test(t, func(t *testing.T) {
			dir, k := t.TempDir(), &told{of: map[string][3]string{}}
			k.say("0a1b/app", said, "", "")
			path := filepath.Join(dir, podFile)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			write(t, path, cri("stdout", "F", "one"))
			s := naming(t, dir, k, nil)
			time.Sleep(nameWithin - time.Second)
			synctest.Wait()
			require.Empty(t, s.all())
			require.NoError(t, os.Remove(path)) // which loses nothing
			time.Sleep(3 * time.Second)
			synctest.Wait()
			require.Equal(t, map[string]string{"one": want}, services(s))
		})
	}
}

// What the source says counts, and nobody is asked.
func TestServiceOfSource(t *testing.T) {
	for _, edit := range []func(*Source){
		func(s *Source) { s.Attributes = map[string]string{"service.name": "mine"} },
		func(s *Source) { s.PathPattern = `/pods/[^/]*/(?P<service_name>[^/]+)/` },
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "pods/shop_cart-7d9f-x2x_0a1b/mine/0.log")
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			write(t, path, cri("stdout", "F", "one"))
			s := naming(t, dir, &told{}, edit)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.Equal(t, map[string]string{"one": "mine"}, services(s))
		})
	}
}

// What Docker's file declares is there at once; a container without that is asked for.
func TestServiceOfDocker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k := t.TempDir(), &told{of: map[string][3]string{}}
		want := map[string]string{}
		for id, c := range map[string]struct{ config, service string }{
			"a": {`{"Name":"/web","Config":{"Labels":{"com.docker.compose.service":"front"}}}`, "front"},
			"b": {`{"Name":"/web2","Config":{"Env":["A=b","OTEL_SERVICE_NAME=shop"],"Labels":{"com.docker.compose.service":"front"}}}`, "shop"},
			"c": {`{"Name":"/web3","Config":{"Env":["OTEL_RESOURCE_ATTRIBUTES=service.namespace=n,service.name=cart"]}}`, "n/cart"},
		} {
			id = strings.Repeat(id, 64)
			path := filepath.Join(dir, "containers", id, id+"-json.log")
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "config.v2.json"), []byte(c.config), 0o600))
			write(t, path, dockerLine("stdout", c.service+"\n"))
			want[c.service] = c.service
		}
		id := strings.Repeat("d", 64)
		path := filepath.Join(dir, "containers", id, id+"-json.log")
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "config.v2.json"), []byte(`{"Name":"/proxy"}`), 0o600))
		write(t, path, dockerLine("stdout", "plain\n"))
		s := naming(t, dir, k, nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, want, services(s))
		k.say(id+"/", "nginx", "", "all")
		time.Sleep(2 * nameEvery)
		synctest.Wait()
		maps.Copy(want, map[string]string{"plain": "nginx"})
		require.Equal(t, want, services(s))
	})
}

// A file that follows another of its container does not wait anew.
func TestServiceAfterRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k := t.TempDir(), &told{of: map[string][3]string{}}
		path := filepath.Join(dir, podFile)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		write(t, path, cri("stdout", "F", "one"))
		s := naming(t, dir, k, nil)
		time.Sleep(nameWithin / 2)
		synctest.Wait()
		require.NoError(t, os.Rename(path, path+".20261121-000000"))
		write(t, path, cri("stdout", "F", "two"))
		time.Sleep(nameWithin/2 + 2*time.Second)
		synctest.Wait()
		require.Equal(t, map[string]string{"one": "shop/app", "two": "shop/app"}, services(s))
		require.NoError(t, os.Rename(path, path+".20261121-000001"))
		write(t, path, cri("stdout", "F", "three"))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]string{"one": "shop/app", "two": "shop/app", "three": "shop/app"}, services(s))
	})
}

// Files that wait are held open, more of them than are kept otherwise, and none is lost
// when it is deleted.
func TestServiceOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k, s := t.TempDir(), &told{of: map[string][3]string{}}, new(sink)
		pods := beginning(dir + "/pods/*/*/*.log")
		pods.Format = FormatCRI
		c := testConfig(pods)
		const many = 20
		c.MaxOpenFiles = 2
		for i := range many {
			path := filepath.Join(dir, fmt.Sprintf("pods/ci_job-%d_uid%d/run/0.log", i, i))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			write(t, path, cri("stdout", "F", fmt.Sprint("line ", i)))
		}
		tail, _ := openTest(t, c, t.TempDir(), s.write)
		tail.services = k
		look := func() {
			tail.scan(time.Now())
			tail.round(t.Context())
		}
		look()
		time.Sleep(nameWithin / 2)
		tail.scan(time.Now()) // which closes what is idle
		require.Greater(t, testutil.ToFloat64(tail.metrics.lag), 20.0*many, "they are not read yet")
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "pods")))
		for range 3 {
			time.Sleep(nameWithin / 2)
			look()
		}
		require.Len(t, s.all(), many)
		require.Len(t, services(s), many)
		time.Sleep(time.Minute)
		look()
		look()
		for _, f := range tail.files {
			require.Nil(t, f.f)
		}
	})
}

// A namespace that the source says counts, whoever says what the service is called.
func TestNamespaceOfSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, k := t.TempDir(), &told{of: map[string][3]string{}}
		path := filepath.Join(dir, podFile)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		write(t, path, cri("stdout", "F", "one"))
		k.say("0a1b/app", "cart", "shop", "all")
		s := naming(t, dir, k, func(s *Source) { s.Attributes = map[string]string{"service.namespace": "mine"} })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, map[string]string{"one": "mine/cart"}, services(s))
	})
}
