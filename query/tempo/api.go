package tempo

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/vedette-io/vedette/query/traceapi"
)

// API serves Tempo's endpoints. It is safe for concurrent use.
type API struct{ traceapi.API }

// New returns an API on a base that the trace APIs share.
func New(base *traceapi.Base) *API {
	return &API{traceapi.API{Base: base, Name: "tempo", WriteError: writeError}}
}

// Routes returns the endpoints, to be registered at the root and below a prefix.
func (a *API) Routes() []traceapi.Route {
	v1 := a.Read(http.MethodGet, "/api/traces/{id}", "a trace, OTLP as JSON or protobuf", a.traceV1)
	v1.OnlyPrefixed = true // Jaeger's at the root, see traceapi.TraceAtRoot
	return []traceapi.Route{
		v1,
		a.Read(http.MethodGet, "/api/v2/traces/{id}", "a trace, with what it cost", a.traceV2),
		a.Read(http.MethodGet, "/api/search", "traces found by TraceQL", a.search),
		a.Read(http.MethodGet, "/api/search/tags", "names of attributes", a.tagsV1),
		a.Read(http.MethodGet, "/api/search/tag/{rest...}", "values of an attribute", a.tagValuesV1),
		a.Read(http.MethodGet, "/api/v2/search/tags", "names of attributes by scope", a.tagsV2),
		a.Read(http.MethodGet, "/api/v2/search/tag/{rest...}", "values of an attribute, with types", a.tagValuesV2),
		a.Read(http.MethodGet, "/api/metrics/query_range", "series computed from spans", a.queryRange),
		a.Read(http.MethodGet, "/api/metrics/query", "values computed from spans", a.query),
		a.Plain(http.MethodGet, "/api/echo", "echo", echo),
		a.Plain(http.MethodGet, "/api/status/buildinfo", "version", a.buildInfo),
		a.Plain(http.MethodGet, "/ready", "200 once traces can be asked for", a.ready),
	}
}

// writeError answers in plain text, as Tempo does.
func writeError(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, err.Error()) // the client is gone
}

func echo(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "echo")
	return nil
}

func (a *API) ready(w http.ResponseWriter, _ *http.Request) error {
	if !a.Ready() {
		return &traceapi.Error{Code: http.StatusServiceUnavailable, Err: fmt.Errorf("the server is starting")}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ready\n")
	return nil
}

func (a *API) buildInfo(w http.ResponseWriter, _ *http.Request) error {
	b := a.Build()
	return writeJSON(w, struct {
		Version   string `json:"version"`
		Revision  string `json:"revision"`
		Branch    string `json:"branch"`
		BuildUser string `json:"buildUser"`
		BuildDate string `json:"buildDate"`
		GoVersion string `json:"goVersion"`
	}{b.Version, b.Revision, b.Branch, b.BuildUser, b.BuildDate, b.GoVersion})
}

// wantsProtobuf reports whether the client asks for protobuf.
func wantsProtobuf(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), contentProtobuf)
}

const contentProtobuf = "application/protobuf"

// message is an answer in both forms.
type message interface {
	// appendProto appends the message as protobuf.
	appendProto(dst []byte) []byte
}

// respond answers with m in the form that the client asks for.
func respond(w http.ResponseWriter, r *http.Request, m message) error {
	if !wantsProtobuf(r) {
		return writeJSON(w, m)
	}
	w.Header().Set("Content-Type", contentProtobuf)
	_, _ = w.Write(m.appendProto(nil))
	return nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	traceapi.WriteJSON(w, b)
	return nil
}
