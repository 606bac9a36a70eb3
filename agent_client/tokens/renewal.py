"""When a token is renewed, and how long it is handed out. Pure: the time comes in, as seconds that have gone by."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent_client.answers import IssuedToken

EARLIEST, LATEST = 0.5, 0.9
"""Parts of the time that the issuer advises, between which it is done. Never later: the advice allows for an outage."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
_DOUBLINGS = 5  # by then LONGEST_PAUSE is reached
_REMAINDER = 8
_GOLDEN = 0.6180339887498949


class Spread:
    """Positions between 0 and 1 that stay evenly apart however many there are (a Weyl sequence by the golden ratio).

    A thousand tokens that came within one second are so renewed evenly over a while. Independent random positions would
    leave some seconds with twice the renewals of others.
    """

    def __init__(self) -> None:
        # Where it begins is random: many processes start at the same moment.
        self._position = random.random()  # noqa: S311 - spreads load, guards nothing

    def next(self) -> float:
        """Return the next position."""
        self._position = (self._position + _GOLDEN) % 1.0
        return self._position


class Schedule(NamedTuple):
    """What a token's times mean on this host, in seconds of :func:`~agent_client.clock.elapsed`.

    Attributes:
        renew_at: When to ask for the next one.
        good_until: When it is not handed out any more.
    """

    renew_at: float
    good_until: float


def schedule(issued: IssuedToken, sent_at: float, position: float) -> Schedule:
    """Return the times of a token.

    They are counted from when it was asked for, by lengths alone: the issuer stamped it after that, so it lives at
    least as long, and how far the two clocks are apart does not matter. A verifier's leeway is its own affair.

    Args:
        issued: The token.
        sent_at: When the call that brought it was begun.
        position: Between 0 and 1: where in the span of renewal, see :class:`Spread`.
    """
    lifetime = (issued.expires_at - issued.issued_at).total_seconds()
    advised = max((issued.renew_at - issued.issued_at).total_seconds(), 0.0)
    return Schedule(sent_at + advised * (EARLIEST + (LATEST - EARLIEST) * position), sent_at + lifetime)


def pause(failures: int, position: float, seconds_left: float | None) -> float:
    """Return the seconds until the next attempt after ``failures`` failed ones (at least one).

    Doubling, between half and all of it. While a good token is left, never more than an eighth of what it has left, so
    that several attempts fall between the end of an outage and the end of the token.
    """
    longest: float = min(FIRST_PAUSE * 2.0 ** min(failures - 1, _DOUBLINGS), LONGEST_PAUSE)
    if seconds_left is not None:
        longest = min(longest, max(seconds_left / _REMAINDER, FIRST_PAUSE))
    return longest * (1.0 + position) / 2.0
