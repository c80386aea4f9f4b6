package promqlsuite

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

// baseTime is when generated data begins; step is its usual spacing and steps
// how many samples a series without gaps has. All times are milliseconds.
const (
	baseTime = int64(1_700_000_000_000)
	step     = int64(30_000)
	steps    = 160
)

// point is a generated sample. Points are appended in the order of arrival.
type point struct {
	labels  labels.Labels
	time    int64
	arrival int64
	value   float64
	int     *histogram.Histogram
	float   *histogram.FloatHistogram
}

// floatMetrics and histogramMetrics are the names that data and queries share.
var (
	floatMetrics     = []string{"gauge", "requests_total", "special", "größe.bytes", "mixed"}
	histogramMetrics = []string{"latency", "latency_float", "latency_custom", "latency_gauge", "mixed"}
)

// generatePoints makes random series of every kind: gauges, counters with
// resets, special floats, native histograms, names outside ASCII; with gaps,
// staleness markers and samples that arrive late.
func generatePoints(r *rand.Rand) []point {
	var points []point
	for _, name := range floatMetrics[:4] {
		for i := range 1 + r.IntN(5) {
			points = append(points, generateSeries(r, seriesLabels(r, name, i), floatValues(r, name))...)
		}
	}
	for _, name := range histogramMetrics[:4] {
		for i := range 1 + r.IntN(3) {
			points = append(points, generateSeries(r, seriesLabels(r, name, i), histogramValues(r, name))...)
		}
	}
	floats, histograms := floatValues(r, "gauge"), histogramValues(r, "latency")
	points = append(points, generateSeries(r, seriesLabels(r, "mixed", 0), func(p *point, i int) {
		if i/10%2 == 0 {
			floats(p, i)
		} else {
			histograms(p, i)
		}
	})...)
	for _, le := range []string{"0.1", "1", "10", "+Inf"} {
		ls := labels.FromStrings("__name__", "classic_bucket", "job", "a", "le", le)
		points = append(points, generateSeries(r, ls, floatValues(r, "requests_total"))...)
	}
	slices.SortStableFunc(points, func(a, b point) int { return int(a.arrival - b.arrival) })
	return points
}

func seriesLabels(r *rand.Rand, name string, i int) labels.Labels {
	b := labels.NewBuilder(labels.FromStrings("__name__", name, "instance", fmt.Sprintf("host-%d", i)))
	b.Set("job", []string{"a", "b"}[r.IntN(2)])
	if r.IntN(3) == 0 {
		b.Set("zone", []string{"eu", "us", "ünïcode"}[r.IntN(3)])
	}
	if r.IntN(4) == 0 {
		b.Set("label with.dots", "x")
	}
	return b.Labels()
}

// generateSeries lays values over time.
func generateSeries(r *rand.Rand, ls labels.Labels, fill func(p *point, i int)) []point {
	var out []point
	offset := r.Int64N(step)
	jitter := r.IntN(2) == 0
	lateOften := r.IntN(3) == 0
	for i := 0; i < steps; i++ {
		if r.IntN(40) == 0 {
			i += r.IntN(25) // a gap, at times longer than the lookback
		}
		p := point{labels: ls, time: baseTime + offset + int64(i)*step}
		if jitter {
			p.time += r.Int64N(1000)
		}
		p.arrival = p.time
		if lateOften && r.IntN(10) == 0 {
			p.arrival += r.Int64N(15 * 60_000)
		}
		fill(&p, i)
		if r.IntN(30) == 0 {
			markStale(&p)
		}
		out = append(out, p)
	}
	return out
}

func markStale(p *point) {
	stale := math.Float64frombits(value.StaleNaN)
	switch {
	case p.int != nil:
		p.int = &histogram.Histogram{Sum: stale}
	case p.float != nil:
		p.float = &histogram.FloatHistogram{Sum: stale}
	default:
		p.value = stale
	}
}

func floatValues(r *rand.Rand, name string) func(*point, int) {
	counter := float64(r.IntN(1000))
	whole := r.IntN(2) == 0
	return func(p *point, _ int) {
		switch name {
		case "requests_total":
			if r.IntN(25) == 0 {
				counter = 0
			}
			if counter += r.Float64() * 100; whole {
				counter = math.Floor(counter)
			}
			p.value = counter
		case "special":
			p.value = []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), 1e308, 5e-324, r.NormFloat64()}[r.IntN(8)]
		default:
			if p.value = r.NormFloat64() * 100; whole {
				p.value = math.Round(p.value)
			}
		}
	}
}

func histogramValues(r *rand.Rand, name string) func(*point, int) {
	n := int64(0)
	return func(p *point, _ int) {
		if n += int64(r.IntN(4)); r.IntN(25) == 0 {
			n = 0
		}
		switch name {
		case "latency":
			p.int = tsdbutil.GenerateTestHistogram(n)
			if r.IntN(20) == 0 {
				p.int = tsdbutil.GenerateTestHistogram(n).Copy()
				p.int.ReduceResolution(0)
			}
		case "latency_float":
			p.float = tsdbutil.GenerateTestFloatHistogram(n)
		case "latency_custom":
			if r.IntN(8) == 0 {
				p.float = tsdbutil.GenerateTestCustomBucketsFloatHistogram(n)
			} else {
				p.int = tsdbutil.GenerateTestCustomBucketsHistogram(n)
			}
		case "latency_gauge":
			p.int = tsdbutil.GenerateTestGaugeHistogram(int64(r.IntN(20)))
		}
	}
}

// generator makes random PromQL expressions.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) duration() string {
	return g.pick("30s", "45s", "1m", "2m", "5m", "7m13s", "20m", "1h")
}

// selector is an instant selector without modifiers.
func (g generator) selector() string {
	names := append(slices.Clone(floatMetrics), histogramMetrics...)
	name := g.pick(append(names, "classic_bucket", "absent_metric")...)
	matchers := []string{fmt.Sprintf("%q", name)}
	if g.IntN(12) == 0 {
		matchers[0] = g.pick(`__name__=~"requests.*|gauge"`, `__name__=~"latency.*"`, `__name__!="special",job!=""`, `__name__=~".*größe.*"`)
	}
	if g.IntN(3) == 0 {
		matchers = append(matchers, g.pick(`job="a"`, `job!="a"`, `instance=~"host-[01]"`, `instance!~"host-0"`,
			`zone=""`, `zone!=""`, `"label with.dots"="x"`, `zone="ünïcode"`, `nolabel=""`, `zone=~"|eu"`))
	}
	return "{" + strings.Join(matchers, ",") + "}"
}

// modifiers are offset and @, in either order, mostly none.
func (g generator) modifiers() string {
	at := func() string {
		return g.pick(" @ start()", " @ end()", fmt.Sprintf(" @ %.3f", float64(baseTime+g.Int64N(steps*step))/1000))
	}
	offset := func() string { return " offset " + g.pick("", "-") + g.duration() }
	switch g.IntN(10) {
	case 0:
		return at()
	case 1:
		return offset()
	case 2:
		return offset() + at()
	}
	return ""
}

func (g generator) matrix(depth int) string {
	if depth > 0 && g.IntN(4) == 0 {
		return fmt.Sprintf("(%s)[%s:%s]%s", g.vector(depth-1), g.duration(), g.pick("", "30s", "1m", "77s"), g.modifiers())
	}
	return fmt.Sprintf("%s[%s]%s", g.selector(), g.duration(), g.modifiers())
}

func (g generator) scalar(depth int) string {
	switch g.IntN(6) {
	case 0:
		return "time()"
	case 1:
		if depth > 0 {
			return fmt.Sprintf("scalar(%s)", g.vector(depth-1))
		}
	case 2:
		return g.pick("NaN", "Inf", "-Inf", "0", "1e300")
	case 3:
		return fmt.Sprintf("%.3f", g.Float64())
	}
	return fmt.Sprint(g.IntN(20) - 5)
}

func (g generator) grouping() string {
	return g.pick("", " by (job)", " by (job, instance)", " without (instance)", ` by ("label with.dots")`, " without (job, le)", " by (__name__)")
}

func (g generator) matching() string {
	return g.pick("", "", " on (job, instance)", " ignoring (zone)", " on (job) group_left", " ignoring (instance) group_right", " on (instance) group_left (zone)")
}

// vector is an expression of instant vector type.
func (g generator) vector(depth int) string {
	if depth <= 0 {
		return g.selector() + g.modifiers()
	}
	sub := func() string { return g.vector(depth - 1) }
	switch g.IntN(12) {
	case 0, 1, 2:
		return g.rangeFunction(depth - 1)
	case 3, 4:
		return g.instantFunction(depth - 1)
	case 5, 6:
		return fmt.Sprintf("%s%s (%s)", g.pick("sum", "avg", "min", "max", "count", "stddev", "stdvar", "group"), g.grouping(), sub())
	case 7:
		return fmt.Sprintf("%s%s (%s, %s)", g.pick("topk", "bottomk", "quantile", "limitk", "limit_ratio"), g.grouping(), g.scalar(0), sub())
	case 8:
		op := g.pick("+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "> bool", "== bool")
		switch g.IntN(3) {
		case 0:
			return fmt.Sprintf("(%s) %s %s", sub(), op, g.scalar(depth-1))
		case 1:
			return fmt.Sprintf("%s %s (%s)", g.scalar(depth-1), op, sub())
		}
		return fmt.Sprintf("(%s) %s%s (%s)", sub(), op, g.matching(), sub())
	case 9:
		return fmt.Sprintf("(%s) %s%s (%s)", sub(), g.pick("and", "or", "unless"), g.pick("", " on (job)", " ignoring (zone, instance)"), sub())
	case 10:
		return "-(" + sub() + ")"
	}
	return g.selector() + g.modifiers()
}

func (g generator) rangeFunction(depth int) string {
	m := g.matrix(depth)
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("quantile_over_time(%s, %s)", g.scalar(0), m)
	case 1:
		return fmt.Sprintf("predict_linear(%s, %s)", m, g.scalar(0))
	case 2:
		return fmt.Sprintf("double_exponential_smoothing(%s, 0.%d, 0.%d)", m, 1+g.IntN(8), 1+g.IntN(8))
	case 3:
		return fmt.Sprintf("histogram_quantile(0.9, sum%s (rate(%s)))", g.grouping(), m)
	}
	return fmt.Sprintf("%s(%s)", g.pick("rate", "rate", "irate", "increase", "delta", "idelta", "deriv", "changes", "resets",
		"avg_over_time", "sum_over_time", "min_over_time", "max_over_time", "count_over_time", "last_over_time", "first_over_time",
		"stddev_over_time", "stdvar_over_time", "present_over_time", "absent_over_time", "mad_over_time",
		"ts_of_max_over_time", "ts_of_min_over_time", "ts_of_last_over_time"), m)
}

func (g generator) instantFunction(depth int) string {
	v := g.vector(depth)
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf("histogram_quantile(%s, %s)", g.scalar(0), v)
	case 1:
		return fmt.Sprintf("histogram_fraction(%s, %s, %s)", g.scalar(0), g.scalar(0), v)
	case 2:
		return fmt.Sprintf(`label_replace(%s, "new", "$1", "instance", "(.*)-.*")`, v)
	case 3:
		return fmt.Sprintf("%s(%s, %s)", g.pick("clamp_min", "clamp_max", "round"), v, g.scalar(0))
	}
	return fmt.Sprintf("%s(%s)", g.pick("abs", "ceil", "floor", "exp", "ln", "log2", "sqrt", "sgn", "sin", "timestamp", "absent",
		"histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar", "sort", "sort_desc",
		"minute", "hour", "day_of_week", "start_timestamp"), v)
}
