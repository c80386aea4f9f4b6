package component

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// scopeName is the instrumentation scope of what the components measure.
const scopeName = "github.com/vedette-io/vedette/collector"

// stamp is what the points of one gathering have in common.
type stamp struct{ start, at pcommon.Timestamp }

// converter makes OTLP of what is gathered of a job. It is used by one goroutine.
type converter struct {
	job, instance string
	start         time.Time // of cumulative metrics
	before, now   map[string]ending
}

// ending is what it takes to say that a series has ended.
type ending struct {
	name   string
	kind   dto.MetricType
	metric *dto.Metric
}

// convert makes OTLP of families. A series of the round before that is not among
// them ends: it gets a point without a value, as a scrape would mark it stale. A
// family that OTLP has no type for is left out, and told.
func (c *converter) convert(families []*dto.MetricFamily, at time.Time) (pmetric.Metrics, error) {
	c.before, c.now = c.now, make(map[string]ending, len(c.now))
	out := pmetric.NewMetrics()
	resource := out.ResourceMetrics().AppendEmpty()
	attributes := resource.Resource().Attributes()
	attributes.PutStr("service.name", c.job)
	attributes.PutStr("service.instance.id", c.instance)
	attributes.PutStr("host.name", c.instance)
	scope := resource.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(scopeName)
	metrics := scope.Metrics()
	metrics.EnsureCapacity(len(families))
	when := stamp{pcommon.NewTimestampFromTime(c.start), pcommon.NewTimestampFromTime(at)}
	var errs []error
	byName := make(map[string]pmetric.Metric, len(families))
	for _, f := range families {
		m := pmetric.NewMetric()
		m.SetName(f.GetName())
		m.SetDescription(f.GetHelp())
		m.SetUnit(f.GetUnit())
		if err := when.family(m, f); err != nil {
			errs = append(errs, err)
			continue
		}
		to := metrics.AppendEmpty()
		m.MoveTo(to)
		byName[f.GetName()] = to
		for _, one := range f.Metric {
			c.now[seriesKey(f.GetName(), one)] = ending{f.GetName(), f.GetType(), one}
		}
	}
	for key, e := range c.before {
		if _, ok := c.now[key]; ok {
			continue
		}
		m, ok := byName[e.name]
		if !ok {
			m = metrics.AppendEmpty()
			m.SetName(e.name)
			byName[e.name] = m
		}
		when.end(m, e)
	}
	return out, errors.Join(errs...)
}

// seriesKey names a series.
func seriesKey(name string, m *dto.Metric) string {
	var b strings.Builder
	b.WriteString(name)
	for _, l := range m.Label {
		b.WriteByte(0xff)
		b.WriteString(l.GetName())
		b.WriteByte(0xff)
		b.WriteString(l.GetValue())
	}
	return b.String()
}

// end adds a point that says that the series is not there any more.
func (s stamp) end(m pmetric.Metric, e ending) {
	flags := pmetric.DefaultDataPointFlags.WithNoRecordedValue(true)
	number := func(p pmetric.NumberDataPoint) pmetric.NumberDataPoint {
		p.SetTimestamp(s.at)
		p.SetFlags(flags)
		labels(p.Attributes(), e.metric)
		return p
	}
	fresh := m.Type() == pmetric.MetricTypeEmpty
	switch e.kind {
	case dto.MetricType_COUNTER:
		if fresh {
			newSum(m)
		}
		if m.Type() == pmetric.MetricTypeSum {
			number(m.Sum().DataPoints().AppendEmpty()).SetStartTimestamp(s.start)
		}
	case dto.MetricType_SUMMARY:
		if fresh {
			m.SetEmptySummary()
		}
		if m.Type() == pmetric.MetricTypeSummary {
			p := m.Summary().DataPoints().AppendEmpty()
			s.summary(p, e.metric) // its quantiles are series, too
			p.SetTimestamp(s.at)
			p.SetFlags(flags)
		}
	case dto.MetricType_HISTOGRAM:
		if fresh {
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		}
		if m.Type() == pmetric.MetricTypeHistogram {
			p := m.Histogram().DataPoints().AppendEmpty()
			s.histogram(p, e.metric) // its buckets are series, too
			p.SetTimestamp(s.at)
			p.SetFlags(flags)
		}
	default:
		if fresh {
			m.SetEmptyGauge()
		}
		if m.Type() == pmetric.MetricTypeGauge {
			number(m.Gauge().DataPoints().AppendEmpty())
		}
	}
}

func newSum(m pmetric.Metric) pmetric.Sum {
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum
}

func (s stamp) family(m pmetric.Metric, f *dto.MetricFamily) error {
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		sum := newSum(m)
		for _, one := range f.Metric {
			s.number(sum.DataPoints().AppendEmpty(), one, one.GetCounter().GetValue()).SetStartTimestamp(s.start)
		}
	case dto.MetricType_GAUGE:
		gauge := m.SetEmptyGauge()
		for _, one := range f.Metric {
			s.number(gauge.DataPoints().AppendEmpty(), one, one.GetGauge().GetValue())
		}
	case dto.MetricType_UNTYPED:
		gauge := m.SetEmptyGauge()
		for _, one := range f.Metric {
			s.number(gauge.DataPoints().AppendEmpty(), one, one.GetUntyped().GetValue())
		}
	case dto.MetricType_SUMMARY:
		summary := m.SetEmptySummary()
		for _, one := range f.Metric {
			s.summary(summary.DataPoints().AppendEmpty(), one)
		}
	case dto.MetricType_HISTOGRAM:
		histogram := m.SetEmptyHistogram()
		histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for _, one := range f.Metric {
			s.histogram(histogram.DataPoints().AppendEmpty(), one)
		}
	default:
		return fmt.Errorf("convert metric %s: type %s", f.GetName(), f.GetType())
	}
	return nil
}

func (s stamp) number(p pmetric.NumberDataPoint, m *dto.Metric, v float64) pmetric.NumberDataPoint {
	p.SetDoubleValue(v)
	p.SetTimestamp(s.timeOf(m))
	labels(p.Attributes(), m)
	return p
}

func (s stamp) summary(p pmetric.SummaryDataPoint, m *dto.Metric) {
	p.SetStartTimestamp(s.start)
	p.SetTimestamp(s.timeOf(m))
	labels(p.Attributes(), m)
	p.SetCount(m.GetSummary().GetSampleCount())
	p.SetSum(m.GetSummary().GetSampleSum())
	for _, q := range m.GetSummary().Quantile {
		v := p.QuantileValues().AppendEmpty()
		v.SetQuantile(q.GetQuantile())
		v.SetValue(q.GetValue())
	}
}

// histogram turns cumulative buckets into those of OTLP, which count what lies
// between two bounds.
func (s stamp) histogram(p pmetric.HistogramDataPoint, m *dto.Metric) {
	h := m.GetHistogram()
	p.SetStartTimestamp(s.start)
	p.SetTimestamp(s.timeOf(m))
	labels(p.Attributes(), m)
	p.SetCount(h.GetSampleCount())
	p.SetSum(h.GetSampleSum())
	before := uint64(0)
	for _, b := range h.Bucket {
		if math.IsInf(b.GetUpperBound(), 1) || b.GetCumulativeCount() < before {
			continue // the last count is that of +Inf; a bucket never has fewer than the one below it
		}
		p.ExplicitBounds().Append(b.GetUpperBound())
		p.BucketCounts().Append(b.GetCumulativeCount() - before)
		before = b.GetCumulativeCount()
	}
	p.BucketCounts().Append(max(h.GetSampleCount(), before) - before)
}

// timeOf is the metric's own time, if it has one.
func (s stamp) timeOf(m *dto.Metric) pcommon.Timestamp {
	if m.TimestampMs != nil {
		return pcommon.NewTimestampFromTime(time.UnixMilli(m.GetTimestampMs()))
	}
	return s.at
}

func labels(attributes pcommon.Map, m *dto.Metric) {
	attributes.EnsureCapacity(len(m.Label))
	for _, l := range m.Label {
		if l.GetValue() != "" {
			attributes.PutStr(l.GetName(), l.GetValue())
		}
	}
}
