// Package kafkaexporter is the exporter vedette_kafka: OTLP in the topics that
// Vedette reads, by segmentio/kafka-go.
//
//	pdata ─► OTLP ─► a door: checked, divided by series and by trace ─► partitions, acks=all
//
// A request is acknowledged to the pipeline when all its parts are in Kafka. Requests are
// retried and queued by the Collector's own helper, whose sections sending_queue,
// retry_on_failure and timeout are taken as everywhere.
package kafkaexporter

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"

	own "github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/buffer/kafka"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Config is how Kafka is reached, and how requests wait for it.
type Config struct {
	// Tenant is whose the data are.
	Tenant string `yaml:"tenant"`

	// How Kafka is reached. The consumer's keys are not used.
	kafka.Config `yaml:",inline"`

	Timeout exporterhelper.TimeoutConfig                             `yaml:"-"`
	Queue   configoptional.Optional[exporterhelper.QueueBatchConfig] `yaml:"-"`
	Retry   configretry.BackOffConfig                                `yaml:"-"`
}

// helpers are the sections of the Collector's own.
type helpers struct {
	Timeout exporterhelper.TimeoutConfig                             `mapstructure:",squash"`
	Queue   configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`
	Retry   configretry.BackOffConfig                                `mapstructure:"retry_on_failure"`
}

// Unmarshal lays what the user wrote over the defaults.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	theirs, ours := map[string]any{}, map[string]any{}
	for key, value := range conf.ToStringMap() {
		switch key {
		case "timeout", "sending_queue", "retry_on_failure":
			theirs[key] = value
		default:
			ours[key] = value
		}
	}
	h := helpers{c.Timeout, c.Queue, c.Retry}
	if err := confmap.NewFromStringMap(theirs).Unmarshal(&h); err != nil {
		return err
	}
	c.Timeout, c.Queue, c.Retry = h.Timeout, h.Queue, h.Retry
	return own.Decode(confmap.NewFromStringMap(ours), c)
}

// Validate names every bad key.
func (c *Config) Validate() error {
	var err error
	if e := tenant.Validate(c.Tenant); e != nil {
		err = fmt.Errorf("tenant: %w", e)
	}
	return errors.Join(err, c.Config.Validate(), c.Retry.Validate())
}

// NewFactory makes the Collector's factory.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(component.MustNewType("vedette_kafka"), defaultConfig,
		exporter.WithMetrics(newMetrics, component.StabilityLevelBeta),
		exporter.WithTraces(newTraces, component.StabilityLevelBeta),
		exporter.WithLogs(newLogs, component.StabilityLevelBeta))
}

func defaultConfig() component.Config {
	return &Config{
		Tenant: tenant.Default, Config: kafka.DefaultConfig(), Timeout: exporterhelper.NewDefaultTimeoutConfig(),
		Queue: configoptional.Some(exporterhelper.NewDefaultQueueConfig()), Retry: configretry.NewDefaultBackOffConfig(),
	}
}

func (k *producer) options() []exporterhelper.Option {
	return []exporterhelper.Option{
		exporterhelper.WithStart(k.start), exporterhelper.WithShutdown(k.shutdown),
		exporterhelper.WithTimeout(k.config.Timeout), exporterhelper.WithQueue(k.config.Queue), exporterhelper.WithRetry(k.config.Retry),
	}
}

func newMetrics(ctx context.Context, set exporter.Settings, c component.Config) (exporter.Metrics, error) {
	k := &producer{config: c.(*Config), log: set.Logger, set: set, topic: buffer.TopicMetrics}
	return exporterhelper.NewMetrics(ctx, set, c, func(ctx context.Context, md pmetric.Metrics) error {
		payload, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
		return k.write(ctx, buffer.FormatOTLP, payload, err)
	}, k.options()...)
}

func newTraces(ctx context.Context, set exporter.Settings, c component.Config) (exporter.Traces, error) {
	k := &producer{config: c.(*Config), log: set.Logger, set: set, topic: buffer.TopicTraces}
	return exporterhelper.NewTraces(ctx, set, c, func(ctx context.Context, td ptrace.Traces) error {
		payload, err := ptraceotlp.NewExportRequestFromTraces(td).MarshalProto()
		return k.write(ctx, buffer.FormatOTLPTraces, payload, err)
	}, k.options()...)
}

func newLogs(ctx context.Context, set exporter.Settings, c component.Config) (exporter.Logs, error) {
	k := &producer{config: c.(*Config), log: set.Logger, set: set, topic: buffer.TopicLogs}
	return exporterhelper.NewLogs(ctx, set, c, func(ctx context.Context, ld plog.Logs) error {
		payload, err := plogotlp.NewExportRequestFromLogs(ld).MarshalProto()
		return k.write(ctx, buffer.FormatOTLPLogs, payload, err)
	}, k.options()...)
}

// producer writes one signal.
type producer struct {
	config *Config
	log    *zap.Logger
	topic  string

	set exporter.Settings

	buffer    *kafka.Buffer
	door      *door.Door
	entry     *door.Entry
	telemetry *own.Telemetry
}

// start connects; a broker that is away is an error, as it is for others' Kafka
// exporters.
func (k *producer) start(ctx context.Context, _ component.Host) (err error) {
	logger, registry := own.Logger(k.log), prometheus.NewRegistry()
	cfg := k.config.Config
	cfg.Consumer.TailBytes = 0 // nothing is consumed here
	if k.buffer, err = kafka.Open(ctx, cfg, []string{k.topic}, logger, registry); err != nil {
		return err
	}
	k.door, err = door.New(door.Options{
		Buffer: k.buffer, Config: door.DefaultConfig(), Formats: own.Formats(), MaxRecordBytes: int(k.buffer.MaxRecordBytes()), Plain: true,
		Logger: logger, Registerer: registry,
	})
	if err == nil {
		k.entry, err = k.door.Entry("collector", door.EntryConfig{})
	}
	if err == nil {
		k.telemetry, err = own.NewTelemetry(k.set.TelemetrySettings, registry,
			attribute.String("exporter", k.set.ID.String()), attribute.String("signal", strings.TrimPrefix(k.topic, "vedette.")))
	}
	if err != nil {
		return errors.Join(err, k.buffer.Close())
	}
	return nil
}

func (k *producer) shutdown(context.Context) error {
	if k.door == nil {
		return nil
	}
	k.door.Close()
	return errors.Join(k.telemetry.Close(), k.buffer.Close())
}

// write produces a request. What can never be taken is not tried again, and what
// is refused of a request does not hold up the rest.
func (k *producer) write(ctx context.Context, format buffer.Format, payload []byte, err error) error {
	if err != nil {
		return consumererror.NewPermanent(fmt.Errorf("encode OTLP: %w", err))
	}
	_, err = k.entry.Write(ctx, k.config.Tenant, format, payload)
	var partial *door.PartialError
	switch status, retryAfter := door.Status(err); {
	case err == nil:
		return nil
	case errors.As(err, &partial):
		k.log.Warn("a part of a request was refused", zap.Error(err))
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err // whoever has given up tries again
	case status/100 == 4 && status != 429:
		return consumererror.NewPermanent(err)
	case retryAfter > 0:
		return exporterhelper.NewThrottleRetry(err, retryAfter)
	}
	return err
}
