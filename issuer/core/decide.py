"""The decision: may this caller have this token, and for how long. Pure; everything it reads is an argument.

The rules, in order:

 1. Deny by default. Only rule 11 grants, and every rule before it can only take away.
 2. The candidates are the grants whose workloads include the caller and that name the audience. An unknown audience has
    none, so it is refused exactly as one that is not allowed: the answer does not tell which audiences exist.
 3. Prohibitions win. One without scopes refuses the whole audience, one with scopes refuses those.
 4. A grant applies from ``not_before`` until ``min_ttl`` before ``expires``. Where none does, the audience is refused.
 5. The application is one that an applying grant names. A request that names none gets the only one there is; where
    there are several it must choose. A grant that names no application adds its scopes whichever application that is.
 6. A scope is granted when an applying grant for that application names it and no prohibition does.
 7. All or nothing: one refused scope refuses the request, unless the caller set ``allow_partial``, and then at least
    one scope must be left.
 8. A refusal that grants outside of their time window would have prevented says so: GRANT_EXPIRED.
 9. For each scope, of the grants that give it, the one with the longest lifetime counts (of equal ones the lowest id).
    The token lives the minimum over its scopes of: asked, grant, scope, audience, risk tier, rest of the SVID, rest of
    the grant. Whole seconds, rounded down.
10. A token that would live less than ``min_ttl`` is not issued: renew the SVID first, or ask for more.
11. What is left is granted. The token is bound to the caller's certificate when the caller asks for that or when the
    risk tier of one of its scopes demands it.

What the caller of :func:`decide` must still do: verify the caller, record the decision, check the finished claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.candidates import find_candidates, is_in_force
from issuer.core.decision import Denial, Grant, LifetimeBound
from issuer.core.errors import Reason
from issuer.core.lifetime import Limit, policy_limit, request_limit, shortest, svid_limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.policy import GrantRule, Policy, ProhibitionRule
    from issuer.core.token_request import TokenRequest

MAX_RULE_IDS = 16
"""How many rules a denial names; a record has to stay small, and the first ones are enough to find the rest."""


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Rules 3 to 7 let this through: the grants that give each scope, in the order of the request."""

    application: str | None
    by_scope: Mapping[str, Sequence[GrantRule]]
    refused_scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Refused:
    """Rules 3 to 7 refuse."""

    reason: Reason
    scopes: tuple[str, ...]
    rule_ids: Sequence[str]


def decide(policy: Policy, caller: Caller, request: TokenRequest, now: datetime) -> Grant | Denial:
    """Return what ``policy`` says to ``request`` at ``now`` (timezone-aware).

    ``caller`` is trusted to be verified: only its ID and the end of its SVID are read.
    """
    candidates = find_candidates(policy, caller.spiffe_id, request.audience)  # 2
    in_force = [grant for grant in candidates.grants if is_in_force(grant, now, policy.min_ttl)]  # 4
    outcome = _select(in_force, candidates.prohibitions, request)
    if isinstance(outcome, _Refused):
        at_another_time = _select(candidates.grants, candidates.prohibitions, request)  # 8
        return _denial(policy, _expired(outcome, at_another_time))
    return _grant_or_too_short(policy, caller, request, outcome, now)


def _select(
    grants: Sequence[GrantRule], prohibitions: Sequence[ProhibitionRule], request: TokenRequest
) -> _Allowed | _Refused:
    """Apply rules 3 to 7 to grants whose time window was looked at already."""
    if frozen := [rule.id for rule in prohibitions if rule.scopes is None]:  # 3
        return _Refused(Reason.AUDIENCE_NOT_ALLOWED, (), frozen)
    if not grants:  # 4
        return _Refused(Reason.AUDIENCE_NOT_ALLOWED, (), ())
    applications = {grant.application for grant in grants if grant.application is not None}  # 5
    if request.application is None and len(applications) > 1:
        return _Refused(Reason.APPLICATION_REQUIRED, (), [grant.id for grant in grants])
    if request.application is not None and request.application not in applications:
        return _Refused(Reason.APPLICATION_NOT_ALLOWED, (), [grant.id for grant in grants])
    application = request.application or next(iter(applications), None)
    serving = [grant for grant in grants if grant.application in (None, application)]
    return _select_scopes(serving, prohibitions, request, application)


def _select_scopes(
    grants: Sequence[GrantRule],
    prohibitions: Sequence[ProhibitionRule],
    request: TokenRequest,
    application: str | None,
) -> _Allowed | _Refused:
    prohibited = {scope for rule in prohibitions for scope in rule.scopes or ()}
    by_scope = {
        scope: [grant for grant in grants if scope in grant.scopes]
        for scope in request.scopes
        if scope not in prohibited
    }
    granted = {scope: giving for scope, giving in by_scope.items() if giving}  # 6
    refused = tuple(scope for scope in request.scopes if scope not in granted)
    if not granted or (refused and not request.allow_partial):  # 7
        closest = [rule.id for rule in prohibitions if not (rule.scopes or frozenset()).isdisjoint(refused)]
        return _Refused(Reason.SCOPE_NOT_ALLOWED, refused, closest or [grant.id for grant in grants])
    return _Allowed(application, granted, refused)


def _expired(refused: _Refused, at_another_time: _Allowed | _Refused) -> _Refused:
    """Apply rule 8."""
    if isinstance(at_another_time, _Refused):
        return refused
    scopes = refused.scopes or at_another_time.by_scope
    giving = [grant.id for scope in scopes for grant in at_another_time.by_scope.get(scope, ())]
    return _Refused(Reason.GRANT_EXPIRED, refused.scopes, giving)


def _grant_or_too_short(
    policy: Policy, caller: Caller, request: TokenRequest, allowed: _Allowed, now: datetime
) -> Grant | Denial:
    """Apply rules 9 to 11."""
    common = [svid_limit(caller.not_after, now)]
    if request.ttl is not None:
        common.append(request_limit(request.ttl))
    chosen = [_longest(policy, scope, giving, common, now) for scope, giving in allowed.by_scope.items()]  # 9
    limit = shortest(limit for _, limit in chosen)
    rule_ids = tuple(sorted({grant.id for grant, _ in chosen}))
    if limit.lifetime < policy.min_ttl:  # 10
        return _denial(policy, _Refused(_too_short(limit.bound), (), rule_ids))
    return Grant(  # 11
        audience=request.audience,
        scopes=tuple(allowed.by_scope),
        lifetime=limit.lifetime,
        lifetime_bound=limit.bound,
        application=allowed.application,
        bind_certificate=request.bind_certificate or _binding_required(policy, request.audience, allowed),
        rule_ids=rule_ids,
        refused_scopes=allowed.refused_scopes,
        policy_digest=policy.digest,
    )


def _longest(
    policy: Policy, scope: str, giving: Sequence[GrantRule], common: Sequence[Limit], now: datetime
) -> tuple[GrantRule, Limit]:
    limits = [(grant, shortest([policy_limit(policy, grant, scope, now), *common])) for grant in giving]
    return min(limits, key=lambda pair: (-pair[1].lifetime, pair[0].id))


def _too_short(bound: LifetimeBound) -> Reason:
    """Return why a token would be too short; a grant's own terms cannot be (rule 4, and the promise of ``min_ttl``)."""
    return Reason.REQUEST_INVALID if bound is LifetimeBound.REQUEST else Reason.SVID_EXPIRES_SOON


def _binding_required(policy: Policy, audience: str, allowed: _Allowed) -> bool:
    scopes = policy.audiences[audience].scopes
    return any(policy.risk_tiers[scopes[scope].risk].binding_required for scope in allowed.by_scope)


def _denial(policy: Policy, refused: _Refused) -> Denial:
    rule_ids = tuple(sorted(set(refused.rule_ids))[:MAX_RULE_IDS])
    return Denial(refused.reason, refused.scopes, rule_ids, policy.digest)
