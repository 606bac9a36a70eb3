"""What one request has: a token, a reason why there is none, a call under way."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from agent_client.errors import SubjectTokenNotTaken

if TYPE_CHECKING:
    from agent_client.answers import IssuedToken
    from agent_client.requests import TokenRequest
    from agent_client.token_checks import CallerIdentity

Flight = TypeVar("Flight")
LONG_AGO = float("-inf")
ROUNDING_SECONDS = 2
"""By so much a token may end before the subject token that ends it: the issuer rounds down, twice."""


class Arrival(NamedTuple):
    """A token, who asked for it, and when (seconds of :func:`~agent_client.clock.elapsed`)."""

    issued: IssuedToken
    caller: CallerIdentity
    sent_at: float


@dataclass(slots=True, eq=False, weakref_slot=True)
class Entry(Generic[Flight]):
    """The state of one request. Times are seconds of :func:`~agent_client.clock.elapsed`.

    Attributes:
        request: What is asked for.
        keepers: Those for whom it is renewed while nobody asks, as long as they live.
        good: The token to hand out, until ``good_until``.
        owner: Who asked for ``good``.
        good_until: Until when ``good`` is handed out.
        fresh_until: Until when it is handed out without a look at anything else, ``good_until`` at the latest.
        due_at: When the next attempt in the background is due; ``None``: none is planned.
        used: Whether anybody asked since the last attempt began.
        failure: How the last attempt failed, if it did; without its traces, see :func:`remembered`.
        failures: How many failed one after another.
        dropped_at: When a token of it was last dropped because a resource server refused it.
        refused_until: Until when ``failure`` is the answer, without asking the issuer.
        flight: The call under way; the kind of client knows what it is.
        outdated: Whether the workload became another since that call began.
        approved: Whether people have to approve it, by what the issuer said last.
        over: Whether the window of access that it is under has ended: nothing of it is kept or renewed any more.
    """

    request: TokenRequest
    keepers: WeakSet[object] = field(default_factory=WeakSet, repr=False)
    good: IssuedToken | None = field(default=None, repr=False)
    owner: CallerIdentity | None = None
    good_until: float = LONG_AGO
    fresh_until: float = LONG_AGO
    due_at: float | None = None
    used: bool = False
    failure: Exception | None = None
    failures: int = 0
    dropped_at: float = LONG_AGO
    refused_until: float = LONG_AGO
    flight: Flight | None = field(default=None, repr=False)
    outdated: bool = False
    approved: bool = False
    over: bool = False

    @property
    def renewable(self) -> bool:
        """Whether the background may ask for it.

        Never what one intent paid for, which is for one operation, and never what people approve: who asks uses their
        approval up. Nor what is on behalf of another once nothing longer can be had: the token ends with the subject
        token, or the issuer takes that no more. Nor what is under a window of access that has ended.
        """
        paid_for = self.request.intent is not None or self.approved
        return not (paid_for or self.over or self._ends_with_subject)

    @property
    def _ends_with_subject(self) -> bool:
        subject = self.request.on_behalf_of
        if subject is None:
            return False
        if self.good is None or subject.ends_at is None:
            return isinstance(self.failure, SubjectTokenNotTaken)
        return self.good.expires_at.timestamp() >= subject.ends_at - ROUNDING_SECONDS

    @property
    def wanted(self) -> bool:
        """Whether to renew it."""
        return self.used or bool(self.keepers)

    def seconds_left(self, now: float) -> float | None:
        """Return how long the token is still good; ``None``: there is none that is."""
        return self.good_until - now if self.good is not None and now < self.good_until else None

    def good_other_than(self, known: IssuedToken, now: float) -> IssuedToken | None:
        """Return the token, if it is still good and not ``known``."""
        return self.good if self.good is not known and self.seconds_left(now) is not None else None

    def drop(self) -> None:
        """Hand the token out no more."""
        self.good, self.owner, self.fresh_until, self.good_until = None, None, LONG_AGO, LONG_AGO

    def pardon(self) -> None:
        """Forget that, and how, anything failed."""
        self.failure, self.failures, self.refused_until = None, 0, LONG_AGO


def again(error: Exception) -> Exception:
    """Return an error like ``error``, to be raised once more: one object raised by many threads mixes their traces."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin


def remembered(error: Exception) -> Exception:
    """Return an error like ``error`` to keep: without traces and cause, which hold on to all that its callers had."""
    return copy.copy(error)
