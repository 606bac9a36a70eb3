"""Signs how far the ledger's chain has come, now and then, and keeps that in the ledger and in a file elsewhere."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from issuer.core.base64url import base64url
from issuer.core.checkpoint import MAX_CHECKPOINT_BYTES, LedgerCheckpoint, checkpoint_to_sign
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.ledger_entries import Checkpoint
from issuer.ledger.errors import LedgerFault
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.core.hash_chain import WriterHead
    from issuer.ledger.group_commit import GroupCommit
    from issuer.ports import Clock, Signer

_TAIL_BYTES: Final = 4 * MAX_CHECKPOINT_BYTES


class CheckpointFile:
    """A file of statements, one a line, to which lines are only ever added.

    Args:
        path: The file; made, for its owner to write and all to read, when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def last(self) -> str | None:
        """Return the last whole line; ``None`` when there is none.

        Raises:
            LedgerFault: The file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
                tail = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._fault(error) from None
        lines = tail.split(b"\n")[:-1]  # what comes after the last line feed was cut off while it was written
        return lines[-1].decode("ascii", "replace") if lines else None

    def statements(self) -> Iterator[str]:
        """Yield every line.

        Raises:
            LedgerFault: The file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                while line := file.readline(MAX_CHECKPOINT_BYTES):
                    yield line.decode("ascii", "replace").rstrip("\n")
        except OSError as error:
            raise self._fault(error) from None

    def append(self, statement: str) -> None:
        """Add a line; it is on disk when this returns.

        Raises:
            LedgerFault: It cannot be written.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                file.write(b"\n" * torn + statement.encode("ascii") + b"\n")
                os.fsync(descriptor)
        except OSError as error:
            raise self._fault(error) from None

    def _fault(self, error: OSError) -> LedgerFault:
        return LedgerFault(f"{self.path}: {error.strerror}")


class Checkpoints:
    """Makes checkpoints of one ledger.

    Args:
        ledger: Whose chain.
        signer: The issuer's key.
        issuer: The issuer's URL.
        file: Where they are kept beside the ledger; ``None`` for nowhere.
        clock: Their time.
        log: Is told when one could not be made.
    """

    def __init__(
        self,
        ledger: GroupCommit,
        signer: Signer,
        *,
        issuer: str,
        file: CheckpointFile | None,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._signer = signer
        self._issuer = issuer
        self._file = file
        self._clock = clock
        self._log = log
        self._stated: WriterHead | None = None

    async def run(self, every: float, stop: asyncio.Event) -> None:
        """Make one every so many seconds, if the chain has grown, until told to stop."""
        while not stop.is_set():
            await first_of(stop, within=every)
            await self.make()

    async def make(self) -> None:
        """State how far the chain is durable. A failure is logged: the chain stands, it is only not vouched for yet."""
        head, store = self._ledger.head, self._ledger.store
        if head is None or store is None or head == self._stated or self._ledger.fault:
            return
        try:
            statement = self._signed(LedgerCheckpoint(self._issuer, store, head, microseconds(self._clock.now())))
            if self._file is not None:
                await asyncio.to_thread(self._file.append, statement)
            await self._ledger.write(Checkpoint(statement))
        except (LedgerFault, TemporarilyUnavailable) as error:
            self._log.error("checkpoint_failed", error=str(error))
            return
        self._stated = head

    def _signed(self, checkpoint: LedgerCheckpoint) -> str:
        signer = self._signer.active()
        to_sign = checkpoint_to_sign(checkpoint, signer.algorithm, signer.key_id)
        return f"{to_sign.decode('ascii')}.{base64url(signer.sign(to_sign))}"
