"""Who may have tokens for an audience: the grants that reach it, by workload pattern.

:func:`issuer.core.access.list_access` answers the opposite question, for one identity, exactly. This one cannot be
exact where a prohibition covers a part of a pattern, so it names the prohibitions beside the grants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.candidates import is_in_force
from issuer.core.index import ANY_AUDIENCE

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.policy import GrantRule, Policy, ProhibitionRule


@dataclass(frozen=True, slots=True)
class Reach:
    """The rules that decide about an audience (and a scope of it), each sorted by id.

    Attributes:
        grants: Those that name it, with whether each is in force now.
        prohibitions: Those that take away from them.
    """

    grants: tuple[tuple[GrantRule, bool], ...]
    prohibitions: tuple[ProhibitionRule, ...]


def who_can(policy: Policy, audience: str, scope: str | None, now: datetime) -> Reach:
    """Return the rules about ``audience``, or about one ``scope`` of it. Both empty when policy does not know it."""
    grants = sorted((rule for rule in policy.grants if _names(rule, audience, scope)), key=lambda rule: rule.id)
    prohibitions = [
        rule
        for rule in policy.prohibitions
        if not {audience, ANY_AUDIENCE}.isdisjoint(rule.audiences)
        and (scope is None or rule.scopes is None or scope in rule.scopes)
    ]
    return Reach(
        grants=tuple((rule, is_in_force(rule, now, policy.min_ttl)) for rule in grants),
        prohibitions=tuple(sorted(prohibitions, key=lambda rule: rule.id)) if grants else (),
    )


def _names(rule: GrantRule, audience: str, scope: str | None) -> bool:
    return rule.audience == audience and (scope is None or scope in rule.scopes)
