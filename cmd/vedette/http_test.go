package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/internal/telemetry"
)

func testEndpoints(h *health) []endpoint {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return append(h.endpoints(),
		endpoint{pattern: "/api", show: "GET /api", what: "the API", handler: ok},
		endpoint{pattern: "/metrics", show: "GET /metrics", what: "metrics", handler: ok, early: true})
}

func TestReadiness(t *testing.T) {
	var h health
	mux := newMux(testEndpoints(&h), &h, config.NewLiveSecret("", ""))
	status := func(path string) int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	for _, tc := range []struct {
		path         string
		early, ready int
	}{
		{"/-/healthy", 200, 200}, {"/-/ready", 503, 200}, {"/api", 503, 204}, {"/metrics", 204, 204}, {"/", 200, 200}, {"/none", 404, 404},
	} {
		h.ready.Store(false)
		if got := status(tc.path); got != tc.early {
			t.Errorf("%s before the server is ready: got %d, want %d", tc.path, got, tc.early)
		}
		h.ready.Store(true)
		if got := status(tc.path); got != tc.ready {
			t.Errorf("%s when the server is ready: got %d, want %d", tc.path, got, tc.ready)
		}
	}
}

func TestBearerToken(t *testing.T) {
	var h health
	h.ready.Store(true)
	mux := newMux(testEndpoints(&h), &h, config.NewLiveSecret("open sesame", ""))
	for _, tc := range []struct {
		path, authorization string
		want                int
	}{
		{"/api", "", 401},
		{"/api", "Bearer open", 401},
		{"/api", "Basic open sesame", 401},
		{"/api", "Bearer open sesame", 204},
		{"/api", "bearer open sesame", 204},
		{"/metrics", "", 401},
		{"/-/healthy", "", 200},
		{"/-/ready", "", 200},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, tc.path, nil)
		if tc.authorization != "" {
			r.Header.Set("Authorization", tc.authorization)
		}
		mux.ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%s with %q: got %d, want %d", tc.path, tc.authorization, w.Code, tc.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		ip       string
		self     string
		loopback bool
	}{
		{"127.0.0.1", "127.0.0.1:90", true}, {"::1", "[::1]:90", true}, {"0.0.0.0", "127.0.0.1:90", false},
		{"::", "[::1]:90", false}, {"10.1.2.3", "10.1.2.3:90", false},
	} {
		addr := &net.TCPAddr{IP: net.ParseIP(tc.ip), Port: 90}
		if got := selfAddress(addr); got != tc.self {
			t.Errorf("selfAddress(%s): got %s, want %s", tc.ip, got, tc.self)
		}
		if got := isLoopback(addr); got != tc.loopback {
			t.Errorf("isLoopback(%s): got %v", tc.ip, got)
		}
	}
}

type nullBuffer struct{ buffer.Buffer }

func (nullBuffer) Append(context.Context, string, int, []buffer.Record) (int64, error) {
	return 7, errors.New("disk is full")
}

type nullSink struct{ ingest.Sink }

func (nullSink) AppendMetrics(context.Context, *signal.Metrics, string, string, int32, int64) (signal.AppendResult, error) {
	return signal.AppendResult{Appended: 3}, nil
}

// A request continues its client's trace, and the calls below it are its
// children.
func TestSpans(t *testing.T) {
	ring := telemetry.NewRing(10)
	tp := telemetry.NewTracerProvider(telemetry.TraceConfig{SampleRatio: 1, KeepSpans: 10}, telemetry.Build{}, ring)
	tracer := tp.Tracer("test")
	h := tracedHandler(tracer, "POST /write", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = tracedBuffer{nullBuffer{}, tracer}.Append(r.Context(), "topic", 1, []buffer.Record{{Payload: []byte("abc")}})
		_, _ = tracedSink{nullSink{}, tracer}.AppendMetrics(r.Context(), &signal.Metrics{Times: []int64{1}}, "s", "topic", 1, 7)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	r := httptest.NewRequest(http.MethodPost, "/write", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h.ServeHTTP(httptest.NewRecorder(), r)

	spans := ring.Newest(10, "")
	var names []string
	for _, s := range spans {
		names = append(names, s.Name)
		if s.TraceID != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s: trace %s is not the client's", s.Name, s.TraceID)
		}
	}
	if got := strings.Join(names, ", "); got != "POST /write, store append, buffer append" {
		t.Fatalf("got spans %s", got)
	}
	if s := spans[0]; s.ParentID != "b7ad6b7169203331" || s.Status != "Error" || s.Attributes["http.response.status_code"] != int64(503) {
		t.Errorf("request: got %+v", s)
	}
	if s := spans[1]; s.ParentID != spans[0].SpanID || s.Attributes["appended"] != int64(3) || s.Attributes["samples"] != int64(1) {
		t.Errorf("store append: got %+v", s)
	}
	if s := spans[2]; s.Error != "disk is full" || s.Attributes["size_bytes"] != int64(3) {
		t.Errorf("buffer append: got %+v", s)
	}
	if s := trace.SpanFromContext(t.Context()); s.IsRecording() {
		t.Error("a span leaks")
	}
}
