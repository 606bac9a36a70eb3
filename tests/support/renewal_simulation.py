"""A client in simulated time: its cache and its schedule are the real ones, the clock and the issuer are not.

For the benchmark and for tests of what takes ten minutes. The issuer's advice is the real one too.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_client.answers import IssuedToken
from agent_client.errors import IssuerUnavailable
from agent_client.retry import DEFAULT_TIMEOUT
from agent_client.tokens.cache import TokenCache
from agent_client.tokens.sync import RENEWALS_AT_ONCE
from issuer.core.renewal import renew_at
from support.kept_tokens import SETTLER, arrival, request_number, token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_client.tokens.entry import Entry

CALL_SECONDS = 0.005


@dataclass
class Outage:
    """The issuer gives no answer to a call that begins in this time: not at all, or it cannot be reached."""

    begins: float
    ends: float
    hangs: bool


@dataclass
class Simulation:
    """Keys that are fetched in the first second, and then used all the time.

    Attributes:
        keys: How many.
        lifetime: Of each token, in seconds.
        outage: When the issuer is away.
        use_every: Seconds between two uses of one key.
        begun: The seconds in which calls began, the first one of each key apart, and how many in each.
        refused: Uses that found no token to hand out at once.
        used: All uses.
    """

    keys: int
    lifetime: int
    outage: Outage | None = None
    use_every: float = 1.0
    cache: TokenCache[object] = field(default_factory=TokenCache)
    begun: Counter[int] = field(default_factory=Counter)
    refused: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._under_way = 0

    def run(self, seconds: float) -> None:
        """Run for so many seconds of its own time."""
        self._entries = [self.cache.entry(request_number(number)) for number in range(self.keys)]
        for number, entry in enumerate(self._entries):
            self._at(number / self.keys, self._first(entry))
        while True:
            at = self.cache.next_due() if self._under_way < RENEWALS_AT_ONCE else float("inf")
            if self._events and self._events[0][0] <= at:
                now, _, happen = heapq.heappop(self._events)
                if now > seconds:
                    return
                self._now = now
                happen(now)
            else:
                self._renew(max(at, self._now))

    def _at(self, time: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), happen))

    def _first(self, entry: Entry[object]) -> Callable[[float], None]:
        def fetch(now: float) -> None:
            self.cache.take_off(entry, object())
            self._at(now + CALL_SECONDS, lambda end: self._land(entry, now, end))
            self._at(now + self.use_every, self._use(entry))

        return fetch

    def _use(self, entry: Entry[object]) -> Callable[[float], None]:
        def use(now: float) -> None:
            self.used += 1
            if not isinstance(self.cache.look(entry, now), IssuedToken):
                self.refused += 1
            self._at(now + self.use_every, use)

        return use

    def _renew(self, now: float) -> None:
        self._now = now
        entry = self.cache.due(now)
        if entry is None:
            return
        self.begun[int(now)] += 1
        self._under_way += 1
        takes = self.cache.patience(entry, DEFAULT_TIMEOUT, now)
        self.cache.take_off(entry, object())
        if self.outage and self.outage.begins <= now < self.outage.ends:
            self._at(now + (takes if self.outage.hangs else CALL_SECONDS), lambda end: self._fail(entry, end))
        else:
            self._at(now + CALL_SECONDS, lambda end: self._renewed(entry, now, end))

    def _renewed(self, entry: Entry[object], sent_at: float, now: float) -> None:
        self._under_way -= 1
        self._land(entry, sent_at, now)

    def _land(self, entry: Entry[object], sent_at: float, now: float) -> None:
        issued = token(self.lifetime, renew_at(0, self.lifetime))
        self.cache.arrived(entry, arrival(issued, sent_at), SETTLER, now)

    def _fail(self, entry: Entry[object], now: float) -> None:
        self._under_way -= 1
        self.cache.failed(entry, IssuerUnavailable("away"), now)


def largest_second(begun: Counter[int], seconds: int) -> float:
    """Return the largest second's share of calls, in multiples of the mean over all ``seconds``."""
    return max(begun.values()) / (sum(begun.values()) / seconds)


def starts(count: int) -> Sequence[float]:
    """Return positions at which a spread may begin, evenly apart."""
    return [number / count for number in range(count)]
