"""How long a token may live, and which input said so. Whole seconds, rounded down: ``exp`` is a number of seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from issuer.core.decision import LifetimeBound
from issuer.core.instants import moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from issuer.core.policy import GrantRule, LimitRule, Policy

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper bound on a lifetime.

    Attributes:
        lifetime: In whole seconds; not positive when its end has passed.
        bound: The kind of input that set it.
        rule: Which one: the id of a rule, or the name of an audience, a scope or a tier; empty for the request, the
            SVID, an approval and an origin.
    """

    lifetime: timedelta
    bound: LifetimeBound
    rule: str = ""


def request_limit(ttl: timedelta) -> Limit:
    """Return the limit that the caller's wish sets."""
    return Limit(_whole_seconds(ttl), LifetimeBound.REQUEST)


def svid_limit(not_after: datetime, now: datetime) -> Limit:
    """Return the limit that the rest of the caller's SVID sets."""
    return Limit(_whole_seconds(not_after - now), LifetimeBound.SVID)


def approval_limit(until: int, ttl: int | None, now: datetime) -> Limit:
    """Return the limit that an approval sets: the rest of its life, or what an approver shortened it to."""
    rest = _whole_seconds(moment(until) - now)
    return Limit(rest if ttl is None else min(rest, timedelta(seconds=ttl)), LifetimeBound.APPROVAL)


def origin_limit(until: int, now: datetime) -> Limit:
    """Return the limit that what a token rests on sets: the rest of its life."""
    return Limit(_whole_seconds(moment(until) - now), LifetimeBound.ORIGIN)


def policy_limits(
    policy: Policy, grant: GrantRule, scope: str, now: datetime, limits: Iterable[LimitRule] = ()
) -> list[Limit]:
    """Return every limit that policy sets to ``scope`` under ``grant``, which must name a declared audience and scope.

    ``limits`` are the limit rules that apply to the scope.
    """
    audience = policy.audiences[grant.audience]
    rule = audience.scopes[scope]
    terms = [Limit(policy.risk_tiers[rule.risk].max_ttl, LifetimeBound.RISK_TIER, rule.risk.value)]
    if grant.max_ttl is not None:
        terms.append(Limit(grant.max_ttl, LifetimeBound.GRANT, grant.id))
    if rule.max_ttl is not None:
        terms.append(Limit(rule.max_ttl, LifetimeBound.SCOPE, scope))
    if audience.max_ttl is not None:
        terms.append(Limit(audience.max_ttl, LifetimeBound.AUDIENCE, audience.name))
    if grant.ends is not None:
        terms.append(Limit(_whole_seconds(grant.ends - now), LifetimeBound.GRANT_EXPIRY, grant.id))
    if grant.legacy is not None:
        terms.append(Limit(grant.legacy.max_ttl, LifetimeBound.LEGACY, grant.id))
    terms.extend(Limit(limit.max_ttl, LifetimeBound.LIMIT, limit.id) for limit in limits if limit.max_ttl is not None)
    return terms


_ORDER = {bound: position for position, bound in enumerate(LifetimeBound)}


def shortest(limits: Iterable[Limit]) -> Limit:
    """Return the shortest of at least one limit; of equal ones the first by :class:`LifetimeBound`, then by rule."""
    remaining = iter(limits)
    least = next(remaining)
    for limit in remaining:
        if limit.lifetime < least.lifetime or (limit.lifetime == least.lifetime and _rank(limit) < _rank(least)):
            least = limit
    return least


def _rank(limit: Limit) -> tuple[int, str]:
    return _ORDER[limit.bound], limit.rule


def _whole_seconds(duration: timedelta) -> timedelta:
    return duration // _SECOND * _SECOND
