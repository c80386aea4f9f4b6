// Package logreceiver is the receiver vedette_log: log files, followed through
// rotation, with checkpoints that survive a restart.
//
// The names of services of containers come from vedette_container's source, which it
// runs itself, unmeasured, if a source is of the format docker or cri.
package logreceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"

	own "github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/container"
	"github.com/vedette-io/vedette/collector/log"
	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/door"
	"github.com/vedette-io/vedette/internal/tenant"
)

// Config is what is read and where its checkpoint is kept.
type Config struct {
	// Directory is where the checkpoint is kept.
	Directory string `yaml:"directory"`

	// What is read.
	log.Config `yaml:",inline"`
}

// Unmarshal lays what the user wrote over the defaults.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return own.Decode(conf, c) }

// Validate names every bad key.
func (c *Config) Validate() error {
	var err error
	if c.Directory == "" {
		err = errors.New("directory: is empty, want where the checkpoint is kept")
	}
	return errors.Join(err, c.Config.Validate())
}

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(component.MustNewType("vedette_log"), defaultConfig,
		receiver.WithLogs(func(_ context.Context, set receiver.Settings, c component.Config, next consumer.Logs) (receiver.Logs, error) {
			return &logs{config: c.(*Config), settings: set, next: next}, nil
		}, component.StabilityLevelBeta))
}

func defaultConfig() component.Config {
	return &Config{Directory: "/var/lib/vedette", Config: log.DefaultConfig()}
}

// logs reads log files into the next consumer. A line is checkpointed when the
// consumer has taken it.
type logs struct {
	config   *Config
	settings receiver.Settings
	next     consumer.Logs
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	telemetry *own.Telemetry
}

// Start opens the checkpoint and begins to read.
func (l *logs) Start(context.Context, component.Host) error {
	if err := os.MkdirAll(l.config.Directory, 0o750); err != nil {
		return fmt.Errorf("make the checkpoint's directory: %w", err)
	}
	logger, registry := own.Logger(l.settings.Logger), prometheus.NewRegistry()
	o := log.Options{
		Config: l.config.Config, Dir: l.config.Directory, Tenant: tenant.Default, Logger: logger,
		Registerer: registry, Write: l.write,
	}
	var names *container.Collector // nil: no source is of containers
	if slices.ContainsFunc(l.config.Sources, func(s log.Source) bool { return s.Format == log.FormatDocker || s.Format == log.FormatCRI }) {
		var err error
		if names, err = container.New(container.DefaultConfig(), logger, registry); err != nil {
			return err
		}
		o.Services = names
	}
	t, err := log.Open(o)
	if err != nil {
		return err
	}
	if l.telemetry, err = own.NewTelemetry(l.settings.TelemetrySettings, registry, attribute.String("receiver", l.settings.ID.String())); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	if names != nil {
		l.wg.Go(func() { _ = names.Run(ctx) }) // which ends with ctx alone
	}
	l.wg.Go(func() {
		if err := t.Run(ctx); err != nil && ctx.Err() == nil {
			logger.Error("reading log files has stopped", "error", err)
		}
	})
	return nil
}

// write hands a request of OTLP on. What the pipeline refuses for good is not
// tried again.
func (l *logs) write(ctx context.Context, _ string, format buffer.Format, payload []byte) error {
	if format == buffer.FormatOTLPLogsSnappy {
		var err error
		if payload, err = snappy.Decode(nil, payload); err != nil {
			return fmt.Errorf("decode log records: %w", err)
		}
	}
	request := plogotlp.NewExportRequest()
	if err := request.UnmarshalProto(payload); err != nil {
		return fmt.Errorf("decode log records: %w", err)
	}
	err := l.next.ConsumeLogs(ctx, request.Logs())
	switch {
	case err == nil:
		return nil
	case consumererror.IsPermanent(err):
		l.settings.Logger.Error("the pipeline refuses lines for good: they are dropped", zap.Error(err))
		return nil
	}
	return &door.OverloadError{What: err.Error(), RetryAfter: time.Second}
}

// Shutdown ends what Start started.
func (l *logs) Shutdown(context.Context) error {
	if l.cancel != nil {
		l.cancel()
		l.wg.Wait()
	}
	return l.telemetry.Close()
}
