package nvml

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/collector/gpu"
)

var rewrite = flag.Bool("rewrite", false, "write the recorded snapshot anew")

// fake compiles the stand-in for NVIDIA's library.
func fake(t *testing.T, flags ...string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler here")
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	args := append(flags, "-shared", "-fPIC", "-o", path, filepath.Join("testdata", "fakenvml.c"))
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Skipf("the C compiler makes no library here: %v: %s", err, out)
	}
	return path
}

// What a library written in C says comes through purego as it is. The recorded
// snapshot is also what package gpu's mapping is tested with.
func TestFakeLibrary(t *testing.T) {
	l, err := Open(fake(t))
	require.NoError(t, err)
	_, err = l.Read(t.Context())
	require.NoError(t, err)
	s, err := l.Read(t.Context())
	require.NoError(t, err)
	require.Empty(t, s.Devices[0].Processes[0].Busy, "no new samples")
	require.EqualValues(t, 79, s.Devices[0].Readings[gpu.LastXID])
	require.NotContains(t, s.Devices[1].Readings, gpu.LastXID)
	require.NoError(t, l.Close())

	l, err = Open(fake(t))
	require.NoError(t, err)
	s, err = l.Read(t.Context())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	got, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	path := filepath.Join("..", "testdata", "snapshot.json")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
}

func TestAbsent(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "absent.so"))
	require.ErrorIs(t, err, gpu.ErrAbsent)
	_, err = Open(fake(t, "-DNO_DRIVER"))
	require.ErrorIs(t, err, gpu.ErrAbsent)
}

// Sizes of the structures in nvml.h on 64-bit machines.
func TestSizes(t *testing.T) {
	require.EqualValues(t, 68, unsafe.Sizeof(pciInfo{}))
	require.EqualValues(t, 24, unsafe.Sizeof(memoryInfo{}))
	require.EqualValues(t, 40, unsafe.Sizeof(memoryInfo2{}))
	require.EqualValues(t, 24, unsafe.Sizeof(processInfo{}))
	require.EqualValues(t, 32, unsafe.Sizeof(processSample{}))
	require.EqualValues(t, 40, unsafe.Sizeof(fieldValue{}))
	require.EqualValues(t, 32, unsafe.Sizeof(event{}))
	require.EqualValues(t, 16, unsafe.Sizeof(violation{}))
}

// On a machine with a GPU it says what no GPU can be without.
func TestHardware(t *testing.T) {
	l, err := Open("")
	if err != nil {
		t.Skip(err)
	}
	defer func() { require.NoError(t, l.Close()) }()
	s, err := l.Read(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, s.Driver)
	if len(s.Devices) == 0 {
		t.Skip("the driver is here, and no GPU")
	}
	for _, d := range s.Devices {
		t.Logf("%+v", d)
		require.NotEmpty(t, d.UUID)
		require.NotEmpty(t, d.Name)
		require.NotEmpty(t, d.BusID)
		require.Positive(t, d.Readings[gpu.MemoryTotal])
		require.LessOrEqual(t, d.Readings[gpu.MemoryUsed]+d.Readings[gpu.MemoryFree], d.Readings[gpu.MemoryTotal])
		require.Contains(t, d.Readings, gpu.Temperature)
		require.Less(t, d.Readings[gpu.Temperature], uint64(150))
	}
}
