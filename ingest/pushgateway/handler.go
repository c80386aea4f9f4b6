package pushgateway

import (
	"errors"
	"net/http"
	"strings"

	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Handler returns the whole API of the Push gateway, on its own paths:
//
//	PUT, POST, DELETE /metrics/job/…, /metrics/job@base64/…
//	GET               /metrics
//	GET               /api/v1/metrics, /api/v1/status
//	PUT               /api/v1/admin/wipe, if enabled
//	GET               /-/healthy, /-/ready
//
// A server that has a /metrics of its own hands over the paths below
// /metrics/job and /metrics/job@base64 and the whole below a prefix, which it
// strips.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/metrics/job", "/metrics/job/", "/metrics/job@base64", "/metrics/job@base64/"} {
		mux.HandleFunc(path, g.serveGroup)
	}
	mux.Handle("GET /metrics", http.HandlerFunc(g.serveExposition))
	mux.HandleFunc("GET /api/v1/metrics", g.serveMetrics)
	mux.HandleFunc("GET /api/v1/status", g.serveStatus)
	if g.cfg.EnableAdminAPI {
		mux.HandleFunc("PUT /api/v1/admin/wipe", g.serveWipe)
	}
	ok := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("OK")) // a client that has gone is no failure
	}
	mux.HandleFunc("GET /-/healthy", ok)
	mux.HandleFunc("GET /-/ready", ok)
	return mux
}

// serveGroup serves one push or deletion.
func (g *Gateway) serveGroup(w http.ResponseWriter, r *http.Request) {
	const allowed = "DELETE, OPTIONS, POST, PUT"
	key, ok, err := g.names.parseGrouping(strings.TrimPrefix(r.URL.Path, "/metrics/"))
	if !ok {
		http.NotFound(w, r)
		g.entry.Answered(http.StatusNotFound)
		return
	}
	switch r.Method {
	case http.MethodPut, http.MethodPost, http.MethodDelete:
	case http.MethodOptions:
		w.Header().Set("Allow", allowed)
		return
	default:
		w.Header().Set("Allow", allowed)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		g.entry.Answered(http.StatusMethodNotAllowed)
		return
	}
	id, tenantErr := tenant.FromRequest(r)
	if tenantErr != nil {
		err = tenantErr
	}
	if r.Method == http.MethodDelete {
		if err == nil {
			err = g.remove(r.Context(), id, key)
		}
		g.answer(w, r, "delete", http.StatusAccepted, err)
		return
	}
	method, code := "push", http.StatusOK
	if r.Method == http.MethodPost {
		method = "add"
	}
	if g.cfg.DisableConsistencyCheck {
		code = http.StatusAccepted
	}
	if err == nil {
		err = g.servePush(w, r, id, key)
	}
	if err == nil {
		g.metrics.lastPush.SetToCurrentTime()
	}
	g.answer(w, r, method, code, err)
}

// servePush reads a body and pushes it.
func (g *Gateway) servePush(w http.ResponseWriter, r *http.Request, tenantID string, key grouping) error {
	pushed, err := g.families(w, r)
	if err != nil {
		return err
	}
	return g.push(r.Context(), tenantID, key, pushed, r.Method == http.MethodPut)
}

// serveWipe deletes all groups of the tenant.
func (g *Gateway) serveWipe(w http.ResponseWriter, r *http.Request) {
	id, err := tenant.FromRequest(r)
	if err == nil {
		err = g.wipe(r.Context(), id)
	}
	g.answer(w, r, "wipe", http.StatusAccepted, err)
}

// answer ends a request that changes groups; code is that of success.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, method string, code int, err error) {
	var (
		request      *RequestError
		inconsistent *InconsistentError
		limit        *LimitError
		partial      *door.PartialError
	)
	count := func(outcome string) { g.metrics.pushes.WithLabelValues(method, outcome).Inc() }
	switch {
	case err == nil:
		count("accepted")
		g.entry.Answered(code)
		w.WriteHeader(code)
		return
	case errors.As(err, &request):
		count("malformed")
	case errors.As(err, &inconsistent):
		count("inconsistent")
	case errors.As(err, &limit):
		count("limit")
	default:
		code = g.entry.Answer(w, r, err)
		if code < http.StatusInternalServerError || code == http.StatusServiceUnavailable {
			count("refused")
		} else {
			count("error")
		}
		if errors.As(err, &partial) {
			err = errors.New("pushed metrics are refused by the store: " + partial.First)
		}
		http.Error(w, err.Error(), code)
		return
	}
	g.entry.Answered(http.StatusBadRequest)
	g.log.Debug("refuse push", "method", method, "remote", r.RemoteAddr, "path", r.URL.Path, "err", err)
	http.Error(w, err.Error(), http.StatusBadRequest)
}
