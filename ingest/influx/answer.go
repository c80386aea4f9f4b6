package influx

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// version of the API, which decides the form of errors.
type version int

const (
	v1 version = 1
	v2 version = 2
)

// answer writes an error in the version's form.
func (v version) answer(w http.ResponseWriter, code int, message string) {
	if v == v1 {
		w.Header().Set("X-Influxdb-Error", oneLine(message))
		writeJSON(w, code, map[string]string{"error": message})
		return
	}
	name := errorCode(code)
	w.Header().Set("X-Platform-Error-Code", name)
	writeJSON(w, code, map[string]string{"code": name, "message": message})
}

// oneLine makes text fit for a header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// errorCode is the name that version 2 gives to an HTTP status.
func errorCode(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusUnsupportedMediaType:
		return "invalid"
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusMethodNotAllowed:
		return "method not allowed"
	case http.StatusRequestEntityTooLarge:
		return "request too large"
	case http.StatusTooManyRequests:
		return "too many requests"
	case http.StatusServiceUnavailable:
		return "unavailable"
	}
	return "internal error"
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client may be gone; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// likeVersion is the version of InfluxDB that the answers resemble; clients
// look at it to know what they may call.
const likeVersion = "1.8.10"

func servePing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Influxdb-Version", likeVersion)
	w.Header().Set("X-Influxdb-Build", "OSS")
	if verbose := r.URL.Query().Get("verbose"); verbose != "" && verbose != "0" && verbose != "false" {
		writeJSON(w, http.StatusOK, map[string]string{"version": likeVersion})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) serveHealth(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, map[string]any{
		"name": "vedette", "message": "ready for writes", "status": "pass", "checks": []any{}, "version": h.version,
	})
}

// queryResult is one statement's answer.
type queryResult struct {
	StatementID int           `json:"statement_id"`
	Series      []querySeries `json:"series,omitempty"`
}

type querySeries struct {
	Name    string     `json:"name"`
	Columns []string   `json:"columns"`
	Values  [][]string `json:"values,omitempty"`
}

// serveQuery answers what clients ask before they write. Databases need not be
// created, so creating one succeeds and does nothing.
func (h *Handler) serveQuery(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		v1.answer(w, http.StatusMethodNotAllowed, fmt.Sprintf("method: got %s, want GET or POST", r.Method))
		return
	}
	const mostBytes = 64 << 10
	r.Body = http.MaxBytesReader(w, r.Body, mostBytes)
	if err := r.ParseForm(); err != nil {
		v1.answer(w, http.StatusBadRequest, "read form: "+err.Error())
		return
	}
	statement := strings.TrimRight(strings.TrimSpace(r.Form.Get("q")), "; ")
	words := strings.Fields(strings.ToUpper(statement))
	var result queryResult
	switch {
	case statement == "":
		v1.answer(w, http.StatusBadRequest, `missing required parameter "q"`)
		return
	case len(words) > 2 && words[0] == "CREATE" && (words[1] == "DATABASE" || words[1] == "RETENTION"):
	case len(words) == 2 && words[0] == "SHOW" && words[1] == "DATABASES":
		values := make([][]string, len(h.cfg.Databases))
		for i, name := range h.cfg.Databases {
			values[i] = []string{name}
		}
		result.Series = []querySeries{{Name: "databases", Columns: []string{"name"}, Values: values}}
	default:
		v1.answer(w, http.StatusBadRequest, "InfluxQL is not spoken here, but for CREATE DATABASE and SHOW DATABASES; query with PromQL")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"results": []queryResult{result}})
}
