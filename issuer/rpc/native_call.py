"""One call on the native transport: what its client sends, and its context as its handler sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from issuer.rpc.asgi_wire import GrpcFault, metadata_from_headers
from issuer.rpc.call_context import CallContext, presented

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from issuer.native_wheel import Headers, Peer, Server


class Taken(NamedTuple):
    """A call as the transport hands it over.

    Attributes:
        id: Its number, never used again.
        path: ``/package.Service/Method``.
        message: The first message; ``None`` when there is none.
        ended: None follows.
        peer: Who is at the other end of its connection; the same object for all of its calls.
        left: Seconds until the caller no longer waits; ``None`` when it did not say.
        headers: What it came with.
    """

    id: int
    path: str
    message: bytes | None
    ended: bool
    peer: Peer
    left: float | None
    headers: Headers


class NativeCall(CallContext):
    """A call that is answered by a handler of its own. When it is over before it is answered, its task is cancelled.

    Args:
        server: The transport.
        taken: What came of it.
        limit: The largest message that is sent, in bytes.
        now: The event loop's time.

    Attributes:
        task: What runs it.
    """

    __slots__ = ("_answered", "_ended", "_next", "_server", "_taken", "_written", "task")

    def __init__(self, server: Server, taken: Taken, limit: int, now: Callable[[], float]) -> None:
        super().__init__(taken.left, limit, now)
        self.task: asyncio.Task[None] | None = None
        self._server = server
        self._taken = taken
        self._ended = taken.ended
        self._answered = False
        self._next: asyncio.Future[bytes | None] | None = None
        self._written: asyncio.Future[None] | None = None

    # What its handler sees.

    def peer(self) -> str:
        """Return the network peer, spelled as gRPC does."""
        return self._taken.peer.address

    def auth_context(self) -> dict[str, list[bytes]]:
        """Return the chain that the peer presented, under grpcio's names: the leaf, and the rest where there is one."""
        return presented(self._taken.peer.leaf_pem, self._taken.peer.intermediates_pem)

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what the caller sent."""
        return metadata_from_headers(self._taken.headers.list())

    async def write(self, message: Message | bytes, *, last: bool = False) -> None:
        """Send one answer; returns once there is room for the next. ``last``: there is none, and the status is OK.

        Raises:
            GrpcFault: RESOURCE_EXHAUSTED, when it is larger than the limit.
        """
        body = self._encoded(message)
        if last:
            self._answered = True
            self._server.answer([(self._taken.id, body)])
            return
        self._written = asyncio.get_running_loop().create_future()
        self._server.send(self._taken.id, body)
        await self._written

    # What its client sends.

    async def only(self) -> bytes:
        """Return the message of a call that has exactly one.

        Raises:
            GrpcFault: UNIMPLEMENTED when there is none or another.
        """
        message = self._taken.message
        if message is None or (not self._ended and await self._following() is not None):
            # The status that gRPC's "Status codes and their use in gRPC" gives for it.
            raise GrpcFault(grpc.StatusCode.UNIMPLEMENTED, "this method takes exactly one message")
        return message

    async def next(self) -> bytes | None:
        """Return the next message; ``None`` after the last."""
        message, self._taken = self._taken.message, self._taken._replace(message=None)
        if message is not None:
            return message
        return None if self._ended else await self._following()

    async def _following(self) -> bytes | None:
        if self._next is None:  # the transport reads one ahead, which it was not asked for
            self._next = asyncio.get_running_loop().create_future()
        message = await self._next
        self._next = None
        if message is None:
            self._ended = True
        else:
            self._server.more(self._taken.id)
        return message

    # What the transport tells.

    def received(self, message: bytes | None) -> None:
        """Take in the next message; ``None``: there is none."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._next.set_result(message)

    def written(self) -> None:
        """Note that there is room for another answer."""
        if self._written is not None and not self._written.done():
            self._written.set_result(None)

    def close(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """End the call with a status, unless its only answer has said OK."""
        if not self._answered:
            self._server.end(self._taken.id, trailers)


def taken_from(call: tuple[Any, ...]) -> Taken:
    """Return a call of ``Server.take``."""
    return Taken._make(call)
