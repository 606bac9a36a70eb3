"""One call as its handler sees it: that part of ``grpc.aio.ServicerContext`` that our handlers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from issuer.rpc.asgi_messages import ClientGone
from issuer.rpc.asgi_peer import chain_of, peer_of
from issuer.rpc.asgi_wire import frame, metadata_from_headers, timeout_seconds
from issuer.rpc.call_context import CallContext, presented

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from google.protobuf.message import Message

    from issuer.rpc.asgi_wire import GrpcFault

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity")],
    "trailers": True,
}


class AsgiContext(CallContext):
    """A call on an ASGI server.

    Args:
        scope: The ASGI scope.
        send: The ASGI server's.
        limit: The largest message that is sent, in bytes.
        now: The event loop's time.

    Raises:
        GrpcFault: When the call's timeout is malformed.
    """

    __slots__ = ("_scope", "_send", "_started", "_whole", "ending", "headers", "task")

    def __init__(self, scope: Mapping[str, Any], send: Send, limit: int, now: Callable[[], float]) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        timeout = self.headers.get(b"grpc-timeout")
        super().__init__(None if timeout is None else timeout_seconds(timeout), limit, now)
        self.ending: GrpcFault | None = None
        self.task: asyncio.Task[Any] | None = None
        self._scope = scope
        self._send = send
        self._started = self._whole = False

    def peer(self) -> str:
        """Return the network peer, spelled as gRPC does."""
        return peer_of(self._scope)

    def auth_context(self) -> dict[str, list[bytes]]:
        """Return the chain that the peer presented, under grpcio's names: the leaf, and the rest where there is one."""
        return presented(*chain_of(self._scope))

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what the caller sent."""
        return metadata_from_headers(self._scope["headers"])

    async def write(self, message: Message | bytes, *, last: bool = False) -> None:
        """Send one answer; returns once the server has room for the next. ``last``: there is none.

        Raises:
            GrpcFault: RESOURCE_EXHAUSTED, when it is larger than the limit.
            ClientGone: When the client is not there any more.
        """
        await self._sent({"type": "http.response.body", "body": frame(self._encoded(message)), "more_body": not last})
        self._whole = last

    async def close(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Send the status, after which nothing can be sent.

        Raises:
            ClientGone: When the client is not there any more.
        """
        if not self._whole:
            await self._sent({"type": "http.response.body", "body": b"", "more_body": False})
        await self._sent({"type": "http.response.trailers", "headers": trailers})

    async def _sent(self, event: dict[str, Any]) -> None:
        try:
            if not self._started:
                self._started = True
                await self._send(_START)
            await self._send(event)
        except OSError as error:  # what ASGI has a server raise then
            raise ClientGone from error

    def end(self, fault: GrpcFault) -> None:
        """Stop the handler, wherever it waits, and answer with ``fault``. Without effect when it was told already."""
        if self.ending is None and self.task is not None:
            self.ending = fault
            self.task.cancel()
