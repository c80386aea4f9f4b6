"""Send a trace by OTLP: traces.py grpc|http ENDPOINT none|gzip|deflate [NAME=VALUE of a header ...]

Prints what was sent: an ExportTraceServiceRequest in base64."""

import base64
import sys

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult, SpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

transport, endpoint, compression, *headers = sys.argv[1:]
headers = tuple(tuple(h.split("=", 1)) for h in headers)
if transport == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(
        endpoint=endpoint,
        insecure=True,
        headers=headers,
        compression={"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}[compression],
    )
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(
        endpoint=endpoint,
        headers=dict(headers),
        compression={"none": Compression.NoCompression, "gzip": Compression.Gzip, "deflate": Compression.Deflate}[compression],
    )


class Recorder(SpanExporter):
    """Prints what it hands on."""

    def export(self, spans):
        result = exporter.export(spans)
        if result != SpanExportResult.SUCCESS:
            sys.exit("the spans were not taken")
        print(base64.b64encode(encode_spans(spans).SerializeToString()).decode())
        return result

    def shutdown(self):
        exporter.shutdown()


provider = TracerProvider(resource=Resource({"service.name": "python-shop", "host.name": "box", "ports": [80, 443]}, schema_url="https://opentelemetry.io/schemas/1.27.0"))
provider.add_span_processor(BatchSpanProcessor(Recorder()))
tracer = provider.get_tracer("traces.py", "1.0", schema_url="https://opentelemetry.io/schemas/1.26.0", attributes={"scope": True})
elsewhere = SpanContext(0x0102030405060708090A0B0C0D0E0F10, 0x1112131415161718, True, TraceFlags(1), TraceState([("vendor", "1")]))
with tracer.start_as_current_span(
    "GET /orders",
    kind=SpanKind.SERVER,
    attributes={"text": "Ünïcode ☃", "number": -(2**62), "fraction": 0.1, "yes": True, "texts": ["a", ""], "numbers": [1, 2], "none": []},
    links=[Link(elsewhere, {"why": "batch"})],
) as span:
    span.add_event("cache miss", {"key": "orders:17", "tries": 3})
    with tracer.start_as_current_span(f"query {transport} {compression}", kind=SpanKind.CLIENT, attributes={"db.system": "postgresql", "db.name": "orders"}) as query:
        query.record_exception(ValueError("no such table"))
        query.set_status(Status(StatusCode.ERROR, "no such table"))
    span.set_status(Status(StatusCode.OK))
if not provider.force_flush(20_000):
    sys.exit("the spans were not taken")
provider.shutdown()
