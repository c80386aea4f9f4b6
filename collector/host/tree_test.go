package host

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// plant unpacks testdata/tree.txt, the files of a machine that has one of
// everything, and returns a configuration that looks there.
//
// A file begins with a line "-- path --", a link with "-- path -> target --".
func plant(t testing.TB) Config {
	t.Helper()
	data, err := os.ReadFile("testdata/tree.txt")
	require.NoError(t, err)
	dir := t.TempDir()
	path, start := "", 0
	write := func(end int) {
		if path != "" {
			require.NoError(t, os.WriteFile(path, data[start:end], 0o644))
		}
	}
	at := 0
	for line := range bytes.Lines(data) {
		head, ok := strings.CutPrefix(string(line), "-- ")
		head, ok2 := strings.CutSuffix(head, " --\n")
		if ok && ok2 {
			write(at)
			name, target, isLink := strings.Cut(head, " -> ")
			path, start = filepath.Join(dir, name), at+len(line)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			if isLink {
				require.NoError(t, os.Symlink(target, path))
				path = ""
			}
		}
		at += len(line)
	}
	write(at)
	c := DefaultConfig()
	c.ProcFS, c.SysFS, c.RootFS = filepath.Join(dir, "proc"), filepath.Join(dir, "sys"), dir
	c.TextfileDirectories = []string{filepath.Join(dir, "text*")}
	return c
}

// measure gathers what a Host of this configuration says, as text.
func measure(t testing.TB, c Config) string {
	t.Helper()
	h, err := New(Options{Config: c, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	return gather(t, h)
}

func gather(t testing.TB, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	var out bytes.Buffer
	e := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		require.NoError(t, e.Encode(f))
	}
	return out.String()
}

// What is made of the tree; the parts that ask the kernel and not a file are off.
func TestGolden(t *testing.T) {
	c := plant(t)
	c.Disable = []string{"filesystem", "time", "timex", "uname"}
	var text []string
	for line := range strings.Lines(strings.ReplaceAll(measure(t, c), c.RootFS, "")) {
		if !strings.HasPrefix(line, "node_scrape_collector_duration_seconds{") && !strings.HasPrefix(line, "node_textfile_mtime_seconds{") {
			text = append(text, line)
		}
	}
	got := strings.Join(text, "")
	if *rewrite {
		require.NoError(t, os.WriteFile("testdata/golden.txt", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/golden.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	require.NotContains(t, got, "node_scrape_collector_success{collector=\"cpu\"} 0")
}

// A file system is asked for at the path it has in this mount namespace, and shown
// with the one it has on the host.
func TestRootFS(t *testing.T) {
	c := plant(t)
	c.Disable = nil
	got := measure(t, c)
	for _, want := range []string{
		`node_filesystem_device_error{device="/dev/sda1",device_error="",fstype="ext4",mountpoint="/"} 0`,
		`node_filesystem_readonly{device="/dev/sda2",device_error="",fstype="xfs",mountpoint="/data one"} 1`,
		`node_filesystem_readonly{device="/dev/sda3",device_error="",fstype="ext4",mountpoint="/frozen"} 1`,
		`node_filesystem_device_error{device="server:/export",device_error="no such file or directory",fstype="nfs4",mountpoint="/gone"} 1`,
		`node_filesystem_mount_info{device="/dev/sda2",major="8",minor="2",mountpoint="/data one"} 1`,
		`node_textfile_scrape_error 1`,
	} {
		require.Contains(t, got, want+"\n")
	}
	require.NotContains(t, got, `mountpoint="/proc"`)
	require.NotContains(t, got, `fstype="overlay"`)

	// The host's root, mounted elsewhere, as a container sees it.
	mounts := filepath.Join(c.ProcFS, "1", "mountinfo")
	require.NoError(t, os.WriteFile(mounts, []byte("24 1 8:1 / "+c.RootFS+" rw - ext4 /dev/sda1 rw\n25 1 8:2 / "+c.RootFS+"/frozen rw - ext4 /dev/sda2 rw\n"), 0o644))
	got = measure(t, c)
	require.Contains(t, got, `node_filesystem_device_error{device="/dev/sda1",device_error="",fstype="ext4",mountpoint="/"} 0`)
	require.Contains(t, got, `node_filesystem_device_error{device="/dev/sda2",device_error="",fstype="ext4",mountpoint="/frozen"} 0`)
}
