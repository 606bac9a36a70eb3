"""One call's way over the issuer's addresses: how long an attempt gets, and what its failure leads to. No I/O.

1. In a round, each address is tried at most once: those that are not left out first (:mod:`agent_client.balancer`).
2. An address that is unavailable, or does not prove to be the issuer, is left out, and the next is tried at once. That
   is safe: a token that nobody holds harms nobody, and nothing is sent to who does not prove to be the issuer.
3. While other addresses remain, an attempt gets a share of the time that is left, so that one that never answers does
   not use up the call. The last one gets all of it.
4. When every address has failed, there is a pause, and another round, if :mod:`agent_client.retry` says so.
5. A limit that was reached holds for all addresses: none is asked before the issuer says so.
6. Everything else is final.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_client.errors import IssuerNotTrusted, IssuerRequestError, IssuerTimedOut, IssuerUnavailable
from agent_client.retry import growing_pause, pause_after

if TYPE_CHECKING:
    from agent_client.balancer import Attempt, Balancer

SHORTEST_SHARE = 1.0
"""Seconds, where so much is left: an issuer far away needs several round trips for its first answer. An attempt that
had less says nothing about its address when it times out."""
LONGEST_SHARE = 3.0
"""Seconds of an attempt while another address is ready: an issuer answers within milliseconds, or not at all."""
_SHARE_BESIDE_FAILED = 0.75  # of the time that is left, where the other addresses failed a moment ago


class Course:
    """The attempts of one call. For one thread or task.

    Args:
        balancer: What is known of the addresses.
        end: When the call has to be over (monotonic seconds).
    """

    def __init__(self, balancer: Balancer, end: float) -> None:
        self.end = end
        self._balancer = balancer
        self._tried: set[str] = set()  # in this round, or not to be tried in it
        self._rounds = 0
        self._failures: dict[str, IssuerRequestError] = {}
        self._not_before: dict[str, float] = {}

    def begin(self, attempt: Attempt, now: float) -> None:
        """Give ``attempt`` an address, and its time."""
        address = self._balancer.begin(attempt, now, self._tried)
        self._tried.add(address)
        ready = self._balancer.ready(now, self._tried)
        left = len(self._balancer.addresses) - len(self._tried)
        attempt.seconds = share(self.end - now, ready=ready, failed=left - ready)

    def pause_after(self, attempt: Attempt, failure: IssuerRequestError, now: float) -> float | None:
        """Return the seconds until the next attempt, 0 for another address; ``None`` when there is to be none."""
        left = self.end - now
        if not is_of_address(failure):
            pause = pause_after(failure, self._rounds, left)
        else:
            self._failures[attempt.address] = failure
            if failure.retry_after is not None:
                self._not_before[attempt.address] = now + failure.retry_after.total_seconds()
            if len(self._tried) < len(self._balancer.addresses):
                return 0.0 if left > 0 else None
            pause = self._pause_of_round(now)
        if pause is None or pause >= left:
            return None
        self._rounds += 1
        self._tried = {address for address, moment in self._not_before.items() if moment > now + pause}
        return pause

    def _pause_of_round(self, now: float) -> float | None:
        """Return the seconds until an address may be asked again; ``None`` where none would do better."""
        retryable = [address for address, failure in self._failures.items() if failure.retryable]
        if not retryable:
            return None
        soonest = min(self._not_before.get(address, now) for address in retryable)
        return growing_pause(self._rounds) + max(soonest - now, 0.0)

    def verdict(self, failure: IssuerRequestError) -> IssuerRequestError:
        """Return what the caller is told when ``failure`` was the last: of several addresses, what helps most."""
        if not is_of_address(failure) or len(self._balancer.addresses) == 1:
            return failure
        return combined(self._failures, len(self._balancer.addresses))


def share(seconds: float, *, ready: int, failed: int) -> float:
    """Return how much of the time that is left an attempt gets.

    Args:
        seconds: Until the deadline.
        ready: How many other addresses remain.
        failed: How many more remain that are left out for now.
    """
    if ready:
        return min(max(seconds / (ready + 1), SHORTEST_SHARE), LONGEST_SHARE, seconds)
    return seconds * _SHARE_BESIDE_FAILED if failed else seconds


def is_of_address(failure: IssuerRequestError) -> bool:
    """Return whether another address may do better."""
    return isinstance(failure, IssuerUnavailable | IssuerNotTrusted)


def counts_against(failure: IssuerRequestError, seconds: float) -> bool:
    """Return whether an address is to be left out for ``failure``, which an attempt of so many seconds ended with."""
    return is_of_address(failure) and not (isinstance(failure, IssuerTimedOut) and seconds < SHORTEST_SHARE)


def combined(failures: dict[str, IssuerRequestError], addresses: int) -> IssuerRequestError:
    """Return one error for those of several addresses: of the kind that helps most, and its text names them all."""
    best = min(failures.values(), key=_rank)
    told = "; ".join(
        failure.message if address in failure.message else f"{address}: {failure.message}"
        for address, failure in failures.items()
    )
    which = f"all {addresses} addresses" if len(failures) == addresses else f"{len(failures)} of {addresses} addresses"
    return type(best)(
        f"{which} of the issuer failed: {told}",
        reason=best.reason,
        decision_id=best.decision_id,
        request_id=best.request_id,
        retry_after=best.retry_after,
        address=best.address,
    )


def _rank(failure: IssuerRequestError) -> int:
    """Return how little a failure says of what is to be mended."""
    if isinstance(failure, IssuerNotTrusted):
        return 0
    if isinstance(failure, IssuerTimedOut):
        return 3
    return 1 if failure.reason else 2
