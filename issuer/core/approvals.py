"""The approvals that a decision may count on. An approval is context, not a grant: it removes one obstacle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from issuer.core.approval_request import asked_for
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.lifetime import approval_limit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.lifetime import Limit
    from issuer.core.policy import Approval, Policy
    from issuer.core.token_request import TokenRequest


@dataclass(frozen=True, slots=True)
class Approved:
    """What people approved, as far as a decision reads it.

    Attributes:
        id: Of the request for approval.
        number: Which step of that request using it would be; the ledger lets each be taken once. 0 where a window of
            access took it, and its tokens rest on it.
        digest: Of exactly what was asked.
        application: On whose behalf that was; empty for none.
        scopes: The scopes that were approved.
        ttl: The longest lifetime of a token, in seconds; ``None`` for no bound of its own.
        until: When it ends, microseconds since 1970 UTC; no token lives longer.
        uses: For how many more tokens it is good, at least one.
    """

    id: str
    number: int
    digest: str
    application: str
    scopes: tuple[str, ...]
    ttl: int | None
    until: int
    uses: int


class Approvals:
    """An immutable set of approvals, at most one for each digest.

    Args:
        approved: Which.
    """

    __slots__ = ("_by_digest",)

    def __init__(self, approved: Iterable[Approved] = ()) -> None:
        self._by_digest = {each.digest: each for each in approved}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is approved; most callers, most of the time."""
        return not self._by_digest

    def of(self, caller: Caller, request: TokenRequest, application: str | None, policy: str) -> Approved | None:
        """Return what was approved of exactly this; ``None`` for nothing."""
        return self._by_digest.get(asked_for(caller.spiffe_id, request, application, policy).digest)

    def after_use(self, used: Approved) -> Approvals:
        """Return what is left once a token was issued on one of them."""
        left = [each for each in self._by_digest.values() if each.id != used.id]
        if used.uses > 1:
            left.append(replace(used, number=used.number + 1, uses=used.uses - 1))
        return Approvals(left)


class RecordedApproval(Approvals):
    """The approval that a recorded decision read: it was for that very request, whatever policy replays it."""

    __slots__ = ("_approved",)

    def __init__(self, approved: Approved) -> None:
        super().__init__((approved,))
        self._approved = approved

    def of(self, caller: Caller, request: TokenRequest, application: str | None, policy: str) -> Approved | None:  # noqa: ARG002
        """Return it, on behalf of the application that it was for."""
        return self._approved if self._approved.application == (application or "") else None


NOTHING_APPROVED: Final = Approvals()


class ApprovalLook:
    """Looks up the approval for one request; remembers what it found, for the record. This one finds none."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: Approved | None = None

    def covering(self, scope: str, application: str | None) -> Approved | None:  # noqa: ARG002 - see _Look
        """Return the approval of a scope; ``None`` when nobody approved it, or that is over."""
        return None

    def used(self, scopes: Iterable[str], application: str | None) -> Approved | None:  # noqa: ARG002
        """Return the approval that scopes rest on which are granted; ``None`` when they need none."""
        return None

    def limits(self, scope: str, application: str | None) -> list[Limit]:  # noqa: ARG002
        """Return what limits a token for a granted scope that rests on an approval."""
        return []


class _Look(ApprovalLook):
    __slots__ = ("_approvals", "_caller", "_ends", "_known", "_now", "_policy", "_request")

    def __init__(
        self, approvals: Approvals, policy: Policy, caller: Caller, request: TokenRequest, now: datetime
    ) -> None:
        super().__init__()
        self._approvals = approvals
        self._policy = policy
        self._caller = caller
        self._request = request
        self._now = now
        # Like a grant, an approval ends the shortest lifetime before its end: no token outlives it.
        self._ends = microseconds(now) + policy.min_ttl // MICROSECOND
        self._known: dict[str | None, Approved | None] = {}

    def covering(self, scope: str, application: str | None) -> Approved | None:
        if application not in self._known:
            found = self._approvals.of(self._caller, self._request, application, self._policy.digest)
            self._known[application] = found if found is not None and self._ends <= found.until else None
            self.found = self.found or self._known[application]
        approved = self._known[application]
        return approved if approved is not None and scope in approved.scopes else None

    def used(self, scopes: Iterable[str], application: str | None) -> Approved | None:
        resting = (self._resting_on(scope, application) for scope in scopes)
        return next((approved for approved in resting if approved is not None), None)

    def limits(self, scope: str, application: str | None) -> list[Limit]:
        approved = self._resting_on(scope, application)
        return [] if approved is None else [approval_limit(approved.until, approved.ttl, self._now)]

    def _resting_on(self, scope: str, application: str | None) -> Approved | None:
        needed = approval_of(self._policy, self._request.audience, scope)
        return None if needed is None else self.covering(scope, application)


NO_LOOK: Final = ApprovalLook()


def look_for(
    approvals: Approvals, policy: Policy, caller: Caller, request: TokenRequest, now: datetime
) -> ApprovalLook:
    """Return what looks up the approval of a request."""
    return NO_LOOK if approvals.is_empty else _Look(approvals, policy, caller, request, now)


def approval_of(policy: Policy, audience: str, scope: str) -> Approval | None:
    """Return who must approve a scope that the audience declares: as the scope says, or else its tier."""
    rule = policy.audiences[audience].scopes[scope]
    return rule.approval or policy.risk_tiers[rule.risk].approval
