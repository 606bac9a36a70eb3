"""The messages of one call, out of the pieces in which an ASGI server hands over a request's body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from issuer.rpc.asgi_wire import PREFIX_BYTES, GrpcFault, message_length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client ended the call, or its connection ended, before its request was whole or its answer was sent."""


class MessageReader:
    """Reads length-prefixed messages.

    Holds at most one message and what the server handed over with its end: the server's receive window bounds that.

    Args:
        receive: The ASGI server's.
        limit: The largest message, in bytes; a larger one is refused by its prefix, before it is read.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._held: bytes | bytearray = b""
        self._more = True

    async def next(self) -> bytes | None:
        """Return the next message; ``None`` after the last.

        Raises:
            GrpcFault: When it is malformed, compressed or too large.
            ClientGone: When the client is not there any more.
        """
        if not await self._hold(PREFIX_BYTES):
            return None
        end = PREFIX_BYTES + message_length(self._held, self._limit)
        if not await self._hold(end):
            raise GrpcFault(grpc.StatusCode.INTERNAL, "the request ends within a message")
        message, self._held = bytes(self._held[PREFIX_BYTES:end]), self._held[end:]
        return message

    async def only(self) -> bytes:
        """Return the message of a call that has exactly one.

        Raises:
            GrpcFault: UNIMPLEMENTED when there is none or another; or as :meth:`next`.
            ClientGone: As :meth:`next`.
        """
        message = await self.next()
        if message is None or await self.next() is not None:
            # The code that gRPC's "Status codes and their use in gRPC" gives for it.
            raise GrpcFault(grpc.StatusCode.UNIMPLEMENTED, "this method takes exactly one message")
        return message

    async def _hold(self, size: int) -> bool:
        """Read until so many bytes are held; ``False`` when the request ended without a byte of the message."""
        while len(self._held) < size:
            if not self._more:
                if self._held:
                    raise GrpcFault(grpc.StatusCode.INTERNAL, "the request ends within a message")
                return False
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise ClientGone
            self._more = event.get("more_body", False)
            self._add(event.get("body", b""))
        return True

    def _add(self, piece: bytes) -> None:
        if not self._held:
            self._held = piece
        elif piece:
            if isinstance(self._held, bytes):
                self._held = bytearray(self._held)
            self._held += piece
