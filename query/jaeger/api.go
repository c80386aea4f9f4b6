package jaeger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

// Options are the settings of an API.
type Options struct {
	// MaxClockSkew is how far a span's times may be moved to lie within its
	// parent's; 0 moves none and says in a warning what it would have done.
	MaxClockSkew time.Duration
}

// API serves Jaeger's endpoints. It is safe for concurrent use.
type API struct {
	old, v3 traceapi.API
	opts    Options
}

// New returns an API on a base that the trace APIs share.
func New(base *traceapi.Base, o Options) *API {
	return &API{
		old:  traceapi.API{Base: base, Name: "jaeger", WriteError: writeError},
		v3:   traceapi.API{Base: base, Name: "jaeger", WriteError: writeErrorV3},
		opts: o,
	}
}

// Routes returns the endpoints, to be registered at the root and below a prefix.
func (a *API) Routes() []traceapi.Route {
	const get = http.MethodGet
	trace := a.old.Read(get, "/api/traces/{id}", "a trace, as Jaeger's page wants it", a.trace)
	trace.OnlyPrefixed = true // Tempo's at the root, too, see traceapi.TraceAtRoot
	return []traceapi.Route{
		a.v3.Read(get, "/api/v3/services", "services", a.servicesV3),
		a.v3.Read(get, "/api/v3/operations", "operations of a service", a.operationsV3),
		a.v3.Read(get, "/api/v3/traces/{id}", "a trace, OTLP as JSON", a.traceV3),
		a.v3.Read(get, "/api/v3/traces", "traces that are searched for, OTLP as JSON", a.tracesV3),
		a.v3.Read(get, "/api/v3/trace-summaries", "what traces that are searched for are made of", a.summariesV3),
		a.old.Read(get, "/api/services", "services", a.services),
		a.old.Read(get, "/api/services/{service}/operations", "operations of a service", a.serviceOperations),
		a.old.Read(get, "/api/operations", "operations of a service, with kinds", a.operations),
		a.old.Read(get, "/api/traces", "traces that are searched for", a.search),
		trace,
		a.old.Delegate(get, "/api/dependencies", "edges of the service graph", a.dependencies),
		a.old.Read(get, "/api/metrics/latencies", "a quantile of durations", a.latencies),
		a.old.Read(get, "/api/metrics/calls", "calls per second", a.calls),
		a.old.Read(get, "/api/metrics/errors", "share of calls that fail", a.failures),
		a.old.Plain(get, "/api/metrics/minstep", "the least step of metrics", a.minStep),
	}
}

// envelope is the form of the older API's answers.
type envelope struct {
	Data   any             `json:"data"`
	Total  int             `json:"total"`
	Limit  int             `json:"limit"`
	Offset int             `json:"offset"`
	Errors []envelopeError `json:"errors"`
}

type envelopeError struct {
	Code    int    `json:"code,omitempty"`
	Msg     string `json:"msg"`
	TraceID string `json:"traceID,omitempty"`
}

// writeError answers as the older API does.
func writeError(w http.ResponseWriter, code int, err error) {
	writeErrorJSON(w, code, envelope{Errors: []envelopeError{{Code: code, Msg: err.Error()}}})
}

// writeErrorV3 answers as version 3 does.
func writeErrorV3(w http.ResponseWriter, code int, err error) {
	type details struct {
		HTTPCode int    `json:"httpCode"`
		Message  string `json:"message"`
	}
	writeErrorJSON(w, code, struct {
		Error details `json:"error"`
	}{details{code, err.Error()}})
}

func writeErrorJSON(w http.ResponseWriter, code int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone
}

// respond answers with v as JSON, indented if the client asks for that.
func respond(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if pretty := r.URL.Query().Get("prettyPrint"); pretty != "" && pretty != "false" {
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "    "); err != nil {
			return fmt.Errorf("indent answer: %w", err)
		}
		body = b.Bytes()
	}
	traceapi.WriteJSON(w, body)
	return nil
}

var errTraceNotFound = &traceapi.Error{Code: http.StatusNotFound, Err: errors.New("trace not found")}

// listServices returns the names of all services, sorted.
func (a *API) listServices(w http.ResponseWriter, r *http.Request) ([]string, error) {
	found, err := a.old.Querier().TagValues(r.Context(), traceql.TagsRequest{
		Tenant: traceapi.Tenant(r), Name: "resource.service.name",
	})
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	names := make([]string, 0, len(found.Values))
	for _, v := range found.Values {
		names = append(names, v.Value())
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (a *API) services(w http.ResponseWriter, r *http.Request) error {
	names, err := a.listServices(w, r)
	if err != nil {
		return err
	}
	return respond(w, r, envelope{Data: names, Total: len(names)})
}

func (a *API) servicesV3(w http.ResponseWriter, r *http.Request) error {
	names, err := a.listServices(w, r)
	if err != nil {
		return err
	}
	return respond(w, r, struct {
		Services []string `json:"services"`
	}{names})
}

type operation struct {
	Name     string `json:"name"`
	SpanKind string `json:"spanKind"`
}

// kinds are Jaeger's names of kinds of spans, as OTLP numbers them.
var kinds = [...]string{"", "internal", "server", "client", "producer", "consumer"}

// parseKind returns the number of a kind; -1 for none.
func parseKind(name string) (int, error) {
	switch name {
	case "":
		return -1, nil
	case "unspecified":
		return 0, nil
	}
	if i := slices.Index(kinds[:], name); i > 0 {
		return i, nil
	}
	return 0, traceapi.BadRequest("unsupported span kind: '%s'", name)
}

// listOperations returns the operations of a service, each name and kind once.
func (a *API) listOperations(w http.ResponseWriter, r *http.Request, service, kind string) ([]operation, error) {
	k, err := parseKind(kind)
	if err != nil {
		return nil, err
	}
	found, stats, err := a.old.Querier().Operations(r.Context(), traceql.OperationsRequest{
		Tenant: traceapi.Tenant(r), Service: service, Kind: k,
	})
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, stats.Partial)
	ops := make([]operation, 0, len(found))
	seen := make(map[operation]bool, len(found))
	for _, o := range found {
		op := operation{Name: o.Name}
		if int(o.Kind) < len(kinds) {
			op.SpanKind = kinds[o.Kind]
		}
		if !seen[op] {
			seen[op] = true
			ops = append(ops, op)
		}
	}
	return ops, nil
}

func (a *API) serviceOperations(w http.ResponseWriter, r *http.Request) error {
	service := r.PathValue("service")
	if s, err := url.QueryUnescape(service); err == nil {
		service = s // clients escape twice
	}
	ops, err := a.listOperations(w, r, service, "")
	if err != nil {
		return err
	}
	names := make([]string, 0, len(ops))
	for _, o := range ops {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return respond(w, r, envelope{Data: names, Total: len(names)})
}

func (a *API) operations(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("service") == "" {
		return errServiceRequired
	}
	ops, err := a.listOperations(w, r, q.Get("service"), q.Get("spanKind"))
	if err != nil {
		return err
	}
	return respond(w, r, envelope{Data: ops, Total: len(ops)})
}

func (a *API) operationsV3(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	ops, err := a.listOperations(w, r, q.Get("service"), firstOf(q, "spanKind", "span_kind"))
	if err != nil {
		return err
	}
	for i := range ops {
		if ops[i].SpanKind == "" {
			ops[i].SpanKind = "internal"
		}
	}
	return respond(w, r, struct {
		Operations []operation `json:"operations"`
	}{ops})
}

// load reads a trace; dst is empty afterwards if there is none.
func (a *API) load(r *http.Request, id signal.TraceID, start, end int64, dst *signal.Spans) (traceql.Stats, error) {
	dst.Reset()
	return a.old.Querier().Trace(r.Context(), traceql.TraceRequest{
		Tenant: traceapi.Tenant(r), ID: id, Start: start, End: end,
	}, dst)
}

// beginEnvelope and endEnvelope stand around traces that are written as they
// are read.
const beginEnvelope = `{"data":[`

func endEnvelope(dst []byte, problems []envelopeError) ([]byte, error) {
	b, err := json.Marshal(problems)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	dst = append(dst, `],"total":0,"limit":0,"offset":0,"errors":`...)
	return append(append(dst, b...), '}'), nil
}

func (a *API) trace(w http.ResponseWriter, r *http.Request) error {
	id, err := parseTraceID(r.PathValue("id"))
	if err != nil {
		return traceapi.BadRequest("%w", err)
	}
	q := r.URL.Query()
	start, err := microsParam(q, "start", 0)
	if err != nil {
		return err
	}
	end, err := microsParam(q, "end", 0)
	if err != nil {
		return err
	}
	raw, err := boolParam(q, "raw")
	if err != nil {
		return err
	}
	var spans signal.Spans
	stats, err := a.load(r, id, start, end, &spans)
	if err != nil {
		return err
	}
	if spans.Len() == 0 {
		return errTraceNotFound
	}
	traceapi.NotePartial(w, stats.Partial)
	body := append(make([]byte, 0, 1024*spans.Len()), beginEnvelope...)
	body = a.appendTrace(body, &spans, raw, stats.Partial)
	if body, err = endEnvelope(body, nil); err != nil {
		return err
	}
	return respond(w, r, json.RawMessage(body))
}

func (a *API) search(w http.ResponseWriter, r *http.Request) error {
	p, err := a.searchParams(r.URL.Query())
	if err != nil {
		return err
	}
	if len(p.ids) > 0 {
		return a.tracesByID(w, r, p)
	}
	found, err := a.find(r, p, 1)
	if err != nil {
		return err
	}
	partial := found.Stats.Partial
	body := []byte(beginEnvelope)
	var spans signal.Spans
	for i := range found.Traces {
		t := &found.Traces[i]
		stats, err := a.load(r, t.ID, t.Start, t.Start+t.Duration, &spans)
		if err != nil {
			return err
		}
		if partial == "" {
			partial = stats.Partial
		}
		if spans.Len() == 0 {
			continue // it went out of retention meanwhile
		}
		if len(body) > len(beginEnvelope) {
			body = append(body, ',')
		}
		body = a.appendTrace(body, &spans, p.raw, stats.Partial)
	}
	traceapi.NotePartial(w, partial)
	if body, err = endEnvelope(body, nil); err != nil {
		return err
	}
	return respond(w, r, json.RawMessage(body))
}

// tracesByID answers with the traces that are named, and says which are not
// there.
func (a *API) tracesByID(w http.ResponseWriter, r *http.Request, p *searchParams) error {
	var problems []envelopeError
	var partial string
	body := []byte(beginEnvelope)
	var spans signal.Spans
	for _, id := range p.ids {
		stats, err := a.load(r, id, 0, 0, &spans)
		if err != nil {
			return err
		}
		if partial == "" {
			partial = stats.Partial
		}
		if spans.Len() == 0 {
			problems = append(problems, envelopeError{Msg: errTraceNotFound.Error(), TraceID: traceIDText(id)})
			continue
		}
		if len(body) > len(beginEnvelope) {
			body = append(body, ',')
		}
		body = a.appendTrace(body, &spans, p.raw, stats.Partial)
	}
	traceapi.NotePartial(w, partial)
	body, err := endEnvelope(body, problems)
	if err != nil {
		return err
	}
	return respond(w, r, json.RawMessage(body))
}

// find searches for traces.
func (a *API) find(r *http.Request, p *searchParams, spansPerSpanset int) (*traceql.SearchResult, error) {
	return a.old.Querier().Search(r.Context(), traceql.SearchRequest{
		Tenant: traceapi.Tenant(r), Query: p.query(), Start: p.start, End: p.end, Limit: p.limit,
		SpansPerSpanset: spansPerSpanset,
	})
}

// link is an edge as Jaeger's page wants it.
type link struct {
	Parent    string `json:"parent"`
	Child     string `json:"child"`
	CallCount int64  `json:"callCount"`
}

func (a *API) dependencies(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	end, err := timeParam(q, "endTs", time.Millisecond, a.old.Now().UnixNano())
	if err != nil {
		return err
	}
	lookback, err := millisParam(q, "lookback", 24*time.Hour)
	if err != nil {
		return err
	}
	edges, err := a.old.Dependencies().Edges(r.Context(), traceapi.Tenant(r), end-int64(lookback), end)
	if err != nil {
		return err
	}
	service := q.Get("service")
	links := make([]link, 0, len(edges))
	for _, e := range edges {
		if service == "" || service == e.Parent || service == e.Child {
			links = append(links, link{e.Parent, e.Child, e.Calls})
		}
	}
	return respond(w, r, envelope{Data: links})
}
