"""Grants that change no answer, for another gives all that they give: to those workloads, for as long, as easily."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.index import RuleIndex
from issuer.core.token_request import GrantType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from issuer.core.policy import GrantRule, Mode, Policy


def shadowed_grants(policy: Policy) -> Iterator[tuple[GrantRule, GrantRule]]:
    """Yield each grant that changes no answer, with one that makes it so.

    Of two that give the same the later one is told, so all that are told may go at once. Told is only what is certain:
    grants that together give what another does are not looked for, nor are conditions that imply one another.
    """
    by_application: dict[tuple[str | None, Mode], list[GrantRule]] = {}
    for grant in policy.grants:
        by_application.setdefault((grant.application, grant.mode), []).append(grant)
    found = [pair for grants in by_application.values() for pair in _shadowed_among(grants)]
    yield from sorted(found, key=lambda pair: pair[0].source)


def _shadowed_among(grants: Sequence[GrantRule]) -> Iterator[tuple[GrantRule, GrantRule]]:
    """Yield them of grants for one application: a broker of thousands is not compared with itself."""
    index = RuleIndex(grants)
    for grant in grants:
        reaching = (index.covering(pattern, grant.audience) for pattern in grant.workloads)
        everywhere = set.intersection(*map(set, reaching)) - {grant}
        outdoing = [other for other in everywhere if _outdoes(index, other, grant)]
        if outdoing:
            yield grant, min(outdoing, key=lambda other: other.source)


def _outdoes(index: RuleIndex[GrantRule], other: GrantRule, grant: GrantRule) -> bool:
    if not _gives_as_much(other, grant):
        return False
    if not _gives_as_much(grant, other):
        return True
    covered = (index.covering(pattern, grant.audience) for pattern in other.workloads)
    return other.source < grant.source or not all(grant in rules for rules in covered)


def _gives_as_much(other: GrantRule, grant: GrantRule) -> bool:
    return (
        other.scopes >= grant.scopes
        and other.grant_types >= grant.grant_types
        and set(other.subjects) == set(grant.subjects)
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
    opens = GrantType.JIT not in grant.grant_types or other.longest_window >= grant.longest_window
    return begins and ends and lasts and opens and other.legacy is None and grant.legacy is None
