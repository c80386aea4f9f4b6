package enginetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vedette-io/vedette/internal/realcontainers"
)

// gone wants nothing left of an engine whose test is over.
func gone(t *testing.T, dir string, ids []string) {
	t.Helper()
	if left := realcontainers.Processes(dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if mounts, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left in %s:\n%s", dir, mounts)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
	for _, id := range ids {
		for _, pattern := range []string{"/sys/fs/cgroup/*/*/", "/sys/fs/cgroup/*/kubepods/*/", "/sys/fs/cgroup/*/"} {
			if left, _ := filepath.Glob(pattern + id); left != nil {
				t.Errorf("cgroups are left: %v", left)
			}
		}
	}
}

func TestDocker(t *testing.T) {
	t.Parallel()
	var dir string
	var ids []string
	t.Run("runs", func(t *testing.T) {
		d := StartDocker(t)
		dir = d.Dir
		g := d.Guest(t, "web", "127.0.0.1:0", "--network=host")
		n := d.Guest(t, "net", "0.0.0.0:0", "--network="+d.Network(t))
		ids = []string{g.ID, n.ID}
		if addr := g.Address(t); !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("the guest is at %s", addr)
		}
		d.Stop(t)
		g.Tell(t, "/burn?ms=1")
		d.Start(t)
		if names := d.Run(t, "ps", "--format={{.Names}}"); !strings.Contains(names, "web") {
			t.Errorf("after a restart there are %q", names)
		}
	})
	if dir != "" {
		gone(t, dir, ids)
	}
}

func TestContainerd(t *testing.T) {
	t.Parallel()
	var dir string
	var ids []string
	t.Run("runs", func(t *testing.T) {
		c := StartContainerd(t)
		dir = c.Dir
		g := c.Guest(t, "default", "127.0.0.1:0")
		p := c.Pod(t, "shop", "web-0")
		in := p.Guest(t, "app", "")
		ids = []string{g.ID, p.ID, in.ID}
		in.Tell(t, "/log?n=2&size=10")
		p.Rotate(t, in)
		in.Tell(t, "/log?n=2&size=10")
		logs, _ := filepath.Glob(filepath.Join(p.Logs, "app", "*"))
		if len(logs) != 2 {
			t.Errorf("got the logs %v, want 2", logs)
		}
	})
	if dir != "" {
		gone(t, dir, ids)
	}
}
