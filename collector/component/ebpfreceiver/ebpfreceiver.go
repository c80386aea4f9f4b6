// Package ebpfreceiver is the receiver vedette_ebpf: what services do, seen from
// the kernel, as metrics, and as spans of a share of the requests.
//
// The names of containers and pods come from vedette_container's source, which it
// runs itself, unmeasured. Without the rights for it nothing happens but a message.
package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.opentelemetry.io/collector/receiver"

	own "github.com/vedette-io/vedette/collector/component"
	"github.com/vedette-io/vedette/collector/container"
	"github.com/vedette-io/vedette/ebpf/probe"
)

// config is the probe's.
type config = own.Config[probe.Config]

// NewFactory makes the Collector's factory.
func NewFactory() receiver.Factory {
	s := &shared{watchers: make(map[*config]*watcher)}
	return receiver.NewFactory(component.MustNewType("vedette_ebpf"), own.Kind[probe.Config]{Default: probe.DefaultConfig}.DefaultConfig,
		receiver.WithMetrics(func(_ context.Context, set receiver.Settings, c component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			return s.of(set, c, func(w *watcher) { w.metrics = next }), nil
		}, component.StabilityLevelBeta),
		receiver.WithTraces(func(_ context.Context, set receiver.Settings, c component.Config, next consumer.Traces) (receiver.Traces, error) {
			return s.of(set, c, func(w *watcher) { w.traces = next }), nil
		}, component.StabilityLevelBeta))
}

// shared keeps one probe for the pipelines that a receiver is in.
type shared struct {
	mu       sync.Mutex
	watchers map[*config]*watcher // under mu
}

func (s *shared) of(set receiver.Settings, c component.Config, edit func(*watcher)) *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := c.(*config)
	w := s.watchers[cfg]
	if w == nil {
		w = &watcher{config: cfg, settings: set, forget: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.watchers, cfg)
		}}
		s.watchers[cfg] = w
	}
	edit(w)
	return w
}

// watcher is a probe and where what it sees goes.
type watcher struct {
	config   *config
	settings receiver.Settings
	metrics  consumer.Metrics // nil: in no pipeline of metrics
	traces   consumer.Traces  // nil: in no pipeline of traces
	forget   func()

	mu       sync.Mutex
	receiver *own.Receiver // nil before Start and after Shutdown; under mu
}

// Start starts the probe, once for all pipelines.
func (w *watcher) Start(ctx context.Context, host component.Host) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.receiver != nil {
		return nil
	}
	r := own.Kind[probe.Config]{Job: "ebpf", Open: w.open}.New(w.settings, w.config, w.metrics)
	if err := r.Start(ctx, host); err != nil {
		return err
	}
	w.receiver = r
	return nil
}

// Shutdown detaches the probe when the first pipeline ends: what is behind that one
// may be gone before the others end.
func (w *watcher) Shutdown(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget()
	if w.receiver == nil {
		return nil
	}
	err := w.receiver.Shutdown(ctx)
	w.receiver = nil
	return err
}

func (w *watcher) open(c probe.Config, logger *slog.Logger, registerer prometheus.Registerer) (*own.Source, error) {
	names, err := container.New(container.DefaultConfig(), logger, registerer)
	if err != nil {
		return nil, err
	}
	o := probe.Options{Config: c, Logger: logger, Directory: names}
	if w.traces != nil {
		o.WriteSpans = w.write
	}
	p, err := probe.New(o)
	if err != nil {
		return nil, err
	}
	return &own.Source{Collectors: p.Collectors(), Run: func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var wg sync.WaitGroup
		var failed error
		wg.Go(func() { failed = names.Run(ctx) })
		err := p.Run(ctx)
		cancel()
		wg.Wait()
		return errors.Join(err, failed)
	}}, nil
}

func (w *watcher) write(ctx context.Context, payload []byte) error {
	request := ptraceotlp.NewExportRequest()
	if err := request.UnmarshalProto(payload); err != nil {
		return fmt.Errorf("decode spans: %w", err)
	}
	return w.traces.ConsumeTraces(ctx, request.Traces())
}
