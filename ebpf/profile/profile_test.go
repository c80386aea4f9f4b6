package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){
		"burn":    func() { untilInputEnds(burnInGo) },
		"syscall": func() { untilInputEnds(readZeros) },
	})
}

// untilInputEnds says that it begins and does work until the test closes its
// standard input.
func untilInputEnds(work func()) {
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	fmt.Println("ready")
	for {
		select {
		case <-done:
			return
		default:
			work()
		}
	}
}

var sink uint64

//go:noinline
func burnInGo() { passInGo(20_000_000) }

//go:noinline
func passInGo(n int) {
	spinInGo(n)
	sink++
}

//go:noinline
func spinInGo(n int) {
	x := sink // the race detector does not look at x
	for i := range n {
		x = x*31 + uint64(i)
	}
	sink = x
}

//go:noinline
func readZeros() {
	fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	b := make([]byte, 64<<10)
	for range 10_000 {
		// Not unix.Read, which tells the race detector of all the bytes.
		_, _, _ = unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	}
}

// start loads the feature, or skips the test.
func start(t testing.TB) (*Feature, *prometheus.Registry) {
	t.Helper()
	f := New(DefaultConfig())
	return f, featuretest.Start(t, f, nil)
}

// stacks reads a service's folded stacks.
func stacks(t testing.TB, f *Feature, service string) map[string]int {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, f.Folded(&b, Query{Service: service}))
	all := make(map[string]int)
	for lines := bufio.NewScanner(&b); lines.Scan(); {
		i := strings.LastIndexByte(lines.Text(), ' ')
		n, err := strconv.Atoi(lines.Text()[i+1:])
		require.NoError(t, err, lines.Text())
		all[lines.Text()[:i]] += n
	}
	return all
}

// dominates waits until a service has samples enough, and most of them have these
// functions on their stack, in this order. The caller of a function without a
// frame of its own is not on it, so none is named that calls a leaf.
func dominates(t testing.TB, f *Feature, service string, functions ...string) {
	t.Helper()
	on := func(stack string) bool {
		for _, name := range functions {
			_, rest, ok := strings.Cut(stack, name)
			if !ok {
				return false
			}
			stack = rest
		}
		return true
	}
	var last map[string]int
	deadline := time.Now().Add(60 * time.Second)
	for time.Now().Before(deadline) {
		with, all := 0, 0
		last = stacks(t, f, service)
		for s, n := range last {
			all += n
			if on(s) {
				with += n
			}
		}
		if all >= 30 && with*10 > all*6 {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	for s, n := range last {
		t.Log(n, s)
	}
	t.Errorf("%s: most samples do not have %s on their stack", service, functions)
}

func TestGo(t *testing.T) {
	f, reg := start(t)
	featuretest.StartRole(t, "burn")
	dominates(t, f, "test-burn", "main.main;", "profile.untilInputEnds;", "profile.burnInGo", "profile.spinInGo")
	var n float64
	for _, m := range featuretest.Family(t, reg, "process_cpu_profile_samples_total", map[string]string{"service_name": "test-burn"}) {
		n += m.GetCounter().GetValue()
	}
	require.GreaterOrEqual(t, n, 30.0)
}

func TestKernel(t *testing.T) {
	f, _ := start(t)
	if !f.symbols.HasKernel() {
		t.Skip("the kernel does not tell its functions: kernel.kptr_restrict")
	}
	featuretest.StartRole(t, "syscall")
	dominates(t, f, "test-syscall", "profile.untilInputEnds;", "profile.readZeros", "vfs_read_[k]")
}

// child starts a program that burns until the test ends.
func child(t testing.TB, service, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = t.TempDir() // where Node leaves its logs
	cmd.Env = append(os.Environ(), "OTEL_SERVICE_NAME="+service)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(fmt.Sprintf("/tmp/perf-%d.map", cmd.Process.Pid)) // which Node leaves
	})
}

// program finds a program or skips the test.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: %v", name, err)
	}
	return path
}

// built runs a compiler.
func built(t testing.TB, program string, args ...string) {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestStrippedGo(t *testing.T) {
	goTool := program(t, "go")
	f, _ := start(t)
	for _, mode := range []string{"exe", "pie"} {
		out := filepath.Join(t.TempDir(), "stripped")
		built(t, goTool, "build", "-buildvcs=false", "-buildmode="+mode, "-ldflags=-s -w", "-o", out, "testdata/burn.go")
		child(t, "stripped-"+mode, out)
		dominates(t, f, "stripped-"+mode, ";main.main;", "main.outer;", "main.burn")
	}
}

func TestC(t *testing.T) {
	cc := program(t, "cc")
	f, _ := start(t)
	dir := t.TempDir()
	for name, flags := range map[string][]string{"pie": nil, "static": {"-static"}, "fixed": {"-no-pie"}} {
		out := filepath.Join(dir, name)
		built(t, cc, append([]string{"-O1", "-fno-omit-frame-pointer", "-fno-inline", "-o", out, "testdata/burn.c"}, flags...)...)
		child(t, "c-"+name, out)
		dominates(t, f, "c-"+name, ";main;", "outer_c;", "burn_c")
	}
}

// A separate debug file names the functions of a stripped program.
func TestDebugLink(t *testing.T) {
	cc, objcopy := program(t, "cc"), program(t, "objcopy")
	f, _ := start(t)
	out := filepath.Join(t.TempDir(), "linked")
	built(t, cc, "-O1", "-fno-omit-frame-pointer", "-fno-inline", "-o", out, "testdata/burn.c")
	built(t, objcopy, "--only-keep-debug", out, out+".debug")
	built(t, objcopy, "--strip-all", "--add-gnu-debuglink="+out+".debug", out)
	child(t, "linked", out)
	dominates(t, f, "linked", ";main;", "outer_c;", "burn_c")
}

func TestPython(t *testing.T) {
	python := program(t, "python3")
	f, _ := start(t)
	child(t, "python", python, "-c", "while True: pass")
	dominates(t, f, "python", "_PyEval_EvalFrameDefault")
}

// A program that was deleted is still known.
func TestDeleted(t *testing.T) {
	cc := program(t, "cc")
	f, _ := start(t)
	out := filepath.Join(t.TempDir(), "gone")
	built(t, cc, "-O1", "-fno-omit-frame-pointer", "-fno-inline", "-o", out, "testdata/burn.c")
	child(t, "gone", out)
	require.NoError(t, os.Remove(out))
	dominates(t, f, "gone", ";main;", "outer_c;", "burn_c")
}

func TestNode(t *testing.T) {
	node := program(t, "node")
	f, _ := start(t)
	child(t, "node", node, "--perf-basic-prof", "--interpreted-frames-native-stack", "-e",
		"function burnInNode(n) { let x = 0; for (let i = 0; i < n; i++) x = (x * 31 + i) | 0; return x }\nfor (;;) burnInNode(1e7)")
	dominates(t, f, "node", "burnInNode")
}
