"""What the log line of a call tells of a decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from issuer.core.claims import Claims
    from issuer.core.decision import Denial, Grant
    from issuer.core.token import Token
    from issuer.issuance import LogFields, TokenAsk


def considered(decision: Grant | Denial) -> LogFields:
    """Return what led to the decision: the policy, its rules, what was known and what was not."""
    found: LogFields = {"policy": decision.policy_digest, "rules": list(decision.rule_ids)}
    if decision.facts:
        found["facts"] = [f"{fact.type} {fact.subject} by {fact.source}" for fact in decision.facts]
    if decision.missing:
        found["missing"] = list(decision.missing)
    if (shadow := decision.shadow) is not None:
        found["audit"] = f"would refuse: {shadow.reason}" if shadow.reason else f"would grant {' '.join(shadow.scopes)}"
        found["audit_rules"] = list(shadow.rule_ids)
    return found


def outcome(claims: Claims, grant: Grant, token: Token | None) -> LogFields:
    """Return what came of it: the token, but never its text."""
    return {
        "granted": list(grant.scopes),
        "application": grant.application,
        "lifetime_s": claims.expires_at - claims.issued_at,
        "lifetime_bound": grant.lifetime_bound.value,
        "lifetime_rule": grant.lifetime_rule or None,
        "grant_type": grant.grant_type.value,
        "legacy": grant.legacy,
        "token_id": claims.token_id if token else None,
        "token_sha256": token.sha256.hex() if token else None,
    }


def put_back(asks: Iterable[TokenAsk], before: Iterable[LogFields]) -> None:
    """Let log lines tell again what they told before a decision that does not count."""
    for ask, told in zip(asks, before, strict=True):
        if ask.told is not None:
            ask.told.clear()
            ask.told.update(told)
