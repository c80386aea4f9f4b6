package container

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// The test's own program is what runs in the cgroups; the variable says what it
// does. It waits for a line before it begins and for the end of its input after.
const playEnv = "VEDETTE_CONTAINER_TEST_PLAY"

const (
	burnSeconds = 0.1
	useBytes    = 32 << 20
	limitBytes  = 256 << 20
)

func init() {
	play := os.Getenv(playEnv)
	if play == "" {
		return
	}
	in := bufio.NewReader(os.Stdin)
	_, _ = in.ReadString('\n')
	switch play {
	case "burn":
		used := func() int64 {
			var use syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
			return use.Utime.Nano() + use.Stime.Nano()
		}
		until := used() + burnSeconds*1e9
		for x := 0; x%4096 != 0 || used() < until; x++ {
		}
	case "use", "overuse":
		size := useBytes
		if play == "overuse" {
			size = 2 * limitBytes
		}
		memory := make([]byte, size)
		for i := 0; i < size; i += 4096 {
			memory[i] = 1
		}
		defer func() { memory[0]++ }()
	case "read":
		if err := readDisk(os.Getenv(diskEnv)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "network":
		for _, args := range []string{"link add eth0 type veth peer name eth1", "link set eth1 up", "link set eth0 up", "addr add 192.0.2.1/24 dev eth0"} {
			if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
				fmt.Printf("ip %s: %v: %s\n", args, err, strings.TrimSpace(string(out)))
				os.Exit(1)
			}
		}
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, in)
	os.Exit(0)
}

// lab is a cgroup of the test's own, in all hierarchies of this machine.
type lab struct {
	h    hierarchies
	path string
	id   string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making cgroups wants root")
	}
	h, err := findHierarchies("/sys/fs/cgroup")
	if err != nil {
		t.Skip(err)
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	l := &lab{h: h, id: hex.EncodeToString(id)}
	l.path = "/docker-" + l.id + ".scope"
	if h.unified == "/sys/fs/cgroup" {
		control := filepath.Join(h.unified, "cgroup.subtree_control")
		for _, c := range []string{"+cpu", "+memory", "+pids", "+io"} {
			_ = os.WriteFile(control, []byte(c), 0) // on already, as a rule
		}
	}
	for _, mount := range h.mounts {
		dir := filepath.Join(mount, l.path)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skip("making cgroups is not allowed here: ", err)
		}
		t.Cleanup(func() {
			require.Eventually(t, func() bool { return os.Remove(dir) == nil }, time.Minute, 10*time.Millisecond)
		})
	}
	return l
}

// limit writes the first of some files of the cgroup that there is.
func (l *lab) limit(t *testing.T, value map[string]string) {
	t.Helper()
	for name, v := range value {
		for _, mount := range append([]string{l.h.unified}, lookUp(l.h.v1, walkedControllers)...) {
			path := filepath.Join(mount, l.path, name)
			if mount != "" && exists(path) {
				require.NoError(t, os.WriteFile(path, []byte(v), 0))
				return
			}
		}
	}
	t.Skip("no controller for these limits here: ", value)
}

// number reads a number of the cgroup from whichever file there is: a name, or
// name:key for one in a list.
func (l *lab) number(t *testing.T, names ...string) float64 {
	t.Helper()
	for _, n := range names {
		name, key, list := strings.Cut(n, ":")
		for _, mount := range append(lookUp(l.h.v1, walkedControllers), l.h.unified) {
			path := filepath.Join(mount, l.path, name)
			if mount == "" || !exists(path) {
				continue
			}
			if !list {
				v, ok := readUint(path)
				require.True(t, ok, path)
				return float64(v)
			}
			pairs, _ := readPairs(path)
			if v, ok := pairs[key]; ok {
				return float64(v)
			}
		}
	}
	t.Fatalf("none of %v is here", names)
	return 0
}

type player struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs a play in the cgroup; it waits until begin.
func (l *lab) start(t *testing.T, play string, flags uintptr) *player {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	p := &player{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), playEnv+"="+play, "GOMAXPROCS=1", "GOGC=off")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Skip("starting a process in namespaces is not allowed here: ", err)
	}
	t.Cleanup(func() { // before the cgroup goes
		p.in.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	for _, mount := range l.h.mounts {
		err := os.WriteFile(filepath.Join(mount, l.path, "cgroup.procs"), []byte(strconv.Itoa(p.cmd.Process.Pid)), 0)
		if err != nil {
			t.Skip("moving a process into a cgroup is not allowed here: ", err)
		}
	}
	return p
}

// begin lets the play run and returns what it says at its end.
func (p *player) begin(t *testing.T) string {
	t.Helper()
	_, err := io.WriteString(p.in, "go\n")
	require.NoError(t, err)
	line, _ := p.out.ReadString('\n')
	return strings.TrimSpace(line)
}

// collect returns the values of the lab's cgroup by metric and its own labels.
func (l *lab) collect(t *testing.T) map[string]float64 {
	t.Helper()
	cfg := DefaultConfig()
	cfg.MaxContainers = 1 << 20
	c, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name, ours := f.GetName(), false
			for _, p := range m.Label {
				switch p.GetName() {
				case "id":
					ours = p.GetValue() == l.path
				case "cpu", "interface", "failure_type", "scope", "device":
					name += "," + p.GetValue()
				case "name":
					if ours {
						require.Equal(t, l.id, p.GetValue())
					}
				}
			}
			if ours {
				values[name] = value(m)
			}
		}
	}
	require.NotEmpty(t, values, "%s is not listed", l.path)
	return values
}

func value(m *dto.Metric) float64 { return m.GetCounter().GetValue() + m.GetGauge().GetValue() }

func TestRealCPU(t *testing.T) {
	l := newLab(t)
	began := time.Now().Unix()
	l.limit(t, map[string]string{"cpu.cfs_quota_us": "3000", "cpu.max": "3000 100000"})
	p := l.start(t, "burn", 0)
	require.Equal(t, "done", p.begin(t))

	usage := func() float64 { return l.number(t, "cpuacct.usage", "cpu.stat:usage_usec") }
	unit := 1e6
	if l.h.onV1("cpuacct", l.path) {
		unit = 1e9
	}
	// What of a process there is: Go may begin a thread at any time.
	entries := func(what string) float64 {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, what))
		require.NoError(t, err)
		return float64(len(all))
	}
	files, threads := entries("fd"), entries("task")
	before, throttled := usage(), l.number(t, "cpu.stat:nr_throttled")
	got := l.collect(t)
	after := usage()
	total := got["container_cpu_usage_seconds_total,total"]
	require.GreaterOrEqual(t, total, before/unit)
	require.LessOrEqual(t, total, after/unit)
	require.GreaterOrEqual(t, total, burnSeconds)
	require.LessOrEqual(t, total, burnSeconds+5, "starting it comes on top, which takes long where processors are emulated")
	if l.h.onV1("cpuacct", l.path) { // by samples, which miss much of what runs for 3 ms at a time
		for _, mode := range []string{"user", "system"} {
			require.InDelta(t, l.number(t, "cpuacct.stat:"+mode)/clockTicks, got["container_cpu_"+mode+"_seconds_total"], 0.1, mode)
		}
	} else {
		require.InDelta(t, total, got["container_cpu_user_seconds_total"]+got["container_cpu_system_seconds_total"], 0.4)
	}

	require.Equal(t, 3000.0, got["container_spec_cpu_quota"])
	require.Equal(t, 100000.0, got["container_spec_cpu_period"])
	require.GreaterOrEqual(t, got["container_cpu_cfs_throttled_periods_total"], throttled)
	require.Greater(t, got["container_cpu_cfs_throttled_periods_total"], 5.0, "0.1 s at 3 ms a period, which are less than a busy machine leaves it")
	require.GreaterOrEqual(t, got["container_cpu_cfs_periods_total"], got["container_cpu_cfs_throttled_periods_total"])
	require.Positive(t, got["container_cpu_cfs_throttled_seconds_total"])

	require.Equal(t, 1.0, got["container_processes"])
	between(t, files, got["container_file_descriptors"], entries("fd"), "files")
	if n, ok := got["container_threads"]; ok {
		between(t, threads, n, entries("task"), "threads")
	}
	require.InDelta(t, began, got["container_start_time_seconds"], 60)
	require.NotContains(t, got, "container_network_receive_bytes_total,eth0", "it is in the host's network")
}

func TestRealMemory(t *testing.T) {
	l := newLab(t)
	l.limit(t, map[string]string{"memory.limit_in_bytes": strconv.Itoa(limitBytes), "memory.max": strconv.Itoa(limitBytes)})
	p := l.start(t, "use", 0)
	require.Equal(t, "done", p.begin(t))
	got := l.collect(t)
	usage := l.number(t, "memory.usage_in_bytes", "memory.current")
	require.InDelta(t, usage, got["container_memory_usage_bytes"], 4<<20)
	require.GreaterOrEqual(t, got["container_memory_rss"], float64(useBytes))
	require.InDelta(t, l.number(t, "memory.stat:total_rss", "memory.stat:anon"), got["container_memory_rss"], 4<<20)
	require.GreaterOrEqual(t, got["container_memory_usage_bytes"], got["container_memory_rss"])
	require.LessOrEqual(t, got["container_memory_working_set_bytes"], got["container_memory_usage_bytes"])
	if peak, counted := got["container_memory_max_usage_bytes"]; counted {
		require.GreaterOrEqual(t, peak, got["container_memory_usage_bytes"]-4<<20)
	} else {
		require.False(t, exists(filepath.Join(l.h.unified, l.path, "memory.peak")), "kernels before 5.19 do not count on version 2")
	}
	require.Equal(t, float64(limitBytes), got["container_spec_memory_limit_bytes"])
	require.GreaterOrEqual(t, got["container_memory_failures_total,pgfault,hierarchy"], float64(useBytes/4096/512), "huge pages may make faults few")
	require.Zero(t, got["container_oom_events_total"])
}

func TestRealOOM(t *testing.T) {
	l := newLab(t)
	l.limit(t, map[string]string{"memory.limit_in_bytes": strconv.Itoa(limitBytes), "memory.max": strconv.Itoa(limitBytes)})
	if name := l.h.file("memory", l.path, "memory.memsw.limit_in_bytes"); exists(name) {
		require.NoError(t, os.WriteFile(name, []byte(strconv.Itoa(limitBytes)), 0))
	}
	if name := filepath.Join(l.h.unified, l.path, "memory.swap.max"); l.h.unified != "" && exists(name) {
		require.NoError(t, os.WriteFile(name, []byte("0"), 0))
	}
	p := l.start(t, "overuse", 0)
	require.Empty(t, p.begin(t))
	require.ErrorContains(t, p.cmd.Wait(), "killed")
	got := l.collect(t)
	if text, _ := readFile(l.h.file("memory", l.path, "memory.oom_control")); len(text) > 0 && !strings.Contains(string(text), "oom_kill ") {
		require.NotContains(t, got, "container_oom_events_total", "kernels before 4.13 do not count")
	} else {
		require.Equal(t, 1.0, got["container_oom_events_total"])
	}
	require.Equal(t, l.number(t, "memory.failcnt", "memory.events:max"), got["container_memory_failcnt"])
	require.LessOrEqual(t, got["container_memory_max_usage_bytes"], float64(limitBytes+1<<20), "kernels let a few pages through")
	require.Zero(t, got["container_processes"])
}

func TestRealNetwork(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip program here")
	}
	l := newLab(t)
	p := l.start(t, "network", syscall.CLONE_NEWNET)
	if said := p.begin(t); said != "done" {
		t.Skip("no interfaces can be made here: ", said)
	}
	read := func() netDevice {
		devices, ok := procFS("/proc").netDevices(p.cmd.Process.Pid)
		require.True(t, ok)
		for _, d := range devices {
			if d.name == "eth0" {
				return d
			}
		}
		t.Fatal("no eth0")
		return netDevice{}
	}
	before := read()
	got := l.collect(t)
	after := read()
	for i, name := range []string{"bytes", "packets", "errors", "packets_dropped"} {
		for direction, v := range map[string][2]uint64{"receive": {before.rx[i], after.rx[i]}, "transmit": {before.tx[i], after.tx[i]}} {
			key := "container_network_" + direction + "_" + name + "_total,eth0"
			require.Contains(t, got, key)
			require.GreaterOrEqual(t, got[key], float64(v[0]), key)
			require.LessOrEqual(t, got[key], float64(v[1]), key)
		}
	}
	require.NotContains(t, got, "container_network_receive_bytes_total,lo")
}
