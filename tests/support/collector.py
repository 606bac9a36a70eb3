"""An OpenTelemetry collector: a small HTTP server on loopback that takes OTLP and keeps the spans; it can misbehave."""

from __future__ import annotations

import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


def takes(request: BaseHTTPRequestHandler) -> None:
    """Answer as a collector that took everything."""
    request.send_response(200)
    request.send_header("Content-Type", "application/x-protobuf")
    request.send_header("Content-Length", "0")
    request.end_headers()


class Collector:
    """Listens while it is used as a context manager.

    Attributes:
        bodies: Every message, as it came.
        answer: How it answers; replace it to misbehave.

    Args:
        certificate: Files of a certificate and its key, to listen with TLS.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = takes
        self.closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.bodies.append(body)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                collector.answer(self)

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        found: list[Span] = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: Any) -> None:
        """Stay silent when the issuer hangs up."""


def attributes(span: Span) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes}


def children(spans: list[Span], parent: Span) -> list[Span]:
    """Return the spans directly within another, in the order in which they began."""
    inner = [span for span in spans if span.parent_span_id == parent.span_id and span.trace_id == parent.trace_id]
    return sorted(inner, key=lambda span: span.start_time_unix_nano)
