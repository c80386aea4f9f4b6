package component

import (
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// scopeName is the instrumentation scope of what the components measure.
const scopeName = "github.com/vedette-io/vedette/collector"

// stamp is what the points of one gathering have in common.
type stamp struct{ start, at pcommon.Timestamp }

// toMetrics makes OTLP of families. Points of cumulative metrics begin at start.
func toMetrics(families []*dto.MetricFamily, job, instance string, start, at time.Time) (pmetric.Metrics, error) {
	out := pmetric.NewMetrics()
	resource := out.ResourceMetrics().AppendEmpty()
	attributes := resource.Resource().Attributes()
	attributes.PutStr("service.name", job)
	attributes.PutStr("service.instance.id", instance)
	attributes.PutStr("host.name", instance)
	scope := resource.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(scopeName)
	metrics := scope.Metrics()
	metrics.EnsureCapacity(len(families))
	when := stamp{pcommon.NewTimestampFromTime(start), pcommon.NewTimestampFromTime(at)}
	for _, f := range families {
		m := metrics.AppendEmpty()
		m.SetName(f.GetName())
		m.SetDescription(f.GetHelp())
		m.SetUnit(f.GetUnit())
		if err := when.family(m, f); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s stamp) family(m pmetric.Metric, f *dto.MetricFamily) error {
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		sum := m.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
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
		p.ExplicitBounds().Append(b.GetUpperBound())
		p.BucketCounts().Append(b.GetCumulativeCount() - before)
		before = b.GetCumulativeCount()
	}
	p.BucketCounts().Append(h.GetSampleCount() - before)
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
