package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

func TestMain(m *testing.M) {
	featuretest.Main(m, map[string]func(){"quit": quit, "hog": hog})
}

// quit ends a process of several threads.
func quit() {
	for range 8 {
		go func() { <-time.After(time.Hour) }()
	}
	os.Exit(5)
}

// hog takes memory until it is killed.
func hog() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		if len(all) > 256 {
			fmt.Fprintln(os.Stderr, "nobody has killed it")
			os.Exit(1)
		}
	}
}

// run starts a program n times, one after another, as a service.
func run(t *testing.T, n int, service, program string, args ...string) {
	t.Helper()
	for range n {
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "OTEL_SERVICE_NAME="+service)
		err := cmd.Run()
		if _, ended := err.(*exec.ExitError); !ended {
			require.NoError(t, err)
		}
	}
}

func requireLifetimes(t *testing.T, reg *prometheus.Registry, service string, want uint64) {
	t.Helper()
	m := featuretest.Family(t, reg, "process_lifetime_seconds", map[string]string{"service_name": service})
	require.Len(t, m, 1)
	require.Equal(t, want, m[0].GetHistogram().GetSampleCount())
	require.Positive(t, m[0].GetHistogram().GetSampleSum())
}

func requireNothingLost(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	for _, m := range featuretest.Family(t, reg, "vedette_ebpf_process_lost_total", nil) {
		require.Zero(t, m.GetCounter().GetValue(), featuretest.Label(m, "reason"))
	}
}

// Programs that are gone in an instant are all counted, by name, code and signal.
func TestShortLived(t *testing.T) {
	reg := featuretest.Start(t, New(), nil)
	run(t, 50, "test-short", "true")
	run(t, 7, "test-short", "false")
	run(t, 5, "test-short", "sh", "-c", "exit 42")
	run(t, 4, "test-short", "sh", "-c", "kill -KILL $$")
	run(t, 3, "test-short", "sh", "-c", "kill -TERM $$")
	labels := map[string]string{"service_name": "test-short"}
	featuretest.RequireCounter(t, reg, "process_exits_total", labels, 69)
	featuretest.RequireCounter(t, reg, "process_starts_total", labels, 69)
	for _, want := range []struct {
		code, signal string
		n            float64
	}{{"0", "", 50}, {"1", "", 7}, {"42", "", 5}, {"", "SIGKILL", 4}, {"", "SIGTERM", 3}} {
		featuretest.RequireCounter(t, reg, "process_exits_total", map[string]string{
			"service_name": "test-short", "process_exit_code": want.code, "process_exit_signal": want.signal}, want.n)
	}
	featuretest.RequireCounter(t, reg, "process_starts_total", map[string]string{"service_name": "test-short", "process_executable_name": filepath.Base(fileOf(t, "false"))}, 7)
	requireNothingLost(t, reg)
}

// fileOf gives the file of a program, which may be of many in one.
func fileOf(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	require.NoError(t, err)
	path, err = filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return path
}

// A name that nothing but the executable tells is right, too.
func TestNamedByExecutable(t *testing.T) {
	reg := featuretest.Start(t, New(), nil)
	path := fileOf(t, "true")
	if filepath.Base(path) != "true" {
		t.Skipf("true is %s, which does what it is called", path)
	}
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	// Longer than the 15 characters that the kernel keeps of a thread's name.
	mine := filepath.Join(t.TempDir(), "vedette-process-test-program")
	require.NoError(t, os.WriteFile(mine, b, 0o755))
	for range 30 {
		cmd := exec.Command(mine)
		cmd.Env = []string{"PATH=/bin"}
		require.NoError(t, cmd.Run())
	}
	labels := map[string]string{"service_name": "vedette-process-test-program", "process_executable_name": "vedette-process-test-program"}
	featuretest.RequireCounter(t, reg, "process_starts_total", labels, 30)
	featuretest.RequireCounter(t, reg, "process_exits_total", labels, 30)
	requireLifetimes(t, reg, "vedette-process-test-program", 30)
}

// What forks and begins no program of its own is its parent's.
func TestForks(t *testing.T) {
	reg := featuretest.Start(t, New(), nil)
	run(t, 10, "test-forks", "sh", "-c", "(exit 3); /bin/true; (exit 3); exit 0")
	labels := map[string]string{"service_name": "test-forks"}
	featuretest.RequireCounter(t, reg, "process_forks_total", labels, 30)
	featuretest.RequireCounter(t, reg, "process_starts_total", labels, 20)
	featuretest.RequireCounter(t, reg, "process_exits_total", labels, 40)
	labels["process_exit_code"] = "3"
	featuretest.RequireCounter(t, reg, "process_exits_total", labels, 20)
	requireNothingLost(t, reg)
}

// A process of many threads ends once.
func TestThreads(t *testing.T) {
	reg := featuretest.Start(t, New(), nil)
	for range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "VEDETTE_PROBE_TEST_ROLE=quit", "OTEL_SERVICE_NAME=test-quit")
		require.Error(t, cmd.Run())
	}
	featuretest.RequireCounter(t, reg, "process_exits_total", map[string]string{"service_name": "test-quit", "process_exit_code": "5"}, 20)
	featuretest.RequireCounter(t, reg, "process_starts_total", map[string]string{"service_name": "test-quit"}, 20)
}

// A process that is older than the probe has its name when it ends.
func TestOlderProcess(t *testing.T) {
	_, _, stop := featuretest.StartStoppable(t, "server")
	reg := featuretest.Start(t, New(), nil)
	stop()
	// Tests of other packages have servers, too, of executables of theirs.
	labels := map[string]string{"service_name": "test-server", "process_executable_name": filepath.Base(os.Args[0]), "process_exit_code": "0"}
	featuretest.RequireCounter(t, reg, "process_exits_total", labels, 1)
}

// Arguments and environment that do not fit: a process that lives is read, one
// that does not has its executable's name.
func TestLongEnvironment(t *testing.T) {
	reg := featuretest.Start(t, New(), nil)
	long := "A_LONG=" + strings.Repeat("x", 8000)
	cmd := exec.Command("sh", "-c", "read -r line; exit 9")
	cmd.Env = []string{"PATH=/bin", long, "OTEL_SERVICE_NAME=test-long"}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	featuretest.RequireCounter(t, reg, "process_starts_total", map[string]string{"service_name": "test-long"}, 1)
	in.Close()
	require.Error(t, cmd.Wait())
	featuretest.RequireCounter(t, reg, "process_exits_total", map[string]string{"service_name": "test-long", "process_exit_code": "9"}, 1)
}

// Processes killed for want of memory, in a control group with little of it.
func TestOOMKill(t *testing.T) {
	group := memoryGroup(t, 24<<20)
	reg := featuretest.Start(t, New(), nil)
	for range 2 {
		cmd := exec.Command("sh", "-c", `echo $$ >"$GROUP/cgroup.procs" && exec "$EXE"`)
		cmd.Env = append(os.Environ(), "GROUP="+group, "EXE="+os.Args[0], "VEDETTE_PROBE_TEST_ROLE=hog", "OTEL_SERVICE_NAME=test-hog", "GOGC=off")
		out, err := cmd.CombinedOutput()
		require.ErrorContains(t, err, "killed", string(out))
	}
	featuretest.RequireCounter(t, reg, "process_oom_kills_total", map[string]string{"service_name": "test-hog"}, 2)
	featuretest.RequireCounter(t, reg, "process_exits_total", map[string]string{"service_name": "test-hog", "process_exit_signal": "SIGKILL"}, 2)
}

// memoryGroup makes a control group that may use so much memory, of either
// version, or skips.
func memoryGroup(t *testing.T, limit int) string {
	for _, base := range []struct{ dir, limit, swap string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		dir := filepath.Join(base.dir, "vedette-test-"+strconv.Itoa(os.Getpid()))
		if _, err := os.Stat(filepath.Join(base.dir, "cgroup.procs")); err != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			// The dead leave a moment after they are waited for.
			require.Eventually(t, func() bool { return os.Remove(dir) == nil }, time.Minute, 20*time.Millisecond)
		})
		if err := os.WriteFile(filepath.Join(dir, base.limit), []byte(strconv.Itoa(limit)), 0o644); err != nil {
			t.Skipf("no limit of memory: %v", err)
		}
		_ = os.WriteFile(filepath.Join(dir, base.swap), []byte("0"), 0o644)
		return dir
	}
	t.Skip("no control group for memory can be made here")
	return ""
}

func TestWithoutOOM(t *testing.T) {
	reg := featuretest.Start(t, &lesser{New()}, nil)
	run(t, 3, "test-lesser", "true")
	featuretest.RequireCounter(t, reg, "process_exits_total", map[string]string{"service_name": "test-lesser"}, 3)
}

// lesser is the feature on its second rung.
type lesser struct{ *Feature }

func (l *lesser) Ladder() []feature.Rung { return l.Feature.Ladder()[1:] }

func TestExitOf(t *testing.T) {
	for code, want := range map[uint32][]string{
		0: {"0", ""}, 1 << 8: {"1", ""}, 255 << 8: {"255", ""}, 9: {"", "SIGKILL"}, 11 | 0x80: {"", "SIGSEGV"}, 40: {"", "40"},
	} {
		require.Equal(t, want, exitOf(code), "%#x", code)
	}
	require.Equal(t, syscall.SIGKILL, syscall.Signal(9))
}

// Whether a process left a core is not told, so it must not part a series in two of
// the same labels.
func TestCoreDumps(t *testing.T) {
	f := New()
	f.env = &feature.Environment{Resolver: identity.New(t.TempDir(), nil)}
	f.tally = feature.NewTally[series, totals](16)
	for _, code := range []uint32{11, 11 | 0x80, 11 | 0x80 | 3<<8, 3 << 8, 3<<8 | 1<<16} {
		f.countLocked(&bpf.ProcessProcessEvent{Tgid: 1, Kind: uint8(bpf.ProcessProcessKindPROCESS_EXIT), Code: code})
	}
	seen := make(map[string]uint64)
	f.tally.Each(func(s series, n *totals) {
		if !s.life {
			require.NotContains(t, seen, strings.Join(exitOf(s.code), " "))
			seen[strings.Join(exitOf(s.code), " ")] = n.n
		}
	})
	require.Equal(t, map[string]uint64{" SIGSEGV": 3, "3 ": 2}, seen)
}

func TestFacts(t *testing.T) {
	var e bpf.ProcessProcessEvent
	copy(e.Executable[:], "python3.11")
	copy(e.Groups[0][:], "app.service\x00system.slice\x00")
	text := "python3\x00-c\x00p\x00A=b\x00OTEL_SERVICE_NAME=x"
	copy(e.Text[:], text)
	e.Arguments, e.Length, e.Whole = 13, uint32(len(text)), uint32(len(text))+100
	require.Equal(t, identity.Facts{
		Executable: "python3.11", Groups: []string{"/system.slice/app.service", "/"},
		Args: []string{"python3", "-c", "p"}, Environ: []string{"A=b"}, Partial: true,
	}, factsOf(&e))
	e.Whole = e.Length
	require.Equal(t, []string{"A=b", "OTEL_SERVICE_NAME=x"}, factsOf(&e).Environ)
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add(make([]byte, 56))
	f.Add(make([]byte, 1300))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := decodeEvent(b); ok {
			_ = factsOf(&e)
		}
	})
}
