"""One call as its handler sees it: that part of ``grpc.aio.ServicerContext`` that our handlers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from issuer.rpc.asgi_messages import ClientGone
from issuer.rpc.asgi_peer import chain_of, peer_of
from issuer.rpc.asgi_wire import GrpcFault, frame, metadata_from_headers, timeout_seconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from google.protobuf.message import Message

    from issuer.rpc.asgi_wire import Metadata

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity")],
    "trailers": True,
}


class AsgiContext:
    """A call on an ASGI server.

    Args:
        scope: The ASGI scope.
        send: The ASGI server's.
        limit: The largest message that is sent, in bytes.
        now: The event loop's time.

    Raises:
        GrpcFault: When the call's timeout is malformed.
    """

    __slots__ = ("_deadline", "_limit", "_now", "_scope", "_send", "_started", "_whole", "ending", "headers", "task")

    def __init__(self, scope: Mapping[str, Any], send: Send, limit: int, now: Callable[[], float]) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.ending: GrpcFault | None = None
        self.task: asyncio.Task[Any] | None = None
        self._scope = scope
        self._send = send
        self._limit = limit
        self._now = now
        self._started = self._whole = False
        timeout = self.headers.get(b"grpc-timeout")
        self._deadline = None if timeout is None else now() + timeout_seconds(timeout)

    def peer(self) -> str:
        """Return the network peer, spelled as gRPC does."""
        return peer_of(self._scope)

    def auth_context(self) -> dict[str, list[bytes]]:
        """Return the chain that the peer presented, under grpcio's names: the leaf, and the rest where there is one."""
        leaf, rest = chain_of(self._scope)
        if leaf is None:
            return {}
        return {"x509_pem_cert": [leaf]} | ({"x509_pem_cert_chain": [rest]} if rest is not None else {})

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller no longer waits; ``None`` when it did not say."""
        return None if self._deadline is None else max(0.0, self._deadline - self._now())

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what the caller sent."""
        return metadata_from_headers(self._scope["headers"])

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            GrpcFault: Always.
        """
        raise GrpcFault(code, details, trailing_metadata)

    async def write(self, message: Message | bytes, *, last: bool = False) -> None:
        """Send one answer; returns once the server has room for the next. ``last``: there is none.

        Raises:
            GrpcFault: RESOURCE_EXHAUSTED, when it is larger than the limit.
            ClientGone: When the client is not there any more.
        """
        body = message if isinstance(message, bytes) else message.SerializeToString()
        if len(body) > self._limit:
            text = f"sent message larger than max ({len(body)} vs. {self._limit})"
            raise GrpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        await self._sent({"type": "http.response.body", "body": frame(body), "more_body": not last})
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
