package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// The paths that Handler serves.
const (
	Path         = "/api/v1/profile"
	PathServices = "/api/v1/profile/services"
)

// envelope is the form of every answer in JSON.
type envelope struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// graph is the answer to format=json.
type graph struct {
	Unit    string  `json:"unit"`
	Samples uint64  `json:"samples"`
	From    *string `json:"from,omitempty"`
	To      *string `json:"to,omitempty"`
	Graph   *Node   `json:"flamegraph"`
}

// apiError is an error with its status and type.
type apiError struct {
	code int
	kind string
	err  error
}

func (e *apiError) Error() string { return e.err.Error() }

func badData(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "bad_data", fmt.Errorf(format, args...)}
}

// Handler serves the profiles:
//
//	GET /api/v1/profile?service=&from=&to=&per_process=&format=folded|pprof|json
//	GET /api/v1/profile/services?from=&to=
func (f *Feature) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, f.answer(f.serveProfile))
	mux.HandleFunc("GET "+PathServices, f.answer(f.serveServices))
	return mux
}

// answer serves what serve makes, as a whole or as an error.
func (f *Feature) answer(serve func(w *bytes.Buffer, r *http.Request, q Query) (contentType string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		contentType, err := func() (string, error) {
			q, err := parseQuery(r)
			if err != nil {
				return "", err
			}
			if !f.loaded() {
				return "", &apiError{http.StatusServiceUnavailable, "unavailable", errNotLoaded}
			}
			return serve(&b, r, q)
		}()
		if err != nil {
			e := &apiError{http.StatusInternalServerError, "internal", err}
			errors.As(err, &e)
			b.Reset()
			contentType = "application/json"
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(e.code)
			_ = json.NewEncoder(w).Encode(envelope{Status: "error", ErrorType: e.kind, Error: e.err.Error()})
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(b.Bytes()) // the client is gone
	}
}

func (f *Feature) serveProfile(w *bytes.Buffer, r *http.Request, q Query) (string, error) {
	switch format := r.FormValue("format"); format {
	case "folded", "":
		return "text/plain; charset=utf-8", f.Folded(w, q)
	case "pprof":
		return "application/octet-stream", f.Pprof(w, q)
	case "json":
		v, err := f.ask(q)
		if err != nil {
			return "", err
		}
		t := v.tree(q.PerProcess)
		g := graph{Unit: "nanoseconds", Samples: t.total, Graph: t.render(int64(f.period()))}
		if !v.from.IsZero() {
			from, to := v.from.UTC().Format(time.RFC3339), v.to.UTC().Format(time.RFC3339)
			g.From, g.To = &from, &to
		}
		return "application/json", json.NewEncoder(w).Encode(envelope{Status: "success", Data: g})
	default:
		return "", badData("format: got %q, want folded, pprof or json", format)
	}
}

func (f *Feature) serveServices(w *bytes.Buffer, _ *http.Request, q Query) (string, error) {
	all, err := f.Services(q)
	if err != nil {
		return "", err
	}
	return "application/json", json.NewEncoder(w).Encode(envelope{Status: "success", Data: all})
}

func parseQuery(r *http.Request) (q Query, err error) {
	q.Service = r.FormValue("service")
	if q.From, err = parseTime("from", r.FormValue("from")); err != nil {
		return q, err
	}
	if q.To, err = parseTime("to", r.FormValue("to")); err != nil {
		return q, err
	}
	if !q.To.IsZero() && !q.From.IsZero() && !q.To.After(q.From) {
		return q, badData("to: got %s, want a time after from", q.To.Format(time.RFC3339))
	}
	if v := r.FormValue("per_process"); v != "" {
		if q.PerProcess, err = strconv.ParseBool(v); err != nil {
			return q, badData("per_process: got %q, want true or false", v)
		}
	}
	return q, nil
}

// parseTime reads seconds since 1970 or RFC 3339, as the other APIs do.
func parseTime(name, v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(s) < 1<<33 {
		whole, part := math.Modf(s)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return t, badData("%s: got %q, want seconds since 1970 or a time of RFC 3339", name, v)
	}
	return t, nil
}
