package gen

import (
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// scrapedTarget is a target as the Collector's Prometheus receiver sends it.
type scrapedTarget struct {
	target *Target
	set    []func(at pcommon.Timestamp, v float64) // one per series
}

func (s *scrapedTarget) next(at pcommon.Timestamp) {
	s.target.step(func(i int, v float64) { s.set[i](at, v) })
}

// newScrapedTarget fills rm with every metric of the target.
func newScrapedTarget(rec *Recording, t *Target, rm pmetric.ResourceMetrics, start pcommon.Timestamp) *scrapedTarget {
	instance := Instance(t.id)
	host, port, _ := strings.Cut(instance, ":")
	for _, l := range []Label{
		{"service.name", "node"}, {"service.instance.id", instance}, {"server.address", host}, {"server.port", port},
		{"url.scheme", "http"}, {"cluster", "prod-1"}, {"cloud.region", "eu-central-1"},
	} {
		rm.Resource().Attributes().PutStr(l.Name, l.Value)
	}
	scope := rm.ScopeMetrics().AppendEmpty()
	scope.Scope().SetName("github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver")
	scope.Scope().SetVersion("0.160.0")
	b := familyBuilder{rec: rec, metrics: scope.Metrics(), start: start, made: map[string]pmetric.Metric{}}
	s := &scrapedTarget{target: t}
	for _, r := range t.series {
		s.set = append(s.set, b.series(r.labels))
	}
	for _, labels := range ownSeries() {
		s.set = append(s.set, b.series(labels))
	}
	return s
}

// familyBuilder makes data points out of exposed series.
type familyBuilder struct {
	rec     *Recording
	metrics pmetric.MetricSlice
	start   pcommon.Timestamp
	made    map[string]pmetric.Metric
	// What the bucket before was set to, of the histogram that is being set.
	cumulative float64
}

// series adds what a series adds to its metric and returns how its value is set.
func (b *familyBuilder) series(labels []Label) func(at pcommon.Timestamp, v float64) {
	name, rest := "", []Label(nil)
	special := "" // value of le or quantile
	for _, l := range labels {
		switch l.Name {
		case "__name__":
			name = l.Value
		case "le", "quantile":
			special = l.Value
		default:
			rest = append(rest, l)
		}
	}
	family := name
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if trimmed, ok := strings.CutSuffix(name, suffix); ok && (b.rec.types[trimmed] == "summary" || trimmed == HistogramMetric) {
			family = trimmed
		}
	}
	switch {
	case family == HistogramMetric:
		return b.histogram(strings.TrimPrefix(name, family), special, rest)
	case b.rec.types[family] == "summary":
		return b.summary(family, strings.TrimPrefix(name, family), special, rest)
	}
	m, isNew := b.metric(family)
	var p pmetric.NumberDataPoint
	switch counter := b.rec.types[family] == "counter"; {
	case counter && isNew:
		m.SetEmptySum().SetIsMonotonic(true)
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		fallthrough
	case counter:
		p = m.Sum().DataPoints().AppendEmpty()
		p.SetStartTimestamp(b.start)
	case isNew:
		m.SetEmptyGauge()
		fallthrough
	default:
		p = m.Gauge().DataPoints().AppendEmpty()
	}
	putAll(p.Attributes(), rest)
	return func(at pcommon.Timestamp, v float64) {
		p.SetTimestamp(at)
		p.SetDoubleValue(v)
	}
}

func (b *familyBuilder) metric(family string) (m pmetric.Metric, isNew bool) {
	if m, ok := b.made[family]; ok {
		return m, false
	}
	m = b.metrics.AppendEmpty()
	m.SetName(family)
	m.SetDescription(b.rec.help[family])
	b.made[family] = m
	return m, true
}

func (b *familyBuilder) histogram(part, bound string, attributes []Label) func(at pcommon.Timestamp, v float64) {
	m, isNew := b.metric(HistogramMetric)
	if isNew {
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetStartTimestamp(b.start)
		putAll(p.Attributes(), attributes)
	}
	p := m.Histogram().DataPoints().At(0)
	switch part {
	case "_sum":
		return func(_ pcommon.Timestamp, v float64) { p.SetSum(v) }
	case "_count":
		return func(at pcommon.Timestamp, v float64) {
			p.SetTimestamp(at)
			p.SetCount(uint64(v))
		}
	}
	i := p.BucketCounts().Len()
	p.BucketCounts().Append(0)
	if bound != "+Inf" {
		p.ExplicitBounds().Append(mustParse(bound))
	}
	return func(_ pcommon.Timestamp, v float64) {
		if i == 0 {
			b.cumulative = 0
		}
		p.BucketCounts().SetAt(i, uint64(v-b.cumulative))
		b.cumulative = v
	}
}

func (b *familyBuilder) summary(family, part, quantile string, attributes []Label) func(at pcommon.Timestamp, v float64) {
	m, isNew := b.metric(family)
	if isNew {
		p := m.SetEmptySummary().DataPoints().AppendEmpty()
		p.SetStartTimestamp(b.start)
		putAll(p.Attributes(), attributes)
	}
	p := m.Summary().DataPoints().At(0)
	switch part {
	case "_sum":
		return func(_ pcommon.Timestamp, v float64) { p.SetSum(v) }
	case "_count":
		return func(at pcommon.Timestamp, v float64) {
			p.SetTimestamp(at)
			p.SetCount(uint64(v))
		}
	}
	q := p.QuantileValues().AppendEmpty()
	q.SetQuantile(mustParse(quantile))
	return func(_ pcommon.Timestamp, v float64) { q.SetValue(v) }
}

func putAll(m pcommon.Map, attributes []Label) {
	for _, l := range attributes {
		m.PutStr(l.Name, l.Value)
	}
}

// mustParse reads a bucket's bound or a quantile.
func mustParse(text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("BUG: bound %q is no number", text))
	}
	return v
}
