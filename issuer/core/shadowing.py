"""Grants that change no answer, for another gives all that they give: to those workloads, for as long, as easily."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from issuer.core.policy import GrantRule, Policy


def shadowed_grants(policy: Policy) -> Iterator[tuple[GrantRule, GrantRule]]:
    """Yield each grant that changes no answer, with one that makes it so.

    Of two that give the same the later one is told, so all that are told may go at once. Told is only what is certain:
    grants that together give what another does are not looked for, nor are conditions that imply one another.
    """
    for grant in policy.grants:
        reaching = (policy.grant_index.covering(pattern, grant.audience) for pattern in grant.workloads)
        everywhere = set.intersection(*map(set, reaching)) - {grant}
        outdoing = [other for other in everywhere if _outdoes(policy, other, grant)]
        if outdoing:
            yield grant, min(outdoing, key=lambda other: other.source)


def _outdoes(policy: Policy, other: GrantRule, grant: GrantRule) -> bool:
    if not _gives_as_much(other, grant):
        return False
    covered = (policy.grant_index.covering(pattern, grant.audience) for pattern in other.workloads)
    mutual = _gives_as_much(grant, other) and all(grant in rules for rules in covered)
    return other.source < grant.source if mutual else True


def _gives_as_much(other: GrantRule, grant: GrantRule) -> bool:
    return (
        other.mode is grant.mode
        and other.application == grant.application
        and other.scopes >= grant.scopes
        and other.grant_types >= grant.grant_types
        and _applies_as_often(other, grant)
        and _lives_as_long(other, grant)
    )


def _applies_as_often(other: GrantRule, grant: GrantRule) -> bool:
    demanded = {condition.text for condition in grant.conditions}
    return {condition.text for condition in other.conditions} <= demanded and _holds_all(
        other.environments, grant.environments
    )


def _holds_all(other: Collection[str] | None, own: Collection[str] | None) -> bool:
    """Return whether a grant of the environments ``other`` reaches those of ``own``; ``None`` is the audience's."""
    if other is None or own is None:
        return other is own
    return set(other) >= set(own)


def _lives_as_long(other: GrantRule, grant: GrantRule) -> bool:
    begins = other.not_before is None or (grant.not_before is not None and other.not_before <= grant.not_before)
    ends = other.expires is None or (grant.expires is not None and other.expires >= grant.expires)
    lasts = other.max_ttl is None or (grant.max_ttl is not None and other.max_ttl >= grant.max_ttl)
    return begins and ends and lasts and other.legacy is None and grant.legacy is None
