package telemetry

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Span is a finished span as /debug/traces shows it.
type Span struct {
	TraceID    string         `json:"trace_id"`
	SpanID     string         `json:"span_id"`
	ParentID   string         `json:"parent_id,omitempty"`
	Name       string         `json:"name"`
	Kind       string         `json:"kind"`
	Start      time.Time      `json:"start"`
	Duration   time.Duration  `json:"duration_nanos"`
	Status     string         `json:"status,omitempty"`
	Error      string         `json:"error,omitempty"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// Ring keeps the newest finished spans in memory. It is the span processor at
// the end of Vedette's own tracing and safe for concurrent use.
type Ring struct {
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan // oldest at next once full
	next  int
}

var _ sdktrace.SpanProcessor = (*Ring)(nil)

// NewRing returns a ring that holds up to keep spans.
func NewRing(keep int) *Ring { return &Ring{spans: make([]sdktrace.ReadOnlySpan, 0, keep)} }

// OnStart does nothing; spans are kept when they end.
func (r *Ring) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd keeps s and forgets the oldest span if the ring is full.
func (r *Ring) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spans) < cap(r.spans) {
		r.spans = append(r.spans, s)
		return
	}
	r.spans[r.next] = s
	r.next = (r.next + 1) % len(r.spans)
}

// Shutdown does nothing: the spans stay readable.
func (r *Ring) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing: a span is in the ring as soon as it has ended.
func (r *Ring) ForceFlush(context.Context) error { return nil }

// Newest returns up to limit spans, newest first, those with the given name if
// name is not empty.
func (r *Ring) Newest(limit int, name string) []Span {
	r.mu.Lock()
	kept := make([]sdktrace.ReadOnlySpan, 0, len(r.spans))
	for i := range r.spans {
		kept = append(kept, r.spans[(r.next+i)%len(r.spans)])
	}
	r.mu.Unlock()

	out := []Span{}
	for i := len(kept) - 1; i >= 0 && len(out) < limit; i-- {
		if name == "" || kept[i].Name() == name {
			out = append(out, toSpan(kept[i]))
		}
	}
	return out
}

func toSpan(s sdktrace.ReadOnlySpan) Span {
	out := Span{
		TraceID:  s.SpanContext().TraceID().String(),
		SpanID:   s.SpanContext().SpanID().String(),
		Name:     s.Name(),
		Kind:     s.SpanKind().String(),
		Start:    s.StartTime(),
		Duration: s.EndTime().Sub(s.StartTime()),
		Error:    s.Status().Description,
	}
	if s.Parent().SpanID().IsValid() {
		out.ParentID = s.Parent().SpanID().String()
	}
	if code := s.Status().Code.String(); code != "Unset" {
		out.Status = code
	}
	for _, kv := range s.Attributes() {
		if out.Attributes == nil {
			out.Attributes = map[string]any{}
		}
		out.Attributes[string(kv.Key)] = kv.Value.AsInterface()
	}
	return out
}

const defaultShownSpans = 200

// ServeHTTP answers with the newest spans as a JSON list; ?limit=N and ?name=X
// choose among them.
func (r *Ring) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	limit := defaultShownSpans
	if s := req.FormValue("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			http.Error(w, "limit: got "+strconv.Quote(s)+", want a number above 0", http.StatusBadRequest)
			return
		}
		limit = n
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(r.Newest(limit, req.FormValue("name"))) // the client may be gone
}
