package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/util/httputil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
)

// maxFormBytes bounds the body of a request that is not a remote read.
const maxFormBytes = 10 << 20

// statusClientGone is what is noted when the client left before its answer.
const statusClientGone = 499

// wrap puts metrics, span, tenant and gate around the handler of one route.
func (a *API) wrap(path string, reads bool, next http.HandlerFunc) http.HandlerFunc {
	propagator := propagation.TraceContext{}
	return func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &responseWriter{ResponseWriter: rw}
		a.metrics.inFlight.Inc()
		ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := a.tracer.Start(ctx, r.Method+" "+path, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", path)))
		defer func() {
			code := w.status()
			span.SetAttributes(attribute.Int("http.response.status_code", code))
			if code >= 500 {
				span.SetStatus(codes.Error, http.StatusText(code))
			}
			span.End()
			a.metrics.inFlight.Dec()
			a.metrics.size.WithLabelValues(path).Add(float64(w.written))
			a.metrics.duration.WithLabelValues(path, methodLabel(r.Method), strconv.Itoa(code)).Observe(time.Since(start).Seconds())
		}()
		id, err := tenant.FromRequest(r)
		if err != nil {
			a.cors(w, r)
			respondError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		ctx = tenant.NewContext(ctx, id)
		span.SetAttributes(attribute.String("tenant", id))
		if path != "/api/v1/read" { // which bounds its own
			r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		}
		r = r.WithContext(ctx)
		if reads && r.Method != http.MethodOptions {
			a.admit(w, r, path, next)
			return
		}
		next(w, r)
	}
}

// admit calls next when it is the request's turn.
func (a *API) admit(w http.ResponseWriter, r *http.Request, path string, next http.HandlerFunc) {
	ctx, done, err := a.opts.Engine.Admit(r.Context(), r.Method+" "+path+"?"+r.URL.RawQuery)
	if err != nil {
		a.cors(w, r)
		code, ok := errorCode(0, err)
		if !ok {
			code = http.StatusInternalServerError
		}
		respondError(w, code, "unavailable", fmt.Errorf("wait for a turn: %w", err))
		return
	}
	defer done()
	next(w, r.WithContext(ctx))
}

// errorCode gives errors of ours the status that fits them. Its first
// parameter is of a type that the upstream API does not export.
func errorCode[N any](_ N, err error) (code int, override bool) {
	var queue *promql.QueueError
	switch {
	case errors.As(err, &queue):
		return http.StatusTooManyRequests, true
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, true
	case errors.Is(err, context.Canceled):
		return statusClientGone, true
	case promql.IsLimit(err):
		return http.StatusUnprocessableEntity, true
	}
	return 0, false
}

func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodOptions, http.MethodHead:
		return m
	}
	return "other"
}

// responseWriter notes what was answered, and asks refused clients to come
// back.
type responseWriter struct {
	http.ResponseWriter
	code    int
	written int64
}

func (w *responseWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

func (w *responseWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	if (code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable) && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Flush implements http.Flusher, which streamed remote read asks for.
func (w *responseWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// envelope is the form of every answer.
type envelope struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// apiError is an error with the type and status that the API gives it.
type apiError struct {
	code int
	kind string
	err  error
}

func (e *apiError) Error() string { return e.err.Error() }

func badData(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "bad_data", fmt.Errorf(format, args...)}
}

// answer serves what f returns: data, nothing (204) or an error.
func (a *API) answer(f func(r *http.Request) (any, error)) http.HandlerFunc {
	handler := httputil.CompressionHandler{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.cors(w, r)
		data, err := f(r)
		if err != nil {
			e := &apiError{http.StatusInternalServerError, "internal", err}
			errors.As(err, &e)
			respondError(w, e.code, e.kind, e.err)
			return
		}
		if data == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		respond(w, http.StatusOK, envelope{Status: "success", Data: data})
	})}
	return a.whenReady(handler.ServeHTTP)
}

func respondError(w http.ResponseWriter, code int, kind string, err error) {
	respond(w, code, envelope{Status: "error", ErrorType: kind, Error: err.Error()})
}

func respond(w http.ResponseWriter, code int, body envelope) {
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone; the status is noted already
}
