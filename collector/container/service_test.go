package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// program is a process as /proc shows it.
type program struct {
	pid, start int
	exe        string
	args       []string
	environ    []string
	cgroup     string
	unreadable bool // by whoever may not look into it
}

func writePrograms(t *testing.T, root string, programs ...program) {
	t.Helper()
	procs := make(map[string]string)
	for _, p := range programs {
		proc := fmt.Sprintf("proc/%d/", p.pid)
		fields := strings.Repeat(" 0", 18) + fmt.Sprintf(" %d", p.start) + strings.Repeat(" 0", 30)
		write(t, root, map[string]string{
			proc + "stat":   fmt.Sprintf("%d (%s) S%s\n", p.pid, filepath.Base(p.exe), fields),
			proc + "cgroup": "0::/" + p.cgroup + "\n",
		})
		if !p.unreadable {
			write(t, root, map[string]string{
				proc + "cmdline": strings.Join(p.args, "\x00") + "\x00",
				proc + "environ": strings.Join(p.environ, "\x00") + "\x00",
			})
			require.NoError(t, os.Symlink(p.exe, filepath.Join(root, proc, "exe")))
		}
		procs["sys/fs/cgroup/"+p.cgroup+"/cgroup.procs"] += fmt.Sprintln(p.pid)
	}
	write(t, root, procs)
}

// What a container's log lines are called is what its main process is called by the
// rule of metrics and spans.
func TestService(t *testing.T) {
	const pod = "kubepods.slice/kubepods-pod"
	uid := func(c string) string { return strings.Repeat(c, 8) + "-0000-0000-0000-000000000000" }
	scope := func(c string) string { return "system.slice/docker-" + strings.Repeat(c, 64) + ".scope" }
	inPod := func(c string) string {
		return pod + strings.ReplaceAll(uid(c), "-", "_") + ".slice/cri-containerd-" + strings.Repeat(c, 64) + ".scope"
	}
	root := t.TempDir()
	write(t, root, map[string]string{"proc/stat": "btime 1700000000\n", "sys/fs/cgroup/cgroup.controllers": "cpu\n"})
	writePrograms(t, root,
		program{pid: 21, start: 90, exe: "/usr/sbin/nginx", args: []string{"nginx"}, cgroup: scope("a")}, // a worker; numbers began anew
		program{pid: 40, start: 50, exe: "/bin/dash", args: []string{"/bin/dash", "/start.sh"}, cgroup: scope("a")},
		program{pid: 41, start: 51, exe: "/usr/sbin/nginx", args: []string{"nginx"}, cgroup: scope("a")},
		program{pid: 50, start: 52, exe: "/usr/bin/node", args: []string{"node", "/srv/shop.js"}, environ: []string{"OTEL_SERVICE_NAME=cart", "OTEL_RESOURCE_ATTRIBUTES=service.namespace=n"}, cgroup: scope("b")},
		program{pid: 60, start: 52, exe: "/usr/bin/node", args: []string{"node", "/srv/shop.js"}, cgroup: scope("c")},
		program{pid: 61, start: 52, exe: "/bin/bash", args: []string{"/bin/bash", "-c", "x"}, cgroup: scope("d")},
		program{pid: 70, start: 53, exe: "/app", args: []string{"/app"}, cgroup: inPod("e")},
		program{pid: 71, start: 53, exe: "/app", args: []string{"/app"}, environ: []string{"OTEL_SERVICE_NAME=own"}, cgroup: inPod("f")},
		program{pid: 80, start: 54, exe: "/gone", unreadable: true, cgroup: scope("0")},
	)
	c := newTest(t, testConfig(root))
	_, err := c.scan()
	require.NoError(t, err)
	id := func(c string) string { return strings.Repeat(c, 64) }
	check := func(k container, want ...string) {
		t.Helper()
		name, namespace, settled := c.service(k)
		got := strings.Trim(namespace+"/"+name, "/")
		if settled {
			got += " settled"
		}
		require.Equal(t, strings.Join(want, " "), got)
	}
	check(container{id: id("a")}, "nginx")
	check(container{id: id("b")}, "n/cart")
	check(container{id: id("c")}, "shop")
	check(container{id: id("d")}, "bash")
	check(container{id: id("e")}, "app")
	check(container{id: id("0")}, "")
	check(container{id: id("9")}, "")
	check(container{podUID: uid("e"), name: "web"}, "")

	known := map[string]meta{}
	for _, one := range []string{"a", "b", "c", "d", "0"} {
		known[id(one)] = meta{Name: "name-" + one}
	}
	known[id("c")] = meta{Service: "front"}
	known[id("e")], known[id("f")] = meta{Container: "web"}, meta{Container: "web"}
	c.names.Store(&catalog{containers: known, pods: map[string]meta{
		uid("e"): {Pod: "p-1", Namespace: "shop", Workload: "p"}, uid("f"): {Pod: "q-1", Namespace: "shop", Workload: "q"},
		uid("9"): {Pod: "r-1", Namespace: "shop", Workload: "r", Service: "rr"},
	}})
	check(container{id: id("a")}, "nginx", "settled")
	check(container{id: id("c")}, "front", "settled")
	check(container{id: id("d")}, "bash")
	check(container{podUID: uid("e"), name: "web"}, "shop/p", "settled")
	check(container{podUID: uid("f"), name: "web"}, "shop/own", "settled")
	check(container{podUID: uid("f"), name: "other"}, "shop/q")
	check(container{podUID: uid("9"), name: "ended"}, "shop/rr")
}

// Who asks is told at once what is known, and Run finds out the rest.
func TestServiceIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		write(t, root, map[string]string{"proc/stat": "btime 1700000000\n", "sys/fs/cgroup/cgroup.controllers": "cpu\n"})
		writePrograms(t, root, program{pid: 41, start: 51, exe: "/usr/sbin/nginx", args: []string{"nginx"}, cgroup: "system.slice/docker-" + idA + ".scope"})
		c := newTest(t, testConfig(root))
		c.now = time.Now
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		name, _, _ := c.Service(idA, "", "")
		require.Empty(t, name)
		synctest.Wait()
		name, _, settled := c.Service(idA, "", "")
		require.Equal(t, "nginx", name)
		require.True(t, settled, "no engine knows it")
		for range 2 * int(keepName/c.cfg.RescanInterval) {
			time.Sleep(c.cfg.RescanInterval)
		}
		synctest.Wait()
		require.Empty(t, c.services.of)
		cancel()
		require.NoError(t, <-done)
	})
}

// What was settled stays when a container has ended.
func TestServiceStays(t *testing.T) {
	c := newTest(t, testConfig(t.TempDir()))
	k := container{id: idA}
	now := c.now()
	c.services.put(k, service{name: "shop", namespace: "n", settled: true, at: now})
	c.services.put(k, service{name: "", at: now})
	name, namespace, settled := c.Service(idA, "", "")
	require.Equal(t, []any{"shop", "n", true}, []any{name, namespace, settled})
	c.services.put(k, service{name: "cart", settled: true, at: now})
	name, _, _ = c.Service(idA, "", "")
	require.Equal(t, "cart", name)
}

// Where no kubelet is to be asked, a container in a pod is settled as any other.
func TestServiceWithoutKubelet(t *testing.T) {
	for _, tc := range []struct {
		why     string
		err     error
		settled bool
	}{
		{"it has no token", fmt.Errorf("read token of kubelet: %w", os.ErrNotExist), true},
		{"it refuses", errors.New("got 403"), false},
		{"it takes too long", context.DeadlineExceeded, false},
	} {
		engine, pods := &scriptedSource{}, &namedSource{as: kubeletName}
		a := newAsking(t, engine, pods)
		engine.play(func(context.Context) (*catalog, error) { return nil, errAbsent })
		pods.play(func(context.Context) (*catalog, error) { return nil, tc.err })
		g := &cgroup{place: place{kind: kindContainer, id: "a", podUID: "of-a"}}
		require.False(t, a.c.names.Load().settled(g), tc.why)
		a.there(t, "a")
		require.Equal(t, tc.settled, a.c.names.Load().settled(g), tc.why)
		pods.play(a.all)
		a.now = a.now.Add(askAgain)
		a.there(t, "a", "b")
		require.True(t, a.c.names.Load().settled(g), tc.why)
		require.False(t, a.c.names.Load().settled(&cgroup{place: place{kind: kindContainer, id: "c", podUID: "of-c"}}), tc.why)
	}
}

// namedSource is a scriptedSource of another name.
type namedSource struct {
	scriptedSource
	as string
}

func (s *namedSource) name() string { return s.as }
