"""The decision: may this caller have this token, and for how long. Pure; everything it reads is an argument.

The rules, in order:

 1. Deny by default. Only rule 13 grants, and every other can only take away.
 2. The candidates are the rules whose workloads include the caller and that name the audience. An unknown audience has
    none, so it is refused exactly as one that is not allowed: the answer does not tell which audiences exist. Rules in
    audit mode are left out here and weighed apart: they change :class:`~issuer.core.decision.Shadow`, never the answer.
 3. A grant counts for callers of the environments that it names, or else of its audience's environment.
 4. A grant counts from ``not_before`` until ``min_ttl`` before it ends, for the grant types that it names.
 5. The application is one that a grant of rule 4 names. A request that names none gets the only one there is; where
    there are several it must choose. A grant that names no application adds its scopes whichever application that is.
    Conditions have no say in this: the application of a token must not change with the weather.
 6. Prohibitions win. One applies unless its conditions are known to be false: what cannot be evaluated prohibits. One
    without scopes refuses the whole audience, one with scopes refuses those.
 7. A grant applies when all its conditions are known to be true: what cannot be evaluated does not grant.
 8. A scope is granted when an applying grant for that application names it, no prohibition does, and what its risk
    tier and the limits on it require is known to be true. A limit, like a prohibition, applies unless it is known not
    to. A scope that needs an approval is not granted without one for exactly this request that is not over.
 9. All or nothing: one refused scope refuses the request, unless the caller set ``allow_partial``, and then at least
    one scope must be left.
10. The reason of a refusal is the first obstacle whose removal, with those before it, would have led to a token:
    dates, grant type, missing facts, false conditions, approval. If none would have, no rule gives what was asked for.
11. For each scope, of the grants that give it, the one with the longest lifetime counts (of equal ones the lowest id).
    The token lives the minimum over its scopes of: asked, grant, scope, audience, risk tier, limits, rest of the SVID,
    rest of the grant, rest of the approval. Whole seconds, rounded down. A legacy grant drops the rest of the SVID, for
    tokens that are not bound to it: a bound one is worth nothing longer than the SVID lives.
12. A token that would live less than ``min_ttl`` is not issued: renew the SVID first, or ask for more. Under
    ``allow_partial`` a scope whose token alone would be so short is left out.
13. What is left is granted. The token is bound to the caller's certificate when the caller asks for that or when the
    risk tier of one of its scopes demands it.
14. A token that a revocation hits is not issued while that stops issuance. No other grant or scope takes its place:
    what was revoked does not come back by another way.
15. What a token rests on beside the caller's own right (another token, an intent, a window of access) only takes away:
    a scope that it does not have is refused like one that no grant names, the token lives no longer than it, is bound
    if it says so, and names the application that it names, where it says which.
16. A grant with ``subjects`` counts for the exchange of a token whose subject they name, and one without for tokens
    of this issuer alone: what others say of somebody gives nothing unless policy says about whom.

What the caller of :func:`decide` must still do: verify the caller, fetch what
:func:`~issuer.core.facts_needed.facts_needed` names, record the decision, check the finished claims.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from issuer.core.approvals import NOTHING_APPROVED, look_for
from issuer.core.candidates import find_candidates, is_in_force
from issuer.core.condition import Truth
from issuer.core.decision import Denial, Grant, LifetimeBound, shadow_of
from issuer.core.errors import Reason
from issuer.core.evaluation import Evaluator
from issuer.core.instants import microseconds
from issuer.core.lifetime import Limit, origin_limit, policy_limits, request_limit, shortest, svid_limit
from issuer.core.origin import basis_of
from issuer.core.policy import Mode
from issuer.core.revocation import Issued
from issuer.core.revocations import NOTHING_REVOKED
from issuer.core.subjects import is_for
from issuer.core.weighing import Allowed, Applying, Inputs, Obstacle, Refused, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from issuer.core.approvals import Approvals
    from issuer.core.caller import Caller
    from issuer.core.condition import Condition
    from issuer.core.facts import Facts
    from issuer.core.origin import Origin
    from issuer.core.policy import GrantRule, LimitRule, Policy, ProhibitionRule
    from issuer.core.revocations import Revocations
    from issuer.core.token_request import TokenRequest

MAX_RULE_IDS = 16
"""How many rules a denial names; a record has to stay small, and the first ones are enough to find the rest."""


_REASONS: Final = (  # 10
    (Obstacle.DATES, Reason.GRANT_EXPIRED),
    (Obstacle.GRANT_TYPE, Reason.GRANT_TYPE_NOT_ALLOWED),
    (Obstacle.UNKNOWN, Reason.FACT_MISSING),
    (Obstacle.FALSE, Reason.CONDITION_NOT_MET),
    (Obstacle.APPROVAL, Reason.APPROVAL_REQUIRED),
)


def decide(
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
    """Return what ``policy`` says to ``request`` at ``now`` (timezone-aware).

    ``caller`` is trusted to be verified: only its ID and the end of its SVID are read. ``facts`` may hold more than is
    needed, and may lack what is: that is then missing. ``approvals`` are context: they remove one obstacle, no other.
    ``origin`` is trusted to be what it says: whoever made it looked at it.
    """
    look = look_for(approvals, policy, caller, request, now)
    evaluator = Evaluator(policy, caller, request, facts, now)
    inputs = Inputs(policy, caller, request, now, evaluator, revocations, look, origin)
    enforced, with_audited = find_rules(inputs)
    answer = _answer(inputs, enforced)
    if with_audited is not None:
        answer = replace(answer, shadow=shadow_of(answer, _answer(inputs, with_audited)))
    return unless_revoked(inputs, answer)


def find_rules(inputs: Inputs) -> tuple[Rules, Rules | None]:
    """Apply rules 2 to 4: return the rules that are enforced and, if some are in audit mode, those with them."""
    found = find_candidates(inputs.policy, inputs.caller.spiffe_id, inputs.request.audience)
    grants = [(grant, _obstacles(inputs, grant)) for grant in found.grants if _in_environment(inputs, grant)]
    everything = Rules(grants, list(found.prohibitions), list(found.limits))
    enforced = Rules(
        [(grant, obstacles) for grant, obstacles in grants if grant.mode is Mode.ENFORCE],
        [rule for rule in found.prohibitions if rule.mode is Mode.ENFORCE],
        [rule for rule in found.limits if rule.mode is Mode.ENFORCE],
    )
    return enforced, None if enforced == everything else everything


def _in_environment(inputs: Inputs, grant: GrantRule) -> bool:  # 3
    if grant.environments is not None:
        return not grant.environments.isdisjoint(inputs.evaluator.environments)
    own = inputs.policy.audiences[grant.audience].environment
    return own is None or own in inputs.evaluator.environments


def _obstacles(inputs: Inputs, grant: GrantRule) -> int:  # 4
    obstacles = Obstacle.NONE
    if not is_in_force(grant, inputs.now, inputs.policy.min_ttl):
        obstacles |= Obstacle.DATES
    if inputs.request.grant_type not in grant.grant_types or not is_for(grant.subjects, inputs.origin):  # 16
        obstacles |= Obstacle.GRANT_TYPE
    return obstacles


def _answer(inputs: Inputs, rules: Rules) -> Grant | Denial:
    outcome = select(inputs, rules, Obstacle.NONE)
    if isinstance(outcome, Refused):
        return _denial(inputs, with_reason(inputs, rules, outcome))
    return grant_or_denial(inputs, outcome)


def select(inputs: Inputs, rules: Rules, ignored: int) -> Allowed | Refused:
    """Apply rules 5 to 9 as if the obstacles that are ``ignored`` were not there."""
    grants = [grant for grant, obstacles in rules.grants if not obstacles & ~ignored]
    applications = {grant.application for grant in grants if grant.application is not None}  # 5
    application = inputs.request.application or (next(iter(applications)) if len(applications) == 1 else None)
    prohibitions = [rule for rule in rules.prohibitions if _applies(inputs, rule, application, ignored)]  # 6
    if frozen := [rule.id for rule in prohibitions if rule.scopes is None]:
        return Refused(Reason.AUDIENCE_NOT_ALLOWED, (), frozen)
    if not grants:
        return Refused(Reason.AUDIENCE_NOT_ALLOWED, (), ())
    if inputs.origin is not None and inputs.origin.application not in {None, application or ""}:  # 15
        return Refused(Reason.APPLICATION_NOT_ALLOWED, (), [grant.id for grant in grants])
    if application is None and applications:
        return Refused(Reason.APPLICATION_REQUIRED, (), [grant.id for grant in grants])
    if application is not None and application not in applications:
        return Refused(Reason.APPLICATION_NOT_ALLOWED, (), [grant.id for grant in grants])
    serving = [
        grant
        for grant in grants
        if grant.application in (None, application) and _holds(inputs, grant.conditions, application, ignored)  # 7
    ]
    limits = [rule for rule in rules.limits if _applies(inputs, rule, application, ignored)]
    return _select_scopes(inputs, Applying(application, serving, prohibitions, limits), ignored)


def _applies(inputs: Inputs, rule: ProhibitionRule | LimitRule, application: str | None, ignored: int) -> bool:
    """Return whether a rule that takes away applies: unless its conditions are known to be false."""
    truth = inputs.evaluator.truth(rule.conditions, application)
    return truth is Truth.TRUE or (truth is Truth.UNKNOWN and not ignored & Obstacle.UNKNOWN)


def _holds(inputs: Inputs, conditions: Iterable[Condition], application: str | None, ignored: int) -> bool:
    """Return whether conditions that something depends on are all known to be true."""
    truth = inputs.evaluator.truth(conditions, application)
    return truth is Truth.TRUE or bool(ignored & (Obstacle.UNKNOWN if truth is Truth.UNKNOWN else Obstacle.FALSE))


def _select_scopes(inputs: Inputs, applying: Applying, ignored: int) -> Allowed | Refused:
    request = inputs.request
    prohibited = {scope for rule in applying.prohibitions for scope in rule.scopes or ()}
    by_scope = {
        scope: [grant for grant in applying.grants if scope in grant.scopes]
        for scope in request.scopes
        if scope not in prohibited and (inputs.origin is None or scope in inputs.origin.scopes)  # 15
    }
    granted = {  # 8
        scope: giving
        for scope, giving in by_scope.items()
        if giving and _requirements_hold(inputs, applying, scope, ignored)
    }
    refused = tuple(scope for scope in request.scopes if scope not in granted)
    if not granted or (refused and not request.allow_partial):  # 9
        closest = [rule.id for rule in applying.prohibitions if not (rule.scopes or frozenset()).isdisjoint(refused)]
        return Refused(Reason.SCOPE_NOT_ALLOWED, refused, closest or [grant.id for grant in applying.grants])
    return Allowed(applying.application, granted, applying.limits, refused)


def _requirements_hold(inputs: Inputs, applying: Applying, scope: str, ignored: int) -> bool:
    rule = inputs.policy.audiences[inputs.request.audience].scopes[scope]
    tier = inputs.policy.risk_tiers[rule.risk]
    required = [tier.requires, *(limit.requires for limit in limits_on(applying.limits, scope))]
    # The approval last: what conditions are found to lack does not depend on it, so that a record replays.
    return all(_holds(inputs, conditions, applying.application, ignored) for conditions in required) and (
        not (rule.approval or tier.approval)
        or bool(ignored & Obstacle.APPROVAL)
        or inputs.approvals.covering(scope, applying.application) is not None
    )


def limits_on(limits: Iterable[LimitRule], scope: str) -> list[LimitRule]:
    """Return the limits that speak of ``scope``."""
    return [limit for limit in limits if limit.scopes is None or scope in limit.scopes]


def with_reason(inputs: Inputs, rules: Rules, refused: Refused, ignored: int = Obstacle.NONE) -> Refused:
    """Apply rule 10, as if the obstacles that are ``ignored`` were not there."""
    for obstacle, reason in _REASONS:
        ignored |= obstacle
        without = select(inputs, rules, ignored)
        if isinstance(without, Allowed):
            scopes = refused.scopes or without.by_scope
            giving = [grant.id for scope in scopes for grant in without.by_scope.get(scope, ())]
            return Refused(reason, refused.scopes, giving)
    return refused


def grant_or_denial(inputs: Inputs, allowed: Allowed) -> Grant | Denial:
    """Apply rules 11 to 13."""
    allowed = without_too_short(inputs, allowed)
    bound = is_bound(inputs, allowed.by_scope)
    chosen = [longest(inputs, allowed, scope, bound=bound) for scope in allowed.by_scope]  # 11
    limit = shortest(limit for _, limit in chosen)
    rule_ids = tuple(sorted({grant.id for grant, _ in chosen}))
    if limit.lifetime < inputs.policy.min_ttl:  # 12
        return _denial(inputs, Refused(_too_short(limit.bound), (), rule_ids))
    legacy = limit.lifetime > svid_limit(inputs.caller.not_after, inputs.now).lifetime
    return Grant(  # 13
        audience=inputs.request.audience,
        scopes=tuple(allowed.by_scope),
        lifetime=limit.lifetime,
        lifetime_bound=limit.bound,
        application=allowed.application,
        bind_certificate=bound,
        rule_ids=rule_ids,
        refused_scopes=allowed.refused_scopes,
        policy_digest=inputs.policy.digest,
        lifetime_rule=limit.rule,
        grant_type=inputs.request.grant_type,
        legacy=legacy,
        missing=tuple(sorted(inputs.evaluator.missing)),
        facts=tuple(inputs.evaluator.facts.values()),
        approval=inputs.approvals.used(allowed.by_scope, allowed.application),
        origin=inputs.origin,
        status=legacy or inputs.policy.requires_status(inputs.request.audience, allowed.by_scope),
    )


def unless_revoked(inputs: Inputs, answer: Grant | Denial) -> Grant | Denial:
    """Apply rule 14."""
    revocations = inputs.revocations
    if revocations.is_empty or isinstance(answer, Denial):
        return answer
    ancestors = inputs.origin.ancestors if inputs.origin else ()
    token = would_issue(answer, inputs.caller, inputs.policy, inputs.now, key=revocations.key_id, ancestors=ancestors)
    if (stop := revocations.stopping(token)) is None:
        return answer
    return replace(_denial(inputs, Refused(Reason.REVOKED, (), (stop.id,))), shadow=answer.shadow)


def would_issue(
    grant: Grant,
    caller: Caller,
    policy: Policy,
    now: datetime,
    *,
    key: str,
    ancestors: tuple[Issued, ...] = (),
) -> Issued:
    """Return the token that would come of a grant, as revocations look at it."""
    return Issued(
        caller=caller.spiffe_id,
        audience=grant.audience,
        application=grant.application or "",
        rules=grant.rule_ids,
        policy=policy.digest,
        key=key,
        time=microseconds(now),
        basis=basis_of(grant.origin, grant.approval),
        ancestors=ancestors,
    )


def without_too_short(inputs: Inputs, allowed: Allowed) -> Allowed:
    """Return what is left, under ``allow_partial``, when scopes go whose token would be too short by themselves.

    What goes does not depend on the other scopes: else a prohibition of one could give another. When all would go, all
    stay, and rule 12 refuses them.
    """
    if not inputs.request.allow_partial:
        return allowed
    left = {
        scope: grants
        for scope, grants in allowed.by_scope.items()
        if longest(inputs, allowed, scope, bound=is_bound(inputs, (scope,)))[1].lifetime >= inputs.policy.min_ttl
    }
    if not left or len(left) == len(allowed.by_scope):
        return allowed
    refused = tuple(scope for scope in inputs.request.scopes if scope not in left)
    return replace(allowed, by_scope=left, refused_scopes=refused)


def longest(inputs: Inputs, allowed: Allowed, scope: str, *, bound: bool) -> tuple[GrantRule, Limit]:
    """Return the grant that counts for ``scope``, and the limit that sets how long its token may live."""
    limits = limits_on(allowed.limits, scope)
    extra = inputs.approvals.limits(scope, allowed.application)
    ways = [
        (grant, shortest([*terms_of(inputs, grant, scope, limits, bound=bound), *extra]))
        for grant in allowed.by_scope[scope]
    ]
    return min(ways, key=lambda way: (-way[1].lifetime, way[0].id))


def terms_of(inputs: Inputs, grant: GrantRule, scope: str, limits: Iterable[LimitRule], *, bound: bool) -> list[Limit]:
    """Return every limit on a token for ``scope`` by ``grant``; ``limits`` are the rules that apply to the scope."""
    terms = policy_limits(inputs.policy, grant, scope, inputs.now, limits)
    if grant.legacy is None or bound:
        terms.append(svid_limit(inputs.caller.not_after, inputs.now))
    if inputs.request.ttl is not None:
        terms.append(request_limit(inputs.request.ttl))
    if inputs.origin is not None:  # 15
        terms.append(origin_limit(inputs.origin.until, inputs.now))
    return terms


def _too_short(bound: LifetimeBound) -> Reason:
    """Return why a token would be too short; a rule's own terms cannot be (rule 4, and the promise of ``min_ttl``)."""
    if bound is LifetimeBound.ORIGIN:
        return Reason.ORIGIN_EXPIRES_SOON
    return Reason.REQUEST_INVALID if bound is LifetimeBound.REQUEST else Reason.SVID_EXPIRES_SOON


def is_bound(inputs: Inputs, granted: Iterable[str]) -> bool:
    """Return whether a token with these scopes is bound to the certificate: the caller, an origin or a tier says so."""
    scopes = inputs.policy.audiences[inputs.request.audience].scopes
    required = (inputs.policy.risk_tiers[scopes[scope].risk].binding_required for scope in granted)
    return inputs.request.bind_certificate or (inputs.origin is not None and inputs.origin.bind) or any(required)


def _denial(inputs: Inputs, refused: Refused) -> Denial:
    return Denial(
        reason=refused.reason,
        scopes=refused.scopes,
        rule_ids=tuple(sorted(set(refused.rule_ids))[:MAX_RULE_IDS]),
        policy_digest=inputs.policy.digest,
        missing=tuple(sorted(inputs.evaluator.missing)),
        facts=tuple(inputs.evaluator.facts.values()),
        approval=inputs.approvals.found,
        origin=inputs.origin,
    )
