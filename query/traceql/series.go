package traceql

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Labels that metrics functions add.
const (
	LabelQuantile  = "p"        // of quantile_over_time
	LabelBucket    = "__bucket" // of histogram_over_time: no value of the bucket is greater
	LabelMetaType  = "__meta_type"
	LabelMetaError = "__meta_error"
)

// Result returns the series, sorted by labels, after topk, bottomk and
// comparisons. Durations are in seconds. Where a series counts, there is no
// span for 0; other values are NaN then.
func (a *Accumulator) Result() *MetricsResult {
	res := &MetricsResult{Times: a.r.Times()}
	res.Stats.Partial = a.partial
	for s := range a.keys {
		res.Series = append(res.Series, a.seriesOf(s)...)
	}
	res.Series = secondStages(a.m.Second, res.Series)
	sortSeries(res.Series)
	return res
}

func (a *Accumulator) seconds(v float64) float64 {
	if IsDuration(a.m.Expr) {
		return v / 1e9
	}
	return v
}

// seriesOf returns the series that one set of labels has.
func (a *Accumulator) seriesOf(s int) []MetricsSeries {
	switch a.m.Func {
	case MetricsQuantile:
		return a.quantiles(s)
	case MetricsHistogram:
		return a.histogram(s)
	}
	n := a.r.len
	values := make([]float64, n)
	for i := range values {
		values[i] = a.valueOf(s*n + i)
	}
	series := MetricsSeries{Labels: a.labels[s], Values: values}
	counts := a.m.Func == MetricsRate || a.m.Func == MetricsCount
	for _, c := range a.exemplars.kept {
		if int(c.series) != s {
			continue
		}
		e := a.exemplar(c)
		if bin := a.r.Bin(c.start); counts && bin >= 0 {
			e.Value = values[bin]
		}
		series.Exemplars = append(series.Exemplars, e)
	}
	return []MetricsSeries{series}
}

func (a *Accumulator) valueOf(i int) float64 {
	n := float64(a.counts[i])
	switch {
	case a.m.Func == MetricsRate:
		return n / (float64(a.r.step) / 1e9)
	case a.m.Func == MetricsCount:
		return n
	case n == 0:
		return math.NaN()
	case a.m.Func == MetricsAvg:
		return a.seconds(a.numbers[i] / n)
	}
	return a.seconds(a.numbers[i])
}

func (a *Accumulator) exemplar(c candidate) Exemplar {
	return Exemplar{TraceID: c.trace, SpanID: c.span, Time: c.start, Value: a.seconds(c.value)}
}

func withLabel(labels []KeyValue, key string, v Static) []KeyValue {
	return append(slices.Clip(labels), KeyValue{Key: key, Value: v})
}

// quantiles returns a series per quantile. An exemplar stands at the lowest
// quantile that is not below it.
func (a *Accumulator) quantiles(s int) []MetricsSeries {
	n := a.r.len
	out := make([]MetricsSeries, len(a.m.Quantiles))
	for i, q := range a.m.Quantiles {
		values := make([]float64, n)
		for bin := range values {
			values[bin] = a.seconds(a.sketches[s*n+bin].quantile(q))
		}
		out[i] = MetricsSeries{Labels: withLabel(a.labels[s], LabelQuantile, Float(q)), Values: values}
	}
	for _, c := range a.exemplars.kept {
		bin := a.r.Bin(c.start)
		if int(c.series) != s || bin < 0 {
			continue
		}
		e := a.exemplar(c)
		best := 0
		for i := range out {
			v, b := out[i].Values[bin], out[best].Values[bin]
			if v >= e.Value && (v < b || b < e.Value) || b < e.Value && v > b {
				best = i
			}
		}
		out[best].Exemplars = append(out[best].Exemplars, e)
	}
	return out
}

// histogram returns a series per bucket that has values.
func (a *Accumulator) histogram(s int) []MetricsSeries {
	var out []MetricsSeries
	for _, b := range a.hists[s].buckets {
		bound := 0.0
		if b.power != lowestPower {
			bound = a.seconds(math.Ldexp(1, int(b.power)))
		}
		series := MetricsSeries{
			Labels: withLabel(a.labels[s], LabelBucket, Float(bound)), Values: make([]float64, a.r.len),
		}
		for bin, n := range b.counts {
			series.Values[bin] = float64(n)
		}
		for _, c := range a.exemplars.kept {
			if int(c.series) == s && powerOfTwo(c.value) == b.power {
				series.Exemplars = append(series.Exemplars, a.exemplar(c))
			}
		}
		out = append(out, series)
	}
	return out
}

func sortSeries(series []MetricsSeries) {
	slices.SortStableFunc(series, func(a, b MetricsSeries) int { return compareLabels(a.Labels, b.Labels) })
}

func compareLabels(a, b []KeyValue) int {
	for i := range min(len(a), len(b)) {
		if c := strings.Compare(a[i].Key, b[i].Key); c != 0 {
			return c
		}
		if c := a[i].Value.Order(b[i].Value); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

// secondStages applies topk, bottomk and comparisons: values that do not pass
// become NaN, and series without any are dropped.
func secondStages(stages []SecondStage, series []MetricsSeries) []MetricsSeries {
	for _, s := range stages {
		if s.Op.IsComparison() {
			keepMatching(s, series)
		} else {
			keepBest(s, series)
		}
		series = slices.DeleteFunc(series, func(s MetricsSeries) bool {
			return !slices.ContainsFunc(s.Values, func(v float64) bool { return v == v })
		})
	}
	return series
}

// keepMatching compares each value with a number, a duration in seconds.
func keepMatching(s SecondStage, series []MetricsSeries) {
	bound, _ := s.Value.Float64()
	if s.Value.Type == TypeDuration {
		bound /= 1e9
	}
	for i := range series {
		for j, v := range series[i].Values {
			if !s.Op.holds(cmp.Compare(v, bound)) {
				series[i].Values[j] = math.NaN()
			}
		}
	}
}

// keepBest keeps, at each time, the k greatest or least values; of equal ones
// those whose labels come first.
func keepBest(s SecondStage, series []MetricsSeries) {
	if len(series) <= s.K {
		return
	}
	sortSeries(series)
	order := make([]int, 0, len(series))
	for bin := range series[0].Values {
		order = order[:0]
		for i := range series {
			if v := series[i].Values[bin]; v == v {
				order = append(order, i)
			}
		}
		if len(order) <= s.K {
			continue
		}
		slices.SortStableFunc(order, func(x, y int) int {
			c := cmp.Compare(series[x].Values[bin], series[y].Values[bin])
			if s.Op == OpTopK {
				return -c
			}
			return c
		})
		for _, i := range order[s.K:] {
			series[i].Values[bin] = math.NaN()
		}
	}
}
