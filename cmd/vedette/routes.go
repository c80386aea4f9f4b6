package main

import (
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/prometheus/prometheus/web/api/v1"
	"go.yaml.in/yaml/v3"

	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/query/api"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/storage/metric"
)

// endpoints is everything the listener serves.
func (s *server) endpoints() ([]endpoint, error) {
	queries, err := s.queryAPI()
	if err != nil {
		return nil, err
	}
	traced := func(name string, h http.Handler) http.Handler { return tracedHandler(s.tracer, name, h) }
	list := []endpoint{
		// The query API says itself that it is not ready, as its clients expect.
		{pattern: "/api/v1/", show: "GET,POST /api/v1/", what: "Prometheus HTTP API: query, query_range, series, labels, …", handler: queries, early: true},
		{pattern: "/api/v1/read", show: "POST /api/v1/read", what: "Prometheus remote read", handler: queries, early: true},
		{pattern: "/federate", show: "GET /federate", what: "Prometheus federation", handler: queries, early: true},
		{pattern: "/metrics", show: "GET /metrics", what: "Vedette's own metrics", handler: telemetry.MetricsHandler(s.registry), early: true},
		{pattern: "/debug/set-aside", show: "GET /debug/set-aside", what: "messages that could not be decoded, as JSON", handler: ingest.ServeSetAside(s.consumer, s.traces.consumer, s.logs.consumer), early: true},
		{pattern: "/debug/traces", show: "GET /debug/traces", what: "Vedette's own newest spans, as JSON", handler: s.ring, early: true},
	}
	return slices.Concat(s.doors.endpoints(traced), list, s.traceEndpoints(), s.agent.endpoints(), debugEndpoints(), s.health.endpoints()), nil
}

// queryable is the store as PromQL reads it.
func (s *server) queryable() *promql.Queryable {
	return promql.NewQueryable(promql.NewStore[*metric.SeriesSet](s.store), s.config.Query.MaxBytes)
}

// queryAPI is the Prometheus HTTP API over the store.
func (s *server) queryAPI() (http.Handler, error) {
	address := selfAddress(s.listener.Addr())
	a, err := api.New(api.Options{
		Config:         s.config.QueryAPI,
		Engine:         s.engine,
		Queryable:      s.queryable(),
		Catalog:        s.store,
		Admin:          snapshotAdmin{s.store, s.traces.store},
		Targets:        s.scraper,
		Logger:         s.logger.With("part", "api"),
		Registerer:     s.registry,
		Gatherer:       s.registry,
		TracerProvider: s.provider,
		SnapshotDir:    s.path(snapshotsDir),
		ExternalURL:    &url.URL{Scheme: "http", Host: address},
		ListenAddress:  address,
		Build: v1.PrometheusVersion{
			Version: s.build.Version, Revision: s.build.Revision, BuildDate: s.build.Time, GoVersion: runtime.Version(),
		},
		Flags:      map[string]string{"data": s.config.DataDir, "listen": s.config.HTTP.Listen},
		ConfigYAML: s.config.redacted,
		Retention:  s.config.Store.Retention.String(),
		Ready:      s.health.ready.Load,
	})
	if err != nil {
		return nil, err
	}
	return a.Handler(), nil
}

// redacted is the running configuration as YAML, its secrets hidden.
func (l *loaded) redacted() string {
	own := l.Config
	own.Global, own.ScrapeConfigs, own.ScrapeConfigFiles = yaml.Node{}, yaml.Node{}, yaml.Node{}
	text, err := yaml.Marshal(own)
	if err != nil {
		return "# " + err.Error()
	}
	var sections map[string]yaml.Node
	if err := yaml.Unmarshal(text, &sections); err != nil {
		return "# " + err.Error()
	}
	var kept strings.Builder
	for _, key := range slices.Sorted(maps.Keys(sections)) {
		if slices.Contains(prometheusKeys, key) {
			continue
		}
		section := sections[key]
		if b, err := yaml.Marshal(map[string]*yaml.Node{key: &section}); err == nil {
			kept.Write(b)
		}
	}
	if c, err := l.scrapeConfig(""); err == nil && l.prometheus != "" {
		kept.WriteString(c.String()) // which hides secrets
	}
	return kept.String()
}
