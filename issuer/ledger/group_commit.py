"""One commit for all who wait: what is queued when the last commit ends is the next one.

The ledger owns what is queued: a caller that gives up, or whose call is cancelled, leaves its entry behind, and the
entry is written. A caller waits for a bounded time and is then refused, so no fault of a store hangs the issuer. After
a fault nobody knows whether the batch is there: its callers are refused, and a new chain begins before the next batch.

Revocations go first and alone, and are known here before anybody is answered. A decision is written only if it was made
from the revocations that hold at that moment; its caller is told to make it again otherwise. So what is issued after a
revocation was made was decided with it in view.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.hash_chain import WriterHead
from issuer.core.instants import microseconds
from issuer.core.ledger_claims import claims_of
from issuer.ledger.asks import Ask, fail, give_up, in_batches, is_change, settle, unclaimed
from issuer.ledger.engine import Beginning
from issuer.ledger.errors import LedgerFault
from issuer.ledger.learning import Learning
from issuer.ports import ClaimTaken, EpochMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from structlog.typing import FilteringBoundLogger

    from issuer.core.claim_books import ClaimBooks
    from issuer.core.ledger_entries import Entry
    from issuer.ledger.engine import Engine
    from issuer.ledger.observing import Copy, Observer
    from issuer.ledger.revocation_book import LedgerRevocations
    from issuer.ports import Clock, Ids

RETRY_SECONDS: Final = 0.5
"""So often a store that failed is tried again."""
GATHER_SECONDS: Final = 0.001
"""So long a batch waits for more callers, while callers come in numbers."""
ABANDON_SECONDS: Final = 30.0
"""A commit that takes longer is given up, and the store opened again. Its callers were refused long before."""
LEARN_SECONDS: Final = 0.5
"""So often a store that others share is asked what they revoked."""


class GroupCommit:
    """A :class:`~issuer.ports.Ledger` over any store.

    Args:
        engine: The store.
        revocations: What it holds of those is put in here.
        claims: What it holds of claims is put in here.
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
        revocations: LedgerRevocations,
        claims: ClaimBooks,
        max_wait: timedelta,
        max_waiting: int,
        program: str,
        clock: Clock,
        ids: Ids,
        log: FilteringBoundLogger,
        on_change: Callable[[], None],
        observer: Observer,
        copy: Copy | None = None,
    ) -> None:
        self._fault: str | None = "the ledger is not open yet"
        self._observer = observer
        self._copy = copy
        self._engine = engine
        self._revocations = revocations
        self._claims = claims
        self._learning = Learning(engine, revocations, claims, clock)
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
        self._waiting: list[Ask] = []
        self._entries_waiting = 0
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
        return self._entries_waiting

    @property
    def store(self) -> str | None:
        """The ledger's id; ``None`` before it was open."""
        return self._pinned

    @property
    def head(self) -> WriterHead | None:
        """The last entry of this writer's chain that is known to be durable; ``None`` before it was open."""
        newest = self._engine.newest
        return self._head if newest is None or self._head is None else WriterHead(self._chain, *newest)

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

    async def write(self, *entries: Entry, within: float | None = None, epoch: int | None = None) -> None:
        """Return when the entries are durable, all of them in one commit.

        Args:
            entries: At least one.
            within: Seconds that the caller has left; the configured bound holds as well.
            epoch: That of the revocations from which they were decided; ``None`` when they depend on none.

        Raises:
            EpochMoved: Other revocations hold by now. Nothing was written.
            ClaimTaken: A use or a step was taken meanwhile. Nothing was written.
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
        self._waiting.append(Ask(entries, epoch, done))
        self._entries_waiting += len(entries)
        self._wake.set()
        wait = self._max_wait if within is None else min(within, self._max_wait)
        timer = loop.call_later(wait, give_up, done)
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
        while not (self._closing and not self._waiting):
            await self._woken()
            if self._fault is not None and not await self._reopened():
                fail(self._take(), self._fault)
            elif self._is_behind and not await self._learned_from_others():
                fail(self._take(), self._fault or "")
            elif self._waiting:
                await self._gather()
                for batch in in_batches(self._take()):
                    await self._write(batch)

    async def _gather(self) -> None:
        """Let others join the batch for a moment, while there are others: a commit costs the same for one as for ten.

        Where one caller is alone, it waits for nobody.
        """
        if self._last_batch > 1 and not self._closing:
            await asyncio.sleep(GATHER_SECONDS)

    async def _woken(self) -> None:
        """Wait for something to write; no longer than until a failed store is tried again, or a shared one asked."""
        if not self._waiting and not self._closing:
            patience = RETRY_SECONDS if self._fault is not None else LEARN_SECONDS if self._engine.shared else None
            try:
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    def _take(self) -> list[Ask]:
        taken, self._waiting = self._waiting, []
        self._entries_waiting = 0
        return taken

    async def _write(self, batch: list[Ask]) -> None:
        batch = self._still_true(batch)
        if not batch:
            return
        if self._fault is not None:  # since the batch before this one
            fail(batch, self._fault)
            return
        started = time.perf_counter()
        self._last_batch = len(batch)
        entries = [entry for ask in batch for entry in ask.entries]
        epoch = None if all(ask.epoch is None for ask in batch) else self._revocations.epoch
        try:
            with self._refusing_when_late():
                await self._commit(entries, epoch)
                if is_change(batch[0]) or claims_of(entries):
                    await self._learn()
                await self._copied(entries)
        except EpochMoved:  # another issuer was first
            await self._write_after_move(batch)
            return
        except ClaimTaken as taken:
            await self._write_without(batch, taken.keys)
            return
        except LedgerFault as fault:
            self._observer.failed()
            fail(batch, str(fault))
            return
        for ask in batch:
            if not ask.done.done():
                ask.done.set_result(None)
        self._observer.committed(entries, time.perf_counter() - started)

    def _still_true(self, batch: Iterable[Ask]) -> list[Ask]:
        """Return what does not depend on revocations that have changed, and claims nothing twice.

        The callers of the rest decide again.
        """
        kept = []
        for ask in batch:
            if ask.epoch in (None, self._revocations.epoch):
                kept.append(ask)
            else:
                settle(ask.done, EpochMoved())
        return unclaimed(kept, self._claims.is_taken)

    async def _write_without(self, batch: list[Ask], taken: frozenset[str]) -> None:
        """Learn who was first, let those decide again who claimed the same, and write the rest."""
        if not await self._learned_from_others():
            fail(batch, self._fault or "")
            return
        await self._write(unclaimed(batch, taken.__contains__))

    async def _write_after_move(self, batch: list[Ask]) -> None:
        """Learn what moved the epoch, let those decide again who depend on it, and write the rest."""
        if not await self._learned_from_others():
            fail(batch, self._fault or "")
            return
        independent = [ask for ask in batch if ask.epoch is None]
        for ask in batch:
            if ask.epoch is not None:
                settle(ask.done, EpochMoved())
        await self._write(independent)

    @property
    def _is_behind(self) -> bool:
        return self._engine.shared and self._learning.age >= LEARN_SECONDS

    async def _learned_from_others(self) -> bool:
        try:
            with self._refusing_when_late():
                await self._learn()
        except LedgerFault:
            return False
        self._set_fault(None)
        return True

    async def _learn(self) -> None:
        """Take what the store holds of revocations and claims that is not known here.

        Raises:
            LedgerFault: It cannot be told; the store has to be opened again.
        """
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._learning.learn()
        except (LedgerFault, TimeoutError) as error:
            fault = str(error) or f"{self._engine.name}: did not answer within {ABANDON_SECONDS:g} s"
            await self._engine.abandon()
            self._set_fault(fault)
            raise LedgerFault(fault) from None

    async def _commit(self, entries: list[Entry], epoch: int | None) -> None:
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                head = await self._engine.commit(entries, epoch)
        except (LedgerFault, TimeoutError) as error:
            fault = str(error) or f"{self._engine.name}: did not answer a commit within {ABANDON_SECONDS:g} s"
            await self._engine.abandon()
            self._set_fault(fault)
            raise LedgerFault(fault) from None
        self._set_fault(None)
        self._head = WriterHead(self._chain, *head)

    async def _copied(self, entries: list[Entry]) -> None:
        if self._copy is None:
            return
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._copy.write(entries)
        except TimeoutError:
            raise LedgerFault("the copy did not answer") from None

    @contextmanager
    def _refusing_when_late(self) -> Iterator[None]:
        """Refuse at once while what is done within takes longer than anybody waits, until it ends, whichever way."""
        late = asyncio.get_running_loop().call_later(self._max_wait, self._does_not_answer)
        try:
            yield
        finally:
            late.cancel()
            self._hangs = False

    def _does_not_answer(self) -> None:
        self._hangs = True
        self._set_fault(f"{self._engine.name}: has not answered for {self._max_wait:g} s")

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
            last=self.head,
            new_store=self._ids.fresh_id(now),
            writer=self._ids.fresh_id(now),
            time=microseconds(now),
            program=self._program,
        )
        opened = await self._engine.open(beginning)
        self._pinned, self._chain = opened.store, opened.chain or beginning.writer
        self._head = WriterHead(self._chain, *opened.head)
        await self._learn()  # what the last commit left behind, too: nobody knew whether it was there
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
