"""Which status lists are kept, how far they are to be trusted, and when to fetch again. Pure: the time comes in.

From a fetch on, a list is

- *fresh* for half of its ``ttl``;
- *due* for the other half: used, while the next fetch runs beside;
- *late* after that: the next fetch is waited for, since a token may have been revoked. Once one has failed the list is
  used, and nobody waits, until its ``exp``, or until ``max_stale`` seconds after the fetch if that is sooner;
- *gone* then: nothing is known of its tokens until a fetch succeeds.

A list whose ``iat`` is before one that was seen is an old one played again: it counts as a fetch that failed.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from agent_client.verification.status_token import ReadList

MAX_LISTS: Final = 256
"""Kept at once: an issuer of 1,000 tokens a second with a status has about 60. At 128 KiB each, 32 MiB."""
MAX_REMEMBERED: Final = 4_096
"""Lists of which the newest ``iat`` is remembered, though they are not kept any more."""
SHORTEST_TTL: Final = 1.0
LONGEST_TTL: Final = 3600.0
"""A revocation is learned within the hour, whatever the list says."""
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between fetches that fail."""
_DOUBLINGS: Final = 4  # by then LONGEST_PAUSE_SECONDS is reached


class Moment(NamedTuple):
    """Now: on a clock that never goes back, in seconds, and as Unix seconds."""

    monotonic: float
    wall: float


class Found(NamedTuple):
    """What a look for a list brought.

    Attributes:
        listed: The list; ``None`` when there is none that can be used now.
        fetch: Whether to start a fetch now. That it runs has been noted already.
        wait: Whether to wait for the fetch under way, and then look again.
    """

    listed: ReadList | None
    fetch: bool = False
    wait: bool = False


class _Kept:
    """One list."""

    __slots__ = ("failures", "fault", "fetched_at", "fetching", "fresh", "listed", "next_fetch", "ttl")

    def __init__(self) -> None:
        self.listed: ReadList | None = None
        self.fetched_at = 0.0
        self.ttl = 0.0
        self.fresh: tuple[ReadList | None, float] = (None, 0.0)
        self.fetching = False
        self.failures = 0
        self.fault = ""
        self.next_fetch = float("-inf")


class StatusCache:
    """The lists of one or more issuers, by their URI. Not thread-safe, but for :meth:`fresh`.

    Args:
        max_stale: Seconds after its fetch that a list is used at most; ``None`` for as long as its ``exp`` lets it.
        leeway: Seconds by which this host's clock and the issuer's may differ.
    """

    def __init__(self, max_stale: float | None, leeway: float) -> None:
        self._max_stale = max_stale
        self._leeway = leeway
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._newest: OrderedDict[str, int] = OrderedDict()

    def fresh(self, uri: str, monotonic: float) -> ReadList | None:
        """Return a list that can be used without another look at it; from any thread."""
        kept = self._kept.get(uri)
        if kept is None:
            return None
        listed, until = kept.fresh  # one read of one tuple
        return listed if monotonic < until else None

    def find(self, uri: str, now: Moment) -> Found:
        """Look for a list."""
        kept = self._kept.get(uri)
        if kept is None:
            kept = self._kept[uri] = _Kept()
            self._make_room()
        self._kept.move_to_end(uri)
        listed = self._usable(kept, now)
        if listed is None:
            fetch = self._begin(kept, now)
            return Found(None, fetch=fetch, wait=kept.fetching)
        age = now.monotonic - kept.fetched_at
        fetch = age >= kept.ttl / 2 and self._begin(kept, now)
        return Found(listed, fetch=fetch, wait=age >= kept.ttl and kept.fetching and not kept.failures)

    def find_again(self, uri: str, now: Moment) -> ReadList | None:
        """Look for a list after having waited. Starts nothing."""
        kept = self._kept.get(uri)
        return None if kept is None else self._usable(kept, now)

    def fault(self, uri: str) -> str:
        """Return why the last fetch of a list brought nothing; empty when it did, or there was none."""
        kept = self._kept.get(uri)
        return "" if kept is None else kept.fault

    def fetched(self, uri: str, listed: ReadList, now: Moment) -> None:
        """Take the list of a fetch that succeeded, but one that is older than one seen before."""
        if listed.issued_at < self._newest.get(uri, 0):
            self.failed(uri, "it is older than one that was seen before", now)
            return
        kept = self._kept.setdefault(uri, _Kept())
        self._newest[uri] = listed.issued_at
        self._newest.move_to_end(uri)
        while len(self._newest) > MAX_REMEMBERED:
            self._newest.popitem(last=False)
        kept.listed, kept.fetched_at = listed, now.monotonic
        kept.ttl = min(max(listed.ttl, SHORTEST_TTL), LONGEST_TTL)
        left = (kept.ttl / 2, listed.expires_at + self._leeway - now.wall, self._max_stale or LONGEST_TTL)
        kept.fresh = (listed, now.monotonic + min(left))
        kept.fetching, kept.failures, kept.next_fetch, kept.fault = False, 0, float("-inf"), ""

    def failed(self, uri: str, fault: str, now: Moment) -> None:
        """Note why a fetch brought nothing: the next one waits, longer each time."""
        kept = self._kept.setdefault(uri, _Kept())
        pause = min(FIRST_PAUSE_SECONDS * 2 ** min(kept.failures, _DOUBLINGS), LONGEST_PAUSE_SECONDS)
        kept.failures += 1
        kept.fault = fault
        # Jitter: many verifiers lose the same issuer at the same moment.
        kept.next_fetch = now.monotonic + pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        kept.fetching = False

    def abandoned(self) -> None:
        """Note that the fetches under way will never end: their threads are in another process."""
        for kept in self._kept.values():
            kept.fetching = False

    def _usable(self, kept: _Kept, now: Moment) -> ReadList | None:
        listed = kept.listed
        if listed is None or now.wall >= listed.expires_at + self._leeway:
            return None
        if self._max_stale is not None and now.monotonic - kept.fetched_at >= self._max_stale:
            return None
        return listed

    def _begin(self, kept: _Kept, now: Moment) -> bool:
        if kept.fetching or now.monotonic < kept.next_fetch:
            return False
        kept.fetching = True
        return True

    def _make_room(self) -> None:
        while len(self._kept) > MAX_LISTS:
            self._kept.popitem(last=False)
