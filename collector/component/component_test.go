package component

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/goleak"

	"github.com/vedette-io/vedette/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// knobs is a source's configuration.
type knobs struct {
	Depth int `yaml:"depth"`
}

func (k knobs) Validate() error {
	if k.Depth < 1 {
		return errors.New("depth: want 1 or more")
	}
	return nil
}

func kind(open Open[knobs]) Kind[knobs] {
	return Kind[knobs]{Type: "vedette_test", Job: "well", Default: func() knobs { return knobs{3} }, Open: open}
}

func TestConfig(t *testing.T) {
	c := kind(nil).DefaultConfig().(*Config[knobs])
	require.NoError(t, c.Validate())
	require.NoError(t, c.Unmarshal(confmap.NewFromStringMap(map[string]any{"depth": 7, "collection_interval": "20s"})))
	require.Equal(t, &Config[knobs]{CollectionInterval: 20 * time.Second, Source: knobs{7}}, c)
	require.NotEmpty(t, c.InstanceName())

	err := c.Unmarshal(confmap.NewFromStringMap(map[string]any{"dept": 7}))
	var problems config.Problems
	require.ErrorAs(t, err, &problems)
	require.ErrorContains(t, err, "dept: unknown key")

	c.Source.Depth, c.CollectionInterval = 0, 0
	require.ErrorContains(t, c.Validate(), "depth: want")
	require.ErrorContains(t, c.Validate(), "collection_interval: got 0s")
}

// A source's metrics keep their names and labels, cumulative ones begin when the
// receiver did, and what was gathered goes on at once.
func TestReceiver(t *testing.T) {
	closed := make(chan struct{})
	k := kind(func(c knobs, logger *slog.Logger, own prometheus.Registerer) (*Source, error) {
		require.Equal(t, 3, c.Depth)
		counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "buckets_total", Help: "Drawn."}, []string{"who", "not"})
		counter.WithLabelValues("ann", "").Add(5)
		histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "depth_meters", Buckets: []float64{1, 2}})
		for _, v := range []float64{0.5, 0.6, 1.5, 9} {
			histogram.Observe(v)
		}
		summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "rope_meters", Objectives: map[float64]float64{0.5: 0.1}})
		summary.Observe(4)
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "level_meters"})
		gauge.Set(-2)
		own.MustRegister(prometheus.NewUntypedFunc(prometheus.UntypedOpts{Name: "odd"}, func() float64 { return 1 }))
		return &Source{
			Collectors: []prometheus.Collector{counter, histogram, summary, gauge},
			Run:        func(ctx context.Context) error { <-ctx.Done(); return nil },
			Close:      func() error { close(closed); return nil },
		}, nil
	})
	sink := new(consumertest.MetricsSink)
	f := k.Factory()
	r, err := f.CreateMetrics(t.Context(), receivertest.NewNopSettings(f.Type()), f.CreateDefaultConfig(), sink)
	require.NoError(t, err)
	require.NoError(t, r.Shutdown(t.Context()), "never started")
	before := time.Now()
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	require.Eventually(t, func() bool { return len(sink.AllMetrics()) > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, r.Shutdown(t.Context()))
	<-closed
	all := sink.AllMetrics()
	for _, m := range all[len(all)-1].ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
		if m.Name() == "buckets_total" {
			require.True(t, m.Sum().DataPoints().At(0).Flags().NoRecordedValue(), "the series end with the receiver")
		}
	}

	resource := sink.AllMetrics()[0].ResourceMetrics().At(0)
	job, _ := resource.Resource().Attributes().Get("service.name")
	require.Equal(t, "well", job.Str())
	metrics := resource.ScopeMetrics().At(0).Metrics()
	byName := map[string]pmetric.Metric{}
	for _, m := range metrics.All() {
		byName[m.Name()] = m
	}
	require.Len(t, byName, 5+3) // and up, scrape_duration_seconds, scrape_samples_scraped
	sum := byName["buckets_total"].Sum()
	require.True(t, sum.IsMonotonic())
	require.Equal(t, pmetric.AggregationTemporalityCumulative, sum.AggregationTemporality())
	point := sum.DataPoints().At(0)
	require.Equal(t, 5.0, point.DoubleValue())
	require.Equal(t, map[string]any{"who": "ann"}, point.Attributes().AsRaw())
	require.False(t, point.StartTimestamp().AsTime().Before(before.Truncate(0)))
	require.False(t, point.Timestamp().AsTime().Before(point.StartTimestamp().AsTime()))
	buckets := byName["depth_meters"].Histogram().DataPoints().At(0)
	require.Equal(t, []uint64{2, 1, 1}, buckets.BucketCounts().AsRaw())
	require.Equal(t, []float64{1, 2}, buckets.ExplicitBounds().AsRaw())
	require.EqualValues(t, 4, buckets.Count())
	require.InDelta(t, 11.6, buckets.Sum(), 1e-9)
	require.Equal(t, 4.0, byName["rope_meters"].Summary().DataPoints().At(0).QuantileValues().At(0).Value())
	require.Equal(t, -2.0, byName["level_meters"].Gauge().DataPoints().At(0).DoubleValue())
	require.Equal(t, 1.0, byName["odd"].Gauge().DataPoints().At(0).DoubleValue())
	require.Equal(t, "Drawn.", byName["buckets_total"].Description())
}

// What does not open is told, and leaves nothing behind.
func TestReceiverFails(t *testing.T) {
	for _, k := range []Kind[knobs]{
		kind(func(knobs, *slog.Logger, prometheus.Registerer) (*Source, error) { return nil, errors.New("dry") }),
		kind(func(knobs, *slog.Logger, prometheus.Registerer) (*Source, error) {
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "twice"})
			return &Source{Collectors: []prometheus.Collector{g, g}}, nil
		}),
	} {
		f := k.Factory()
		r, err := f.CreateMetrics(t.Context(), receivertest.NewNopSettings(f.Type()), f.CreateDefaultConfig(), new(consumertest.MetricsSink))
		require.NoError(t, err)
		require.Error(t, r.Start(t.Context(), componenttest.NewNopHost()))
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

// A series that is not there any more ends, with the round and with the receiver; an
// upper bound of +Inf is no bound; and what OTLP has no type for leaves the rest alone.
func TestConverter(t *testing.T) {
	family := func(name string, kind dto.MetricType, m ...*dto.Metric) *dto.MetricFamily {
		return &dto.MetricFamily{Name: &name, Type: &kind, Metric: m}
	}
	label := func(v string) []*dto.LabelPair {
		name := "who"
		return []*dto.LabelPair{{Name: &name, Value: &v}}
	}
	ptr := func(v float64) *float64 { return &v }
	count := func(v uint64) *uint64 { return &v }
	counter := func(who string) *dto.Metric {
		return &dto.Metric{Label: label(who), Counter: &dto.Counter{Value: ptr(1)}}
	}
	histogram := &dto.Metric{Histogram: &dto.Histogram{SampleCount: count(3), SampleSum: ptr(4), Bucket: []*dto.Bucket{
		{UpperBound: ptr(1), CumulativeCount: count(2)}, {UpperBound: ptr(2), CumulativeCount: count(1)}, {UpperBound: ptr(math.Inf(1)), CumulativeCount: count(3)},
	}}}
	summary := &dto.Metric{Summary: &dto.Summary{SampleCount: count(1), SampleSum: ptr(1), Quantile: []*dto.Quantile{{Quantile: ptr(0.5), Value: ptr(1)}}}}
	gauge := &dto.Metric{Gauge: &dto.Gauge{Value: ptr(math.NaN())}}
	c := &converter{job: "well", instance: "here", start: time.Unix(1, 0)}
	points := func(families ...*dto.MetricFamily) (out []string) {
		m, _ := c.convert(families, time.Unix(2, 0))
		point := func(name string, at pcommon.Timestamp, attributes pcommon.Map, flags pmetric.DataPointFlags) {
			require.EqualValues(t, 2e9, at)
			if who, ok := attributes.Get("who"); ok {
				name += who.Str()
			}
			if flags.NoRecordedValue() {
				name += " ends"
			}
			out = append(out, name)
		}
		for _, m := range m.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().All() {
			switch m.Type() {
			case pmetric.MetricTypeSum:
				require.True(t, m.Sum().IsMonotonic())
				for _, p := range m.Sum().DataPoints().All() {
					point(m.Name(), p.Timestamp(), p.Attributes(), p.Flags())
				}
			case pmetric.MetricTypeGauge:
				for _, p := range m.Gauge().DataPoints().All() {
					point(m.Name(), p.Timestamp(), p.Attributes(), p.Flags())
				}
			case pmetric.MetricTypeSummary:
				for _, p := range m.Summary().DataPoints().All() {
					point(m.Name(), p.Timestamp(), p.Attributes(), p.Flags())
				}
			case pmetric.MetricTypeHistogram:
				for _, p := range m.Histogram().DataPoints().All() {
					require.Equal(t, []float64{1}, p.ExplicitBounds().AsRaw())
					require.Equal(t, []uint64{2, 1}, p.BucketCounts().AsRaw())
					point(m.Name(), p.Timestamp(), p.Attributes(), p.Flags())
				}
			}
		}
		return out
	}
	require.ElementsMatch(t, []string{"c_a", "c_b", "h", "s", "g"}, points(
		family("c_", dto.MetricType_COUNTER, counter("a"), counter("b")), family("x", dto.MetricType_GAUGE_HISTOGRAM, histogram),
		family("h", dto.MetricType_HISTOGRAM, histogram), family("s", dto.MetricType_SUMMARY, summary), family("g", dto.MetricType_GAUGE, gauge),
	))
	require.ElementsMatch(t, []string{"c_a", "c_b ends", "h ends", "s ends", "g ends"}, points(family("c_", dto.MetricType_COUNTER, counter("a"))))
	require.ElementsMatch(t, []string{"c_a ends"}, points())
	require.Empty(t, points())
}
