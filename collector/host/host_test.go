package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hostOf returns a Host of parts that are made for a test.
func hostOf(t *testing.T, log *bytes.Buffer, collects map[string]collectFunc) (*Host, *prometheus.Registry) {
	t.Helper()
	c, reg := DefaultConfig(), prometheus.NewRegistry()
	c.Disable = partNames()
	h, err := New(Options{Config: c, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: reg})
	require.NoError(t, err)
	for name, f := range collects {
		h.parts = append(h.parts, &running{name: name, collect: f})
	}
	return h, reg
}

// What one part does leaves the others alone, is counted, and is logged once.
func TestFailingParts(t *testing.T) {
	var log bytes.Buffer
	fine := gauge("node_fine", "Fine.")
	broken := true
	h, reg := hostOf(t, &log, map[string]collectFunc{
		"fine":   func(_ context.Context, b *batch) error { b.add(fine, 1); return nil },
		"panics": func(context.Context, *batch) error { panic("a parser of somebody else") },
		"fails": func(context.Context, *batch) error {
			if broken {
				return errors.New("permission denied")
			}
			return nil
		},
		"absent": func(context.Context, *batch) error { return errNoData },
	})
	for range 3 {
		got := gather(t, h)
		for name, ok := range map[string]int{"fine": 1, "panics": 0, "fails": 0, "absent": 0} {
			require.Contains(t, got, fmt.Sprintf("node_scrape_collector_success{collector=%q} %d\n", name, ok))
		}
		require.Contains(t, got, "node_fine 1\n")
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP vedette_collector_host_failures_total Collections of a part that failed, by part and reason (error, panic, timeout).
# TYPE vedette_collector_host_failures_total counter
vedette_collector_host_failures_total{collector="fails",reason="error"} 3
vedette_collector_host_failures_total{collector="panics",reason="panic"} 3
`), "vedette_collector_host_failures_total"))
	require.Equal(t, 2, strings.Count(log.String(), "level=WARN"), log.String())
	broken = false
	require.Contains(t, gather(t, h), `node_scrape_collector_success{collector="fails"} 1`)
	require.Equal(t, 1, strings.Count(log.String(), "collected again"), log.String())
}

// A part that hangs is left behind, holds one goroutine however often it is asked
// for, and comes back.
func TestHangingPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		release := make(chan struct{})
		fine := gauge("node_fine", "Fine.")
		var calls atomic.Int32
		h, _ := hostOf(t, &log, map[string]collectFunc{
			"fine": func(_ context.Context, b *batch) error { b.add(fine, 1); return nil },
			"hangs": func(context.Context, *batch) error {
				calls.Add(1)
				<-release
				return nil
			},
		})
		for range 3 {
			began := time.Now()
			got := gather(t, h)
			require.LessOrEqual(t, time.Since(began), h.timeout)
			require.Contains(t, got, "node_fine 1\n")
			require.Contains(t, got, `node_scrape_collector_success{collector="hangs"} 0`)
			require.Contains(t, got, `node_scrape_collector_success{collector="fine"} 1`)
		}
		require.EqualValues(t, 1, calls.Load())
		require.Equal(t, 3., testutil.ToFloat64(h.metrics.failures.WithLabelValues("hangs", "timeout")))
		close(release)
		synctest.Wait()
		require.Contains(t, gather(t, h), `node_scrape_collector_success{collector="hangs"} 1`)
		require.EqualValues(t, 2, calls.Load())
	})
}

// A mount that hangs is named, the others are measured, and nobody asks for it
// again before it answers.
func TestHungMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		asked := map[string]int{}
		stuck := newMetrics(nil).stuck
		s := newStatter(stuck, func(path string, st *unix.Statfs_t) error {
			mu.Lock()
			asked[path]++
			mu.Unlock()
			if strings.HasPrefix(path, "/hung") {
				<-release
			}
			if path == "/gone" {
				return unix.ENOENT
			}
			st.Blocks = 7
			return nil
		})
		paths := []string{"/a", "/hung1", "/b", "/gone", "/hung2", "/c"}
		look := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			out := s.all(ctx, paths)
			require.NoError(t, ctx.Err())
			for _, i := range []int{0, 2, 5} {
				require.NoError(t, out[i].err)
				require.EqualValues(t, 7, out[i].Blocks)
			}
			require.Equal(t, errStuck, out[1].err)
			require.Equal(t, errStuck, out[4].err)
			require.Equal(t, unix.ENOENT, out[3].err)
		}
		look()
		look()
		require.Equal(t, 1, asked["/hung1"])
		require.Equal(t, 2, asked["/b"])
		require.Equal(t, 2., testutil.ToFloat64(stuck))
		close(release)
		synctest.Wait()
		out := s.all(t.Context(), paths)
		require.NoError(t, out[1].err)
		require.NoError(t, out[4].err)
	})
}

func TestCollectAtTheSameTime(t *testing.T) {
	c := plant(t)
	h, err := New(Options{Config: c})
	require.NoError(t, err)
	want := seriesOf(gather(t, h))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				reg := prometheus.NewRegistry()
				if err := reg.Register(h); err != nil {
					t.Error(err)
				}
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, want, seriesOf(gather(t, h)))
}

func seriesOf(text string) (out []string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	return out
}

// Without any file, or with files that may not be read, every part that reads
// files fails alone.
func TestNothingToRead(t *testing.T) {
	c := DefaultConfig()
	dir := t.TempDir()
	c.ProcFS, c.SysFS, c.RootFS = filepath.Join(dir, "proc"), filepath.Join(dir, "sys"), dir
	got := measure(t, c)
	require.Contains(t, got, `node_scrape_collector_success{collector="cpu"} 0`)
	require.Contains(t, got, `node_scrape_collector_success{collector="uname"} 1`)

	c = plant(t)
	require.NoError(t, filepath.WalkDir(c.RootFS, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		// A directory in place of a file cannot be read even by root.
		if err := os.Remove(path); err != nil {
			return err
		}
		return os.Mkdir(path, 0o700)
	}))
	got = measure(t, c)
	require.Contains(t, got, `node_scrape_collector_success{collector="meminfo"} 0`)
	require.Contains(t, got, `node_scrape_collector_success{collector="time"} 1`)
}

func TestPermissionDenied(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	c := plant(t)
	require.NoError(t, os.Chmod(filepath.Join(c.ProcFS, "stat"), 0))
	got := measure(t, c)
	require.Contains(t, got, `node_scrape_collector_success{collector="cpu"} 0`)
	require.Contains(t, got, `node_scrape_collector_success{collector="meminfo"} 1`)
}

// The times of a processor do not fall, but for those of a new processor.
func TestSteadyTimes(t *testing.T) {
	last := cpuTimes{100, 0, 50, 1000, 20}
	require.Equal(t, cpuTimes{101, 0, 50, 1000, 20}, steady(last, cpuTimes{101, 0, 49, 999, 18}))
	require.Equal(t, cpuTimes{1, 0, 1, 2, 0}, steady(last, cpuTimes{1, 0, 1, 2, 0}))
}

// Series that have gone are forgotten, samples are bounded, and of two of one
// series the first counts.
func TestBatch(t *testing.T) {
	f := gauge("g", "G.", "l")
	var b *batch
	for round := range uint64(50) {
		b = &batch{round: round + 1}
		for i := range 10 {
			b.add(f, float64(i), fmt.Sprint(round, i))
			b.add(f, -1, fmt.Sprint(round, i))
		}
		require.NoError(t, b.finish())
		require.Len(t, b.samples, 10)
		require.LessOrEqual(t, len(f.known), 2*10+16+10)
	}
	require.Equal(t, 9., b.samples[9].value)

	b = &batch{round: 100}
	for i := range maxSamples + 5 {
		b.add(f, 1, fmt.Sprint(i))
	}
	require.Len(t, b.samples, maxSamples)
	require.ErrorIs(t, b.finish(), errTooMany)
}

func TestReader(t *testing.T) {
	var r reader
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte("x"), 100_000), 0o600))
	data, err := r.read(path)
	require.NoError(t, err)
	require.Len(t, data, 100_000)
	require.NoError(t, os.Truncate(path, maxFile+1<<20))
	_, err = r.read(path)
	require.ErrorIs(t, err, errTooLong)
	_, err = r.read(path + "x")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, errNoData, absent(err))
	require.NoError(t, unix.Mkfifo(path+"p", 0o600))
	_, _ = r.read(path + "p") // returns, whatever it says
}

func TestParseNumber(t *testing.T) {
	for text, want := range map[string]float64{
		"0": 0, "-7": -7, "18446744073709551615": 18446744073709551615, "0x1303": 0x1303, "1.5": 1.5, "999999999999999": 999999999999999,
	} {
		v, ok := parseNumber([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, v, text)
	}
	for _, text := range []string{"", "-", "x", "1x", "0x", "NaN", "12 13", "--1"} {
		_, ok := parseNumber([]byte(text))
		require.False(t, ok, text)
	}
}

func TestParseMount(t *testing.T) {
	m, err := parseMount([]byte(`36 35 98:0 /root /a\040b\134 rw,noatime shared:1 master:2 - ext4 /dev/my\011disk ro,errors=continue`))
	require.NoError(t, err)
	require.Equal(t, mount{device: "/dev/my\tdisk", point: `/a b\`, fstype: "ext4", major: "98", minor: "0", readonly: true}, m)
	m, err = parseMount([]byte(`1 0 0:1 / / rw - tmpfs none`))
	require.NoError(t, err)
	require.False(t, m.readonly)
	for _, bad := range []string{"", "36 35 98:0 / /", "36 35 98:0 / / rw -", "36 35 98:0 / / rw ext4 /dev/sda rw"} {
		_, err := parseMount([]byte(bad))
		require.ErrorContains(t, err, "parse mountinfo", bad)
	}
}
