package otlp

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	promlabels "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

type discard struct{}

func (discard) Append(storage.SeriesRef, promlabels.Labels, int64, int64, float64, *histogram.Histogram, *histogram.FloatHistogram, storage.AOptions) (storage.SeriesRef, error) {
	return 0, nil
}
func (discard) Commit() error   { return nil }
func (discard) Rollback() error { return nil }

// benchPayload is what a Collector sends for some services, points data points
// in all: eight attributes on the point, twelve on the resource. tag makes
// payloads differ.
func benchPayload(kind string, points, tag int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	const perResource, perMetric = 250, 10
	var metrics pmetric.MetricSlice
	var m pmetric.Metric
	for i := range points {
		if i%perResource == 0 {
			rm := md.ResourceMetrics().AppendEmpty()
			a := rm.Resource().Attributes()
			a.PutStr("service.name", "checkout")
			a.PutStr("service.namespace", "shop")
			a.PutStr("service.instance.id", fmt.Sprintf("checkout-7d9f8b6c4-%d-%d", tag, i/perResource))
			for _, k := range []string{"host.name", "host.arch", "os.type", "k8s.namespace.name", "k8s.pod.name", "k8s.node.name", "telemetry.sdk.name", "telemetry.sdk.version", "telemetry.sdk.language"} {
				a.PutStr(k, "value of "+k)
			}
			sm := rm.ScopeMetrics().AppendEmpty()
			sm.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
			sm.Scope().SetVersion("0.60.0")
			metrics = sm.Metrics()
		}
		if i%perMetric == 0 {
			m = metrics.AppendEmpty()
			m.SetName(fmt.Sprintf("http.server.metric.%d", i/perMetric%25))
			m.SetUnit("s")
			m.SetDescription("Duration of HTTP server requests.")
		}
		benchPoint(kind, m, i)
	}
	return md
}

func benchPoint(kind string, m pmetric.Metric, i int) {
	var a pcommon.Map
	const start, at = nowNs - 1e12, nowNs
	switch kind {
	case "gauge":
		if m.Type() == pmetric.MetricTypeEmpty {
			m.SetEmptyGauge()
		}
		p := m.Gauge().DataPoints().AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(at))
		p.SetDoubleValue(float64(i))
		a = p.Attributes()
	case "sum":
		if m.Type() == pmetric.MetricTypeEmpty {
			m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			m.Sum().SetIsMonotonic(true)
		}
		p := m.Sum().DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(start))
		p.SetTimestamp(pcommon.Timestamp(at))
		p.SetIntValue(int64(i))
		a = p.Attributes()
	case "histogram":
		if m.Type() == pmetric.MetricTypeEmpty {
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		}
		p := m.Histogram().DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(start))
		p.SetTimestamp(pcommon.Timestamp(at))
		p.ExplicitBounds().FromRaw([]float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10})
		p.BucketCounts().FromRaw([]uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
		p.SetCount(120)
		p.SetSum(17)
		a = p.Attributes()
	case "exponential":
		if m.Type() == pmetric.MetricTypeEmpty {
			m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		}
		p := m.ExponentialHistogram().DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.Timestamp(start))
		p.SetTimestamp(pcommon.Timestamp(at))
		p.SetScale(5)
		for k := range 60 {
			p.Positive().BucketCounts().Append(uint64(k + 1))
			p.SetCount(p.Count() + uint64(k+1))
		}
		p.SetSum(17)
		a = p.Attributes()
	}
	a.PutStr("http.request.method", "GET")
	a.PutInt("http.response.status_code", 200)
	a.PutStr("http.route", fmt.Sprintf("/api/v1/orders/%d/items", i%10))
	a.PutStr("network.protocol.name", "http")
	a.PutStr("network.protocol.version", "1.1")
	a.PutStr("server.address", "checkout.shop.svc.cluster.local")
	a.PutInt("server.port", 8080)
	a.PutStr("url.scheme", "http")
}

// BenchmarkDecode compares Decode with Prometheus's receiver without a store,
// from the same bytes. "known" decodes the same series again and again, "new"
// has never seen them.
func BenchmarkDecode(b *testing.B) {
	const points = 2000
	limits := wire.Limits{
		MaxDecodedBytes: 32 << 20, MaxLabels: 64, MaxLabelNameBytes: 1024, MaxLabelValueBytes: 4096,
		MaxTime: 2 * now, Reserve: func(int) error { return nil },
	}
	for _, kind := range []string{"gauge", "sum", "histogram", "exponential"} {
		n := points
		if kind == "histogram" {
			n = points / 10
		}
		var bodies [][]byte
		for tag := range 50 {
			bodies = append(bodies, marshal(b, benchPayload(kind, n, tag)))
		}
		report := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/point")
		}
		ours := func(bodies [][]byte) func(b *testing.B) {
			return func(b *testing.B) {
				r := New(DefaultConfig())
				for _, body := range bodies {
					if err := r.Decode(buffer.FormatOTLP, body, limits); err != nil || r.Rejects.Any() {
						b.Fatal(err, r.Rejects.First)
					}
				}
				b.ReportAllocs()
				b.SetBytes(int64(len(bodies[0])))
				i := 0
				for b.Loop() {
					if err := r.Decode(buffer.FormatOTLP, bodies[i%len(bodies)], limits); err != nil {
						b.Fatal(err)
					}
					i++
				}
				report(b)
			}
		}
		b.Run(kind+"/known", ours(bodies[:1]))
		b.Run(kind+"/new", ours(bodies))
		b.Run(kind+"/prometheus", func(b *testing.B) {
			c := prometheusremotewrite.NewPrometheusConverter(discard{})
			settings := promSettings(DefaultConfig())
			b.ReportAllocs()
			b.SetBytes(int64(len(bodies[0])))
			i := 0
			for b.Loop() {
				md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(bodies[i%len(bodies)])
				if err != nil {
					b.Fatal(err)
				}
				c.Reset(discard{})
				if _, err := c.FromMetrics(context.Background(), md, settings); err != nil {
					b.Fatal(err)
				}
				i++
			}
			report(b)
		})
	}
}
