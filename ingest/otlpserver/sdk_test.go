package otlpserver

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/signal"
)

// measure uses every instrument of OpenTelemetry's Go SDK and returns what it
// has made of that.
func measure(t *testing.T, temporality sdk.TemporalitySelector) *metricdata.ResourceMetrics {
	t.Helper()
	reader := sdk.NewManualReader(sdk.WithTemporalitySelector(temporality))
	provider := sdk.NewMeterProvider(
		sdk.WithReader(reader),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "shop"), attribute.String("service.namespace", "web"),
			attribute.String("service.instance.id", "one"), attribute.String("host.name", "box"),
		)),
		sdk.WithView(sdk.NewView(
			sdk.Instrument{Name: "size"}, sdk.Stream{Aggregation: sdk.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 2}},
		)),
	)
	// A sampled span makes exemplars.
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled,
	}))
	meter := provider.Meter("shop/orders", metric.WithInstrumentationVersion("1.2"))
	orders, err := meter.Int64Counter("orders", metric.WithDescription("Orders taken."))
	require.NoError(t, err)
	orders.Add(ctx, 3, metric.WithAttributes(attribute.String("kind", "book")))
	open, err := meter.Int64UpDownCounter("orders.open")
	require.NoError(t, err)
	open.Add(t.Context(), -2)
	temperature, err := meter.Float64Gauge("temperature", metric.WithUnit("Cel"))
	require.NoError(t, err)
	temperature.Record(t.Context(), 21.5)
	latency, err := meter.Float64Histogram("latency", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.1, 1))
	require.NoError(t, err)
	for _, seconds := range []float64{0.0625, 0.5, 5} {
		latency.Record(t.Context(), seconds)
	}
	size, err := meter.Int64Histogram("size", metric.WithUnit("By"))
	require.NoError(t, err)
	size.Record(t.Context(), 1)
	size.Record(t.Context(), 3)
	_, err = meter.Int64ObservableCounter("uptime", metric.WithUnit("s"), metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
		o.Observe(42)
		return nil
	}))
	require.NoError(t, err)
	var rm metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &rm))
	require.NoError(t, provider.Shutdown(t.Context()))
	return &rm
}

// exporters are those of the SDK, with and without compression.
func exporters(t *testing.T, s *server) map[string]sdk.Exporter {
	t.Helper()
	all := map[string]sdk.Exporter{}
	add := func(name string, e sdk.Exporter, err error) {
		require.NoError(t, err)
		all[name] = e
	}
	address := otlpmetricgrpc.WithEndpoint(s.GRPCAddr().String())
	plain, err := otlpmetricgrpc.New(t.Context(), address, otlpmetricgrpc.WithInsecure())
	add("grpc", plain, err)
	packed, err := otlpmetricgrpc.New(t.Context(), address, otlpmetricgrpc.WithInsecure(), otlpmetricgrpc.WithCompressor("gzip"))
	add("grpc gzip", packed, err)
	url := otlpmetrichttp.WithEndpoint(s.HTTPAddr().String())
	plainHTTP, err := otlpmetrichttp.New(t.Context(), url, otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithHTTPClient(webClient(t)))
	add("http", plainHTTP, err)
	packedHTTP, err := otlpmetrichttp.New(t.Context(), url, otlpmetrichttp.WithInsecure(), otlpmetrichttp.WithHTTPClient(webClient(t)),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	add("http gzip", packedHTTP, err)
	t.Cleanup(func() {
		for _, e := range all {
			_ = e.Shutdown(context.Background())
		}
	})
	return all
}

// fromSDK is what measure's metrics become, apart from timestamps.
var fromSDK = []string{
	`default {__name__="latency_seconds_bucket", instance="one", job="web/shop", le="+Inf"} 3 start`,
	`default {__name__="latency_seconds_bucket", instance="one", job="web/shop", le="0.1"} 1 start`,
	`default {__name__="latency_seconds_bucket", instance="one", job="web/shop", le="1"} 2 start`,
	`default {__name__="latency_seconds_count", instance="one", job="web/shop"} 3 start`,
	`default {__name__="latency_seconds_sum", instance="one", job="web/shop"} 5.5625 start`,
	`default {__name__="orders_open", instance="one", job="web/shop"} -2 start`,
	`default {__name__="orders_total", instance="one", job="web/shop", kind="book"} # {span_id="0405000000000000", trace_id="01020300000000000000000000000000"} 3`,
	`default {__name__="orders_total", instance="one", job="web/shop", kind="book"} 3 start`,
	`default {__name__="size_bytes", instance="one", job="web/shop"} {count:2, sum:4, (0.8408964152537144,1]:1, (2.82842712474619,3.3635856610148576]:1} start`,
	`default {__name__="target_info", host_name="box", instance="one", job="web/shop"} 1`,
	`default {__name__="temperature_celsius", instance="one", job="web/shop"} 21.5 start`,
	`default {__name__="uptime_seconds_total", instance="one", job="web/shop"} 42 start`,
}

// What the Go SDK sends by each of its exporters arrives, as Prometheus would
// name it.
func TestGoSDK(t *testing.T) {
	for _, name := range []string{"grpc", "grpc gzip", "http", "http gzip"} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, doortest.Options{Partitions: 2}, nil)
			e := exporters(t, s)[name]
			require.NoError(t, e.Export(t.Context(), measure(t, sdk.DefaultTemporalitySelector)))
			require.Equal(t, fromSDK, s.timeless())
			require.Contains(t, s.Sink.Metadata(), signal.Metadata{Family: "orders_total", Type: "counter", Help: "Orders taken."})
		})
	}
}

// Deltas come in like everything else; the first of a series is its sum.
func TestGoSDKDelta(t *testing.T) {
	s := newServer(t, doortest.Options{}, nil)
	require.NoError(t, exporters(t, s)["grpc"].Export(t.Context(), measure(t, sdk.DeltaTemporalitySelector)))
	for _, want := range []string{
		`default {__name__="orders_total", instance="one", job="web/shop", kind="book"} 3 start`,
		`default {__name__="orders_open", instance="one", job="web/shop"} -2 start`,
		`default {__name__="latency_seconds_count", instance="one", job="web/shop"} 3 start`,
	} {
		require.Contains(t, s.timeless(), want)
	}
}
