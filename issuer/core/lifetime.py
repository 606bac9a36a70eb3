"""How long a token may live, and which input said so. Whole seconds, rounded down: ``exp`` is a number of seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from issuer.core.decision import LifetimeBound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from issuer.core.policy import GrantRule, Policy

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper bound on a lifetime. ``lifetime`` is in whole seconds, and not positive when its end has passed."""

    lifetime: timedelta
    bound: LifetimeBound


def request_limit(ttl: timedelta) -> Limit:
    """Return the limit that the caller's wish sets."""
    return Limit(_whole_seconds(ttl), LifetimeBound.REQUEST)


def svid_limit(not_after: datetime, now: datetime) -> Limit:
    """Return the limit that the rest of the caller's SVID sets."""
    return Limit(_whole_seconds(not_after - now), LifetimeBound.SVID)


def policy_limit(policy: Policy, grant: GrantRule, scope: str, now: datetime) -> Limit:
    """Return the limit that policy sets to ``scope`` under ``grant``, which must name a declared audience and scope."""
    audience = policy.audiences[grant.audience]
    rule = audience.scopes[scope]
    terms = [Limit(policy.risk_tiers[rule.risk].max_ttl, LifetimeBound.RISK_TIER)]
    if grant.max_ttl is not None:
        terms.append(Limit(grant.max_ttl, LifetimeBound.GRANT))
    if rule.max_ttl is not None:
        terms.append(Limit(rule.max_ttl, LifetimeBound.SCOPE))
    if audience.max_ttl is not None:
        terms.append(Limit(audience.max_ttl, LifetimeBound.AUDIENCE))
    if grant.expires is not None:
        terms.append(Limit(_whole_seconds(grant.expires - now), LifetimeBound.GRANT_EXPIRY))
    return shortest(terms)


_ORDER = {bound: position for position, bound in enumerate(LifetimeBound)}


def shortest(limits: Iterable[Limit]) -> Limit:
    """Return the shortest of at least one limit; of equal ones the first in the order of :class:`LifetimeBound`."""
    return min(limits, key=lambda limit: (limit.lifetime, _ORDER[limit.bound]))


def _whole_seconds(duration: timedelta) -> timedelta:
    return duration // _SECOND * _SECOND
