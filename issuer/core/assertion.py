"""What a configured OIDC issuer says of somebody, and the rules that its token is held to. Pure: the time comes in.

The rules (OpenID Connect Core section 3.1.3.7, RFC 8725), over claims whose signature holds:

 1. ``iss`` is exactly the issuer's, ``aud`` is exactly ours: one, for a token for others too may come back from them.
 2. ``sub`` is there.
 3. It is valid now: ``iat`` and ``exp`` are there, ``nbf`` is held to where it is.
 4. It does not live longer than :data:`MAX_LIFETIME_SECONDS`.
 5. It is no other kind of token: an ``events`` claim makes a logout token or a security event (RFC 8417 section 2.2).
 6. ``auth_time`` and ``nonce``, where they are, can be read. Whether they have to be is for whoever asked.

Not checked: ``azp``, ``acr``, ``amr`` and all other claims. They are handed on as the issuer made them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LEEWAY_SECONDS: Final = 5
"""Between the issuer's clock and ours; as our own verifiers have it."""
MAX_LIFETIME_SECONDS: Final = 86_400
"""What people and pipelines get lives minutes to hours; what lives longer than a day says nothing about today."""
MAX_SUBJECT_CHARACTERS: Final = 255
"""OpenID Connect Core section 2."""
MAX_NONCE_CHARACTERS: Final = 256
_MAX_SECONDS: Final = 1 << 40
"""Unix seconds in the year 36812. Whatever is larger is a mistake, or wants to be one of ours."""


@unique
class AssertionFault(StrEnum):
    """Why a token of an OIDC issuer does not count."""

    TOO_LARGE = "is too large"
    MALFORMED = "is no signed JWT in its one spelling"
    HEADER_NOT_ALLOWED = "has a header member that is not allowed"
    TYPE_WRONG = "is another kind of token"
    ALGORITHM_NOT_ALLOWED = "is signed by an algorithm that is not allowed"
    ISSUER_UNKNOWN = "is of no configured issuer"
    AUDIENCE_WRONG = "is not for this issuer alone"
    KEY_UNKNOWN = "is signed by a key that its issuer does not publish"
    SIGNATURE_INVALID = "has a signature that does not hold"
    CLAIM_INVALID = "has a claim that is missing or cannot be read"
    EXPIRED = "has expired"
    NOT_YET_VALID = "is of the future"
    LIVES_TOO_LONG = "lives longer than a day"


class AssertionRefused(Exception):
    """The token does not count. The message shows nothing of it; ``fault`` is for programs."""

    def __init__(self, fault: AssertionFault) -> None:
        super().__init__(f"the token {fault.value}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a verified token says. Times are Unix seconds.

    Attributes:
        source: The name that the configuration gives its issuer.
        issuer: Its ``iss``.
        subject: Its ``sub``: whom it is about, among all of this issuer.
        audience: Its ``aud``.
        issued_at: Its ``iat``.
        expires_at: Its ``exp``.
        auth_time: When the person last proved who they are; ``None`` where the issuer does not say.
        nonce: What whoever asked for it bound it to; empty for nothing.
        fingerprint: The SHA-256 of the token's text, in hexadecimal.
        claims: All its claims.
    """

    source: str
    issuer: str
    subject: str = field(repr=False)
    audience: str
    issued_at: int
    expires_at: int
    auth_time: int | None
    nonce: str = field(repr=False)
    fingerprint: str
    claims: Mapping[str, Any] = field(repr=False)


def assertion_of(
    claims: Mapping[str, Any], *, source: str, issuer: str, audience: str, fingerprint: str, now: int
) -> Assertion:
    """Return what verified claims say.

    Args:
        claims: Of a token whose signature holds.
        source: The name that the configuration gives the issuer.
        issuer: Its URL.
        audience: What its tokens for us have as ``aud``.
        fingerprint: The SHA-256 of the token's text.
        now: Unix seconds.

    Raises:
        AssertionRefused: A rule is broken.
    """
    if claims.get("iss") != issuer:  # 1
        raise AssertionRefused(AssertionFault.ISSUER_UNKNOWN)
    if claims.get("aud") not in (audience, [audience]):
        raise AssertionRefused(AssertionFault.AUDIENCE_WRONG)
    if "events" in claims:  # 5
        raise AssertionRefused(AssertionFault.TYPE_WRONG)
    issued_at, expires_at = _valid_now(claims, now)
    return Assertion(
        source=source,
        issuer=issuer,
        subject=_text(claims.get("sub"), MAX_SUBJECT_CHARACTERS),  # 2
        audience=audience,
        issued_at=issued_at,
        expires_at=expires_at,
        auth_time=_auth_time(claims, now),
        nonce=_text(claims["nonce"], MAX_NONCE_CHARACTERS) if "nonce" in claims else "",
        fingerprint=fingerprint,
        claims=claims,
    )


def _valid_now(claims: Mapping[str, Any], now: int) -> tuple[int, int]:  # 3, 4
    issued_at, expires_at = _seconds(claims.get("iat")), _seconds(claims.get("exp"))
    if now >= expires_at + LEEWAY_SECONDS:
        raise AssertionRefused(AssertionFault.EXPIRED)
    not_before = _seconds(claims["nbf"]) if "nbf" in claims else issued_at
    if max(issued_at, not_before) > now + LEEWAY_SECONDS:
        raise AssertionRefused(AssertionFault.NOT_YET_VALID)
    if expires_at - issued_at > MAX_LIFETIME_SECONDS:
        raise AssertionRefused(AssertionFault.LIVES_TOO_LONG)
    return issued_at, expires_at


def _auth_time(claims: Mapping[str, Any], now: int) -> int | None:  # 6
    if "auth_time" not in claims:
        return None
    auth_time = _seconds(claims["auth_time"])
    if auth_time > now + LEEWAY_SECONDS:  # else a time to come would be fresh for as long as anybody likes
        raise AssertionRefused(AssertionFault.NOT_YET_VALID)
    return auth_time


def _seconds(value: object) -> int:
    # A bool is an int to Python, and a fraction to be rounded is none of our business.
    if type(value) is not int or not 0 < value < _MAX_SECONDS:
        raise AssertionRefused(AssertionFault.CLAIM_INVALID)
    return value


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise AssertionRefused(AssertionFault.CLAIM_INVALID)
    return value
