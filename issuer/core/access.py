"""What a caller may ask for: the same rules as :func:`issuer.core.decide.decide`, read from the other end.

Whatever is listed, :func:`~issuer.core.decide.decide` grants (as long as the caller's SVID lives for ``min_ttl``);
whatever is not listed it denies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from issuer.core.candidates import find_candidates, is_in_force
from issuer.core.lifetime import policy_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from issuer.core.caller import Caller
    from issuer.core.policy import GrantRule, Policy, RiskTier


@dataclass(frozen=True, slots=True)
class AccessScope:
    """A scope that the caller may ask for.

    Attributes:
        max_ttl: The longest lifetime that policy allows now; the rest of the caller's SVID may shorten it further.
        binding_required: The token is always bound to the caller's certificate.
        expire_time: When the last grant that gives it ends; ``None`` when one never does.
    """

    name: str
    risk: RiskTier
    max_ttl: timedelta
    binding_required: bool
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class Access:
    """An audience that the caller may have tokens for, on behalf of one application (``None``: of none)."""

    audience: str
    application: str | None
    scopes: tuple[AccessScope, ...]


def list_access(policy: Policy, caller: Caller, now: datetime) -> tuple[Access, ...]:
    """Return what ``policy`` lets the caller ask for at ``now``, sorted by audience, application and scope."""
    audiences = sorted(policy.grant_index.audiences_of(caller.spiffe_id))
    return tuple(access for audience in audiences for access in _of_audience(policy, caller, audience, now))


def _of_audience(policy: Policy, caller: Caller, audience: str, now: datetime) -> Iterable[Access]:
    candidates = find_candidates(policy, caller.spiffe_id, audience)
    grants = [grant for grant in candidates.grants if is_in_force(grant, now, policy.min_ttl)]
    if any(rule.scopes is None for rule in candidates.prohibitions):
        return
    prohibited = {scope for rule in candidates.prohibitions for scope in rule.scopes or ()}
    named = sorted({grant.application for grant in grants if grant.application is not None})
    applications: Sequence[str | None] = named or [None]
    for application in applications:
        serving = [grant for grant in grants if grant.application in (None, application)]
        names = sorted({scope for grant in serving for scope in grant.scopes} - prohibited)
        scopes = tuple(_scope(policy, audience, name, serving, now) for name in names)
        if scopes:
            yield Access(audience, application, scopes)


def _scope(policy: Policy, audience: str, name: str, serving: Sequence[GrantRule], now: datetime) -> AccessScope:
    giving = [grant for grant in serving if name in grant.scopes]
    risk = policy.audiences[audience].scopes[name].risk
    ends = [grant.expires for grant in giving]
    return AccessScope(
        name=name,
        risk=risk,
        max_ttl=max(policy_limit(policy, grant, name, now).lifetime for grant in giving),
        binding_required=policy.risk_tiers[risk].binding_required,
        expire_time=None if None in ends else max(end for end in ends if end is not None),
    )
