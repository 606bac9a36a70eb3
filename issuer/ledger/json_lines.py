"""The decisions once more, as lines of JSON in a file or on standard output, for whoever ships logs.

The ledger is the record; this is a copy. A *required* copy is written before anybody is answered, and nobody is
answered while it cannot be. A *best-effort* copy is written afterwards, and a line says how many entries it missed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Final

import orjson

from issuer.core.ecs import ecs_document
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import Event, detail
from issuer.ledger.errors import LedgerFault
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from issuer.core.ledger_entries import Entry
    from issuer.ports import Clock

LOOK_SECONDS: Final = 0.4
"""So often the file is looked at: a second is promised, and a busy machine may be late."""
MAX_BEHIND: Final = 10_000
"""So many entries wait for a best-effort copy before it misses some."""
STANDARD_OUTPUT: Final = "-"


class JsonLines:
    """A copy of the ledger's entries.

    Args:
        path: The file, to which lines are added; ``-`` is standard output.
        required: Whether nobody is answered without it.
        clock: The time of the lines about the copy itself.
        log: Is told of faults and of recovery.
        on_change: Runs when the copy failed, or works again.
        lock: A file whose lock is held while lines are written, where other workers write to the same; else ``None``.
    """

    def __init__(
        self,
        path: str,
        *,
        required: bool,
        clock: Clock,
        log: FilteringBoundLogger,
        on_change: Callable[[], None],
        lock: Path | None = None,
    ) -> None:
        self.name = "standard output" if path == STANDARD_OUTPUT else path
        self.required = required
        self.fault: str | None = None
        self.missed = 0
        self._path = None if path == STANDARD_OUTPUT else Path(path)
        self._clock = clock
        self._log = log
        self._on_change = on_change
        self._lock = lock
        self._file = -1
        self._size = 0
        self._moved_on_purpose = False
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._behind: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open it, and begin to look after it.

        Raises:
            LedgerFault: It cannot be opened.
        """
        # One thread: a write that hangs holds up the next ones and nothing else, not even the end of the process.
        Thread(target=self._run_tasks, name="json-lines", daemon=True).start()
        await self._in_thread(self._open_file)
        self._work = asyncio.create_task(self._look_after())

    async def write(self, entries: Sequence[Entry]) -> None:
        """Return when the entries are in a required copy; at once for a best-effort one.

        Raises:
            LedgerFault: It is required, and it is not known whether they are there.
        """
        if not self.required:
            self._take(entries)
        elif self.fault:
            raise LedgerFault(self.fault)
        else:
            try:
                await self._in_thread(self._append, entries)
            except LedgerFault as fault:
                self.missed += len(entries)
                self._set_fault(str(fault))
                raise
            except asyncio.CancelledError:  # whoever waits has given up; the write may still end
                self.missed += len(entries)
                self._set_fault(f"{self.name}: does not answer")
                raise

    def reopen(self) -> None:
        """Go on in the file that has the name now: the last one was moved away on purpose."""
        self._moved_on_purpose = True
        self._wake.set()

    async def close(self) -> None:
        """Write what a best-effort copy is behind, as far as it can, and leave."""
        if self._work:
            self._work.cancel()
            await asyncio.wait({self._work})
        if not self.fault:
            with suppress(LedgerFault, TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._catch_up()
        self._tasks.put(self._close_file)
        self._tasks.put(None)

    async def _look_after(self) -> None:
        while True:
            await first_of(self._wake, within=LOOK_SECONDS)
            self._wake.clear()
            try:
                await self._in_thread(self._check_file)
                if self.missed:
                    await self._in_thread(self._tell_missed)
                await self._catch_up()
            except LedgerFault as fault:
                self._set_fault(str(fault))
            else:
                self._set_fault(None)

    def _take(self, entries: Sequence[Entry]) -> None:
        room = MAX_BEHIND - len(self._behind)
        self._behind.extend(entries[:room])
        self.missed += max(len(entries) - room, 0)
        self._wake.set()

    async def _catch_up(self) -> None:
        while self._behind:
            some = [self._behind.popleft() for _ in range(min(len(self._behind), 256))]
            try:
                await self._in_thread(self._append, some)
            except LedgerFault:
                self.missed += len(some)
                raise

    async def _in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def task() -> None:
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever it is, it goes to who waits for it
                fault: Exception | None = error
            else:
                fault = None
            with suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(_settle, done, fault)

        self._tasks.put(task)
        await done

    # What follows runs in the thread.

    def _run_tasks(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _open_file(self) -> None:
        if self._path is None:
            self._file = os.dup(sys.stdout.fileno())
            return
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._size = os.fstat(self._file).st_size
        except OSError as error:
            raise LedgerFault(f"{self.name}: cannot be opened: {error.strerror}") from None

    def _append(self, entries: Sequence[Entry]) -> None:
        documents = (ecs_document(entry) for entry in entries)
        lines = b"".join(orjson.dumps(document) + b"\n" for document in documents if document)
        self._check_file()
        try:
            with self._alone():
                self._write_whole(memoryview(lines))
            if self._path is not None:
                os.fdatasync(self._file)
        except OSError as error:
            raise LedgerFault(f"{self.name}: cannot be written: {error.strerror}") from None

    def _write_whole(self, left: memoryview) -> None:
        while left:
            written = os.write(self._file, left)
            left, self._size = left[written:], self._size + written

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other workers from writing, whose lines could come into the middle of ours: a pipe parts long writes."""
        if self._lock is None:
            yield
            return
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self._path is not None:
                self._size = os.fstat(self._file).st_size
            yield
        finally:
            os.close(descriptor)

    def _tell_missed(self) -> None:
        """Begin a new line, for the last may be torn, and tell how many entries are only in the ledger."""
        missed = self.missed
        try:
            with self._alone():
                if self._path is None or (self._size and os.pread(self._file, 1, self._size - 1) != b"\n"):
                    self._size += os.write(self._file, b"\n")
        except OSError as error:
            raise LedgerFault(f"{self.name}: cannot be written: {error.strerror}") from None
        now = microseconds(self._clock.now())
        self._append([Event("copy_missed_entries", now, "", detail({"entries": missed}))])
        self.missed -= missed

    def _check_file(self) -> None:
        """See that the name still leads to the open file, and that nothing was taken from it."""
        if self._path is None:
            return
        if self._moved_on_purpose:
            self._moved_on_purpose = False
            self._close_file()
        if self._file < 0:
            self._open_file()
        fault = self._what_befell(self._path, os.fstat(self._file))
        if fault is None:
            return
        if self.required:
            raise LedgerFault(f"{self.name}: {fault}; put it back, or send SIGHUP to go on in a new file")
        self._log.warning("copy_reopened", copy=self.name, fault=fault)
        self._close_file()
        self._open_file()

    def _what_befell(self, path: Path, ours: os.stat_result) -> str | None:
        try:
            there = path.stat()
        except OSError:
            return "was deleted or moved"
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            return "was replaced by another file"
        return "was truncated" if ours.st_size < self._size else None

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _set_fault(self, fault: str | None) -> None:
        if fault == self.fault:
            return
        self.fault = fault
        if fault is None:
            self._log.info("copy_open", copy=self.name)
        else:
            self._log.error("copy_fault", error=fault)
        self._on_change()


def _settle(done: asyncio.Future[None], fault: Exception | None) -> None:
    if done.done():  # whoever waited has given up
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)
