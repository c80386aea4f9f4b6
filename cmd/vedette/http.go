package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vedette-io/vedette/internal/config"
)

// endpoint is something the listener serves. The table of endpoints makes the
// routes, the lines that are printed at the start, and the index page.
type endpoint struct {
	pattern string // of http.ServeMux
	show    string // how people see the pattern; empty keeps it off the lists
	what    string
	handler http.Handler
	early   bool                            // answers before the server is ready
	open    bool                            // wants no token
	wrap    func(http.Handler) http.Handler // goes around everything else, or nil
}

// health answers the questions whether the server lives and whether it is ready.
type health struct{ ready atomic.Bool }

func (h *health) endpoints() []endpoint {
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) })
	}
	return []endpoint{
		{pattern: "/-/healthy", show: "GET /-/healthy", what: "200 while the process lives", handler: text("Vedette is Healthy.\n"), early: true, open: true},
		// Behind the readiness of all endpoints that are not early.
		{pattern: "/-/ready", show: "GET /-/ready", what: "200 once the buffer has been replayed", handler: text("Vedette is Ready.\n"), open: true},
	}
}

// whenReady answers 503 until the server is ready.
func (h *health) whenReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.ready.Load() {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "Service Unavailable: the buffer is being replayed, or the server is stopping", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// debugEndpoints are the profiles of package pprof.
func debugEndpoints() []endpoint {
	return []endpoint{
		{pattern: "/debug/pprof/", show: "GET /debug/pprof/", what: "profiles of the Go runtime", handler: http.HandlerFunc(pprof.Index), early: true},
		{pattern: "/debug/pprof/cmdline", handler: http.HandlerFunc(pprof.Cmdline), early: true},
		{pattern: "/debug/pprof/profile", handler: http.HandlerFunc(pprof.Profile), early: true},
		{pattern: "/debug/pprof/symbol", handler: http.HandlerFunc(pprof.Symbol), early: true},
		{pattern: "/debug/pprof/trace", handler: http.HandlerFunc(pprof.Trace), early: true},
	}
}

// newMux routes to the endpoints and serves a list of them at /.
func newMux(endpoints []endpoint, h *health, token *config.LiveSecret) *http.ServeMux {
	mux := http.NewServeMux()
	for _, e := range endpoints {
		handler := e.handler
		if !e.early {
			handler = h.whenReady(handler)
		}
		if !e.open && token.IsSet() {
			handler = withToken(token, handler)
		}
		if e.wrap != nil {
			handler = e.wrap(handler)
		}
		mux.Handle(e.pattern, handler)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "Vedette\n\n"+endpointLines("http://"+r.Host, endpoints))
	})
	return mux
}

// endpointLines is one line for every endpoint that people should know of; base
// stands before paths.
func endpointLines(base string, endpoints []endpoint) string {
	var b strings.Builder
	for _, e := range endpoints {
		if e.show == "" {
			continue
		}
		methods, place, _ := strings.Cut(e.show, " ")
		if strings.HasPrefix(place, "/") {
			place = base + place
		}
		fmt.Fprintf(&b, "%-8s  %-52s  %s\n", methods, place, e.what)
	}
	return b.String()
}

// withToken refuses requests that do not carry the token. Digests are compared,
// so that time says nothing about the token's length or bytes.
func withToken(token *config.LiveSecret, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token.Reveal()))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "Unauthorized: want the bearer token of this server", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// httpPart serves handler on l until its turn to stop: it accepts nothing new,
// gives requests under way the time until stop's context ends, and then cancels
// them.
func httpPart(l net.Listener, handler http.Handler, h *health, logger *slog.Logger) part {
	requests, cancelRequests := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	return part{
		name: "http",
		run: func(context.Context) error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			<-requests.Done()
			return nil
		},
		stop: func(ctx context.Context) error {
			defer cancelRequests()
			h.ready.Store(false)
			if err := srv.Shutdown(ctx); err != nil {
				cancelRequests()
				return srv.Close()
			}
			return nil
		},
	}
}

// selfAddress is where this process reaches its own listener.
func selfAddress(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// isLoopback reports whether only this machine reaches addr.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
