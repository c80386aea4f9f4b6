package main

import (
	"net/http"
	"runtime"
	"time"

	"github.com/vedette-io/vedette/query/jaeger"
	"github.com/vedette-io/vedette/query/tempo"
	"github.com/vedette-io/vedette/query/traceapi"
	"github.com/vedette-io/vedette/query/traces"
	"github.com/vedette-io/vedette/query/zipkin"
)

// openTraceQueries opens the engine that answers questions about spans.
func (s *server) openTraceQueries() (err error) {
	s.traces.engine, err = traces.New(traces.Options{
		Store: s.traces.store, Config: s.config.TraceQuery.Engine, Logger: s.logger.With("part", "trace query"), Registerer: s.registry,
	})
	return err
}

// traceEndpoints are the APIs of Tempo, Jaeger and Zipkin: each below a prefix of
// its own, and at the root where nothing else is.
func (s *server) traceEndpoints() []endpoint {
	base := traceapi.New(traceapi.Options{
		Querier: s.traces.engine,
		Dependencies: traceapi.MetricDependencies{
			Engine: s.engine, Queryable: s.queryable(),
			Fallback: traceapi.SampledDependencies{Querier: s.traces.engine},
		},
		Timeout: s.config.TraceQuery.Engine.Timeout,
		Ready:   s.health.ready.Load,
		Build: traceapi.Build{
			Version: s.build.Version, Revision: s.build.Revision, BuildDate: s.build.Time, GoVersion: runtime.Version(),
		},
		Logger: s.logger.With("part", "trace api"), Registerer: s.registry, TracerProvider: s.provider,
	})
	tempoRoutes := tempo.New(base).Routes()
	jaegerRoutes := jaeger.New(base, jaeger.Options{MaxClockSkew: s.config.TraceQuery.MaxClockSkew}).Routes()
	zipkinRoutes := zipkin.New(base, zipkin.Options{AutocompleteKeys: s.config.TraceQuery.ZipkinAutocompleteKeys}).Routes()
	var list []endpoint
	for _, api := range []struct {
		prefix, what string
		routes       []traceapi.Route
	}{
		{"/tempo", "Tempo's API: the URL for Grafana's data source", tempoRoutes},
		{"/jaeger", "Jaeger's query API, for jaeger-ui and Grafana", jaegerRoutes},
		{"/zipkin", "Zipkin's query API, for zipkin-lens and Grafana", zipkinRoutes},
	} {
		mux := http.NewServeMux()
		traceapi.Register(mux, api.prefix, api.routes)
		list = append(list, endpoint{pattern: api.prefix + "/", show: "GET " + api.prefix + "/api/", what: api.what, handler: mux, early: true})
		for _, r := range api.routes {
			if !r.OnlyPrefixed {
				list = append(list, endpoint{pattern: r.Method + " " + r.Path, handler: r.Handler, early: true})
			}
		}
	}
	root := traceapi.TraceAtRoot(tempoRoutes, jaegerRoutes)
	return append(list, endpoint{pattern: root.Method + " " + root.Path, handler: root.Handler, early: true})
}

// TraceQueryConfig bounds questions about spans and says how they are answered.
type TraceQueryConfig struct {
	// The engine.
	Engine traces.Config `yaml:",inline"`

	// MaxClockSkew is how far Jaeger's API moves a span to lie within its parent's
	// time, as Jaeger does; 0 moves none and says in a warning what it would have done.
	MaxClockSkew time.Duration `yaml:"max_clock_skew"`

	// ZipkinAutocompleteKeys are tags whose values Zipkin's page suggests.
	ZipkinAutocompleteKeys []string `yaml:"zipkin_autocomplete_keys"`
}

// Validate names every bad key.
func (c *TraceQueryConfig) Validate() error { return c.Engine.Validate() }
