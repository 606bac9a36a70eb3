"""Whether a call may go on: the fair queue of :mod:`issuer.core.admission` for calls that are coroutines.

What is refused here costs little: it is not recorded, and the log has one line a second about all of it.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.admission import ANSWER_SECONDS, FairQueue, Standing
from issuer.core.errors import RateLimited
from issuer.core.retry_times import RetryTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

    from structlog.typing import FilteringBoundLogger

    from issuer.core.admission import Allowance, Limits, Place
    from issuer.core.spiffe_id import SpiffeId

HOLD_SECONDS: Final = 0.5
"""A refusal is told so much later. On grpcio it costs half of an answer, so that clients which do not obey RetryInfo
and ask again at once would keep the issuer busy with refusing them."""
TICK_SECONDS: Final = 0.02
"""Refusals that are held back are told together, at most so much earlier than they would be one by one: one timer for
all of them, and those on one connection are one write."""
LOG_SECONDS: Final = 1.0
"""The log tells of refused calls at most so often."""
MAX_COST: Final = 256
"""The items that a batch may have; one with more is refused as malformed, and costs no more than that."""
_ITEMS: Final = {"issuer_api.v1.IssuerService/BatchIssueTokens": "requests"}
"""Methods that do many things in one call, and the field that lists them."""

_FULL = "the issuer has more to do than it can; nothing was decided"


def cost_of(method: str, message: object) -> int:
    """Return how many requests a call is."""
    items = _ITEMS.get(method)
    return min(max(len(getattr(message, items)), 1), MAX_COST) if items else 1


@cache
def _refusals(times: tuple[timedelta, ...]) -> tuple[RateLimited, ...]:
    return tuple(RateLimited(_FULL, time) for time in times)


class TurnedAway(NamedTuple):
    """A refused call: whose it was, what it is told, and until when that is held back."""

    caller: SpiffeId
    refusal: RateLimited
    held: asyncio.Future[None] | None


class _Waiting(NamedTuple):
    """Who is told that a place no longer waits, and the end of its patience."""

    told: Callable[[Place], None]
    timer: asyncio.TimerHandle


class Turns:
    """Bounds the calls that are held, and gives turns to those whose caller is known.

    Args:
        limits: Of the queue.
        most_calls: Calls that are held at once, whether their callers are known or not.
        refused: Is told how many calls were refused, by trust domain; ``""`` where the caller is not known.
        log: Is told of refusals, but not of each.
    """

    def __init__(
        self, limits: Limits, *, most_calls: int, refused: Callable[[str, int], None], log: FilteringBoundLogger
    ) -> None:
        self._queue = FairQueue(limits)
        self._most_calls = most_calls
        self._calls = self._turned_away = 0
        self._refused = refused
        self._log = log
        self._waiting: dict[Place, _Waiting] = {}
        self._asleep: dict[Place, asyncio.Future[None]] = {}
        self._held: dict[int, list[asyncio.Future[None]]] = {}
        self._retry = RetryTimes()
        self._untold = 0
        self._last_told = float("-inf")

    @property
    def running(self) -> int:
        """How many turns are taken."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return self._queue.waiting

    @property
    def most_held(self) -> int:
        """How many calls may be here while a refusal is held back."""
        return self._most_calls // 2

    def enter(self) -> None:
        """Take in a call, before anything is known of its caller. It must :meth:`leave`.

        Raises:
            RateLimited: As many as may be are here.
        """
        if self._calls + self._turned_away >= self._most_calls:
            raise self._refusal(None)
        self._calls += 1

    def leave(self, calls: int = 1) -> None:
        """Let calls go that were taken in."""
        self._calls -= calls

    async def take(self, caller: SpiffeId, cost: int, within: float | None) -> Place:
        """Wait for a turn. It must be given back.

        Raises:
            RateLimited: There is none in time, or too many wait of which this caller has most. It comes a moment later.
        """
        place = self.queue(caller, cost, within, self._wake)
        if place.standing is Standing.WAITING:
            await self._turn(place)
        if place.standing is Standing.REFUSED:
            waited = asyncio.get_running_loop().time() - place.arrived
            found = self.refuse(caller, None if within is None else within - waited)
            if found.held is not None:
                await found.held
            raise found.refusal
        return place

    def queue(self, caller: SpiffeId, cost: int, within: float | None, told: Callable[[Place], None]) -> Place:
        """Take a place, for whoever does not wait as a coroutine does. It must be given back unless it is refused.

        Args:
            caller: Who calls.
            cost: The requests in the call.
            within: Seconds until the caller no longer waits; ``None`` when it did not say.
            told: Is told once that a place which is WAITING now has its turn or is refused; must not wait or raise.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        place, changed = self._queue.arrive(caller, cost, now, within)
        if place.standing is Standing.WAITING:
            timer = loop.call_later(place.expires - now, self._give_up, place)
            self._waiting[place] = _Waiting(told, timer)
        if changed:
            self._tell(changed)
        return place

    def refuse(self, caller: SpiffeId, within: float | None) -> TurnedAway:
        """Return what a call is told whose place is refused."""
        return TurnedAway(caller, self._refusal(caller), self._told_later() if self._may_hold_back(within) else None)

    def turn_away(self, caller: SpiffeId, within: float | None) -> TurnedAway | None:
        """Refuse a call that :meth:`take` would refuse whatever it asks for; ``None`` if it may go on.

        For the transport, before it does anything for the call.
        """
        if not self._queue.waiting or not self._queue.would_refuse(caller, asyncio.get_running_loop().time()):
            return None
        found = self.refuse(caller, within)
        if found.held is not None:
            self._turned_away += 1
            found.held.add_done_callback(self._let_go)
        return found

    def allowance(self, caller: SpiffeId) -> Allowance | None:
        """Return how many calls of a caller may come before :meth:`turn_away` refuses; ``None`` if it refuses none."""
        return self._queue.allowance(caller, asyncio.get_running_loop().time())

    def refused_elsewhere(self, caller: SpiffeId, calls: int) -> None:
        """Note calls that the transport refused, each with one of :attr:`refusals`, as :meth:`turn_away` would have."""
        now = asyncio.get_running_loop().time()
        self._queue.refused_elsewhere(caller, now)
        self._retry.refused(calls, now)
        self.count_refused(caller, calls)

    @property
    def refusals(self) -> tuple[RateLimited, ...]:
        """What those are told who are refused now, one after the other; the same object until it changes."""
        return _refusals(self._retry.times)

    def give_back(self, *places: Place) -> None:
        """End turns, or stop waiting for them."""
        now = asyncio.get_running_loop().time()
        for place in places:
            self._retry.answered()
            if self._waiting and (waiting := self._waiting.pop(place, None)) is not None:
                waiting.timer.cancel()
            if changed := self._queue.leave(place, now):
                self._tell(changed)

    def _may_hold_back(self, within: float | None) -> bool:
        """Return whether a refusal is kept for a moment: who asks again as soon as it is answered, asks less."""
        room = self._calls + self._turned_away <= self.most_held
        return room and (within is None or within > HOLD_SECONDS + ANSWER_SECONDS)

    def _told_later(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        told = loop.create_future()
        tick = int((loop.time() + HOLD_SECONDS) / TICK_SECONDS)
        if tick not in self._held:
            self._held[tick] = []
            loop.call_at(tick * TICK_SECONDS, self._tell_held, tick)
        self._held[tick].append(told)
        return told

    def _tell_held(self, tick: int) -> None:
        for told in self._held.pop(tick):
            if not told.done():
                told.set_result(None)

    def _let_go(self, _told: object) -> None:
        self._turned_away -= 1

    async def _turn(self, place: Place) -> None:
        told = self._asleep[place] = asyncio.get_running_loop().create_future()
        try:
            await told
        except asyncio.CancelledError:
            self.give_back(place)
            raise
        finally:
            del self._asleep[place]

    def _wake(self, place: Place) -> None:
        told = self._asleep[place]
        if not told.done():
            told.set_result(None)

    def _give_up(self, place: Place) -> None:
        self._queue.give_up(place)
        self._tell((place,))

    def _tell(self, changed: Iterable[Place]) -> None:
        for place in changed:
            waiting = self._waiting.pop(place, None)
            if waiting is not None:
                waiting.timer.cancel()
                waiting.told(place)

    def _refusal(self, caller: SpiffeId | None) -> RateLimited:
        self.count_refused(caller)
        return RateLimited(_FULL, self._retry.after_refusal(asyncio.get_running_loop().time()))

    def count_refused(self, caller: SpiffeId | None, calls: int = 1) -> None:
        """Count calls that are told to come back later, for whatever reason."""
        self._refused(str(caller.trust_domain) if caller else "", calls)
        self._untold += calls
        now = asyncio.get_running_loop().time()
        if now - self._last_told >= LOG_SECONDS:
            self._log.warning(
                "calls_refused",
                refused=self._untold,
                last_caller=str(caller) if caller else None,
                running=self.running,
                waiting=self.waiting,
            )
            self._untold, self._last_told = 0, now
