"""The rules that speak of a caller and an audience, before any of them is evaluated.

Selection is apart from evaluation, because what evaluation reads from outside is fetched only for rules selected here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.index import ANY_AUDIENCE

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from issuer.core.policy import GrantRule, LimitRule, Policy, ProhibitionRule
    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rules that speak of one caller and one audience, none of them evaluated."""

    grants: tuple[GrantRule, ...]
    prohibitions: tuple[ProhibitionRule, ...]
    limits: tuple[LimitRule, ...] = ()


def find_candidates(policy: Policy, spiffe_id: SpiffeId, audience: str) -> Candidates:
    """Return the rules whose workloads include ``spiffe_id`` and that name ``audience``; none for an unknown one."""
    prohibitions, limits = policy.prohibition_index, policy.limit_index
    return Candidates(
        grants=policy.grant_index.matching(spiffe_id, audience),
        prohibitions=prohibitions.matching(spiffe_id, audience) + prohibitions.matching(spiffe_id, ANY_AUDIENCE),
        limits=limits.matching(spiffe_id, audience) + limits.matching(spiffe_id, ANY_AUDIENCE) if policy.limits else (),
    )


def environments_of(policy: Policy, spiffe_id: SpiffeId) -> frozenset[str]:
    """Return the names of the environments that policy puts a workload into."""
    return frozenset(
        environment.name
        for environment in policy.environments
        if any(pattern.matches(spiffe_id) for pattern in environment.workloads)
    )


def is_in_force(grant: GrantRule, now: datetime, min_ttl: timedelta) -> bool:
    """Return whether a grant applies at ``now``: it has begun, and leaves room for a token of ``min_ttl``.

    No token outlives its grant and none is shorter than ``min_ttl``, so a grant ends ``min_ttl`` before it expires.
    """
    if grant.not_before is not None and now < grant.not_before:
        return False
    return grant.ends is None or now + min_ttl <= grant.ends
