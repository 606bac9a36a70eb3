"""An issuer's HTTP side on this machine, as good or as bad as a test wants it."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

JWKS_PATH = "/keys"
METADATA_PATH = "/.well-known/oauth-authorization-server"
OPENID_PATH = "/.well-known/openid-configuration"


class KeyServer:
    """Answers by path; counts what it is asked.

    Attributes:
        answers: What to do for each path; 404 for the others.
        requests: The paths that were asked, in order.
        released: Set to let answers that hang end.
    """

    def __init__(self, server: ThreadingHTTPServer, scheme: str) -> None:
        self.issuer = f"{scheme}://127.0.0.1:{server.server_port}"
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.requests: list[str] = []
        self.released = Event()
        self._lock = Lock()

    def serve(self, jwks: dict[str, Any], *, cache_control: str = "public, max-age=300") -> None:
        """Serve this key set from now on, and metadata that names it."""
        self.answers[METADATA_PATH] = answer_json({"issuer": self.issuer, "jwks_uri": self.issuer + JWKS_PATH})
        self.answers[JWKS_PATH] = answer_json(jwks, cache_control=cache_control)

    @property
    def fetches(self) -> int:
        """How often the key set was asked for."""
        return self.requests.count(JWKS_PATH)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append(handler.path)
        answer = self.answers.get(handler.path, answer_status(404))
        with suppress(OSError):  # the other side has given up
            answer(handler)

    def hang(self, _: BaseHTTPRequestHandler) -> None:
        """Accept, and never answer."""
        self.released.wait(60)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a byte at a time, each soon enough for a timeout that only looks at one read."""
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(100_000):
            handler.wfile.write(b" ")
            if self.released.wait(0.02):
                return


def answer_json(value: object, *, cache_control: str | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with JSON; bytes are sent as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        if cache_control is not None:
            handler.send_header("Cache-Control", cache_control)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def answer_status(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with a status and nothing else."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who hangs up is part of the test."""


@contextmanager
def key_server(tls: ssl.SSLContext | None = None) -> Iterator[KeyServer]:
    """Run one until the block ends; asked afterwards, its address refuses."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.handle(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
            """Keep quiet."""

    with _Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        running = KeyServer(server, "https" if tls else "http")
        thread = Thread(target=lambda: server.serve_forever(poll_interval=0.02))
        thread.start()
        try:
            yield running
        finally:
            running.released.set()
            server.shutdown()
            thread.join()
