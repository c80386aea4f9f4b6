package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/api"
	"github.com/vedette-io/vedette/query/promql"
)

// readRemotely returns what Prometheus's own client reads, as text.
func readRemotely(t *testing.T, f *fixture, kind prompb.ReadRequest_ResponseType, sel ...*labels.Matcher) string {
	t.Helper()
	u, err := url.Parse(f.url + "/api/v1/read")
	if err != nil {
		t.Fatal(err)
	}
	client, err := remote.NewReadClient("test", &remote.ClientConfig{
		URL:                   &configutil.URL{URL: u},
		Timeout:               model.Duration(time.Minute),
		ChunkedReadLimit:      1 << 20,
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{kind},
	})
	if err != nil {
		t.Fatal(err)
	}
	q, err := remote.ToQuery(f.now.Add(-time.Hour).UnixMilli(), f.now.UnixMilli(), sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := client.Read(t.Context(), q, true)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for set.Next() {
		fmt.Fprintln(&out, set.At().Labels())
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				ts, v := it.At()
				fmt.Fprintln(&out, ts-f.now.UnixMilli(), v)
			} else {
				ts, h := it.AtFloatHistogram(nil)
				fmt.Fprintln(&out, ts-f.now.UnixMilli(), h)
			}
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Err(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRemoteRead(t *testing.T) {
	f := newFixture(t, func(o *api.Options, _ *promql.Config) { o.Config.ExternalLabels = map[string]string{"region": "eu"} })
	f.append(tenant.Default, func(app storage.AppenderV2) error {
		for i := range int64(300) {
			if _, err := app.Append(0, series("up"), 0, f.now.UnixMilli()-(300-i)*1000, float64(i), nil, nil, storage.AppendV2Options{}); err != nil {
				return err
			}
		}
		var h *histogram.Histogram
		for i := range int64(3) {
			h = tsdbutil.GenerateTestHistogram(i)
			if _, err := app.Append(0, series("latency"), 0, f.now.UnixMilli()-(3-i)*1000, 0, h, nil, storage.AppendV2Options{}); err != nil {
				return err
			}
		}
		return nil
	})
	all := labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")
	samples := readRemotely(t, f, prompb.ReadRequest_SAMPLES, all)
	streamed := readRemotely(t, f, prompb.ReadRequest_STREAMED_XOR_CHUNKS, all)
	if samples != streamed {
		t.Errorf("samples:\n%.500s\nstreamed:\n%.500s", samples, streamed)
	}
	if !strings.Contains(samples, `{__name__="up", region="eu"}`) || strings.Count(samples, "\n") != 2+300+3 || !strings.Contains(samples, "\n-1000 299\n") {
		t.Errorf("read %.500s", samples)
	}
	// A body that claims to be huge is refused before it is unpacked.
	bomb := snappy.Encode(nil, make([]byte, 100<<20))
	res, err := http.Post(f.url+"/api/v1/read", "application/x-protobuf", bytes.NewReader(bomb))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 400 || !strings.Contains(string(body), "exceeds limit") {
		t.Errorf("bomb: %d %s, want 400", res.StatusCode, body)
	}
}

// promtool returns the path of the program: what PROMTOOL names, or one that is
// built from this module's version.
func promtool(t *testing.T) string {
	if path := os.Getenv("PROMTOOL"); path != "" {
		return path
	}
	if testing.Short() {
		t.Skip("builds promtool, which takes minutes from a cold cache; PROMTOOL may name one")
	}
	// In a throwaway module with our versions, so that ours needs nothing for it.
	// Service discovery is left out: it takes most of the build.
	dir := t.TempDir()
	ours, err := exec.CommandContext(t.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("find go.mod: %v", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(ours)))
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte("module github.com/vedette-io/vedette\n"), []byte("module test.local/promtool\n"), 1)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "promtool")
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-tags=remove_all_sd", "-o", path, "github.com/prometheus/prometheus/cmd/promtool")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build promtool: %v\n%s", err, out)
	}
	return path
}

// TestPromtool runs the client that operators have.
func TestPromtool(t *testing.T) {
	promtool := promtool(t)
	f := newFixture(t, nil)
	f.write(tenant.Default, time.Minute, 1, series("up", "job", "a"))
	f.write(tenant.Default, 0, 2, series("up", "job", "a"))
	now, before := fmt.Sprint(f.now.Unix()), fmt.Sprint(f.now.Unix()-60)
	run := func(want string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, promtool, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("promtool %s: %v\n%s\nwant %s", strings.Join(args, " "), err, out, want)
		}
	}
	run(`up{job="a"} => 2`, "query", "instant", "--time="+now, f.url, "up")
	run(`1 @[`, "query", "range", "--start="+before, "--end="+now, "--step=60s", f.url, "up")
	run(`{__name__="up", job="a"}`, "query", "series", "--match=up", f.url)
	run("a", "query", "labels", f.url, "job")
}
