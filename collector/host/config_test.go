package host

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	bad := Config{
		ProcFS: "proc", SysFS: "", RootFS: "x", Enable: []string{"systemd", "wings"}, Disable: []string{"systemd", "legs"},
		TextfileDirectories: []string{"[", ""}, MountPointsExclude: "(", FSTypesExclude: "[", NetDevicesExclude: "*",
	}
	err := bad.Validate()
	require.Error(t, err)
	for _, key := range []string{
		"procfs", "sysfs", "rootfs", "timeout", `enable: got "wings"`, `disable: got "legs"`, `disable: got "systemd"`,
		"textfile_directories", "mount_points_exclude", "fs_types_exclude", "net_devices_exclude",
	} {
		require.ErrorContains(t, err, key)
	}
	_, err = New(Options{Config: bad})
	require.ErrorContains(t, err, "configure host metrics")
}

// docs/host.md names every part.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/host.md")
	require.NoError(t, err)
	require.True(t, slices.IsSorted(partNames()))
	for _, name := range partNames() {
		require.True(t, strings.Contains(string(page), "| `"+name+"` |"), name)
	}
}
