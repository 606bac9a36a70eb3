"""A name for what a policy decides: two policies with one digest give the same answer to every request.

The digest covers everything that :func:`issuer.core.decide.decide` reads and nothing else: the order of files, keys and
rules, comments, owners and descriptions do not change it. :data:`ENGINE_VERSION` is part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta

    from issuer.core.policy import AudienceRule, GrantRule, ProhibitionRule, RiskTier, TierRules

ENGINE_VERSION: Final = 1
"""Raised by every change that lets the same policy decide otherwise."""


def policy_digest(
    *,
    audiences: Mapping[str, AudienceRule],
    risk_tiers: Mapping[RiskTier, TierRules],
    min_ttl: timedelta,
    grants: Iterable[GrantRule],
    prohibitions: Iterable[ProhibitionRule],
) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits over the canonical form: sorted JSON arrays, one a line."""
    lines: list[Sequence[object]] = [
        *(_audience(audience) for audience in audiences.values()),
        *(["tier", tier, _seconds(rules.max_ttl), rules.binding_required] for tier, rules in risk_tiers.items()),
        *(_grant(grant) for grant in grants),
        *(_prohibition(rule) for rule in prohibitions),
    ]
    digest = hashlib.sha256(_line(["spiffe-issuer policy", ENGINE_VERSION, _seconds(min_ttl)]))
    for line in sorted(map(_line, lines)):
        digest.update(line)
    return f"sha256:{digest.hexdigest()}"


def _line(value: Sequence[object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _audience(rule: AudienceRule) -> list[object]:
    scopes = sorted(rule.scopes.values(), key=lambda scope: scope.name)
    declared = [[scope.name, scope.risk, _seconds(scope.max_ttl)] for scope in scopes]
    return ["audience", rule.name, _seconds(rule.max_ttl), declared]


def _grant(rule: GrantRule) -> list[object]:
    return [
        "grant",
        rule.id,
        sorted(pattern.text for pattern in rule.workloads),
        rule.application,
        rule.audience,
        sorted(rule.scopes),
        sorted(rule.grant_types),
        _seconds(rule.max_ttl),
        _instant(rule.not_before),
        _instant(rule.expires),
    ]


def _prohibition(rule: ProhibitionRule) -> list[object]:
    return [
        "prohibition",
        rule.id,
        sorted(pattern.text for pattern in rule.workloads),
        sorted(rule.audiences),
        None if rule.scopes is None else sorted(rule.scopes),
    ]


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
