package influx

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	influxhttp "github.com/influxdata/influxdb-client-go/v2/api/http"
	influxpoint "github.com/influxdata/influxdb-client-go/v2/api/write"
	"github.com/influxdata/line-protocol/v2/lineprotocol"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/ingest/ingesttest"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	*httptest.Server
	*doortest.Pipeline
	handler *Handler
	t       *testing.T
}

func newServer(t *testing.T, o doortest.Options, change func(*Config)) *server {
	p := doortest.New(t, o)
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	h, err := New(Options{Entry: p.Entry("influx"), Config: cfg, Version: "1.2.3", Registerer: p.Registerer})
	require.NoError(t, err)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &server{srv, p, h, t}
}

// do sends a request and returns status, header and body.
func (s *server) do(method, path, body string, header ...string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.Client().Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, answer.Header, strings.TrimSpace(string(text))
}

func (s *server) write(path, body string) {
	s.t.Helper()
	code, _, text := s.do("POST", path, body)
	require.Equal(s.t, 204, code, text)
	require.Empty(s.t, text)
}

func TestMapping(t *testing.T) {
	f := func(change func(*Config), path, body string, want ...string) {
		t.Helper()
		s := newServer(t, doortest.Options{}, change)
		s.write(path, body)
		require.Equal(t, want, s.Sink.Lines())
	}
	f(nil, "/write?db=telegraf&rp=autogen&consistency=any", "cpu,host=a,Region=b idle=1i,busy=t,text=\"x\" 1700000000123456789",
		`default {Region="b", __name__="cpu_busy", db="telegraf", host="a"} 1700000000123 1`,
		`default {Region="b", __name__="cpu_idle", db="telegraf", host="a"} 1700000000123 1`)
	f(nil, "/api/v2/write?bucket=b1&org=o&precision=s", "cpu,db=mine,zone=z value=1.5 1700000000",
		`default {__name__="cpu_value", db="mine", zone="z"} 1700000000000 1.5`) // the tag wins
	f(nil, "/influx/write?precision=ms", "m,z=1,b=2,a=3,É=4 v=1 1700000000000\n",
		`default {_="4", __name__="m_v", a="3", b="2", z="1"} 1700000000000 1`)
	f(nil, "/write?precision=ms", `2xx,1st=a,the\ path=b time.max-µs=1,a:b=2 1700000000000`,
		`default {_1st="a", __name__="_2xx_a:b", the_path="b"} 1700000000000 2`,
		`default {_1st="a", __name__="_2xx_time_max__s", the_path="b"} 1700000000000 1`)
	f(func(c *Config) { c.Sanitize = false }, "/write?precision=ms", `2xx,1st=a,the\ path=b time.max-µs=1 1700000000000`,
		`default {1st="a", __name__="2xx_time.max-µs", the path="b"} 1700000000000 1`)
	f(func(c *Config) { c.SkipSingleField, c.Separator, c.DBLabel = true, ".", "" }, "/write?db=x&precision=ms", "m v=1 1700000000000\nn v=1,w=2 1700000000000\nn v=3,s=\"\" 1700000001000",
		`default {__name__="m"} 1700000000000 1`,
		`default {__name__="n_v"} 1700000000000 1`,
		`default {__name__="n_v"} 1700000001000 3`,
		`default {__name__="n_w"} 1700000000000 2`)
}

func TestNowWithoutTimestamp(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	before := time.Now().UnixMilli()
	s.write("/write", "m v=1")
	lines := s.Sink.Lines()
	require.Len(t, lines, 1)
	var at int64
	_, err := fmt.Sscanf(lines[0], `default {__name__="m_v"} %d 1`, &at)
	require.NoError(t, err)
	require.GreaterOrEqual(t, at, before)
	require.LessOrEqual(t, at, time.Now().UnixMilli())
}

func TestPartialWrites(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	body := "m v=1 1700000000000\nbad line here\nm,a=1,a=2 v=1\nm,__name__=x v=1\nm w=2 1700000000000\n"
	code, h, text := s.do("POST", "/write?precision=ms", body)
	require.Equal(t, 400, code)
	require.JSONEq(t, `{"error":"partial write: unable to parse 'bad line here': invalid field format dropped=3 (3 of 5 lines not valid, 0 samples refused)"}`, text)
	require.Contains(t, h.Get("X-Influxdb-Error"), "partial write")

	code, h, text = s.do("POST", "/api/v2/write?precision=ms", strings.ReplaceAll(body, "17", "16"))
	require.Equal(t, 400, code)
	require.JSONEq(t, `{"code":"invalid","message":"partial write: unable to parse 'bad line here': invalid field format dropped=3 (3 of 5 lines not valid, 0 samples refused)"}`, text)
	require.Equal(t, "invalid", h.Get("X-Platform-Error-Code"))
	require.Equal(t, []string{
		`default {__name__="m_v"} 1600000000000 1`, `default {__name__="m_v"} 1700000000000 1`,
		`default {__name__="m_w"} 1600000000000 2`, `default {__name__="m_w"} 1700000000000 2`,
	}, s.Sink.Lines())

	code, _, text = s.do("POST", "/write", "m v=\""+strings.Repeat("ä\n", 200))
	require.Equal(t, 400, code)
	require.Contains(t, text, `{"error":"unable to parse 'm v=\"ä\nä`[:30])
	require.Contains(t, text, "…': unbalanced quotes dropped=1")

	// What the door refuses.
	code, _, text = s.do("POST", "/write?precision=h", "m v=1 4000000\nm w=1 400000")
	require.Equal(t, 400, code)
	require.Contains(t, text, `partial write: series {__name__=\"m_v\"}: `)
	require.Contains(t, text, `dropped=1 (0 of 2 lines not valid, 1 samples refused)`)

	code, _, text = s.do("POST", "/write?precision=h", "m v=1 9000000000000000000")
	require.Equal(t, 400, code)
	require.Contains(t, text, "time outside range")

	require.NoError(t, testutil.CollectAndCompare(s.handler.metrics.refused, strings.NewReader(`
# HELP vedette_ingest_influx_refused_lines_total Lines of line protocol that were refused because they are not valid.
# TYPE vedette_ingest_influx_refused_lines_total counter
vedette_ingest_influx_refused_lines_total 8
`)))
	require.NoError(t, testutil.GatherAndCompare(s.Registerer, strings.NewReader(`
# HELP vedette_ingest_refused_total Samples, exemplars, metadata entries, empty series, spans and log records refused by validation or by the store, by reason.
# TYPE vedette_ingest_refused_total counter
vedette_ingest_refused_total{door="influx",reason="invalid_line"} 8
vedette_ingest_refused_total{door="influx",reason="too_far_in_future"} 1
`), "vedette_ingest_refused_total"))
}

func TestRequestErrors(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) { c.MaxBodyBytes, c.MaxDecodedBytes = 1000, 4000 }}, nil)
	f := func(method, path, body string, header []string, code int, want string) {
		t.Helper()
		got, h, text := s.do(method, path, body, header...)
		require.Equal(t, code, got, text)
		require.JSONEq(t, want, text)
		require.Equal(t, "application/json", h.Get("Content-Type"))
	}
	f("GET", "/write", "", nil, 405, `{"error":"method: got GET, want POST"}`)
	f("POST", "/write?precision=d", "", nil, 400, `{"error":"decode precision: byte 0: got \"d\", want ns, us, ms, s, m or h"}`)
	f("POST", "/api/v2/write", strings.Repeat("#", 1001), nil, 413, `{"code":"request too large","message":"http: request body too large"}`)
	f("POST", "/api/v2/write", packed(strings.Repeat("#", 5000)), []string{"Content-Encoding", "gzip"}, 413,
		`{"code":"request too large","message":"decode request: uncompressed body: got 5000 bytes, want <= 4000"}`)
	f("POST", "/write", "x", []string{"Content-Encoding", "br"}, 415, `{"error":"write: Content-Encoding: got \"br\", want gzip, zstd or identity"}`)
	f("POST", "/write", "m v=1", []string{tenant.Header, "../x"}, 400, `{"error":"tenant id in header X-Scope-OrgID is not valid: it starts with a dot"}`)
	require.Empty(t, s.Sink.Lines())
	code, _, _ := s.do("POST", "/write", "")
	require.Equal(t, 204, code)
	code, _, _ = s.do("GET", "/elsewhere", "")
	require.Equal(t, 404, code)
	code, _, _ = s.do("POST", "/write?precision=s", packed("m v=1 1700000000"), "Content-Encoding", "gzip", tenant.Header, "team-a")
	require.Equal(t, 204, code)
	require.Equal(t, []string{`team-a {__name__="m_v"} 1700000000000 1`}, s.Sink.Lines())
}

func packed(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func TestBackPressure(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) { c.Limits.SamplesPerSecond, c.Limits.SamplesBurst = 0.01, 1 }}, nil)
	s.write("/write", "m v=1,w=2")
	code, h, text := s.do("POST", "/api/v2/write", "m v=3")
	require.Equal(t, 429, code)
	require.NotEmpty(t, h.Get("Retry-After"))
	require.Contains(t, text, `"code":"too many requests"`)

	s.Door.Close()
	code, h, _ = s.do("POST", "/write", "m v=4")
	require.Equal(t, 503, code)
	require.NotEmpty(t, h.Get("Retry-After"))
}

// A line cannot make more of itself than maxLineBytes, a body is written in
// chunks, and no more than the bad lines of it are lost.
func TestLargeBody(t *testing.T) {
	s := newServer(t, doortest.Options{Config: func(c *door.Config) { c.Limits.MaxLabelValueBytes = 0 }}, nil)
	var b strings.Builder
	const n = 3000
	pad := strings.Repeat("p", 500)
	for i := range n {
		fmt.Fprintf(&b, "m,i=%d,pad=%s v=%d,w=1 1700000000000\n", i, pad, i)
	}
	fmt.Fprintf(&b, "m,pad=%s f=1", strings.Repeat("p", 20000))
	for i := range 200 {
		fmt.Fprintf(&b, ",f%d=1", i)
	}
	code, _, text := s.do("POST", "/write?precision=ms", b.String())
	require.Equal(t, 400, code)
	require.Contains(t, text, "tags of all fields together are too long")
	require.Len(t, s.Sink.Lines(), 2*n)
	require.Greater(t, len(s.Sink.Offsets(0)), 2)
}

func TestQueryPingHealth(t *testing.T) {
	s := newServer(t, doortest.Options{}, func(c *Config) { c.Databases = []string{"telegraf"} })
	f := func(method, path, body string, code int, want string) {
		t.Helper()
		got, _, text := s.do(method, path, body, "Content-Type", "application/x-www-form-urlencoded")
		require.Equal(t, code, got)
		require.JSONEq(t, want, text)
	}
	f("POST", "/query", url.Values{"q": {`CREATE DATABASE "telegraf"`}}.Encode(), 200, `{"results":[{"statement_id":0}]}`)
	f("GET", "/influx/query?q=show+databases%3B", "", 200, `{"results":[{"statement_id":0,"series":[{"name":"databases","columns":["name"],"values":[["telegraf"]]}]}]}`)
	f("GET", "/query", "", 400, `{"error":"missing required parameter \"q\""}`)
	f("GET", "/query?q=SELECT+1", "", 400, `{"error":"InfluxQL is not spoken here, but for CREATE DATABASE and SHOW DATABASES; query with PromQL"}`)
	f("DELETE", "/query", "", 405, `{"error":"method: got DELETE, want GET or POST"}`)
	f("GET", "/ping?verbose=true", "", 200, `{"version":"1.8.10"}`)
	f("GET", "/health", "", 200, `{"name":"vedette","message":"ready for writes","status":"pass","checks":[],"version":"1.2.3"}`)
	code, h, _ := s.do("HEAD", "/ping", "")
	require.Equal(t, 204, code)
	require.Equal(t, "1.8.10", h.Get("X-Influxdb-Version"))
}

func TestBearer(t *testing.T) {
	f := func(want, query string, header ...string) {
		t.Helper()
		r := httptest.NewRequest("POST", "/write"+query, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		got := ""
		Bearer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") })).ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, want, got)
	}
	f("", "")
	f("Bearer x", "", "Authorization", "Bearer x")
	f("Bearer x", "", "Authorization", "Token x")
	f("Bearer pw", "", "Authorization", "Token user:pw")
	f("Bearer pw", "", "Authorization", "Basic dXNlcjpwdw==")
	f("Bearer pw", "?u=user&p=pw")
	f("Bearer x", "?u=user&p=pw", "Authorization", "Bearer x")
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{Separator: "\xff", DBLabel: "__name__", Databases: []string{""}}.Validate()
	require.EqualError(t, err, "separator: got \"\\xff\", want UTF-8\ndb_label: got \"__name__\", want UTF-8 other than __name__\ndatabases: want no empty name")
}

// What Telegraf encodes with.
func TestLineProtocolEncoder(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	var e lineprotocol.Encoder
	e.SetPrecision(lineprotocol.Nanosecond)
	at := time.UnixMilli(1_700_000_000_000)
	e.StartLine("disk io")
	e.AddTag("host", "a=b, c")
	e.AddTag("path", `C:\x`)
	e.AddField("reads", lineprotocol.MustNewValue(int64(-42)))
	e.AddField("writes", lineprotocol.MustNewValue(uint64(42)))
	e.AddField("load", lineprotocol.MustNewValue(0.25))
	e.AddField("ok", lineprotocol.MustNewValue(true))
	e.AddField("note", lineprotocol.MustNewValue("line\nend \"q\""))
	e.EndLine(at)
	require.NoError(t, e.Err())
	s.write("/write?db=telegraf", string(e.Bytes()))
	require.Equal(t, []string{
		`default {__name__="disk_io_load", db="telegraf", host="a=b, c", path="C:\\x"} 1700000000000 0.25`,
		`default {__name__="disk_io_ok", db="telegraf", host="a=b, c", path="C:\\x"} 1700000000000 1`,
		`default {__name__="disk_io_reads", db="telegraf", host="a=b, c", path="C:\\x"} 1700000000000 -42`,
		`default {__name__="disk_io_writes", db="telegraf", host="a=b, c", path="C:\\x"} 1700000000000 42`,
	}, s.Sink.Lines())
	require.Equal(t, 1.0, testutil.ToFloat64(s.handler.metrics.strings))
}

// InfluxData's client writes, retries nothing that was refused, and understands
// the answers.
func TestInfluxClient(t *testing.T) {
	sink := &ingesttest.Sink{}
	s := newServer(t, doortest.Options{Sink: sink, Partitions: 2}, nil)
	withToken := Bearer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	srv := httptest.NewServer(withToken)
	defer srv.Close()
	client := influxdb2.NewClientWithOptions(srv.URL, "secret", influxdb2.DefaultOptions().SetUseGZip(true).SetPrecision(time.Millisecond).SetHTTPClient(srv.Client()))
	defer client.Close()
	ctx := t.Context()
	health, err := client.Health(ctx)
	require.NoError(t, err)
	require.EqualValues(t, "pass", health.Status)
	up, err := client.Ping(ctx)
	require.NoError(t, err)
	require.True(t, up)

	w := client.WriteAPIBlocking("org", "bucket")
	at := time.UnixMilli(1_700_000_000_000)
	require.NoError(t, w.WritePoint(ctx,
		influxpoint.NewPoint("cpu", map[string]string{"host": "a b"}, map[string]any{"idle": 99.5, "count": 3, "up": true, "name": "x"}, at),
		influxpoint.NewPoint("cpu", map[string]string{"host": "c"}, map[string]any{"idle": 1e-9}, at)))
	require.Equal(t, []string{
		`default {__name__="cpu_count", db="bucket", host="a b"} 1700000000000 3`,
		`default {__name__="cpu_idle", db="bucket", host="a b"} 1700000000000 99.5`,
		`default {__name__="cpu_idle", db="bucket", host="c"} 1700000000000 1e-09`,
		`default {__name__="cpu_up", db="bucket", host="a b"} 1700000000000 1`,
	}, sink.Lines())

	err = w.WriteRecord(ctx, "cpu idle=x")
	var refused *influxhttp.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 400, refused.StatusCode)
	require.Equal(t, "invalid", refused.Code)
	require.Equal(t, "unable to parse 'cpu idle=x': invalid boolean dropped=1 (1 of 1 lines not valid, 0 samples refused)", refused.Message)

	wrong := influxdb2.NewClientWithOptions(srv.URL, "wrong", influxdb2.DefaultOptions().SetHTTPClient(srv.Client()))
	defer wrong.Close()
	require.ErrorContains(t, wrong.WriteAPIBlocking("org", "bucket").WriteRecord(ctx, "cpu idle=1"), "401")

	// The store's refusals come back, too.
	sink.Append = func(b *signal.Metrics, _ int32, _ int64) (signal.AppendResult, error) {
		return signal.AppendResult{TooOld: b.Samples(), FirstError: "series cpu_idle: too old"}, nil
	}
	err = w.WriteRecord(ctx, "cpu idle=1 1600000000000")
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "partial write: series cpu_idle: too old dropped=1 (0 of 1 lines not valid, 1 samples refused)", refused.Message)
}

// FuzzHandler writes a body, decodes what the door made of it, and wants every
// sample to have come.
func FuzzMapper(f *testing.F) {
	f.Add("cpu,host=a,db=x,É=y value=1,w=2 17\n", true)
	f.Add("1m,0=a,__name__=b v=1", false)
	p := doortest.New(f, doortest.Options{})
	entry := p.Entry("influx")
	f.Fuzz(func(t *testing.T, body string, sanitize bool) {
		cfg := DefaultConfig()
		cfg.Sanitize = sanitize
		h := &Handler{entry: entry, cfg: cfg, metrics: newMetrics(nil)}
		s := h.newWrite()
		s.parser.reset([]byte(body))
		for s.parser.next() {
			s.line("db", precision{1, 1}, 1)
		}
		if err := h.flush(context.Background(), "fuzz", s); err != nil {
			t.Fatal(err)
		}
	})
}
