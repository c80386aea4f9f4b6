package component

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
)

// ownPrefix begins the names of all metrics that Vedette has of itself.
const ownPrefix = "vedette_"

// Telemetry puts a component's own metrics among those of the Collector, whose
// readers then export them as any component's, under their own names and with
// attributes that say which component they are of. Counters and gauges are observed as they
// are, of histograms and summaries the count and the sum.
//
// What a family's type is, and that it exists at all, is known when it has been
// gathered: one that appears later comes with the second reading after that.
type Telemetry struct {
	meter metric.Meter
	from  prometheus.Gatherer
	who   []attribute.KeyValue
	log   *zap.Logger
	fresh chan struct{} // families have come up that have no instrument
	end   chan struct{}
	once  sync.Once // closes end
	wg    sync.WaitGroup

	instruments map[string]metric.Float64Observable // of the goroutine that registers
	registered  metric.Registration
}

// NewTelemetry begins to export what is gathered and named vedette_…, with
// attributes that say whose it is, such as the receiver's id. Close ends it.
func NewTelemetry(set component.TelemetrySettings, from prometheus.Gatherer, who ...attribute.KeyValue) (*Telemetry, error) {
	t := &Telemetry{
		from: from, who: who, log: set.Logger, instruments: map[string]metric.Float64Observable{},
		fresh: make(chan struct{}, 1), end: make(chan struct{}),
	}
	if set.MeterProvider == nil {
		return t, nil
	}
	t.meter = set.MeterProvider.Meter(scopeName)
	if err := t.register(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.wg.Go(t.follow)
	return t, nil
}

// Close ends the export. It may be called of nil, and more than once.
func (t *Telemetry) Close() error {
	if t == nil {
		return nil
	}
	var err error
	t.once.Do(func() {
		close(t.end)
		t.wg.Wait()
		if t.registered != nil {
			err = t.registered.Unregister()
		}
	})
	return err
}

// follow makes instruments for families that come up. It is a goroutine of its own
// since none can be made while they are read.
func (t *Telemetry) follow() {
	for {
		select {
		case <-t.end:
			return
		case <-t.fresh:
			if err := t.register(); err != nil {
				t.log.Warn("export own metrics", zap.Error(err))
			}
		}
	}
}

// register makes the instruments that are missing and observes all.
func (t *Telemetry) register() error {
	families, gatherErr := t.from.Gather()
	all := make(map[string]metric.Float64Observable, len(t.instruments))
	for name, instrument := range t.instruments {
		all[name] = instrument
	}
	if gatherErr != nil { // the rest of the families is there
		t.log.Warn("gather own metrics", zap.Error(gatherErr))
	}
	var errs []error
	for _, f := range families {
		for _, name := range namesOf(f) {
			if all[name] != nil {
				continue
			}
			instrument, err := t.instrument(name, f)
			if err != nil {
				errs = append(errs, fmt.Errorf("export own metric %s: %w", name, err))
				continue
			}
			all[name] = instrument
		}
	}
	if len(all) == len(t.instruments) {
		return errors.Join(errs...)
	}
	if t.registered != nil {
		errs = append(errs, t.registered.Unregister())
	}
	list := make([]metric.Observable, 0, len(all))
	for _, instrument := range all {
		list = append(list, instrument)
	}
	var err error
	t.registered, err = t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error { return t.observe(o, all) }, list...)
	t.instruments = all
	return errors.Join(append(errs, err)...)
}

func (t *Telemetry) instrument(name string, f *dto.MetricFamily) (metric.Float64Observable, error) {
	if f.GetType() == dto.MetricType_GAUGE || f.GetType() == dto.MetricType_UNTYPED {
		return t.meter.Float64ObservableGauge(name, metric.WithDescription(f.GetHelp()))
	}
	return t.meter.Float64ObservableCounter(name, metric.WithDescription(f.GetHelp()))
}

// namesOf returns the names of the instruments of a family; none if it is not one of
// ours.
func namesOf(f *dto.MetricFamily) []string {
	name := f.GetName()
	switch {
	case !strings.HasPrefix(name, ownPrefix):
		return nil
	case f.GetType() == dto.MetricType_HISTOGRAM, f.GetType() == dto.MetricType_SUMMARY:
		return []string{name + "_count", name + "_sum"}
	}
	return []string{name}
}

// observe is called by readers.
func (t *Telemetry) observe(o metric.Observer, instruments map[string]metric.Float64Observable) error {
	families, err := t.from.Gather()
	missing := false
	for _, f := range families {
		names := namesOf(f)
		if len(names) == 0 {
			continue
		}
		for _, m := range f.Metric {
			for i, v := range valuesOf(f.GetType(), m) {
				if instrument := instruments[names[i]]; instrument != nil {
					o.ObserveFloat64(instrument, v, metric.WithAttributeSet(t.attributes(m)))
				} else {
					missing = true
				}
			}
		}
	}
	if missing {
		t.refresh()
	}
	return err
}

// refresh has families looked for that have come up. Readers do it when they see
// one, which they do not before there is any.
func (t *Telemetry) refresh() {
	select {
	case t.fresh <- struct{}{}:
	default:
	}
}

// valuesOf returns the values for namesOf.
func valuesOf(kind dto.MetricType, m *dto.Metric) []float64 {
	switch kind {
	case dto.MetricType_COUNTER:
		return []float64{m.GetCounter().GetValue()}
	case dto.MetricType_GAUGE:
		return []float64{m.GetGauge().GetValue()}
	case dto.MetricType_HISTOGRAM:
		return []float64{float64(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()}
	case dto.MetricType_SUMMARY:
		return []float64{float64(m.GetSummary().GetSampleCount()), m.GetSummary().GetSampleSum()}
	}
	return []float64{m.GetUntyped().GetValue()}
}

func (t *Telemetry) attributes(m *dto.Metric) attribute.Set {
	list := make([]attribute.KeyValue, 0, len(m.Label)+len(t.who))
	list = append(list, t.who...)
	for _, l := range m.Label {
		list = append(list, attribute.String(l.GetName(), l.GetValue()))
	}
	return attribute.NewSet(list...)
}
