package block

import (
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

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) { featuretest.Main(m, nil) }

// loopDevice makes a block device over a file, or skips.
func loopDevice(t testing.TB, size int64) (path string) {
	t.Helper()
	losetup, err := exec.LookPath("losetup")
	if err != nil {
		t.Skip("losetup is missing")
	}
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, size))
	out, err := exec.Command(losetup, "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device: %s", out)
	}
	path = strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command(losetup, "--detach", path).CombinedOutput()
		require.NoError(t, err, string(out))
	})
	if udevadm, err := exec.LookPath("udevadm"); err == nil {
		_ = exec.Command(udevadm, "settle", "--timeout=10").Run() // it reads new devices
	}
	return path
}

// kernelStat is /sys/block/<device>/stat: how many reads, writes, discards and
// flushes, and their sectors.
func kernelStat(t *testing.T, device string) (stat struct{ n, sectors map[string]uint64 }) {
	b, err := os.ReadFile(filepath.Join(devices, device, "stat"))
	require.NoError(t, err)
	fields := strings.Fields(string(b))
	stat.n, stat.sectors = make(map[string]uint64), make(map[string]uint64)
	for operation, at := range map[string]int{"read": 0, "write": 4, "discard": 11, "flush": 15} {
		stat.n[operation], err = strconv.ParseUint(fields[at], 10, 64)
		require.NoError(t, err)
		if operation != "flush" {
			stat.sectors[operation], err = strconv.ParseUint(fields[at+2], 10, 64)
			require.NoError(t, err)
		}
	}
	return stat
}

func requests(t *testing.T, reg *prometheus.Registry, metric string, labels map[string]string) (n uint64) {
	for _, m := range featuretest.Family(t, reg, metric, labels) {
		n += m.GetHistogram().GetSampleCount()
	}
	return n
}

func TestCounts(t *testing.T) {
	path := loopDevice(t, 16<<20)
	device := filepath.Base(path)
	reg := featuretest.Start(t, New(), nil)
	before := kernelStat(t, device)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	page, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(page)) }()
	for i := range 100 {
		_, err := unix.Pwrite(fd, page[:4096], int64(i)*8192)
		require.NoError(t, err)
	}
	for i := range 40 {
		_, err := unix.Pread(fd, page[:16<<10], int64(i)*(32<<10))
		require.NoError(t, err)
	}
	for range 7 {
		_, err := unix.Pwrite(fd, page[:4096], 0) // there is something to flush
		require.NoError(t, err)
		require.NoError(t, unix.Fsync(fd))
	}
	discarded := 0
	for i := range 3 {
		area := [2]uint64{uint64(i) << 20, 1 << 20}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), 0x1277 /* BLKDISCARD */, uintptr(unsafe.Pointer(&area)))
		if errno == 0 {
			discarded++
		}
	}
	want := map[string]struct{ n, bytes uint64 }{
		"write": {107, 107 * 4096}, "read": {40, 40 * 16 << 10}, "flush": {7, 0}, "discard": {uint64(discarded), uint64(discarded) << 20},
	}
	var after struct{ n, sectors map[string]uint64 }
	featuretest.Await(func() uint64 { // the kernel counts a request a little after it has woken who waits for it
		after = kernelStat(t, device)
		sum := uint64(0)
		for operation := range want {
			sum += after.n[operation] - before.n[operation]
		}
		return sum
	}, 107+40+2*7+uint64(discarded))
	for operation, w := range want {
		labels := map[string]string{"device": device, "operation": operation, "status": "ok"}
		require.Equal(t, w.n, requests(t, reg, "block_io_duration_seconds", labels), operation)
		require.Equal(t, w.n, requests(t, reg, "block_io_queue_duration_seconds", labels), operation)
		own := after.n[operation] - before.n[operation]
		if operation == "write" {
			own -= want["flush"].n // a flush begins as a write of nothing
		}
		require.Equal(t, own, w.n, "the kernel's own count of %s", operation)
		if operation == "flush" {
			require.Empty(t, featuretest.Family(t, reg, "block_io_bytes_total", labels))
			continue
		}
		featuretest.RequireCounter(t, reg, "block_io_bytes_total", labels, float64(w.bytes))
		require.Equal(t, after.sectors[operation]-before.sectors[operation], w.bytes/512, operation)
	}
	total := featuretest.Family(t, reg, "block_io_duration_seconds", map[string]string{"device": device, "operation": "write"})
	queue := featuretest.Family(t, reg, "block_io_queue_duration_seconds", map[string]string{"device": device, "operation": "write"})
	require.Greater(t, total[0].GetHistogram().GetSampleSum(), queue[0].GetHistogram().GetSampleSum())
}

// A request that fails is told by what the driver says.
func TestErrors(t *testing.T) {
	path := loopDevice(t, 1<<20)
	device := filepath.Base(path)
	backing, err := os.ReadFile(filepath.Join(devices, device, "loop/backing_file"))
	require.NoError(t, err)
	reg := featuretest.Start(t, New(), nil)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(page)) }()
	// The file ends before the device does.
	require.NoError(t, os.Truncate(strings.TrimSpace(string(backing)), 4096))
	failed := 0
	for i := range 5 {
		if _, err := unix.Pread(fd, page, int64(i)*4096); err != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Skip("the loop device reads zeros beyond its file")
	}
	require.EqualValues(t, 5-failed, requests(t, reg, "block_io_duration_seconds", map[string]string{"device": device, "operation": "read", "status": "ok"}))
	require.EqualValues(t, failed, requests(t, reg, "block_io_duration_seconds", map[string]string{"device": device, "operation": "read", "status": "io_error"}))
}

func TestSweep(t *testing.T) {
	f := New()
	reg := featuretest.Start(t, f, nil)
	var k bpf.BlockBlockKey
	copy((*[32]byte)(unsafe.Pointer(&k.Disk))[:], "no-such-disk")
	require.NoError(t, f.objects.Blocks.Put(k, bpf.BlockBlockValue{Bytes: 1}))
	labels := map[string]string{"device": "no-such-disk"}
	now := time.Now()
	f.Sweep(now)
	f.Sweep(now.Add(14 * time.Minute))
	require.Len(t, featuretest.Family(t, reg, "block_io_bytes_total", labels), 1)
	f.Sweep(now.Add(16 * time.Minute))
	require.Empty(t, featuretest.Family(t, reg, "block_io_bytes_total", labels))
}

func TestNames(t *testing.T) {
	require.Equal(t, "io_error", nameOf(statuses[:], 10))
	require.Equal(t, "200", nameOf(statuses[:], 200))
	require.Equal(t, "flush", nameOf(operations[:], uint8(bpf.BlockBlockOperationBLOCK_FLUSH)))
}
