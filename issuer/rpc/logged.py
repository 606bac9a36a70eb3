"""One log line for calls of the services that grpcio ships (health, reflection), like the pipeline's for our own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from structlog.typing import FilteringBoundLogger


class Context(Protocol):
    """What is asked of a call's context."""

    def peer(self) -> str:
        """Return the network peer."""
        ...


def logged_unary(
    method: str, behaviour: Callable[[Any, Any], Awaitable[Any]], log: FilteringBoundLogger
) -> Callable[[Any, Context], Awaitable[Any]]:
    """Return ``behaviour`` with a log line after each call."""

    async def handler(message: object, context: Context) -> object:
        with _one_line(method, context, log):
            return await behaviour(message, context)

    return handler


def logged_stream(
    method: str, behaviour: Callable[[Any, Any], Any], log: FilteringBoundLogger
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    """Return ``behaviour`` with a log line when its stream ends.

    ``behaviour`` may yield its answers or write them to the context; both forms are grpc.aio's.
    """

    async def handler(messages: object, context: Context) -> AsyncIterator[Any]:
        with _one_line(method, context, log):
            answers = behaviour(messages, context)
            if hasattr(answers, "__aiter__"):
                async for answer in answers:
                    yield answer
            else:
                await answers

    return handler


@contextmanager
def _one_line(method: str, context: Context, log: FilteringBoundLogger) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        log.info(
            "rpc",
            method=method,
            peer=context.peer(),
            duration_ms=round((time.perf_counter() - started) * 1000, 3),
        )
