"""One worker process as the supervisor sees it."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from issuer.core.errors import IssuerError
from issuer.core.worker_pool import STARTING, Report
from issuer.workers.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class WorkerProcess:
    """A worker, from its start to its end.

    Attributes:
        place: Which of the workers it is.
        report: Whether it serves, as far as it said.
        listens: Set once it accepts calls.
        follows: It was told what there is, so that it has to be told of changes.
        fault: Why it could not start, if it said so.
        was_asked: It was told to leave.
        code: Its exit code, once it has ended.
        ended: Set then.
    """

    def __init__(self, place: int, process: asyncio.subprocess.Process) -> None:
        self.place = place
        self.report: Report = STARTING
        self.listens = asyncio.Event()
        self.follows = False
        self.fault = ""
        self.was_asked = False
        self.code: int | None = None
        self.ended = asyncio.Event()
        self._process = process
        self._began = time.monotonic()
        self._channel: Channel

    @classmethod
    async def start(
        cls, place: int, answer: Callable[[WorkerProcess, str, Any], Awaitable[object]]
    ) -> tuple[WorkerProcess, asyncio.Task[None]]:
        """Start one; return it with the task that lasts as long as it does.

        Args:
            place: Which of the workers it is.
            answer: Answers what it asks.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "issuer.workers.child", str(place), str(theirs.fileno())]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        worker = cls(place, process)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        worker._channel = Channel(reader, writer, lambda kind, argument: answer(worker, kind, argument))
        return worker, asyncio.get_running_loop().create_task(worker._run())

    async def _run(self) -> None:
        await self._channel.run()
        self.code = await self._process.wait()
        self.ended.set()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    async def ask(self, kind: str, argument: object, within: float) -> Any:  # noqa: ANN401 - as the channel brings it
        """Return its answer; ``None`` when it refuses, does not answer in time, or is gone."""
        try:
            return await self._channel.ask(kind, argument, within=within)
        except (ChannelClosed, TimeoutError, IssuerError):
            return None

    def tell(self, kind: str, argument: object = None) -> None:
        """Tell it something."""
        self._channel.tell(kind, argument)

    def stop(self) -> None:
        """Tell it to let its calls end, and to leave. Harmless when it is gone."""
        self.was_asked = True
        with suppress(ProcessLookupError):
            self._process.terminate()

    async def kill(self) -> None:
        """End it now; it answers nobody any more when this returns."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.ended.wait()
