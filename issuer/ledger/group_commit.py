"""One commit for all who wait: what is queued when the last commit ends is the next one.

The ledger owns what is queued: a caller that gives up, or whose call is cancelled, leaves its entry behind, and the
entry is written. A caller waits for a bounded time and is then refused, so no fault of a store hangs the issuer. After
a fault nobody knows whether the batch is there: its callers are refused, and a new chain begins before the next batch.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.hash_chain import WriterHead
from issuer.core.instants import microseconds
from issuer.ledger.engine import Beginning
from issuer.ledger.errors import LedgerFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from structlog.typing import FilteringBoundLogger

    from issuer.core.ledger_entries import Entry
    from issuer.ledger.engine import Engine
    from issuer.ports import Clock, TokenIds

RETRY_SECONDS: Final = 0.5
"""So often a store that failed is tried again."""
GATHER_SECONDS: Final = 0.001
"""So long a batch waits for more callers, while callers come in numbers."""
ABANDON_SECONDS: Final = 30.0
"""A commit that takes longer is given up, and the store opened again. Its callers were refused long before."""


class Copy(Protocol):
    """Where entries go as well, once they are in the ledger."""

    required: bool
    """Whether nobody is answered without it."""
    fault: str | None
    """Why it cannot be written."""

    async def write(self, entries: Sequence[Entry]) -> None:
        """Write entries.

        Raises:
            LedgerFault: It is required, and it is not known whether they are there.
        """
        ...


class Observer(Protocol):
    """Is told what the ledger does, for metrics. Never waits."""

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """A batch is durable, with its required copy."""
        ...

    def refused(self) -> None:
        """A caller was refused because of the ledger."""
        ...

    def failed(self) -> None:
        """A commit failed, or its required copy did."""
        ...


class Unobserved:
    """An :class:`Observer` that looks away."""

    def committed(self, entries: Sequence[Entry], seconds: float) -> None:
        """Do nothing."""

    def refused(self) -> None:
        """Do nothing."""

    def failed(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Waiting:
    entries: list[Entry] = field(default_factory=list)
    futures: list[asyncio.Future[None]] = field(default_factory=list)


class GroupCommit:
    """A :class:`~issuer.ports.Ledger` over any store.

    Args:
        engine: The store.
        max_wait: How long a caller waits for its commit at most.
        max_waiting: How many entries may wait; beyond them callers are refused at once.
        program: What writes, for the first entry of each chain.
        clock: The time of that.
        ids: Where ids come from.
        log: Is told of faults and of recovery.
        on_change: Runs when the store failed, or works again.
        observer: Is told what happens.
        copy: Where entries go as well.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_wait: timedelta,
        max_waiting: int,
        program: str,
        clock: Clock,
        ids: TokenIds,
        log: FilteringBoundLogger,
        on_change: Callable[[], None],
        observer: Observer,
        copy: Copy | None = None,
    ) -> None:
        self._fault: str | None = "the ledger is not open yet"
        self._observer = observer
        self._copy = copy
        self._engine = engine
        self._max_wait = max_wait.total_seconds()
        self._max_waiting = max_waiting
        self._program = program
        self._clock = clock
        self._ids = ids
        self._log = log
        self._on_change = on_change
        self._pinned: str | None = None
        self._head: WriterHead | None = None
        self._chain = ""
        self._waiting = _Waiting()
        self._wake = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._last_try = 0.0
        self._last_batch = 0
        self._hangs = False

    @property
    def fault(self) -> str | None:
        """Why nothing can be recorded; ``None`` while all is well."""
        return self._fault or self._copy_fault

    @property
    def _copy_fault(self) -> str | None:
        return self._copy.fault if self._copy and self._copy.required else None

    @property
    def waiting(self) -> int:
        """How many entries wait for the next commit."""
        return len(self._waiting.entries)

    @property
    def store(self) -> str | None:
        """The ledger's id; ``None`` before it was open."""
        return self._pinned

    @property
    def head(self) -> WriterHead | None:
        """The last entry of this writer's chain that is known to be durable; ``None`` before it was open."""
        return self._head

    async def open(self, pinned: str | None = None, last: WriterHead | None = None) -> None:
        """Open the store, and begin to write what is queued.

        Args:
            pinned: The id that the ledger must have; ``None`` takes whichever it is, or begins a new one.
            last: An entry that must be there, so that an older state of the ledger is refused; ``None`` for none.

        Raises:
            LedgerFault: It cannot be opened.
        """
        self._pinned, self._head = pinned, last
        try:
            await self._open()
        except LedgerFault:
            await self._engine.close()
            raise
        self._writer = asyncio.create_task(self._write_batches())

    async def write(self, *entries: Entry, within: float | None = None) -> None:
        """Return when the entries are durable, all of them in one commit.

        Args:
            entries: At least one.
            within: Seconds that the caller has left; the configured bound holds as well.

        Raises:
            TemporarilyUnavailable: LEDGER_UNAVAILABLE. The entries may be written all the same.
        """
        if self._hangs:
            raise self._refusal("the ledger does not answer")
        if self._copy_fault:
            raise self._refusal("the required copy of the ledger cannot be written")
        if self.waiting + len(entries) > self._max_waiting or self._closing:
            raise self._refusal("too many decisions wait for the ledger")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.entries.extend(entries)
        self._waiting.futures.append(done)
        self._wake.set()
        wait = self._max_wait if within is None else min(within, self._max_wait)
        timer = loop.call_later(wait, _give_up, done)
        try:
            await done
        except LedgerFault:
            raise self._refusal("the ledger cannot be written") from None
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Write what is queued, as far as the store lets it within the bound, and leave."""
        self._closing = True
        self._wake.set()
        if self._writer:
            await asyncio.wait({self._writer}, timeout=self._max_wait)
            self._writer.cancel()
            await asyncio.wait({self._writer})
        await self._engine.close()

    def _refusal(self, message: str) -> TemporarilyUnavailable:
        self._observer.refused()
        return TemporarilyUnavailable(Reason.LEDGER_UNAVAILABLE, f"{message}; nothing was issued")

    async def _write_batches(self) -> None:
        while not (self._closing and not self._waiting.futures):
            await self._woken()
            if self._fault is not None and not await self._reopened():
                self._fail(self._take(), self._fault)
            elif self._waiting.futures:
                await self._gather()
                await self._write(self._take())

    async def _gather(self) -> None:
        """Let others join the batch for a moment, while there are others: a commit costs the same for one as for ten.

        Where one caller is alone, it waits for nobody.
        """
        if self._last_batch > 1 and not self._closing:
            await asyncio.sleep(GATHER_SECONDS)

    async def _woken(self) -> None:
        """Wait for something to write; while the store is failed, no longer than until the next try."""
        if not self._waiting.futures and not self._closing:
            try:
                async with asyncio.timeout(None if self._fault is None else RETRY_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    def _take(self) -> _Waiting:
        taken, self._waiting = self._waiting, _Waiting()
        return taken

    async def _write(self, batch: _Waiting) -> None:
        started = time.perf_counter()
        self._last_batch = len(batch.futures)
        patience = asyncio.get_running_loop().call_later(self._max_wait, self._does_not_answer)
        try:
            await self._commit(batch)
            await self._copied(batch)
        except LedgerFault as fault:
            self._observer.failed()
            self._fail(batch, str(fault))
            return
        finally:
            patience.cancel()
            self._hangs = False
        for future in batch.futures:
            if not future.done():
                future.set_result(None)
        self._observer.committed(batch.entries, time.perf_counter() - started)

    async def _commit(self, batch: _Waiting) -> None:
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                head = await self._engine.commit(batch.entries)
        except (LedgerFault, TimeoutError) as error:
            fault = str(error) or f"{self._engine.name}: did not answer a commit within {ABANDON_SECONDS:g} s"
            await self._engine.abandon()
            self._set_fault(fault)
            raise LedgerFault(fault) from None
        self._set_fault(None)
        self._head = WriterHead(self._chain, *head)

    async def _copied(self, batch: _Waiting) -> None:
        if self._copy is None:
            return
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._copy.write(batch.entries)
        except TimeoutError:
            raise LedgerFault("the copy did not answer") from None

    def _does_not_answer(self) -> None:
        """A commit takes longer than anybody waits: refuse at once until it ends, whichever way."""
        self._hangs = True
        self._set_fault(f"{self._engine.name}: has not answered a commit for {self._max_wait:g} s")

    def _fail(self, batch: _Waiting, fault: str) -> None:
        for future in batch.futures:
            if not future.done():
                future.set_exception(LedgerFault(fault))

    async def _reopened(self) -> bool:
        if time.monotonic() - self._last_try < RETRY_SECONDS and not self._closing:
            return False
        try:
            await self._open()
        except LedgerFault as fault:
            self._set_fault(str(fault))
            return False
        return True

    async def _open(self) -> None:
        self._last_try = time.monotonic()
        now = self._clock.now()
        beginning = Beginning(
            pinned=self._pinned,
            last=self._head,
            new_store=self._ids.decision_id(now),
            writer=self._ids.decision_id(now),
            time=microseconds(now),
            program=self._program,
        )
        opened = await self._engine.open(beginning)
        self._pinned, self._chain = opened.store, beginning.writer
        self._head = WriterHead(self._chain, *opened.head)
        self._set_fault(None)

    def _set_fault(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault is None:
            self._log.info("ledger_open", ledger=self._engine.name, store=self._pinned)
        else:
            self._log.error("ledger_fault", error=fault)
        self._on_change()


def _give_up(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_exception(LedgerFault("the caller's time is over"))
