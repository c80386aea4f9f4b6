package traceapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/util/httputil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/traceql"
)

// PartialHeader is set on answers that leave something out, to the reason.
const PartialHeader = "X-Vedette-Partial"

// MaxTraces bounds how many traces one search may ask for.
const MaxTraces = 10_000

// maxFormBytes bounds the body of a request.
const maxFormBytes = 10 << 20

// Build says which server answers.
type Build struct {
	Version, Revision, Branch       string
	BuildUser, BuildDate, GoVersion string
}

// Options are what the APIs are made of. Querier is required.
type Options struct {
	Querier traceql.Querier
	// Dependencies gives the service graph; it is empty if nil. It waits for its
	// turn itself.
	Dependencies Dependencies

	// Admit waits for a request's turn and returns what gives the place back;
	// *promql.Engine has such a method. Requests need not wait if it is nil.
	Admit func(ctx context.Context, query string) (context.Context, func(), error)
	// Timeout bounds a request, its waiting included; 0 does not.
	Timeout time.Duration
	// CORSOrigin matches the origins that a browser may call from; none if nil.
	CORSOrigin *regexp.Regexp
	// Ready says whether the store may be asked yet; always if nil.
	Ready func() bool
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// Build is told to clients that ask.
	Build Build

	Logger         *slog.Logger
	Registerer     prometheus.Registerer
	TracerProvider trace.TracerProvider
}

// Base runs the handlers of the APIs. It is safe for concurrent use.
type Base struct {
	opts    Options
	metrics *metrics
	tracer  trace.Tracer
}

// New returns a Base. All APIs of a process share one.
func New(o Options) *Base {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TracerProvider == nil {
		o.TracerProvider = noop.NewTracerProvider()
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dependencies == nil {
		o.Dependencies = NoDependencies{}
	}
	return &Base{
		opts:    o,
		metrics: newMetrics(o.Registerer),
		tracer:  o.TracerProvider.Tracer("github.com/vedette-io/vedette/query/traceapi"),
	}
}

// Querier returns what answers questions about spans.
func (b *Base) Querier() traceql.Querier { return b.opts.Querier }

// Dependencies returns where the service graph comes from.
func (b *Base) Dependencies() Dependencies { return b.opts.Dependencies }

// Now returns the time.
func (b *Base) Now() time.Time { return b.opts.Now() }

// Ready says whether the store may be asked.
func (b *Base) Ready() bool { return b.opts.Ready() }

// Build returns which server answers.
func (b *Base) Build() Build { return b.opts.Build }

// Route is one endpoint of an API.
type Route struct {
	Method string
	Path   string // of http.ServeMux, below the API's prefix
	What   string // for people, half a line
	// OnlyPrefixed is set for a path that means something else at the root.
	OnlyPrefixed bool
	Handler      http.Handler
}

// Register adds routes to mux below prefix, "/tempo". An empty prefix is the
// root: routes that are OnlyPrefixed are left out there.
func Register(mux *http.ServeMux, prefix string, routes []Route) {
	prefix = strings.TrimSuffix(prefix, "/")
	for _, r := range routes {
		if prefix == "" && r.OnlyPrefixed {
			continue
		}
		mux.Handle(r.Method+" "+prefix+r.Path, r.Handler)
	}
}

// API is a family of endpoints that write their errors the same way.
type API struct {
	*Base
	Name string // "tempo", in metrics
	// WriteError answers with an error.
	WriteError func(w http.ResponseWriter, code int, err error)
}

// HandlerFunc answers a request, or returns an error and leaves w alone.
type HandlerFunc func(w http.ResponseWriter, r *http.Request) error

// access says what a handler needs of the store.
type access uint8

const (
	reads     access = iota // waits for its turn, and ends with the timeout
	delegates               // the same, but what it calls waits for the turn
	none                    // asks the store nothing
)

// Read returns the route of a handler that reads spans: it waits for its turn,
// and ends with the timeout.
func (a API) Read(method, path, what string, h HandlerFunc) Route {
	return Route{Method: method, Path: path, What: what, Handler: a.wrap(path, reads, h)}
}

// Delegate returns the route of a handler whose reads wait for their turn by
// themselves; waiting twice could wait for ever.
func (a API) Delegate(method, path, what string, h HandlerFunc) Route {
	return Route{Method: method, Path: path, What: what, Handler: a.wrap(path, delegates, h)}
}

// Plain returns the route of a handler that reads no spans.
func (a API) Plain(method, path, what string, h HandlerFunc) Route {
	return Route{Method: method, Path: path, What: what, Handler: a.wrap(path, none, h)}
}

// wrap puts metrics, span, tenant, gate, timeout and compression around h.
func (a API) wrap(path string, needs access, h HandlerFunc) http.Handler {
	route := "/" + a.Name + path
	propagator := propagation.TraceContext{}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.run(w, r, route, needs, h); err != nil {
			a.fail(w, r, err)
		}
	})
	compressed := httputil.CompressionHandler{Handler: inner}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &responseWriter{ResponseWriter: rw}
		a.metrics.inFlight.Inc()
		ctx := propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := a.tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", route)))
		defer func() {
			code := w.status()
			span.SetAttributes(attribute.Int("http.response.status_code", code))
			if code >= 500 {
				span.SetStatus(codes.Error, http.StatusText(code))
			}
			span.End()
			a.metrics.inFlight.Dec()
			a.metrics.size.WithLabelValues(route).Add(float64(w.written))
			a.metrics.duration.WithLabelValues(route, strconv.Itoa(code)).Observe(time.Since(start).Seconds())
			if w.Header().Get(PartialHeader) != "" {
				a.metrics.partial.WithLabelValues(route).Inc()
			}
		}()
		if a.opts.CORSOrigin != nil {
			httputil.SetCORS(w, a.opts.CORSOrigin, r)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
		compressed.ServeHTTP(w, r.WithContext(ctx))
	})
}

// run calls h when it is the request's turn.
func (a API) run(w http.ResponseWriter, r *http.Request, route string, needs access, h HandlerFunc) error {
	id, err := tenant.FromRequest(r)
	if err != nil {
		return &Error{Code: http.StatusBadRequest, Err: err}
	}
	ctx := tenant.NewContext(r.Context(), id)
	trace.SpanFromContext(ctx).SetAttributes(attribute.String("tenant", id))
	if needs == none {
		return h(w, r.WithContext(ctx))
	}
	if !a.opts.Ready() {
		return &Error{Code: http.StatusServiceUnavailable, Err: errors.New("the server is starting")}
	}
	if a.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.opts.Timeout)
		defer cancel()
	}
	if a.opts.Admit != nil && needs == reads {
		admitted, done, err := a.opts.Admit(ctx, r.Method+" "+route+"?"+r.URL.RawQuery)
		if err != nil {
			return fmt.Errorf("wait for a turn: %w", err)
		}
		defer done()
		ctx = admitted
	}
	return h(w, r.WithContext(ctx))
}

// fail answers with err in the API's form.
func (a API) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := Status(err)
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if code == http.StatusInternalServerError {
		a.opts.Logger.Error("answer a request for traces", "api", a.Name, "path", r.URL.Path, "err", err)
	}
	a.WriteError(w, code, err)
}

// Tenant returns the tenant that the request belongs to.
func Tenant(r *http.Request) string { return tenant.FromContext(r.Context()) }

// NotePartial says in a header that the answer leaves something out, if it
// does. It is called before the answer's first byte.
func NotePartial(w http.ResponseWriter, partial string) {
	if partial == "" {
		return
	}
	// A header holds one line.
	w.Header().Set(PartialHeader, strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, partial))
}

// WriteJSON answers 200 with body, which is JSON.
func WriteJSON(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone; the status is noted already
}

// responseWriter notes what was answered.
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
	w.ResponseWriter.WriteHeader(code)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TraceAtRoot answers GET /api/traces/{id} at the root, which is Tempo's and
// Jaeger's: a client that accepts protobuf gets Tempo's answer, all others
// Jaeger's. Both are the handlers of routes that are OnlyPrefixed.
func TraceAtRoot(tempo, jaeger []Route) Route {
	only := func(routes []Route) http.Handler {
		for _, r := range routes {
			if r.OnlyPrefixed {
				return r.Handler
			}
		}
		panic("BUG: no route is OnlyPrefixed")
	}
	a, b := only(tempo), only(jaeger)
	return Route{
		Method: http.MethodGet, Path: "/api/traces/{id}", What: "a trace: Tempo's if protobuf is accepted, else Jaeger's",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.Header.Get("Accept"), "application/protobuf") {
				a.ServeHTTP(w, r)
				return
			}
			b.ServeHTTP(w, r)
		}),
	}
}
