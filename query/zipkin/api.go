package zipkin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vedette-io/vedette/internal/signal"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traceql"
)

const (
	defaultLimit    = 10
	defaultLookback = 24 * time.Hour
	maxTraceIDs     = 1000 // of traceMany
)

// Options are the settings of an API.
type Options struct {
	// AutocompleteKeys are tags whose values the page suggests.
	AutocompleteKeys []string
}

// API serves Zipkin's endpoints. It is safe for concurrent use.
type API struct {
	traceapi.API
	opts Options
}

// New returns an API on a base that the trace APIs share.
func New(base *traceapi.Base, o Options) *API {
	return &API{traceapi.API{Base: base, Name: "zipkin", WriteError: writeError}, o}
}

// Routes returns the endpoints, to be registered at the root and below a prefix.
func (a *API) Routes() []traceapi.Route {
	const get = http.MethodGet
	config := a.Plain(get, "/config.json", "settings of Zipkin's page", a.config)
	config.OnlyPrefixed = true // where the page looks for it: /zipkin/config.json
	return []traceapi.Route{
		a.Read(get, "/api/v2/services", "services", a.services),
		a.Read(get, "/api/v2/spans", "names of a service's spans", a.spanNames),
		a.Read(get, "/api/v2/remoteServices", "services that a service calls", a.remoteServices),
		a.Read(get, "/api/v2/traces", "traces that are searched for", a.traces),
		a.Read(get, "/api/v2/trace/{id}", "a trace", a.trace),
		a.Read(get, "/api/v2/traceMany", "several traces", a.traceMany),
		a.Delegate(get, "/api/v2/dependencies", "edges of the service graph", a.dependencies),
		a.Plain(get, "/api/v2/autocompleteKeys", "tags whose values are suggested", a.autocompleteKeys),
		a.Read(get, "/api/v2/autocompleteValues", "values of such a tag", a.autocompleteValues),
		config,
	}
}

// writeError answers in plain text, as Zipkin does.
func writeError(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, err.Error()) // the client is gone
}

func respond(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	traceapi.WriteJSON(w, b)
	return nil
}

// config answers with what zipkin-lens starts from.
func (a *API) config(w http.ResponseWriter, _ *http.Request) error {
	type dependency struct {
		Enabled       bool    `json:"enabled"`
		LowErrorRate  float64 `json:"lowErrorRate"`
		HighErrorRate float64 `json:"highErrorRate"`
	}
	w.Header().Set("Cache-Control", "max-age=600")
	return respond(w, struct {
		Environment     string     `json:"environment"`
		QueryLimit      int        `json:"queryLimit"`
		DefaultLookback int64      `json:"defaultLookback"`
		SearchEnabled   bool       `json:"searchEnabled"`
		Dependency      dependency `json:"dependency"`
	}{"", defaultLimit, (15 * time.Minute).Milliseconds(), true, dependency{true, 0.5, 0.75}})
}

// values answers with the distinct values of an attribute, as text.
func (a *API) values(w http.ResponseWriter, r *http.Request, req traceql.TagsRequest) ([]string, error) {
	req.Tenant = traceapi.Tenant(r)
	found, err := a.Querier().TagValues(r.Context(), req)
	if err != nil {
		return nil, err
	}
	traceapi.NotePartial(w, found.Stats.Partial)
	names := make([]string, 0, len(found.Values))
	for _, v := range found.Values {
		names = append(names, v.Value())
	}
	return names, nil
}

// respondNames answers with names, sorted and each once.
func respondNames(w http.ResponseWriter, names []string) error {
	slices.Sort(names)
	return respond(w, slices.Compact(names))
}

func (a *API) services(w http.ResponseWriter, r *http.Request) error {
	names, err := a.values(w, r, traceql.TagsRequest{Name: "resource.service.name"})
	if err != nil {
		return err
	}
	return respondNames(w, names)
}

// required returns a parameter that must be there.
func required(q url.Values, name string) (string, error) {
	v := q.Get(name)
	if v == "" {
		return "", traceapi.BadRequest("missing required param: %s", name)
	}
	return v, nil
}

func (a *API) spanNames(w http.ResponseWriter, r *http.Request) error {
	service, err := required(r.URL.Query(), "serviceName")
	if err != nil {
		return err
	}
	ops, stats, err := a.Querier().Operations(r.Context(), traceql.OperationsRequest{
		Tenant: traceapi.Tenant(r), Service: service, Kind: -1,
	})
	if err != nil {
		return err
	}
	traceapi.NotePartial(w, stats.Partial)
	names := make([]string, 0, len(ops))
	for _, o := range ops {
		if o.Name != "" {
			names = append(names, o.Name)
		}
	}
	return respondNames(w, names)
}

func (a *API) remoteServices(w http.ResponseWriter, r *http.Request) error {
	service, err := required(r.URL.Query(), "serviceName")
	if err != nil {
		return err
	}
	all := []string{}
	for _, key := range remoteServiceKeys {
		names, err := a.values(w, r, traceql.TagsRequest{
			Name:  traceapi.Attribute(traceql.ScopeSpan, key),
			Query: traceapi.AllOf("resource.service.name = " + traceapi.Quote(service)),
		})
		if err != nil {
			return err
		}
		all = append(all, names...)
	}
	return respondNames(w, all)
}

// appendTrace appends a trace as an array of spans; nothing if it is not there.
func (a *API) appendTrace(r *http.Request, dst []byte, req traceql.TraceRequest, spans *signal.Spans) ([]byte, traceql.Stats, error) {
	spans.Reset()
	req.Tenant = traceapi.Tenant(r)
	stats, err := a.Querier().Trace(r.Context(), req, spans)
	if err != nil || spans.Len() == 0 {
		return dst, stats, err
	}
	return appendSpans(dst, spans), stats, nil
}

func (a *API) traces(w http.ResponseWriter, r *http.Request) error {
	req, err := a.searchRequest(r.URL.Query())
	if err != nil {
		return err
	}
	req.Tenant = traceapi.Tenant(r)
	found, err := a.Querier().Search(r.Context(), req)
	if err != nil {
		return err
	}
	partial := found.Stats.Partial
	list := newList()
	var spans signal.Spans
	for i := range found.Traces {
		t := &found.Traces[i]
		if err := list.add(a, r, traceql.TraceRequest{ID: t.ID, Start: t.Start, End: t.Start + t.Duration}, &spans, &partial); err != nil {
			return err
		}
	}
	traceapi.NotePartial(w, partial)
	traceapi.WriteJSON(w, list.end())
	return nil
}

// list is an array of traces.
type list struct{ body []byte }

func newList() *list { return &list{[]byte{'['}} }

// add appends a trace if it is there.
func (l *list) add(a *API, r *http.Request, req traceql.TraceRequest, spans *signal.Spans, partial *string) error {
	at := len(l.body)
	if at > 1 {
		l.body = append(l.body, ',')
	}
	before := len(l.body)
	body, stats, err := a.appendTrace(r, l.body, req, spans)
	if err != nil {
		return err
	}
	if *partial == "" {
		*partial = stats.Partial
	}
	if len(body) == before {
		body = body[:at]
	}
	l.body = body
	return nil
}

func (l *list) end() []byte { return append(l.body, ']') }

func (a *API) trace(w http.ResponseWriter, r *http.Request) error {
	text := strings.TrimSpace(r.PathValue("id"))
	id, err := parseTraceID(text)
	if err != nil {
		return err
	}
	var spans signal.Spans
	body, stats, err := a.appendTrace(r, nil, traceql.TraceRequest{ID: id}, &spans)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return traceapi.NotFound("%s not found", traceIDText(id))
	}
	traceapi.NotePartial(w, stats.Partial)
	traceapi.WriteJSON(w, body)
	return nil
}

func (a *API) traceMany(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("traceIds")
	if text == "" {
		return traceapi.BadRequest("traceIds parameter is empty")
	}
	parts := strings.Split(text, ",")
	if len(parts) > maxTraceIDs {
		return traceapi.BadRequest("traceIds parameter has %d ids, want at most %d", len(parts), maxTraceIDs)
	}
	ids := make([]signal.TraceID, 0, len(parts))
	seen := make(map[signal.TraceID]bool, len(parts))
	for _, part := range parts {
		id, err := parseTraceID(part)
		if err != nil {
			return err
		}
		if seen[id] {
			return traceapi.BadRequest("redundant traceId: %s", part)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	if len(ids) == 1 {
		return traceapi.BadRequest("Use /api/v2/trace/{traceId} endpoint to retrieve a single trace")
	}
	var partial string
	list := newList()
	var spans signal.Spans
	for _, id := range ids {
		if err := list.add(a, r, traceql.TraceRequest{ID: id}, &spans, &partial); err != nil {
			return err
		}
	}
	traceapi.NotePartial(w, partial)
	traceapi.WriteJSON(w, list.end())
	return nil
}

// link is an edge as Zipkin's page wants it.
type link struct {
	Parent     string `json:"parent"`
	Child      string `json:"child"`
	CallCount  int64  `json:"callCount"`
	ErrorCount int64  `json:"errorCount,omitempty"`
}

func (a *API) dependencies(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if _, err := required(q, "endTs"); err != nil {
		return err
	}
	start, end, err := a.timeRange(q)
	if err != nil {
		return err
	}
	edges, err := a.Dependencies().Edges(r.Context(), traceapi.Tenant(r), start, end)
	if err != nil {
		return err
	}
	links := make([]link, 0, len(edges))
	for _, e := range edges {
		links = append(links, link{e.Parent, e.Child, e.Calls, e.Errors})
	}
	return respond(w, links)
}

func (a *API) autocompleteKeys(w http.ResponseWriter, _ *http.Request) error {
	return respond(w, append([]string{}, a.opts.AutocompleteKeys...))
}

func (a *API) autocompleteValues(w http.ResponseWriter, r *http.Request) error {
	key, err := required(r.URL.Query(), "key")
	if err != nil {
		return err
	}
	names := []string{}
	if slices.Contains(a.opts.AutocompleteKeys, key) {
		if names, err = a.values(w, r, traceql.TagsRequest{Name: traceapi.Attribute(traceql.ScopeNone, key)}); err != nil {
			return err
		}
	}
	return respondNames(w, names)
}

// parseTraceID reads an id as Zipkin's server does.
func parseTraceID(text string) (signal.TraceID, error) {
	switch {
	case text == "":
		return signal.TraceID{}, traceapi.BadRequest("traceId is empty")
	case len(text) > 32:
		return signal.TraceID{}, traceapi.BadRequest("traceId.length > 32")
	}
	id, err := traceapi.ParseTraceID(text)
	if err != nil {
		return id, traceapi.BadRequest("%s should be lower-hex encoded with no prefix", text)
	}
	return id, nil
}

// timeRange reads endTs and lookback.
func (a *API) timeRange(q url.Values) (start, end int64, err error) {
	end = a.Now().UnixNano()
	if n, ok, err := intParam(q, "endTs", time.Millisecond); err != nil {
		return 0, 0, err
	} else if ok {
		end = n
	}
	lookback := int64(defaultLookback)
	if n, ok, err := intParam(q, "lookback", time.Millisecond); err != nil {
		return 0, 0, err
	} else if ok {
		lookback = n
	}
	if end <= 0 {
		return 0, 0, traceapi.BadRequest("endTs <= 0")
	}
	if lookback <= 0 {
		return 0, 0, traceapi.BadRequest("lookback <= 0")
	}
	return max(end-lookback, 0), end, nil
}

// intParam reads an integer in a unit of time; ok is false if it is absent.
func intParam(q url.Values, name string, unit time.Duration) (nanos int64, ok bool, err error) {
	text := q.Get(name)
	if text == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > (1<<63-1)/int64(unit) || n < -(1<<62)/int64(unit) {
		return 0, false, traceapi.BadRequest("Can't convert '%s' to type 'Long' of param %s", text, name)
	}
	return n * int64(unit), true, nil
}
