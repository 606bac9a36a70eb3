"""The outcomes of :func:`issuer.core.decide.decide`: plain values, which a test, a record or a report can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from issuer.core.approvals import Approved
    from issuer.core.errors import Reason
    from issuer.core.facts import Fact
    from issuer.core.origin import Origin
    from issuer.core.token_request import GrantType


class LifetimeBound(StrEnum):
    """Which kind of input was the shortest and so set the token's lifetime."""

    REQUEST = "request"
    GRANT = "grant"
    SCOPE = "scope"
    AUDIENCE = "audience"
    RISK_TIER = "risk_tier"
    SVID = "svid"
    GRANT_EXPIRY = "grant_expiry"
    LIMIT = "limit"
    LEGACY = "legacy"
    APPROVAL = "approval"
    ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the answer would be if the rules in audit mode took effect.

    Attributes:
        reason: Why there would be no token; ``None`` when there would be one.
        scopes: The scopes that would be granted, or refused.
        lifetime: How long the token would live; ``None`` without one.
        rule_ids: The rules that would decide.
    """

    reason: Reason | None
    scopes: tuple[str, ...]
    lifetime: timedelta | None
    rule_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """Policy allows a token.

    Attributes:
        audience: The one audience, exactly as policy spells it.
        scopes: The scopes granted, in the order of the request. Never empty.
        lifetime: How long the token may live from now; at least the policy's ``min_ttl``.
        lifetime_bound: Which kind of input set ``lifetime``.
        application: On whose behalf; ``None`` when no grant names one.
        bind_certificate: The token must carry ``cnf.x5t#S256`` (the caller asked, or the risk tier demands it).
        rule_ids: The grants that were used, sorted, without duplicates.
        refused_scopes: Scopes left out of a partial answer (``allow_partial``), in the order of the request.
        policy_digest: The digest of the policy that decided.
        lifetime_rule: Which rule, audience, scope or tier set ``lifetime``; empty when the request or the SVID did.
        grant_type: How it was asked for.
        legacy: The token outlives the caller's SVID, by an exception.
        missing: What conditions needed and nobody told, sorted.
        facts: The facts that conditions mentioned.
        shadow: What rules in audit mode would have changed; ``None`` for nothing.
        approval: The approval that it rests on; ``None`` when it needed none.
        origin: What the token rests on beside the caller's own right; ``None`` for nothing.
        status: The token has an entry in a status list: policy says so, or it is a legacy one.
    """

    audience: str
    scopes: tuple[str, ...]
    lifetime: timedelta
    lifetime_bound: LifetimeBound
    application: str | None
    bind_certificate: bool
    rule_ids: tuple[str, ...]
    refused_scopes: tuple[str, ...]
    policy_digest: str
    lifetime_rule: str
    grant_type: GrantType
    legacy: bool = False
    missing: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    shadow: Shadow | None = None
    approval: Approved | None = None
    origin: Origin | None = None
    status: bool = False


@dataclass(frozen=True, slots=True)
class Denial:
    """Policy refuses.

    Attributes:
        reason: Why, for the caller.
        scopes: The scopes of the request that were refused; empty when the audience itself was.
        rule_ids: Rules that came closest (for the record and the operator, never for the caller).
        policy_digest: The digest of the policy that decided.
        missing: What conditions needed and nobody told, sorted.
        facts: The facts that conditions mentioned.
        shadow: What rules in audit mode would have changed; ``None`` for nothing.
        approval: The approval that was there and was not enough; ``None`` for none.
        origin: What the token would have rested on; ``None`` for nothing.
    """

    reason: Reason
    scopes: tuple[str, ...]
    rule_ids: tuple[str, ...]
    policy_digest: str
    missing: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    shadow: Shadow | None = None
    approval: Approved | None = None
    origin: Origin | None = None


def shadow_of(answer: Grant | Denial, other: Grant | Denial) -> Shadow | None:
    """Return what ``other``, made with the rules in audit mode, says if it says anything else than ``answer``."""
    shadow = _summary(other)
    return None if replace(shadow, rule_ids=answer.rule_ids) == _summary(answer) else shadow


def _summary(answer: Grant | Denial) -> Shadow:
    if isinstance(answer, Denial):
        return Shadow(answer.reason, answer.scopes, None, answer.rule_ids)
    return Shadow(None, answer.scopes, answer.lifetime, answer.rule_ids)
