package host

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// textfilesOnly returns a configuration that reads the files, by path, and no
// other part.
func textfilesOnly(t *testing.T, files map[string]string) Config {
	t.Helper()
	c, dir := DefaultConfig(), t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	for _, name := range partNames() {
		if name != "textfile" {
			c.Disable = append(c.Disable, name)
		}
	}
	c.TextfileDirectories = []string{filepath.Join(dir, "*")}
	return c
}

const someMetrics = `# HELP job_seconds Time of a job.
# TYPE job_seconds histogram
job_seconds_bucket{le="1"} 1
job_seconds_bucket{le="+Inf"} 2
job_seconds_sum 3.5
job_seconds_count 2
# TYPE q summary
q{quantile="0.5"} 1
q_sum 2
q_count 3
# TYPE done_total counter
done_total{b="2",a="1"} 7
no_help{file="a"} 1
`

// Text files beside the real node_exporter's.
func TestTextfiles(t *testing.T) {
	c := textfilesOnly(t, map[string]string{
		"one/a.prom":       someMetrics,
		"one/readme.txt":   "this is not read",
		"one/bad.prom":     "this is no metric\n",
		"one/stamped.prom": "fresh 1\nstamped 1 1700000000000\n",
		"two/b.prom":       "no_help{file=\"b\"} 2\nno_help{file=\"b\",more=\"1\"} 3\n",
	})
	version, address := startNodeExporter(t, nil, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+c.TextfileDirectories[0])
	h, err := New(Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	compare(t, version, address, h)
}

// What is in two files, or in a part, too, does not spoil the rest.
func TestTextfileClashes(t *testing.T) {
	c := textfilesOnly(t, map[string]string{
		"one/a.prom": "# HELP twice First.\n# TYPE twice gauge\ntwice{x=\"\"} 1\nnode_load1 99\nnode_scrape_collector_success{collector=\"mine\"} 1\n",
		"one/b.prom": "# HELP twice Second.\n# TYPE twice gauge\ntwice 2\ntwice{x=\"2\"} 3\n",
		"one/c.prom": "# TYPE twice counter\ntwice{x=\"3\"} 1\nfine 1\n",
		"two/d.prom": "alone 1\n",
	})
	c.Enable = nil
	c.Disable = c.Disable[:0]
	h, err := New(Options{Config: c})
	require.NoError(t, err)
	got := gather(t, h)
	for _, want := range []string{
		"# HELP twice First.\n# TYPE twice gauge\ntwice{x=\"\"} 1\ntwice{x=\"2\"} 3\n", "alone 1\n", "node_textfile_scrape_error 1\n",
		`node_scrape_collector_success{collector="textfile"} 1` + "\n",
	} {
		require.Contains(t, got, want)
	}
	for _, unwanted := range []string{"node_load1 99", "mine", "fine 1"} {
		require.NotContains(t, got, unwanted)
	}
	require.Equal(t, 2., testutil.ToFloat64(h.metrics.refused))
}

// A directory that is not there is an error; none at all is not.
func TestNoTextfiles(t *testing.T) {
	c := textfilesOnly(t, nil)
	require.Contains(t, measure(t, c), "node_textfile_scrape_error 1\n")
	c.TextfileDirectories = nil
	require.Contains(t, measure(t, c), "node_textfile_scrape_error 0\n")
}

func FuzzTextfile(f *testing.F) {
	f.Add([]byte(someMetrics))
	f.Add([]byte("a{b=\"\xff\"} NaN\na{b=\"\"} 1\na 2\n"))
	f.Add([]byte("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n# TYPE s summary\ns{quantile=\"x\"} 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		gather(t, mustHost(t, textfilesOnly(t, map[string]string{"d/a.prom": string(data)})))
	})
}

func mustHost(t *testing.T, c Config) *Host {
	t.Helper()
	h, err := New(Options{Config: c})
	require.NoError(t, err)
	return h
}
