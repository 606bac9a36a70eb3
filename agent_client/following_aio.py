"""One stream of answers of the issuer, for asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from agent_client import exchanges
from agent_client.balancer import Attempt
from agent_client.clock import elapsed, utc_now
from agent_client.errors import ClientClosed, IssuerRequestError, IssuerTimedOut
from agent_client.exchanges import Circumstances
from agent_client.failures import CallStatus, failure_of_call
from agent_client.following import Replaced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from agent_client.client import ClientCore
    from agent_client.credentials import ChannelMaterial
    from agent_client.exchanges import Exchange

Answer = TypeVar("Answer")


async def follow(
    core: ClientCore[grpc.aio.Channel],
    material: Callable[[float], Awaitable[ChannelMaterial]],
    exchange: Exchange[Answer],
    quiet: float,
) -> AsyncGenerator[Answer, None]:
    """Yield the answers of a stream from the best of the issuer's addresses. It is not begun again.

    Args:
        core: What the client holds.
        material: Returns what to connect with, at a monotonic time at the latest.
        exchange: What to ask for, and what each answer means.
        quiet: Seconds without an answer after which it is given up.

    Raises:
        IssuerRequestError: The stream ended by a failure. Without one, the iteration ends.
        WorkloadApiError: There is no identity to call with.
        ClientClosed: The client was closed.
        Replaced: There is a newer SVID than it was begun with; looked at with each answer.
    """
    course, attempt = core.course(None), Attempt()
    try:
        made = await material(course.end)
        circumstances = Circumstances(made.caller, elapsed(), utc_now())
        method = core.begin(course, attempt, made).unary_stream(exchange.method, exchanges.serialize, exchange.parse)
        call = method(exchange.message)
        try:
            while (message := await _next(core, call, attempt, quiet)) is not grpc.aio.EOF:
                answer = exchange.read(message, circumstances)
                core.succeeded(attempt)
                yield answer
                if core.caller not in {None, made.caller}:
                    raise Replaced
        finally:
            call.cancel()  # without effect where it has ended
    except IssuerRequestError as failure:
        core.failed(course, attempt, failure)
        raise
    finally:
        for channel in core.end(attempt):
            await channel.close()


async def _next(core: ClientCore[grpc.aio.Channel], call: Any, attempt: Attempt, quiet: float) -> Any:  # noqa: ANN401 - gRPC's
    try:
        async with asyncio.timeout(quiet):
            return await call.read()
    except TimeoutError:
        raise IssuerTimedOut("the stream was quiet for too long") from None
    except grpc.aio.AioRpcError as error:
        ended = CallStatus(error.code().value[0], error.details() or "", tuple(error.trailing_metadata()))
        raise failure_of_call(ended, attempt.address) from error
    except asyncio.CancelledError as error:
        # gRPC ends the calls of a closed channel as if their tasks had been cancelled.
        task = asyncio.current_task()
        if core.closed and task is not None and not task.cancelling():
            raise ClientClosed("this client was closed during the call") from error
        raise
