"""The issuer's side of the process that owns the SQLite ledger."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgpack

from issuer.core.hash_chain import Head
from issuer.core.ledger_claims import ClaimRow
from issuer.ledger.engine import Opened, RevocationRow
from issuer.ledger.entries import pack_entries
from issuer.ledger.errors import LedgerFault
from issuer.ledger.sqlite_connection import LENGTH, framed
from issuer.ledger.sqlite_file import Opening
from issuer.ledger.sqlite_process import CLAIM_TAKEN, CLAIMS, COMMIT, EPOCH_MOVED, OPEN, REVOCATIONS
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from issuer.core.ledger_entries import Entry
    from issuer.ledger.engine import Beginning

BUSY_MS = 1_000
"""How long a commit waits for a lock that another program holds on the file."""
LEAVE_SECONDS = 5.0


class SqliteLedger:
    """An :class:`~issuer.ledger.engine.Engine` over one file.

    Args:
        path: The file.
        at: The socket of the process that owns it, which several workers share; ``None`` has a process of its own.
        hangs: Is told that the shared process does not answer; what can be done is up to who started it.
    """

    def __init__(self, path: Path, *, at: Path | None = None, hangs: Callable[[], None] = lambda: None) -> None:
        self.name = str(path)
        self.shared = at is not None
        self._path = path.absolute()
        self._at = at
        self._hangs = hangs
        self._process: _Process | None = None

    @property
    def newest(self) -> Head | None:
        """The last entry of the chain that the shared process has told of."""
        return self._process.newest if self._process else None

    async def open(self, beginning: Beginning) -> Opened:
        """Open the ledger with a new chain, in a new process if the last one is gone; or join the one that is shared.

        Raises:
            LedgerFault: It cannot be opened.
        """
        if self._process is None:
            self._process = await self._reached()
        opening = Opening(
            path=str(self._path),
            wait_ms=BUSY_MS,
            pinned=beginning.pinned,
            last=beginning.last,
            new_store=beginning.new_store,
            writer=beginning.writer,
            time=beginning.time,
            program=beginning.program,
        )
        store, head, chain = await self._ask(OPEN, opening)
        return Opened(store, Head(*head), chain)

    async def commit(self, entries: Sequence[Entry], epoch: int | None = None) -> Head:
        """Write entries; they are on disk when this returns. Return the last one's place.

        Raises:
            EpochMoved: The ledger's epoch is another. Nothing was written.
            ClaimTaken: An entry claims what is taken. Likewise.
            LedgerFault: It is not known whether they are there; open it again.
        """
        answer = await self._ask(COMMIT, [pack_entries(entries), epoch, len(entries)])
        if answer == EPOCH_MOVED:
            raise EpochMoved
        if answer[0] == CLAIM_TAKEN:
            raise ClaimTaken(frozenset(answer[1:]))
        return Head(*answer)

    async def revocations(self, after: int, alive_at: int, limit: int) -> list[RevocationRow]:
        """Return the revocations that changed after a version, in that order, but those of tokens that are over.

        Raises:
            LedgerFault: They cannot be read; open it again.
        """
        return [RevocationRow(*row) for row in await self._ask(REVOCATIONS, [after, alive_at, limit])]

    async def claims(self, after: int, alive_at: int, limit: int) -> list[ClaimRow]:
        """Return what was claimed after a version, in that order, but what is over.

        Raises:
            LedgerFault: They cannot be read; open it again.
        """
        return [ClaimRow(*row) for row in await self._ask(CLAIMS, [after, alive_at, limit])]

    async def abandon(self) -> None:
        """End the process, whatever it does; of a shared one, the connection."""
        if self._process:
            if self.shared and self._process.was_given_up:
                self._hangs()
            self._process.kill()
            self._process = None

    async def close(self) -> None:
        """End the process, after it has written what it was given; of a shared one, the connection."""
        if self._process:
            await self._process.leave()
            self._process = None

    async def _reached(self) -> _Process:
        if self._at is None:
            return await _Process.start()
        try:
            return await _Process.connect(self._at)
        except OSError as error:
            raise LedgerFault(f"{self.name}: the ledger's process cannot be reached: {error.strerror}") from None

    async def _ask(self, kind: int, argument: object) -> Any:  # noqa: ANN401 - what msgpack reads
        if self._process is None:
            raise LedgerFault(f"{self.name}: the ledger's process has ended")
        try:
            return await self._process.ask(kind, argument)
        except EOFError:
            self._process.kill()
            self._process = None
            raise LedgerFault(f"{self.name}: the ledger's process has ended") from None


class _Answers(asyncio.Protocol):
    """The answers that come from the process, one to each question; nobody asks before the last was answered.

    A protocol, since streams took three turns of the event loop and as many futures for an answer.

    Attributes:
        ended: Set when no more come.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._read = bytearray()
        self._next: asyncio.Future[bytes] | None = None

    def next(self) -> asyncio.Future[bytes]:
        """Return what will hold the next answer.

        Raises:
            EOFError: There will be none.
        """
        if self.ended.is_set():
            raise EOFError
        self._next = asyncio.get_running_loop().create_future()
        return self._next

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        self._read += data
        while len(self._read) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._read)[0]
            if len(self._read) < end:
                return
            answer = bytes(self._read[LENGTH.size : end])
            del self._read[:end]
            if self._next is not None and not self._next.done():
                self._next.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Tell whoever waits that there will be none."""
        self.ended.set()
        if self._next is not None and not self._next.done():
            self._next.set_exception(EOFError())


class _Process:
    """One run of the process, or a connection to one that others started.

    Attributes:
        newest: The last entry of the chain, where others write to it.
        was_given_up: An answer did not come for so long that nobody waits for it.
    """

    def __init__(
        self, process: subprocess.Popen[bytes] | None, transport: asyncio.WriteTransport, answers: _Answers
    ) -> None:
        self.newest: Head | None = None
        self.was_given_up = False
        self._process = process
        self._transport = transport
        self._answers = answers
        self._number = 0

    @classmethod
    async def start(cls) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(start_process, theirs)
        loop = asyncio.get_running_loop()
        return cls(process, *await loop.create_unix_connection(_Answers, sock=ours))

    @classmethod
    async def connect(cls, at: Path) -> _Process:
        return cls(None, *await asyncio.get_running_loop().create_unix_connection(_Answers, str(at)))

    async def ask(self, kind: int, argument: object) -> Any:  # noqa: ANN401 - what msgpack reads
        """Return the answer to a command.

        Raises:
            LedgerFault: It could not be done.
            EOFError: The process is gone.
        """
        self._number += 1
        coming = self._answers.next()
        self._transport.write(framed([self._number, kind, argument]))
        try:
            answered = await coming
        except asyncio.CancelledError:
            self.was_given_up = True
            raise
        number, fault, answer, newest = msgpack.unpackb(answered, raw=False)
        self.newest = Head(*newest) if newest else None
        if fault is not None:
            raise LedgerFault(fault)
        if number != self._number:  # an earlier question was given up: its answer is not this one's
            raise EOFError
        return answer

    async def leave(self) -> None:
        self._transport.close()
        await self._answers.ended.wait()
        if self._process is None:
            return
        try:
            await asyncio.to_thread(self._process.wait, LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it. One that waits for a dead disk does not end; nobody waits for that here."""
        self._transport.close()
        if self._process is not None:
            self._process.kill()
            Thread(target=self._process.wait, name="ledger-reaper", daemon=True).start()


def start_process(owner: socket.socket, listener: socket.socket | None = None) -> subprocess.Popen[bytes]:
    """Start the process that owns the ledger. Blocks for a moment.

    Args:
        owner: Its end ends the process. Without a listener, commands come on it.
        listener: Where workers connect.
    """
    sockets = [owner] if listener is None else [owner, listener]
    numbers = [each.fileno() for each in sockets]
    command = [sys.executable, "-m", "issuer.ledger.sqlite_process", *map(str, numbers)]
    return subprocess.Popen(command, pass_fds=numbers)
