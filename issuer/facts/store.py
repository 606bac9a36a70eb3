"""The facts that feeders told, in memory: bounded, replaced feeder by feeder, safe to use from any thread."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Final

from issuer.core.errors import AdminRefused, Reason
from issuer.core.fact_reading import counts_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from issuer.core.facts import Fact, FactKey, FactType

MAX_FACTS_PER_FEEDER: Final = 200_000
"""Two for each grant of a large policy; about 100 MB. A feeder that tells more is refused, the others are not."""


class FactStore:
    """Holds the newest fact of each feeder for each key.

    Attributes:
        on_change: Runs after facts were taken, in the thread that took them; nothing unless set.

    Args:
        max_per_feeder: How many facts one feeder may have.
    """

    def __init__(self, max_per_feeder: int = MAX_FACTS_PER_FEEDER) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._max = max_per_feeder
        self._by_key: dict[FactKey, dict[str, Fact]] = {}
        self._by_feeder: dict[str, set[FactKey]] = {}
        self._lock = Lock()

    def put(self, facts: Sequence[Fact], now: datetime) -> None:
        """Take facts, each with its own ``source``.

        Of one feeder and key the one observed last stays: a message that was held up brings no old posture back.

        Raises:
            AdminRefused: TOO_MANY_FACTS, when a feeder would have too many. All or nothing.
        """
        with self._lock:
            told: dict[str, set[FactKey]] = {}
            for fact in facts:
                told.setdefault(fact.source, set()).add(fact.key)
            for feeder, keys in told.items():
                self._make_room(feeder, keys, now)
            for fact in facts:
                before = self._by_key.get(fact.key, {}).get(fact.source)
                if before is None or before.observed_at <= fact.observed_at:
                    self._set(fact)
        self.on_change()

    def replace(self, feeder: str, facts: Sequence[Fact]) -> None:
        """Take all facts of a feeder, which has no others from now on.

        Raises:
            AdminRefused: TOO_MANY_FACTS, when there are too many; those it had stay.
        """
        with self._lock:
            keys = {fact.key for fact in facts}
            if len(keys) > self._max:
                raise AdminRefused(Reason.TOO_MANY_FACTS, f"more than {self._max} facts from {feeder}")
            self._drop(feeder, self._by_feeder.get(feeder, set()) - keys)
            for fact in facts:
                self._set(fact)
        self.on_change()

    def get(self, key: FactKey, fact_type: FactType, now: datetime) -> Fact | None:
        """Return what counts now: the newest, and of equally new ones the first to end. ``None`` when there is none."""
        told = self._by_key.get(key)
        if told is None:
            return None
        counting = (fact for fact in _snapshot(told) if counts_as(fact, fact_type, now))
        return min(counting, key=lambda fact: (-fact.observed_at.timestamp(), fact.expires_at), default=None)

    def known(self, keys: Iterable[FactKey], fact_types: Mapping[str, FactType], now: datetime) -> dict[FactKey, Fact]:
        """Return what counts now of several keys."""
        found = ((key, self.get(key, fact_types[key.type], now)) for key in keys if key.type in fact_types)
        return {key: fact for key, fact in found if fact is not None}

    def feeders(self) -> dict[str, int]:
        """Return how many facts each feeder has told, those that have ended included until they are dropped."""
        with self._lock:
            return {feeder: len(keys) for feeder, keys in sorted(self._by_feeder.items())}

    def told(self) -> dict[str, list[Fact]]:
        """Return all facts by feeder, for another store that is to hold the same."""
        with self._lock:
            return {
                feeder: [self._by_key[key][feeder] for key in keys] for feeder, keys in self._by_feeder.items() if keys
            }

    def _make_room(self, feeder: str, keys: set[FactKey], now: datetime) -> None:
        have = self._by_feeder.get(feeder, set())
        if len(have | keys) > self._max:
            self._drop(feeder, {key for key in have if not self._by_key[key][feeder].counts_at(now)} - keys)
        if len(self._by_feeder.get(feeder, set()) | keys) > self._max:
            raise AdminRefused(Reason.TOO_MANY_FACTS, f"more than {self._max} facts from {feeder}")

    def _set(self, fact: Fact) -> None:
        self._by_key.setdefault(fact.key, {})[fact.source] = fact
        self._by_feeder.setdefault(fact.source, set()).add(fact.key)

    def _drop(self, feeder: str, keys: set[FactKey]) -> None:
        for key in keys:
            told = self._by_key[key]
            told.pop(feeder)
            if not told:
                del self._by_key[key]
        self._by_feeder[feeder] = self._by_feeder.get(feeder, set()) - keys


def _snapshot(told: dict[str, Fact]) -> tuple[Fact, ...]:
    return tuple(told.values())  # one step for the interpreter: another thread cannot come between


class ToldFacts:
    """A :class:`~issuer.ports.FactSink` over the store of this very process.

    Args:
        store: The store.
    """

    def __init__(self, store: FactStore) -> None:
        self._store = store

    async def put(self, facts: Sequence[Fact], now: datetime) -> None:
        """Take facts, all or nothing.

        Raises:
            AdminRefused: TOO_MANY_FACTS.
        """
        self._store.put(facts, now)

    def feeders(self) -> dict[str, int]:
        """Return how many facts each feeder has told."""
        return self._store.feeders()
