"""uvicorn, with bounds on what one peer can hold."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette

MAX_CONNECTIONS = 512
"""Half of the usual limit of open files; past it a new connection is closed at once."""
MAX_HEADER_BYTES = 16 * 1024
HANDSHAKE_SECONDS = 5
REQUEST_SECONDS = 10
"""From the first byte, or the connection, to the end of the answer. Every answer is a few hundred bytes from memory."""
KEEP_ALIVE_SECONDS = 15
SHUTDOWN_SECONDS = 3


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which by itself waits without end for a request that never becomes whole."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection and start its clock."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Start the clock of a further request."""
        if self._deadline is None:
            self._start_clock()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Stop the clock; uvicorn's keep-alive time runs from here."""
        self._stop_clock()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class PublicServer(uvicorn.Server):
    """Serves on a socket that is already open, and leaves signals to the parent."""

    def __init__(
        self,
        app: Starlette,
        *,
        tls: ssl.SSLContext | None,
        headers: list[tuple[str, str]],
        on_listening: Callable[[], None],
    ) -> None:
        super().__init__(_config(app, headers))
        self._tls = tls
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; uvicorn's own cannot bound the TLS handshake, which asyncio lets take a minute."""
        loop = asyncio.get_running_loop()
        bounds: dict[str, Any] = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if self._tls else {}
        self.servers = [
            await loop.create_server(self._protocol, sock=listener, ssl=self._tls, **bounds)
            for listener in sockets or []
        ]
        self.started = True
        self._on_listening()

    def _protocol(self) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, app_state={})

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the end of the parent's pipe is the order to stop."""
        yield


def _config(app: Starlette, headers: list[tuple[str, str]]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=headers,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
