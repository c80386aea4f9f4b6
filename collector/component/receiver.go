package component

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
)

// Source is something that is measured while it is open.
type Source struct {
	Collectors []prometheus.Collector
	Run        func(ctx context.Context) error // until ctx ends; nil: nothing runs
	Close      func() error                    // nil: nothing to release
}

// Open opens a source. What it registers of itself is exported with what it
// measures, and among the Collector's own metrics.
type Open[C Validator] func(config C, logger *slog.Logger, own prometheus.Registerer) (*Source, error)

// Kind is a receiver of metrics.
type Kind[C Validator] struct {
	Type    string // in configuration, such as vedette_host
	Job     string // the label job
	Default func() C
	Open    Open[C]
}

// Factory makes the Collector's factory of a kind.
func (k Kind[C]) Factory() receiver.Factory {
	return receiver.NewFactory(component.MustNewType(k.Type), k.DefaultConfig,
		receiver.WithMetrics(func(_ context.Context, set receiver.Settings, c component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			return k.New(set, c.(*Config[C]), next), nil
		}, component.StabilityLevelBeta))
}

// DefaultConfig is the source's, every 15 seconds.
func (k Kind[C]) DefaultConfig() component.Config {
	return &Config[C]{CollectionInterval: 15 * time.Second, Source: k.Default()}
}

// New returns a receiver that Start starts. next may be nil: then the source
// runs, and nothing is gathered.
func (k Kind[C]) New(set receiver.Settings, c *Config[C], next consumer.Metrics) *Receiver {
	return &Receiver{
		job: k.Job, instance: c.InstanceName(), interval: c.CollectionInterval, next: next, log: set.Logger, settings: set,
		open: func(own prometheus.Registerer) (*Source, error) { return k.Open(c.Source, Logger(set.Logger), own) },
	}
}

// Logger writes into the Collector's log.
func Logger(to *zap.Logger) *slog.Logger { return slog.New(zapslog.NewHandler(to.Core())) }

// Receiver gathers a source.
type Receiver struct {
	job, instance string
	interval      time.Duration
	next          consumer.Metrics
	log           *zap.Logger
	settings      receiver.Settings
	open          func(own prometheus.Registerer) (*Source, error)

	source    *Source
	begun     time.Time
	telemetry *Telemetry
	own       atomic.Pointer[[]*dto.MetricFamily] // the source's own metrics, of the last round
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

// Start opens the source and begins to gather. ctx bounds the start only, as the
// Collector has it.
func (r *Receiver) Start(context.Context, component.Host) error {
	registry := prometheus.NewRegistry()
	source, err := r.open(registry)
	if err != nil {
		return err
	}
	for _, c := range source.Collectors {
		if err := registry.Register(c); err != nil {
			return errors.Join(err, source.close())
		}
	}
	r.telemetry, err = NewTelemetry(r.settings.TelemetrySettings, r.measured(registry), attribute.String("receiver", r.settings.ID.String()))
	if err != nil {
		return errors.Join(err, source.close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.source, r.begun, r.cancel = source, time.Now(), cancel
	if source.Run != nil {
		r.wg.Go(func() {
			if err := source.Run(ctx); err != nil && ctx.Err() == nil {
				r.log.Error("source has stopped", zap.Error(err))
			}
		})
	}
	if r.next != nil {
		c := &converter{job: r.job, instance: r.instance, start: r.begun}
		r.wg.Go(func() { r.gather(ctx, registry, c) })
	}
	return nil
}

// measured is what telemetry reads: what was gathered last, lest everything is
// measured again for the source's own metrics. A source that nothing is gathered of
// is read then.
func (r *Receiver) measured(registry *prometheus.Registry) prometheus.Gatherer {
	if r.next == nil {
		return registry
	}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		if last := r.own.Load(); last != nil {
			return *last, nil
		}
		return nil, nil
	})
}

// keepOwn keeps the source's own metrics for telemetry.
func (r *Receiver) keepOwn(families []*dto.MetricFamily) {
	var own []*dto.MetricFamily
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), ownPrefix) {
			own = append(own, f)
		}
	}
	if r.own.Swap(&own) == nil {
		r.telemetry.refresh()
	}
}

func (s *Source) close() error {
	if s.Close == nil {
		return nil
	}
	return s.Close()
}

// Shutdown ends what Start started.
func (r *Receiver) Shutdown(context.Context) error {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	r.wg.Wait()
	return errors.Join(r.telemetry.Close(), r.source.close())
}

// gather hands on what is measured until ctx ends, and then that its series do.
func (r *Receiver) gather(ctx context.Context, from prometheus.Gatherer, c *converter) {
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		r.round(ctx, from, c)
		select {
		case <-ctx.Done():
			const patience = 5 * time.Second
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			r.hand(ctx, c, nil, time.Now())
			cancel()
			return
		case <-tick.C:
		}
	}
}

// round gathers once. A source that has had nothing so far is not there at all.
func (r *Receiver) round(ctx context.Context, from prometheus.Gatherer, c *converter) {
	at := time.Now()
	families, err := from.Gather()
	took := time.Since(at)
	if err != nil { // the rest of the families is there
		r.log.Warn("gather", zap.Error(err))
	}
	r.keepOwn(families)
	if len(families) == 0 && err == nil && len(c.now) == 0 {
		return
	}
	up, samples := 1.0, 0
	if len(families) == 0 && err != nil {
		up = 0
	}
	for _, f := range families {
		samples += len(f.Metric)
	}
	gauge := func(name, help string, v float64) *dto.MetricFamily {
		kind := dto.MetricType_GAUGE
		return &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &v}}}}
	}
	r.hand(ctx, c, append(families,
		gauge("up", "1 if the job could be gathered.", up),
		gauge("scrape_duration_seconds", "How long gathering took.", took.Seconds()),
		gauge("scrape_samples_scraped", "Metrics that were gathered; a histogram is one.", float64(samples)),
	), at)
}

func (r *Receiver) hand(ctx context.Context, c *converter, families []*dto.MetricFamily, at time.Time) {
	metrics, err := c.convert(families, at)
	if metrics.DataPointCount() > 0 {
		err = errors.Join(err, r.next.ConsumeMetrics(ctx, metrics))
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("hand metrics on", zap.Error(err))
	}
}
