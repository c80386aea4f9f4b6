package influx

import (
	"net/http"
	"strings"
)

// Bearer lets clients of InfluxDB show the bearer token that next wants in the
// ways that they know: "Authorization: Token x", as the password of basic
// authentication, or as the query parameter p beside u. It is put before a
// handler that checks tokens; an Authorization: Bearer stays as it is.
func Bearer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token := credential(r); token != "" {
			r = r.Clone(r.Context())
			r.Header.Set("Authorization", "Bearer "+token)
		}
		next.ServeHTTP(w, r)
	})
}

// credential returns the token that a request shows in InfluxDB's ways. With a
// user and a password in one, as "Token user:password" of 1.8's compatibility
// API, the password is the token.
func credential(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Token") {
		if _, password, ok := strings.Cut(given, ":"); ok {
			return password
		}
		return given
	}
	if scheme == "" {
		return r.URL.Query().Get("p")
	}
	return ""
}
