package otlp

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// payload has one resource and one scope; each function makes a metric.
func payload(metrics ...func(pmetric.Metric)) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	rm.Resource().Attributes().PutStr("host.name", "h")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	for i, f := range metrics {
		m := ms.AppendEmpty()
		m.SetName(fmt.Sprintf("m.%d", i))
		f(m)
	}
	return md
}

func good(m pmetric.Metric) {
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.Timestamp(nowNs))
	p.SetDoubleValue(1)
}

// point makes a gauge's point.
func gaugePoint(f func(p pmetric.NumberDataPoint)) func(pmetric.Metric) {
	return func(m pmetric.Metric) {
		good(m)
		f(m.Gauge().DataPoints().At(0))
	}
}

func sumPoint(f func(s pmetric.Sum, p pmetric.NumberDataPoint)) func(pmetric.Metric) {
	return func(m pmetric.Metric) {
		s := m.SetEmptySum()
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(nowNs))
		p.SetIntValue(1)
		f(s, p)
	}
}

func exponential(f func(p pmetric.ExponentialHistogramDataPoint)) func(pmetric.Metric) {
	return func(m pmetric.Metric) {
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(nowNs))
		f(p)
	}
}

// A refused part has a reason and says what it was; the good part is kept, and
// the parts for the buffer hold nothing else.
func TestRefused(t *testing.T) {
	limits := wire.Limits{MaxTime: now + 1000, MaxLabels: 6, MaxLabelNameBytes: 30, MaxLabelValueBytes: 60}
	for _, tc := range []struct {
		name   string
		cfg    func(c *Config)
		metric func(m pmetric.Metric)
		reason wire.Reason
		want   string
		counts [3]int // samples, histograms, exemplars
		kept   int    // samples of the bad metric
	}{
		{"no value", nil, gaugePoint(func(p pmetric.NumberDataPoint) { pmetric.NewNumberDataPoint().CopyTo(p) }), wire.ReasonNoValue,
			`series {__name__="m_1"}: the data point has no value`, [3]int{1, 0, 0}, 0},
		{"no data", nil, func(pmetric.Metric) {}, wire.ReasonUnsupportedType, `metric "m.1": the metric has no data of a known type`, [3]int{}, 0},
		{"no temporality", nil, sumPoint(func(s pmetric.Sum, p pmetric.NumberDataPoint) {
			s.SetAggregationTemporality(pmetric.AggregationTemporalityUnspecified)
			p.CopyTo(s.DataPoints().AppendEmpty())
		}), wire.ReasonUnsupportedTemporality, `metric "m.1": aggregation temporality 0 is unknown`, [3]int{2, 0, 0}, 0},
		{"delta", func(c *Config) { c.Delta = DeltaRefuse }, sumPoint(func(s pmetric.Sum, _ pmetric.NumberDataPoint) {
			s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}), wire.ReasonUnsupportedTemporality, `metric "m.1": delta temporality is not taken`, [3]int{1, 0, 0}, 0},
		{"no name", nil, func(m pmetric.Metric) { good(m); m.SetName("") }, wire.ReasonMissingMetricName,
			`metric "": normalization for metric "" resulted in empty name`, [3]int{1, 0, 0}, 0},
		{"no name, unescaped", func(c *Config) { c.TranslationStrategy = "NoTranslation" }, func(m pmetric.Metric) { good(m); m.SetName("") },
			wire.ReasonMissingMetricName, `metric "": the metric has no name`, [3]int{1, 0, 0}, 0},
		{"name not UTF-8", func(c *Config) { c.TranslationStrategy = "NoTranslation" }, func(m pmetric.Metric) { good(m); m.SetName("a\xff") },
			wire.ReasonInvalidUTF8, `series {__name__="a\xff", job="shop"}: the metric's name is not valid UTF-8`, [3]int{1, 0, 0}, 0},
		{"value not UTF-8", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("a", "\xff") }), wire.ReasonInvalidUTF8,
			`series {__name__="m_1"}: value of label "a" is not valid UTF-8`, [3]int{1, 0, 0}, 0},
		{"attribute without a name", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("", "x") }), wire.ReasonEmptyLabelName,
			`series {__name__="m_1"}: label name is empty`, [3]int{1, 0, 0}, 0},
		{"attribute of underscores", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("!!", "x") }), wire.ReasonEmptyLabelName,
			`series {__name__="m_1"}: normalization for label name "!!" resulted in invalid name "__"`, [3]int{1, 0, 0}, 0},
		{"too many labels", nil, gaugePoint(func(p pmetric.NumberDataPoint) {
			for i := range 5 {
				p.Attributes().PutStr(fmt.Sprintf("a%d", i), "x")
			}
		}), wire.ReasonTooManyLabels, `series {__name__="m_1", a0="x", a1="x", a2="x", a3="x", a4="x", job="shop"}: 7 labels, want <= 6`, [3]int{1, 0, 0}, 0},
		{"long name", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr(strings.Repeat("n", 31), "x") }), wire.ReasonLabelNameTooLong,
			`: name of label "` + strings.Repeat("n", 31) + `": 31 bytes, want <= 30`, [3]int{1, 0, 0}, 0},
		{"long value", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("a", strings.Repeat("v", 61)) }), wire.ReasonLabelValueTooLong,
			`: value of label "a": 61 bytes, want <= 60`, [3]int{1, 0, 0}, 0},
		{"long metric name", nil, func(m pmetric.Metric) { good(m); m.SetName(strings.Repeat("m", 61)) }, wire.ReasonLabelValueTooLong,
			`: the metric's name or a bound: 61 bytes, want <= 60`, [3]int{1, 0, 0}, 0},
		{"future", nil, gaugePoint(func(p pmetric.NumberDataPoint) { p.SetTimestamp(pcommon.Timestamp(nowNs + 2e9)) }), wire.ReasonTooFarInFuture,
			`series {__name__="m_1"}: timestamp 1700000002000 is too far in the future, want <= 1700000001000`, [3]int{1, 0, 0}, 0},
		{"scale", nil, exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetScale(-5) }), wire.ReasonInvalidHistogram,
			`series {__name__="m_1"}: histogram: scale -5, want >= -4`, [3]int{0, 1, 0}, 0},
		{"count", nil, exponential(func(p pmetric.ExponentialHistogramDataPoint) { p.SetCount(5) }), wire.ReasonInvalidHistogram,
			`: histogram: 0 observations found in buckets, but the Count field is 5`, [3]int{0, 1, 0}, 0},
		{"bucket index", nil, exponential(func(p pmetric.ExponentialHistogramDataPoint) {
			p.SetCount(1)
			p.Positive().SetOffset(math.MaxInt32)
			p.Positive().BucketCounts().FromRaw([]uint64{1})
		}), wire.ReasonInvalidHistogram, `: histogram: a bucket's index is out of range`, [3]int{0, 1, 0}, 0},
		{"custom bounds", func(c *Config) { c.ConvertHistogramsToNHCB = true }, func(m pmetric.Metric) {
			h := m.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := h.DataPoints().AppendEmpty()
			p.ExplicitBounds().FromRaw([]float64{2, 1})
			p.BucketCounts().FromRaw([]uint64{0, 0, 0})
		}, wire.ReasonInvalidHistogram, `: histogram: custom buckets: `, [3]int{0, 1, 0}, 0},
		{"exemplar without a value", nil, sumPoint(func(_ pmetric.Sum, p pmetric.NumberDataPoint) {
			p.Exemplars().AppendEmpty().SetTimestamp(pcommon.Timestamp(nowNs))
			e := p.Exemplars().AppendEmpty()
			e.SetIntValue(5)
		}), wire.ReasonInvalidExemplar, `series {__name__="m_1"}: exemplar: it has no value`, [3]int{0, 0, 1}, 1},
		{"exemplar in the future", nil, sumPoint(func(_ pmetric.Sum, p pmetric.NumberDataPoint) {
			e := p.Exemplars().AppendEmpty()
			e.SetIntValue(5)
			e.SetTimestamp(pcommon.Timestamp(nowNs + 2e9))
		}), wire.ReasonTooFarInFuture, `exemplar: timestamp 1700000002000 is too far in the future`, [3]int{0, 0, 1}, 1},
		{"exemplar labels", nil, sumPoint(func(_ pmetric.Sum, p pmetric.NumberDataPoint) {
			e := p.Exemplars().AppendEmpty()
			e.SetIntValue(5)
			e.SetTraceID([16]byte{1})
			e.FilteredAttributes().PutStr("trace_id", "x")
		}), wire.ReasonInvalidExemplar, `exemplar: label "trace_id" occurs twice`, [3]int{0, 0, 1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := DefaultConfig()
			if tc.cfg != nil {
				tc.cfg(&c)
			}
			r := New(c)
			body := marshal(t, payload(good, tc.metric, good))
			for range 2 {
				require.NoError(t, r.Decode(buffer.FormatOTLP, body, limits))
				require.NotNil(t, r.Rejects.First)
				require.Equal(t, tc.reason, r.Rejects.First.Reason, r.Rejects.First.Error())
				require.Contains(t, r.Rejects.First.Error(), tc.want)
				require.Equal(t, tc.counts, [3]int{r.Rejects.Samples, r.Rejects.Histograms, r.Rejects.Exemplars})
				require.Equal(t, 3+tc.kept, len(r.Metrics.Times)) // with target_info
				checkReplay(t, r, body, wire.PartOptions{Partitions: 1})
				checkReplay(t, r, body, wire.PartOptions{Partitions: 3, Plain: true})
			}
		})
	}
}

// Labels that are remembered are checked against the limits of the tenant at hand.
func TestLimitsOfKnownSeries(t *testing.T) {
	r := New(DefaultConfig())
	body := marshal(t, payload(gaugePoint(func(p pmetric.NumberDataPoint) { p.Attributes().PutStr("attribute", "some value") })))
	for _, tc := range []struct {
		limits wire.Limits
		reason wire.Reason
	}{
		{wire.Limits{}, wire.ReasonNone},
		{wire.Limits{MaxLabels: 2}, wire.ReasonTooManyLabels},
		{wire.Limits{MaxLabels: 3}, wire.ReasonNone},
		{wire.Limits{MaxLabelNameBytes: 8}, wire.ReasonLabelNameTooLong},
		{wire.Limits{MaxLabelValueBytes: 9}, wire.ReasonLabelValueTooLong},
		{wire.Limits{MaxLabelValueBytes: 11, MaxLabelNameBytes: 9}, wire.ReasonNone},
	} {
		require.NoError(t, r.Decode(buffer.FormatOTLP, body, tc.limits))
		if tc.reason == wire.ReasonNone {
			require.Nil(t, r.Rejects.First)
			require.Len(t, r.Metrics.Times, 2)
			continue
		}
		require.NotNil(t, r.Rejects.First)
		require.Equal(t, tc.reason, r.Rejects.First.Reason)
	}
}

// Bytes that are not the message name the place.
func TestSyntaxErrors(t *testing.T) {
	valid := marshal(t, payload(good))
	msg := func(field byte, content ...byte) []byte {
		return append([]byte{field<<3 | 2, byte(len(content))}, content...)
	}
	point := func(content ...byte) []byte {
		return msg(1, msg(2, msg(2, append(msg(1, 'm'), msg(5, msg(1, content...)...)...)...)...)...)
	}
	for _, tc := range []struct {
		name string
		body []byte
		off  int
		want string
	}{
		{"tag", []byte{0x07}, 0, "request: no valid field tag"},
		{"cut short", valid[:len(valid)-1], 0, "request: field 1 is cut short"},
		{"wire type", []byte{0x08, 1}, 0, "request: field 1 has wire type 0, want 2"},
		{"scope metrics", msg(1, 0x10, 1), 2, "resource metrics: field 2 has wire type 0, want 2"},
		{"metric", msg(1, msg(2, 0x10, 1)...), 4, "scope metrics: field 2 has wire type 0, want 2"},
		{"name", msg(1, msg(2, msg(2, 0x08, 1)...)...), 6, "metric: field 1 has wire type 0, want 2"},
		{"data", msg(1, msg(2, msg(2, msg(5, 0x08, 1)...)...)...), 8, "metric data: field 1 has wire type 0, want 2"},
		{"point time", point(0x19, 1, 2), 13, "number data point: field 3 is cut short"},
		{"point wire type", point(0x18, 1), 13, "number data point: field 3 has wire type 0"},
		{"attribute", point(0x3a, 5, 1), 13, "number data point: field 7 is cut short"},
		{"group", point(0x4b, 1), 13, "number data point: field 9 is cut short"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := New(DefaultConfig()).Decode(buffer.FormatOTLP, tc.body, wire.Limits{})
			var syntax *wire.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.Equal(t, tc.want, syntax.Detail)
			require.Equal(t, tc.off, syntax.Offset)
			require.Equal(t, "opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest", syntax.Message)
		})
	}
}

func TestErrorsOfTheBody(t *testing.T) {
	r := New(DefaultConfig())
	body := marshal(t, payload(good))
	var size *wire.SizeError
	require.ErrorAs(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{MaxDecodedBytes: 10}), &size)
	require.ErrorAs(t, r.Decode(buffer.FormatOTLPSnappy, s2.EncodeSnappy(nil, body), wire.Limits{MaxDecodedBytes: 10}), &size)
	var syntax *wire.SyntaxError
	require.ErrorAs(t, r.Decode(buffer.FormatOTLPSnappy, []byte{0xff, 0xff, 0x7f, 0}, wire.Limits{}), &syntax)
	require.ErrorAs(t, r.Decode(buffer.FormatRemoteWriteV1, body, wire.Limits{}), &syntax)
	refused := errors.New("no memory")
	require.ErrorIs(t, r.Decode(buffer.FormatOTLP, marshal(t, benchPayload("gauge", 1000, 0)), wire.Limits{Reserve: func(int) error { return refused }}), refused)
	require.NoError(t, r.Decode(buffer.FormatOTLP, body, wire.Limits{}))
	require.Len(t, r.Metrics.Times, 2)
	_, err := r.Parts(body, wire.PartOptions{Partitions: 1, MaxBytes: 20})
	require.ErrorAs(t, err, &size)
}

// Lists and maps may lie in each other, but not without end.
func TestDeepAttributes(t *testing.T) {
	deep := func(n int) []byte {
		return marshal(t, payload(gaugePoint(func(p pmetric.NumberDataPoint) {
			s := p.Attributes().PutEmptySlice("a")
			for range n {
				s = s.AppendEmpty().SetEmptySlice()
			}
		})))
	}
	r := New(DefaultConfig())
	require.NoError(t, r.Decode(buffer.FormatOTLP, deep(50), wire.Limits{}))
	require.Contains(t, strings.Join(dump(&r.Metrics), "\n"), strings.Repeat("[", 51)+strings.Repeat("]", 51))
	var syntax *wire.SyntaxError
	require.ErrorAs(t, r.Decode(buffer.FormatOTLP, deep(maxDepth+1), wire.Limits{}), &syntax)
	require.Contains(t, syntax.Detail, "more than 100 deep")
}

func TestConfigValidate(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	c = Config{
		TranslationStrategy: "Underscore", Delta: "no", PromoteResourceAttributes: []string{"a", " a", ""}, IgnoreResourceAttributes: []string{"b"},
	}
	require.EqualError(t, c.Validate(), `translation_strategy: got "Underscore", want one of UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes, NoTranslation
delta: got "no", want cumulative, native or refuse
ignore_resource_attributes: want none without promote_all_resource_attributes
promote_resource_attributes[1]: got "a" again
promote_resource_attributes[2]: got an empty name`)
	c = DefaultConfig()
	c.PromoteAllResourceAttributes, c.PromoteResourceAttributes = true, []string{"a"}
	require.EqualError(t, c.Validate(), "promote_resource_attributes: want none with promote_all_resource_attributes")
}
