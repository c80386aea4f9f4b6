package container

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// diskEnv says to the play "read" from which disk.
const diskEnv = "VEDETTE_CONTAINER_TEST_DISK"

const diskBytes = 16 << 20

// readDisk reads the first half of a disk past the page cache and the other through
// it.
func readDisk(path string) error {
	direct, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer direct.Close()
	buffer, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	cached, err := os.Open(path)
	if err != nil {
		return err
	}
	defer cached.Close()
	for at := int64(0); at < diskBytes; at += int64(len(buffer)) {
		f := direct
		if at >= diskBytes/2 {
			f = cached
		}
		if _, err := f.ReadAt(buffer, at); err != nil {
			return err
		}
	}
	return nil
}

// newSlice is a cgroup of the test's own, which goes with all in it when the test ends.
func newSlice(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making cgroups wants root")
	}
	h, err := findHierarchies("/sys/fs/cgroup")
	if err != nil {
		t.Skip(err)
	}
	slice := &lab{h: h, path: fmt.Sprintf("/vedettetest%d.slice", os.Getpid())}
	t.Cleanup(func() {
		for _, mount := range h.mounts {
			require.Eventually(t, func() bool { return removeTree(filepath.Join(mount, slice.path)) == nil }, 30*time.Second, 10*time.Millisecond)
		}
	})
	return slice
}

// below makes a cgroup below another one, in all hierarchies.
func (l *lab) below(t *testing.T, path string) *lab {
	t.Helper()
	h := l.h
	l = &lab{h: h, path: l.path + path}
	for _, mount := range h.mounts {
		at := mount
		for part := range strings.SplitSeq(strings.Trim(l.path, "/"), "/") {
			if mount == h.unified {
				for _, c := range []string{"+cpu", "+memory", "+pids", "+io"} {
					_ = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte(c), 0)
				}
			}
			at = filepath.Join(at, part)
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Skip("making cgroups is not allowed here: ", err)
			}
		}
	}
	return l
}

// removeTree removes a cgroup and those in it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}

// Groups called as engines call theirs, in the kernel's own hierarchies: what is
// listed, and what processes are told to be.
func TestRealPaths(t *testing.T) {
	under := strings.ReplaceAll(podUID, "-", "_")
	pod := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice"
	type start struct {
		p    *player
		path string
	}
	cases := []struct {
		path, listed string // the latter empty: the same
		id           string
		want         identity.Group // but for the path
	}{
		{path: "/docker/" + idA, id: idA, want: identity.Group{ContainerID: idA, Engine: "docker"}},
		{path: "/system.slice/docker-" + idB + ".scope", id: idB, want: identity.Group{ContainerID: idB, Engine: "docker"}},
		{path: "/docker/" + idC + "/docker/" + idD, listed: "/docker/" + idC, id: idC, want: identity.Group{ContainerID: idD, Engine: "docker"}},
		{path: "/kubepods/besteffort/pod" + podUID + "/" + idA, id: idA, want: identity.Group{ContainerID: idA, PodUID: podUID}},
		{path: pod + "/cri-containerd-" + idB + ".scope", id: idB, want: identity.Group{ContainerID: idB, Engine: "containerd", PodUID: podUID}},
		{path: pod + "/crio-" + idC + ".scope/container", listed: pod + "/crio-" + idC + ".scope", id: idC, want: identity.Group{ContainerID: idC, Engine: "cri-o", PodUID: podUID}},
		{path: "/machine.slice/machine-libpod_pod_" + idA + ".slice/libpod-" + idD + ".scope/container",
			listed: "/machine.slice/machine-libpod_pod_" + idA + ".slice/libpod-" + idD + ".scope", id: idD, want: identity.Group{ContainerID: idD, Engine: "podman"}},
		{path: "/user.slice/user@1000.service/user.slice/libpod-" + idA + ".scope/container", listed: "/user.slice/user@1000.service/user.slice/libpod-" + idA + ".scope",
			id: idA, want: identity.Group{ContainerID: idA, Engine: "podman"}},
		{path: "/machine.slice/machine-deb.scope/payload/system.slice/nginx.service", listed: "/machine.slice/machine-deb.scope", id: "deb",
			want: identity.Group{Unit: "nginx.service"}},
		{path: "/lxc.payload.web", id: "web"},
	}
	slice := newSlice(t)
	var started []start
	for _, tc := range cases {
		l := slice.below(t, tc.path)
		p := l.start(t, "idle", 0)
		require.Equal(t, "done", p.begin(t))
		started = append(started, start{p, l.path})
	}
	cfg := DefaultConfig()
	cfg.MaxContainers = 1 << 20
	c, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	got := expose(t, c)
	names := identity.New("/proc", nil)
	for i, tc := range cases {
		listed := tc.listed
		if listed == "" {
			listed = tc.path
		}
		require.Contains(t, got, `container_processes{container="",id="`+slice.path+listed+`",image="",name="`+tc.id+`",namespace="",pod=""} 1`, tc.path)
		key, ok := names.Find(uint32(started[i].p.cmd.Process.Pid))
		require.True(t, ok)
		group := names.Resolve(key, "").Group
		require.Equal(t, started[i].path, group.Path)
		group.Path = ""
		require.Equal(t, tc.want, group, tc.path)
	}
}

// What a group inside a container uses is the container's.
func TestRealInside(t *testing.T) {
	slice := newSlice(t)
	inner := slice.below(t, "/docker/"+idA+"/docker/"+idB)
	outer := &lab{h: inner.h, id: idA, path: slice.path + "/docker/" + idA}
	p := inner.start(t, "use", 0)
	require.Equal(t, "done", p.begin(t))
	got := outer.collect(t)
	require.Equal(t, 1.0, got["container_processes"])
	if _, counted := got["container_memory_usage_bytes"]; !counted {
		t.Skip("no controller of memory here")
	}
	require.GreaterOrEqual(t, got["container_memory_rss"], float64(useBytes))
	require.GreaterOrEqual(t, got["container_memory_usage_bytes"], got["container_memory_rss"])
	require.Positive(t, got["container_cpu_usage_seconds_total,total"])
}

// newDisk makes a block device over a file, or skips.
func newDisk(t *testing.T) (path, number string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	_, err = file.Write(make([]byte, diskBytes))
	require.NoError(t, err)
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no loop devices here: ", err)
	}
	defer control.Close()
	for range 20 { // others may take the same one
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("no loop device here: ", err)
		}
		path = "/dev/loop" + strconv.Itoa(n)
		disk, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Skip("no loop device here: ", err)
		}
		if err := unix.IoctlSetInt(int(disk.Fd()), unix.LOOP_SET_FD, int(file.Fd())); err != nil {
			disk.Close()
			continue
		}
		t.Cleanup(func() {
			require.NoError(t, unix.IoctlSetInt(int(disk.Fd()), unix.LOOP_CLR_FD, 0))
			disk.Close()
		})
		info, err := disk.Stat()
		require.NoError(t, err)
		device := info.Sys().(*syscall.Stat_t).Rdev
		return path, fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	}
	t.Skip("every loop device is taken")
	return "", ""
}

// splitsTwice tells whether the kernel counts requests again when it divides them, as
// on version 1 before there are recursive counts: its own figure is above what was read.
func (l *lab) splitsTwice() bool {
	dir := filepath.Join(l.h.v1["blkio"], l.path)
	return l.h.v1["blkio"] != "" && !exists(filepath.Join(dir, "blkio.throttle.io_service_bytes_recursive"))
}

// Bytes read from a disk are counted, and what stays in the page cache is no working set
// as far as the kernel may drop it at once.
func TestRealDisk(t *testing.T) {
	path, number := newDisk(t)
	t.Setenv(diskEnv, path)
	l := newLab(t)
	// Newer kernels count on version 1 where there is a limit alone.
	for _, mount := range []string{l.h.v1["blkio"]} {
		if file := filepath.Join(mount, l.path, "blkio.throttle.read_bps_device"); mount != "" && exists(file) {
			require.NoError(t, os.WriteFile(file, []byte(number+" 107374182400"), 0))
		}
	}
	p := l.start(t, "read", 0)
	require.Equal(t, "done", p.begin(t))
	got := l.collect(t)
	if usage, counted := got["container_memory_usage_bytes"]; counted {
		inactive := l.number(t, "memory.stat:total_inactive_file", "memory.stat:inactive_file")
		active := l.number(t, "memory.stat:total_active_file", "memory.stat:active_file")
		require.GreaterOrEqual(t, inactive+active, float64(diskBytes/2)*0.9)
		require.InDelta(t, inactive, got["container_memory_total_inactive_file_bytes"], 1<<20)
		require.InDelta(t, active, got["container_memory_total_active_file_bytes"], 1<<20)
		require.InDelta(t, usage-inactive, got["container_memory_working_set_bytes"], 1<<20)
		require.GreaterOrEqual(t, got["container_memory_cache"], float64(diskBytes/2)*0.9)
	}
	read, counted := got["container_fs_reads_bytes_total,"+path]
	if !counted {
		t.Skip("no controller here counts what is read from ", path)
	}
	require.GreaterOrEqual(t, read, float64(diskBytes))
	if !l.splitsTwice() {
		require.InDelta(t, diskBytes, read, 1<<20, "opening a disk reads its partitions")
	}
	require.GreaterOrEqual(t, got["container_fs_reads_total,"+path], float64(diskBytes/(8<<20)))
	require.Zero(t, got["container_fs_writes_bytes_total,"+path])
}
