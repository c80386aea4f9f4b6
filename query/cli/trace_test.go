package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vedette-io/vedette/query/tempo"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceapi/apitest"
)

// newTraceServer serves Vedette's own API for traces over two traces.
func newTraceServer(t *testing.T) (*Client, *apitest.Store) {
	t.Helper()
	store := apitest.NewStore("default", apitest.Shop(), apitest.Old())
	api := tempo.New(traceapi.New(traceapi.Options{Querier: store, Now: apitest.Now}))
	server := httptest.NewServer(apitest.Mux(tracePrefix, api.Routes()))
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL, "", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c, store
}

// checkLines checks that a terminal of some columns shows text as it is.
func checkLines(t testing.TB, name, text string, width int) {
	t.Helper()
	for i, line := range strings.Split(text, "\n") {
		if n := runewidth.StringWidth(line); n > width {
			t.Errorf("%s: line %d is %d columns wide, want at most %d: %q", name, i+1, n, width, line)
		}
		if clean(line) != line {
			t.Errorf("%s: line %d holds control characters: %q", name, i+1, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("%s: line %d ends in spaces: %q", name, i+1, line)
		}
	}
}

// span is a span of the traces that tests make.
type span struct {
	id, parent byte
	service    string
	name       string
	kind       ptrace.SpanKind
	start, end int64 // milliseconds
	message    string
	attrs      map[string]string
}

func makeTrace(spans ...span) *Trace {
	td := ptrace.NewTraces()
	for _, s := range spans {
		rs := td.ResourceSpans().AppendEmpty()
		if s.service != "" {
			rs.Resource().Attributes().PutStr("service.name", s.service)
		}
		x := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		x.SetTraceID(pcommon.TraceID{15: 1})
		x.SetSpanID(pcommon.SpanID{7: s.id})
		x.SetParentSpanID(pcommon.SpanID{7: s.parent})
		x.SetName(s.name)
		x.SetKind(s.kind)
		x.SetStartTimestamp(pcommon.Timestamp(apitest.Time + s.start*1e6))
		x.SetEndTimestamp(pcommon.Timestamp(apitest.Time + s.end*1e6))
		if s.message != "" {
			x.Status().SetCode(ptrace.StatusCodeError)
			x.Status().SetMessage(s.message)
		}
		for k, v := range s.attrs {
			x.Attributes().PutStr(k, v)
		}
	}
	return newTrace(td)
}

func oddTrace() *Trace {
	return makeTrace(
		span{id: 1, service: "入口服务", name: "处理订单请求", kind: ptrace.SpanKindServer, start: 0, end: 1000},
		span{id: 2, parent: 1, service: "订单服务", name: "查询数据库里的订单以及所有的历史记录", start: 100, end: 700, message: "连接\x1b[31m超时\nsecond line"},
		span{id: 3, parent: 2, service: "db", name: "before its parent", start: 90, end: 500},
		span{id: 4, parent: 2, service: "db", name: "after its parent", start: 600, end: 900},
		span{id: 5, parent: 2, service: "db", name: "later", start: 800, end: 900},
		span{id: 6, parent: 1, service: "queue", name: "send", kind: ptrace.SpanKindProducer, start: 200, end: 210},
		span{id: 7, parent: 6, service: "worker", name: "receive", kind: ptrace.SpanKindConsumer, start: 900, end: 1500},
		span{id: 8, parent: 99, service: "lost", name: "orphan", start: 300, end: 301},
		span{id: 10, parent: 11, service: "loop", name: "a", start: 400, end: 500},
		span{id: 11, parent: 10, service: "loop", name: "b", start: 410, end: 500},
		span{id: 12, parent: 12, name: "", start: 420, end: 500},
		span{id: 13, parent: 1, service: "clock", name: "negative", start: 500, end: 450, attrs: map[string]string{"vedette.truncated": "attribute sql: 10 of 20 bytes kept"}},
		span{id: 14, parent: 1, service: "👩‍👩‍👧 family", name: "é combining", start: 600, end: 600},
	)
}

// manySpans is a trace with three loops, one of which fails now and then.
func manySpans() *Trace {
	spans := []span{{id: 1, service: "shop", name: "GET /", kind: ptrace.SpanKindServer, start: 0, end: 3000}}
	for i := range int64(120) {
		s := span{id: byte(2 + i), parent: 1, service: "cart", name: "get item", kind: ptrace.SpanKindClient, start: i * 20, end: i*20 + 5 + i%7}
		if i%40 == 3 {
			s.message = "no such item"
		}
		spans = append(spans, s)
		if i < 100 {
			spans = append(spans, span{id: byte(130 + i), parent: s.id, service: "db", name: "SELECT", start: s.start + 1, end: s.end - 1})
		}
	}
	return makeTrace(append(spans, span{id: 240, parent: 1, service: "mail", name: "send", start: 2500, end: 2900})...)
}

func TestRenderTrace(t *testing.T) {
	c, _ := newTraceServer(t)
	shop, err := c.Trace(t.Context(), apitest.ShopTraceID)
	if err != nil {
		t.Fatal(err)
	}
	old, err := c.Trace(t.Context(), "ABC")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, tr *Trace, change func(*TraceOptions)) {
		t.Helper()
		o := DefaultTraceOptions()
		if change != nil {
			change(&o)
		}
		var out bytes.Buffer
		if err := RenderTrace(&out, tr, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		golden(t, name, out.Bytes())
		if !o.Color && !o.Full && o.Format == TraceWaterfall {
			checkLines(t, name, out.String(), max(o.Width, 40))
		}
		if o.ASCII {
			for _, r := range out.String() {
				if r > 126 && !strings.Contains("入口服务", string(r)) && strings.ContainsRune("█▌▐▒├└│·✗×µ•»", r) {
					t.Errorf("%s: %q is not ASCII", name, r)
				}
			}
		}
	}
	check("trace_shop", shop, nil)
	check("trace_shop_all", shop, func(o *TraceOptions) { o.Events, o.Attrs, o.Width = true, true, 100 })
	check("trace_shop_ascii", shop, func(o *TraceOptions) { o.ASCII, o.Events = true, true })
	check("trace_shop_color", shop, func(o *TraceOptions) { o.Color = true })
	check("trace_shop_narrow", shop, func(o *TraceOptions) { o.Width = 1 })
	check("trace_shop_zone", shop, func(o *TraceOptions) { o.Location = time.FixedZone("CST", 8*3600) })
	check("trace_old", old, nil)
	check("trace_otlp", old, func(o *TraceOptions) { o.Format = TraceOTLP })
	check("trace_odd", oddTrace(), nil)
	check("trace_odd_narrow", oddTrace(), func(o *TraceOptions) { o.Width = 50 })
	check("trace_odd_full", oddTrace(), func(o *TraceOptions) { o.Width, o.Full = 60, true })
	check("trace_many", manySpans(), nil)
	check("trace_none", newTrace(ptrace.NewTraces()), nil)

	var out bytes.Buffer
	o := DefaultTraceOptions()
	o.Full = true
	if err := RenderTrace(&out, manySpans(), o); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "get item"); n != 120 {
		t.Errorf("with Full %d spans are shown, want 120", n)
	}
	if err := RenderTrace(io.Discard, shop, TraceOptions{Format: "xml"}); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("unknown format: %v", err)
	}
}

// A trace that is large even when folded is cut, and says so.
func TestWaterfallIsCut(t *testing.T) {
	var spans []Span
	for i := range 5000 {
		s := Span{ID: SpanID{6: byte(i >> 8), 7: byte(i)}, Service: "s", Name: fmt.Sprint("op ", i), Start: int64(i), End: int64(i) + 10}
		if i > 0 {
			s.Parent = SpanID{7: 255, 0: 1}
			s.Error = i%1000 == 999
		}
		spans = append(spans, s)
	}
	var out bytes.Buffer
	renderWaterfall(&out, &Trace{ID: "1", Spans: spans}, DefaultTraceOptions())
	if want := "and 4000 more spans with 4 errors; --full shows everything\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got the end %q, want %q", out.String()[max(0, out.Len()-100):], want)
	}
	checkLines(t, "cut", out.String(), 80)

	// As trees whose upper levels fit, it is cut below them.
	for i := range spans {
		spans[i].Parent = SpanID{}
		if i > 0 {
			spans[i].Parent = spans[(i-1)/5].ID
		}
		spans[i].ID[0] = 1
	}
	out.Reset()
	renderWaterfall(&out, &Trace{ID: "1", Spans: spans}, DefaultTraceOptions())
	rows := strings.Count(out.String(), " · op ") - 1 // one is in the header
	if rows != 1+5+25+125+625 || strings.Count(out.String(), " below\n") != 625 || !strings.Contains(out.String(), "with 1 error below\n") {
		t.Errorf("%d rows are shown, and %d times what is below:\n%s", rows, strings.Count(out.String(), " below\n"), out.String()[:4000])
	}
	checkLines(t, "cut below", out.String(), 80)
}

// A chain of ten thousand spans is drawn in time and within the width.
func TestWaterfallDepth(t *testing.T) {
	var spans []Span
	for i := range 10_000 {
		spans = append(spans, Span{
			ID: SpanID{5: 1, 6: byte(i >> 8), 7: byte(i)}, Parent: SpanID{5: 1, 6: byte((i - 1) >> 8), 7: byte(i - 1)},
			Service: "s", Name: "recurse", Start: int64(i), End: 20_000,
		})
	}
	spans[0].Parent = SpanID{}
	var out bytes.Buffer
	o := DefaultTraceOptions()
	o.Full = true
	renderWaterfall(&out, &Trace{ID: "1", Spans: spans}, o)
	checkLines(t, "deep", out.String(), 80)
	if n := strings.Count(out.String(), "recurse"); n != 10_001 { // once in the header
		t.Errorf("%d spans are shown, want 10000", n-1)
	}
	if !strings.Contains(out.String(), "»9999 s · recurse") {
		t.Error("the depth of the last span is not shown")
	}
}

func TestRunTrace(t *testing.T) {
	c, store := newTraceServer(t)
	o := DefaultTraceOptions()
	o.Format = TraceJSON
	var out, notes bytes.Buffer
	if err := RunTrace(t.Context(), c, " 0ABC", o, &out, &notes); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Trace struct{ ResourceSpans []any }
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || len(answer.Trace.ResourceSpans) != 2 {
		t.Errorf("JSON: %v: %s", err, &out)
	}
	store.Partial = "limit of 5\x1b bytes"
	o.Format = TraceWaterfall
	if err := RunTrace(t.Context(), c, "abc", o, &out, &notes); err != nil || notes.String() != "warning: the trace may not be whole: limit of 5� bytes\n" {
		t.Errorf("partial: %v, notes %q", err, notes.String())
	}
	store.Partial = ""

	for _, format := range []TraceFormat{TraceWaterfall, TraceJSON} {
		o.Format = format
		err := RunTrace(t.Context(), c, "DEF", o, io.Discard, io.Discard)
		if !errors.Is(err, ErrTraceNotFound) || !strings.HasPrefix(err.Error(), "trace not found: 00000000000000000000000000000def at http://127.0.0.1:") {
			t.Errorf("%s: not found: %v", format, err)
		}
	}
	for id, want := range map[string]string{
		"": "empty", "xyz": "not a hexadecimal digit", strings.Repeat("1", 33): "want at most 32",
	} {
		if _, err := c.Trace(t.Context(), id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("id %q: got %v, want %q", id, err, want)
		}
	}
	store.Err = errors.New("disk is gone")
	var answered *APIError
	if _, err := c.Trace(t.Context(), "abc"); !errors.As(err, &answered) || answered.Code != 500 {
		t.Errorf("error of the server: %v", err)
	}
}

// Servers that are not Vedette.
func TestTraceOfOthers(t *testing.T) {
	var answer func(w http.ResponseWriter)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	c, err := NewClient(server.URL, "", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	for want, a := range map[string]func(w http.ResponseWriter){
		"server answered 404: 404 page not found": func(w http.ResponseWriter) { http.NotFound(w, nil) },
		`it is of type "text/html`:                func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"decode trace abc: ": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/protobuf")
			_, _ = w.Write([]byte{0x0a, 0x7f, 1})
		},
	} {
		answer = a
		if _, err := c.Trace(t.Context(), "abc"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	server.Close()
	if _, err := c.Trace(t.Context(), "abc"); err == nil || !strings.HasPrefix(err.Error(), "ask http://127.0.0.1") || strings.Count(err.Error(), "http://") != 1 {
		t.Errorf("unreachable: %v", err)
	}
}

func TestFormatNanos(t *testing.T) {
	for ns, want := range map[int64]string{
		0: "0ns", 999: "999ns", 1000: "1µs", 1234: "1.23µs", 12_340: "12.3µs", 999_999: "1000µs", 1_500_000: "1.5ms", 100e6: "100ms",
		2_500e6: "2.5s", 65e9: "1m05s", 3661e9: "1h01m", 100 * 3600e9: "4d04h", 5000 * 3600e9: "208d",
		-20e6: "-20ms", math.MinInt64: "-106751d", math.MaxInt64: "106751d",
	} {
		if got := formatNanos(ns, false); got != want {
			t.Errorf("formatNanos(%d) = %q, want %q", ns, got, want)
		}
	}
	if got := formatNanos(1500, true); got != "1.5us" {
		t.Errorf("in ASCII: %q", got)
	}
}

// FuzzWaterfall draws traces as hostile as eight bytes a span allow.
func FuzzWaterfall(f *testing.F) {
	f.Add([]byte{1, 0, 0, 100, 0, 0, 2, 80, 2, 1, 10, 90, 1, 1, 1, 80}, uint8(80), uint8(0))
	f.Add([]byte{1, 2, 0, 100, 0, 0, 2, 80, 2, 1, 10, 90, 1, 1, 1, 80, 3, 3, 200, 9, 2, 2, 255, 7}, uint8(40), uint8(3))
	f.Add(bytes.Repeat([]byte{1, 1, 255, 0, 3, 3, 3, 3}, 130), uint8(60), uint8(5))
	names := []string{"", "op", "处理", "a\x1b[31m\n", strings.Repeat("long ", 60), "\xff\xfe", "👩‍👩‍👧", "\u202eabc", "e\u0301"}
	times := []int64{0, 1, 1e3, 1e6, 1e9, math.MaxInt64, math.MaxInt64 - 1, 1 << 40}
	f.Fuzz(func(t *testing.T, data []byte, width, flags uint8) {
		tr := &Trace{ID: "00"}
		for len(data) >= 8 && len(tr.Spans) < 2000 {
			b := data[:8]
			data = data[8:]
			s := Span{
				ID: SpanID{7: b[0]}, Parent: SpanID{7: b[1]}, Start: times[b[2]%8], End: times[b[3]%8],
				Service: names[int(b[4])%len(names)], Name: names[int(b[5])%len(names)], Kind: Kind(b[6] % 8), Error: b[6] >= 128,
			}
			if b[7] >= 128 {
				s.Message = names[int(b[7])%len(names)]
				s.Attrs = []Attribute{{"vedette.x", s.Message}, {s.Name, "a\nb"}}
				s.Events = []Event{{Time: times[b[7]%8], Name: s.Name, Attrs: s.Attrs}}
				s.Links = []Link{{TraceID: "1", SpanID: "2"}}
			}
			tr.Spans = append(tr.Spans, s)
		}
		forest := newForest(tr.Spans)
		rows := forest.rows(flags&1 != 0)
		seen := make([]bool, len(tr.Spans))
		for _, r := range rows {
			for _, i := range r.spans {
				if seen[i] {
					t.Fatalf("span %d is in two rows", i)
				}
				seen[i] = true
			}
		}
		for i, ok := range seen {
			if !ok {
				t.Fatalf("span %d is in no row", i)
			}
		}
		kept, rest := forest.cut(rows, 50)
		n := rest.hidden
		for _, r := range kept {
			n += len(r.spans) + r.hidden
		}
		if len(kept) > 50 || n != len(tr.Spans) {
			t.Fatalf("cut to %d rows with %d of %d spans", len(kept), n, len(tr.Spans))
		}
		o := DefaultTraceOptions()
		o.Width, o.ASCII, o.Events, o.Attrs = int(width), flags&2 != 0, flags&4 != 0, flags&4 != 0
		var out bytes.Buffer
		renderWaterfall(&out, tr, o)
		checkLines(t, "waterfall", out.String(), max(int(width), 40))
	})
}

func FuzzDecodeTrace(f *testing.F) {
	b, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(oddTrace().otlp)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{0x0a, byte(len(b)&0x7f) | 0x80, byte(len(b) >> 7)}, b...))
	f.Add([]byte{0x22, 1, 'x', 0x18, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		tr, err := decodeTrace(body)
		if err != nil {
			return
		}
		o := DefaultTraceOptions()
		o.Events, o.Attrs = true, true
		var out bytes.Buffer
		renderWaterfall(&out, tr, o)
		checkLines(t, "waterfall", out.String(), 80)
	})
}
