package traceql

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Values of LabelMetaType and LabelMetaError.
const (
	metaBaseline       = "baseline"
	metaSelection      = "selection"
	metaTooManyValues  = "__too_many_values__"
	metaTotalSuffix    = "_total"
	maxComparedValues  = 10_000 // of one attribute that are counted
	comparisonOverhead = 96     // bytes of a value besides its counters
)

// Comparison makes the series of compare(): for every value of every attribute,
// how many spans of the selection and of the baseline have it.
//
//	v := c.Value(c.Attribute(a), value)
//	c.Observe(v, c.Selects(matches, start), start)
//
// A comparison belongs to one goroutine; Merge joins those of several.
type Comparison struct {
	m      *Metrics
	r      Range
	limits Limits
	bins   binner

	index  map[Attribute]int32
	attrs  []comparedAttr
	values []comparedValue

	bytes   int
	partial string
	key     []byte
}

type comparedAttr struct {
	attr   Attribute
	index  map[string]int32
	values []int32
	beyond bool // has more values than are counted
}

type comparedValue struct {
	attr   int32
	key    string
	value  Static
	counts [2][]uint64 // of the baseline and of the selection, per bin
	totals [2]uint64
}

// NewComparison returns a comparison for a compare() stage.
func NewComparison(m *Metrics, r Range, l Limits) *Comparison {
	return &Comparison{m: m, r: r, limits: l.orDefault(), bins: newBinner(r), index: map[Attribute]int32{}}
}

// Selects reports whether a span is of the selection: if it matches the filter,
// and starts within the times of compare() if it has some.
func (c *Comparison) Selects(matches bool, start int64) bool {
	args := c.m.Compare
	return matches && (args.End == 0 || start >= args.Start && start <= args.End)
}

// Attribute returns the index of an attribute.
func (c *Comparison) Attribute(a Attribute) int32 {
	i, ok := c.index[a]
	if !ok {
		i = int32(len(c.attrs))
		c.index[a] = i
		c.attrs = append(c.attrs, comparedAttr{attr: a, index: map[string]int32{}})
	}
	return i
}

// Value returns the index of a value of an attribute, NoSeries if the limits
// leave no room for it. V is copied if it is new.
func (c *Comparison) Value(attr int32, v Static) int32 {
	c.key = v.AppendKey(c.key[:0])
	a := &c.attrs[attr]
	if i, ok := a.index[string(c.key)]; ok {
		return i
	}
	size := 16*c.r.len + len(c.key) + len(v.Text) + comparisonOverhead
	switch {
	case len(a.values) >= maxComparedValues:
		a.beyond = true
		return NoSeries
	case c.bytes+size > c.limits.MaxBytes:
		a.beyond = true
		c.partial = fmt.Sprintf("series take more than %d bytes", c.limits.MaxBytes)
		return NoSeries
	}
	c.bytes += size
	i := int32(len(c.values))
	key := string(c.key)
	v.Text = strings.Clone(v.Text)
	c.values = append(c.values, comparedValue{
		attr: attr, key: key, value: v, counts: [2][]uint64{make([]uint64, c.r.len), make([]uint64, c.r.len)},
	})
	a.index[key] = i
	a.values = append(a.values, i)
	return i
}

// Observe counts a span with a start that has a value.
func (c *Comparison) Observe(value int32, selected bool, start int64) {
	bin := c.bins.find(start)
	if bin < 0 || value < 0 {
		return
	}
	group := 0
	if selected {
		group = 1
	}
	v := &c.values[value]
	v.counts[group][bin]++
	v.totals[group]++
}

// Merge adds what b, a comparison of the same stage and range, observed.
func (c *Comparison) Merge(b *Comparison) {
	for i := range b.attrs {
		from := &b.attrs[i]
		attr := c.Attribute(from.attr)
		c.attrs[attr].beyond = c.attrs[attr].beyond || from.beyond
		for _, v := range from.values {
			c.mergeValue(attr, &b.values[v])
		}
	}
	c.partial = cmp.Or(c.partial, b.partial)
}

func (c *Comparison) mergeValue(attr int32, from *comparedValue) {
	i := c.Value(attr, from.value)
	if i == NoSeries {
		return
	}
	v := &c.values[i]
	for group := range v.counts {
		v.totals[group] += from.totals[group]
		for bin, n := range from.counts[group] {
			v.counts[group][bin] += n
		}
	}
}

// Result returns the series, sorted by labels. For each attribute, and each of
// selection and baseline: the values that most spans have, at most topN; and the
// spans that have the attribute at all.
func (c *Comparison) Result() *MetricsResult {
	res := &MetricsResult{Times: c.r.Times()}
	res.Stats.Partial = c.partial
	for i := range c.attrs {
		res.Series = append(res.Series, c.seriesOf(&c.attrs[i])...)
	}
	res.Series = secondStages(c.m.Second, res.Series)
	sortSeries(res.Series)
	if most := c.limits.MaxSeries; len(res.Series) > most {
		res.Series = res.Series[:most]
		res.Stats.Partial = cmp.Or(res.Stats.Partial, fmt.Sprintf("more than %d series", most))
	}
	return res
}

func (c *Comparison) seriesOf(a *comparedAttr) []MetricsSeries {
	var out []MetricsSeries
	name := a.attr.String()
	hidden := make([]float64, c.r.len)
	tooMany := a.beyond
	for group, metaType := range []string{metaBaseline, metaSelection} {
		shown := make([]int32, 0, len(a.values))
		total := make([]float64, c.r.len)
		for _, i := range a.values {
			if c.values[i].totals[group] == 0 {
				continue
			}
			shown = append(shown, i)
			add(total, c.values[i].counts[group])
		}
		if len(shown) == 0 {
			continue
		}
		slices.SortFunc(shown, func(x, y int32) int {
			v, w := &c.values[x], &c.values[y]
			return cmp.Or(cmp.Compare(w.totals[group], v.totals[group]), v.value.Order(w.value))
		})
		if n := c.m.Compare.TopN; len(shown) > n {
			tooMany = true
			for _, i := range shown[n:] {
				add(hidden, c.values[i].counts[group])
			}
			shown = shown[:n]
		}
		for _, i := range shown {
			values := make([]float64, c.r.len)
			add(values, c.values[i].counts[group])
			out = append(out, comparedSeries(LabelMetaType, metaType, name, c.values[i].value, values))
		}
		out = append(out, comparedSeries(LabelMetaType, metaType+metaTotalSuffix, name, Static{}, total))
	}
	if tooMany {
		out = append(out, comparedSeries(LabelMetaError, metaTooManyValues, name, Static{}, hidden))
	}
	return out
}

func comparedSeries(metaKey, meta, name string, v Static, values []float64) MetricsSeries {
	return MetricsSeries{Labels: []KeyValue{{Key: metaKey, Value: String(meta)}, {Key: name, Value: v}}, Values: values}
}

func add(dst []float64, counts []uint64) {
	for i, n := range counts {
		dst[i] += float64(n)
	}
}
