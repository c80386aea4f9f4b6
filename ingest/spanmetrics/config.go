package spanmetrics

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Conventions of names.
const (
	NamesGrafana       = "grafana"
	NamesOpenTelemetry = "opentelemetry"
)

// Kinds of histograms.
const (
	HistogramsClassic = "classic"
	HistogramsNative  = "native"
)

// Config configures a Generator.
type Config struct {
	// Enabled says whether spans are counted at all.
	Enabled bool `yaml:"enabled"`

	// Interval is the time between two samples of a series.
	Interval time.Duration `yaml:"interval"`

	// Names is the convention of metric and label names: grafana
	// (traces_spanmetrics_calls_total, traces_spanmetrics_latency, service), which
	// Grafana's service graph view asks for, or opentelemetry
	// (traces_span_metrics_calls_total, traces_span_metrics_duration_seconds,
	// service_name), the Collector's. The service graph's names are the same in both.
	Names string `yaml:"names"`

	// Histograms is what durations become: classic (with buckets) or native.
	Histograms string `yaml:"histograms"`

	// Buckets are the upper bounds of histograms: classic, in seconds.
	Buckets []float64 `yaml:"buckets"`

	// Dimensions are attributes, of the span or else of its resource, that become
	// labels besides service, span_name, span_kind and status_code.
	Dimensions []string `yaml:"dimensions"`

	// MaxSeries is how many label sets are kept for each tenant, those of the service
	// graph counted on their own. Spans of further ones are counted together in one
	// with otel_metric_overflow="true".
	MaxSeries int `yaml:"max_series"`

	// TTL is how long a series may be without spans before it ends. 0 is for ever.
	TTL time.Duration `yaml:"ttl"`

	// MaxAge is how far the end of a span may lie from now. Spans beyond it, such as
	// those of imported traces, are not counted.
	MaxAge time.Duration `yaml:"max_age"`

	// ServiceGraph configures the graph of services.
	ServiceGraph GraphConfig `yaml:"service_graph"`
}

// GraphConfig configures the graph of which service calls which.
type GraphConfig struct {
	// Enabled says whether edges are counted.
	Enabled bool `yaml:"enabled"`

	// Wait is how long a span waits for the other side of its edge.
	Wait time.Duration `yaml:"wait"`

	// MaxPending is how many spans wait at once, for each partition and tenant; the
	// oldest ones give way.
	MaxPending int `yaml:"max_pending"`

	// PeerAttributes are the attributes of a client's span that name a service that
	// sends no spans, in order of preference.
	PeerAttributes []string `yaml:"peer_attributes"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Enabled:    true,
		Interval:   15 * time.Second,
		Names:      NamesGrafana,
		Histograms: HistogramsClassic,
		Buckets:    []float64{.002, .004, .006, .008, .01, .05, .1, .2, .4, .8, 1, 1.4, 2, 5, 10, 15},
		MaxSeries:  10_000,
		TTL:        15 * time.Minute,
		MaxAge:     5 * time.Minute,
		ServiceGraph: GraphConfig{
			Enabled:    true,
			Wait:       10 * time.Second,
			MaxPending: 50_000,
			PeerAttributes: []string{
				"peer.service", "db.name", "db.system", "db.system.name", "rpc.service", "server.address", "net.peer.name",
			},
		},
	}
}

const (
	maxDimensions = 16
	maxBuckets    = 200
)

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Interval >= 100*time.Millisecond, "interval: got %s, want at least 100ms", c.Interval)
	bad(c.Names == NamesGrafana || c.Names == NamesOpenTelemetry, "names: got %q, want grafana or opentelemetry", c.Names)
	bad(c.Histograms == HistogramsClassic || c.Histograms == HistogramsNative, "histograms: got %q, want classic or native", c.Histograms)
	bad(c.Histograms != HistogramsClassic || len(c.Buckets) > 0 && len(c.Buckets) <= maxBuckets, "buckets: got %d, want 1 to %d", len(c.Buckets), maxBuckets)
	for i, b := range c.Buckets {
		bad(b > 0 && b < math.MaxInt64/1e9 && (i == 0 || b > c.Buckets[i-1]), "buckets: got %g at position %d, want rising positive numbers", b, i)
	}
	bad(len(c.Dimensions) <= maxDimensions, "dimensions: got %d, want at most %d", len(c.Dimensions), maxDimensions)
	taken := conventionOf(c.Names).labels()
	for _, d := range c.Dimensions {
		name := labelName(d)
		bad(d != "" && !slices.Contains(taken, name), "dimensions: got %q, want a name whose label %q is not taken", d, name)
		taken = append(taken, name)
	}
	bad(c.MaxSeries > 0 && c.MaxSeries <= math.MaxInt32, "max_series: got %d, want 1 to %d", c.MaxSeries, math.MaxInt32)
	bad(c.TTL == 0 || c.TTL >= c.Interval, "ttl: got %s, want 0 or at least the interval", c.TTL)
	bad(c.MaxAge > 0, "max_age: got %s, want more than 0", c.MaxAge)
	g := c.ServiceGraph
	bad(g.Wait > 0, "service_graph.wait: got %s, want more than 0", g.Wait)
	bad(g.MaxPending > 0 && g.MaxPending <= 1<<24, "service_graph.max_pending: got %d, want 1 to %d", g.MaxPending, 1<<24)
	bad(len(g.PeerAttributes) <= maxDimensions, "service_graph.peer_attributes: got %d, want at most %d", len(g.PeerAttributes), maxDimensions)
	for i, a := range g.PeerAttributes {
		bad(a != "" && !slices.Contains(g.PeerAttributes[:i], a), "service_graph.peer_attributes: got %q at position %d, want names that differ", a, i)
	}
	return errors.Join(errs...)
}
