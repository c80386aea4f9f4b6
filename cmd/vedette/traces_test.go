package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

var otlpHTTPLine = regexp.MustCompile(`POST +http://([^ ]+)/v1/metrics +OTLP metrics over HTTP`)

// traceAddresses are where clients send spans, besides the main listener.
type traceAddresses struct{ grpc, http, token string }

func (p *process) traceAddresses() traceAddresses {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	grpc, web := p.log.wait(ctx, grpcLine, p.done), p.log.wait(ctx, otlpHTTPLine, p.done)
	if grpc == nil || web == nil {
		p.t.Fatalf("the process does not say where it listens:\n%s", p.log)
	}
	return traceAddresses{grpc[1], web[1], p.token}
}

// in returns p for a test within its test.
func (p *process) in(t *testing.T) *process {
	q := *p
	q.t = t
	return &q
}

// send makes a request and returns its answer, whatever the status. Headers are
// names and values.
func (p *process) send(method, path string, body []byte, headers ...string) (int, http.Header, string) {
	p.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = p.url + path
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if p.token != "" {
		r.Header.Set("Authorization", "Bearer "+p.token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// json asks for JSON and decodes it into v.
func (p *process) json(path string, v any) {
	p.t.Helper()
	code, h, text := p.send("GET", path, nil)
	if code != http.StatusOK || h.Get("Content-Type") != "application/json" {
		p.t.Fatalf("GET %s: got %d, %s, want 200 and JSON: %s", path, code, h.Get("Content-Type"), text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		p.t.Fatalf("GET %s: %v: %s", path, err, text)
	}
}

// search returns the ids of the traces that a TraceQL query finds, sorted.
func (p *process) search(query string, more ...string) []string {
	p.t.Helper()
	var found struct{ Traces []struct{ TraceID string } }
	p.json("/tempo/api/search?limit=100&q="+url.QueryEscape(query)+strings.Join(more, ""), &found)
	ids := []string{}
	for _, t := range found.Traces {
		ids = append(ids, strings.Repeat("0", 32-len(t.TraceID))+t.TraceID)
	}
	slices.Sort(ids)
	return ids
}

// field returns the content of a protobuf message's field.
func field(t *testing.T, message []byte, number protowire.Number) []byte {
	t.Helper()
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			t.Fatalf("not a message: %v", protowire.ParseError(size))
		}
		message = message[size:]
		if n == number && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(message)
			return content
		}
		message = message[protowire.ConsumeFieldValue(n, kind, message):]
	}
	return nil
}

// protoJSON returns the traces of an object whose key holds ResourceSpans as
// protobuf's JSON has them.
func protoJSON(t *testing.T, text, key string) ptrace.Traces {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	td := &tracepb.TracesData{}
	if err := protojson.Unmarshal([]byte(`{"resourceSpans":`+string(object[key])+`}`), td); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	b, err := proto.Marshal(td)
	if err != nil {
		t.Fatal(err)
	}
	return unmarshalTraces(t, b)
}

// checkSpans looks at everything that was sent by OTLP through every endpoint
// that has whole spans: what comes out is what came in.
func (p *process) checkSpans(sent sentSpans) {
	t := p.t
	t.Helper()
	compare := func(path, id string, td ptrace.Traces) {
		t.Helper()
		got := spanTexts(t, td)
		if len(got) != 1 || !slices.Equal(got[id], sent[id]) {
			t.Errorf("GET %s:\ngot  %s\nwant %s", path, strings.Join(got[id], "\n     "), strings.Join(sent[id], "\n     "))
		}
	}
	for _, id := range sortedKeys(sent) {
		ask := func(path string, headers ...string) string {
			t.Helper()
			code, h, text := p.send("GET", path, nil, headers...)
			want := "application/json"
			if len(headers) > 0 {
				want = headers[1]
			}
			if code != 200 || h.Get("Content-Type") != want || h.Get("X-Vedette-Partial") != "" {
				t.Fatalf("GET %s: got %d, %v: %s", path, code, h, text)
			}
			return text
		}
		const acceptProto = "application/protobuf"
		path := "/tempo/api/traces/" + id
		compare(path, id, unmarshalTraces(t, []byte(ask(path, "Accept", acceptProto))))
		compare(path, id, protoJSON(t, ask(path), "batches"))
		compare("root", id, unmarshalTraces(t, []byte(ask("/api/traces/"+id, "Accept", acceptProto))))
		path = "/tempo/api/v2/traces/" + id
		compare(path, id, unmarshalTraces(t, field(t, []byte(ask(path, "Accept", acceptProto)), 1)))
		var v2 struct{ Trace json.RawMessage }
		if err := json.Unmarshal([]byte(ask(path)), &v2); err != nil {
			t.Fatal(err)
		}
		compare(path, id, protoJSON(t, string(v2.Trace), "resourceSpans"))
		path = "/jaeger/api/v3/traces/" + id
		var v3 struct{ Result json.RawMessage }
		if err := json.Unmarshal([]byte(ask(path)), &v3); err != nil {
			t.Fatal(err)
		}
		var u ptrace.JSONUnmarshaler
		td, err := u.UnmarshalTraces(v3.Result)
		if err != nil {
			t.Fatalf("%v: %s", err, v3.Result)
		}
		compare(path, id, td)
	}
}

// checkZipkin looks at everything that was sent as Zipkin's spans.
func (p *process) checkZipkin(sent sentZipkin) {
	t := p.t
	t.Helper()
	for _, id := range sortedKeys(sent) {
		path := "/zipkin/api/v2/trace/" + id
		code, h, text := p.send("GET", path, nil)
		if code != 200 || h.Get("Content-Type") != "application/json" {
			t.Fatalf("GET %s: got %d, %v: %s", path, code, h, text)
		}
		if got := zipkinTexts(t, []byte(text)); len(got) != 1 || !slices.Equal(got[id], sent[id]) {
			t.Errorf("GET %s:\ngot  %s\nwant %s", path, strings.Join(got[id], "\n     "), strings.Join(sent[id], "\n     "))
		}
	}
}

// jaegerSpan is a span as Jaeger's page gets it, apart from ids.
type jaegerSpan struct {
	OperationName string
	StartTime     int64
	Duration      int64
	References    []struct{ RefType, TraceID, SpanID string }
	Tags          []jaegerTag
	Logs          []struct {
		Timestamp int64
		Fields    []jaegerTag
	}
	ProcessID string
	Warnings  []string
}

type jaegerTag struct {
	Key, Type string
	Value     any
}

func (g jaegerTag) String() string { return fmt.Sprintf("%s=%s:%v", g.Key, g.Type, g.Value) }

// checkJaeger looks at what sendJaeger has sent.
func (p *process) checkJaeger(begin time.Time) {
	t := p.t
	t.Helper()
	at := begin.UnixMicro()
	for low := range 2 {
		var answer struct {
			Data []struct {
				TraceID   string
				Spans     []jaegerSpan
				Processes map[string]struct {
					ServiceName string
					Tags        []jaegerTag
				}
			}
		}
		id := fmt.Sprintf("000000000000feed%016x", low+1)
		p.json("/jaeger/api/traces/"+id, &answer)
		var lines []string
		for _, trace := range answer.Data {
			for _, s := range trace.Spans {
				process := trace.Processes[s.ProcessID]
				slices.SortFunc(s.Tags, func(a, b jaegerTag) int { return strings.Compare(a.Key, b.Key) })
				slices.SortFunc(process.Tags, func(a, b jaegerTag) int { return strings.Compare(a.Key, b.Key) })
				lines = append(lines, fmt.Sprintf("%s %s%v %s %d+%d %v %v %v %v", trace.TraceID, process.ServiceName, process.Tags, s.OperationName,
					s.StartTime-at, s.Duration, s.References, s.Tags, s.Logs, s.Warnings))
			}
		}
		slices.Sort(lines)
		want := []string{
			id + " jaeger-shop[pid=int64:12 region=string:eu] GET / 0+3000 [] [b=bool:true bin=binary:AQI= d=float64:1.5 i=int64:-7 span.kind=string:server] " +
				fmt.Sprintf("[{%d [event=string:retry n=int64:2]}] []", at+1000),
			id + " jaeger-shop[pid=int64:12 region=string:eu] query 1000+1000 [{CHILD_OF " + id + " 0000000000000002} {FOLLOWS_FROM 0000000000000009 0000000000000008}] " +
				"[error=bool:true otel.status_code=string:ERROR span.kind=string:client] [] []",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("Jaeger's trace %d:\ngot  %s\nwant %s", low+1, strings.Join(lines, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// writeConfig writes a configuration for a test of traces.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vedette.yml")
	if err := os.WriteFile(file, []byte("scrape_configs: []\notlp: {grpc: {listen: \"127.0.0.1:0\"}, http: {listen: \"127.0.0.1:0\"}}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Spans of the clients that people have come out as they went in: at once, from
// blocks, and after kill -9.
func TestE2ETraces(t *testing.T) {
	skipShort(t)
	data := t.TempDir()
	config := writeConfig(t, `
http: {bearer_token: sesame}
span_metrics: {interval: 500ms, service_graph: {wait: 5s}}
tracing: {sample_ratio: 0}
`)
	p := start(t, data, "--config", config)
	p.token = "sesame"
	begin := time.Now().Add(-3 * time.Second)
	sent, zipkin := sentSpans{}, sentZipkin{}
	addresses := p.traceAddresses()
	shop := sendGoSDK(t, addresses, begin, sent)
	python := sendPython(t, addresses, sent)
	open := httptest.NewServer(p.proxy()) // for clients that know no token
	defer open.Close()
	sendZipkinGo(t, open.URL, begin, zipkin)
	sendPyZipkin(t, open.URL, zipkin)
	otelZipkin := sendOTelZipkin(t, open.URL, begin)
	sendJaeger(t, addresses, p, begin)

	check := func(when string) {
		t.Run(when, func(t *testing.T) {
			p := p.in(t)
			p.checkSpans(sent)
			p.checkZipkin(zipkin)
			p.checkJaeger(begin)
			p.checkSearches(shop, otelZipkin, python)
		})
	}
	check("in the head")
	t.Run("series", func(t *testing.T) { p.in(t).checkSeries(shop) })
	t.Run("requests of Grafana", func(t *testing.T) { p.in(t).checkGrafana(shop, begin) })
	t.Run("requests of jaeger-ui", func(t *testing.T) { p.in(t).checkJaegerUI(shop, begin) })
	t.Run("requests of zipkin-lens", func(t *testing.T) { p.in(t).checkZipkinLens(begin) })
	t.Run("jaeger-ui", func(t *testing.T) { p.in(t).browseJaegerUI(shop, begin) })
	t.Run("zipkin-lens", func(t *testing.T) { p.in(t).browseZipkinLens(begin) })
	p.stop()

	p = start(t, data, "--config", config)
	p.token = "sesame"
	check("from blocks")
	other := sendGoSDK(t, p.traceAddresses(), begin.Add(time.Second), sent)
	p.sendLate(shop, begin, sent)
	t.Run("late spans", func(t *testing.T) { p.in(t).checkLate(shop, sent) })
	p.kill()

	p = start(t, data, "--config", config)
	p.token = "sesame"
	t.Run("after kill -9", func(t *testing.T) {
		p := p.in(t)
		p.checkSpans(sent)
		p.checkZipkin(zipkin)
		p.checkLate(shop, sent)
		if got, want := p.search(`{ resource.service.name = "shop" }`), sorted(shop, other); !slices.Equal(got, want) {
			t.Errorf("both traces of the shop: got %v, want %v", got, want)
		}
	})
	p.stop()
	if log := p.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
}

// sendLate sends a span of a trace whose others are in blocks, below its root, and
// one that says nothing new: a client that did not hear the answer sends again.
func (p *process) sendLate(shop string, begin time.Time, sent sentSpans) {
	t := p.t
	_, _, body := p.send("GET", "/tempo/api/traces/"+shop, nil, "Accept", "application/protobuf")
	id, err := hex.DecodeString(shop)
	if err != nil {
		t.Fatal(err)
	}
	root := pcommon.SpanID{}
	for _, rs := range unmarshalTraces(t, []byte(body)).ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				if s.ParentSpanID().IsEmpty() {
					root = s.SpanID()
				}
			}
		}
	}
	late := marshalTraces(t, traceOf("mailer", pcommon.TraceID(id), func(s ptrace.Span) {
		s.SetSpanID(pcommon.SpanID{1, 2, 3})
		s.SetParentSpanID(root)
		s.SetName("send mail")
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(begin.Add(10 * time.Millisecond)))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(begin.Add(20 * time.Millisecond)))
	}))
	sent.add(t, late)
	for _, body := range [][]byte{late, late, []byte(body)} {
		if rejected, why := p.push(body); rejected != 0 {
			t.Errorf("late spans: %d refused: %s", rejected, why)
		}
	}
}

// checkLate finds what sendLate has sent together with the rest of its trace.
func (p *process) checkLate(shop string, sent sentSpans) {
	t := p.t
	p.checkSpans(sentSpans{shop: sent[shop]})
	for _, query := range []string{
		`{ name = "send mail" }`, `{ name = "GET /cart" } > { name = "send mail" }`, `{ name = "send mail" } << { resource.service.name = "shop" }`,
		`{ name = "send mail" } ~ { name = "cart.Get" }`, `{ trace:id = "` + shop + `" } | count() = 5`,
		`{ resource.service.name = "mailer" && rootServiceName = "shop" && traceDuration > 80ms }`,
	} {
		if got := p.search(query); !slices.Equal(got, []string{shop}) {
			t.Errorf("%s: got %v, want the trace with its late span", query, got)
		}
	}
	var answer struct {
		Summaries []struct{ SpanCount, ErrorSpanCount int }
	}
	p.json("/api/v3/trace-summaries?query.serviceName=mailer&query.startTimeMin="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+
		"&query.startTimeMax="+time.Now().Add(time.Hour).UTC().Format(time.RFC3339), &answer)
	if len(answer.Summaries) != 1 || answer.Summaries[0].SpanCount != 5 || answer.Summaries[0].ErrorSpanCount != 1 {
		t.Errorf("summary: got %+v, want 5 spans, 1 error", answer)
	}
	var instant struct{ Series []struct{ Value float64 } }
	now := time.Now()
	p.json(fmt.Sprintf("/tempo/api/metrics/query?q=%s&start=%d&end=%d", url.QueryEscape(`{ trace:id = "`+shop+`" } | count_over_time()`), now.Add(-10*time.Minute).Unix(), now.Add(time.Minute).Unix()), &instant)
	if len(instant.Series) != 1 || instant.Series[0].Value != 5 {
		t.Errorf("spans counted: got %v, want 5", instant)
	}
	// A range in which the trace is not, as a dashboard may show.
	if code, _, _ := p.send("GET", fmt.Sprintf("/tempo/api/traces/%s?start=%d&end=%d", shop, now.Add(-48*time.Hour).Unix(), now.Add(-47*time.Hour).Unix()), nil); code != http.StatusOK {
		t.Errorf("the trace asked for with another time: got %d, want 200", code)
	}
}

// Four writers load the server with spans until it is killed; then every trace
// that was acknowledged is there, with each of its spans once.
func TestE2ETracesKillUnderLoad(t *testing.T) {
	skipShort(t)
	data, config := t.TempDir(), writeConfig(t, "tracing: {sample_ratio: 0}\ntrace_store: {flush_spans: 1000, flush_interval: 1s, merge_spans: 5000, merge_interval: 1s}\n")
	const writers, rounds, spans = 4, 3, 7
	request := func(w, n int) []byte {
		td := ptrace.NewTraces()
		for i := range spans {
			traceOf(fmt.Sprint("load", i%3), pcommon.TraceID{0: byte(w + 1), 12: byte(n >> 16), 13: byte(n >> 8), 14: byte(n), 15: 1}, func(s ptrace.Span) {
				s.SetSpanID(pcommon.SpanID{0: byte(i + 1), 7: byte(n)})
				if i > 0 {
					s.SetParentSpanID(pcommon.SpanID{0: byte(i), 7: byte(n)})
				}
				s.Attributes().PutInt("n", int64(n))
			}).ResourceSpans().MoveAndAppendTo(td.ResourceSpans())
		}
		return marshalTraces(t, td)
	}
	acked, next := [writers][]int{}, [writers]int{}
	for round := range rounds {
		p := start(t, data, "--config", config)
		enough := make(chan struct{}, writers)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for count := 0; ; count++ {
					n := next[w]
					next[w]++
					r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, p.url+"/v1/traces", bytes.NewReader(request(w, n)))
					if err != nil {
						return
					}
					r.Header.Set("Content-Type", typeProtobuf)
					resp, err := http.DefaultClient.Do(r)
					if err != nil {
						return // killed
					}
					_ = resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						acked[w] = append(acked[w], n)
					}
					if count == 150*(round+1) {
						enough <- struct{}{}
					}
				}
			})
		}
		<-enough // while the others go on
		p.kill()
		wg.Wait()
	}
	p := start(t, data, "--config", config)
	total, sentTotal := 0, 0
	for w := range writers {
		sentTotal += next[w] * spans
		total += len(acked[w]) * spans
		for _, n := range acked[w] {
			id := pcommon.TraceID{0: byte(w + 1), 12: byte(n >> 16), 13: byte(n >> 8), 14: byte(n), 15: 1}
			code, _, body := p.send("GET", "/tempo/api/traces/"+id.String(), nil, "Accept", "application/protobuf")
			if code != http.StatusOK {
				t.Fatalf("trace %d of writer %d was acknowledged: got %d", n, w, code)
			}
			if got := unmarshalTraces(t, []byte(body)).SpanCount(); got != spans {
				t.Fatalf("trace %d of writer %d: got %d spans, want %d", n, w, got, spans)
			}
		}
	}
	var answer struct{ Series []struct{ Value float64 } }
	now := time.Now()
	p.json(fmt.Sprintf("/tempo/api/metrics/query?q=%s&start=%d&end=%d", url.QueryEscape(`{} | count_over_time()`), now.Add(-10*time.Minute).Unix(), now.Add(time.Minute).Unix()), &answer)
	if len(answer.Series) != 1 || int(answer.Series[0].Value) < total || int(answer.Series[0].Value) > sentTotal {
		t.Errorf("spans counted: got %v, want between the %d acknowledged and the %d sent", answer, total, sentTotal)
	}
	t.Logf("%d spans acknowledged, %d sent", total, sentTotal)
	p.stop()
}

func sorted(ids ...string) []string {
	slices.Sort(ids)
	return ids
}

// checkSearches finds the traces by what they are made of.
func (p *process) checkSearches(shop, otelZipkin string, python []string) {
	t := p.t
	jaeger := []string{"000000000000feed0000000000000001", "000000000000feed0000000000000002"}
	for query, want := range map[string][]string{
		`{ resource.service.name = "shop" && name = "GET /cart" && kind = server }`:                  {shop},
		`{ span.http.route = "/cart/{id}" }`:                                                         {shop},
		`{ .http.response.status_code >= 500 }`:                                                      {shop},
		`{ span.user.id = "u-7fd1c0aa" }`:                                                            {shop},
		`{ span.user.id = "u-nobody" }`:                                                              {},
		`{ span.yes = true && span.fraction > 0.05 && span.least < 0 }`:                              {shop},
		`{ span.text =~ ".*☃.*" && resource.process.pid = 4711 }`:                                    {shop},
		`{ resource.service.name = "shop" } >> { resource.service.name = "cart" && status = error }`: {shop},
		`{ resource.service.name = "cart" } > { name = "SELECT" }`:                                   {shop},
		`{ name = "SELECT" } << { resource.service.name = "shop" }`:                                  {shop},
		`{ event:name = "cache miss" && resource.service.name = "shop" }`:                            {shop},
		`{ event.exception.type =~ ".+" && resource.service.name = "cart" }`:                         {shop},
		`{ link.why = "batch" && resource.service.name = "shop" }`:                                   {shop},
		`{ instrumentation:name = "shop/http" && instrumentation:version = "0.9" }`:                  {shop},
		`{ statusMessage = "no answer in time" }`:                                                    {shop},
		`{ duration > 85ms && resource.service.name = "shop" }`:                                      {shop},
		`{ traceDuration > 85ms && rootServiceName = "shop" && rootName = "GET /cart" }`:             {shop},
		`{ trace:id = "` + shop + `" }`:                                                              {shop},
		`{ resource.service.name = "cart" } | count() = 2`:                                           {shop},
		`{ resource.service.name =~ "cart|shop" } | avg(duration) > 50ms | select(span.http.route)`:  {shop},
		`{ resource.service.name = "otel-zipkin" && status = error }`:                                {otelZipkin},
		`{ resource.service.name = "jaeger-shop" && span.i = -7 }`:                                   jaeger,
		`{ resource.service.name = "zipkin-back" && status = error }`:                                {"112233445566778899aabbccddeeff00", "112233445566778899aabbccddeeff01"},
		`{ resource.service.name = "python-shop" && status = error }`:                                sorted(slices.Clone(python)...),
		`{ span.numbers = 1 && resource.service.name = "shop" || .texts = "b" }`:                     {shop},
	} {
		if got := p.search(query); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	var tags struct {
		Scopes []struct {
			Name string
			Tags []string
		}
	}
	p.json("/tempo/api/v2/search/tags", &tags)
	has := map[string]bool{}
	for _, scope := range tags.Scopes {
		for _, tag := range scope.Tags {
			has[scope.Name+" "+tag] = true
		}
	}
	for _, want := range []string{
		"resource service.name", "resource process.command_args", "span http.route", "span bytes", "span map", "event key", "event exception.stacktrace", "link why", "instrumentation scope",
		"intrinsic duration", "span http.path", "resource region",
	} {
		if !has[want] {
			t.Errorf("tags: %q is not among %v", want, tags.Scopes)
		}
	}
	var values struct {
		TagValues []struct{ Type, Value string }
	}
	for path, want := range map[string]string{
		"resource.service.name/values?q=" + url.QueryEscape(`{ name =~ ".*cart.*" }`):     "[{string cart} {string shop}]",
		"span.http.response.status_code/values":                                           "[{int 503}]",
		"span.yes/values":                                                                 "[{bool true}]",
		"span.fraction/values?q=" + url.QueryEscape(`{ resource.service.name = "shop" }`): "[{float 0.1}]",
		"status/values": "[{keyword error} {keyword ok} {keyword unset}]",
		"event.key/values?q=" + url.QueryEscape(`{ resource.service.name = "shop" }`): "[{string cart:17}]",
	} {
		p.json("/tempo/api/v2/search/tag/"+path, &values)
		slices.SortFunc(values.TagValues, func(a, b struct{ Type, Value string }) int { return strings.Compare(a.Value, b.Value) })
		if got := fmt.Sprint(values.TagValues); got != want {
			t.Errorf("values of %s: got %s, want %s", path, got, want)
		}
	}
	var series struct {
		Series []struct {
			PromLabels string
			Samples    []struct {
				TimestampMs string
				Value       float64
			}
		}
	}
	end := time.Now().Unix() + 1
	path := fmt.Sprintf("/tempo/api/metrics/query_range?q=%s&start=%d&end=%d&step=60s",
		url.QueryEscape(`{ resource.service.name =~ "shop|cart" } | count_over_time() by (resource.service.name)`), end-3600, end)
	p.json(path, &series)
	sums := map[string]float64{}
	for _, s := range series.Series {
		for _, sample := range s.Samples {
			sums[s.PromLabels] += sample.Value
		}
	}
	if got := fmt.Sprint(sums); got != `map[{resource.service.name="cart"}:2 {resource.service.name="shop"}:2]` && got != `map[{"resource.service.name"="cart"}:2 {"resource.service.name"="shop"}:2]` {
		t.Errorf("spans by service: got %s, want 2 of each: %v", got, series)
	}
}

// checkSeries finds what was counted of the shop's trace, with an exemplar that
// leads back to it.
func (p *process) checkSeries(shop string) {
	t := p.t
	for query, want := range map[string]float64{
		`traces_spanmetrics_calls_total{service="shop",span_name="GET /cart",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_UNSET"}`: 1,
		`traces_spanmetrics_calls_total{service="cart",span_name="cart.Get",span_kind="SPAN_KIND_SERVER",status_code="STATUS_CODE_ERROR"}`:  1,
		`traces_spanmetrics_latency_sum{service="cart",span_name="cart.Get"}`:                                                               0.06,
		`traces_service_graph_request_total{client="shop",server="cart"}`:                                                                   1,
		`traces_service_graph_request_failed_total{client="shop",server="cart"}`:                                                            1,
		`traces_service_graph_request_server_seconds_sum{client="shop",server="cart"}`:                                                      0.06,
		`traces_service_graph_request_client_seconds_sum{client="shop",server="cart"}`:                                                      0.08,
		`traces_service_graph_request_total{client="cart",server="carts",connection_type="database"}`:                                       1,
		`traces_service_graph_request_total{client="user",server="shop",connection_type="virtual_node"}`:                                    1,
		`traces_service_graph_request_total{client="zipkin-front",server="zipkin-back"}`:                                                    2,
	} {
		var v model.Vector
		eventually(t, query, func() bool {
			p.query(query, &v)
			return len(v) == 1 && float64(v[0].Value) > want-1e-9 && float64(v[0].Value) < want+1e-9
		})
	}
	eventually(t, "an exemplar", func() bool {
		var answer struct {
			Data []struct {
				Exemplars []struct{ Labels map[string]string }
			}
		}
		p.json(fmt.Sprintf("/api/v1/query_exemplars?query=%s&start=%d&end=%d", url.QueryEscape(`traces_spanmetrics_latency_bucket{service="shop",span_name="GET /cart"}`),
			time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Minute).Unix()), &answer)
		for _, s := range answer.Data {
			for _, e := range s.Exemplars {
				if e.Labels["trace_id"] == shop {
					return true
				}
			}
		}
		return false
	})
}
