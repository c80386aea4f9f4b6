package exposition

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
)

// isNative reports whether a histogram has native buckets; an empty one says so
// by a zero threshold or by a span without buckets.
func isNative(h *dto.Histogram) bool {
	return len(h.GetPositiveSpan()) > 0 || len(h.GetNegativeSpan()) > 0 || h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0
}

// classic appends the series of a histogram with classic buckets.
func (c *converter) classic(h *dto.Histogram) error {
	if c.has(model.BucketLabel) {
		return c.invalid("a histogram must not have a label %q", model.BucketLabel)
	}
	start := millis(h.GetCreatedTimestamp())
	count := either(h.GetSampleCountFloat(), h.GetSampleCount())
	c.add("_count", Label{}, count).Start = start
	c.add("_sum", Label{}, h.GetSampleSum()).Start = start
	for _, b := range h.GetBucket() {
		le := Label{model.BucketLabel, promlabels.FormatOpenMetricsFloat(b.GetUpperBound())}
		s := c.add("_bucket", le, either(b.GetCumulativeCountFloat(), b.GetCumulativeCount()))
		s.Start = start
		s.Exemplars = appendExemplar(nil, b.GetExemplar())
		if math.IsInf(b.GetUpperBound(), 1) {
			return nil
		}
	}
	c.add("_bucket", Label{model.BucketLabel, "+Inf"}, count).Start = start
	return nil
}

// either returns a count that is given as a float or as an integer.
func either(f float64, n uint64) float64 {
	if f != 0 {
		return f
	}
	return float64(n)
}

// native appends the one series of a histogram with native buckets.
func (c *converter) native(t dto.MetricType, h *dto.Histogram) error {
	isFloat := h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0
	positive, negative := len(h.GetPositiveDelta()), len(h.GetNegativeDelta())
	if isFloat {
		positive, negative = len(h.GetPositiveCount()), len(h.GetNegativeCount())
	}
	// The buckets must be as many as the spans say before anything expands them.
	if got, want := positive, spanned(h.GetPositiveSpan()); uint64(got) != want {
		return c.invalid("native histogram: got %d positive buckets, its spans have %d", got, want)
	}
	if got, want := negative, spanned(h.GetNegativeSpan()); uint64(got) != want {
		return c.invalid("native histogram: got %d negative buckets, its spans have %d", got, want)
	}
	s := c.add("", Label{}, 0)
	s.Start = millis(h.GetCreatedTimestamp())
	s.Exemplars = nativeExemplars(h)
	hint := histogram.UnknownCounterReset
	if t == dto.MetricType_GAUGE_HISTOGRAM {
		hint = histogram.GaugeType
	}
	if isFloat {
		s.Float = &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(),
			ZeroCount: h.GetZeroCountFloat(), Count: h.GetSampleCountFloat(), Sum: h.GetSampleSum(),
			PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: slices.Clone(h.GetPositiveCount()),
			NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: slices.Clone(h.GetNegativeCount()),
		}
		if err := s.Float.Validate(); err != nil {
			return c.invalid("native histogram: %v", err)
		}
		s.Float.Compact(0)
		return nil
	}
	s.Int = &histogram.Histogram{
		CounterResetHint: hint, Schema: h.GetSchema(), ZeroThreshold: h.GetZeroThreshold(),
		ZeroCount: h.GetZeroCount(), Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		PositiveSpans: spans(h.GetPositiveSpan()), PositiveBuckets: slices.Clone(h.GetPositiveDelta()),
		NegativeSpans: spans(h.GetNegativeSpan()), NegativeBuckets: slices.Clone(h.GetNegativeDelta()),
	}
	if err := s.Int.Validate(); err != nil {
		return c.invalid("native histogram: %v", err)
	}
	s.Int.Compact(0)
	return nil
}

// spanned returns how many buckets spans have.
func spanned(in []*dto.BucketSpan) (n uint64) {
	for _, s := range in {
		n += uint64(s.GetLength())
	}
	return n
}

func spans(in []*dto.BucketSpan) []histogram.Span {
	out := make([]histogram.Span, len(in))
	for i, s := range in {
		out[i] = histogram.Span{Offset: s.GetOffset(), Length: s.GetLength()}
	}
	return out
}

// nativeExemplars returns the exemplars of a native histogram, oldest first:
// those of its own or else of its classic buckets. One without a timestamp is
// left out, since nothing would tell it from the next one.
func nativeExemplars(h *dto.Histogram) (out []exemplar.Exemplar) {
	add := func(e *dto.Exemplar) {
		if e.GetTimestamp() != nil {
			out = appendExemplar(out, e)
		}
	}
	for _, e := range h.GetExemplars() {
		add(e)
	}
	if len(h.GetExemplars()) == 0 {
		for _, b := range h.GetBucket() {
			add(b.GetExemplar())
		}
	}
	slices.SortStableFunc(out, exemplar.Compare)
	return out
}
