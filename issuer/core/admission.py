"""Who may go on when there is more to do than can be done: a fair queue, by trust domain and in it by SPIFFE ID.

A call takes a *turn*. While turns are free nobody waits, whoever it is. Then calls wait, each caller's in their order,
and the next turn goes to the caller who has had least: start-time fair queueing (Goyal, Vin and Cheng, 1996) at two
levels. So a caller who asks for less than its share waits for one turn to become free, however many calls of others
wait. A call that cannot have its turn in time is refused, and when the queue is full the place is taken from whoever
has most calls in it. Whoever asks for more than its share without end is refused early, so that its other calls are
answered soon and the refusals cost little.

Pure: the time comes in, and who has to be told of a change is what the methods return.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from issuer.core.spiffe_id import SpiffeId

ITEMS_IN_A_TURN: Final = 16
"""A batch has one more turn for so many items: it works through them one after the other, and after so many lets others
go on."""
STANDING_QUEUE: Final = 5
"""A caller of whom some call waited all the time for this part of the longest wait lets no call wait longer than that
part: it is no burst that ends, and waiting longer would only make every answer late (the idea of CoDel, RFC 8289)."""
SHORT_WAIT: Final = 12
"""To wait for this part of the longest wait, or for as long as a turn takes, is no harm. A caller whose first call
waited longer whenever it was looked at, for a :data:`STANDING_QUEUE`-th of the longest wait, is *late*: it asks for
more than it gets. Then others of its calls are refused at once while it is so, so that those that are answered are
answered soon. A stall of the machine is over before, as is a burst."""
LATE_RUNNING_TO_WAITING: Final = 2
"""Who is late may have one call in the queue for so many that run, however long those wait: the next ones, where some
that run end together. While they have not waited long it may have one for each that runs: a stall ends in a burst."""
LATE_FOR: Final = 20
"""It is late for so many of those times after its last refusal: for longer than those who are refused stay away, or
their coming back would be let through as a burst, again and again."""
TURNS_REMEMBERED: Final = 32
"""How long a turn takes is an average in which the newest one has this part."""
HELD_TO_FREE: Final = 4
"""A caller holds at most so many times the turns that are free (a dynamic threshold: Choudhury and Hahne, 1998). Alone
it may hold four fifths, which is enough to keep the issuer busy, and what it holds for long, as it waits for an outside
fact, leaves others some."""
HELD_BY_DOMAIN_TO_FREE: Final = 4 * HELD_TO_FREE
"""The same of a trust domain: as much as four such callers in it."""
ANSWER_SECONDS: Final = 0.05
"""The issuer gives up waiting this long before its caller does, so that the caller still hears why."""
NEVER: Final = float("inf")


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
        arrived: The moment at which it came.
        expires: The moment at which it no longer waits; if it began at once, that at which it came.
        began: The moment at which its turn began.
        standing: Changed by :class:`FairQueue` alone.
    """

    path: tuple[_Share, ...] = field(repr=False)
    cost: int
    arrived: float
    expires: float
    began: float = 0.0
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
    late_since: float = NEVER
    late_until: float = -NEVER
    places: dict[Place, None] = field(default_factory=dict)
    members: dict[Hashable, _Share] = field(default_factory=dict)
    waiting: dict[_Share, None] = field(default_factory=dict)
    """Those members that have something in the queue."""


class Allowance(NamedTuple):
    """How many more calls of a caller would not be refused at once, and for how many seconds it is late."""

    calls: int
    seconds: float


class FairQueue:
    """Gives turns. All times are seconds of one clock that never goes back."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._all = _Share()
        self._late_after = limits.wait_seconds / STANDING_QUEUE
        self._turn_seconds = 0.0
        self._late_until = -NEVER

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
        place = Place(path, cost, now, now)
        if not self._all.queued and self._begin_at_once(place, now):
            return place, []
        place.expires += self._patience(path[-1], now, within)
        if self._is_too_much(path[-1], now):
            place.standing = Standing.REFUSED
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
            self._turn_seconds += (now - place.began - self._turn_seconds) / TURNS_REMEMBERED
            turns = place.turns
            for share in place.path:
                share.running -= turns
        elif place.standing is Standing.WAITING:
            self._remove(place)
        place.standing = Standing.ENDED
        changed = self._fill(now) if self._all.queued else []
        if not self._all.running and not self._all.queued and now >= self._late_until:
            self._all = _Share()  # nobody competes: what each has had does not matter any more
        return changed

    def give_up(self, place: Place) -> None:
        """Refuse a call that waited long enough."""
        if place.standing is Standing.WAITING:
            self._refuse(place)

    def would_refuse(self, caller: SpiffeId, now: float) -> bool:
        """Return whether a call of this caller would be refused now, before anything else is known of it.

        ``False`` says nothing. What this costs is all that such a call costs the issuer, beside its transport.
        """
        share = self._known(caller)
        return share is not None and self._is_too_much(share, now)

    def allowance(self, caller: SpiffeId, now: float) -> Allowance | None:
        """Return how many calls may come before :meth:`would_refuse` says so; ``None`` if it says so of none.

        For whoever refuses what comes beyond, and tells it by :meth:`refused_elsewhere`.
        """
        share = self._known(caller)
        if share is None:
            return None
        begin = max((HELD_TO_FREE * (self._limits.turns - self._all.running) - share.running) // (HELD_TO_FREE + 1), 0)
        room = self._room(share, now, share.running + begin)
        return None if room is None else Allowance(begin + max(room, 0), share.late_until - now)

    def refused_elsewhere(self, caller: SpiffeId, now: float) -> None:
        """Note that calls were refused that :meth:`would_refuse` would have refused."""
        if (share := self._known(caller)) is not None:
            self._is_late(share, now)

    def _known(self, caller: SpiffeId) -> _Share | None:
        domain = self._all.members.get(caller.trust_domain)
        return domain and domain.members.get(caller)

    def _is_too_much(self, caller: _Share, now: float) -> bool:
        """Return whether this caller is late, and has enough in the queue."""
        room = self._room(caller, now, caller.running)
        if room is None or room > 0:
            return False
        self._is_late(caller, now)
        return True

    def _room(self, caller: _Share, now: float, running: int) -> int | None:
        """Return how many more calls of this caller may wait where so many run; ``None`` if it is not late."""
        part = LATE_RUNNING_TO_WAITING if self._has_waited_long(caller, now) else 1
        return None if now >= caller.late_until else -(-max(running, 1) // part) - len(caller.places)

    def _is_late(self, caller: _Share, now: float) -> None:
        caller.late_until = self._late_until = now + LATE_FOR * self._late_after

    def _has_waited_long(self, caller: _Share, now: float) -> bool:
        """Return whether a caller's first call has waited for long, and note whether the caller is late."""
        first = next(iter(caller.places), None)
        shortest, longest = self._limits.wait_seconds / SHORT_WAIT, self._late_after
        if first is None or now - first.arrived < min(max(self._turn_seconds, shortest), longest):
            caller.late_since = NEVER
            return False
        caller.late_since = min(caller.late_since, now)
        if now - caller.late_since >= self._late_after:
            self._is_late(caller, now)
        return True

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
        turns = place.turns
        for share in place.path:
            share.running += turns
        place.standing, place.began = Standing.RUNNING, now
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
                self._run(place, now)
        return changed

    def _next(self) -> Place | None:
        free = self._limits.turns - self._all.running
        for domain in sorted(self._all.waiting, key=_start):
            if domain.running < HELD_BY_DOMAIN_TO_FREE * free:
                callers = [each for each in domain.waiting if each.running < HELD_TO_FREE * free]
                if callers:
                    return next(iter(min(callers, key=_start).places))
        return None

    def _run(self, place: Place, now: float) -> None:
        self._remove(place)
        for above, share in pairwise(place.path):
            above.clock = max(above.clock, share.start)
            share.start += place.cost
        for share in place.path:
            share.running += place.turns
        place.standing, place.began = Standing.RUNNING, now

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
    member = share.members.pop(name, None) if len(share.members) != 1 else share.members.get(name)
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
