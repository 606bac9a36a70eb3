"""Who may go on when there is more to do than can be done: a fair queue, by trust domain and in it by SPIFFE ID.

A call takes a *turn*. While turns are free nobody waits, whoever it is. Then calls wait, each caller's in their order,
and the next turn goes to the caller who has had least: start-time fair queueing (Goyal, Vin and Cheng, 1996) at two
levels. So a caller who asks for less than its share waits for one turn to become free, however many calls of others
wait. A call that cannot have its turn in time is refused, and when the queue is full the place is taken from whoever
has most calls in it.

Pure: the time comes in, and who has to be told of a change is what the methods return.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

    from issuer.core.spiffe_id import SpiffeId

ITEMS_IN_A_TURN: Final = 16
"""A batch has one more turn for so many items: it works through them one after the other, and after so many lets others
go on."""
STANDING_QUEUE: Final = 5
"""A caller of whom some call waited all the time for this part of the longest wait lets no call wait longer than that
part: it is no burst that ends, and waiting longer would only make every answer late (the idea of CoDel, RFC 8289)."""
HELD_TO_FREE: Final = 4
"""A caller holds at most so many times the turns that are free (a dynamic threshold: Choudhury and Hahne, 1998). Alone
it may hold four fifths, which is enough to keep the issuer busy, and what it holds for long, as it waits for an outside
fact, leaves others some."""
HELD_BY_DOMAIN_TO_FREE: Final = 4 * HELD_TO_FREE
"""The same of a trust domain: as much as four such callers in it."""
ANSWER_SECONDS: Final = 0.05
"""The issuer gives up waiting this long before its caller does, so that the caller still hears why."""
SHORTEST_RETRY: Final = 0.5
RETRY_STEPS: Final = 16
"""Callers who are refused together are told different times to come back: from half a second to one and a half."""


class Standing(Enum):
    """Where a call stands."""

    WAITING = auto()
    RUNNING = auto()
    REFUSED = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at once, and how much may wait.

    Attributes:
        turns: Calls at once, where a batch counts as one and one more for each :data:`ITEMS_IN_A_TURN`. The last to
            begin may go beyond by its own.
        waiting: Requests that wait, where a batch counts its items.
        wait_seconds: How long a call waits at most; :data:`STANDING_QUEUE` times shorter where its caller always waits.
        callers: How many SPIFFE IDs of a trust domain are remembered. The one that was silent longest is forgotten
            first, which forgives what it has had.
    """

    turns: int
    waiting: int
    wait_seconds: float
    callers: int = 4096
    """At about 300 bytes each, 1.2 MB a trust domain."""


@dataclass(slots=True, eq=False)
class Place:
    """One call's place.

    Attributes:
        cost: The requests in it.
        expires: The moment at which it no longer waits.
        standing: Changed by :class:`FairQueue` alone.
    """

    path: tuple[_Share, ...] = field(repr=False)
    cost: int
    expires: float
    standing: Standing = Standing.WAITING

    @property
    def turns(self) -> int:
        """How many turns it takes."""
        return 1 + self.cost // ITEMS_IN_A_TURN


@dataclass(slots=True, eq=False)
class _Share:
    """What a caller, a trust domain, or everybody has had and holds; ``members`` share what it gets.

    ``start`` and ``clock`` count requests: ``start`` is where its next call begins, beside others under the same share;
    ``clock`` is where the member began that went on last.
    """

    start: int = 0
    clock: int = 0
    running: int = 0
    queued: int = 0
    queued_since: float = 0.0
    places: dict[Place, None] = field(default_factory=dict)
    members: dict[Hashable, _Share] = field(default_factory=dict)
    waiting: dict[_Share, None] = field(default_factory=dict)
    """Those members that have something in the queue."""


class FairQueue:
    """Gives turns. All times are seconds of one clock that never goes back."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = _Share()
        self._refusals = 0

    @property
    def running(self) -> int:
        """How many turns are taken."""
        return self._all.running

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._all.queued

    @property
    def remembered(self) -> int:
        """How many callers are remembered."""
        return sum(len(domain.members) for domain in self._all.members.values())

    def arrive(self, caller: SpiffeId, cost: int, now: float, within: float | None = None) -> tuple[Place, list[Place]]:
        """Give a call its place.

        Args:
            caller: Who calls.
            cost: The requests in the call, at least one.
            now: The time.
            within: Seconds until the caller no longer waits; ``None`` when it did not say.

        Returns:
            The place, which may be refused already, and the other places whose standing changed.
        """
        path = self._path(caller)
        place = Place(path, cost, now + self._patience(path[-1], now, within))
        if not self._all.queued and self._begin_at_once(place, now):
            return place, []
        self._enqueue(place, now)
        changed = self._fill(now)
        if place.standing is Standing.WAITING:
            if place.expires <= now:
                self._refuse(place)
            changed += self._make_room(place)
        return place, [other for other in changed if other is not place]

    def leave(self, place: Place, now: float) -> list[Place]:
        """End a call, be it running or waiting; return the places whose standing changed by that."""
        if place.standing is Standing.RUNNING:
            for share in place.path:
                share.running -= place.turns
        elif place.standing is Standing.WAITING:
            self._remove(place)
        place.standing = Standing.ENDED
        changed = self._fill(now) if self._all.queued else []
        if not self._all.running and not self._all.queued:
            self._all = _Share()  # nobody competes: what each has had does not matter any more
        return changed

    def give_up(self, place: Place) -> None:
        """Refuse a call that waited long enough."""
        if place.standing is Standing.WAITING:
            self._refuse(place)

    def retry_after(self) -> timedelta:
        """Return when whoever is refused now should come back."""
        self._refusals = (self._refusals + 7) % RETRY_STEPS  # 7 has no common factor with 16: every step, far apart
        return timedelta(seconds=SHORTEST_RETRY + self._refusals / RETRY_STEPS)

    def _patience(self, caller: _Share, now: float, within: float | None) -> float:
        wait = self._limits.wait_seconds
        if caller.queued and now - caller.queued_since >= wait / STANDING_QUEUE:
            wait /= STANDING_QUEUE
        return wait if within is None else max(min(wait, within - ANSWER_SECONDS), 0.0)

    def _path(self, caller: SpiffeId) -> tuple[_Share, ...]:
        domain = _member(self._all, caller.trust_domain, self._limits.callers)
        return self._all, domain, _member(domain, caller, self._limits.callers)

    def _make_room(self, place: Place) -> list[Place]:
        """Refuse the newest calls of whoever has most in the queue, until all fit; it may be this one."""
        refused: list[Place] = []
        while self._all.queued > self._limits.waiting:
            last = next(reversed(_greediest(place).places))
            self._refuse(last)
            refused.append(last)
        return refused

    def _begin_at_once(self, place: Place, now: float) -> bool:
        """Let a call go on that nobody is before, as the queue would; ``False`` if it must wait.

        That is every call of an issuer that keeps up.
        """
        free = self._limits.turns - self._all.running
        _, domain, caller = place.path
        if domain.running >= HELD_BY_DOMAIN_TO_FREE * free or caller.running >= HELD_TO_FREE * free:
            return False
        for above, share in pairwise(place.path):
            share.queued_since = now
            above.clock = share.start = max(share.start, above.clock)
            share.start += place.cost
        for share in place.path:
            share.running += place.turns
        place.standing = Standing.RUNNING
        return True

    def _enqueue(self, place: Place, now: float) -> None:
        for above, share in pairwise(place.path):
            if not share.queued:
                share.queued_since = now
                share.start = max(share.start, above.clock)
                above.waiting[share] = None
        for share in place.path:
            share.queued += place.cost
        place.path[-1].places[place] = None

    def _fill(self, now: float) -> list[Place]:
        """Let calls go on while turns are free; return those, and those whose time was over."""
        changed: list[Place] = []
        while (place := self._next()) is not None:
            changed.append(place)
            if place.expires < now:
                self._refuse(place)
            else:
                self._run(place)
        return changed

    def _next(self) -> Place | None:
        free = self._limits.turns - self._all.running
        for domain in sorted(self._all.waiting, key=_start):
            if domain.running < HELD_BY_DOMAIN_TO_FREE * free:
                callers = [each for each in domain.waiting if each.running < HELD_TO_FREE * free]
                if callers:
                    return next(iter(min(callers, key=_start).places))
        return None

    def _run(self, place: Place) -> None:
        self._remove(place)
        for above, share in pairwise(place.path):
            above.clock = max(above.clock, share.start)
            share.start += place.cost
        for share in place.path:
            share.running += place.turns
        place.standing = Standing.RUNNING

    def _refuse(self, place: Place) -> None:
        self._remove(place)
        place.standing = Standing.REFUSED

    def _remove(self, place: Place) -> None:
        del place.path[-1].places[place]
        for share in place.path:
            share.queued -= place.cost
        for above, share in pairwise(place.path):
            if not share.queued:
                del above.waiting[share]


def _start(share: _Share) -> int:
    return share.start


def _member(share: _Share, name: Hashable, most: int) -> _Share:
    member = share.members.pop(name, None)
    if member is None:
        member = _Share(start=share.clock)
        if len(share.members) >= most:
            _forget_one(share)
    share.members[name] = member  # the last: who was silent longest is the first
    return member


def _forget_one(share: _Share) -> None:
    for name, member in share.members.items():
        if not member.running and not member.queued:
            del share.members[name]
            return


def _greediest(place: Place) -> _Share:
    """Return the caller who has most in the queue: in another trust domain, in this one, or this one itself."""
    for above, mine in pairwise(place.path):
        most = max(above.waiting, key=_queued)
        if most.queued > mine.queued:
            return most if most.places else max(most.waiting, key=_queued)
    return place.path[-1]


def _queued(share: _Share) -> int:
    return share.queued
