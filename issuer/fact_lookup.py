"""What is known of what a decision needs, for whoever decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.facts import FactKey, Facts
    from issuer.core.policy import Policy
    from issuer.ports import FactBook


async def known_facts(
    facts: FactBook, keys: frozenset[FactKey], policy: Policy, caller: Caller, now: datetime
) -> Facts:
    """Return those facts of ``keys`` that count at ``now``; most decisions need none, and then nobody is asked."""
    if not keys:
        return {}
    return await facts.known(keys, fact_types=policy.fact_types, now=now, caller=caller)
