"""Which keys are known, how far they are to be trusted, and when to fetch again. Pure: the time comes in.

From a fetch on, its keys are

- *fresh* for the max-age of the answer, within bounds;
- *stale* for as long again: used, while the next fetch runs beside;
- *unconfirmed* after that, which only a verifier that was idle or whose issuer is away gets to: a fetch is waited for,
  since the issuer may have withdrawn a key long ago. Once a fetch has failed they are used, and nobody waits;
- *gone* when ``max_stale`` seconds have passed since the fetch. Then nothing is verified until one succeeds.

Fetches are bounded whatever is presented: one at a time; after a failure not before a growing pause is over; and for
a ``kid`` that is not known one in :data:`NEW_KEY_SECONDS`, for anybody can write a ``kid`` into garbage.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_client.verification.algorithms import VerificationKey

DEFAULT_FRESH_SECONDS = 300.0
"""Where the issuer does not say. Our issuer's own default."""
SHORTEST_FRESH_SECONDS = 30.0
"""An issuer that allows no caching is still asked no more often."""
LONGEST_FRESH_SECONDS = 3600.0
"""A withdrawn key is forgotten within the hour, whatever the answer says."""
NEW_KEY_SECONDS = 10.0
"""A key that signs before it was published is found this late at worst, and a flood of garbage costs the issuer six
fetches a minute. The first one is at once."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0
"""Between fetches that fail. An issuer that is back is found this late, and one that is away is asked this seldom."""
_DOUBLINGS = 4  # by then LONGEST_PAUSE_SECONDS is reached


class Advice(Enum):
    """What whoever looks for a key is to do."""

    USE = auto()
    """Use the key that was found."""
    WAIT = auto()
    """Wait for the fetch, for no key can be used as it is; then look again."""
    WAIT_FOR_NEW_KEY = auto()
    """Wait for the fetch, since this ``kid`` is new; then look again. What is known verifies everybody else."""
    UNKNOWN = auto()
    """The issuer has no such key."""
    UNAVAILABLE = auto()
    """Nothing can be said: no keys, or a ``kid`` that may be newer than they are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look for a key brought.

    Attributes:
        advice: What to do.
        key: The key, with USE.
        fetch: Whether to start a fetch now. Then :meth:`KeyCache.fetching` has been noted already.
    """

    advice: Advice
    key: VerificationKey | None = None
    fetch: bool = False


class KeyCache:
    """The keys of one issuer. Not thread-safe, but for :meth:`fresh`.

    Args:
        max_stale: Seconds since their fetch after which keys are gone.
    """

    def __init__(self, max_stale: float) -> None:
        self._max_stale = max_stale
        self._fresh: tuple[Mapping[str, VerificationKey], float] = ({}, 0.0)
        self._confirm_at = 0.0
        self._gone_at = 0.0
        self._failures = 0
        self._next_fetch = float("-inf")
        self._next_new_key = float("-inf")
        self._fetching = False

    def fresh(self, key_id: str, now: float) -> VerificationKey | None:
        """Return a key that may be used without further ado; ``None`` means :meth:`find`. Safe in any thread."""
        keys, until = self._fresh  # one read of one tuple
        return keys.get(key_id) if now < until else None

    def find(self, key_id: str, now: float) -> Finding:
        """Look for a key."""
        keys, fresh_until = self._fresh
        if not keys or now >= self._gone_at:
            return self._waiting(Advice.WAIT, now)
        key = keys.get(key_id)
        if key is None:
            return self._new_key(now)
        if now < fresh_until:
            return Finding(Advice.USE, key)
        if now >= self._confirm_at and not self._failures:
            return self._waiting(Advice.WAIT, now)
        return Finding(Advice.USE, key, fetch=self._begin(now))

    def find_again(self, key_id: str, now: float) -> Finding:
        """Look for a key after having waited. Starts nothing."""
        keys, _ = self._fresh
        if not keys or now >= self._gone_at:
            return Finding(Advice.UNAVAILABLE)
        if key := keys.get(key_id):
            return Finding(Advice.USE, key)
        return Finding(Advice.UNAVAILABLE if self._failures or self._fetching else Advice.UNKNOWN)

    def seconds_to_next_fetch(self, now: float) -> float:
        """Return how long until the next fetch may start."""
        return max(self._next_fetch - now, 0.0)

    def fetching(self) -> bool:
        """Note that a fetch starts; return whether none is under way already."""
        started = not self._fetching
        self._fetching = True
        return started

    def fetched(self, keys: Mapping[str, VerificationKey], max_age: float | None, now: float) -> None:
        """Take the keys of a fetch that succeeded. They replace all others.

        A set without any key that can be used is the issuer's word too: the others are dropped, and it counts as a
        failure, so that the next fetch comes soon.
        """
        wanted = DEFAULT_FRESH_SECONDS if max_age is None else max_age
        fresh = min(max(wanted, SHORTEST_FRESH_SECONDS), LONGEST_FRESH_SECONDS, self._max_stale / 2)
        self._fresh = (keys, now + fresh)
        self._confirm_at, self._gone_at = now + 2 * fresh, now + self._max_stale
        self._fetching = False
        if keys:
            self._failures, self._next_fetch = 0, float("-inf")
        else:
            self.failed(now)

    def failed(self, now: float) -> None:
        """Note that a fetch brought nothing: the next one waits, longer each time."""
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures, _DOUBLINGS), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        # Jitter: many verifiers lose the same issuer at the same moment.
        self._next_fetch = now + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        self._fetching = False

    def abandoned(self) -> None:
        """Note that the fetch under way will never end: its thread is in another process."""
        self._fetching = False

    def forget(self) -> None:
        """Drop every key."""
        self._fresh = ({}, 0.0)

    def _new_key(self, now: float) -> Finding:
        if not self._fetching and now >= max(self._next_fetch, self._next_new_key):
            self._next_new_key = now + NEW_KEY_SECONDS
        elif not self._fetching:
            return Finding(Advice.UNAVAILABLE if self._failures else Advice.UNKNOWN)
        return self._waiting(Advice.WAIT_FOR_NEW_KEY, now)

    def _waiting(self, advice: Advice, now: float) -> Finding:
        fetch = self._begin(now)
        return Finding(advice, fetch=fetch) if self._fetching else Finding(Advice.UNAVAILABLE)

    def _begin(self, now: float) -> bool:
        return now >= self._next_fetch and self.fetching()
