package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
	"github.com/vedette-io/vedette/ebpf/profile/symbol"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func frames(names ...string) (all []symbol.Frame) {
	for _, n := range names {
		f := symbol.Frame{Name: n, Object: "shop"}
		if k, ok := strings.CutSuffix(n, kernelMark); ok {
			f = symbol.Frame{Name: k, Object: "kernel"}
		}
		all = append(all, f)
	}
	return all
}

func shop(pid uint32) source { return source{feature.Who{Service: "shop", ContainerID: "c0"}, pid} }

// recorded is a feature that is not loaded and holds a few samples.
func recorded(t testing.TB) *Feature {
	t.Helper()
	f := New(DefaultConfig())
	add := func(at time.Time, s source, n uint32, names ...string) {
		require.True(t, f.store.add(at, s, frames(names...), n))
	}
	add(noon, shop(7), 3, "main", "serve", "read_[k]")
	add(noon.Add(time.Second), shop(8), 2, "main", "serve", "read_[k]")
	add(noon.Add(2*time.Second), shop(8), 1, "main")
	add(noon.Add(time.Minute), shop(7), 10, "main", "idle")
	add(noon.Add(time.Minute), source{Who: feature.Who{Service: "kernel"}}, 4, "kworker", "do_work_[k]")
	return f
}

func folded(t testing.TB, f *Feature, q Query) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, f.Folded(&b, q))
	return b.String()
}

func TestFolded(t *testing.T) {
	f := recorded(t)
	require.Equal(t, `kernel;kworker;do_work_[k] 4
shop;main 1
shop;main;idle 10
shop;main;serve;read_[k] 5
`, folded(t, f, Query{}))
	require.Equal(t, `shop;pid 7;main;idle 10
shop;pid 7;main;serve;read_[k] 3
shop;pid 8;main 1
shop;pid 8;main;serve;read_[k] 2
`, folded(t, f, Query{Service: "shop", PerProcess: true}))
	// Whole intervals that overlap.
	first := "shop;main 1\nshop;main;serve;read_[k] 5\n"
	require.Equal(t, first, folded(t, f, Query{To: noon.Add(time.Minute)}))
	require.Equal(t, first, folded(t, f, Query{From: noon.Add(30 * time.Second), To: noon.Add(31 * time.Second)}))
	require.Equal(t, "shop;main;idle 10\n", folded(t, f, Query{Service: "shop", From: noon.Add(time.Minute)}))
	require.Empty(t, folded(t, f, Query{Service: "other"}))
}

func TestPprof(t *testing.T) {
	f := recorded(t)
	var b bytes.Buffer
	require.NoError(t, f.Pprof(&b, Query{}))
	path := filepath.Join(t.TempDir(), "profile.pb.gz")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	p, err := profile.Parse(&b)
	require.NoError(t, err)
	require.Equal(t, noon.UnixNano(), p.TimeNanos)
	require.Equal(t, int64(2*time.Minute), p.DurationNanos)
	require.Equal(t, int64(time.Second/99), p.Period)
	var n int64
	for _, s := range p.Sample {
		require.Equal(t, s.Value[0]*p.Period, s.Value[1])
		n += s.Value[0]
		if s.Label["service"][0] == "shop" {
			require.Equal(t, []string{"c0"}, s.Label["container"])
			require.Len(t, s.NumLabel["pid"], 1)
			require.Equal(t, "main", s.Location[len(s.Location)-1].Line[0].Function.Name)
		}
	}
	require.Equal(t, int64(20), n)

	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no go: %v", err)
	}
	out, err := exec.Command(goTool, "tool", "pprof", "-top", "-sample_index=samples", "-tagfocus=service=shop", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `10 50.00% 50.00%\s+10 50.00%  idle`, string(out))
}

// However much comes, memory stays within its bound, the newest is kept, and what
// was dropped is told.
func TestBounded(t *testing.T) {
	c := DefaultConfig()
	c.MaxBytes = 1 << 20
	s := newStore(c)
	var taken, refused int
	for minute := range 50 {
		at := noon.Add(time.Duration(minute) * time.Minute)
		for i := range 1000 {
			name := fmt.Sprintf("function with a long name %d of minute %d", i, minute)
			if s.add(at, shop(7), frames("main", name), 1) {
				taken++
			} else {
				refused++
			}
			bytes, _, _ := s.size()
			require.Less(t, bytes, c.MaxBytes+4096)
		}
	}
	_, intervals, evicted := s.size()
	require.Zero(t, refused)
	require.Equal(t, 50, intervals+int(evicted))
	require.Greater(t, evicted, uint64(10))
	v := s.view("", noon.Add(49*time.Minute), time.Time{})
	require.Len(t, v.counts, 1000)

	// One interval that is too much alone.
	for i := range 20_000 {
		if !s.add(noon.Add(time.Hour), shop(7), frames("main", fmt.Sprintf("another function %d", i)), 1) {
			refused++
		}
	}
	require.Positive(t, refused)
	bytes, intervals, _ := s.size()
	require.Less(t, bytes, c.MaxBytes+4096)
	require.Equal(t, 1, intervals)
}

// What is held is what was put in, through ends of intervals and thinning.
func TestHeld(t *testing.T) {
	c := DefaultConfig()
	c.Keep = 10 * time.Minute
	s := newStore(c)
	for minute := range 40 {
		at := noon.Add(time.Duration(minute) * time.Minute)
		require.True(t, s.add(at, shop(7), frames("main", fmt.Sprint(minute)), 2))
		require.True(t, s.add(at, shop(uint32(minute)), frames("main", "always"), 1))
	}
	v := s.view("shop", time.Time{}, time.Time{})
	got := map[string]uint64{}
	for p, n := range v.counts {
		var names []string
		for _, id := range v.path(p.node) {
			names = append(names, v.frames[id].Name)
		}
		got[strings.Join(names, ";")] += n
	}
	want := map[string]uint64{"main;always": 11}
	for minute := 29; minute < 40; minute++ {
		want["main;"+fmt.Sprint(minute)] = 2
	}
	require.Equal(t, want, got)
	require.Less(t, len(s.forest.frames), 25)
}

func TestHTTP(t *testing.T) {
	f := New(DefaultConfig())
	at := time.Now().Add(-20 * time.Minute).Truncate(time.Minute)
	require.True(t, f.store.add(at, shop(7), frames("main", "serve"), 99))
	featuretest.Start(t, f, nil)
	from, to := at.UTC().Format(time.RFC3339), at.Add(time.Minute).UTC().Format(time.RFC3339)
	server := httptest.NewServer(f.Handler())
	defer server.Close()
	get := func(query string) (int, string, string) {
		r, err := http.Get(server.URL + query)
		require.NoError(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, r.Header.Get("Content-Type"), string(b)
	}
	code, kind, body := get("/api/v1/profile?service=shop")
	require.Equal(t, "200 text/plain; charset=utf-8 shop;main;serve 99\n", fmt.Sprint(code, " ", kind, " ", body))

	code, kind, body = get(fmt.Sprintf("/api/v1/profile?service=shop&format=json&from=%d&to=%s", at.Unix(), to))
	require.Equal(t, "200 application/json", fmt.Sprint(code, " ", kind))
	unit := int64(time.Second / 99 * 99)
	require.JSONEq(t, fmt.Sprintf(`{"status":"success","data":{"unit":"nanoseconds","samples":99,
		"from":%[2]q,"to":%[3]q,"flamegraph":
		{"name":"all","value":%[1]d,"self":0,"children":[{"name":"shop","value":%[1]d,"self":0,"children":[
		{"name":"main","value":%[1]d,"self":0,"children":[{"name":"serve","value":%[1]d,"self":%[1]d}]}]}]}}}`, unit, from, to), body)

	code, kind, body = get("/api/v1/profile?service=shop&format=pprof")
	require.Equal(t, "200 application/octet-stream", fmt.Sprint(code, " ", kind))
	_, err := profile.Parse(strings.NewReader(body))
	require.NoError(t, err)

	code, _, body = get("/api/v1/profile/services?to=" + to)
	require.Equal(t, 200, code)
	var services struct{ Data []Service }
	require.NoError(t, json.Unmarshal([]byte(body), &services))
	require.Equal(t, "shop", services.Data[0].Name)
	require.InDelta(t, 1, services.Data[0].Seconds, 1e-6)

	for query, want := range map[string]string{
		"?format=svg":      `{"status":"error","errorType":"bad_data","error":"format: got \"svg\", want folded, pprof or json"}`,
		"?from=x":          `{"status":"error","errorType":"bad_data","error":"from: got \"x\", want seconds since 1970 or a time of RFC 3339"}`,
		"?from=5&to=5":     `{"status":"error","errorType":"bad_data","error":"to: got 1970-01-01T00:00:05Z, want a time after from"}`,
		"?per_process=hmm": `{"status":"error","errorType":"bad_data","error":"per_process: got \"hmm\", want true or false"}`,
	} {
		code, kind, body = get("/api/v1/profile" + query)
		require.Equal(t, "400 application/json", fmt.Sprint(code, " ", kind))
		require.JSONEq(t, want, body)
	}
}

// A feature that is not loaded says so.
func TestHTTPNotLoaded(t *testing.T) {
	w := httptest.NewRecorder()
	New(DefaultConfig()).Handler().ServeHTTP(w, httptest.NewRequest("GET", Path, nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"status":"error","errorType":"unavailable","error":"the eBPF feature profile is not loaded"}`, w.Body.String())
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{}.Validate()
	for _, key := range []string{"frequency: got 0", "interval: got 0s", "max_bytes: got 0", "symbol_bytes: got 0"} {
		require.ErrorContains(t, err, key)
	}
	c := DefaultConfig()
	c.Keep = time.Second
	require.ErrorContains(t, c.Validate(), "keep: got 1s")
}

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-1": {0, 1}, "0-2,5,7-8": {0, 1, 2, 5, 7, 8}, "": nil, "1-0": nil, "a": nil, "0-99999999": nil, "-1": nil} {
		got, err := parseCPUs(list)
		require.Equal(t, want, got, list)
		require.Equal(t, want == nil, err != nil, list)
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		cpus, limit int
		every       time.Duration
		entries     uint32
	}{{2, 4096, 5 * time.Second, 1188}, {16, 4096, 2 * time.Second, 4096}, {128, 4096, time.Second, 4096}, {1, 64, time.Second, 64}} {
		every, entries := pace(99, c.cpus, c.limit)
		require.Equal(t, c.every, every, "%+v", c)
		require.Equal(t, c.entries, entries, "%+v", c)
	}
}

// Clocks follow the processors that run.
func TestFollow(t *testing.T) {
	f, _ := start(t)
	e := &events{program: f.objects.Profile.FD(), frequency: 1, open: map[int]int{}}
	defer e.close()
	for _, cpus := range [][]int{{0}, {}, {0}} {
		require.NoError(t, e.follow(cpus))
		require.Len(t, e.open, len(cpus))
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, s string) {
		if cpus, err := parseCPUs(s); err == nil && len(cpus) == 0 {
			t.Fatal("neither processors nor an error")
		}
	})
}
