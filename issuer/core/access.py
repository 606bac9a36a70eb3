"""What a caller may ask for, and what is missing for the rest: the rules of :mod:`issuer.core.decide`, scope by scope.

Whatever is listed as available, :func:`~issuer.core.decide.decide` grants to a request for that scope alone (as long
as the caller's SVID lives for ``min_ttl``). What a rule about this caller would give once a fact is told, a condition
holds or somebody approved is listed with that; the rest is not listed. The text of rules is never told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from issuer.core.condition import Truth
from issuer.core.decide import find_rules, grant_or_denial, limits_on, select, unless_revoked, with_reason
from issuer.core.decision import Denial
from issuer.core.errors import Reason
from issuer.core.evaluation import Evaluator
from issuer.core.facts_needed import NO_FACTS, facts_needed
from issuer.core.lifetime import policy_limits, shortest
from issuer.core.revocations import NOTHING_REVOKED
from issuer.core.token_request import TokenRequest
from issuer.core.weighing import Allowed, Inputs, Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from issuer.core.caller import Caller
    from issuer.core.condition import Condition
    from issuer.core.facts import FactKey, Facts
    from issuer.core.policy import GrantRule, LimitRule, Policy, RiskTier
    from issuer.core.revocations import Revocations
    from issuer.core.weighing import Rules

INLINE = "condition"
"""What a condition without a name is called: its text is not the caller's to see."""

_WITHIN_REACH = frozenset({Reason.FACT_MISSING, Reason.CONDITION_NOT_MET, Reason.APPROVAL_REQUIRED})


@dataclass(frozen=True, slots=True)
class AccessScope:
    """A scope that the caller may ask for, or could if what is named here were so.

    Attributes:
        max_ttl: The longest lifetime that policy allows now; the rest of the caller's SVID may shorten it further.
        binding_required: The token is always bound to the caller's certificate.
        expire_time: When the last grant that gives it ends; ``None`` when one never does.
        available: A request for it would be granted now.
        missing: The facts and optional parts of the request that conditions need and do not have, sorted.
        unmet: The names of the conditions that are false, sorted; :data:`INLINE` for those without a name.
        approval_required: Somebody must approve first.
    """

    name: str
    risk: RiskTier
    max_ttl: timedelta
    binding_required: bool
    expire_time: datetime | None
    available: bool
    missing: tuple[str, ...]
    unmet: tuple[str, ...]
    approval_required: bool


@dataclass(frozen=True, slots=True)
class Access:
    """An audience that the caller may have tokens for, on behalf of one application (``None``: of none)."""

    audience: str
    application: str | None
    scopes: tuple[AccessScope, ...]


def list_access(
    policy: Policy, caller: Caller, facts: Facts, now: datetime, *, revocations: Revocations = NOTHING_REVOKED
) -> tuple[Access, ...]:
    """Return what ``policy`` lets the caller ask for at ``now``, sorted by audience, application and scope.

    What a revocation stops is not listed.
    """
    return tuple(
        access
        for audience in _audiences(policy, caller)
        for access in _of_audience(policy, caller, audience, facts, now, revocations=revocations)
    )


def facts_needed_to_list(policy: Policy, caller: Caller) -> frozenset[FactKey]:
    """Return every fact that :func:`list_access` could read."""
    asked = (facts_needed(policy, caller, _every_scope(policy, audience)) for audience in _audiences(policy, caller))
    return NO_FACTS.union(*asked) if policy.fact_types else NO_FACTS


def _audiences(policy: Policy, caller: Caller) -> list[str]:
    return sorted(policy.grant_index.audiences_of(caller.spiffe_id))


def _every_scope(policy: Policy, audience: str) -> TokenRequest:
    # One scope of each tier is enough to need what the tier needs; a request has a bounded number of scopes.
    by_tier = {rule.risk: name for name, rule in policy.audiences[audience].scopes.items()}
    return TokenRequest(audience, tuple(by_tier.values()))


def _of_audience(
    policy: Policy, caller: Caller, audience: str, facts: Facts, now: datetime, *, revocations: Revocations
) -> Iterator[Access]:
    first_scope = next(iter(policy.audiences[audience].scopes))
    rules, _ = find_rules(
        _inputs(policy, caller, TokenRequest(audience, (first_scope,)), facts, now, revocations=revocations)
    )
    grants = [grant for grant, obstacles in rules.grants if not obstacles]
    applications: list[str | None] = [*sorted({grant.application for grant in grants if grant.application is not None})]
    for application in applications or [None]:
        serving = [grant for grant in grants if grant.application in (None, application)]
        names = sorted({scope for grant in serving for scope in grant.scopes})
        requests = (TokenRequest(audience, (name,), application=application) for name in names)
        listed = (
            _scope(_inputs(policy, caller, request, facts, now, revocations=revocations), rules, serving)
            for request in requests
        )
        if scopes := tuple(scope for scope in listed if scope is not None):
            yield Access(audience, application, scopes)


def _inputs(
    policy: Policy, caller: Caller, request: TokenRequest, facts: Facts, now: datetime, *, revocations: Revocations
) -> Inputs:
    return Inputs(policy, caller, request, now, Evaluator(policy, caller, request, facts, now), revocations)


def _scope(inputs: Inputs, rules: Rules, serving: Iterable[GrantRule]) -> AccessScope | None:
    outcome = select(inputs, rules, Obstacle.NONE)
    available = isinstance(outcome, Allowed)
    reason = None if isinstance(outcome, Allowed) else with_reason(inputs, rules, outcome).reason
    if not available and reason not in _WITHIN_REACH:
        return None
    if isinstance(outcome, Allowed) and _is_revoked(inputs, outcome):
        return None
    name = inputs.request.scopes[0]
    giving = outcome.by_scope[name] if isinstance(outcome, Allowed) else [g for g in serving if name in g.scopes]
    limits = limits_on(outcome.limits if isinstance(outcome, Allowed) else (), name)
    return replace(
        _terms(inputs, name, giving, limits),
        available=available,
        missing=() if available else _missing(inputs, rules, giving, name),
        unmet=() if available else _unmet(inputs, rules, giving, name),
    )


def _is_revoked(inputs: Inputs, allowed: Allowed) -> bool:
    if inputs.revocations.is_empty:
        return False
    answer = unless_revoked(inputs, grant_or_denial(inputs, allowed))
    return isinstance(answer, Denial) and answer.reason is Reason.REVOKED


def _terms(inputs: Inputs, name: str, giving: Iterable[GrantRule], limits: list[LimitRule]) -> AccessScope:
    policy = inputs.policy
    rule = policy.audiences[inputs.request.audience].scopes[name]
    tier = policy.risk_tiers[rule.risk]
    ends = [grant.ends for grant in giving]
    ttls = [shortest(policy_limits(policy, grant, name, inputs.now, limits)).lifetime for grant in giving]
    return AccessScope(
        name=name,
        risk=rule.risk,
        max_ttl=max(ttls),
        binding_required=tier.binding_required,
        expire_time=None if None in ends else max(end for end in ends if end is not None),
        available=False,
        missing=(),
        unmet=(),
        approval_required=(rule.approval or tier.approval) is not None,
    )


def _missing(inputs: Inputs, rules: Rules, giving: Iterable[GrantRule], name: str) -> tuple[str, ...]:
    context = inputs.evaluator.context(inputs.request.application)
    prohibiting = (rule.conditions for rule in rules.prohibitions if rule.scopes is None or name in rule.scopes)
    conditions = chain(_required(inputs, rules, giving, name), *prohibiting)
    return tuple(sorted({path for condition in conditions for path in condition.missing(context)}))


def _unmet(inputs: Inputs, rules: Rules, giving: Iterable[GrantRule], name: str) -> tuple[str, ...]:
    application = inputs.request.application
    required = _required(inputs, rules, giving, name)
    false = {each.name or INLINE for each in required if inputs.evaluator.truth_of(each, application) is Truth.FALSE}
    return tuple(sorted(false))


def _required(inputs: Inputs, rules: Rules, giving: Iterable[GrantRule], name: str) -> Iterator[Condition]:
    """Return every condition that has to be true for the scope to be given."""
    tier = inputs.policy.risk_tiers[inputs.policy.audiences[inputs.request.audience].scopes[name].risk]
    of_limits = (limit.requires for limit in limits_on(rules.limits, name))
    return chain(tier.requires, *(grant.conditions for grant in giving), *of_limits)
