"""Decisions that would be made again just so, remembered for as long as that is certain.

Most requests meet rules without conditions: their decision depends on the policy, the caller, the request, and on time
only through the end of the caller's SVID and the dates of grants. :func:`steady_until` tells how long such a decision
stands; what it cannot tell of is decided anew. Denials are never remembered.

A remembered grant is used again only for the same policy (the object, so a generation), an equal caller, an equal
request, without facts, approvals or an origin, and between the moment of its decision and the end that was told.
Revocations are looked at each time.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.approvals import NOTHING_APPROVED
from issuer.core.candidates import find_candidates
from issuer.core.decide import decide, would_issue
from issuer.core.decision import Grant
from issuer.core.lifetime import policy_limits, shortest
from issuer.core.revocations import NOTHING_REVOKED

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.approvals import Approvals
    from issuer.core.caller import Caller
    from issuer.core.candidates import Candidates
    from issuer.core.decision import Denial
    from issuer.core.facts import Facts
    from issuer.core.origin import Origin
    from issuer.core.policy import Policy
    from issuer.core.revocations import Revocations
    from issuer.core.token_request import TokenRequest

MAX_REMEMBERED: Final = 4096
"""Decisions at once, as many as there are verdicts on callers; about 1 KiB each. When they are full all are forgotten,
which costs one decision for each that is asked for again."""
_ROOM: Final = timedelta(seconds=2)
"""Lifetimes are whole seconds: a term that is longer than another by this much is longer in whole seconds too."""


class _Remembered(NamedTuple):
    caller: Caller
    grant: Grant
    since: datetime
    until: datetime


class RememberedDecisions:
    """Decides like :func:`~issuer.core.decide.decide`, from memory where that is the same."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._known: dict[tuple[bytes, TokenRequest], _Remembered] = {}

    def decide(
        self,
        policy: Policy,
        caller: Caller,
        request: TokenRequest,
        facts: Facts,
        now: datetime,
        *,
        revocations: Revocations = NOTHING_REVOKED,
        approvals: Approvals = NOTHING_APPROVED,
        origin: Origin | None = None,
    ) -> Grant | Denial:
        """Return what :func:`~issuer.core.decide.decide` returns for the same arguments."""
        alone = not facts and approvals.is_empty and origin is None
        if alone and (grant := self._recalled(policy, caller, request, now)) is not None:
            if revocations.is_empty:
                return grant
            token = would_issue(grant, caller, policy, now, key=revocations.key_id)
            if revocations.stopping(token) is None:  # rule 14
                return grant
        answer = decide(
            policy, caller, request, facts, now, revocations=revocations, approvals=approvals, origin=origin
        )
        if alone and isinstance(answer, Grant):
            self._remember(policy, caller, request, answer, now)
        return answer

    def _recalled(self, policy: Policy, caller: Caller, request: TokenRequest, now: datetime) -> Grant | None:
        if policy is not self._policy:
            return None
        known = self._known.get((caller.certificate_sha256, request))
        if known is None or not known.since <= now <= known.until:
            return None
        return known.grant if known.caller is caller or known.caller == caller else None

    def _remember(self, policy: Policy, caller: Caller, request: TokenRequest, grant: Grant, now: datetime) -> None:
        until = steady_until(policy, caller, request)
        if until is None or until < now:
            return
        if policy is not self._policy or len(self._known) >= MAX_REMEMBERED:
            self._policy = policy
            self._known.clear()
        self._known[caller.certificate_sha256, request] = _Remembered(caller, grant, now, until)


def steady_until(policy: Policy, caller: Caller, request: TokenRequest) -> datetime | None:
    """Return the last moment up to which the decision about a request cannot change by itself.

    That is while the rest of the caller's SVID is longer than every other term of a token: then it is never the
    shortest, whichever grant counts. Nothing else that is read changes with time, provided that no rule about this
    caller and audience has a condition or a date.

    Returns:
        The moment; ``None`` where some rule has a condition or a date, or no grant speaks of a scope that is asked for.
    """
    found = find_candidates(policy, caller.spiffe_id, request.audience)
    if _has_conditions(policy, found, request) or any(
        grant.not_before is not None or grant.ends is not None for grant in found.grants
    ):
        return None
    scopes = policy.audiences[request.audience].scopes if found.grants else {}
    terms = [
        shortest(policy_limits(policy, grant, scope, caller.not_after)).lifetime
        for grant in found.grants
        for scope in request.scopes
        if scope in grant.scopes and scope in scopes
    ]
    if not terms:
        return None
    longest = max(terms)
    if request.ttl is not None:
        longest = min(longest, request.ttl)
    return caller.not_after - longest - _ROOM


def _has_conditions(policy: Policy, found: Candidates, request: TokenRequest) -> bool:
    """Return whether a rule that the decision reads has one: it may read time, facts and the request's texts."""
    conditions = chain(
        *(grant.conditions for grant in found.grants),
        *(prohibition.conditions for prohibition in found.prohibitions),
        *((*limit.conditions, *limit.requires) for limit in found.limits),
    )
    if next(conditions, None) is not None:
        return True
    audience = policy.audiences.get(request.audience)
    known = audience.scopes if audience else {}
    return any(policy.risk_tiers[known[scope].risk].requires for scope in request.scopes if scope in known)
