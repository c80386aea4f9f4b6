package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// FuzzFiles puts anything into any of the files that are read: what comes out is
// valid, no part of ours panics, and the parts that do not read it are untouched.
func FuzzFiles(f *testing.F) {
	c := plant(f)
	c.Disable = []string{"uname", "timex"}
	c.TextfileDirectories = c.TextfileDirectories[:1]
	var paths []string
	require.NoError(f, filepath.WalkDir(c.RootFS, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.Contains(path, "keep") {
			paths = append(paths, path)
		}
		return err
	}))
	slices.Sort(paths)
	for i, path := range paths {
		if strings.Contains(path, "/sys/") && i%8 != 0 {
			continue // they are many, and alike
		}
		data, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(i, data)
		f.Add(i, data[:len(data)/2])
	}
	for _, text := range []string{"", "\n\n", "-1", "1 2 3 4 5 6 7 8 9", "a: b\nc: 1 kB\n", "\xff\xfe: 1", "cpu0", "Tcp: a b\nUdp: 1 2\n", "x{y=\"\xff\"} 1\n"} {
		f.Add(len(text), []byte(text))
	}
	h, err := New(Options{Config: c})
	require.NoError(f, err)
	reg := prometheus.NewPedanticRegistry()
	require.NoError(f, reg.Register(h))
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		if i < 0 {
			i = -(i + 1)
		}
		path := paths[i%len(paths)]
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		families, err := reg.Gather()
		require.NoError(t, os.WriteFile(path, before, 0o600))
		require.NoError(t, err)
		failed := 0
		for _, fam := range families {
			if fam.GetName() != "node_scrape_collector_success" {
				continue
			}
			for _, m := range fam.Metric {
				if m.Gauge.GetValue() == 0 {
					failed++
				}
			}
		}
		require.LessOrEqual(t, failed, 2, path) // /proc/stat has two readers
		for _, p := range h.parts {
			require.NotContains(t, p.failing, "BUG", p.name)
		}
	})
}

func FuzzParseMount(f *testing.F) {
	f.Add([]byte(`36 35 98:0 /root /a\040b rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=continue`))
	f.Add([]byte(`36 35 98:0 /root /a\4 rw - - -`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMount(line)
		if err == nil && len(m.point) > len(line) {
			t.Fatal("longer than the line")
		}
	})
}

func FuzzCPUList(f *testing.F) {
	f.Add("1,3-5")
	f.Add("0-99999999999,1-1,-,")
	f.Fuzz(func(t *testing.T, text string) {
		require.LessOrEqual(t, len(cpuList(text)), maxCPUs)
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add("NAME=\"a \\\"b\\\"\"\nVERSION_ID=12.4\n#X=1\nA='b'\n")
	f.Fuzz(func(_ *testing.T, text string) {
		for _, v := range parseRelease(text) {
			majorMinor(v)
		}
	})
}
