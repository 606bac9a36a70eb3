"""What is allowed by the language and yet worth a look: rules that do nothing, too much, or soon no more.

Faults stop a policy from loading; findings do not. Every check reads the policy once, so 100,000 grants take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from issuer.core.approvals import approval_of
from issuer.core.condition import CLAIMED, OPTIONAL, PROVED, Truth
from issuer.core.condition_text import read_condition
from issuer.core.duration import format_duration
from issuer.core.index import ANY_AUDIENCE
from issuer.core.policy import Mode
from issuer.core.shadowing import shadowed_grants
from issuer.core.spiffe_id import SCHEME
from issuer.core.token_request import GrantType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from issuer.core.condition import Condition
    from issuer.core.facts import FactType
    from issuer.core.policy import Environment, GrantRule, Group, LimitRule, Policy, ProhibitionRule
    from issuer.core.policy_faults import Position

_WARNING_WITHIN = timedelta(days=30)


class Severity(StrEnum):
    """How much a finding matters; in this order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth a look. ``check`` is a stable name for it."""

    check: str
    severity: Severity
    position: Position
    message: str


def lint(
    policy: Policy,
    now: datetime,
    *,
    within: timedelta = _WARNING_WITHIN,
    fed: frozenset[str] | None = None,
    proves_people: bool | None = None,
) -> list[Finding]:
    """Return what is worth a look, in the order of the files.

    Args:
        policy: What to look at.
        now: Against which dates are held.
        within: Grants and exceptions that end so soon are told.
        fed: The types of fact that some feeder tells; ``None`` when that is not known.
        proves_people: Whether some OIDC issuer vouches for people; ``None`` when that is not known.
    """
    found = chain(
        _dates(policy, now, within),
        _owners(policy),
        _reach(policy),
        _shadowed(policy),
        _conditions(policy),
        _unused(policy),
        _audit(policy),
        _just_in_time(policy),
        () if fed is None else _not_fed(policy, fed),
        _not_provable(policy) if proves_people is False else (),
    )
    return sorted(found, key=lambda finding: (finding.position, finding.check, finding.message))


def _not_provable(policy: Policy) -> Iterator[Finding]:
    for audience in policy.audiences.values():
        for scope in audience.scopes:
            approval = approval_of(policy, audience.name, scope)
            if approval is not None and approval.human:
                text = f"{scope} of {audience.name} needs persons, and no [[approvals.evidence]] vouches for any"
                yield Finding("evidence", Severity.ERROR, audience.source, text)


def _dates(policy: Policy, now: datetime, within: timedelta) -> Iterator[Finding]:
    for rule in policy.grants:
        if rule.legacy is not None:
            terms = f"{rule.legacy.owner}: {rule.legacy.reason}; up to {format_duration(rule.legacy.max_ttl)}"
            yield Finding("legacy", Severity.INFO, rule.source, f"{rule.id} is an exception ({terms})")
        if rule.ends is None:
            continue
        if rule.ends <= now + policy.min_ttl:
            yield Finding("expired", Severity.WARNING, rule.source, f"{rule.id} has expired: remove or renew it")
        elif rule.ends <= now + within:
            days = (rule.ends - now).days
            yield Finding("expiring", Severity.WARNING, rule.source, f"{rule.id} ends in {days} days")


def _owners(policy: Policy) -> Iterator[Finding]:
    for rule in policy.grants:
        if rule.owner is None:
            yield Finding("no-owner", Severity.WARNING, rule.source, f"{rule.id} has no owner whom to ask about it")


def _reach(policy: Policy) -> Iterator[Finding]:
    frozen = {
        (pattern.text, audience)
        for rule in policy.prohibitions
        if rule.scopes is None and not rule.conditions and rule.mode is Mode.ENFORCE
        for pattern in rule.workloads
        for audience in rule.audiences
    }
    for rule in policy.grants:
        for pattern in rule.workloads:
            if pattern.shape.length == 0 and pattern.shape.open_ended:
                message = f"{rule.id} speaks of every workload of {pattern.trust_domain}"
                yield Finding("whole-domain", Severity.WARNING, rule.source, message)
        if all(
            not frozen.isdisjoint(
                (text, audience)
                for text in (pattern.text, f"{SCHEME}{pattern.trust_domain}/**")
                for audience in (rule.audience, ANY_AUDIENCE)
            )
            for pattern in rule.workloads
        ):
            message = f"{rule.id} gives nothing: a prohibition without conditions covers all of it"
            yield Finding("unreachable", Severity.ERROR, rule.source, message)


def _shadowed(policy: Policy) -> Iterator[Finding]:
    for rule, other in shadowed_grants(policy):
        message = f"{rule.id} changes no answer: {other.id} gives all of it"
        yield Finding("shadowed", Severity.WARNING, rule.source, message)


def _conditions(policy: Policy) -> Iterator[Finding]:
    for rule in _rules(policy):
        for condition in rule.conditions:
            if (truth := _constant(policy, condition)) is not None:
                name = condition.name or " ".join(condition.text.split())
                message = f"{rule.id}: the condition {name} is always {truth.value}"
                place = condition.source if condition.name else rule.source
                yield Finding("constant-condition", Severity.ERROR, place, message)
    for grant in policy.grants:
        mentions = frozenset().union(*(condition.mentions for condition in grant.conditions))
        proves = any(_mentions_proof(condition) for condition in grant.conditions)
        if mentions and mentions <= OPTIONAL.keys() and not proves:
            message = f"{grant.id}: what the caller claims is all that its conditions ask for, and anybody can claim it"
            yield Finding("claimed-only", Severity.WARNING, grant.source, message)


def _constant(policy: Policy, condition: Condition) -> Truth | None:
    """Return what a condition without variables comes to; ``None`` for the others."""
    if condition.mentions or _mentions(condition, chain(PROVED, CLAIMED)):
        return None
    return condition.evaluate(policy.engine.context({}))


def _mentions_proof(condition: Condition) -> bool:
    return any(path.startswith("facts.") for path in condition.mentions) or _mentions(condition, PROVED)


def _mentions(condition: Condition, paths: Iterable[str]) -> bool:
    names = {token.text for token in read_condition(condition.text).tokens if token.kind == "name"}
    return not names.isdisjoint(path.split(".")[0] for path in paths)


def _unused(policy: Policy) -> Iterator[Finding]:
    """Return what is declared and no rule refers to."""
    environments = {name for rule in policy.grants for name in rule.environments or ()}
    environments |= {audience.environment or "" for audience in policy.audiences.values()}
    conditions = list(_every_condition(policy))
    declared: list[tuple[str, Iterable[tuple[str, Position]], set[str]]] = [
        ("group", _places(policy.groups.values()), {name for rule in _rules(policy) for name in rule.groups}),
        (
            "condition",
            [(name, condition.source) for name, condition in policy.named_conditions.items()],
            {condition.name or "" for condition in conditions},
        ),
        ("fact", _places(policy.fact_types.values()), {name for each in conditions for name in each.fact_types}),
        ("environment", _places(policy.environments), environments),
    ]
    for what, names, used in declared:
        for name, position in names:
            if name not in used:
                yield Finding(f"unused-{what}", Severity.WARNING, position, f"no rule uses the {what} {name}")
    yield from _unused_scopes(policy)


def _places(declared: Iterable[Group | FactType | Environment]) -> list[tuple[str, Position]]:
    return [(each.name, each.source) for each in declared]


def _unused_scopes(policy: Policy) -> Iterator[Finding]:
    given = {(rule.audience, scope) for rule in policy.grants for scope in rule.scopes}
    for audience in policy.audiences.values():
        for scope in audience.scopes:
            if (audience.name, scope) not in given:
                message = f"no grant gives {scope} of {audience.name}"
                yield Finding("unused-scope", Severity.INFO, audience.source, message)


def _audit(policy: Policy) -> Iterator[Finding]:
    for rule in _rules(policy):
        if rule.mode is Mode.AUDIT:
            yield Finding("audit-mode", Severity.INFO, rule.source, f"{rule.id} is recorded and not enforced")


def _just_in_time(policy: Policy) -> Iterator[Finding]:
    """Return access just in time that keeps nobody from having it all the time, or that asks for nothing."""
    standing = {
        (pattern.text, rule.audience, scope): rule.id
        for rule in policy.grants
        if GrantType.CLIENT_CREDENTIALS in rule.grant_types and rule.mode is Mode.ENFORCE
        for pattern in rule.workloads
        for scope in rule.scopes
    }
    for rule in policy.grants:
        if GrantType.JIT not in rule.grant_types:
            continue
        places = ((pattern.text, rule.audience, scope) for pattern in rule.workloads for scope in rule.scopes)
        if others := sorted({standing[place] for place in places if place in standing}):
            message = f"{rule.id} gives for a while what {others[0]} gives always"
            yield Finding("standing-access", Severity.WARNING, rule.source, message)
        scopes = (scope for scope in rule.scopes if approval_of(policy, rule.audience, scope) is None)
        if not rule.conditions and any(scopes):
            message = f"{rule.id} gives access for a reason that nobody checks: name a condition, or who must approve"
            yield Finding("unchecked-access", Severity.INFO, rule.source, message)


def _not_fed(policy: Policy, fed: frozenset[str]) -> Iterator[Finding]:
    for fact_type in policy.fact_types.values():
        if fact_type.name not in fed:
            message = f"nobody feeds facts.{fact_type.name}: what needs it never grants, and always prohibits"
            yield Finding("not-fed", Severity.WARNING, fact_type.source, message)


def _rules(policy: Policy) -> Iterator[GrantRule | ProhibitionRule | LimitRule]:
    yield from policy.grants
    yield from policy.prohibitions
    yield from policy.limits


def _every_condition(policy: Policy) -> Iterator[Condition]:
    for rule in _rules(policy):
        yield from rule.conditions
    for limit in policy.limits:
        yield from limit.requires
    for tier in policy.risk_tiers.values():
        yield from tier.requires
