"""How long a window of access may last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from issuer.core.candidates import find_candidates
from issuer.core.instants import MICROSECOND, microseconds

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import datetime

    from issuer.core.decision import Grant
    from issuer.core.policy import GrantRule, Policy
    from issuer.core.spiffe_id import SpiffeId
    from issuer.core.token_request import TokenRequest


def latest_end(policy: Policy, caller: SpiffeId, granted: Grant, request: TokenRequest, now: datetime) -> int:
    """Return when a window that is opened now ends by time: the shortest of what was asked, granted and approved.

    The ``ttl`` of the request is how long access is asked for.
    """
    begun = microseconds(now)
    rules = rules_of(policy, caller, granted.audience, granted.rule_ids)
    ends = [begun + rule.longest_window // MICROSECOND for rule in rules]
    ends += [microseconds(rule.ends) for rule in rules if rule.ends is not None]
    if request.ttl is not None:
        ends.append(begun + request.ttl // MICROSECOND)
    if granted.approval is not None and granted.approval.ttl is not None:
        ends.append(begun + granted.approval.ttl * 1_000_000)
    return min(ends)


def rules_of(policy: Policy, caller: SpiffeId, audience: str, ids: Container[str]) -> list[GrantRule]:
    """Return the grants with these ids that speak of a caller and an audience."""
    return [rule for rule in find_candidates(policy, caller, audience).grants if rule.id in ids]
