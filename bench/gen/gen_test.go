package gen

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// writeRecording writes scrapes with the number of series that a target needs,
// covering every shape, and returns their directory.
func writeRecording(t testing.TB, scrapes int) string {
	t.Helper()
	dir := t.TempDir()
	for k := range scrapes {
		var b bytes.Buffer
		b.WriteString("# HELP node_constant a\n# TYPE node_cpu_seconds_total counter\n# TYPE node_load1 gauge\n")
		fmt.Fprintf(&b, "node_cpu_seconds_total{cpu=\"0\",mode=\"id\\\"le\"} %.2f\n", 100.25+float64(k*k)*0.11)
		fmt.Fprintf(&b, "node_load1 %.2f\n", 1+float64(k*7%5)/10)
		fmt.Fprintf(&b, "node_scrape_collector_duration_seconds{collector=\"cpu\"} %.6f\n", 0.000123*float64(1+k*5%3))
		fmt.Fprintf(&b, "node_time_seconds %.7e\n", 1.7952195e9+15*float64(k)+0.123456)
		b.WriteString("# TYPE go_gc_duration_seconds summary\ngo_gc_duration_seconds{quantile=\"0.5\"} 0.001\n")
		fmt.Fprintf(&b, "go_gc_duration_seconds_sum %.3f\ngo_gc_duration_seconds_count %d\n", 0.5+float64(k), 40+k)
		for i := b.Len(); strings.Count(b.String(), "\n")-4 < SeriesPerTarget-27; i++ {
			fmt.Fprintf(&b, "node_constant{device=\"d%d\"} %d\n", i, i)
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, fmt.Sprintf("%d.txt.gz", 1795219553823+int64(k)*15050+int64(k%3)))
		if err := os.WriteFile(name, z.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func spoolOf(t testing.TB, o Options) *Spool {
	t.Helper()
	rec, err := LoadRecording(writeRecording(t, 6))
	if err != nil {
		t.Fatal(err)
	}
	s, err := WriteSpool(rec, filepath.Join(t.TempDir(), "spool"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type point struct {
	ts int64
	v  float64
}

// readAll decodes every request with the reference decoder.
func readAll(t testing.TB, s *Spool) (map[string][]point, []int) {
	t.Helper()
	series := map[string][]point{}
	var sizes []int
	var body []byte
	for _, r := range s.Requests {
		var err error
		if body, err = s.Body(body[:0], r); err != nil {
			t.Fatal(err)
		}
		raw, err := snappy.Decode(nil, body)
		if err != nil {
			t.Fatal(err)
		}
		var wr prompb.WriteRequest
		if err := wr.Unmarshal(raw); err != nil {
			t.Fatal(err)
		}
		if again, err := wr.Marshal(); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("the reference encoder writes other bytes than ours (error %v)", err)
		}
		sizes = append(sizes, len(wr.Timeseries))
		for _, ts := range wr.Timeseries {
			if !slices.IsSortedFunc(ts.Labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("labels are not sorted: %v", ts.Labels)
			}
			key := fmt.Sprint(ts.Labels)
			for _, p := range ts.Samples {
				series[key] = append(series[key], point{p.Timestamp, p.Value})
			}
		}
	}
	return series, sizes
}

func TestSpoolHoldsEveryTargetInTimeOrder(t *testing.T) {
	o := Options{Targets: 7, Scrapes: 20, SamplesPerRequest: 1000, EndMillis: 1_800_000_000_000, Seed: 1}
	s := spoolOf(t, o)
	series, sizes := readAll(t, s)
	if got, want := len(series), o.Targets*SeriesPerTarget; got != want {
		t.Fatalf("got %d series, want %d", got, want)
	}
	for _, n := range sizes {
		if n > o.SamplesPerRequest || n < o.SamplesPerRequest*9/10 {
			t.Fatalf("a request has %d samples, want %d at most and about as many", n, o.SamplesPerRequest)
		}
	}
	latest := int64(0)
	for key, points := range series {
		if len(points) != o.Scrapes {
			t.Fatalf("series %s has %d samples, want %d", key, len(points), o.Scrapes)
		}
		for i := 1; i < len(points); i++ {
			if points[i].ts <= points[i-1].ts {
				t.Fatalf("series %s goes back in time", key)
			}
			if strings.Contains(key, "_total") && points[i].v < points[i-1].v {
				t.Fatalf("counter %s goes down", key)
			}
		}
		latest = max(latest, points[len(points)-1].ts)
		checkDecimals(t, key, points)
	}
	if latest != o.EndMillis {
		t.Fatalf("last sample at %d, want %d", latest, o.EndMillis)
	}
	if s.Samples != int64(o.Targets*o.Scrapes*SeriesPerTarget) {
		t.Fatalf("spool counts %d samples", s.Samples)
	}
}

func checkDecimals(t *testing.T, key string, points []point) {
	t.Helper()
	limit := -1
	switch {
	case strings.Contains(key, "node_cpu_seconds_total"), strings.Contains(key, "node_load1"):
		limit = 2
	case strings.Contains(key, "node_scrape_collector_duration_seconds"):
		limit = 6
	}
	for _, p := range points {
		if limit >= 0 && decimalsOf(p.v) > limit {
			t.Fatalf("series %s has value %v, want at most %d decimals", key, p.v, limit)
		}
	}
	if strings.Contains(key, "node_load1") {
		for _, p := range points {
			if p.v < 1 || p.v > 1.4 {
				t.Fatalf("gauge %s left the recorded range: %v", key, p.v)
			}
		}
	}
}

func TestSpoolIsDeterministicAndTargetsDiffer(t *testing.T) {
	o := Options{Targets: 2, Scrapes: 5, SamplesPerRequest: 5000, EndMillis: 1_800_000_000_000, Seed: 3}
	a, _ := readAll(t, spoolOf(t, o))
	b, _ := readAll(t, spoolOf(t, o))
	o.Seed = 4
	c, _ := readAll(t, spoolOf(t, o))
	same, differ := 0, 0
	for key, points := range a {
		if !slices.Equal(points, b[key]) {
			t.Fatalf("series %s differs between two spools of one seed", key)
		}
		if !slices.Equal(points, c[key]) {
			differ++
		} else {
			same++
		}
	}
	if differ == 0 {
		t.Fatalf("another seed gave the same samples: %d series alike", same)
	}
}

func TestChurnReplacesATenthOfTheSeries(t *testing.T) {
	o := Options{Targets: 2, Scrapes: 25, SamplesPerRequest: 5000, ChurnEach: 10, EndMillis: 1_800_000_000_000, Seed: 1}
	s := spoolOf(t, o)
	series, _ := readAll(t, s)
	want := 0
	for _, n := range s.Created {
		want += n
	}
	if len(series) != want {
		t.Fatalf("got %d series, the spool says %d", len(series), want)
	}
	lengths := map[int]int{}
	for _, p := range series {
		lengths[len(p)]++
	}
	churning := 2 * 54
	if lengths[10] != 2*churning || lengths[5] != churning || lengths[25] != 2*(SeriesPerTarget-54) {
		t.Fatalf("series by length: %v", lengths)
	}
}

func TestLoadRecordingNamesWhatIsWrong(t *testing.T) {
	dir := writeRecording(t, 3)
	names, _ := filepath.Glob(filepath.Join(dir, "*.txt.gz"))
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecording(dir); err == nil || !strings.Contains(err.Error(), "2 files") {
		t.Fatalf("got %v, want an error that counts the files", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.txt.gz"), []byte("not gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadRecording(dir); err == nil || !strings.Contains(err.Error(), "x.txt.gz") {
		t.Fatalf("got %v, want an error that names the file", err)
	}
}

func TestDecimalsOf(t *testing.T) {
	for v, want := range map[float64]int{0: 0, 1: 0, 0.53: 2, 5.5993e-05: 9, 1.795218048e+09: 0, math.Trunc(1e15): 0} {
		if got := decimalsOf(v); got != want {
			t.Errorf("decimalsOf(%v) = %d, want %d", v, got, want)
		}
	}
}
