package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/httputil"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/storage/metric"
)

// Catalog tells what a store knows about its series.
type Catalog interface {
	Metadata(tenant, family string, limit int) []metric.FamilyMetadata
	Cardinality(tenant string, limit int) metric.Cardinality
}

// Admin changes a store.
type Admin interface {
	Delete(ctx context.Context, sel metric.Selector) error
	CleanTombstones(ctx context.Context) error
	// Snapshot writes the store's data to dir, which does not exist yet.
	Snapshot(ctx context.Context, dir string) error
}

// Targets tells what is being scraped; *scrape.Manager is one.
type Targets interface {
	v1.TargetRetriever
	v1.ScrapePoolsRetriever
}

// Options are what an API is made of. Engine, Queryable, Catalog and Admin are
// required.
type Options struct {
	Config    Config
	Engine    *promql.Engine
	Queryable *promql.Queryable
	Catalog   Catalog
	Admin     Admin
	Targets   Targets // none are scraped if nil

	Logger         *slog.Logger
	Registerer     prometheus.Registerer
	Gatherer       prometheus.Gatherer
	TracerProvider trace.TracerProvider

	// SnapshotDir is where snapshots go, each in a directory of its own.
	SnapshotDir string
	// ExternalURL is where users reach this server.
	ExternalURL *url.URL
	// ListenAddress is host:port of the listener, to tell targets that are this
	// server.
	ListenAddress string

	Build v1.PrometheusVersion
	Flags map[string]string
	// ConfigYAML returns the running configuration, secrets left out.
	ConfigYAML func() string
	// Retention describes how long data is kept.
	Retention string
	// Reloaded returns whether the last reload succeeded and when it was.
	Reloaded func() (ok bool, at time.Time)
	// Ready says whether the store may be asked yet; always if nil.
	Ready func() bool
}

// API serves the endpoints. It is safe for concurrent use.
type API struct {
	opts     Options
	started  time.Time
	metrics  *metrics
	tracer   trace.Tracer
	external labels.Labels
	attached []labels.Label // to federated series that lack them, see newAttached
	upstream *v1.API
	cors     func(w http.ResponseWriter, r *http.Request)
}

// New returns an API, or an error if the configuration is not valid.
func New(opts Options) (*API, error) {
	if err := opts.Config.Validate(); err != nil {
		return nil, fmt.Errorf("make HTTP API: %w", err)
	}
	setDefaults(&opts)
	origin, err := opts.Config.corsOrigin()
	if err != nil {
		return nil, fmt.Errorf("make HTTP API: %w", err)
	}
	a := &API{
		opts:     opts,
		started:  time.Now(),
		metrics:  newMetrics(opts.Registerer),
		tracer:   opts.TracerProvider.Tracer("github.com/vedette-io/vedette/query/api"),
		external: labels.FromMap(opts.Config.ExternalLabels),
		attached: newAttached(opts.Config.ExternalLabels),
		cors:     func(w http.ResponseWriter, r *http.Request) { httputil.SetCORS(w, origin, r) },
	}
	var reg prometheus.Registerer
	if opts.Registerer != nil {
		reg = prometheus.WrapRegistererWithPrefix("vedette_query_", opts.Registerer)
	}
	registry := features.NewRegistry()
	opts.Engine.Parser().RegisterFeatures(registry)
	registry.Set(features.API, "admin", opts.Config.EnableAdminAPI)
	a.upstream = v1.NewAPI(
		opts.Engine,
		opts.Queryable,
		nil, nil, // writes come in by other doors
		opts.Queryable,
		func(ctx context.Context) v1.ScrapePoolsRetriever { return a.targets(ctx) },
		func(ctx context.Context) v1.TargetRetriever { return a.targets(ctx) },
		func(context.Context) v1.AlertmanagerRetriever { return noAlertmanagers{} },
		a.prometheusConfig,
		opts.Flags,
		v1.GlobalURLOptions{ListenAddress: opts.ListenAddress, Host: opts.ExternalURL.Host, Scheme: opts.ExternalURL.Scheme},
		a.whenReady,
		adminAdapter{opts.Admin},
		opts.SnapshotDir,
		opts.Config.EnableAdminAPI,
		false, 0, // search
		opts.Logger,
		func(context.Context) v1.RulesRetriever { return noRules{} },
		opts.Config.RemoteReadMaxSamples,
		opts.Engine.Config().MaxConcurrent+1, // the gate decides
		opts.Config.RemoteReadMaxFrameBytes,
		false, // agent
		origin,
		a.runtimeInfo,
		&opts.Build,
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		opts.Gatherer,
		reg,
		nil, // stats renderer
		false, remoteapi.MessageTypes{},
		false, false, false, // OTLP
		false,
		opts.Engine.Config().LookbackDelta,
		false,
		false,
		errorCode,
		registry,
		v1.OpenAPIOptions{ExternalURL: opts.ExternalURL.String(), Version: opts.Build.Version},
		opts.Engine.Parser(),
	)
	return a, nil
}

func setDefaults(o *Options) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = noop.NewTracerProvider()
	}
	if o.Targets == nil {
		o.Targets = noTargets{}
	}
	if o.ListenAddress == "" {
		o.ListenAddress = "127.0.0.1:9190"
	}
	if o.ExternalURL == nil {
		o.ExternalURL = &url.URL{Scheme: "http", Host: o.ListenAddress}
	}
	if o.ConfigYAML == nil {
		o.ConfigYAML = func() string { return "" }
	}
	if o.Reloaded == nil {
		started := time.Now()
		o.Reloaded = func() (bool, time.Time) { return true, started }
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Flags == nil {
		o.Flags = map[string]string{}
	}
}

// Handler returns a handler for /api/v1/ and /federate.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	a.Register(mux)
	return mux
}

// Register adds the API's endpoints to mux. A more specific pattern on mux, as
// that of the remote write door at /api/v1/write, goes before them.
func (a *API) Register(mux *http.ServeMux) {
	const prefix = "/api/v1"
	router := route.New().WithInstrumentation(func(path string, next http.HandlerFunc) http.HandlerFunc {
		if own := a.override(path); own != nil {
			next = own
		}
		return a.wrap(prefix+path, reads[path], next)
	})
	a.upstream.Register(router)
	mux.Handle(prefix+"/", http.StripPrefix(prefix, router))
	mux.Handle("GET /federate", a.wrap("/federate", true, a.whenReady(a.federate)))
}

// reads are the routes that read from the store other than through the engine,
// and so must be let in one by one.
var reads = map[string]bool{
	"/query_exemplars":          true,
	"/labels":                   true,
	"/label/:name/values":       true,
	"/series":                   true,
	"/read":                     true,
	"/status/tsdb":              true,
	"/admin/tsdb/delete_series": true,
}

// override returns the handler of a route that is ours, or nil.
func (a *API) override(path string) http.HandlerFunc {
	switch path {
	case "/metadata":
		return a.answer(a.metadata)
	case "/status/tsdb":
		return a.answer(a.cardinality)
	case "/status/config":
		return a.answer(a.config)
	case "/admin/tsdb/snapshot":
		return a.answer(a.snapshot)
	case "/admin/tsdb/clean_tombstones":
		return a.answer(a.cleanTombstones)
	case "/write", "/otlp/v1/metrics", "/notifications", "/notifications/live",
		"/search/metric_names", "/search/label_names", "/search/label_values":
		return http.NotFound
	}
	return nil
}

// targets returns the targets that ctx's tenant may see: scrapes belong to the
// default tenant.
func (a *API) targets(ctx context.Context) Targets {
	if tenant.FromContext(ctx) == tenant.Default {
		return a.opts.Targets
	}
	return noTargets{}
}

func (a *API) prometheusConfig() config.Config {
	return config.Config{GlobalConfig: config.GlobalConfig{ExternalLabels: a.external}}
}

func (a *API) whenReady(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.opts.Ready() {
			w.Header().Set("Retry-After", "1")
			respondError(w, http.StatusServiceUnavailable, "unavailable", fmt.Errorf("the server is starting"))
			return
		}
		next(w, r)
	}
}

type noTargets struct{}

func (noTargets) TargetsActive() map[string][]*scrape.Target  { return nil }
func (noTargets) TargetsDropped() map[string][]*scrape.Target { return nil }
func (noTargets) TargetsDroppedCounts() map[string]int        { return map[string]int{} }
func (noTargets) ScrapePools() []string                       { return []string{} }
func (noTargets) ScrapePoolConfig(pool string) (*config.ScrapeConfig, error) {
	return nil, fmt.Errorf("scrape pool %q does not exist", pool)
}

type noAlertmanagers struct{}

func (noAlertmanagers) Alertmanagers() []*url.URL        { return nil }
func (noAlertmanagers) DroppedAlertmanagers() []*url.URL { return nil }

type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }
