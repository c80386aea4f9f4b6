package gen

import (
	"fmt"
	"math"
	"math/rand/v2"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// PointsPerApplication is how many data points an application sends at a time.
const PointsPerApplication = 50

// application is a process with an OpenTelemetry SDK.
type application struct {
	rng   *rand.Rand
	start pcommon.Timestamp
	set   []func(at pcommon.Timestamp)
}

func (a *application) next(at pcommon.Timestamp) {
	for _, set := range a.set {
		set(at)
	}
}

// newApplication fills rm with the metrics of a service behind HTTP: its
// requests, its calls to others, its own figures and those of its runtime.
func newApplication(rm pmetric.ResourceMetrics, id int, seed uint64, start pcommon.Timestamp) *application {
	a := &application{rng: rand.New(rand.NewPCG(seed, uint64(id)+1)), start: start}
	attributes := rm.Resource().Attributes()
	for _, l := range []Label{
		{"service.name", fmt.Sprintf("service-%d", id%20)}, {"service.namespace", "shop"},
		{"service.instance.id", fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a.rng.Uint32(), a.rng.IntN(1<<16), a.rng.IntN(1<<12), a.rng.IntN(1<<12), a.rng.Uint64()&(1<<48-1))},
		{"service.version", "1.42.0"}, {"deployment.environment.name", "production"}, {"host.name", fmt.Sprintf("node-%d", id%50)},
		{"telemetry.sdk.language", "go"}, {"telemetry.sdk.name", "opentelemetry"}, {"telemetry.sdk.version", "1.47.0"},
	} {
		attributes.PutStr(l.Name, l.Value)
	}
	attributes.PutInt("process.pid", int64(1000+id))

	http := a.scope(rm, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.70.0")
	requests := a.metric(http, "http.server.request.duration", "s", "Duration of HTTP server requests.").SetEmptyHistogram()
	active := a.sum(a.metric(http, "http.server.active_requests", "{request}", "Number of active HTTP server requests."), false)
	for i, route := range []string{"/orders", "/orders/{id}", "/basket", "/checkout", "/healthz"} {
		for _, status := range []int64{200, 500} {
			m := a.histogram(requests)
			m.PutStr("http.request.method", "GET")
			m.PutStr("http.route", route)
			m.PutInt("http.response.status_code", status)
		}
		if i < 4 {
			m := a.integer(active, false)
			m.PutStr("http.request.method", "GET")
			m.PutStr("http.route", route)
		}
	}
	calls := a.scope(rm, "shop/clients", "1.42.0")
	database := a.metric(calls, "db.client.operation.duration", "s", "Duration of database client operations.").SetEmptyHistogram()
	for _, operation := range []string{"SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT"} {
		m := a.histogram(database)
		m.PutStr("db.system.name", "postgresql")
		m.PutStr("db.operation.name", operation)
	}
	rpc := a.metric(calls, "rpc.client.call.duration", "s", "Duration of outgoing calls.").SetEmptyExponentialHistogram()
	for i := range 8 {
		m := a.exponential(rpc)
		m.PutStr("rpc.method", fmt.Sprintf("shop.Stock/Call%d", i))
		m.PutStr("server.address", "stock.shop.svc")
	}
	a.own(a.scope(rm, "shop/orders", "1.42.0"))
	a.runtime(a.scope(rm, "go.opentelemetry.io/contrib/instrumentation/runtime", "0.70.0"))
	return a
}

// own adds the metrics that the application's authors have made.
func (a *application) own(scope pmetric.MetricSlice) {
	orders := a.sum(a.metric(scope, "orders.processed", "{order}", "Orders that were processed."), true)
	for i := range 10 {
		m := a.integer(orders, true)
		m.PutStr("order.kind", fmt.Sprintf("kind-%d", i/2))
		m.PutBool("order.express", i%2 == 0)
	}
	depth := a.metric(scope, "queue.utilization", "1", "How full the queue is.").SetEmptyGauge()
	for i := range 5 {
		p := depth.DataPoints().AppendEmpty()
		p.Attributes().PutInt("queue.shard", int64(i))
		a.set = append(a.set, func(at pcommon.Timestamp) {
			p.SetTimestamp(at)
			p.SetDoubleValue(math.Round(a.rng.Float64()*1e4) / 1e4)
		})
	}
}

// runtime adds the metrics of Go's runtime.
func (a *application) runtime(scope pmetric.MetricSlice) {
	used := a.sum(a.metric(scope, "go.memory.used", "By", "Memory used by the Go runtime."), false)
	for _, kind := range []string{"stack", "other"} {
		a.integer(used, false).PutStr("go.memory.type", kind)
	}
	for _, c := range []struct {
		name, unit string
		monotonic  bool
	}{
		{"go.memory.allocated", "By", true}, {"go.memory.allocations", "{allocation}", true},
		{"go.goroutine.count", "{goroutine}", false}, {"go.processor.limit", "{thread}", false}, {"go.config.gogc", "%", false},
	} {
		a.integer(a.sum(a.metric(scope, c.name, c.unit, "A figure of the Go runtime."), c.monotonic), c.monotonic)
	}
}

func (a *application) scope(rm pmetric.ResourceMetrics, name, version string) pmetric.MetricSlice {
	s := rm.ScopeMetrics().AppendEmpty()
	s.Scope().SetName(name)
	s.Scope().SetVersion(version)
	return s.Metrics()
}

func (a *application) metric(scope pmetric.MetricSlice, name, unit, description string) pmetric.Metric {
	m := scope.AppendEmpty()
	m.SetName(name)
	m.SetUnit(unit)
	m.SetDescription(description)
	return m
}

func (a *application) sum(m pmetric.Metric, monotonic bool) pmetric.NumberDataPointSlice {
	s := m.SetEmptySum()
	s.SetIsMonotonic(monotonic)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return s.DataPoints()
}

// integer adds a point that counts up, or one that goes up and down.
func (a *application) integer(points pmetric.NumberDataPointSlice, monotonic bool) pcommon.Map {
	p := points.AppendEmpty()
	p.SetStartTimestamp(a.start)
	value := int64(a.rng.IntN(100_000))
	a.set = append(a.set, func(at pcommon.Timestamp) {
		if monotonic {
			value += int64(a.rng.IntN(500))
		} else {
			value = max(0, value+int64(a.rng.IntN(41))-20)
		}
		p.SetTimestamp(at)
		p.SetIntValue(value)
	})
	return p.Attributes()
}

// latency draws from a roughly log-normal distribution around 20 ms.
func (a *application) latency() float64 { return math.Exp(a.rng.NormFloat64()*1.1) * 0.02 }

// sdkBounds are the bounds that the semantic conventions ask for.
func sdkBounds() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
}

func (a *application) histogram(h pmetric.Histogram) pcommon.Map {
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := h.DataPoints().AppendEmpty()
	p.SetStartTimestamp(a.start)
	bounds := sdkBounds()
	p.ExplicitBounds().FromRaw(bounds)
	counts := make([]uint64, len(bounds)+1)
	lowest, highest, sum, count := math.Inf(1), math.Inf(-1), 0.0, uint64(0)
	a.set = append(a.set, func(at pcommon.Timestamp) {
		for range 1 + a.rng.IntN(30) {
			v := a.latency()
			lowest, highest, sum, count = min(lowest, v), max(highest, v), sum+v, count+1
			i := 0
			for i < len(bounds) && v > bounds[i] {
				i++
			}
			counts[i]++
		}
		p.BucketCounts().FromRaw(counts)
		p.SetTimestamp(at)
		p.SetCount(count)
		p.SetSum(sum)
		p.SetMin(lowest)
		p.SetMax(highest)
	})
	return p.Attributes()
}

// Buckets of the exponential histograms: at scale 4 their bounds are powers of
// the sixteenth root of two, and 160 of them, an SDK's default, begin here.
const (
	expScale   = 4
	expBuckets = 160
	expOffset  = -170
)

func (a *application) exponential(h pmetric.ExponentialHistogram) pcommon.Map {
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := h.DataPoints().AppendEmpty()
	p.SetStartTimestamp(a.start)
	p.SetScale(expScale)
	counts := make([]uint64, expBuckets)
	from, to := expBuckets, 0 // of the buckets that are not empty
	lowest, highest, sum, count := math.Inf(1), math.Inf(-1), 0.0, uint64(0)
	a.set = append(a.set, func(at pcommon.Timestamp) {
		for range 1 + a.rng.IntN(30) {
			v := a.latency()
			lowest, highest, sum, count = min(lowest, v), max(highest, v), sum+v, count+1
			i := int(math.Ceil(math.Log2(v)*(1<<expScale))) - 1 - expOffset
			i = min(max(i, 0), expBuckets-1)
			counts[i]++
			from, to = min(from, i), max(to, i+1)
		}
		p.Positive().SetOffset(int32(expOffset + from))
		p.Positive().BucketCounts().FromRaw(counts[from:to])
		p.SetTimestamp(at)
		p.SetCount(count)
		p.SetSum(sum)
		p.SetMin(lowest)
		p.SetMax(highest)
	})
	return p.Attributes()
}
