"""What becomes of each scope of a request, looked at alone: the grant that gives it and its terms, or what keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from issuer.core.decide import is_bound, limits_on, longest, select, terms_of, without_too_short
from issuer.core.explanation import ScopeReport
from issuer.core.nearest import nearest
from issuer.core.weighing import Allowed, Obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from issuer.core.explanation import RuleReport
    from issuer.core.weighing import Inputs, Rules


def explain_scopes(inputs: Inputs, rules: Rules, reports: Sequence[RuleReport]) -> tuple[ScopeReport, ...]:
    """Return what becomes of each scope of the request, by ``rules`` and by what was reported of them."""
    alone = replace(inputs, request=replace(inputs.request, allow_partial=True))
    outcome = select(alone, rules, Obstacle.NONE)
    if isinstance(outcome, Allowed):
        outcome = without_too_short(inputs, outcome)
    return tuple(
        _given(inputs, outcome, scope)
        if isinstance(outcome, Allowed) and scope in outcome.by_scope
        else ScopeReport(scope, False, None, tuple(_why_not(inputs, rules, reports, scope)) or _TOO_SHORT, ())  # noqa: FBT003
        for scope in inputs.request.scopes
    )


_TOO_SHORT = ("a token for it alone would live less than the policy's min_ttl",)


def _given(inputs: Inputs, allowed: Allowed, scope: str) -> ScopeReport:
    bound = is_bound(inputs, allowed.by_scope)
    grant, _ = longest(inputs, allowed, scope, bound=bound)
    terms = terms_of(inputs, grant, scope, limits_on(allowed.limits, scope), bound=bound)
    ordered = tuple(sorted(terms, key=lambda term: (term.lifetime, term.bound, term.rule)))
    return ScopeReport(scope, True, grant.id, (), ordered)  # noqa: FBT003


def lacking(inputs: Inputs, rules: Rules, scope: str) -> str:
    """Return what keeps a scope and no rule's report says: nobody grants it, or somebody must approve; or nothing."""
    audiences = inputs.policy.audiences
    if inputs.request.audience not in audiences:
        return f"the policy has no such audience{nearest(inputs.request.audience, audiences)}"
    declared = audiences[inputs.request.audience].scopes
    if scope not in declared:
        return f"the audience has no such scope{nearest(scope, declared)}"
    if not any(scope in grant.scopes for grant, _ in rules.grants):
        return "no grant for this caller gives it"
    if approval := declared[scope].approval or inputs.policy.risk_tiers[declared[scope].risk].approval:
        human = ", each with proof of a person" if approval.human else ""
        return f"{approval.quorum} of {', '.join(pattern.text for pattern in approval.approvers)} must approve{human}"
    return ""


def _why_not(inputs: Inputs, rules: Rules, reports: Sequence[RuleReport], scope: str) -> Iterator[str]:
    if said := lacking(inputs, rules, scope):
        yield said
    applying = {(report.kind, report.id) for report in reports if report.applies}
    refusing = {(report.kind, report.id) for report in reports if report.refuses}
    for prohibition in rules.prohibitions:
        if ("prohibition", prohibition.id) in applying and (prohibition.scopes is None or scope in prohibition.scopes):
            yield f"prohibition {prohibition.id}"
    naming = [grant.id for grant, _ in rules.grants if scope in grant.scopes]
    if naming and applying.isdisjoint(("grant", name) for name in naming):
        yield f"what gives it does not apply: {', '.join(sorted(naming))}"
    for limit in limits_on(rules.limits, scope):
        if ("limit", limit.id) in refusing:
            yield f"limit {limit.id}"
    audience = inputs.policy.audiences.get(inputs.request.audience)
    if audience and scope in audience.scopes and ("risk tier", audience.scopes[scope].risk) in refusing:
        yield f"risk tier {audience.scopes[scope].risk}"
