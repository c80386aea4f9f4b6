package telemetry

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLogger(t *testing.T) {
	for _, tc := range []struct {
		c    LogConfig
		want string
	}{
		{LogConfig{slog.LevelInfo, "text"}, "level=INFO msg=hello n=1\n"},
		{LogConfig{slog.LevelInfo, "json"}, `"level":"INFO","msg":"hello","n":1}` + "\n"},
		{LogConfig{slog.LevelWarn, "text"}, ""},
	} {
		var b strings.Builder
		NewLogger(tc.c, &b).Info("hello", "n", 1)
		if !strings.HasSuffix(b.String(), tc.want) || (tc.want == "" && b.Len() > 0) {
			t.Errorf("%+v: got %q, want it to end in %q", tc.c, b.String(), tc.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		c    interface{ Validate() error }
		want string
	}{
		{DefaultLogConfig(), ""},
		{DefaultTraceConfig(), ""},
		{LogConfig{Format: "xml"}, `format: got "xml", want text or json`},
		{TraceConfig{SampleRatio: 2, KeepSpans: 1}, "sample_ratio: got 2, want 0 to 1"},
		{TraceConfig{SampleRatio: 1}, "keep_spans: got 0, want 1 to 1048576"},
	} {
		got := ""
		if err := tc.c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%+v: got %q, want %q", tc.c, got, tc.want)
		}
	}
}

func TestMetricsHandler(t *testing.T) {
	r := NewRegistry(ReadBuild("1.2.3"))
	w := httptest.NewRecorder()
	MetricsHandler(r).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`vedette_build_info{`, `version="1.2.3"`, "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestSpansEndInTheRing(t *testing.T) {
	ring := NewRing(3)
	tp := NewTracerProvider(TraceConfig{SampleRatio: 1, KeepSpans: 3}, Build{Version: "x"}, ring)
	defer func() {
		if err := tp.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	tracer := tp.Tracer("test")
	for i := range 4 {
		ctx, parent := tracer.Start(context.Background(), "parent"+strconv.Itoa(i), trace.WithSpanKind(trace.SpanKindServer))
		_, child := tracer.Start(ctx, "child", trace.WithAttributes(attribute.Int("i", i)))
		child.SetStatus(codes.Error, "broken")
		child.End()
		parent.End()
	}

	var names []string
	for _, s := range ring.Newest(10, "") {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "parent3 child parent2" {
		t.Errorf("newest first: got %q", got)
	}

	w := httptest.NewRecorder()
	ring.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/traces?limit=1&name=child", nil))
	var got []Span
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ParentID == "" || got[0].Status != "Error" || got[0].Error != "broken" || got[0].Attributes["i"] != 3.0 {
		t.Errorf("got %+v", got)
	}

	w = httptest.NewRecorder()
	ring.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/traces?limit=x", nil))
	if w.Code != http.StatusBadRequest {
		t.Errorf("bad limit: got status %d, want 400", w.Code)
	}
}

func TestUnsampledSpansAreNotKept(t *testing.T) {
	ring := NewRing(3)
	tp := NewTracerProvider(TraceConfig{KeepSpans: 3}, Build{}, ring)
	_, span := tp.Tracer("test").Start(t.Context(), "x")
	span.End()
	if got := ring.Newest(1, ""); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

func BenchmarkUnsampledSpan(b *testing.B) {
	tp := NewTracerProvider(TraceConfig{KeepSpans: 3}, Build{}, NewRing(3))
	tracer := tp.Tracer("test")
	b.ReportAllocs()
	for b.Loop() {
		_, span := tracer.Start(b.Context(), "x")
		span.End()
	}
}
