package pushgateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/vedette-io/vedette/internal/freeport"
	"github.com/vedette-io/vedette/internal/vfs"
)

const protobufType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

// call is a request of the table and where we differ from the original.
type call struct {
	method, path, body string
	headers            []string
	code               int // ours, if it differs
}

// table is what both are asked, scene by scene; groups are wiped in between.
func table(t testing.TB) map[string][]call {
	gz, sn := &bytes.Buffer{}, &bytes.Buffer{}
	z, s := gzip.NewWriter(gz), snappy.NewBufferedWriter(sn)
	for _, w := range []io.WriteCloser{z, s} {
		_, err := io.WriteString(w, "m 1\n")
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
	label := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
	gauge := func(name string, labels ...*dto.LabelPair) *dto.MetricFamily {
		return &dto.MetricFamily{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Label: labels, Gauge: &dto.Gauge{Value: proto.Float64(1)}}}}
	}
	pb := []string{"Content-Type", protobufType}
	counter := gauge("wrong")
	counter.Type = dto.MetricType_COUNTER.Enum()
	native := &dto.MetricFamily{Name: proto.String("native"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: &dto.Histogram{
		SampleCount: proto.Uint64(3), SampleSum: proto.Float64(2), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(0.1), ZeroCount: proto.Uint64(1),
		PositiveSpan: []*dto.BucketSpan{{Length: proto.Uint32(1)}}, PositiveDelta: []int64{2},
	}}}}
	put := func(path, body string, headers ...string) call { return call{"PUT", path, body, headers, 0} }
	post := func(path, body string, headers ...string) call { return call{"POST", path, body, headers, 0} }
	del := func(path string) call { return call{"DELETE", path, "", nil, 0} }
	ours := func(code int, c call) call { c.code = code; return c }
	return map[string][]call{
		"replace":          {put("/metrics/job/x", "a 1\nb 1\n"), put("/metrics/job/x", "b 2\nc 2\n")},
		"add":              {put("/metrics/job/x", "a 1\nb{i=\"1\"} 1\nb{i=\"2\"} 1\n"), post("/metrics/job/x", "b{i=\"1\"} 2\nc 2\n")},
		"empty put":        {put("/metrics/job/x", "a 1\n"), put("/metrics/job/x", "")},
		"empty post":       {put("/metrics/job/x", "a 1\n"), post("/metrics/job/x", "")},
		"delete":           {put("/metrics/job/x", "a 1\n"), put("/metrics/job/x/l/1", "a 1\n"), del("/metrics/job/x"), del("/metrics/job/x"), del("/metrics/job/other")},
		"own labels":       {put("/metrics/job/x/instance/i", "a{job=\"own\",instance=\"own\"} 1\n"), put("/metrics/job/y", "a{job=\"own\",instance=\"own\"} 1\n")},
		"own push time":    {put("/metrics/job/x", "push_time_seconds 5\n")},
		"paths":            {put("/metrics/job/x/", "a 1\n"), put("/metrics/job@base64/eA==/l@base64/L3Zhcg", "a 1\n"), put("/metrics/job/x/a@base64/=/b/1", "a 1\n"), put("/metrics/job/a%20b/l/%CE%A0", "a 1\n")},
		"bad paths":        {put("/metrics/job/x/a", "a 1\n"), put("/metrics/job@base64/=", "a 1\n"), put("/metrics/job@base64/+", "a 1\n"), put("/metrics/job/x/__a/b", "a 1\n"), put("/metrics/job/x/a-b/c", "a 1\n"), put("/metrics/job", "a 1\n"), ours(404, put("/metrics/job/", "a 1\n")), put("/metrics/job/x//y", "a 1\n"), put("/metrics/job/x%2Fy", "a 1\n"), put("/metrics/other/x", "a 1\n")},
		"repeated labels":  {put("/metrics/job/x/job/y", "a 1\n"), put("/metrics/job/z/a/1/a/2", "a 1\n")},
		"methods":          {{"GET", "/metrics/job/x", "", nil, 0}, {"PATCH", "/metrics/job/x", "", nil, 0}, {"OPTIONS", "/metrics/job/x", "", nil, 0}, {"HEAD", "/metrics/job/x", "", nil, 0}, put("/metrics", ""), post("/api/v1/admin/wipe", ""), {"GET", "/-/ready", "", nil, 0}, {"GET", "/-/healthy", "", nil, 0}},
		"timestamp":        {put("/metrics/job/x", "a 1\n"), post("/metrics/job/x", "b 1 1700000000000\n")},
		"duplicate":        {put("/metrics/job/x", "a 1\na 1\n")},
		"type elsewhere":   {put("/metrics/job/x", "# TYPE a gauge\na 1\n"), put("/metrics/job/y", "# TYPE a counter\na 1\n"), put("/metrics/job/x", "# TYPE a counter\na 1\n"), put("/metrics/job/y", "# TYPE a gauge\na 1\n")},
		"help elsewhere":   {put("/metrics/job/x", "# HELP a One.\na 1\n"), put("/metrics/job/y", "# HELP a One.\na 1\n")},
		"suffix":           {put("/metrics/job/x", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"), put("/metrics/job/y", "h_count 1\n"), put("/metrics/job/y", "h_total 1\n")},
		"reserved label":   {put("/metrics/job/x", "a{__b=\"1\"} 1\n"), put("/metrics/job/y", "a{__name__=\"1\"} 1\n")},
		"text faults":      {put("/metrics/job/x", "a 1"), put("/metrics/job/x", "a\n"), put("/metrics/job/x", "a x\n"), put("/metrics/job/x", "a{b} 1\n"), put("/metrics/job/x", "a{b=\"1\",b=\"2\"} 1\n"), put("/metrics/job/x", "# TYPE a banana\na 1\n"), put("/metrics/job/x", "a 1\r\n"), put("/metrics/job/x", "{\"m.n\"} 1\n"), put("/metrics/job/x", "a{l=\"\xff\"} 1\n")},
		"histograms":       {put("/metrics/job/x", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\n")},
		"incomplete":       {put("/metrics/job/x", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# TYPE s summary\ns{quantile=\"0.5\"} 1\n")},
		"openmetrics":      {put("/metrics/job/x", "# TYPE a counter\n# UNIT a seconds\na_total 1\n# EOF\n", "Content-Type", "application/openmetrics-text; version=1.0.0"), put("/metrics/job/y", "b_total 1 # {t=\"1\"} 1\n# EOF\n", "Content-Type", "application/openmetrics-text; version=1.0.0")},
		"encodings":        {put("/metrics/job/x", gz.String(), "Content-Encoding", "gzip"), put("/metrics/job/y", sn.String(), "Content-Encoding", "Snappy"), put("/metrics/job/z", "m 1\n", "Content-Encoding", "gzip"), put("/metrics/job/z", "m 1\n", "Content-Encoding", "snappy"), put("/metrics/job/z", "m 1\n", "Content-Encoding", "identity")},
		"unknown encoding": {ours(415, put("/metrics/job/x", "m 1\n", "Content-Encoding", "br"))},
		"protobuf":         {put("/metrics/job/x", protobuf(t, gauge("a"), gauge("b", label("z", "1"), label("c", ""))), pb...), post("/metrics/job/x", protobuf(t, gauge("a", label("l", "1")), gauge("a")), pb...), put("/metrics/job/n", protobuf(t, native), pb...)},
		"protobuf faults":  {put("/metrics/job/x", protobuf(t, gauge("a"))[:9], pb...), put("/metrics/job/x", "a 1\n", pb...), put("/metrics/job/t", protobuf(t, counter), pb...), put("/metrics/job/u", protobuf(t, gauge("a", label("l", "1"), label("l", "2"))), pb...)},
		"protobuf names":   {put("/metrics/job/x", protobuf(t, gauge("a.b")), pb...), put("/metrics/job/y", protobuf(t, gauge("a", label("l.m", "1"))), pb...), ours(400, put("/metrics/job/z", protobuf(t, gauge("")), pb...))},
		"empty label":      {put("/metrics/job/x", "a 1\n"), put("/metrics/job/x/instance@base64/=", "b 1\n")},
		"bad grouping":     {put("/metrics/job/%FF", "a 1\n")},
		"le in grouping":   {ours(400, put("/metrics/job/x/le/1", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n"))},
		"same series":      {put("/metrics/job/x/l/1", "a 1\n"), put("/metrics/job/x", "a{l=\"1\"} 1\n")},
	}
}

// looseTable is what both are asked without the consistency check and with any
// UTF-8 in names.
func looseTable() map[string][]call {
	put := func(path, body string, code int) call { return call{"PUT", path, body, nil, code} }
	return map[string][]call{
		"replace":       {put("/metrics/job/x", "a 1\nb 1\n", 0), put("/metrics/job/x", "b 2\nc 2\n", 0)},
		"names":         {put("/metrics/job/x/U__foo_2e_bar/baz", "{\"m.n\",\"a b\"=\"c\"} 1\n", 0), put("/metrics/job/x/U__foo_2e_bar@base64/YmF6", "{\"m.n\"} 2\n", 0), put("/metrics/job/x/U__in_xxx_valid/1", "a 1\n", 0), put("/metrics/job/x/a-b/1", "a 1\n", 0)},
		"bad names":     {put("/metrics/job/x/__a/1", "a 1\n", 0), put("/metrics/job/x/U__/1", "a 1\n", 0)},
		"types":         {put("/metrics/job/x", "# TYPE a gauge\na 1\n", 0), put("/metrics/job/y", "# TYPE a counter\na 1\n", 0)},
		"timestamp":     {put("/metrics/job/x", "a 1 1700000000000\n", 400)},
		"duplicate":     {put("/metrics/job/x", "a 1\na 2\n", 400)},
		"reserved name": {put("/metrics/job/x/U______name____/1", "a 1\n", 400)},
	}
}

var ownTime = regexp.MustCompile(`(push_(?:failure_)?time_seconds{.*}) [1-9].*`)

// shownBy returns the samples and types that a gateway shows of its groups.
func shownBy(t testing.TB, client *http.Client, url string) (out []string) {
	t.Helper()
	resp, err := client.Get(url + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode != http.StatusOK {
		return []string{resp.Status}
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, `job="`) && !strings.HasPrefix(line, "#") {
			out = append(out, ownTime.ReplaceAllString(line, "$1 T"))
		}
	}
	slices.Sort(out)
	return out
}

// The original answers the same requests with the same codes and shows the same
// metrics afterwards, but for the differences that the documentation lists.
func TestLikeTheOriginal(t *testing.T) {
	compare(t, table(t), nil)
}

func TestLikeTheOriginalWithoutCheck(t *testing.T) {
	compare(t, looseTable(), func(c *Config) { c.DisableConsistencyCheck, c.UTF8Names = true, true },
		"--push.disable-consistency-check", "--push.enable-utf8-names")
}

// startOriginal runs the original and returns its URL.
func startOriginal(t *testing.T, client *http.Client, flags []string) string {
	binary, err := exec.LookPath("pushgateway")
	if err != nil {
		t.Skip("no pushgateway binary in PATH to compare with")
	}
	port, err := freeport.Reserve()
	require.NoError(t, err)
	t.Cleanup(port.Release)
	address := port.Addr()
	cmd := exec.Command(binary, append(flags, "--web.listen-address="+address, "--web.enable-admin-api")...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	require.Eventually(t, func() bool {
		resp, err := client.Get("http://" + address + "/-/ready")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
	return "http://" + address
}

// ask sends a request of the table.
func ask(t testing.TB, client *http.Client, url string, c call) (code int, text string) {
	req, err := http.NewRequest(c.method, url+c.path, strings.NewReader(c.body))
	require.NoError(t, err)
	for i := 0; i < len(c.headers); i += 2 {
		req.Header.Set(c.headers[i], c.headers[i+1])
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// groupsOf counts the groups of a gateway.
func groupsOf(t testing.TB, client *http.Client, url string) int {
	var got struct{ Data []any }
	_, body := ask(t, client, url, call{"GET", "/api/v1/metrics", "", nil, 0})
	require.NoError(t, json.Unmarshal([]byte(body), &got), body)
	return len(got.Data)
}

// compare asks the original and ours the same.
func compare(t *testing.T, scenes map[string][]call, change func(*Config), flags ...string) {
	client := &http.Client{
		Transport:     &http.Transport{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	original := startOriginal(t, client, flags)
	r := newRig(t, vfs.NewMem(), func(c *Config) {
		c.EnableAdminAPI = true
		if change != nil {
			change(c)
		}
	})
	srv := httptest.NewServer(r.Handler())
	defer srv.Close()
	for scene, calls := range scenes {
		t.Run(scene, func(t *testing.T) {
			differs := false
			for _, c := range calls {
				want, wantText := ask(t, client, original, c)
				got, gotText := ask(t, client, srv.URL, c)
				t.Logf("%s %s: %d %q\n\tours %d %q", c.method, c.path, want, wantText, got, gotText)
				if c.code != 0 {
					require.NotEqual(t, want, got)
					want, differs = c.code, true
				}
				require.Equal(t, want, got, "%s %s", c.method, c.path)
			}
			// What the original cannot show any more is no measure. It deletes and
			// wipes, and without the check pushes, behind its answer.
			if !differs {
				got := shownBy(t, client, srv.URL)
				require.Eventually(t, func() bool {
					want := shownBy(t, client, original)
					return len(want) > 0 && strings.HasPrefix(want[0], "500") || slices.Equal(want, got)
				}, 10*time.Second, 5*time.Millisecond, "got %q", got)
			}
			for _, url := range []string{original, srv.URL} {
				code, _ := ask(t, client, url, call{"PUT", "/api/v1/admin/wipe", "", nil, 0})
				require.Equal(t, 202, code)
				require.Eventually(t, func() bool { return groupsOf(t, client, url) == 0 }, 10*time.Second, 5*time.Millisecond)
			}
		})
	}
}
