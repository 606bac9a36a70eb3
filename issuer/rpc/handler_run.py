"""Runs a handler that was made for grpc.aio on a transport of another kind."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from issuer.rpc.asgi_wire import GrpcFault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from google.protobuf.message import Message


class Requests(Protocol):
    """The messages that a client sends in one call."""

    async def next(self) -> bytes | None:
        """Return the next message; ``None`` after the last.

        Raises:
            GrpcFault: When it cannot be read.
        """
        ...

    async def only(self) -> bytes:
        """Return the message of a call that has exactly one.

        Raises:
            GrpcFault: UNIMPLEMENTED when there is none or another; or as :meth:`next`.
        """
        ...


class Answers(Protocol):
    """A call's context, as far as running its handler needs it."""

    async def write(self, message: Message | bytes, *, last: bool = False) -> None:
        """Send one answer; returns once there is room for the next. ``last``: there is none."""
        ...


class Methods:
    """The handlers of generic handlers, by path.

    Args:
        handlers: What would be given to ``grpc.aio.Server.add_generic_rpc_handlers``.
    """

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers = handlers
        self._known: dict[str, grpc.RpcMethodHandler] = {}

    def find(self, path: str) -> grpc.RpcMethodHandler:
        """Return the handler of a method, ``/package.Service/Method``.

        Raises:
            GrpcFault: UNIMPLEMENTED, when there is none.
        """
        handler = self._known.get(path)
        if handler is None:
            details = _CallDetails(path)
            handler = next(filter(None, (each.service(details) for each in self._handlers)), None)
            if handler is None:
                raise GrpcFault(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            self._known[path] = handler  # only of methods that exist, so as many as there are
        return handler


class _CallDetails(grpc.HandlerCallDetails):  # type: ignore[misc] # grpcio has no types here
    """What a generic handler is asked with."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


async def run_handler(handler: grpc.RpcMethodHandler, requests: Requests, context: Answers) -> None:
    """Run a handler for one call; its answers go to ``context``, which is what it sees of the call.

    Raises:
        GrpcFault: The call ends with this status.
        Exception: Whatever the handler raises.
    """
    if handler.request_streaming:
        asked: Any = _all(handler, requests)
    else:
        asked = _parsed(handler, await requests.only())
    if not handler.response_streaming:
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        await context.write(await behaviour(asked, context), last=True)
        return
    behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
    async with aclosing(behaviour(asked, context)) as answers:
        async for answer in answers:
            await context.write(answer)


async def _all(handler: grpc.RpcMethodHandler, requests: Requests) -> AsyncIterator[Any]:
    while (message := await requests.next()) is not None:
        yield _parsed(handler, message)


def _parsed(handler: grpc.RpcMethodHandler, message: bytes) -> Any:  # noqa: ANN401 - whatever the handler takes
    try:
        return handler.request_deserializer(message) if handler.request_deserializer else message
    except Exception as error:
        raise GrpcFault(grpc.StatusCode.INTERNAL, "Exception deserializing request!") from error
