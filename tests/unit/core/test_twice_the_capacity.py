"""More than one worker can do, in a time of our own: what the queue makes of it, whatever the machine.

One processor answers a call in a unit of time, those that have their turn one after the other, and refuses one in a
twentieth of that. Nothing here measures a cost: that is for the benchmark.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from issuer.core.admission import FairQueue, Limits, Place, Standing
from issuer.core.spiffe_id import SpiffeId

UNIT = 0.0005
REFUSAL = UNIT / 20
LIMITS = Limits(turns=96, waiting=1024, wait_seconds=0.5)
FLOOD = SpiffeId.parse("spiffe://prod.example/flood")
TOO = SpiffeId.parse("spiffe://prod.example/too")
MODEST = SpiffeId.parse("spiffe://prod.example/modest")
LEAD = 1.0
"""The beginning of an overload, which is let through as a burst would be."""
SECONDS = 3.0


@dataclass
class Worker:
    """One processor behind a queue."""

    queue: FairQueue = field(default_factory=lambda: FairQueue(LIMITS))
    now: float = 0.0
    due: dict[Place, tuple[float, SpiffeId]] = field(default_factory=dict)
    turns: list[Place] = field(default_factory=list)
    answered: list[tuple[float, float, SpiffeId]] = field(default_factory=list)
    refused: list[SpiffeId] = field(default_factory=list)

    def arrives(self, caller: SpiffeId, at: float) -> None:
        if self.queue.would_refuse(caller, self.now):
            self._refuse(caller)
            return
        place, changed = self.queue.arrive(caller, 1, self.now)
        self.due[place] = at, caller
        self._take(place, *changed)

    def works(self) -> None:
        place = self.turns.pop(0)
        self.now += UNIT
        at, caller = self.due.pop(place)
        self.answered.append((self.now, self.now - at, caller))
        self._take(*self.queue.leave(place, self.now))

    def _take(self, *places: Place) -> None:
        for place in places:
            if place.standing is Standing.RUNNING:
                self.turns.append(place)
            elif place.standing is Standing.REFUSED:
                self._refuse(self.due.pop(place)[1])

    def _refuse(self, caller: SpiffeId) -> None:
        self.now += REFUSAL
        self.refused.append(caller)


def overload(asked: dict[SpiffeId, float]) -> Worker:
    """Let callers ask at fixed times, so many times of what the worker can do."""
    worker = Worker()
    interval = {caller: UNIT / times for caller, times in asked.items()}
    coming = [(interval[caller], str(caller), caller) for caller in asked]
    while worker.now < SECONDS:
        while coming[0][0] <= worker.now:
            at, name, caller = coming[0]
            worker.arrives(caller, at)
            heapq.heapreplace(coming, (at + interval[caller], name, caller))
        if worker.turns:
            worker.works()
        else:
            worker.now = max(worker.now, coming[0][0])
    return worker


def answers(worker: Worker, caller: SpiffeId) -> list[float]:
    """Return how long each answer of a caller took, from the moment at which it was due, after the lead; sorted."""
    return sorted(took for at, took, whose in worker.answered if whose == caller and at > LEAD)


def test_a_caller_that_asks_for_twice_what_can_be_done_gets_nine_tenths_of_that_and_soon() -> None:
    worker = overload({FLOOD: 2.0})
    took = answers(worker, FLOOD)
    assert len(took) >= 0.9 * (SECONDS - LEAD) / UNIT
    assert took[len(took) * 99 // 100] <= 2 * LIMITS.turns * UNIT, "two rounds of all turns"


def test_two_that_ask_for_twice_what_can_be_done_share_it() -> None:
    worker = overload({FLOOD: 3.0, TOO: 1.0})
    first, second = answers(worker, FLOOD), answers(worker, TOO)
    assert 0.9 < len(first) / len(second) < 1.1
    for took in (first, second):
        assert took[len(took) * 99 // 100] <= 4 * LIMITS.turns * UNIT


def test_who_asks_for_less_than_its_share_is_not_refused_and_waits_as_long_as_a_flood() -> None:
    worker = overload({FLOOD: 2.0, MODEST: 0.3})
    took = answers(worker, MODEST)
    assert MODEST not in worker.refused
    assert len(took) >= 0.95 * 0.3 * (SECONDS - LEAD) / UNIT
    assert took[len(took) * 99 // 100] <= 2 * LIMITS.turns * UNIT


def test_nobody_is_refused_where_as_much_is_asked_as_can_be_done() -> None:
    assert overload({FLOOD: 0.5, TOO: 0.45}).refused == []
