package identity

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const id = "3f4a1c9d8e7b6a5f4e3d2c1b0a9f8e7d6c5b4a3f2e1d0c9b8a7f6e5d4c3b2a1f"

func TestParseGroup(t *testing.T) {
	const uid = "1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901"
	under := strings.ReplaceAll(uid, "-", "_")
	for _, tc := range []struct {
		name, contents string
		want           Group
	}{
		{"root", "0::/\n", Group{Path: "/"}},
		{"empty", "", Group{}},
		{"garbage", "no colons here\n1:\n", Group{}},
		{"unit", "0::/system.slice/nginx.service\n", Group{Path: "/system.slice/nginx.service", Unit: "nginx.service"}},
		{"v1 and v2", "3:cpu:/\n1:name=systemd:/system.slice/a@b.service\n0::/\n",
			Group{Path: "/system.slice/a@b.service", Unit: "a@b.service"}},
		{"docker, cgroupfs", "4:memory:/docker/" + id + "\n", Group{Path: "/docker/" + id, ContainerID: id, Engine: "docker"}},
		{"docker, systemd", "0::/system.slice/docker-" + id + ".scope\n",
			Group{Path: "/system.slice/docker-" + id + ".scope", ContainerID: id, Engine: "docker"}},
		{"podman", "0::/machine.slice/libpod-" + id + ".scope/container\n",
			Group{Path: "/machine.slice/libpod-" + id + ".scope/container", ContainerID: id, Engine: "podman"}},
		{"pod, systemd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope\n",
			Group{Path: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope",
				ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"pod, cgroupfs", "0::/kubepods/besteffort/pod" + uid + "/" + id + "\n",
			Group{Path: "/kubepods/besteffort/pod" + uid + "/" + id, ContainerID: id, PodUID: uid}},
		{"pod, inside a unit", "0::/system.slice/containerd.service/kubepods-pod" + under + ".slice:cri-containerd:" + id + "\n",
			Group{Path: "/system.slice/containerd.service/kubepods-pod" + under + ".slice:cri-containerd:" + id,
				ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"pod, in kind", "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope\n",
			Group{Path: "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope",
				ContainerID: id, Engine: "containerd", PodUID: uid}},
		{"cri-o", "0::/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope\n",
			Group{Path: "/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope", ContainerID: id, Engine: "cri-o", PodUID: uid}},
	} {
		if got := ParseGroup(tc.contents); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

// fake writes the files of one process below a directory.
func fake(t *testing.T, proc string, pid int, ticks int64, exe, cgroup string, args, environ []string) {
	t.Helper()
	dir := filepath.Join(proc, fmt.Sprint(pid))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stat := fmt.Sprintf("%d (odd) name)) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 1 1 1\n", pid, ticks)
	for name, body := range map[string]string{
		"stat": stat, "cgroup": cgroup,
		"cmdline": strings.Join(args, "\x00") + "\x00",
		"environ": strings.Join(environ, "\x00") + "\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(exe, filepath.Join(dir, "exe")); err != nil {
		t.Fatal(err)
	}
}

func TestServiceName(t *testing.T) {
	for i, tc := range []struct {
		exe, cgroup   string
		args, environ []string
		service, ns   string
	}{
		{exe: "/usr/sbin/nginx", cgroup: "0::/system.slice/web.service\n", service: "web"},
		{exe: "/usr/sbin/nginx", cgroup: "0::/\n", service: "nginx"},
		{exe: "/opt/app (deleted)", cgroup: "0::/user.slice/user-0.slice/user@0.service/app.slice/x.scope\n", service: "app"},
		{exe: "/opt/app", cgroup: "0::/system.slice/app@blue.service\n", service: "app@blue"},
		{exe: "/opt/app", cgroup: "0::/system.slice/docker-" + id + ".scope\n", service: "app"},
		{exe: "/opt/app", cgroup: "0::/system.slice/app.service\n", environ: []string{"A=b", "OTEL_SERVICE_NAME=shop"}, service: "shop"},
		{exe: "/opt/app", environ: []string{"OTEL_RESOURCE_ATTRIBUTES=service.namespace=eu, service.name=cart"}, service: "cart", ns: "eu"},
		{exe: "/opt/app", environ: []string{"OTEL_SERVICE_NAME=a", "OTEL_RESOURCE_ATTRIBUTES=service.name=b"}, service: "a"},
		{exe: "/usr/bin/java", args: []string{"java", "-Xmx1g", "-jar", "/srv/shop.jar"}, service: "shop"},
		{exe: "/usr/bin/java", args: []string{"java", "-cp", "a:b", "com.acme.Main", "-x"}, service: "Main"},
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-u", "/srv/api.py"}, service: "api"},
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-m", "http.server"}, service: "http.server"},
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-c", "pass"}, service: "python3.11"},
		{exe: "/usr/bin/node", args: []string{"node", "-r", "x", "/srv/web/server.js"}, service: "server"},
		{exe: "/usr/bin/java", args: []string{"java", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-Dx=y", "com.acme.Main"}, service: "Main"},
		{exe: "/usr/bin/java", args: []string{"java", "-p", "mods", "-m", "shop/com.acme.Shop"}, service: "Shop"},
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-Im", "api"}, service: "api"},
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-Wignore", "/srv/api.py"}, service: "api"},
		// Text of programs may hold secrets, and is of any length.
		{exe: "/usr/bin/python3.11", args: []string{"python3", "-Bc", "token='s3cret'"}, service: "python3.11"},
		{exe: "/usr/bin/perl", args: []string{"perl", "-pe", "s/s3cret//"}, service: "perl"},
		{exe: "/usr/bin/perl", args: []string{"perl", "-Mlib=x", "/srv/tell.pl"}, service: "tell"},
		{exe: "/usr/bin/ruby", args: []string{"ruby", "-ne", "puts 's3cret'"}, service: "ruby"},
		{exe: "/usr/bin/node", args: []string{"node", "--eval", "s3cret()"}, service: "node"},
		{exe: "/usr/bin/node", args: []string{"node", "-pe", "s3cret"}, service: "node"},
		{exe: "/usr/bin/php8.2", args: []string{"php", "-S", "localhost:80", "/srv/front.php"}, service: "front"},
		{exe: "/usr/bin/node", args: []string{"node", "a b; s3cret"}, service: "node"},
		// Names are the process's own choice, and must be fit for labels.
		{exe: "/opt/app", environ: []string{"OTEL_SERVICE_NAME=\xffshop"}, service: "\uFFFDshop"},
		{exe: "/opt/\xc3\x28", service: "\uFFFD("},
		{exe: "/opt/app", environ: []string{"OTEL_SERVICE_NAME=" + strings.Repeat("a", 199) + "é"}, service: strings.Repeat("a", 199)},
	} {
		proc := t.TempDir()
		fake(t, proc, 7, 1234, tc.exe, tc.cgroup, tc.args, tc.environ)
		got := New(proc, nil).Resolve(Key{PID: 7, StartNanos: 12_345_678_901}, "thread")
		if got.Service != tc.service || got.Namespace != tc.ns {
			t.Errorf("case %d: got %q in %q, want %q in %q", i, got.Service, got.Namespace, tc.service, tc.ns)
		}
	}
}

func TestResolverKeepsProcessesApart(t *testing.T) {
	proc := t.TempDir()
	fake(t, proc, 7, 1234, "/opt/old", "0::/\n", nil, nil)
	r := New(proc, nil)
	old := Key{PID: 7, StartNanos: 12_340_000_000}
	if got := r.Resolve(old, "t").Service; got != "old" {
		t.Fatalf("got %q, want old", got)
	}
	if err := os.RemoveAll(filepath.Join(proc, "7")); err != nil {
		t.Fatal(err)
	}
	if r.Alive(old) {
		t.Error("a process without files is alive")
	}
	fake(t, proc, 7, 5000, "/opt/new", "0::/\n", nil, nil)
	if r.Alive(old) {
		t.Error("a process whose id was given to another is alive")
	}
	if got := r.Resolve(old, "t").Service; got != "old" {
		t.Errorf("remembered: got %q, want old", got)
	}
	if got := r.Resolve(Key{PID: 7, StartNanos: 50_009_999_999}, "t").Service; got != "new" {
		t.Errorf("got %q, want new", got)
	}
	now := time.Now()
	r.Sweep(now)
	if got := r.Resolve(old, "t").Service; got != "old" {
		t.Errorf("just gone: got %q, want old", got)
	}
	r.Sweep(now.Add(time.Hour))
	if got := r.Resolve(old, "gone"); got.Service != "gone" || got.Executable != "gone" {
		t.Errorf("forgotten and gone: got %+v, want what the kernel called it", got)
	}
}

// names is a directory of one container.
type names map[string]Names

func (n names) Names(containerID, _ string) Names { return n[containerID] }

// What engines say of a container is heard as soon as they say it, and stays
// below what the process's environment says.
func TestDirectory(t *testing.T) {
	proc := t.TempDir()
	fake(t, proc, 7, 1234, "/usr/bin/python3", "0::/docker/"+id+"\n", []string{"python3", "-m", "api"}, nil)
	fake(t, proc, 8, 1234, "/usr/bin/python3", "0::/docker/"+id+"\n", nil, []string{"OTEL_SERVICE_NAME=till"})
	known := names{}
	r := New(proc, known)
	k := Key{PID: 7, StartNanos: 12_340_000_000}
	if got := r.Resolve(k, ""); got.Service != "api" || got.Pod != "" {
		t.Errorf("not known yet: got %+v", got)
	}
	known[id] = Names{Container: "main", Pod: "shop-0", PodNamespace: "prod", Workload: "shop"}
	if got := r.Resolve(k, ""); got.Service != "shop" || got.Pod != "shop-0" || got.Namespace != "prod" {
		t.Errorf("workload: got %+v", got)
	}
	known[id] = Names{Container: "main", Pod: "shop-0", Workload: "shop", Service: "shop-eu"}
	if got := r.Resolve(k, "").Service; got != "shop-eu" {
		t.Errorf("label: got %q, want shop-eu", got)
	}
	if got := r.Resolve(Key{PID: 8, StartNanos: 12_340_000_000}, ""); got.Service != "till" || got.Pod != "shop-0" {
		t.Errorf("environment: got %+v, want till", got)
	}
}

// The counts of a process outlive its container, which the directory forgets: under
// another name they would begin anew there, and fall where they were.
func TestNamesOfTheGone(t *testing.T) {
	proc := t.TempDir()
	fake(t, proc, 7, 1234, "/usr/bin/guest", "0::/kubepods/pod1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901/"+id+"\n", []string{"guest"}, nil)
	known := names{id: {Container: "main", Pod: "shop-0", PodNamespace: "prod", Workload: "shop"}}
	r := New(proc, known)
	k := Key{PID: 7, StartNanos: 12_340_000_000}
	want := r.Resolve(k, "")
	if want.Service != "shop" || want.Container != "main" {
		t.Fatalf("while it runs: got %+v", want)
	}
	child := Key{PID: 8, StartNanos: 13_000_000_000}
	r.Inherit(child, k)
	for what, now := range map[string]Names{"the pod is still known": {Pod: "shop-0", PodNamespace: "prod", Workload: "shop"}, "nothing is known": {}} {
		known[id] = now
		if got := r.Resolve(k, ""); got != want {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
		if got := r.Resolve(child, ""); got.Names != want.Names || got.Service != want.Service {
			t.Errorf("%s, a child: got %+v, want %+v", what, got, want)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	ticks := parseStat(stat).start
	if ticks < 0 {
		t.Fatal("own start time is not readable")
	}
	k := Key{PID: uint32(os.Getpid()), StartNanos: uint64(ticks * nanosPerTick)}
	r := New("/proc", nil)
	if !r.Alive(k) {
		t.Error("this process is not alive")
	}
	if got := r.Resolve(k, ""); got.Executable != "identity.test" {
		t.Errorf("executable %q, want identity.test", got.Executable)
	}
}

func FuzzParseGroup(f *testing.F) {
	f.Add("0::/system.slice/docker-" + id + ".scope\n")
	f.Add("1:a:b:c\n")
	f.Fuzz(func(t *testing.T, s string) { ParseGroup(s) })
}

// A process that was seen between its fork and its exec, or that begins another
// program, is read again.
func TestExec(t *testing.T) {
	proc := t.TempDir()
	become := func(exe, args string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(proc, "7")); err != nil {
			t.Fatal(err)
		}
		fake(t, proc, 7, 1234, exe, "0::/\n", nil, nil)
		stat := "7 (sh) S 1" + strings.Repeat(" 0", 17) + " 1234" + strings.Repeat(" 0", 25) + " " + args + " 0 0 0 0\n"
		if err := os.WriteFile(filepath.Join(proc, "7", "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := Key{PID: 7, StartNanos: 12_340_000_000}
	r := New(proc, nil)
	want := func(service string) {
		t.Helper()
		if got := r.Resolve(k, "t").Service; got != service {
			t.Errorf("got %q, want %q", got, service)
		}
	}
	become("/bin/sh", "1000")
	want("sh")
	become("/opt/shop", "2000")
	want("sh")
	r.Sweep(time.Now())
	want("shop")
	become("/opt/other", "2000") // as an upgraded file may: the program is the same
	r.Sweep(time.Now())
	want("shop")

	become("/opt/ending", "0") // as the process ends
	r.Sweep(time.Now())
	want("shop")
	become("/opt/other", "2000")

	// What the kernel tells is not read again, until the next program.
	r.Introduce(k, Facts{Executable: "told"})
	r.Sweep(time.Now())
	want("told")
	become("/opt/late", "3000")
	r.Sweep(time.Now())
	want("late")

	// A child has its parent's program, and may be asked for before any sweep.
	child := Key{PID: 7, StartNanos: 12_349_999_999}
	r.Inherit(child, k)
	r.mu.Lock()
	r.cache[child].again = time.Now()
	r.mu.Unlock()
	if got := r.Resolve(child, ""); got.Service != "late" {
		t.Errorf("same program: got %q, want late", got.Service)
	}
	become("/opt/child", "4000")
	r.mu.Lock()
	r.cache[child].again = time.Now()
	r.mu.Unlock()
	if got := r.Resolve(child, ""); got.Service != "child" {
		t.Errorf("another program: got %q, want child", got.Service)
	}
}

// A real shell becomes another program.
func TestRealExec(t *testing.T) {
	cmd := exec.Command("sh", "-c", "read x; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer in.Close()
	r := New("/proc", nil)
	s, err := r.stat(uint32(cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	k := Key{PID: uint32(cmd.Process.Pid), StartNanos: uint64(s.start * nanosPerTick)}
	first := r.Resolve(k, "").Executable
	if first == "cat" {
		t.Fatal("the shell is cat")
	}
	if now, ok := bootNanos(); ok && now < int64(k.StartNanos)+int64(settling) && r.cache[k].again.IsZero() {
		t.Error("a process that was born just now is not looked at again")
	}
	fmt.Fprintln(in)
	for deadline := time.Now().Add(20 * time.Second); r.Resolve(k, "").Executable != "cat"; r.Sweep(time.Now()) {
		if time.Now().After(deadline) {
			t.Fatalf("still %q", r.Resolve(k, "").Executable)
		}
		runtime.Gosched()
	}
}

// A host that begins many programs still has room for the newest.
func TestRoom(t *testing.T) {
	r := New(t.TempDir(), nil)
	for i := range maxCached + 100 {
		r.Introduce(Key{PID: uint32(i), StartNanos: 1}, Facts{Executable: "x"})
	}
	if len(r.cache) != maxCached {
		t.Errorf("got %d entries, want %d", len(r.cache), maxCached)
	}
	last := Key{PID: maxCached + 99, StartNanos: 1}
	if got := r.Resolve(last, "").Service; got != "x" {
		t.Errorf("the newest: got %q, want x", got)
	}
}

func TestReadIsBounded(t *testing.T) {
	proc := t.TempDir()
	fake(t, proc, 7, 1234, "/opt/app", "0::/\n", []string{strings.Repeat("a", 2*maxRead)}, []string{strings.Repeat("b", 2*maxRead), "OTEL_SERVICE_NAME=x"})
	r := New(proc, nil)
	if b, err := r.readFile(7, "cmdline"); err != nil || len(b) != maxRead {
		t.Errorf("got %d bytes and %v, want %d", len(b), err, maxRead)
	}
	if got := r.Resolve(Key{PID: 7, StartNanos: 12_340_000_000}, "").Service; got != "app" {
		t.Errorf("got %q, want app", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(b) })
}

func FuzzSettle(f *testing.F) {
	f.Add("python3", "python3\x00-m\x00x", "OTEL_SERVICE_NAME=a")
	f.Fuzz(func(t *testing.T, exe, args, environ string) {
		p := Process{Executable: clean(exe)}
		p.settle("", splitZero([]byte(args)), splitZero([]byte(environ)))
		for _, s := range []string{p.Service, p.Namespace} {
			if !utf8.ValidString(s) || len(s) > 3*maxName {
				t.Errorf("got %q", s)
			}
		}
	})
}

// An executable with several names goes by the one that it was called by.
func TestCalledBy(t *testing.T) {
	proc, bin := t.TempDir(), t.TempDir()
	exe := filepath.Join(bin, "redis-check-rdb")
	for _, err := range []error{
		os.WriteFile(exe, nil, 0o755), os.Symlink("redis-check-rdb", filepath.Join(bin, "redis-server")),
		os.WriteFile(filepath.Join(bin, "other"), nil, 0o755), os.Symlink("other", filepath.Join(bin, "alias")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, tc := range []struct{ arg, service string }{
		{filepath.Join(bin, "redis-server") + " 127.0.0.1:6379", "redis-server"},
		{"-redis-server", "redis-server"},
		{"redis-check-rdb", "redis-check-rdb"},
		{"alias", "redis-check-rdb"},
		{"invented", "redis-check-rdb"},
		{"", "redis-check-rdb"},
	} {
		fake(t, proc, 100+i, 1234, exe, "0::/\n", []string{tc.arg}, nil)
		if err := os.Symlink("/", filepath.Join(proc, fmt.Sprint(100+i), "root")); err != nil {
			t.Fatal(err)
		}
		got := New(proc, nil).Resolve(Key{PID: uint32(100 + i), StartNanos: 12_340_000_000}, "")
		if got.Service != tc.service || got.Executable != "redis-check-rdb" {
			t.Errorf("called %q: got %q of %q, want %q", tc.arg, got.Service, got.Executable, tc.service)
		}
	}
}
