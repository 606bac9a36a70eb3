"""The one process that owns the SQLite ledger, started again whenever it ends; workers connect to its socket.

The socket is the supervisor's and stays: who connects while the process is away waits for the next one.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from issuer.core.worker_pool import Restarts
from issuer.ledger.sqlite_ledger import LEAVE_SECONDS, start_process
from issuer.waiting import first_of

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger

YOUNG_SECONDS: Final = 5.0
"""So young it cannot be the one that did not answer for 30 seconds."""
BACKLOG: Final = 128
"""Above the number of workers; each has one connection, and connects again when it is lost."""


class LedgerProcess:
    """Keeps the process. With PostgreSQL there is none, and only the folder is made.

    Args:
        in_file: Whether the ledger is a file.
        log: Is told of ends.

    Attributes:
        socket: Where it is reached, in a folder that only this user can enter.
        copy_lock: A file for the lock of the decision log.
    """

    def __init__(self, *, in_file: bool, log: FilteringBoundLogger) -> None:
        self._in_file = in_file
        self._log = log
        self._folder = Path(tempfile.mkdtemp(prefix="spiffe-issuer-"))  # mode 0700
        self.socket = self._folder / "ledger.sock"
        self.copy_lock = self._folder / "decision-log.lock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: socket.socket | None = None
        self._began = 0.0
        self._stopping = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.copy_lock.touch(mode=0o600)
        self._listener.bind(str(self.socket))
        self._listener.listen(BACKLOG)
        if self._in_file:
            await self._start()
            self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End the process, after it has written what it was given."""
        self._stopping.set()
        if self._owner is not None:
            self._owner.close()
        if self._keeping is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await asyncio.shield(self._keeping)
            self._kill()
            await self._keeping
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def hangs(self) -> None:
        """End a process that does not answer; another one begins. Several workers find that out at the same time."""
        if asyncio.get_running_loop().time() - self._began >= YOUNG_SECONDS:
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def _start(self) -> None:
        self._owner, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.to_thread(start_process, theirs, self._listener)
        self._began = asyncio.get_running_loop().time()

    async def _keep(self) -> None:
        restarts, loop = Restarts(), asyncio.get_running_loop()
        while self._process is not None:
            code = await asyncio.to_thread(self._process.wait)
            if self._stopping.is_set():
                return
            pause = restarts.pause_after(loop.time() - self._began, asked=False)
            self._log.error("ledger_process_ended", exit_code=code, next_start_in_seconds=pause)
            await first_of(self._stopping, within=pause)
            if self._stopping.is_set():
                return
            await self._start()
