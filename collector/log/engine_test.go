package log

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/collector/container/enginetest"
)

// guestLine is line i of a guest that was told to write lines of a size.
func guestLine(i, size int) string {
	return fmt.Sprintf("line %d é %s", i, strings.Repeat(`x"\y`, size/4))
}

// engineConfig is for engines that a busy machine may hold up within a line.
func engineConfig(source Source) Config {
	c := testConfig(source)
	c.UnfinishedTimeout = time.Minute
	return c
}

// wantGuest waits for n lines of a guest and wants each once, those of each stream
// in order, with the attributes of the resource.
func wantGuest(t *testing.T, s *sink, sizes []int, resource map[string]any) {
	t.Helper()
	waitFor(func() bool { return len(s.all()) >= len(sizes) })
	next := map[string]int{"stdout": 0, "stderr": 1}
	for k, g := range s.all() {
		stream, _ := g.attrs["log.iostream"].(string)
		i, known := next[stream]
		require.True(t, known, "record %d: stream %q", k, stream)
		require.Less(t, i, len(sizes), "record %d of %s", k, stream)
		if want := guestLine(i, sizes[i]); g.body != want {
			t.Fatalf("record %d, %s: got %d bytes, %.40q…, want %d bytes, %.40q…", k, stream, len(g.body), g.body, len(want), want)
		}
		next[stream] = i + 2
		require.NotZero(t, g.record.Timestamp())
		require.NotContains(t, g.attrs, "vedette.truncated")
		for key, v := range resource {
			require.Equal(t, v, g.resource[key], key)
		}
	}
	require.Len(t, s.all(), len(sizes))
}

// Lines of containers of a real Docker: long ones, which Docker divides, of both
// streams at once, and under rotation.
func TestDockerEngine(t *testing.T) {
	t.Parallel()
	d := enginetest.StartDocker(t)
	var s sink
	source := beginning(filepath.Join(d.Dir, "data/containers/*/*-json.log"))
	source.Format = FormatDocker
	tail := start(t, engineConfig(source), t.TempDir(), &s)
	// What is there at once fits into the files that Docker keeps and, where lines are
	// divided, into a window.
	g := d.Guest(t, "web", "", "--network=none", "--log-opt=max-size=100k", "--log-opt=max-file=20", "--label=com.docker.compose.service=front")
	var sizes []int
	for _, batch := range []struct{ n, size int }{{2000, 50}, {20, 16 << 10}, {2000, 200}, {10, 40_000}, {4, 100_000}, {1000, 100}} {
		g.Tell(t, "/log?from=%d&n=%d&size=%d", len(sizes), batch.n, batch.size)
		for range batch.n {
			sizes = append(sizes, batch.size)
		}
		wantGuest(t, &s, sizes, map[string]any{"container.id": g.ID, "service.instance.id": g.ID, "container.name": "web", "container.image.name": enginetest.Image, "service.name": "front"})
	}
	require.Zero(t, testutil.ToFloat64(tail.metrics.unparsed.WithLabelValues(FormatDocker)))
	files, err := filepath.Glob(filepath.Join(d.Dir, "data/containers/*/*-json.log*"))
	require.NoError(t, err)
	require.Greater(t, len(files), 5, "it was rotated")
}

// Lines of containers of a real containerd, as a kubelet has them written and
// rotates them.
func TestCRIEngine(t *testing.T) {
	t.Parallel()
	e := enginetest.StartContainerd(t)
	var s sink
	source := beginning(filepath.Join(e.HostRoot, "var/log/pods/*/*/*.log"))
	source.Format = FormatCRI
	tail := start(t, engineConfig(source), t.TempDir(), &s)
	p := e.Pod(t, "shop", "web-0")
	g := p.Guest(t, "app", "")
	var sizes []int
	for _, batch := range []struct{ n, size int }{{2000, 50}, {20, 16 << 10}, {2000, 200}, {10, 40_000}, {4, 100_000}, {1000, 100}} {
		g.Tell(t, "/log?from=%d&n=%d&size=%d", len(sizes), batch.n, batch.size)
		p.Rotate(t, g)
		for range batch.n {
			sizes = append(sizes, batch.size)
		}
		wantGuest(t, &s, sizes, map[string]any{
			"k8s.namespace.name": "shop", "k8s.pod.name": "web-0", "k8s.pod.uid": p.UID, "k8s.container.name": "app",
			"k8s.container.restart_count": "0", "service.name": "app", "service.instance.id": "shop.web-0.app",
		})
	}
	require.Zero(t, testutil.ToFloat64(tail.metrics.unparsed.WithLabelValues(FormatCRI)))
}
