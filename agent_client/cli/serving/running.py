"""From the first tokens to the signal that ends it. Imports gRPC: import it when it is needed."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from agent_client import IssuerClient
from agent_client.cli.failure import CommandFailed, failure_of
from agent_client.cli.messages import tell
from agent_client.cli.service_manager import ServiceManager
from agent_client.cli.serving.server import TokenServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from agent_client import TokenSource
    from agent_client.cli.options import ConnectionOptions
    from agent_client.cli.serving.guard import Guard
    from agent_client.cli.serving.wanted import WantedToken


async def serve_until_ended(
    listener: socket.socket, where: str, guard: Guard, wanted: Sequence[WantedToken], connection: ConnectionOptions
) -> signal.Signals:
    """Serve until SIGTERM or SIGINT, and return which it was.

    Raises:
        CommandFailed: One of the tokens cannot be had.
    """
    stop, ended_by = asyncio.Event(), [signal.SIGTERM]

    def end(number: signal.Signals) -> None:
        ended_by[0] = number
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    async with IssuerClient(**connection.arguments()) as client:
        sources = {token.audience: client.tokens_for(**token.arguments(), keep_fresh=True) for token in wanted}
        first = asyncio.ensure_future(_first_tokens(sources, connection.seconds))
        if not await _before(first, stop):
            return ended_by[0]
        manager = ServiceManager()
        beating = asyncio.ensure_future(_beat(manager))
        status = f"giving out {len(sources)} {'token' if len(sources) == 1 else 'tokens'} on {where}"
        manager.ready(status)
        tell("note", status)
        await TokenServer(sources, guard, connection.seconds).serve(listener, stop)
        manager.stopping()
        beating.cancel()
    return ended_by[0]


async def _first_tokens(sources: dict[str, TokenSource], seconds: float) -> None:
    """Get every token once. One that is refused ends the command: what is asked for cannot be had."""

    async def first(audience: str, source: TokenSource) -> None:
        try:
            await source.get(timeout=seconds)
        except Exception as error:
            failure = failure_of(error)
            raise CommandFailed(failure.code, f"{audience}: {failure.message}", failure.details) from error

    await asyncio.gather(*(first(audience, source) for audience, source in sources.items()))


async def _before(task: asyncio.Future[Any], stop: asyncio.Event) -> bool:
    """Say whether ``task`` ended before ``stop`` came; what it raises is raised."""
    stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    return False


async def _beat(manager: ServiceManager) -> None:
    while manager.watchdog_seconds is not None:
        manager.alive()
        await asyncio.sleep(manager.watchdog_seconds)
