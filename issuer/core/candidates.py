"""The rules that speak of a caller and an audience, before any of them is evaluated.

Selection is apart from evaluation, because what evaluation reads from outside is fetched only for rules selected here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.index import ANY_AUDIENCE
from issuer.core.token_request import GrantType

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from issuer.core.policy import GrantRule, Policy, ProhibitionRule
    from issuer.core.spiffe_id import SpiffeId


@dataclass(frozen=True, slots=True)
class Candidates:
    """Grants that may apply and prohibitions that do, for one caller and one audience."""

    grants: tuple[GrantRule, ...]
    prohibitions: tuple[ProhibitionRule, ...]


def find_candidates(policy: Policy, spiffe_id: SpiffeId, audience: str) -> Candidates:
    """Return the rules whose workloads include ``spiffe_id`` and that name ``audience``; none for an unknown one."""
    grants = policy.grant_index.matching(spiffe_id, audience)
    index = policy.prohibition_index
    return Candidates(
        grants=tuple(grant for grant in grants if GrantType.CLIENT_CREDENTIALS in grant.grant_types),
        prohibitions=index.matching(spiffe_id, audience) + index.matching(spiffe_id, ANY_AUDIENCE),
    )


def is_in_force(grant: GrantRule, now: datetime, min_ttl: timedelta) -> bool:
    """Return whether a grant applies at ``now``: it has begun, and leaves room for a token of ``min_ttl``.

    No token outlives its grant and none is shorter than ``min_ttl``, so a grant ends ``min_ttl`` before it expires.
    """
    if grant.not_before is not None and now < grant.not_before:
        return False
    return grant.expires is None or now + min_ttl <= grant.expires
