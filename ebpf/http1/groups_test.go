package http1

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The root of version 2 can be had where it is mounted nowhere, and nobody sees it.
func TestMountGroups(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for range 20 { // whichever threads it is that do it
		file, err := mountGroups("/sys/fs/cgroup")
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) || errors.Is(err, ebpf.ErrNotSupported) {
			t.Skip(err)
		}
		require.NoError(t, err)
		defer file.Close()
		var about unix.Statfs_t
		require.NoError(t, unix.Fstatfs(int(file.Fd()), &about))
		require.EqualValues(t, unix.CGROUP2_SUPER_MAGIC, about.Type)
		procs, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/cgroup.procs", file.Fd()))
		require.NoError(t, err)
		require.NotEmpty(t, procs)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}
