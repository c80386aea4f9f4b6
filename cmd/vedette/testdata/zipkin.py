"""Send a call by py_zipkin, once in each of its formats: zipkin.py URL

Prints what was sent: a line for each format, a list of spans in JSON, version 2."""

import sys
import time

import requests
from py_zipkin.encoding._encoders import get_encoder
from py_zipkin.encoding._helpers import Endpoint, Span
from py_zipkin.encoding._types import Encoding, Kind

(url,) = sys.argv[1:]
begin = float(int(time.time())) - 8  # and quarters of seconds are exact
front = Endpoint("py-front", "10.1.2.3", None, 8080)
back = Endpoint("py-back", "10.9.9.9", None, 5432)


def spans(trace):
    """A call that both sides report, each with a span of its own, and what the server does."""
    return [
        Span(trace, "GET /orders", None, "352bff9a74ca9ad2", Kind.CLIENT, begin, 2.5, front, back, annotations={"sent": begin + 0.25}, tags={"http.path": "/orders", "empty": ""}),
        Span(trace, "GET /orders", "352bff9a74ca9ad2", "6b221d5bc9e6496c", Kind.SERVER, begin + 0.5, 1.5, back, tags={"error": "timeout"}),
        Span(trace, "work", "6b221d5bc9e6496c", "0000000000000001", Kind.LOCAL, begin + 0.75, 0.5, back, tags={"n": "17"}),
    ]


formats = [
    (Encoding.V1_THRIFT, "/api/v1/spans", "application/x-thrift"),
    (Encoding.V1_JSON, "/api/v1/spans", "application/json"),
    (Encoding.V2_JSON, "/api/v2/spans", "application/json"),
]
for n, (encoding, path, content_type) in enumerate(formats):
    made = spans(f"5af7183fb1d4cf5f6b221d5bc9e6496{n}")
    encoder = get_encoder(encoding)
    body = encoder.encode_queue([encoder.encode_span(span) for span in made])
    answer = requests.post(url + path, data=body, headers={"Content-Type": content_type}, timeout=20)
    if answer.status_code != 202:
        sys.exit(f"{encoding}: {answer.status_code}: {answer.text}")
    plain = get_encoder(Encoding.V2_JSON)
    print(plain.encode_queue([plain.encode_span(span) for span in made]))
