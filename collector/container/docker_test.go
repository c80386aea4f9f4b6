package container

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/collector/container/enginetest"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// watch is a Collector that runs beside an engine.
type watch struct {
	c    *Collector
	reg  *prometheus.Registry
	skip atomic.Int64 // by how much its clock is ahead
}

// newWatch runs a Collector until the test ends.
func newWatch(t *testing.T, change func(*Config)) *watch {
	t.Helper()
	cfg := DefaultConfig()
	cfg.RescanInterval = time.Second
	cfg.MaxContainers = 1 << 20
	cfg.Labels = []string{"com.docker.compose.project", "com.docker.compose.service"}
	cfg.DockerSockets, cfg.ContainerdSockets, cfg.Kubelet.URL = nil, nil, ""
	change(&cfg)
	w := &watch{reg: prometheus.NewPedanticRegistry()}
	var err error
	w.c, err = New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	w.c.cfg.RescanInterval = 200 * time.Millisecond // less than is sensible, for a test that waits for it
	w.c.now = func() time.Time { return time.Now().Add(time.Duration(w.skip.Load())) }
	require.NoError(t, w.reg.Register(w.c))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return w
}

// minutePasses makes the Collector ask its engines again at its next look.
func (w *watch) minutePasses() { w.skip.Add(int64(askAgain)) }

// cgroupNow is what a Collector says of one cgroup.
type cgroupNow struct {
	labels map[string]string
	values map[string]float64 // by metric and labels of its own
}

// container collects, and gives what is said of a container; nil: nothing.
func (w *watch) container(t *testing.T, id string) *cgroupNow {
	t.Helper()
	families, err := w.reg.Gather()
	require.NoError(t, err)
	var got *cgroupNow
	for _, f := range families {
		for _, m := range f.Metric {
			labels, name := map[string]string{}, f.GetName()
			for _, p := range m.Label {
				switch p.GetName() {
				case "cpu", "interface", "failure_type", "scope", "device", "operation":
					name += "," + p.GetValue()
				case "major", "minor":
				default:
					labels[p.GetName()] = p.GetValue()
				}
			}
			if filepath.Base(labels["id"]) != id {
				continue
			}
			if got == nil {
				got = &cgroupNow{labels: labels, values: map[string]float64{}}
			}
			require.Equal(t, got.labels, labels, name)
			got.values[name] = value(m)
		}
	}
	return got
}

// called waits until a container's series have certain labels.
func (w *watch) called(t *testing.T, id string, want map[string]string) *cgroupNow {
	t.Helper()
	var got *cgroupNow
	ok := until(func() bool {
		got = w.container(t, id)
		for k, v := range want {
			if got == nil || got.labels[k] != v {
				return false
			}
		}
		return got != nil
	})
	require.True(t, ok, "%s: got %+v, want %v", id, got, want)
	return got
}

// gone waits until nothing is said of a container.
func (w *watch) gone(t *testing.T, id string) {
	t.Helper()
	require.True(t, until(func() bool { return w.container(t, id) == nil }), id)
}

// until waits for something, for a minute.
func until(ok func() bool) bool {
	deadline := time.After(time.Minute)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// filesOf are the kernel's files of a container's cgroup.
func filesOf(t *testing.T, labels map[string]string) lab {
	t.Helper()
	h, err := findHierarchies("/sys/fs/cgroup")
	require.NoError(t, err)
	return lab{h: h, path: labels["id"]}
}

// groupOfProcess gives the control group of a container's first process.
func groupOfProcess(t *testing.T, pid string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + pid + "/cgroup")
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if f[1] == "memory" || f[1] == "" {
			return f[2]
		}
	}
	t.Fatalf("no control group in %s", b)
	return ""
}

// whoIs says what the eBPF probe's series call a process.
func whoIs(t *testing.T, w *watch, pid string) identity.Process {
	t.Helper()
	n, err := strconv.ParseUint(pid, 10, 32)
	require.NoError(t, err)
	r := identity.New("/proc", w.c)
	key, ok := r.Find(uint32(n))
	require.True(t, ok)
	return r.Resolve(key, "")
}

// dockerStats are the fields that count of Docker's statistics.
type dockerStats struct {
	CPU struct {
		Usage struct {
			Total float64 `json:"total_usage"`
		} `json:"cpu_usage"`
		Throttling struct {
			Periods   float64 `json:"periods"`
			Throttled float64 `json:"throttled_periods"`
			Time      float64 `json:"throttled_time"`
		} `json:"throttling_data"`
	} `json:"cpu_stats"`
	Memory struct {
		Usage float64            `json:"usage"`
		Limit float64            `json:"limit"`
		Stats map[string]float64 `json:"stats"`
	} `json:"memory_stats"`
	Pids struct {
		Current float64 `json:"current"`
	} `json:"pids_stats"`
	Networks map[string]map[string]float64 `json:"networks"`
	Blkio    struct {
		Bytes []struct {
			Op    string  `json:"op"`
			Value float64 `json:"value"`
		} `json:"io_service_bytes_recursive"`
	} `json:"blkio_stats"`
}

func statsOf(t *testing.T, d *enginetest.Docker, id string) (s dockerStats) {
	t.Helper()
	client := newDocker("/", d.Socket).client
	err := get(t.Context(), client, "http://docker/containers/"+id+"/stats?stream=false&one-shot=true", "", func(j *jsonStream) error { return j.next(&s) })
	require.NoError(t, err)
	return s
}

// between wants a value that an engine said before and after was asked of us.
func between(t *testing.T, before, got, after float64, what string) {
	t.Helper()
	require.LessOrEqual(t, before, got, what)
	require.LessOrEqual(t, got, after, what)
}

func TestDocker(t *testing.T) {
	t.Parallel()
	d := enginetest.StartDocker(t)
	w := newWatch(t, func(c *Config) { c.DockerSockets = []string{d.Socket} })
	web := d.Guest(t, "web", "", "--network=none", "--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=front")
	isWeb := map[string]string{
		"name": "web", "image": enginetest.Image, "container": "", "pod": "", "namespace": "",
		"container_label_com_docker_compose_project": "shop", "container_label_com_docker_compose_service": "front",
	}

	t.Run("names", func(t *testing.T) {
		got := w.called(t, web.ID, isWeb)
		require.Equal(t, groupOfProcess(t, d.Run(t, "inspect", "--format={{.State.Pid}}", "web")), got.labels["id"])
		second := func(field string) float64 {
			at, err := time.Parse(time.RFC3339Nano, d.Run(t, "inspect", "--format={{"+field+"}}", "web"))
			require.NoError(t, err)
			return float64(at.Unix())
		}
		// Whole seconds from a boot in whole seconds: up to two less than it was.
		between(t, second(".Created")-2, got.values["container_start_time_seconds"], second(".State.StartedAt"), "start")
		is := whoIs(t, w, d.Run(t, "inspect", "--format={{.State.Pid}}", "web"))
		require.Equal(t, "front", is.Service)
		require.Equal(t, "guest", is.Executable)
		require.Equal(t, web.ID, is.ContainerID)
		require.Equal(t, "docker", is.Engine)
		require.Equal(t, "web", is.Container)
	})
	t.Run("processor", func(t *testing.T) { dockerProcessor(t, d, w) })
	t.Run("memory", func(t *testing.T) { dockerMemory(t, d, w) })
	t.Run("network", func(t *testing.T) { dockerNetwork(t, d, w) })
	t.Run("disk", func(t *testing.T) { dockerDisk(t, d, w) })
	t.Run("stop and start", func(t *testing.T) {
		d.Run(t, "stop", "web")
		w.gone(t, web.ID)
		d.Run(t, "start", "web")
		w.called(t, web.ID, isWeb)
		other := d.Guest(t, "other", "", "--network=none")
		w.called(t, other.ID, map[string]string{"name": "other", "container_label_com_docker_compose_project": ""})
		d.Run(t, "rm", "--force", "other")
		w.gone(t, other.ID)
	})
	t.Run("rename", func(t *testing.T) {
		d.Run(t, "rename", "web", "shop-web")
		isWeb["name"] = "shop-web"
		w.minutePasses()
		w.called(t, web.ID, isWeb)
	})
	t.Run("restart of the engine", func(t *testing.T) {
		d.Stop(t)
		asked := func() float64 { return testutil.ToFloat64(w.c.metrics.errors.WithLabelValues("docker")) }
		before := asked()
		w.minutePasses()
		require.True(t, until(func() bool { return asked() > before }))
		w.called(t, web.ID, isWeb)
		require.Equal(t, "shop-web", w.container(t, web.ID).labels["name"], "an engine that restarts does not unname its containers")
		d.Start(t)
		late := d.Guest(t, "late", "", "--network=none")
		w.called(t, late.ID, map[string]string{"name": "late"})
		w.called(t, web.ID, isWeb)
	})
}

func dockerProcessor(t *testing.T, d *enginetest.Docker, w *watch) {
	slow := d.Guest(t, "slow", "", "--network=none", "--cpus=0.05", "--cpu-shares=512", "--pids-limit=100")
	w.called(t, slow.ID, map[string]string{"name": "slow"})
	var before dockerStats
	require.True(t, until(func() bool { // a busy machine may leave it less than its limit
		slow.Tell(t, "/burn?ms=60")
		before = statsOf(t, d, slow.ID)
		return before.CPU.Throttling.Throttled > 0
	}))
	got := w.container(t, slow.ID).values
	after := statsOf(t, d, slow.ID)
	between(t, before.CPU.Usage.Total/1e9, got["container_cpu_usage_seconds_total,total"], after.CPU.Usage.Total/1e9, "processor")
	require.GreaterOrEqual(t, got["container_cpu_usage_seconds_total,total"], 0.06)
	b, a := before.CPU.Throttling, after.CPU.Throttling
	between(t, b.Periods, got["container_cpu_cfs_periods_total"], a.Periods, "periods")
	between(t, b.Throttled, got["container_cpu_cfs_throttled_periods_total"], a.Throttled, "throttled periods")
	between(t, b.Time/1e9, got["container_cpu_cfs_throttled_seconds_total"], a.Time/1e9, "time throttled")
	require.Positive(t, got["container_cpu_cfs_throttled_periods_total"])
	require.Equal(t, 5000.0, got["container_spec_cpu_quota"])
	require.Equal(t, 100000.0, got["container_spec_cpu_period"])
	require.InDelta(t, 512.0, got["container_spec_cpu_shares"], 20, "version 2 has weights")
	require.Equal(t, 100.0, got["container_threads_max"])
	between(t, before.Pids.Current, got["container_threads"], after.Pids.Current, "threads, which Docker counts as processes, too")
	require.Equal(t, 1.0, got["container_processes"])
}

func dockerMemory(t *testing.T, d *enginetest.Docker, w *watch) {
	const limit = 64 << 20
	full := d.Guest(t, "full", "", "--network=none", "--memory=64m", "--memory-swap=64m", "--memory-reservation=32m")
	full.Tell(t, "/hold?mb=20")
	labels := w.called(t, full.ID, map[string]string{"name": "full"}).labels
	got := w.container(t, full.ID).values
	s := statsOf(t, d, full.ID)
	require.InDelta(t, s.Memory.Usage, got["container_memory_usage_bytes"], 2<<20)
	require.GreaterOrEqual(t, got["container_memory_rss"], float64(20<<20))
	inactive, v1 := s.Memory.Stats["total_inactive_file"]
	if !v1 {
		inactive = s.Memory.Stats["inactive_file"]
	}
	require.InDelta(t, s.Memory.Usage-inactive, got["container_memory_working_set_bytes"], 2<<20, "as docker stats has it")
	require.Equal(t, float64(limit), got["container_spec_memory_limit_bytes"])
	require.Equal(t, s.Memory.Limit, got["container_spec_memory_limit_bytes"])
	require.Zero(t, got["container_oom_events_total"])

	// What is killed is the larger process; the container lives.
	_, err := d.Try(t, "exec", "full", "/guest", "hold", "256")
	require.Error(t, err)
	got = w.container(t, full.ID).values
	require.Equal(t, 1.0, got["container_oom_events_total"])
	files := filesOf(t, labels)
	require.Equal(t, files.number(t, "memory.failcnt", "memory.events:max"), got["container_memory_failcnt"],
		"zero on version 1 where memory and swap together have the same limit")
	require.LessOrEqual(t, got["container_memory_max_usage_bytes"], float64(limit+1<<20))

	require.Error(t, full.Try("/hold?mb=256"), "it is killed")
	w.gone(t, full.ID)
	require.Equal(t, "137", d.Run(t, "wait", "full"))
	require.Equal(t, "true", d.Run(t, "inspect", "--format={{.State.OOMKilled}}", "full"))
}

func dockerNetwork(t *testing.T, d *enginetest.Docker, w *watch) {
	served := d.Guest(t, "served", "0.0.0.0:80", "--network="+d.Network(t))
	w.called(t, served.ID, map[string]string{"name": "served"})
	address := d.Run(t, "inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "served")
	const n, size = 20, 10_000
	for range n {
		resp, err := http.Post("http://"+net.JoinHostPort(address, "80")+"/burn?ms=0", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
	}
	before := statsOf(t, d, served.ID).Networks["eth0"]
	got := w.container(t, served.ID).values
	after := statsOf(t, d, served.ID).Networks["eth0"]
	for direction, prefix := range map[string]string{"receive": "rx_", "transmit": "tx_"} {
		for ours, theirs := range map[string]string{"bytes": "bytes", "packets": "packets", "errors": "errors", "packets_dropped": "dropped"} {
			name := fmt.Sprintf("container_network_%s_%s_total,eth0", direction, ours)
			require.Contains(t, got, name)
			between(t, before[prefix+theirs], got[name], after[prefix+theirs], name)
		}
	}
	require.Greater(t, got["container_network_receive_bytes_total,eth0"], float64(n*size))
	require.Greater(t, got["container_network_transmit_packets_total,eth0"], float64(n))
	require.NotContains(t, got, "container_network_receive_bytes_total,lo")
}

func dockerDisk(t *testing.T, d *enginetest.Docker, w *watch) {
	var dir syscall.Stat_t
	require.NoError(t, syscall.Stat(d.Dir, &dir))
	device, known := w.c.proc.deviceNames()[[2]uint64{uint64(unix.Major(dir.Dev)), uint64(unix.Minor(dir.Dev))}]
	if !known {
		t.Skip("the engine's files are on no block device")
	}
	// Late kernels count on version 1 only what may be throttled.
	disk := d.Guest(t, "disk", "", "--network=none", "--device-write-bps="+device+":1gb")
	w.called(t, disk.ID, map[string]string{"name": "disk"})
	const mb = 8
	disk.Tell(t, "/write?mb=%d", mb)
	got := w.container(t, disk.ID).values
	theirs := 0.0
	for _, b := range statsOf(t, d, disk.ID).Blkio.Bytes {
		if strings.EqualFold(b.Op, "write") {
			theirs += b.Value
		}
	}
	require.GreaterOrEqual(t, got["container_fs_writes_bytes_total,"+device], float64(mb<<20))
	require.GreaterOrEqual(t, got["container_fs_writes_total,"+device], float64(mb))
	require.Equal(t, theirs, got["container_fs_writes_bytes_total,"+device])
	require.Equal(t, theirs, got["container_blkio_device_usage_total,"+device+",Write"])
}
