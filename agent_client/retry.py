"""How long a call may take, and when it is made again. Pure: the time comes in."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_client.errors import IssuerRequestError

DEFAULT_TIMEOUT = 10.0
"""Seconds for a call with all its retries, and with the wait for the first SVID."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
_DOUBLINGS = 5  # by then LONGEST_PAUSE is reached
SHORTEST_DEADLINE = 0.001
"""What gRPC is given when nothing is left: a deadline that has passed is not always honoured before connecting."""


def pause_after(failure: IssuerRequestError, attempt: int, seconds_left: float) -> float | None:
    """Return how many seconds to wait before the next attempt, or ``None`` when there is to be none.

    Asked again is an issuer that is unavailable, and one whose limit was reached and that says when to come back
    (``retry_after``). Asking twice for a token is safe, since a token that nobody holds harms nobody. The next attempt
    is never earlier than the issuer says. Where the pause would pass the deadline, there is none.

    Args:
        failure: How the last attempt ended.
        attempt: How many attempts came before it.
        seconds_left: Until the deadline.
    """
    if not failure.retryable:
        return None
    # Jitter: many workloads lose the same issuer at the same moment.
    pause = min(FIRST_PAUSE * 2 ** min(attempt, _DOUBLINGS), LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
    if failure.retry_after is not None:
        pause += failure.retry_after.total_seconds()
    return pause if pause < seconds_left else None


def checked_timeout(seconds: float) -> float:
    """Return ``seconds``.

    Raises:
        ValueError: It is not a positive number.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a timeout is a positive number of seconds, not {seconds!r}")
    return seconds
