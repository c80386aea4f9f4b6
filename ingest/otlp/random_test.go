package otlp

import (
	"fmt"
	"math"
	"math/rand/v2"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// random makes payloads that Prometheus takes without an error.
type random struct {
	*rand.Rand
	deltas bool
	utf8   bool // names are not escaped
	clock  uint64
}

func pick[T any](r *random, of ...T) T { return of[r.IntN(len(of))] }

func (r *random) metrics() pmetric.Metrics {
	md := pmetric.NewMetrics()
	for range 1 + r.IntN(3) {
		rm := md.ResourceMetrics().AppendEmpty()
		r.resource(rm.Resource().Attributes())
		rm.SetSchemaUrl(pick(r, "", "https://opentelemetry.io/schemas/1.26.0"))
		for range 1 + r.IntN(2) {
			sm := rm.ScopeMetrics().AppendEmpty()
			sm.SetSchemaUrl(pick(r, "", "https://example.com/schema"))
			sm.Scope().SetName(pick(r, "", "lib/http", "lib"))
			sm.Scope().SetVersion(pick(r, "", "v1.2"))
			if r.IntN(2) == 0 {
				r.attributes(sm.Scope().Attributes(), 3)
			}
			for range r.IntN(6) {
				r.metric(sm.Metrics().AppendEmpty())
			}
		}
	}
	return md
}

func (r *random) resource(m pcommon.Map) {
	if r.IntN(4) > 0 {
		m.PutStr("service.name", pick(r, "shop", "cart", ""))
	}
	if r.IntN(2) > 0 {
		m.PutStr("service.namespace", pick(r, "prod", ""))
	}
	if r.IntN(3) > 0 {
		m.PutStr("service.instance.id", pick(r, "i-1", "i-2", "größe"))
	}
	for _, k := range []string{"host.name", "k8s.pod.name", "process.pid", "1st"} {
		if r.IntN(2) == 0 {
			r.value(m.PutEmpty(k), 0)
		}
	}
	if r.IntN(4) == 0 {
		m.PutStr(pick(r, "job", "instance", "__name__", "host_name"), "of the resource")
	}
}

// attributes adds some attributes; where names are escaped, a few become one
// label.
func (r *random) attributes(m pcommon.Map, n int) {
	keys := []string{
		"http.method", "http_method", "http-method", "code", "a", "Z", "_under", "__name__", "le", "quantile", "job", "instance", "host.name", "host_name",
		"日本", "url.path", "9lives", "__reserved__", "x__y", "otel_scope_name",
	}
	for range r.IntN(n + 1) {
		k := keys[r.IntN(len(keys))]
		if k == "日本" && !r.utf8 {
			continue // only underscores are left of it
		}
		r.value(m.PutEmpty(k), 0)
	}
}

func (r *random) value(v pcommon.Value, depth int) {
	switch n := r.IntN(14); {
	case n < 5 || depth > 3:
		v.SetStr(pick(r, "", "GET", "/a/b?c=d&e", "<é>", "x y", string(make([]byte, 0, 1)), "long "+fmt.Sprint(math.Pi)))
	case n == 5:
		v.SetBool(r.IntN(2) == 0)
	case n == 6:
		v.SetInt(r.Int64() - r.Int64())
	case n == 7:
		v.SetDouble(pick(r, 0, 1, -2.5, 1e-7, 1.5e-10, 1e21, 123456789.25, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64))
	case n == 8:
		v.SetEmptyBytes().FromRaw([]byte{0, 1, 2, 255}[:r.IntN(5)])
	case n == 9:
		s := v.SetEmptySlice()
		for range r.IntN(4) {
			r.value(s.AppendEmpty(), depth+1)
		}
	case n == 10:
		m := v.SetEmptyMap()
		for i := range r.IntN(4) {
			r.value(m.PutEmpty(fmt.Sprintf("k<%d", i)), depth+1)
		}
	case n == 11: // no value
	default:
		v.SetStr(pick(r, "200", "404", "500"))
	}
}

func (r *random) metric(m pmetric.Metric) {
	m.SetName(pick(r, "http.server.duration", "requests", "requests.total", "mem_ratio", "9lives", "größe.x", "a:b", "queue__size", "process.runtime.memory"))
	m.SetUnit(pick(r, "", "1", "s", "ms", "By", "By/s", "{requests}", "%", "m/h", "weird unit"))
	m.SetDescription(pick(r, "", "What it <is>.", "größe"))
	m.Metadata().PutStr("k", "v")
	temporality := pmetric.AggregationTemporalityCumulative
	if r.deltas && r.IntN(2) == 0 {
		temporality = pmetric.AggregationTemporalityDelta
	}
	n := r.IntN(4)
	switch r.IntN(5) {
	case 0:
		g := m.SetEmptyGauge()
		for range n {
			r.number(g.DataPoints().AppendEmpty())
		}
	case 1:
		s := m.SetEmptySum()
		s.SetAggregationTemporality(temporality)
		s.SetIsMonotonic(r.IntN(2) == 0)
		for range n {
			r.number(s.DataPoints().AppendEmpty())
		}
	case 2:
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(temporality)
		for range n {
			r.histogram(h.DataPoints().AppendEmpty())
		}
	case 3:
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(temporality)
		for range n {
			r.exponential(h.DataPoints().AppendEmpty())
		}
	case 4:
		s := m.SetEmptySummary()
		for range n {
			r.summary(s.DataPoints().AppendEmpty())
		}
	}
}

func (r *random) time() pcommon.Timestamp {
	r.clock += r.Uint64N(100_000_000_000)
	return pcommon.Timestamp(r.clock)
}

func (r *random) start() pcommon.Timestamp {
	return pcommon.Timestamp(pick(r, 0, nowNs-3_600_000_000_000+123_456_789))
}

func (r *random) flags() pmetric.DataPointFlags {
	return pmetric.DefaultDataPointFlags.WithNoRecordedValue(r.IntN(8) == 0)
}

func (r *random) float() float64 {
	return pick(r, 0, 1, -1.5, 1e300, math.Inf(1), math.NaN(), r.Float64())
}

func (r *random) number(p pmetric.NumberDataPoint) {
	r.attributes(p.Attributes(), 8)
	p.SetStartTimestamp(r.start())
	p.SetTimestamp(r.time())
	p.SetFlags(r.flags())
	if r.IntN(2) == 0 {
		p.SetIntValue(r.Int64() - r.Int64())
	} else {
		p.SetDoubleValue(r.float())
	}
	r.exemplars(p.Exemplars())
}

func (r *random) exemplars(s pmetric.ExemplarSlice) {
	if r.IntN(3) > 0 {
		return
	}
	for range 1 + r.IntN(4) {
		e := s.AppendEmpty()
		e.SetTimestamp(pcommon.Timestamp(pick(r, 0, nowNs, nowNs+999_999)))
		if r.IntN(2) == 0 {
			e.SetIntValue(r.Int64N(20))
		} else {
			e.SetDoubleValue(r.Float64() * 20)
		}
		if r.IntN(2) == 0 {
			e.SetTraceID([16]byte{1, 2, 15: byte(r.IntN(256))})
		}
		if r.IntN(2) == 0 {
			e.SetSpanID([8]byte{7: byte(r.IntN(2))})
		}
		for i := range r.IntN(3) {
			r.value(e.FilteredAttributes().PutEmpty(fmt.Sprintf("k.%d", i)), 0)
		}
	}
}

func (r *random) histogram(p pmetric.HistogramDataPoint) {
	r.attributes(p.Attributes(), 6)
	p.SetStartTimestamp(r.start())
	p.SetTimestamp(r.time())
	p.SetFlags(r.flags())
	bounds := pick(r, nil, []float64{0.005, 1, 2.5, 10}, []float64{-1, 0, 1e9, 1e22, 1e-9}[:3], []float64{5})
	p.ExplicitBounds().FromRaw(bounds)
	total := uint64(0)
	if len(bounds) > 0 || r.IntN(2) == 0 {
		for range len(bounds) + 1 {
			c := pick(r, 0, 0, r.Uint64N(100))
			p.BucketCounts().Append(c)
			total += c
		}
	} else {
		total = r.Uint64N(2) * 0
	}
	p.SetCount(total)
	if r.IntN(4) > 0 {
		p.SetSum(r.Float64() * 100)
		p.SetMin(-1)
		p.SetMax(12)
	}
	r.exemplars(p.Exemplars())
}

func (r *random) exponential(p pmetric.ExponentialHistogramDataPoint) {
	r.attributes(p.Attributes(), 6)
	p.SetStartTimestamp(r.start())
	p.SetTimestamp(r.time())
	p.SetFlags(r.flags())
	scale := pick(r, -4, -1, 0, 3, 8, 9, 12, 20)
	p.SetScale(int32(scale))
	p.SetZeroCount(r.Uint64N(3))
	p.SetZeroThreshold(pick(r, 0, 1e-3))
	total := p.ZeroCount()
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		b.SetOffset(int32(r.IntN(4000) - 2000))
		for range r.IntN(pick(r, 1, 5, 40)) {
			c := r.Uint64N(10)
			if scale <= 8 {
				c = pick(r, 0, 0, 0, c)
			} else {
				c++
			}
			b.BucketCounts().Append(c)
			total += c
		}
	}
	p.SetCount(total)
	if r.IntN(4) > 0 {
		p.SetSum(r.Float64() * 100)
	}
	r.exemplars(p.Exemplars())
}

func (r *random) summary(p pmetric.SummaryDataPoint) {
	r.attributes(p.Attributes(), 6)
	p.SetStartTimestamp(r.start())
	p.SetTimestamp(r.time())
	p.SetFlags(r.flags())
	p.SetCount(r.Uint64N(1000))
	p.SetSum(r.float())
	for i := range r.IntN(4) {
		q := p.QuantileValues().AppendEmpty()
		q.SetQuantile(float64(i) * 0.33)
		q.SetValue(r.float())
	}
}
