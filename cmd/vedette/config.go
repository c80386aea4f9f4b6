package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v3"

	"github.com/vedette-io/vedette/collector/forward"
	"github.com/vedette-io/vedette/ingest"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/ingest/influx"
	"github.com/vedette-io/vedette/ingest/otlp"
	"github.com/vedette-io/vedette/ingest/otlpserver"
	"github.com/vedette-io/vedette/ingest/pushgateway"
	"github.com/vedette-io/vedette/ingest/sampling"
	"github.com/vedette-io/vedette/ingest/spanmetrics"
	"github.com/vedette-io/vedette/ingest/statsd"
	"github.com/vedette-io/vedette/internal/config"
	"github.com/vedette-io/vedette/internal/telemetry"
	"github.com/vedette-io/vedette/query/api"
	"github.com/vedette-io/vedette/query/promql"
	"github.com/vedette-io/vedette/query/traces"
	"github.com/vedette-io/vedette/storage/metric"
	"github.com/vedette-io/vedette/storage/trace"
)

// Config is the configuration file. Its defaults are a working server.
type Config struct {
	// DataDir is where everything is stored; --data wins over it.
	DataDir string `yaml:"data_dir"`

	// HTTP is the listener of every API and of /metrics.
	HTTP HTTPConfig `yaml:"http"`

	// Log is Vedette's own log, written to standard error.
	Log telemetry.LogConfig `yaml:"log"`

	// Tracing is about Vedette's own spans, shown at /debug/traces and stored.
	Tracing telemetry.TraceConfig `yaml:"tracing"`

	// Buffer is the durable log between the doors and the store.
	Buffer BufferConfig `yaml:"buffer"`

	// Ingest is the door that metrics and spans come in by.
	Ingest IngestConfig `yaml:"ingest"`

	// OTLP takes metrics and traces of OpenTelemetry SDKs and Collectors in; see otlp.md.
	OTLP OTLPConfig `yaml:"otlp"`

	// Pushgateway takes pushes of batch jobs in, at the HTTP listener; see
	// pushgateway.md.
	Pushgateway PushgatewayConfig `yaml:"pushgateway"`

	// Influx takes InfluxDB line protocol in, at the HTTP listener; see influx.md.
	Influx InfluxConfig `yaml:"influx"`

	// StatsD takes events of StatsD and DogStatsD clients in; see statsd.md. It
	// listens nowhere unless told so.
	StatsD StatsDConfig `yaml:"statsd"`

	// Zipkin takes spans of Zipkin's clients in, at the HTTP listener; see
	// zipkin.md.
	Zipkin SpanDoorConfig `yaml:"zipkin"`

	// Jaeger takes spans of Jaeger's clients and agents in, at the HTTP listener
	// and that of OTLP over gRPC; see jaeger.md.
	Jaeger SpanDoorConfig `yaml:"jaeger"`

	// Sampling says which traces are kept; by default all. See sampling.md.
	Sampling sampling.Config `yaml:"sampling"`

	// SpanMetrics makes series of spans: requests, errors, durations, and the graph
	// of services. See span-metrics.md.
	SpanMetrics spanmetrics.Config `yaml:"span_metrics"`

	// Consumer moves data from the buffer into the store.
	Consumer ingest.ConsumerConfig `yaml:"consumer"`

	// Store keeps metrics in columns.
	Store metric.Config `yaml:"store"`

	// TraceStore keeps spans in columns.
	TraceStore trace.Config `yaml:"trace_store"`

	// Query bounds what queries may use.
	Query promql.Config `yaml:"query"`

	// TraceQuery bounds what questions about spans may use.
	TraceQuery TraceQueryConfig `yaml:"trace_query"`

	// QueryAPI is the Prometheus HTTP API.
	QueryAPI api.Config `yaml:"query_api"`

	// Collect measures the machine that Vedette runs on: host, containers, services
	// seen by eBPF, GPUs.
	Collect CollectConfig `yaml:"collect"`

	// Forward says where `vedette collect` sends everything; see agent.md. `vedette run`
	// does not use it.
	Forward forward.Config `yaml:"forward"`

	// Global holds the defaults of scraping: `global` of the Prometheus
	// configuration, as documented there. Its `external_labels` hold for the query
	// API, too, unless that has its own.
	Global yaml.Node `yaml:"global"`

	// ScrapeConfigs says what is scraped: `scrape_configs` of the Prometheus
	// configuration, as documented there. If the key is absent, Vedette scrapes
	// itself; an empty list scrapes nothing.
	ScrapeConfigs yaml.Node `yaml:"scrape_configs"`

	// ScrapeConfigFiles names files with further `scrape_configs`:
	// `scrape_config_files` of the Prometheus configuration, as documented there.
	ScrapeConfigFiles yaml.Node `yaml:"scrape_config_files"`
}

// HTTPConfig is the listener.
type HTTPConfig struct {
	// Listen is the address of the listener; --listen wins over it. Think of
	// bearer_token before you choose one that other machines reach.
	Listen string `yaml:"listen"`

	// BearerToken is wanted from every client in an Authorization header, but for
	// the paths /-/healthy and /-/ready. Without it everybody who reaches the
	// listener can read and write.
	BearerToken     config.Secret `yaml:"bearer_token"`
	BearerTokenFile string        `yaml:"-"` // that BearerToken was read from, and is read from again
}

// Validate names the keys whose values are not possible.
func (c HTTPConfig) Validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: got %q, want host:port", c.Listen)
	}
	return nil
}

// prometheusKeys are the sections in Prometheus syntax.
var prometheusKeys = []string{"global", "scrape_configs", "scrape_config_files"}

func defaultConfig() Config {
	return Config{
		DataDir:     "data",
		HTTP:        HTTPConfig{Listen: "127.0.0.1:9190"},
		Log:         telemetry.DefaultLogConfig(),
		Tracing:     telemetry.DefaultTraceConfig(),
		Buffer:      defaultBufferConfig(),
		Ingest:      IngestConfig{Config: door.DefaultConfig()},
		OTLP:        OTLPConfig{Server: otlpserver.DefaultConfig(), Translation: otlp.DefaultConfig()},
		Pushgateway: PushgatewayConfig{Config: pushgateway.DefaultConfig()},
		Influx:      InfluxConfig{Config: influx.DefaultConfig()},
		StatsD:      StatsDConfig{Config: statsd.DefaultConfig()},
		Sampling:    sampling.DefaultConfig(),
		SpanMetrics: spanmetrics.DefaultConfig(),
		Consumer:    ingest.DefaultConsumerConfig(),
		Store:       metric.DefaultConfig(),
		TraceStore:  trace.DefaultConfig(),
		Query:       promql.DefaultConfig(),
		TraceQuery:  TraceQueryConfig{Engine: traces.DefaultConfig()},
		QueryAPI:    api.DefaultConfig(),
		Collect:     defaultCollectConfig(),
		Forward:     forward.DefaultConfig(),
	}
}

// loaded is a configuration file that has been checked.
type loaded struct {
	Config
	file       string // its name; empty if there is none
	text       string // of the file; empty if there is none
	prometheus string // its sections in Prometheus syntax
	scrapeSelf bool   // the file does not say what to scrape
	dir        string // that the file's relative names start from

	// agent is the instance under which an agent scrapes itself; empty is a server.
	agent string
}

// loadWithFlags is loadConfig, with what flags say in place of the file; an empty
// flag says nothing.
func loadWithFlags(file, data, listen string) (loaded, error) {
	l, err := loadConfig(file)
	if err != nil {
		return l, err
	}
	if data != "" {
		l.DataDir = data
	}
	if listen != "" {
		l.HTTP.Listen = listen
		err = l.HTTP.Validate()
	}
	return l, err
}

// loadConfig reads and checks a file; without a name it returns the defaults.
func loadConfig(file string) (loaded, error) {
	l := loaded{Config: defaultConfig(), scrapeSelf: true}
	if file == "" {
		return l, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return l, fmt.Errorf("read configuration: %w", err)
	}
	l.file, l.text = file, string(data)
	if err := config.Decode(file, data, &l.Config, config.Options{}); err != nil {
		return l, err
	}
	var faults config.Problems
	bufferSection, bufferErr := l.Buffer.validate()
	for _, s := range []struct {
		key string
		err error
	}{
		{"http", l.HTTP.Validate()},
		{"log", l.Log.Validate()},
		{"tracing", l.Tracing.Validate()},
		{bufferSection, bufferErr},
		{"ingest", l.Ingest.Validate()},
		{"otlp", l.OTLP.Validate()},
		{"pushgateway", l.Pushgateway.Validate()},
		{"influx", l.Influx.Validate()},
		{"statsd", l.StatsD.Validate()},
		{"zipkin", l.Zipkin.Validate()},
		{"jaeger", l.Jaeger.Validate()},
		{"sampling", l.Sampling.Validate()},
		{"span_metrics", l.SpanMetrics.Validate()},
		{"consumer", l.Consumer.Validate()},
		{"store", l.Store.Validate()},
		{"trace_store", l.TraceStore.Validate()},
		{"query", l.Query.Validate()},
		{"trace_query", l.TraceQuery.Validate()},
		{"query_api", l.QueryAPI.Validate()},
		{"collect", l.Collect.Validate()},
		{"forward", l.Forward.Validate()},
	} {
		faults = append(faults, config.Faults(file, data, s.key, s.err)...)
	}
	slices.SortStableFunc(faults, func(a, b config.Problem) int { return cmp.Compare(a.Line, b.Line) })
	err = l.readPrometheusKeys(file, data)
	if len(faults) > 0 {
		return l, errors.Join(faults, err)
	}
	return l, err
}

// readPrometheusKeys hands the sections in Prometheus syntax to Prometheus's
// own decoder.
func (l *loaded) readPrometheusKeys(file string, data []byte) error {
	kept, err := config.Extract(file, data, prometheusKeys...)
	if err != nil {
		return err
	}
	l.prometheus, l.dir = string(kept), filepath.Dir(file)
	l.scrapeSelf = l.ScrapeConfigs.IsZero() && l.ScrapeConfigFiles.IsZero()
	if _, err := l.scrapeConfig(""); err != nil {
		return config.Whose(config.Explain(file, err, promconfig.Config{}), file, data)
	}
	return nil
}

// scrapeConfig returns what is to be scraped. A process that was told nothing
// about it scrapes itself, at address self.
func (l *loaded) scrapeConfig(self string) (*promconfig.Config, error) {
	text := l.prometheus
	if l.scrapeSelf && self != "" {
		target := map[string]any{"targets": []string{self}}
		job := map[string]any{"job_name": "vedette", "scrape_interval": "15s", "static_configs": []any{target}}
		if l.agent != "" { // whose address every other agent has, too
			job["job_name"], target["labels"] = "vedette_agent", map[string]string{"instance": l.agent}
		}
		if token := l.HTTP.BearerToken; token != "" {
			job["authorization"] = map[string]string{"credentials": token.Reveal()}
			if file := l.HTTP.BearerTokenFile; file != "" {
				job["authorization"] = map[string]string{"credentials_file": file}
			}
		}
		jobs, err := yaml.Marshal(map[string]any{"scrape_configs": []any{job}})
		if err != nil {
			return nil, err
		}
		text += "\n" + string(jobs)
	}
	c, err := promconfig.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	c.SetDirectory(l.dir)
	_, err = c.GetScrapeConfigs()
	return c, err
}
