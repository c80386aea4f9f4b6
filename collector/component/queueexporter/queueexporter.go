// Package queueexporter is the exporter vedette: a bounded queue on disk, and
// what ships it to a Vedette or to Kafka.
//
// Data is acknowledged to the pipeline when it is in the queue, as durable as
// queue.sync has it. A full queue drops its oldest and says what; see
// collector/forward.
package queueexporter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"

	own "github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/forward"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/internal/tenant"
	"github.com/vedette-io/vedette/internal/vfs"
)

// Config is what an exporter is given. Its settings are not exported, for the
// Collector validates every exported part by itself, and a destination that is
// not used is no fault.
type Config struct{ settings settings }

// settings are where the queue is, whose the data are, and where they go.
type settings struct {
	// Directory is where the queue is kept. Two exporters never share one.
	Directory string `yaml:"directory"`

	// Tenant is whose the data are.
	Tenant string `yaml:"tenant"`

	// Log says when what is appended is durable.
	Log buffer.Config `yaml:"log"`

	// Where the data go.
	forward.Config `yaml:",inline"`
}

// Unmarshal lays what the user wrote over the defaults.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return own.Decode(conf, &c.settings) }

// Validate names every bad key.
func (c *Config) Validate() error {
	s := &c.settings
	var errs []error
	if s.Directory == "" {
		errs = append(errs, errors.New("directory: is empty, want where the queue is kept"))
	}
	if !s.IsSet() {
		errs = append(errs, errors.New("endpoint: is empty, want the URL of a server, or kafka.brokers"))
	}
	if err := tenant.Validate(s.Tenant); err != nil {
		errs = append(errs, fmt.Errorf("tenant: %w", err))
	}
	if err := s.Log.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("log: %w", err))
	}
	return errors.Join(append(errs, s.Config.Validate())...)
}

// NewFactory makes the Collector's factory.
func NewFactory() exporter.Factory {
	s := &shared{queues: make(map[*Config]*queue)}
	return exporter.NewFactory(component.MustNewType("vedette"), defaultConfig,
		exporter.WithMetrics(func(_ context.Context, set exporter.Settings, c component.Config) (exporter.Metrics, error) {
			return s.of(set, c), nil
		}, component.StabilityLevelBeta),
		exporter.WithTraces(func(_ context.Context, set exporter.Settings, c component.Config) (exporter.Traces, error) {
			return s.of(set, c), nil
		}, component.StabilityLevelBeta),
		exporter.WithLogs(func(_ context.Context, set exporter.Settings, c component.Config) (exporter.Logs, error) {
			return s.of(set, c), nil
		}, component.StabilityLevelBeta))
}

func defaultConfig() component.Config {
	return &Config{settings{Directory: "/var/lib/vedette/queue", Tenant: tenant.Default, Log: buffer.DefaultConfig(), Config: forward.DefaultConfig()}}
}

// shared keeps one queue for all the pipelines that an exporter is in.
type shared struct {
	mu     sync.Mutex
	queues map[*Config]*queue // under mu
}

func (s *shared) of(set exporter.Settings, c component.Config) *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	config := c.(*Config)
	q := s.queues[config]
	if q == nil {
		q = &queue{config: &config.settings, log: set.Logger, set: set, forget: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.queues, config)
		}}
		s.queues[config] = q
	}
	return &pipe{queue: q}
}

// pipe is the exporter of one signal.
type pipe struct {
	*queue
	started bool // under mu
}

// Start opens the queue and begins to ship, once for all pipelines.
func (p *pipe) Start(context.Context, component.Host) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		if err := p.open(); err != nil {
			return err
		}
	}
	p.users++
	p.started = true
	return nil
}

// Shutdown ends shipping with the last pipeline that was started; what is not
// acknowledged stays on disk.
func (p *pipe) Shutdown(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started {
		p.started = false
		p.users--
	}
	if p.users > 0 {
		return nil
	}
	p.forget()
	return p.close()
}

// queue is what the exporters of all three signals share.
type queue struct {
	config *settings
	log    *zap.Logger
	set    exporter.Settings
	forget func()

	mu     sync.Mutex
	users  int                           // pipelines that have started it; under mu
	opened atomic.Pointer[forward.Queue] // nil before Start and after Shutdown; written under mu
	cancel context.CancelFunc
	wg     sync.WaitGroup

	telemetry *own.Telemetry
}

func (q *queue) open() error {
	logger, registry := own.Logger(q.log), prometheus.NewRegistry()
	opened, err := forward.OpenQueue(forward.QueueOptions{
		Config: q.config.Queue, Log: q.config.Log, FS: vfs.OS, Dir: q.config.Directory, Formats: own.Formats(), Logger: logger, Registerer: registry,
	})
	if err != nil {
		return err
	}
	f, err := forward.New(forward.Options{Queue: opened, Config: q.config.Config, Logger: logger, Registerer: registry})
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	if q.telemetry, err = own.NewTelemetry(q.set.TelemetrySettings, registry, attribute.String("exporter", q.set.ID.String())); err != nil {
		return errors.Join(err, opened.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	q.opened.Store(opened)
	q.cancel = cancel
	q.wg.Go(func() {
		if err := f.Run(ctx); err != nil && ctx.Err() == nil {
			logger.Error("forwarding has stopped", "error", err)
		}
	})
	return nil
}

func (q *queue) close() error {
	opened := q.opened.Swap(nil)
	if opened == nil {
		return nil
	}
	q.cancel()
	q.wg.Wait()
	return errors.Join(q.telemetry.Close(), opened.Close())
}

// Capabilities says that data is left as it is.
func (q *queue) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

// ConsumeMetrics puts a request into the queue.
func (q *queue) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	payload, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	return q.add(ctx, buffer.FormatOTLPSnappy, payload, err)
}

// ConsumeTraces puts a request into the queue.
func (q *queue) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	payload, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
	return q.add(ctx, buffer.FormatOTLPTracesSnappy, payload, err)
}

// ConsumeLogs puts a request into the queue.
func (q *queue) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	payload, err := plogotlp.NewExportRequestFromLogs(ld).MarshalProto()
	return q.add(ctx, buffer.FormatOTLPLogsSnappy, payload, err)
}

// add appends a request. What can never be taken is not to be tried again.
func (q *queue) add(ctx context.Context, format buffer.Format, payload []byte, err error) error {
	if err != nil {
		return consumererror.NewPermanent(fmt.Errorf("encode OTLP: %w", err))
	}
	opened := q.opened.Load()
	if opened == nil {
		return fmt.Errorf("add to the queue: %w", buffer.ErrClosed)
	}
	err = opened.Add(ctx, q.config.Tenant, format, snappy.Encode(nil, payload))
	if errors.Is(err, buffer.ErrTooLarge) {
		return consumererror.NewPermanent(err)
	}
	return err
}
