"""gRPC over ASGI: serves gRPC handlers on any server that speaks HTTP/2 with trailers and hands over the peer's chain.

Unary calls, and streams in both directions as far as health and reflection need them: a call's requests are read one
after the other while its answers are sent. Compression is not offered. A client that goes away cancels its handler:
the server does that, as it cancels the application's task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from issuer.rpc.asgi_context import AsgiContext
from issuer.rpc.asgi_messages import ClientGone, MessageReader
from issuer.rpc.asgi_refusal import turned_away
from issuer.rpc.asgi_wire import GrpcFault, metadata_bytes, status_headers
from issuer.rpc.handler_run import Methods, run_handler
from issuer.rpc.held_calls import HeldCalls

if TYPE_CHECKING:
    from collections.abc import Coroutine, MutableMapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from issuer.rpc.asgi_context import Send
    from issuer.rpc.asgi_messages import Receive
    from issuer.rpc.door import Door
    from issuer.rpc.settings import RpcSettings

DEADLINE_LOOK_SECONDS = 0.02
"""How often deadlines are looked at while calls are open: a timer for each call costs 5 us, this costs next to nothing.

A client that keeps its own deadline, as all of gRPC's do, cancels its call itself and is not told anything later.
"""
LEAST_LEFT_SECONDS = 1.0
"""Until its deadline, for a call that may be held: several times what that takes."""
_OK = status_headers(grpc.StatusCode.OK, "")
_CONTENT_TYPES = (b"application/grpc", b"application/grpc+proto")


class AsgiGrpc:
    """An ASGI application that serves gRPC handlers.

    Args:
        handlers: What would be given to ``grpc.aio.Server.add_generic_rpc_handlers``.
        settings: The limits.
        log: Where faults of handlers are told.
        door: Refuses calls before they are read.

    Attributes:
        held: Calls that have their answer wait in it for their status.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        settings: RpcSettings,
        log: FilteringBoundLogger,
        door: Door | None = None,
    ) -> None:
        self._methods = Methods(handlers)
        self._limit = settings.max_message_bytes
        self._metadata_limit = settings.max_metadata_bytes
        self._log = log
        self._door = door
        self._open: set[AsgiContext] = set()
        self._looking = False
        self.held = HeldCalls()

    def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Serve one call."""
        if self._door is not None and self._door.busy and scope["type"] == "http" and _http_refusal(scope) is None:
            refusing = turned_away(self._door, scope, send)
            if refusing is not None:
                return refusing
        return self._serve(scope, receive, send)

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        if (status := _http_refusal(scope)) is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            context = AsgiContext(scope, send, self._limit, asyncio.get_running_loop().time)
        except GrpcFault as fault:
            await AsgiContext({**scope, "headers": []}, send, self._limit, float).close(_trailers(fault))
            return
        context.task = asyncio.current_task()
        self._open.add(context)
        self._look_at_deadlines()
        try:
            trailers = await self._answered(context, scope, receive)
            if self.held:
                await self._hold(context)
            await context.close(trailers)
        except ClientGone:
            return
        finally:
            self._open.discard(context)

    def end_calls(self, fault: GrpcFault) -> None:
        """End every open call with a status."""
        for context in tuple(self._open):
            context.end(fault)

    async def _hold(self, context: AsgiContext) -> None:
        """Wait with a call's status, unless its caller waits not much longer, or it is told to end."""
        left = context.time_remaining()
        if left is not None and left < LEAST_LEFT_SECONDS:
            return
        try:
            await self.held.wait()
        except asyncio.CancelledError:
            if context.ending is None or context.task is None:
                raise
            context.task.uncancel()

    async def _answered(
        self, context: AsgiContext, scope: MutableMapping[str, Any], receive: Receive
    ) -> list[tuple[bytes, bytes]]:
        """Run the handler and return the trailers of its status."""
        try:
            self._check(context, scope)
            handler = self._methods.find(scope["path"])
            await run_handler(handler, MessageReader(receive, self._limit), context)
        except GrpcFault as fault:
            return _trailers(fault)
        except asyncio.CancelledError:
            if context.ending is None or context.task is None:
                raise
            context.task.uncancel()
            return _trailers(context.ending)
        except ClientGone:
            raise
        except Exception:  # noqa: BLE001 - the last line of defence, as the pipeline has it for our own methods
            self._log.exception("rpc_fault", method=scope["path"])
            return status_headers(grpc.StatusCode.UNKNOWN, "unexpected fault of the server")
        return _OK

    def _check(self, context: AsgiContext, scope: MutableMapping[str, Any]) -> None:
        if metadata_bytes(scope["headers"]) > self._metadata_limit:
            raise GrpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, "received metadata larger than max")
        encoding = context.headers.get(b"grpc-encoding", b"identity")
        if encoding != b"identity":
            # grpc-accept-encoding, in the headers of every answer, says what would do (gRPC "Compression" section).
            raise GrpcFault(grpc.StatusCode.UNIMPLEMENTED, "messages cannot be compressed")

    def _look_at_deadlines(self) -> None:
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(DEADLINE_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._looking = False
        for context in tuple(self._open):
            if context.time_remaining() == 0:
                context.end(GrpcFault(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))
        if self._open:
            self._look_at_deadlines()


def _http_refusal(scope: MutableMapping[str, Any]) -> int | None:
    """Return the HTTP status for what is no gRPC call; ``None`` for a call."""
    if scope["method"] != "POST":
        return 405
    headers = scope["headers"]
    content_type = dict(headers).get(b"content-type", b"")
    if content_type not in _CONTENT_TYPES and content_type.partition(b";")[0].strip().lower() not in _CONTENT_TYPES:
        return 415
    # Without it no trailers can be sent, and so no status. All clients of gRPC send it, and proxies that lose it are
    # what it is there to find.
    return None if (b"te", b"trailers") in headers else 400


def _trailers(fault: GrpcFault) -> list[tuple[bytes, bytes]]:
    return status_headers(fault.code, fault.details, fault.trailing_metadata)
