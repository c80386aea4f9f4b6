package exposition

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/vedette-io/vedette/internal/labels"
)

// Label is a label that the caller sets on every series.
type Label struct{ Name, Value string }

// Series is a series and its sample. The sample is a native histogram if Int or
// Float is set, and Value otherwise. Times are unix milliseconds.
type Series struct {
	Labels    []byte // canonical
	Start     int64  // since when it counts; 0 is unknown
	Time      int64  // of the exposition; 0 is none
	Value     float64
	Int       *histogram.Histogram
	Float     *histogram.FloatHistogram
	Exemplars []exemplar.Exemplar
}

// InvalidError says what is wrong with a family.
type InvalidError struct {
	Family string
	Detail string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("metric %q: %s", e.Family, e.Detail) }

// Metadata describes a family as the store knows it.
func Metadata(f *dto.MetricFamily) metadata.Metadata {
	m := metadata.Metadata{Type: model.MetricTypeUnknown, Help: f.GetHelp(), Unit: f.GetUnit()}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		m.Type = model.MetricTypeCounter
	case dto.MetricType_GAUGE:
		m.Type = model.MetricTypeGauge
	case dto.MetricType_SUMMARY:
		m.Type = model.MetricTypeSummary
	case dto.MetricType_HISTOGRAM:
		m.Type = model.MetricTypeHistogram
	case dto.MetricType_GAUGE_HISTOGRAM:
		m.Type = model.MetricTypeGaugeHistogram
	}
	return m
}

// AppendSeries appends the series of a family to dst. The labels in set replace
// those of the same name in the family; a label with an empty value counts as
// absent. The error is an *InvalidError, and dst then comes back as it was. The
// series do not alias f. Memory of series behind the end of dst, such as of an
// earlier call whose result was cut to [:0], is used again, their labels too.
func AppendSeries(dst []Series, f *dto.MetricFamily, set ...Label) ([]Series, error) {
	name := f.GetName()
	if !model.UTF8Validation.IsValidMetricName(name) {
		return dst, &InvalidError{name, "the name is empty or not valid UTF-8"}
	}
	if !utf8.ValidString(f.GetHelp()) || !utf8.ValidString(f.GetUnit()) {
		return dst, &InvalidError{name, "help or unit is not valid UTF-8"}
	}
	c := converter{series: dst, name: name}
	for _, m := range f.GetMetric() {
		c.time = m.GetTimestampMs()
		if err := c.setLabels(m.GetLabel(), set); err != nil {
			return dst, err
		}
		if err := c.metric(f.GetType(), m); err != nil {
			return dst, err
		}
	}
	return c.series, nil
}

// converter makes the series of one family.
type converter struct {
	series []Series
	name   string
	labels []Label // of the metric at hand, sorted, without the name
	time   int64
}

func (c *converter) invalid(format string, args ...any) error {
	return &InvalidError{c.name, fmt.Sprintf(format, args...)}
}

// setLabels takes the labels of a metric and those that the caller sets.
func (c *converter) setLabels(own []*dto.LabelPair, set []Label) error {
	c.labels = c.labels[:0]
	for _, l := range own {
		if !slices.ContainsFunc(set, func(s Label) bool { return s.Name == l.GetName() }) {
			c.labels = append(c.labels, Label{l.GetName(), l.GetValue()})
		}
	}
	c.labels = append(c.labels, set...)
	slices.SortFunc(c.labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	for i, l := range c.labels {
		switch {
		case i > 0 && l.Name == c.labels[i-1].Name:
			return c.invalid("label %q occurs twice", l.Name)
		case !model.UTF8Validation.IsValidLabelName(l.Name):
			return c.invalid("label name %q is empty or not valid UTF-8", l.Name)
		case l.Name == model.MetricNameLabel:
			return c.invalid("label name %q is reserved", l.Name)
		case !utf8.ValidString(l.Value):
			return c.invalid("value of label %q is not valid UTF-8: %.64q", l.Name, l.Value)
		}
	}
	c.labels = slices.DeleteFunc(c.labels, func(l Label) bool { return l.Value == "" })
	return nil
}

// metric appends the series of one metric.
func (c *converter) metric(t dto.MetricType, m *dto.Metric) error {
	switch {
	case t == dto.MetricType_COUNTER && m.Counter != nil:
		s := c.add("", Label{}, m.Counter.GetValue())
		s.Start = millis(m.Counter.GetCreatedTimestamp())
		s.Exemplars = appendExemplar(nil, m.Counter.GetExemplar())
	case t == dto.MetricType_GAUGE && m.Gauge != nil:
		c.add("", Label{}, m.Gauge.GetValue())
	case t == dto.MetricType_UNTYPED && m.Untyped != nil:
		c.add("", Label{}, m.Untyped.GetValue())
	case t == dto.MetricType_SUMMARY && m.Summary != nil:
		return c.summary(m.Summary)
	case (t == dto.MetricType_HISTOGRAM || t == dto.MetricType_GAUGE_HISTOGRAM) && m.Histogram != nil:
		if isNative(m.Histogram) {
			return c.native(t, m.Histogram)
		}
		return c.classic(m.Histogram)
	default:
		return c.invalid("the family is a %s, but a metric in it has no such value", strings.ToLower(t.String()))
	}
	return nil
}

func (c *converter) summary(s *dto.Summary) error {
	if c.has(model.QuantileLabel) {
		return c.invalid("a summary must not have a label %q", model.QuantileLabel)
	}
	start := millis(s.GetCreatedTimestamp())
	c.add("_count", Label{}, float64(s.GetSampleCount())).Start = start
	c.add("_sum", Label{}, s.GetSampleSum()).Start = start
	for _, q := range s.GetQuantile() {
		c.add("", Label{model.QuantileLabel, promlabels.FormatOpenMetricsFloat(q.GetQuantile())}, q.GetValue()).Start = start
	}
	return nil
}

// has reports whether the metric at hand has a label.
func (c *converter) has(name string) bool {
	return slices.ContainsFunc(c.labels, func(l Label) bool { return l.Name == name })
}

// add appends a series with a suffix to the family's name and one label more.
func (c *converter) add(suffix string, extra Label, value float64) *Series {
	var room []byte
	if n := len(c.series); n < cap(c.series) {
		room = c.series[:n+1][n].Labels[:0]
	}
	c.series = append(c.series, Series{Labels: c.appendCanonical(room, suffix, extra), Time: c.time, Value: value})
	return &c.series[len(c.series)-1]
}

// appendCanonical encodes the labels at hand with the name and one label more; it
// puts each of the two where it belongs.
func (c *converter) appendCanonical(dst []byte, suffix string, extra Label) []byte {
	more := [2]Label{{model.MetricNameLabel, c.name + suffix}, extra}
	rest := more[:1]
	if extra.Name != "" {
		rest = more[:]
		if rest[1].Name < rest[0].Name {
			rest[0], rest[1] = rest[1], rest[0]
		}
	}
	size := 0
	for _, l := range rest {
		size += labels.Size(len(l.Name), len(l.Value))
	}
	for _, l := range c.labels {
		size += labels.Size(len(l.Name), len(l.Value))
	}
	dst = slices.Grow(dst, size)
	for _, l := range c.labels {
		for len(rest) > 0 && rest[0].Name < l.Name {
			dst = labels.Append(dst, rest[0].Name, rest[0].Value)
			rest = rest[1:]
		}
		dst = labels.Append(dst, l.Name, l.Value)
	}
	for _, l := range rest {
		dst = labels.Append(dst, l.Name, l.Value)
	}
	return dst
}

// maxExemplarRunes is Prometheus's limit on the labels of an exemplar.
const maxExemplarRunes = 128

// appendExemplar appends e, if there is one and its labels are as Prometheus
// takes them; a bad exemplar is not worth refusing its series.
func appendExemplar(dst []exemplar.Exemplar, e *dto.Exemplar) []exemplar.Exemplar {
	if e == nil {
		return dst
	}
	ls := promlabels.NewScratchBuilder(len(e.GetLabel()))
	runes := 0
	for _, l := range e.GetLabel() {
		if l.GetName() == "" || !utf8.ValidString(l.GetName()) || !utf8.ValidString(l.GetValue()) {
			return dst
		}
		runes += utf8.RuneCountInString(l.GetName()) + utf8.RuneCountInString(l.GetValue())
		ls.Add(strings.Clone(l.GetName()), strings.Clone(l.GetValue()))
	}
	ls.Sort()
	set := ls.Labels()
	if _, twice := set.HasDuplicateLabelNames(); twice || runes > maxExemplarRunes {
		return dst
	}
	return append(dst, exemplar.Exemplar{
		Labels: set, Value: e.GetValue(), Ts: millis(e.GetTimestamp()), HasTs: e.GetTimestamp() != nil,
	})
}

// millis returns unix milliseconds, 0 for none.
func millis(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.GetSeconds()*1000 + int64(t.GetNanos())/1_000_000
}
