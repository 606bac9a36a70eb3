"""What ``inspect`` found, as text and as JSON. Never the signature: with it, what is shown would be a token again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from agent_client.cli.messages import plain
from agent_client.cli.telling_times import told_duration, told_moment, told_relative
from agent_client.cli.token_reading import seconds
from agent_client.cli.verdict import thumbprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client.cli.token_reading import DecodedToken
    from agent_client.cli.verdict import Expected

_TIMES = ("iat", "nbf", "exp")
_BEFORE_SIGNATURE = frozenset(
    {
        "TOO_LARGE",
        "MALFORMED",
        "CRITICAL_EXTENSION",
        "KEY_IN_HEADER",
        "HEADER_MEMBER_UNKNOWN",
        "TYPE_WRONG",
        "ALGORITHM_NOT_ALLOWED",
    }
)
"""Reasons (RejectionReason) that a verifier finds before it looks for a key: of the signature nothing is known then."""
_OF_SIGNATURE = frozenset({"KEY_UNKNOWN", "ALGORITHM_NOT_OF_KEY", "SIGNATURE_WRONG"})
_CERTIFICATE_MISSING = "CERTIFICATE_MISSING"
"""A bound token without its connection: the last that the verifier looks at, and nothing against the token."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What is known of the signature.

    Attributes:
        holds: Whether the issuer signed it; ``None``: nothing is known.
        reason: Why it would be refused for it; ``None`` when not for it.
        others: The verifier's own first reason, where it is about what comes after the signature.
    """

    holds: bool | None
    reason: str | None = None
    others: str | None = None

    HOLDS: ClassVar[Signature]
    NOT_LOOKED_AT: ClassVar[Signature]

    @classmethod
    def of_rejection(cls, reason: str, message: str) -> Signature:
        """Return what a verifier's rejection says of the signature. Its rules have an order, and it stops at one."""
        if reason == _CERTIFICATE_MISSING:
            return cls.HOLDS
        if reason in _OF_SIGNATURE:
            return cls(holds=False, reason=message)
        if reason in _BEFORE_SIGNATURE:
            return cls(holds=None, others=message)
        return cls(holds=True, others=message)


Signature.HOLDS = Signature(holds=True)
Signature.NOT_LOOKED_AT = Signature(holds=None)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        token: The token, decoded.
        signature: What is known of its signature.
        reasons: Why it would be refused.
        expected: What it was held against.
        now: When, in seconds since 1970 UTC.
    """

    token: DecodedToken
    signature: Signature
    reasons: tuple[str, ...]
    expected: Expected
    now: float


def document(found: Inspection) -> dict[str, Any]:
    """Return it for programs."""
    claims = found.token.claims
    issued_at, expires_at = seconds(claims, "iat"), seconds(claims, "exp")
    return {
        "accepted": found.signature.holds is True and not found.reasons,
        "signature_holds": found.signature.holds,
        "reasons": list(found.reasons),
        "notes": list(_notes(found)),
        "lifetime": expires_at - issued_at if issued_at is not None and expires_at is not None else None,
        "expires_in": None if expires_at is None else int(expires_at - found.now),
        "certificate_sha256": thumbprint(claims),
        "header": found.token.header,
        "claims": claims,
    }


def lines(found: Inspection) -> Iterator[str]:
    """Yield it for people."""
    yield _headline(found)
    yield from (f"  - {plain(reason)}" for reason in found.reasons)
    yield from (f"note: {plain(note)}" for note in _notes(found))
    for title, members in (("header", found.token.header), ("claims", found.token.claims)):
        if members:
            yield ""
            yield title
            width = max(len(plain(name)) for name in members)
            yield from (
                f"  {plain(name):{width}}  {plain(_value(name, value, found.now))}" for name, value in members.items()
            )


def _headline(found: Inspection) -> str:
    if found.signature.holds is None and not found.reasons:
        return "UNVERIFIED: nothing speaks against it, but anybody may have written it"
    verdict = "REFUSED" if found.reasons else "ACCEPTED"
    if found.signature.holds is None:
        return f"{verdict}, and UNVERIFIED: anybody may have written it"
    return (
        f"{verdict}: a resource server would take it"
        if not found.reasons
        else f"{verdict}: a resource server would not take it"
    )


def _notes(found: Inspection) -> Iterator[str]:
    if found.expected.audience is None and found.token.claims:
        yield "which API it is for was not held against anything: give --audience"
    claims = found.token.claims
    issued_at, expires_at = seconds(claims, "iat"), seconds(claims, "exp")
    if issued_at is not None and expires_at is not None:
        yield f"it lives {told_duration(expires_at - issued_at)} in all"
    if (bound_to := thumbprint(claims)) is not None:
        yield f"it works only over mutual TLS with the certificate whose SHA-256 is {bound_to} (RFC 8705)"
    elif claims:
        yield "it is bound to no certificate: whoever has it can use it"


def _value(name: str, value: object, now: float) -> str:
    if name in _TIMES and (moment := seconds({name: value}, name)) is not None:
        return f"{told_moment(moment)} ({told_relative(moment, now)})"
    return value if isinstance(value, str) else json.dumps(value)
