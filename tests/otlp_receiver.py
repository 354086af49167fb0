"""A receiver of OTLP over HTTP, in this process: it keeps what arrives as bytes and decoded, and forwards nothing."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


@dataclass
class Received:
    """
    What has arrived.

    Attributes:
        url: Where to send it.
        raw: Each request's headers and body, decompressed.
        decoded: The requests, by path.
    """

    url: str
    raw: list[bytes] = field(default_factory=list)
    decoded: dict[str, list[Any]] = field(default_factory=lambda: {path: [] for path in REQUESTS})

    def spans(self, scope: str = "interlock") -> list[Any]:
        """The spans of one instrumentation scope."""
        return [
            span
            for request in self.decoded["/v1/traces"]
            for resource in request.resource_spans
            for scoped in resource.scope_spans
            if scoped.scope.name == scope
            for span in scoped.spans
        ]

    def logs(self, scope: str = "interlock") -> list[Any]:
        """The log records of one instrumentation scope."""
        return [
            record
            for request in self.decoded["/v1/logs"]
            for resource in request.resource_logs
            for scoped in resource.scope_logs
            if scoped.scope.name == scope
            for record in scoped.log_records
        ]

    def metrics(self, scope: str = "interlock") -> list[Any]:
        """The metrics of one instrumentation scope."""
        return [
            metric
            for request in self.decoded["/v1/metrics"]
            for resource in request.resource_metrics
            for scoped in resource.scope_metrics
            if scoped.scope.name == scope
            for metric in scoped.metrics
        ]


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of a decoded span, record or point."""
    return {item.key: _value(item.value) for item in thing.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(item) for item in value.array_value.values)
    return getattr(value, kind)


@contextmanager
def receiving() -> Iterator[Received]:
    """Receive on a free port of this machine until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = REQUESTS[self.path]()
            request.ParseFromString(body)
            received.raw.append(str(self.headers).encode() + body)
            received.decoded[self.path].append(request)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
