"""Push one of each kind of metric by OTLP: push.py grpc|http ENDPOINT none|gzip|deflate"""

import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

transport, endpoint, compression = sys.argv[1:]
if transport == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=endpoint,
        insecure=True,
        headers=(("x-scope-orgid", "python"),),
        compression={"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}[compression],
    )
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=endpoint,
        headers={"X-Scope-OrgID": "python"},
        compression={"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}[compression],
    )

reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
provider = MeterProvider(
    metric_readers=[reader],
    resource=Resource({"service.name": "shop", "service.instance.id": f"{transport}-{compression}", "host.name": "box"}),
    views=[View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())],
)
meter = provider.get_meter("push.py", "1.0")
meter.create_counter("orders", description="Orders taken.").add(3, {"kind": "book"})
meter.create_up_down_counter("open_orders").add(-2)
meter.create_gauge("temperature", unit="Cel").set(21.5)
latency = meter.create_histogram("latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
for seconds in (0.05, 0.5, 5.0):
    latency.record(seconds)
meter.create_histogram("size", unit="By").record(100)
if not provider.force_flush(20_000):
    sys.exit("the metrics were not taken")
provider.shutdown()
