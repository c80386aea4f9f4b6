package log

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// assembled returns the records of a file's content, read in windows of the given
// size, and what is left of it.
func assembled(t testing.TB, s Source, content string, size int) (out []string, rest string) {
	t.Helper()
	c := DefaultConfig()
	src := newSource(0, s, 64, newMetrics(newRegistry()))
	a := &src.assembler
	if s.Format != "" {
		a.maxBytes = 160 // such lines are longer than what they say
	}
	mid := false
	for at := 0; ; {
		end := min(at+size, len(content))
		b := []byte(content[at:end])
		consumed, m := a.run(window{bytes: b, mid: mid, more: end < len(content), room: c.BatchBytes})
		for _, r := range a.records {
			text := string(r.text)
			if r.stream != streamNone {
				text = streamName(r.stream) + " " + text
			}
			if r.split {
				text += " (split)"
			}
			require.True(t, r.begin < r.end && r.end <= consumed)
			out = append(out, text)
		}
		mid = m
		at += consumed
		if at == len(content) || consumed == 0 && end == len(content) {
			return out, content[at:]
		}
		require.Positive(t, consumed, "no progress at %d", at)
	}
}

func cri(stream, tag, text string) string {
	return fmt.Sprintf("2026-11-21T10:06:28.123456789Z %s %s %s\n", stream, tag, text)
}

func dockerLine(stream, text string) string {
	b, _ := json.Marshal(map[string]string{"log": text, "stream": stream, "time": "2026-11-21T10:06:28.123456789Z"})
	return string(b) + "\n"
}

// Lines, parts of lines and groups of lines become records, in whatever windows they
// are read.
func TestAssemble(t *testing.T) {
	java := Multiline{Start: `^\d{4}-`}
	for _, tc := range []struct {
		name    string
		source  Source
		content string
		want    []string
		rest    string
	}{
		{"plain", Source{}, "a\r\n\nb\n\x00\x00c\nd", []string{"a", "b", "c"}, "d"},
		{"long", Source{}, "a\n" + strings.Repeat("x", 150) + "\nb\n", []string{"a", strings.Repeat("x", 64) + " (split)", strings.Repeat("x", 64) + " (split)", strings.Repeat("x", 22) + " (split)", "b"}, ""},
		{"start", Source{Multiline: java}, "  lost\n2026-01 one\n at a\n\n at b\n2026-02 two\n", []string{"  lost", "2026-01 one\n at a\n\n at b"}, "2026-02 two\n"},
		{"end", Source{Multiline: Multiline{End: `;$`}}, "select 1\nfrom a;\nselect 2;\nselect", []string{"select 1\nfrom a;", "select 2;"}, "select"},
		{"end, open", Source{Multiline: Multiline{End: `;$`}}, "a;\nb\nc\n", []string{"a;"}, "b\nc\n"},
		{"most lines", Source{Multiline: Multiline{Start: "^x", MaxLines: 2}}, "x\n1\n2\n3\nx\n", []string{"x\n1", "2\n3"}, "x\n"},
		{"cri", Source{Format: FormatCRI}, cri("stdout", "P", "a ") + cri("stderr", "F", "b") + cri("stdout", "P", "c ") + cri("stdout", "F", "d") + cri("stdout", "F:x", "") + cri("stderr", "F", "e"),
			[]string{"stderr b", "stdout a c d", "stderr e"}, ""},
		{"cri, open", Source{Format: FormatCRI}, cri("stdout", "F", "a") + cri("stdout", "P", "b ") + cri("stderr", "F", "c"), []string{"stdout a"}, cri("stdout", "P", "b ") + cri("stderr", "F", "c")},
		{"cri, not", Source{Format: FormatCRI}, "no cri\n2026 stdout F a\n" + cri("stdin", "F", "a"), []string{"no cri", "2026 stdout F a", strings.TrimSuffix(cri("stdin", "F", "a"), "\n")}, ""},
		{"cri, groups", Source{Format: FormatCRI, Multiline: java}, cri("stdout", "F", "2026-1") + cri("stderr", "F", "2026-a") + cri("stdout", "F", " at x") + cri("stdout", "F", "2026-2") + cri("stderr", "F", "2026-b") + cri("stdout", "F", "2026-3"),
			[]string{"stdout 2026-1\n at x", "stderr 2026-a", "stdout 2026-2"}, cri("stderr", "F", "2026-b") + cri("stdout", "F", "2026-3")},
		{"docker", Source{Format: FormatDocker}, dockerLine("stdout", "a \"b\" \u4e2d\n") + dockerLine("stderr", "part ") + dockerLine("stderr", "rest\n") + `{"log":"c\n","stream":"stdout","time":"2026-11-21T10:06:28Z"}` + "\n{\n",
			[]string{"stdout a \"b\" \u4e2d", "stderr part rest", "stdout c", "{"}, ""},
		{"docker, not", Source{Format: FormatDocker}, `{"log":1,"time":"2026-11-21T10:06:28Z"}` + "\n" + `{"log":"x\n","time":"?"}` + "\n[]\n", []string{`{"log":1,"time":"2026-11-21T10:06:28Z"}`, `{"log":"x\n","time":"?"}`, "[]"}, ""},
		{"cri, too long", Source{Format: FormatCRI}, cri("stdout", "P", strings.Repeat("x", 60)) + cri("stdout", "P", strings.Repeat("y", 60)) + cri("stdout", "P", strings.Repeat("z", 60)) + cri("stdout", "F", "rest"),
			[]string{"stdout " + strings.Repeat("x", 60) + strings.Repeat("y", 60) + strings.Repeat("z", 60) + " (split)", "stdout rest"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{1 << 20, 700, 500} {
				got, rest := assembled(t, tc.source, tc.content, size)
				require.Equal(t, tc.want, got, "windows of %d", size)
				require.Equal(t, tc.rest, rest)
			}
		})
	}
}

// Lines of JSON are taken apart; what has no meaning of its own is an attribute.
func TestJSON(t *testing.T) {
	logs, state := inDir(t)
	path := filepath.Join(logs, "app.log")
	source := beginning(path)
	source.JSON.Enabled = true
	write(t, path,
		`{"time":"2026-11-21T10:06:28.5Z","level":"WARN","msg":"slow \u4e2d\n","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","n":1,"f":1.5,"big":18446744073709551616,"ok":true,"none":null,"list":[1,"a"],"of":{"k":"v","e":{}},"a \"key\"":"x"}`+"\n",
		`{"ts":1700000000.25,"severity":"60","other":1}`+"\n",
		`{"timestamp":1700000000123,"level":"what","message":7,"trace_id":"short"}`+"\n",
		"no json\n", "[1]\n", `{"cut":`+"\n")
	var s sink
	tail := start(t, testConfig(source), state, &s)
	require.True(t, waitFor(func() bool { return len(s.all()) == 6 }))
	all := s.all()
	r := all[0].record
	require.Equal(t, "slow \u4e2d\n", all[0].body)
	require.Equal(t, time.Date(2026, 11, 21, 10, 6, 28, 5e8, time.UTC), r.Timestamp().AsTime())
	require.Equal(t, plog.SeverityNumberWarn, r.SeverityNumber())
	require.Equal(t, "WARN", r.SeverityText())
	require.Equal(t, "5b8efff798038103d269b633813fc60c", r.TraceID().String())
	require.Equal(t, "eee19b7ec3c1b174", r.SpanID().String())
	require.Equal(t, map[string]any{
		"n": int64(1), "f": 1.5, "big": 18446744073709551616.0, "ok": true, "none": nil, "list": []any{int64(1), "a"},
		"of": map[string]any{"k": "v", "e": map[string]any{}}, `a "key"`: "x",
	}, all[0].attrs)
	require.Equal(t, `{"ts":1700000000.25,"severity":"60","other":1}`, all[1].body, "there is no text")
	require.Equal(t, int64(1700000000250), all[1].record.Timestamp().AsTime().UnixMilli())
	require.Equal(t, plog.SeverityNumberFatal, all[1].record.SeverityNumber())
	require.Equal(t, map[string]any{"level": "what", "message": int64(7), "trace_id": "short"}, all[2].attrs)
	require.Equal(t, int64(1700000000123), all[2].record.Timestamp().AsTime().UnixMilli())
	require.Equal(t, []string{"no json", "[1]", `{"cut":`}, s.bodies()[3:])
	tail.stop()
	require.Equal(t, 3.0, testutil.ToFloat64(tail.metrics.unparsed.WithLabelValues("json")))
}

// Containers are told by their paths, which may be symbolic links.
func TestContainers(t *testing.T) {
	logs, state := inDir(t)
	id := strings.Repeat("0123456789abcdef", 4)
	docker := filepath.Join(logs, "docker/containers", id, id+"-json.log")
	pod := filepath.Join(logs, "pods/shop_cart-7d9f-x2x_0a1b2c/app/3.log")
	link := filepath.Join(logs, "containers/pay-1_shop_app-"+id+".log")
	mesos := filepath.Join(logs, "slaves/S1/frameworks/F/executors/shop.cart.0a1b/runs/7c0d/stdout")
	target := filepath.Join(logs, "elsewhere/0.log")
	for _, p := range []string{docker, pod, link, mesos, target} {
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	}
	require.NoError(t, os.Symlink(target, link))
	write(t, docker, dockerLine("stderr", "one\n"))
	write(t, pod, cri("stdout", "F", "two"))
	write(t, link, cri("stdout", "F", "three"))
	write(t, mesos, "four\n")
	with := func(format string, include ...string) Source {
		s := beginning(include...)
		s.Format = format
		return s
	}
	plain := with("", logs+"/slaves/*/frameworks/*/executors/*/runs/*/stdout")
	plain.PathPattern = `/frameworks/(?P<mesos_framework__id>[^/]+)/`
	var s sink
	start(t, testConfig(with(FormatDocker, logs+"/docker/containers/*/*-json.log"), with(FormatCRI, logs+"/pods/*/*/*.log", logs+"/containers/*.log"), plain), state, &s)
	require.True(t, waitFor(func() bool { return len(s.all()) == 4 }))
	by := map[string]got{}
	for _, g := range s.all() {
		by[g.body] = g
		if g.body != "four" {
			require.Equal(t, int64(123456789), g.record.Timestamp().AsTime().UnixNano()%1e9)
		}
	}
	require.Equal(t, map[string]any{"host.name": "box", "log.file.path": docker, "container.id": id, "service.instance.id": id}, by["one"].resource)
	require.Equal(t, map[string]any{"log.iostream": "stderr"}, by["one"].attrs)
	require.Equal(t, map[string]any{
		"host.name": "box", "log.file.path": pod, "k8s.namespace.name": "shop", "k8s.pod.name": "cart-7d9f-x2x", "k8s.pod.uid": "0a1b2c",
		"k8s.container.name": "app", "k8s.container.restart_count": "3", "service.name": "app", "service.namespace": "shop", "service.instance.id": "shop.cart-7d9f-x2x.app",
	}, by["two"].resource)
	require.Equal(t, "shop.pay-1.app", by["three"].resource["service.instance.id"])
	require.Equal(t, id, by["three"].resource["container.id"])
	require.Equal(t, map[string]any{
		"host.name": "box", "log.file.path": mesos, "container.id": "7c0d", "service.instance.id": "shop.cart.0a1b", "mesos.framework_id": "F",
	}, by["four"].resource)
	// The kubelet renames what the link leads to.
	rename(t, target, target+".20261121-100628")
	write(t, target+".20261121-100628", cri("stdout", "F", "late"))
	write(t, target, cri("stdout", "F", "new"))
	wantBody(t, &s, "late")
	wantBody(t, &s, "new")
}

func TestMatches(t *testing.T) {
	for _, tc := range []struct {
		pattern, path string
		want          bool
	}{
		{"/a/*.log", "/a/b.log", true}, {"/a/*.log", "/a/b/c.log", false},
		{"/a/**/*.log", "/a/b.log", true}, {"/a/**/*.log", "/a/b/c/d.log", true}, {"/a/**/*.log", "/b/c.log", false},
		{"/a/**", "/a/b/c", true}, {"/**/c", "/a/b/c", true}, {"/a/**/c/**/e", "/a/b/c/d/e", true}, {"/a/**/c/**/e", "/a/b/d/e", false},
	} {
		require.Equal(t, tc.want, matches(tc.pattern, tc.path), "%s %s", tc.pattern, tc.path)
	}
	dir := t.TempDir()
	for _, p := range []string{"x[1]/deep/a.log", "x[1]/a.log", "y/a.log"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, p)), 0o755))
		write(t, filepath.Join(dir, p), "")
	}
	require.Len(t, expand(dir+"/**/a.log"), 3)
	require.Len(t, expand(dir+"/x*/**/a.log"), 2)
	require.Len(t, expand(dir+"/*/a.log"), 2)
	require.Empty(t, expand(dir+"/none/**/a.log"))
	require.True(t, isGeneration("app.log.1", "app.log"))
	for _, name := range []string{"app.log", "app.log2", "app.log.1.gz", "app.log.gz.tmp", "other.log.1", "app.log."} {
		require.False(t, isGeneration(name, "app.log"), name)
	}
}

func TestConfig(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	bad := Config{Sources: []Source{{}, {
		Include: []string{"rel/*.log", "/a/["}, Exclude: []string{""}, Format: "x", Encoding: "latin1", Start: "middle", PathPattern: "(",
		Multiline: Multiline{Start: "a", End: "b(", MaxLines: -1}, Attributes: map[string]string{"": "x"},
	}}}
	err := bad.Validate()
	for _, key := range []string{
		"poll_interval", "max_line_bytes", "unfinished_timeout", "batch_bytes", "checkpoint_interval", "max_open_files", "stop_timeout",
		"sources[0].include", "sources[1].include[0]", "sources[1].include[1]", "sources[1].exclude[0]", "sources[1].format", "sources[1].encoding",
		"sources[1].start", "sources[1].path_pattern", "sources[1].multiline.end", "sources[1].multiline:", "sources[1].multiline.max_lines", "sources[1].attributes",
	} {
		require.ErrorContains(t, err, key)
	}
}

// FuzzAssemble reads arbitrary bytes in windows of any size: what comes out does not
// panic, every window makes progress, and of plain lines nothing is lost.
func FuzzAssemble(f *testing.F) {
	f.Add("a\nb\r\n\x00c\n", uint16(10), uint8(0))
	f.Add(cri("stdout", "P", "a ")+cri("stderr", "F", "b")+cri("stdout", "F", "c"), uint16(100), uint8(1))
	f.Add(dockerLine("stdout", "a\n")+dockerLine("stderr", "part"), uint16(100), uint8(2))
	f.Add("2026 a\n at b\n2026 c\n", uint16(8), uint8(3))
	f.Fuzz(func(t *testing.T, content string, size uint16, kind uint8) {
		s := []Source{{}, {Format: FormatCRI}, {Format: FormatDocker}, {Multiline: Multiline{Start: "^2"}}, {Format: FormatCRI, Multiline: Multiline{End: ";$", MaxLines: 3}}}[int(kind)%5]
		got, rest := assembled(t, s, content, 200+int(size))
		if kind%5 != 0 {
			return
		}
		var want []string
		for line := range strings.SplitSeq(content[:len(content)-len(rest)], "\n") {
			line = strings.TrimLeft(line, "\x00")
			if line = strings.TrimSuffix(line, "\r"); line != "" {
				want = append(want, line)
			}
		}
		var have []string
		for _, line := range got {
			have = append(have, strings.TrimSuffix(line, " (split)"))
		}
		if !strings.ContainsAny(content, "\r\x00") {
			require.Equal(t, strings.Join(want, ""), strings.Join(have, ""))
		}
		require.NotContains(t, rest, "\n")
	})
}

// FuzzJSON encodes arbitrary lines as records: what comes out is what encoding/json
// reads.
func FuzzJSON(f *testing.F) {
	f.Add(`{"time":1,"level":"info","msg":"a","b":{"c":[1,2.5,null,true,"\u00e9"]}}`)
	f.Add(`{"msg":"\ud800","trace_id":"00"}`)
	f.Fuzz(func(t *testing.T, line string) {
		e := encoder{json: newJSONKeys(&JSON{Enabled: true, Severity: []string{"-"}}), metrics: newMetrics(newRegistry())}
		payload := appendResourceLogs(nil, nil, e.append(nil, &record{text: []byte(line)}, 1))
		var u plog.ProtoUnmarshaler
		ld, err := u.UnmarshalLogs(payload)
		require.NoError(t, err)
		lr := ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		var s sink
		require.NoError(t, s.write(t.Context(), "team", 7, payload))
		var object map[string]any
		line = strings.ToValidUTF8(line, "\uFFFD")
		if json.Unmarshal([]byte(line), &object) != nil || object == nil {
			require.Equal(t, line, lr.Body().Str())
			return
		}
		for _, k := range []string{"time", "timestamp", "ts", "@timestamp", "msg", "message", "log", "trace_id", "traceId", "trace.id", "span_id", "spanId", "span.id", "-"} {
			delete(object, k)
		}
		got := lr.Attributes().AsRaw()
		for k := range object {
			require.Contains(t, got, k)
		}
	})
}

// FuzzFrames reads arbitrary lines of containers.
func FuzzFrames(f *testing.F) {
	f.Add(cri("stdout", "P:x", "a"))
	f.Add(dockerLine("stdout", "a\\\n"))
	f.Add(`{"log":"\\n","time":"2026-11-21T10:06:28Z"}`)
	f.Fuzz(func(t *testing.T, line string) {
		_, _ = parseCRI([]byte(line))
		p, ok := parseDocker([]byte(line))
		var want struct{ Log *string }
		if ok && utf8.ValidString(line) && json.Unmarshal([]byte(line), &want) == nil && want.Log != nil && !p.partial {
			if keys := strings.Count(strings.ToLower(line), `log"`); keys == 1 { // of several, and of other cases, json takes another
				require.Equal(t, *want.Log, string(p.text)+"\n")
			}
		}
	})
}

// FuzzUnquote reads strings as encoding/json does, but for bytes that are not UTF-8.
func FuzzUnquote(f *testing.F) {
	for _, s := range []string{`a`, `\"\\\/\b\f\n\r\t`, `\u4e2d\u003C`, `\ud83d\ude00`, `\ud83d`, `\ud83d\u0041`, `\ud83dx`, `\ude00\ud83d\ude00`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := []byte(`"` + s + `"`)
		var want string
		if utf8.Valid(v) && json.Unmarshal(v, &want) == nil {
			require.Equal(t, want, string(unquote(v)))
		}
	})
}

func TestTimes(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 6, 28, 5e8, time.UTC)
	for _, text := range []string{
		`"2026-11-21T10:06:28.5Z"`, `"2026-11-21T11:06:28.500+01:00"`, `1795255588.5`, `1795255588500`, `1795255588500000`, `1795255588500000000`, `"1795255588500"`, `"2026-11-21T10:06:28.5+0000"`,
	} {
		got, ok := timeOf([]byte(text))
		require.True(t, ok, text)
		require.InDelta(t, at.UnixNano(), got, 1e3, text)
	}
	local := time.Date(2026, 11, 21, 10, 6, 28, 5e8, time.Local)
	for _, text := range []string{`"2026-11-21T10:06:28.5"`, `"2026-11-21 10:06:28,5"`, `"2026-11-21 10:06:28.500"`} {
		got, ok := timeOf([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, local.UnixNano(), got, text)
	}
	for _, text := range []string{`"yesterday"`, `-1`, `0`, `null`, `{}`, `1e300`} {
		_, ok := timeOf([]byte(text))
		require.False(t, ok, text)
	}
	require.True(t, slices.IsSorted([]byte{severityOf("trace"), severityOf("DEBUG"), severityOf("30"), severityOf("warning"), severityOf("Error"), severityOf("fatal")}))
}
