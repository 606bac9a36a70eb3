"""The ledger of a running issuer with all that looks after it: its copy, checkpoints, pruning."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.access_book import AccessBook
from issuer.core.approval_book import ApprovalBook
from issuer.core.checkpoint import CheckpointInvalid, ledger_keys, verified_checkpoint
from issuer.core.claim_books import ClaimBooks
from issuer.core.errors import TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.intent_book import IntentBook
from issuer.core.key_ring_shared import KeysOfLedger
from issuer.core.refusal_budget import COUNT_EVERY_SECONDS, RefusalBudget
from issuer.core.status_index import BlocksTaken
from issuer.ledger.checkpoints import CheckpointFile, Checkpoints
from issuer.ledger.errors import LedgerFault
from issuer.ledger.group_commit import GroupCommit
from issuer.ledger.json_lines import JsonLines
from issuer.ledger.postgres_ledger import PostgresLedger
from issuer.ledger.pruning import prune
from issuer.ledger.reading import LedgerReader
from issuer.ledger.revocation_book import LedgerRevocations
from issuer.ledger.sqlite_ledger import SqliteLedger
from issuer.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from issuer.config_sections import DecisionLogSection, LedgerSection
    from issuer.core.checkpoint import LedgerCheckpoint
    from issuer.ledger.engine import Engine
    from issuer.ledger.observing import Observer
    from issuer.ports import Clock, Ids, Signer

PRUNE_SECONDS: Final = 3600.0
EVENTS_AT_ONCE: Final = 64
"""Counts in one write, so that they leave room for decisions."""


class Sharing(NamedTuple):
    """What a worker shares with the others of its issuer, and what it leaves to the supervisor.

    Attributes:
        at: The socket of the process that owns an SQLite ledger.
        copy_lock: The file whose lock is held while lines of the decision log are written.
        hangs: Is told that the process does not answer.
        is_supervisor: It prunes, and signs checkpoints of the chain that all write to.
    """

    at: Path
    copy_lock: Path
    hangs: Callable[[], None]
    is_supervisor: bool


class LedgerKeeping:
    """Opens the ledger, keeps it, and closes it.

    Args:
        section: Where it is, and how it is kept.
        copy: Where else entries go.
        issuer: The issuer's URL.
        signer: Signs checkpoints.
        clock: The time of what the issuer itself writes.
        ids: Where ids come from.
        log: Where it reports.
        on_change: Runs when the ledger failed, or works again.
        observer: Is told what the ledger does.
        sharing: What is shared with other workers; ``None`` where there are none.
    """

    def __init__(
        self,
        section: LedgerSection,
        copy: DecisionLogSection,
        *,
        issuer: str,
        signer: Signer,
        clock: Clock,
        ids: Ids,
        log: FilteringBoundLogger,
        on_change: Callable[[], None],
        observer: Observer,
        sharing: Sharing | None = None,
    ) -> None:
        self._section = section
        prunes = sharing is None or sharing.is_supervisor
        self._keep = section.keep if prunes else None
        self._signs = prunes or section.file is None  # in PostgreSQL each writer has a chain of its own
        self._signer = signer
        self._clock = clock
        self._log = log
        self._stop = asyncio.Event()
        self._work: list[asyncio.Task[None]] = []
        self.copy: JsonLines | None = None
        if copy.path is not None:
            self.copy = JsonLines(
                copy.path,
                required=copy.required,
                clock=clock,
                log=log,
                on_change=on_change,
                lock=sharing.copy_lock if sharing else None,
            )
        self.revocations = LedgerRevocations(signer.key_id)
        self.refusals = RefusalBudget(section.recorded_refusals)
        self.approvals = ApprovalBook()
        self.accesses = AccessBook()
        self.intents = IntentBook()
        self.status_blocks = BlocksTaken()
        # An issuer on SQLite is the only one on its ledger: no other signs by keys that it does not have.
        self.keys = KeysOfLedger() if section.file is None else None
        shared = () if self.keys is None else (self.keys,)
        self.ledger = GroupCommit(
            ledger_engine(section) if sharing is None else _shared_engine(section, sharing),
            revocations=self.revocations,
            claims=ClaimBooks(self.approvals, self.accesses, self.intents, self.status_blocks, *shared),
            max_wait=section.max_wait,
            max_waiting=section.max_waiting,
            program=f"{issuer} {version('spiffe-issuer')}",
            clock=clock,
            ids=ids,
            log=log,
            on_change=on_change,
            observer=observer,
            copy=self.copy,
        )
        self._checkpoint_file = CheckpointFile(section.checkpoints) if section.checkpoints else None
        self._checkpoints = Checkpoints(
            self.ledger, signer, issuer=issuer, file=self._checkpoint_file, clock=clock, log=log
        )

    async def open(self) -> None:
        """Open the ledger that belongs here, sign its first checkpoint, and begin to look after it.

        Raises:
            LedgerFault: It cannot be opened, or is another one or an older state than the last checkpoint tells, or
                issuers that share it have other keys.
        """
        if self.copy is not None:
            await self.copy.open()
        if (last := self._last_checkpoint()) is not None:
            await self.ledger.open(last.store, last.head)
        else:
            await self.ledger.open()
        await self._check_keys()
        if self._signs:
            await self._sign()
        self._work.append(asyncio.create_task(self._count_refusals()))
        if self._keep is not None:
            self._work.append(asyncio.create_task(self._prune_hourly(self._keep)))

    async def _check_keys(self) -> None:
        """Refuse, before anything is signed, to share a ledger with issuers that have other keys."""
        known = {each.key_id for each in self._signer.known_keys().keys}
        if self.keys is not None and (fault := self.keys.fault(self._signer.active().key_id, known)):
            await self.ledger.close()
            raise LedgerFault(fault)

    async def _sign(self) -> None:
        await self._checkpoints.make()
        every = self._section.checkpoint_every.total_seconds()
        self._work.append(asyncio.create_task(self._checkpoints.run(every, self._stop)))

    async def close(self) -> None:
        """Write what is counted, sign a last checkpoint, write what is queued, and leave."""
        self._stop.set()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._write_counts()
        if self._signs:
            await self._checkpoints.make()
        await self.ledger.close()
        if self.copy is not None:
            await self.copy.close()

    def _last_checkpoint(self) -> LedgerCheckpoint | None:
        statement = self._checkpoint_file.last() if self._checkpoint_file else None
        if statement is None:
            return None
        try:
            return verified_checkpoint(statement, ledger_keys(self._signer.known_keys().jwks.decode()))
        except CheckpointInvalid as error:
            raise LedgerFault(
                f"{self._section.checkpoints}: its last line {error}, and so does not tell which ledger belongs here: "
                "look into that, then move the file away"
            ) from None

    async def _count_refusals(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(COUNT_EVERY_SECONDS)
            await self._write_counts()

    async def _write_counts(self) -> None:
        """Write how many refusals were not recorded one by one."""
        events = self.refusals.take_counts(microseconds(self._clock.now()))
        for first in range(0, len(events), EVENTS_AT_ONCE):
            try:
                await self.ledger.write(*events[first : first + EVENTS_AT_ONCE])
            except TemporarilyUnavailable as error:
                self._log.error("refusal_counts_lost", callers=len(events) - first, error=error.message)
                return

    async def _prune_hourly(self, keep: timedelta) -> None:
        while not self._stop.is_set():
            await self._prune(keep)
            await first_of(self._stop, within=PRUNE_SECONDS)

    async def _prune(self, keep: timedelta) -> None:
        now = self._clock.now()
        try:
            pruned = await prune(self.ledger, ledger_reader(self._section), before=now - keep, now=now, actor="")
        except (LedgerFault, TemporarilyUnavailable) as error:
            self._log.error("ledger_prune_failed", error=str(error))
        else:
            if pruned:
                self._log.info("ledger_pruned", entries=pruned)


def ledger_engine(section: LedgerSection) -> Engine:
    """Return the store that a configuration names, not yet open.

    Raises:
        LedgerFault: The connection string cannot be read.
        OSError: The folder of the file cannot be made.
    """
    if section.file is None:
        return PostgresLedger(section.postgresql or "")
    section.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteLedger(section.file)


def _shared_engine(section: LedgerSection, sharing: Sharing) -> Engine:
    if section.file is None:
        return ledger_engine(section)
    section.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return SqliteLedger(section.file, at=sharing.at, hangs=sharing.hangs)


def ledger_reader(section: LedgerSection) -> LedgerReader:
    """Return a reader of the ledger that a configuration names.

    Raises:
        LedgerFault: The connection string cannot be read.
    """
    return LedgerReader.sqlite(section.file) if section.file else LedgerReader.postgres(section.postgresql or "")
