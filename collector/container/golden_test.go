package container

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	idA = strings.Repeat("a", 64) // Docker's, of two processes
	idB = strings.Repeat("b", 64) // an app in a pod
	idC = strings.Repeat("c", 64) // the sandbox of the pod
	idD = strings.Repeat("d", 64) // Podman's, in the host's network
)

const podUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"

// plant makes the tree that a file describes: "== path" heads the lines of a
// file, "-> path target" is a link.
func plant(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	root := t.TempDir()
	made := time.Unix(1_700_000_500, 0)
	var path string
	var body []byte
	flush := func() {
		if path == "" {
			return
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, body, 0o644))
	}
	for line := range bytes.Lines(text) {
		if link, ok := strings.CutPrefix(string(line), "-> "); ok {
			flush()
			path = ""
			from, to, _ := strings.Cut(strings.TrimSpace(link), " ")
			from = filepath.Join(root, from)
			require.NoError(t, os.MkdirAll(filepath.Dir(from), 0o755))
			require.NoError(t, os.Symlink(to, from))
		} else if head, ok := strings.CutPrefix(string(line), "== "); ok {
			flush()
			path, body = filepath.Join(root, strings.TrimSpace(head)), nil
		} else {
			body = append(body, line...)
		}
	}
	flush()
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "sys"), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(p, made, made)
	}))
	return root
}

func testConfig(root string) Config {
	cfg := DefaultConfig()
	cfg.HostRoot = root
	cfg.Kubelet.URL = ""
	return cfg
}

func newTest(t *testing.T, cfg Config) *Collector {
	t.Helper()
	c, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	c.now = func() time.Time { return time.Unix(1_700_001_000, 0) }
	return c
}

// expose gathers a collector as text, checking it as a registry does.
func expose(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(c))
	families, err := reg.Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(t, err)
	}
	return b.String()
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// short makes golden files readable: ids are four letters long in them.
func short(text string) string {
	for _, id := range []string{idA, idB, idC, idD} {
		text = strings.ReplaceAll(text, id, id[:4])
	}
	return text
}

func TestGolden(t *testing.T) {
	for _, name := range []string{"v2", "v1", "hybrid"} {
		t.Run(name, func(t *testing.T) {
			c := newTest(t, testConfig(plant(t, name+".tree")))
			checkGolden(t, name+".prom", short(expose(t, c)))
		})
	}
}
