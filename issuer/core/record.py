"""One decision as the ledger keeps it: everything that led to it and everything that came of it, but never the token.

A record is a flat tuple of text, whole numbers and bytes, so that its encoding (:mod:`issuer.core.record_encoding`) is
one fixed-order array. What is absent is ``""``, ``b""`` or ``None``; lists of scopes and rule ids are joined by spaces,
which none of them contains; facts, intent and audit are canonical JSON.
"""

from __future__ import annotations

import json
from datetime import timedelta
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from issuer.core.approval_text import approval_text
from issuer.core.decision import Denial, Grant
from issuer.core.fact_text import facts_text
from issuer.core.instants import MICROSECOND, microseconds
from issuer.core.origin import origin_text
from issuer.core.token_request import intent_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from issuer.core.caller import Caller
    from issuer.core.decision import Shadow
    from issuer.core.errors import Reason
    from issuer.core.facts import Fact, FactKey
    from issuer.core.token_request import TokenRequest


class Outcome(IntEnum):
    """What came of a request."""

    GRANTED = 1
    DENIED = 2
    ERROR = 3
    """Not decided, or granted and then not issued; ``reason`` says why. No token left."""


class Flag(IntFlag):
    """What was asked for, and what was given, yes or no."""

    BIND_ASKED = 1
    ALLOW_PARTIAL = 2
    VALIDATE_ONLY = 4
    BOUND = 8
    LEGACY = 16


class Minted(NamedTuple):
    """The token of a grant: its ``jti``, its ``exp``, the SHA-256 of its text, and where its status is kept."""

    token_id: str
    expires_at: int
    sha256: bytes
    status: int | None = None


class DecisionRecord(NamedTuple):
    """A decision, in the order in which it is encoded.

    Attributes:
        decision_id: UUIDv7, 16 bytes; sorts by time.
        time: When it was decided, microseconds since 1970 UTC.
        caller: The proved SPIFFE ID.
        svid: The caller's certificate: SHA-256, serial number (both hexadecimal), and the end of its validity in
            microseconds, joined by spaces.
        peer: The network address that it came from.
        grant_type: How it was asked for.
        audience: As asked.
        application_asked: As claimed.
        scopes_asked: As asked, in that order.
        ttl_asked: Microseconds.
        intent: As claimed.
        flags: Of :class:`Flag`.
        outcome: Of :class:`Outcome`.
        reason: Of :class:`~issuer.core.errors.Reason`; empty for a grant.
        application: The one that the token names.
        scopes: The scopes granted.
        scopes_refused: The scopes refused.
        rules: The ids of the rules that decided, or came closest.
        policy: The digest of the policy that decided.
        facts: Every fact that the decision was given.
        missing: What conditions needed and nobody told.
        lifetime: Seconds that the token may live.
        lifetime_bound: Which kind of input set that.
        lifetime_rule: Which rule did.
        token_id: The token's ``jti``.
        expires_at: The token's ``exp``.
        token_sha256: Over the token's text.
        audit: What rules in audit mode would have changed.
        approval: The approval that it rests on, or that was not enough, as JSON of :mod:`issuer.core.approval_text`.
        origin: What else it rests on, as JSON of :mod:`issuer.core.origin`.
        status: Where its status is kept: the number of a status list times the length of one, plus the index in it.
    """

    decision_id: bytes
    time: int
    caller: str
    svid: str
    peer: str
    grant_type: str
    audience: str
    application_asked: str
    scopes_asked: str
    ttl_asked: int | None
    intent: str
    flags: int
    outcome: int
    reason: str
    application: str
    scopes: str
    scopes_refused: str
    rules: str
    policy: str
    facts: str
    missing: str
    lifetime: int | None
    lifetime_bound: str
    lifetime_rule: str
    token_id: str
    expires_at: int | None
    token_sha256: bytes
    audit: str
    approval: str = ""
    origin: str = ""
    status: int | None = None


PERSONAL: Final = ("peer", "intent")
"""Fields that may point to a person: the chain holds their salted hash, so that the text can be erased."""


def record_decision(
    decision: Grant | Denial,
    *,
    decision_id: str,
    caller: Caller,
    peer: str,
    request: TokenRequest,
    facts: Mapping[FactKey, Fact],
    now: datetime,
    validate_only: bool = False,
    minted: Minted | None = None,
    failed: Reason | None = None,
) -> DecisionRecord:
    """Return the record of what was decided.

    Args:
        decision: What :func:`~issuer.core.decide.decide` said.
        decision_id: Its id, a UUID.
        caller: Who asked.
        peer: From where.
        request: For what.
        facts: What the decision was given.
        now: When.
        validate_only: The caller only wanted to know.
        minted: The token that came of it.
        failed: Why no token came of a grant, if that is so.
    """
    granted = decision if isinstance(decision, Grant) else None
    denied = decision if isinstance(decision, Denial) else None
    return DecisionRecord(
        decision_id=bytes.fromhex(decision_id.replace("-", "")),
        time=microseconds(now),
        caller=str(caller.spiffe_id),
        svid=svid_text(caller),
        peer=peer,
        grant_type=request.grant_type.value,
        audience=request.audience,
        application_asked=request.application or "",
        scopes_asked=" ".join(request.scopes),
        ttl_asked=None if request.ttl is None else request.ttl // MICROSECOND,
        intent=intent_text(request.intent),
        flags=_flags(request, granted, validate_only=validate_only),
        outcome=(Outcome.ERROR if failed else Outcome.GRANTED) if granted else Outcome.DENIED,
        reason=failed.value if failed else denied.reason.value if denied else "",
        application=(granted.application or "") if granted else "",
        scopes=" ".join(granted.scopes) if granted else "",
        scopes_refused=" ".join(granted.refused_scopes if granted else decision.scopes),
        rules=" ".join(decision.rule_ids),
        policy=decision.policy_digest,
        facts=facts_text(facts.values()) if facts else "",
        missing=" ".join(decision.missing),
        lifetime=granted.lifetime // timedelta(seconds=1) if granted else None,
        lifetime_bound=granted.lifetime_bound.value if granted else "",
        lifetime_rule=granted.lifetime_rule if granted else "",
        token_id=minted.token_id if minted else "",
        expires_at=minted.expires_at if minted else None,
        token_sha256=minted.sha256 if minted else b"",
        audit=_shadow_text(decision.shadow),
        approval=approval_text(decision.approval),
        origin=origin_text(decision.origin),
        status=minted.status if minted else None,
    )


def record_failure(
    reason: Reason, *, decision_id: str, caller: Caller, peer: str, request: TokenRequest | None, now: datetime
) -> DecisionRecord:
    """Return the record of a request that could not be decided. ``request`` is ``None`` when it could not be read."""
    return DecisionRecord(
        decision_id=bytes.fromhex(decision_id.replace("-", "")),
        time=microseconds(now),
        caller=str(caller.spiffe_id),
        svid=svid_text(caller),
        peer=peer,
        grant_type=request.grant_type.value if request else "",
        audience=request.audience if request else "",
        application_asked=(request.application or "") if request else "",
        scopes_asked=" ".join(request.scopes) if request else "",
        ttl_asked=None,
        intent=intent_text(request.intent) if request else "",
        flags=0,
        outcome=Outcome.ERROR,
        reason=reason.value,
        application="",
        scopes="",
        scopes_refused="",
        rules="",
        policy="",
        facts="",
        missing="",
        lifetime=None,
        lifetime_bound="",
        lifetime_rule="",
        token_id="",
        expires_at=None,
        token_sha256=b"",
        audit="",
    )


def _flags(request: TokenRequest, granted: Grant | None, *, validate_only: bool) -> int:
    flags = (Flag.BIND_ASKED if request.bind_certificate else 0) | (Flag.ALLOW_PARTIAL if request.allow_partial else 0)
    flags |= Flag.VALIDATE_ONLY if validate_only else 0
    if granted:
        flags |= (Flag.BOUND if granted.bind_certificate else 0) | (Flag.LEGACY if granted.legacy else 0)
    return int(flags)


def svid_text(caller: Caller) -> str:
    """Return what of the caller's certificate is kept."""
    return _svid_text(caller.certificate_sha256, caller.serial_number, caller.not_after)


@lru_cache(maxsize=4096)  # a caller shows the same certificate with every call
def _svid_text(sha256: bytes, serial_number: int, not_after: datetime) -> str:
    return f"{sha256.hex()} {serial_number:x} {microseconds(not_after)}"


def _shadow_text(shadow: Shadow | None) -> str:
    if shadow is None:
        return ""
    lifetime = None if shadow.lifetime is None else shadow.lifetime // timedelta(seconds=1)
    return json.dumps([shadow.reason, shadow.scopes, lifetime, shadow.rule_ids], separators=(",", ":"))
