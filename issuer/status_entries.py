"""Gives each token that needs one an entry of a status list, which no other token ever gets.

A block of entries is reserved in the ledger, which lets it be taken once, whoever else issues: other workers, replicas,
this issuer before it was killed. What was reserved and not used is left alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from issuer.core.errors import IssuerError, Reason, TemporarilyUnavailable
from issuer.core.instants import microseconds
from issuer.core.status_index import BLOCK_SIZE, hour_of, stretch_of
from issuer.ports import ClaimTaken

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from issuer.core.status_index import BlocksTaken
    from issuer.ports import Clock, Ledger

RESERVE_AT: Final = BLOCK_SIZE // 2
"""With so many entries left the next block is reserved: nobody waits for one where tokens come steadily."""
MAX_TRIES: Final = 16
"""So often another issuer may have taken the same block; a block is chosen at random, of 128."""
WAIT_SECONDS: Final = 2.0
"""How long a token waits for an entry at most, as for the ledger."""


class StatusEntries:
    """Entries that are reserved and not given out. Of one event loop.

    Args:
        ledger: Where blocks are reserved.
        blocks: Those that the ledger is known to hold.
        clock: When they are.
        order: Chance; nobody may be able to tell it.
    """

    def __init__(self, *, ledger: Ledger, blocks: BlocksTaken, clock: Clock, order: Random) -> None:
        self._ledger = ledger
        self._blocks = blocks
        self._clock = clock
        self._order = order
        self._ready: dict[int, list[int]] = {}
        self._reserving: dict[int, asyncio.Task[None]] = {}

    async def take(self, expires_at: int, now: datetime, within: float | None = None) -> int:
        """Return an entry for a token: a :attr:`~issuer.core.status_index.StatusIndex.number`.

        Args:
            expires_at: The token's ``exp``.
            now: The time.
            within: Seconds that the caller has left; ``None`` when it did not say.

        Raises:
            TemporarilyUnavailable: STATUS_UNAVAILABLE: none could be reserved in time.
        """
        at = int(now.timestamp())
        hour = hour_of(expires_at, at)
        clock = asyncio.get_running_loop().time
        end = clock() + (WAIT_SECONDS if within is None else min(within, WAIT_SECONDS))
        while not (ready := self._ready.get(hour)):
            await self._wait_for(self._reserve(hour), end - clock())
        if len(ready) == RESERVE_AT:
            self._reserve(hour)
        if stretch_of(expires_at - at) == 1 and hour + 1 not in self._ready:
            self._reserve(hour + 1)  # so that its list is published when the first token names it
        return ready.pop()

    async def _wait_for(self, reserving: asyncio.Task[None], seconds: float) -> None:
        if seconds > 0:
            await asyncio.wait({reserving}, timeout=seconds)
        if not reserving.done():
            raise _none("in time")
        reserving.result()

    def _reserve(self, hour: int) -> asyncio.Task[None]:
        """Begin to reserve a block, or join who has."""
        running = self._reserving.get(hour)
        if running is None:
            running = self._reserving[hour] = asyncio.get_running_loop().create_task(self._reserve_block(hour))
            running.add_done_callback(lambda done: self._reserved(hour, done))
        return running

    def _reserved(self, hour: int, done: asyncio.Task[None]) -> None:
        del self._reserving[hour]
        if not done.cancelled():
            done.exception()  # who waits is told; where nobody does, the next token tries again

    async def _reserve_block(self, hour: int) -> None:
        now = self._clock.now()
        for over in [each for each in self._ready if each * 3600 <= now.timestamp()]:
            del self._ready[over]
        for _ in range(MAX_TRIES):
            block = self._blocks.free(hour, self._order)
            if block is None:
                raise _none("for this hour: every list is full")
            try:
                await self._ledger.write(block.taken(microseconds(now)))
            except ClaimTaken:  # the ledger has learned of it, and so have the blocks
                continue
            except IssuerError as error:
                raise _none(f"because {error.message}") from error
            self._ready[hour] = block.entries(self._order) + self._ready.get(hour, [])
            return
        raise _none("because others took them first")


def _none(why: str) -> TemporarilyUnavailable:
    return TemporarilyUnavailable(
        Reason.STATUS_UNAVAILABLE, f"no entry of a status list could be reserved {why}; nothing was issued"
    )
