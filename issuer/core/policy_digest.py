"""A name for what a policy decides: two policies with one digest give the same answer to every request.

The digest covers everything that :func:`issuer.core.decide.decide` reads and nothing else: the order of files, keys and
rules, comments, owners and descriptions do not change it. :data:`ENGINE_VERSION` is part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from issuer.core.condition import Condition
    from issuer.core.facts import FactType
    from issuer.core.patterns import WorkloadPattern
    from issuer.core.policy import (
        Approval,
        AudienceRule,
        Environment,
        GrantRule,
        LimitRule,
        ProhibitionRule,
        RiskTier,
        TierRules,
    )

ENGINE_VERSION: Final = 3
"""Raised by every change that lets the same policy decide otherwise."""


class PolicyParts(NamedTuple):
    """The parts of a policy that decide."""

    audiences: Mapping[str, AudienceRule]
    risk_tiers: Mapping[RiskTier, TierRules]
    min_ttl: timedelta
    grants: tuple[GrantRule, ...]
    prohibitions: tuple[ProhibitionRule, ...]
    limits: tuple[LimitRule, ...]
    fact_types: Mapping[str, FactType]
    environments: tuple[Environment, ...]


def policy_digest(parts: PolicyParts) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits over the canonical form: sorted JSON arrays, one a line."""
    lines: list[Sequence[object]] = [
        *map(_audience, parts.audiences.values()),
        *(_tier(tier, rules) for tier, rules in parts.risk_tiers.items()),
        *map(_grant, parts.grants),
        *map(_prohibition, parts.prohibitions),
        *map(_limit, parts.limits),
        *map(_fact_type, parts.fact_types.values()),
        *(["environment", each.name, _patterns(each.workloads)] for each in parts.environments),
    ]
    digest = hashlib.sha256(_line(["spiffe-issuer policy", ENGINE_VERSION, _seconds(parts.min_ttl)]))
    for line in sorted(map(_line, lines)):
        digest.update(line)
    return f"sha256:{digest.hexdigest()}"


def _line(value: Sequence[object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _audience(rule: AudienceRule) -> list[object]:
    scopes = sorted(rule.scopes.values(), key=lambda scope: scope.name)
    declared = [[scope.name, scope.risk, _seconds(scope.max_ttl), _approval(scope.approval)] for scope in scopes]
    line: list[object] = ["audience", rule.name, rule.environment, _seconds(rule.max_ttl), declared]
    # Only where there are some: policies of before there were keep the digest under which their decisions are recorded.
    if rule.status_required:
        return [*line, _patterns(rule.servers), "status"]
    return [*line, _patterns(rule.servers)] if rule.servers else line


def _tier(tier: RiskTier, rules: TierRules) -> list[object]:
    binding, requires = rules.binding_required, _conditions(rules.requires)
    line: list[object] = ["tier", tier, _seconds(rules.max_ttl), binding, requires, _approval(rules.approval)]
    return [*line, "status"] if rules.status_required else line


def _approval(approval: Approval | None) -> list[object] | None:
    if approval is None:
        return None
    line: list[object] = [
        _patterns(approval.approvers), approval.quorum, _seconds(approval.valid_for), approval.uses,
    ]  # fmt: skip
    return [*line, "human"] if approval.human else line


def _grant(rule: GrantRule) -> list[object]:
    line: list[object] = [
        "grant",
        rule.id,
        rule.mode,
        _patterns(rule.workloads),
        rule.application,
        rule.audience,
        sorted(rule.scopes),
        sorted(rule.grant_types),
        None if rule.environments is None else sorted(rule.environments),
        _conditions(rule.conditions),
        _seconds(rule.max_ttl),
        _instant(rule.not_before),
        _instant(rule.expires),
        None if rule.legacy is None else [_seconds(rule.legacy.max_ttl), _instant(rule.legacy.expires)],
    ]
    # As above: grants of before there were subjects and windows keep their line.
    if rule.subjects:
        line.append(sorted(pattern.text for pattern in rule.subjects))
    if rule.window is not None:
        line.append(_seconds(rule.window))
    return line


def _prohibition(rule: ProhibitionRule) -> list[object]:
    return ["prohibition", *_taking_away(rule)]


def _limit(rule: LimitRule) -> list[object]:
    return ["limit", *_taking_away(rule), _seconds(rule.max_ttl), _conditions(rule.requires)]


def _taking_away(rule: ProhibitionRule | LimitRule) -> list[object]:
    scopes = None if rule.scopes is None else sorted(rule.scopes)
    patterns, audiences = _patterns(rule.workloads), sorted(rule.audiences)
    return [rule.id, rule.mode, patterns, audiences, scopes, _conditions(rule.conditions)]


def _fact_type(fact_type: FactType) -> list[object]:
    return ["fact", fact_type.name, fact_type.subject, _seconds(fact_type.max_age), sorted(fact_type.fields.items())]


def _conditions(conditions: Iterable[Condition]) -> list[str]:
    return sorted(condition.text for condition in conditions)


def _patterns(patterns: Iterable[WorkloadPattern]) -> list[str]:
    return sorted(pattern.text for pattern in patterns)


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
