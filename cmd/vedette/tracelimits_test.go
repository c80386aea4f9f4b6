package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// traceOf returns one span of a service; change may be nil.
func traceOf(service string, id pcommon.TraceID, change func(ptrace.Span)) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", service)
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetTraceID(id)
	s.SetSpanID(pcommon.SpanID{7: 1})
	s.SetName("work")
	s.SetKind(ptrace.SpanKindServer)
	begin := time.Now().Add(-time.Second)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(begin.Add(time.Millisecond)))
	if change != nil {
		change(s)
	}
	return td
}

func marshalTraces(t *testing.T, td ptrace.Traces) []byte {
	t.Helper()
	var m ptrace.ProtoMarshaler
	b, err := m.MarshalTraces(td)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const typeProtobuf = "application/x-protobuf"

// push sends a request of OTLP and returns how many spans were refused, and why.
func (p *process) push(body []byte, headers ...string) (int64, string) {
	p.t.Helper()
	code, _, text := p.send("POST", "/v1/traces", body, append([]string{"Content-Type", typeProtobuf}, headers...)...)
	if code != http.StatusOK {
		p.t.Fatalf("POST /v1/traces: got %d, want 200: %s", code, text)
	}
	answer := &collectortrace.ExportTraceServiceResponse{}
	if err := proto.Unmarshal([]byte(text), answer); err != nil {
		p.t.Fatal(err)
	}
	return answer.GetPartialSuccess().GetRejectedSpans(), answer.GetPartialSuccess().GetErrorMessage()
}

// metric returns the sum of a family's lines that have all parts.
func (p *process) metric(name string, parts ...string) float64 {
	p.t.Helper()
	_, text := p.get("/metrics")
	sum := 0.0
lines:
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, part := range parts {
			if !strings.Contains(rest, part) {
				continue lines
			}
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

// Tenants are apart, sampling drops what it is told to, what is too large is cut
// with a mark, and what is wrong is refused with its status.
func TestE2ETraceLimits(t *testing.T) {
	skipShort(t)
	p := start(t, t.TempDir(), "--config", writeConfig(t, `
http: {bearer_token: sesame}
tracing: {sample_ratio: 0}
span_metrics: {enabled: false}
ingest:
  max_body_bytes: 200000
  max_decoded_bytes: 400000
  limits: {spans: {max_attributes: 4, max_attribute_bytes: 100, max_events: 1, max_links: 1, max_bytes: 4096}}
sampling:
  tenants: {none: {probability: 0}, half: {probability: 0.5}}
`))
	p.token = "sesame"
	t.Run("limits and marks", func(t *testing.T) { p.in(t).checkMarks() })
	t.Run("tenants and sampling", func(t *testing.T) { p.in(t).checkTenants() })
	t.Run("refusals", func(t *testing.T) { p.in(t).checkRefusals() })
	p.stop()
	if log := p.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log has errors:\n%s", log)
	}
}

func (p *process) checkMarks() {
	t := p.t
	id := pcommon.TraceID{15: 1}
	rejected, _ := p.push(marshalTraces(t, traceOf("cut", id, func(s ptrace.Span) {
		for i := range 6 {
			s.Attributes().PutInt(fmt.Sprint("n", i), int64(i))
		}
		s.Attributes().PutStr("n0", strings.Repeat("ä", 100))
		for range 3 {
			s.Events().AppendEmpty().SetName("event")
			s.Links().AppendEmpty().SetTraceID(pcommon.TraceID{1})
		}
		for _, l := range s.Links().All() {
			l.SetSpanID(pcommon.SpanID{1})
		}
		s.SetDroppedAttributesCount(2)
	})))
	if rejected != 0 {
		t.Errorf("a large span: got %d refused, want it to be cut", rejected)
	}
	_, _, body := p.send("GET", "/tempo/api/traces/"+id.String(), nil, "Accept", "application/protobuf")
	s := unmarshalTraces(t, []byte(body)).ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	mark, _ := s.Attributes().Get("vedette.truncated")
	if got, want := mark.AsString(), "dropped 2 attributes, 2 events, 2 links; cut n0 from 200 to 100 bytes"; got != want {
		t.Errorf("mark: got %q, want %q", got, want)
	}
	if v, _ := s.Attributes().Get("n0"); v.Str() != strings.Repeat("ä", 50) {
		t.Errorf("cut value: got %q, want 50 ä", v.Str())
	}
	if s.DroppedAttributesCount() != 4 || s.DroppedEventsCount() != 2 || s.DroppedLinksCount() != 2 || s.Events().Len() != 1 || s.Links().Len() != 1 {
		t.Errorf("what is left: got %d attributes, %d events, %d links dropped, want 4, 2, 2", s.DroppedAttributesCount(), s.DroppedEventsCount(), s.DroppedLinksCount())
	}
	if got := p.search(`{ span.vedette.truncated =~ ".*dropped 2 events.*|.*2 events.*" }`); !slices.Equal(got, []string{id.String()}) {
		t.Errorf("search for the mark: got %v", got)
	}
	if _, _, text := p.send("GET", "/jaeger/api/traces/"+id.String(), nil); !strings.Contains(text, `"warnings":["`) || !strings.Contains(text, "dropped 2 attributes") {
		t.Errorf("the mark is no warning of Jaeger's: %s", text)
	}

	for n, change := range []func(s ptrace.Span){
		func(s ptrace.Span) { s.SetEndTimestamp(s.StartTimestamp() - 5) },
		func(s ptrace.Span) { s.SetStartTimestamp(0) },
		func(s ptrace.Span) {
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(time.Now().Add(100 * 24 * time.Hour)))
			s.SetEndTimestamp(s.StartTimestamp() + 5)
		},
	} {
		id := pcommon.TraceID{14: 1, 15: byte(n)}
		td := traceOf("skewed", id, change)
		p.push(marshalTraces(t, td))
		_, _, body := p.send("GET", "/tempo/api/traces/"+id.String(), nil, "Accept", "application/protobuf")
		got := unmarshalTraces(t, []byte(body)).ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
		want := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
		mark, ok := got.Attributes().Get("vedette.clock_skew")
		if !ok || mark.Str() == "" || got.StartTimestamp() != want.StartTimestamp() || got.EndTimestamp() != want.EndTimestamp() {
			t.Errorf("clock %d: got %d to %d, mark %q, want %d to %d and a mark", n, got.StartTimestamp(), got.EndTimestamp(), mark.AsString(), want.StartTimestamp(), want.EndTimestamp())
		}
		if text := p.search(`{ resource.service.name = "skewed" && span.vedette.clock_skew != nil }`); len(text) != n+1 {
			t.Errorf("clock %d: the search finds %d traces, want %d", n, len(text), n+1)
		}
	}
	if got := p.metric("vedette_ingest_spans_amended_total", `door="otlp"`); got < 4 {
		t.Errorf("amended spans: got %v, want at least 4", got)
	}
}

func (p *process) checkTenants() {
	t := p.t
	for n := range 200 {
		id := pcommon.TraceID{0: 1, 8: byte(n), 9: byte(37 * n), 10: byte(n * n), 15: 9} // the share is of the last 56 bits
		body := marshalTraces(t, traceOf("tenants", id, nil))
		for _, tenant := range []string{"none", "half", "team-a"} {
			if n > 0 && tenant == "team-a" {
				continue
			}
			if rejected, why := p.push(body, "X-Scope-OrgID", tenant); rejected != 0 {
				t.Fatalf("%s: %d spans refused: %s", tenant, rejected, why)
			}
		}
	}
	find := func(tenant string) int {
		t.Helper()
		code, _, text := p.send("GET", "/tempo/api/search?limit=500&q="+url.QueryEscape(`{ resource.service.name = "tenants" }`), nil, "X-Scope-OrgID", tenant)
		if code != http.StatusOK {
			t.Fatalf("tenant %s: got %d: %s", tenant, code, text)
		}
		return strings.Count(text, `"traceID"`)
	}
	if got := find("none"); got != 0 {
		t.Errorf("probability 0: got %d traces", got)
	}
	if got := find("half"); got < 50 || got > 150 {
		t.Errorf("probability 0.5: got %d of 200 traces", got)
	}
	if got := find("team-a"); got != 1 {
		t.Errorf("another tenant: got %d traces, want 1", got)
	}
	if got := find("default"); got != 0 {
		t.Errorf("the default tenant: got %d traces of others", got)
	}
	id := pcommon.TraceID{0: 1, 15: 9}.String()
	for _, path := range []string{"/tempo/api/traces/", "/jaeger/api/traces/", "/jaeger/api/v3/traces/", "/zipkin/api/v2/trace/"} {
		if code, _, _ := p.send("GET", path+id, nil, "X-Scope-OrgID", "team-a"); code != http.StatusOK {
			t.Errorf("%s of the own tenant: got %d, want 200", path, code)
		}
		if code, _, _ := p.send("GET", path+id, nil); code != http.StatusNotFound {
			t.Errorf("%s of another tenant: got %d, want 404", path, code)
		}
	}
	if code, _, text := p.send("GET", "/tempo/api/search", nil, "X-Scope-OrgID", "../x"); code != http.StatusBadRequest {
		t.Errorf("a bad tenant: got %d, want 400: %s", code, text)
	}
	if got := p.metric("vedette_sampling_spans_total", `decision="drop"`, `reason="probability"`); got < 250 {
		t.Errorf("dropped spans in the metrics: got %v, want 200 and about 100", got)
	}
}

func (p *process) checkRefusals() {
	t := p.t
	good := marshalTraces(t, traceOf("refusals", pcommon.TraceID{15: 5}, nil))
	large := marshalTraces(t, traceOf("large", pcommon.TraceID{15: 6}, func(s ptrace.Span) { s.Attributes().PutStr("a", strings.Repeat("x", 300_000)) }))
	for _, c := range []struct {
		what, path, contentType string
		body                    []byte
		code                    int
		text                    string
	}{
		{"garbage", "/v1/traces", typeProtobuf, []byte("\xff\xff garbage"), 400, "ExportTraceServiceRequest"},
		{"a message that is cut", "/v1/traces", typeProtobuf, good[:len(good)-3], 400, ""},
		{"bad JSON", "/v1/traces", "application/json", []byte(`{"resourceSpans":[{]}`), 400, ""},
		{"an odd type", "/v1/traces", "text/plain", good, 415, ""},
		{"no type", "/v1/traces", "", good, 415, ""},
		{"a large body", "/v1/traces", typeProtobuf, large, 413, ""},
		{"Zipkin's garbage", "/api/v2/spans", "application/json", []byte(`[{"traceId":"xyz"}]`), 400, "lower-hex"},
		{"Zipkin's protobuf", "/api/v2/spans", typeProtobuf, []byte("\x0a\xff"), 400, ""},
		{"Zipkin's Thrift", "/api/v1/spans", "application/x-thrift", []byte("\x0c\x00\x00\x00\x01\x7f"), 400, ""},
		{"a large body of Zipkin's", "/api/v2/spans", "application/json", bytes.Repeat([]byte(" "), 300_000), 413, ""},
		{"Jaeger's garbage", "/api/traces", "application/x-thrift", []byte("x"), 400, "Unable to process"},
		{"Jaeger's type", "/api/traces", "application/json", []byte("{}"), 400, "content type"},
	} {
		headers := []string{}
		if c.contentType != "" {
			headers = append(headers, "Content-Type", c.contentType)
		}
		if code, _, text := p.send("POST", c.path, c.body, headers...); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: got %d, %q, want %d and %q", c.what, code, text, c.code, c.text)
		}
	}

	td := traceOf("partial", pcommon.TraceID{15: 7}, nil)
	spans := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
	for i := range 3 {
		s := spans.AppendEmpty()
		spans.At(0).CopyTo(s)
		switch i {
		case 0:
			s.SetTraceID(pcommon.TraceID{})
		case 1:
			s.SetSpanID(pcommon.SpanID{})
		case 2:
			s.Attributes().PutStr("text", "\xff")
		}
	}
	if rejected, why := p.push(marshalTraces(t, td)); rejected != 3 || why == "" {
		t.Errorf("three bad spans: got %d refused, %q", rejected, why)
	}
	if got := p.search(`{ resource.service.name = "partial" }`); len(got) != 1 {
		t.Errorf("the good span beside them: got %v", got)
	}

	conn, err := grpc.NewClient(p.traceAddresses().grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client, request := collectortrace.NewTraceServiceClient(conn), &collectortrace.ExportTraceServiceRequest{}
	if err := proto.Unmarshal(good, request); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Export(t.Context(), request); status.Code(err) != codes.Unauthenticated {
		t.Errorf("gRPC without a token: got %v, want UNAUTHENTICATED", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer sesame")
	if _, err := client.Export(ctx, request); err != nil {
		t.Errorf("gRPC with the token: %v", err)
	}
	stranger := p.in(t)
	stranger.token = ""
	for _, path := range []string{"/v1/traces", "/api/v2/spans", "/api/traces"} {
		if code, _, _ := stranger.send("POST", path, good, "Content-Type", typeProtobuf); code != http.StatusUnauthorized {
			t.Errorf("POST %s without a token: got %d, want 401", path, code)
		}
	}
	for _, path := range []string{"/tempo/api/search", "/tempo/api/echo", "/api/traces/1", "/jaeger/api/services", "/api/v3/services", "/zipkin/api/v2/services", "/zipkin/config.json"} {
		if code, _, _ := stranger.send("GET", path, nil); code != http.StatusUnauthorized {
			t.Errorf("GET %s without a token: got %d, want 401", path, code)
		}
	}
	for path, want := range map[string]int{
		"/tempo/api/traces/xyz": 400, "/jaeger/api/traces/xyz": 400, "/zipkin/api/v2/trace/xyz": 400, "/tempo/api/search?limit=-1": 400,
		"/tempo/api/search?q=" + url.QueryEscape(`{ span.a = `): 400, "/tempo/api/metrics/query_range?q=" + url.QueryEscape(`{}`): 400,
		"/jaeger/api/traces": 400, "/zipkin/api/v2/spans": 400, "/zipkin/api/v2/dependencies": 400,
		"/tempo/api/search?start=5&end=2": 400, "/tempo/api/metrics/query_range?q=" + url.QueryEscape(`{} | rate()`) + "&start=1&end=1000000&step=1s": 400,
	} {
		if code, _, text := p.send("GET", path, nil); code != want || text == "" {
			t.Errorf("GET %s: got %d, %q, want %d and a reason", path, code, text, want)
		}
	}
}

// An answer that a limit has cut short says so, in every API; a request that
// cannot be answered within the limits is refused with its status.
func TestE2ETraceQueryLimits(t *testing.T) {
	skipShort(t)
	data, config := t.TempDir(), "tracing: {sample_ratio: 0}\nspan_metrics: {enabled: false}\n"
	p := start(t, data, "--config", writeConfig(t, config+"trace_query: {max_series: 10, max_traces: 30, max_values: 5, max_concurrent: 1, max_queued: 0}\n"))
	const traces = 40
	now := time.Now()
	for n := range traces {
		td := ptrace.NewTraces()
		for i := range 25 {
			traceOf("many", pcommon.TraceID{14: byte(n), 15: 1}, func(s ptrace.Span) {
				s.SetSpanID(pcommon.SpanID{1: byte(i), 7: 1})
				s.SetName(fmt.Sprint("operation ", i))
				s.Attributes().PutStr("user.id", hex.EncodeToString([]byte{byte(n), byte(i), byte(n * i), byte(n ^ i), byte(7 * n)}))
			}).ResourceSpans().MoveAndAppendTo(td.ResourceSpans())
		}
		p.push(marshalTraces(t, td))
	}
	span := fmt.Sprintf("&start=%d&end=%d", now.Add(-time.Minute).Unix(), now.Add(time.Minute).Unix())
	jaegerSpan := "&query.startTimeMin=" + now.Add(-time.Minute).UTC().Format(time.RFC3339) + "&query.startTimeMax=" + now.Add(time.Minute).UTC().Format(time.RFC3339)
	q := url.QueryEscape
	type limited struct {
		path string
		code int
		part string // is in the answer
	}
	check := func(list []limited) {
		t.Helper()
		for _, c := range list {
			code, h, text := p.send("GET", c.path, nil)
			if code != c.code || h.Get("X-Vedette-Partial") == "" || !strings.Contains(text, c.part) {
				t.Errorf("GET %s: got %d, partial %q, want %d, a reason and %s: %s", c.path, code, h.Get("X-Vedette-Partial"), c.code, c.part, text)
			}
			if strings.Contains(c.path, "/api/search?") && strings.Contains(text, "completedJobs") {
				t.Errorf("GET %s: all jobs are said to be complete: %s", c.path, text)
			}
		}
	}
	check([]limited{
		{"/tempo/api/metrics/query_range?step=10s&q=" + q(`{} | rate() by (name)`) + span, 200, `"status":"PARTIAL","message":"`},
		{"/tempo/api/v2/search/tag/name/values", 200, `"tagValues":[{`},
		{"/tempo/api/search?limit=40&q=%7B%7D" + span, 200, `"traceID"`}, // more than max_traces
		{"/jaeger/api/traces?service=many&limit=40", 200, `"data":[{`},
		{"/jaeger/api/v3/traces?query.serviceName=many&query.searchDepth=40" + jaegerSpan, 200, `"resourceSpans":[{`},
		{"/jaeger/api/v3/trace-summaries?query.serviceName=many&query.searchDepth=40" + jaegerSpan, 200, `"summaries":[{`},
		{"/zipkin/api/v2/traces?serviceName=many&limit=40", 200, `"traceId"`},
	})
	// A trace as a whole is not cut.
	if code, h, text := p.send("GET", "/jaeger/api/traces/1", nil); code != http.StatusOK || h.Get("X-Vedette-Partial") != "" || strings.Count(text, `"operationName"`) != 25 {
		t.Errorf("a trace: got %d, partial %q, %d spans, want all 25", code, h.Get("X-Vedette-Partial"), strings.Count(text, `"operationName"`))
	}
	// One at a time, and nobody waits.
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 16 {
		wg.Go(func() {
			for range 10 {
				resp, err := http.Get(p.url + "/tempo/api/metrics/query_range?step=10s&q=" + q(`{} | quantile_over_time(duration, .9) by (name)`) + span)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				mu.Lock()
				codes[resp.StatusCode]++
				mu.Unlock()
				if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
			}
		})
	}
	wg.Wait()
	if codes[200] == 0 || codes[200]+codes[429] != 160 {
		t.Errorf("many at once: got %v, want 200 and 429", codes)
	}
	p.stop()

	p = start(t, data, "--config", writeConfig(t, config+"trace_query: {max_bytes: 1}\n"))
	for n := range traces { // groups of their own: what is read first meets the limit
		p.push(marshalTraces(t, traceOf("more", pcommon.TraceID{13: 1, 14: byte(n), 15: 1}, nil)))
	}
	check([]limited{
		{"/tempo/api/search?limit=40&q=%7B%7D" + span, 200, `"traces":[`},
		{"/tempo/api/metrics/query_range?step=10s&q=" + q(`{ name =~ ".*o.*" } | rate() by (name)`) + span, 200, `"status":"PARTIAL"`},
		{"/jaeger/api/traces?service=many&limit=40", 200, `"data":[`},
		{"/jaeger/api/v3/traces?query.serviceName=many&query.searchDepth=40" + jaegerSpan, 404, `No traces found`},
		{"/zipkin/api/v2/traces?serviceName=many&limit=40", 200, `[`},
	})
	p.stop()
}

// Tail sampling keeps traces with errors and lets the others go when blocks are
// merged; metrics say so.
func TestE2ETailSampling(t *testing.T) {
	skipShort(t)
	p := start(t, t.TempDir(), "--config", writeConfig(t, `
tracing: {sample_ratio: 0}
trace_store: {flush_interval: 1s, merge_interval: 1s, decision_wait: 1s}
sampling: {tail: {enabled: true, slow_quantile: 0, rare_per_hour: 0, probability: 0}}
`))
	var failed []string
	for n := range 30 {
		id := pcommon.TraceID{0: byte(n), 15: 1}
		p.push(marshalTraces(t, traceOf("tail", id, func(s ptrace.Span) {
			if n%10 == 0 {
				s.Status().SetCode(ptrace.StatusCodeError)
				failed = append(failed, id.String())
			}
		})))
	}
	slices.Sort(failed)
	if got := p.search(`{ resource.service.name = "tail" }`); len(got) != 30 {
		t.Errorf("before the decision: got %d traces, want all 30", len(got))
	}
	eventually(t, "the decision", func() bool { return slices.Equal(p.search(`{ resource.service.name = "tail" }`), failed) })
	for _, id := range failed {
		if code, _, text := p.send("GET", "/tempo/api/traces/"+id, nil); code != http.StatusOK {
			t.Errorf("a trace with an error: got %d: %s", code, text)
		}
	}
	if keep, drop := p.metric("vedette_sampling_traces_total", `decision="keep"`, `reason="error"`), p.metric("vedette_sampling_traces_total", `decision="drop"`); keep != 3 || drop != 27 {
		t.Errorf("decisions: got %v kept, %v dropped, want 3 and 27", keep, drop)
	}
	p.stop()
}

// Vedette's own spans come into the store, and storing them makes no further ones.
func TestE2EOwnSpans(t *testing.T) {
	skipShort(t)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	p := start(t, t.TempDir(), "--config", writeConfig(t, `
tracing: {sample_ratio: 1}
trace_store: {flush_interval: 1s, merge_interval: 1s}
store: {flush_interval: 1s}
span_metrics: {enabled: false}
`))
	parent := hex.EncodeToString([]byte("0123456789abcdef"))
	p.write(testSeries("own", time.Now().UnixMilli(), 1))
	if code, _, text := p.send("GET", "/tempo/api/echo", nil, "traceparent", "00-"+parent+"-00f067aa0ba902b7-01"); code != http.StatusOK {
		t.Fatalf("echo: got %d: %s", code, text)
	}
	eventually(t, "the request's own span", func() bool {
		return len(p.search(`{ resource.service.name = "vedette" && trace:id = "`+parent+`" }`)) == 1
	})
	if got := p.search(`{ resource.service.name = "vedette" && name =~ "POST /api/v1/write" } >> { name = "buffer append" }`); len(got) != 1 {
		t.Errorf("the write's trace: got %v, want one", got)
	}
	// Nobody asks any more: /metrics makes no spans.
	const quiet = 35 // looks, longer than the stores take to flush
	count, same := 0.0, 0
	eventually(t, "the end of own spans", func() bool {
		now := p.metric("vedette_ingest_door_spans_total", `door="own_spans"`)
		if now != count {
			count, same = now, 0
		}
		same++
		return same >= quiet
	})
	if count == 0 {
		t.Error("no own spans are counted")
	}
	p.stop()
}

// The commands of README.md and docs/traces.md do what they say, as they stand
// there but for the address.
func TestE2EFirstTrace(t *testing.T) {
	skipShort(t)
	p := start(t, t.TempDir(), "--config", writeConfig(t, ""))
	body := fmt.Sprintf(`[{"traceId": "4bf92f3577b34da6",
      "id": "00f067aa0ba902b7", "kind": "SERVER", "name": "get /cart", "timestamp": %d000000, "duration": 41000,
      "localEndpoint": {"serviceName": "cart"}, "tags": {"user.id": "u-7"}}]`, time.Now().Unix())
	if code, _, text := p.send("POST", "/api/v2/spans", []byte(body), "Content-Type", "application/json"); code != http.StatusAccepted {
		t.Fatalf("the README's curl: got %d: %s", code, text)
	}
	command := func(want int, args ...string) string {
		t.Helper()
		var out, errOut strings.Builder
		if code := run(append(args, "--url", p.url), &out, &errOut); code != want {
			t.Fatalf("vedette %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &errOut)
		}
		return out.String() + errOut.String()
	}
	has := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !regexp.MustCompile(part).MatchString(text) {
				t.Errorf("%q is not in\n%s", part, text)
			}
		}
	}
	has(command(exitOK, "search", `{ span.user.id = "u-7" }`), `4bf92f3577b34da6 .* 41ms +1 +cart`)
	has(command(exitOK, "trace", "4bf92f3577b34da6"), `cart · get /cart`, `█+ +41ms`)
	has(command(exitOK, "trace", "4bf92f3577b34da6", "-a"), `user\.id.*u-7`)
	has(command(exitOK, "search", "--service", "cart", "-o", "ids"), `^0*4bf92f3577b34da6\n$`)
	has(command(exitOK, "search", "--instant", `{} | count_over_time() by (resource.service.name)`), `cart +1`)
	has(command(exitOK, "search", "--error"), "")
	has(command(exitFault, "trace", "abcd"), "(?i)no such trace|not found")
	has(command(exitFault, "search", "{ name = }"), `column 10`)
	// What "trace -o otlp" prints, any receiver takes: here another tenant's.
	otlp := command(exitOK, "trace", "-o", "otlp", "4bf92f3577b34da6")
	if !json.Valid([]byte(otlp)) {
		t.Fatalf("not JSON: %s", otlp)
	}
	if code, _, text := p.send("POST", "http://"+p.traceAddresses().http+"/v1/traces", []byte(otlp), "Content-Type", "application/json", "X-Scope-OrgID", "copy"); code != http.StatusOK {
		t.Fatalf("OTLP: got %d: %s", code, text)
	}
	has(command(exitOK, "trace", "4bf92f3577b34da6", "--tenant", "copy"), `cart · get /cart`)
	p.stop()
}
