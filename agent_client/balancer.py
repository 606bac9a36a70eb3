"""Which of the issuer's addresses the next attempt goes to. Pure: the time comes in, and nothing is called.

Least calls in flight; among equals, the one that was picked longest ago. An address that failed is left out for a pause
that grows. When the pause has ended, one attempt finds out how it is, while the other calls stay away a little longer.
When all addresses are left out, the one whose pause ends first is as good as any.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

FIRST_PAUSE = 0.5
"""Seconds that an address is left out after its first failure: about what a restarted issuer needs at the least."""
LONGEST_PAUSE = 30.0
"""Seconds; an issuer that is back takes its share of the calls again after so long at the latest."""
PROBE_SECONDS = 3.0
"""How long the other calls wait for the one that finds out whether an address is back."""
_DOUBLINGS = 6  # by then LONGEST_PAUSE is reached


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of one address. Made empty, so that it can be ended wherever its beginning was broken off.

    Attributes:
        address: Where it goes; ``""`` before it was begun.
        began: When (monotonic seconds).
        seconds: How long it may take.
    """

    address: str = ""
    began: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class _Health:
    under_way: set[Attempt] = field(default_factory=set)
    picked: int = 0  # the number of the last pick
    failures: int = 0  # in a row
    failed_at: float = float("-inf")
    out_until: float = float("-inf")


class Balancer:
    """What is known of each address of one issuer. Thread-safe. All times are monotonic seconds.

    Args:
        addresses: At least one, each once. Where nothing is known, they are taken in this order.
        jitter: Returns the factor for the next pause: many workloads lose the same issuer at the same moment.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - spreads load, guards nothing
    ) -> None:
        self.addresses = tuple(addresses)
        self._jitter = jitter
        self._lock = threading.Lock()
        self._picks = 0
        self._health = {address: _Health() for address in addresses}

    def begin(self, attempt: Attempt, now: float, tried: Collection[str] = ()) -> str:
        """Give ``attempt`` the best address that is not among ``tried``, and count it until :meth:`end`."""
        with self._lock:
            attempt.address, attempt.began = self._pick(now, tried), now
            health = self._health[attempt.address]
            health.under_way.add(attempt)
            self._picks += 1
            health.picked = self._picks
            if health.failures:
                # By a time and not by a count: an attempt that is never ended keeps no address out for good.
                health.out_until = max(health.out_until, now + PROBE_SECONDS)
            return attempt.address

    def end(self, attempt: Attempt) -> None:
        """Count ``attempt`` no longer. Without effect when it was not begun, or has ended."""
        if attempt.address:
            with self._lock:
                self._health[attempt.address].under_way.discard(attempt)

    def succeeded(self, attempt: Attempt) -> bool:
        """Take in that the address answered as an issuer does. Return whether it had failed before."""
        with self._lock:
            health = self._health[attempt.address]
            was_out, health.failures, health.out_until = health.failures > 0, 0, float("-inf")
            return was_out

    def failed(self, attempt: Attempt, now: float, at_least: float = 0.0) -> bool:
        """Leave the address out for a while. Return whether it is the first failure in a row.

        Args:
            attempt: What failed. Of attempts that were under way together, only the first to fail counts.
            now: The time.
            at_least: Seconds that the issuer asks to be left alone.
        """
        with self._lock:
            health = self._health[attempt.address]
            if health.failed_at >= attempt.began:
                return False
            health.failures += 1
            health.failed_at = now
            pause = min(FIRST_PAUSE * 2.0 ** min(health.failures - 1, _DOUBLINGS), LONGEST_PAUSE) * self._jitter()
            health.out_until = now + max(pause, at_least)
            return health.failures == 1

    def ready(self, now: float, tried: Collection[str] = ()) -> int:
        """Return how many addresses that are not among ``tried`` are not left out."""
        with self._lock:
            return sum(self._health[address].out_until <= now for address in self.addresses if address not in tried)

    def _pick(self, now: float, tried: Collection[str]) -> str:
        candidates = {address: self._health[address] for address in self.addresses if address not in tried}
        ready = {address: health for address, health in candidates.items() if health.out_until <= now}
        if ready:
            return min(ready, key=lambda address: (len(ready[address].under_way), ready[address].picked))
        return min(candidates, key=lambda address: candidates[address].out_until)
