"""A worker process: ``python -m issuer.workers.child PLACE DESCRIPTOR``, started by the supervisor.

It is told everything over the socket of the descriptor, and leaves when that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from issuer.app import STARTUP_FAULTS
from issuer.config import parse_config
from issuer.garbage_collection import look_seldom
from issuer.log import StandardLogging, open_log
from issuer.workers import messages
from issuer.workers.channel import Channel, ChannelClosed
from issuer.workers.messages import Beginning
from issuer.workers.worker import WorkerApp

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

BEGIN_SECONDS: Final = 60.0


def main() -> None:
    """Work until told to stop, or until the supervisor is gone."""
    place, descriptor = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(Worker(place).run(socket.socket(fileno=descriptor))))


class Worker:
    """One run of a worker.

    Args:
        place: Which of the workers it is, for the log.
    """

    def __init__(self, place: int) -> None:
        self._place = place
        self._app: asyncio.Future[WorkerApp] = asyncio.Future()

    async def run(self, connection: socket.socket) -> int:
        """Run; return the exit code."""
        channel = Channel(*await asyncio.open_unix_connection(sock=connection), self._answer)
        reading = asyncio.create_task(channel.run())
        reading.add_done_callback(self._supervisor_is_gone)
        try:
            beginning = Beginning(*await channel.ask(messages.BEGIN, within=BEGIN_SECONDS))
        except (ChannelClosed, TimeoutError):
            return 1
        config = parse_config(beginning.text, Path(beginning.config), os.environ)  # noqa: TID251 - as `issuer serve`
        look_seldom()
        log = open_log(config.log.format).bind(worker=self._place)
        logging.getLogger().addHandler(StandardLogging(log))
        app = WorkerApp(config, beginning, channel, log)
        self._app.set_result(app)
        return await _code(app, channel, log)

    async def _answer(self, kind: str, argument: Any) -> object:  # noqa: ANN401 - as the channel brings it
        """Answer once there is something to answer with."""
        answers = await (await asyncio.shield(self._app)).told
        return await answers.answer(kind, argument)

    def _supervisor_is_gone(self, _: object) -> None:
        if self._app.done():
            self._app.result().leave()


async def _code(app: WorkerApp, channel: Channel, log: FilteringBoundLogger) -> int:
    try:
        await app.run()
    except STARTUP_FAULTS as error:
        channel.tell(messages.FAILED, str(error))
        await channel.drained()
        return 1
    except Exception as error:
        log.exception("issuer_fault")
        channel.tell(messages.FAILED, f"a defect of its own ({type(error).__name__}); see `issuer_fault` in the log")
        await channel.drained()
        return 1
    return 0


if __name__ == "__main__":
    main()
