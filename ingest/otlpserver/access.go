package otlpserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/vedette-io/vedette/internal/config"
)

// gate says who may come in, and when.
type gate struct {
	ready func() bool
	token *config.LiveSecret // nil wants none
}

func newGate(ready func() bool, token *config.LiveSecret) gate {
	g := gate{ready: ready}
	if token.IsSet() {
		g.token = token
	}
	return g
}

// check returns why a request may not come in. Digests are compared, so that
// time says nothing about the token's length or bytes.
func (g *gate) check(h http.Header) error {
	if g.token != nil {
		scheme, given, _ := strings.Cut(h.Get("Authorization"), " ")
		got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(g.token.Reveal()))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return refuse(http.StatusUnauthorized, codes.Unauthenticated, "unauthorized: want the bearer token of this server")
		}
	}
	if !g.isReady() {
		return &requestError{
			http: http.StatusServiceUnavailable, grpc: codes.Unavailable, retryAfter: time.Second,
			text: "the buffer is being replayed, or the server is stopping",
		}
	}
	return nil
}

func (g *gate) isReady() bool { return g.ready == nil || g.ready() }

// withOrigins lets pages of some origins use next from a browser. Whether a
// browser may ask says nothing about whether it gets in, so this comes before
// the token.
func withOrigins(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" || !slices.Contains(origins, "*") && !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Retry-After")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", http.MethodPost)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, User-Agent, X-Scope-OrgID")
		h.Set("Access-Control-Max-Age", "7200")
		w.WriteHeader(http.StatusNoContent)
	})
}
