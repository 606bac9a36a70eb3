"""JWT-SVIDs (JWT-SVID sections 2 to 4), read strictly and verified by the authorities of their own trust domain.

1. It is a JWS in compact serialisation with ``alg``, ``kid`` and perhaps ``typ`` in its header, and nothing else;
   ``typ`` is ``JWT`` or ``JOSE`` (section 2): an access token or a status list has another and is refused.
2. ``sub`` is a SPIFFE ID, of a trust domain that may be heard. It is read before it is verified, for it says by whose
   keys; nothing else of the claims is looked at.
3. ``kid`` names a JWT authority of that very trust domain, ``alg`` is the one of this key, and the signature holds.
4. ``aud`` is this issuer and nobody else: whoever else is named could present it here (draft-ietf-oauth-rfc7523bis).
5. ``exp`` is not over; ``nbf`` and ``iat``, where there are some, are not ahead.

Not checked: whether it was seen before, and what it may be used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from issuer.core.base64url import base64url_decoded
from issuer.core.errors import IssuerError
from issuer.core.spiffe_id import SpiffeId, TrustDomain
from issuer.core.strict_json import strict_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from issuer.core.foreign_keys import ForeignKey

MAX_BYTES: Final = 16 * 1024
"""What IssuerService lets a token have."""
LEEWAY_SECONDS: Final = 5
"""By so much the clock of a SPIRE server may be ahead of ours."""
_TYPES: Final = ("JWT", "JOSE")
_LAST_MOMENT: Final = 253402300799  # 9999-12-31T23:59:59Z


class NotTaken(ValueError):
    """A token is not taken. The message says why, for the log, and has nothing of the token."""


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A JWT-SVID whose signature holds, which is for this issuer, and is valid now.

    Attributes:
        spiffe_id: Whom it names.
        expires_at: Its ``exp``, Unix seconds.
        claims: All that it says.
    """

    spiffe_id: SpiffeId
    expires_at: int
    claims: Mapping[str, Any]


class _Parts(NamedTuple):
    algorithm: str
    key_id: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def verified_jwt_svid(
    text: str, authorities: Callable[[TrustDomain], Mapping[str, ForeignKey] | None], audience: str, now: float
) -> JwtSvid:
    """Return what a JWT-SVID says; the steps are those of the module's docstring.

    Args:
        text: The token.
        authorities: Returns the keys of a trust domain by ``kid``; ``None`` where nobody of it is heard.
        audience: This issuer's ``iss``.
        now: Unix seconds.

    Raises:
        NotTaken: A step refuses it.
    """
    parts = _taken_apart(text)  # 1
    subject = _spiffe_id(parts.claims.get("sub"))  # 2
    keys = authorities(subject.trust_domain)
    if keys is None:
        raise NotTaken("its trust domain is not heard")
    key = keys.get(parts.key_id)  # 3
    if key is None or key.algorithm != parts.algorithm or not key.verifies(parts.signature, parts.signed):
        raise NotTaken("is not signed by an authority of its trust domain")
    if parts.claims.get("aud") not in (audience, [audience]):  # 4
        raise NotTaken("is not for this issuer alone")
    return JwtSvid(subject, _end(parts.claims, now), parts.claims)  # 5


def _taken_apart(text: str) -> _Parts:
    if len(text) > MAX_BYTES or not text.isascii():
        raise NotTaken("is too large, or no token")
    try:
        header_text, payload_text, signature_text = text.split(".")
        header = strict_object(base64url_decoded(header_text))
        claims = strict_object(base64url_decoded(payload_text))
        signature = base64url_decoded(signature_text)
    except ValueError:
        raise NotTaken("is no JWS of one strict JSON object") from None
    typ = header.pop("typ", "JWT")
    match header:
        case {"alg": str(algorithm), "kid": str(key_id)} if len(header) == 2 and typ in _TYPES:  # noqa: PLR2004
            return _Parts(algorithm, key_id, claims, f"{header_text}.{payload_text}".encode("ascii"), signature)
    raise NotTaken("has the header of something else")


def _spiffe_id(subject: object) -> SpiffeId:
    try:
        return SpiffeId.parse(subject if isinstance(subject, str) else "")
    except IssuerError:
        raise NotTaken("does not name a workload") from None


def _end(claims: Mapping[str, Any], now: float) -> int:
    end = _moment(claims.get("exp"))
    if now >= end:  # RFC 7519 section 4.1.4: not on or after
        raise NotTaken("has expired")
    if any(name in claims and now < _moment(claims[name]) - LEEWAY_SECONDS for name in ("nbf", "iat")):
        raise NotTaken("is not valid yet")
    return end


def _moment(value: object) -> int:
    if type(value) is not int or not 0 < value <= _LAST_MOMENT:  # a bool is an int to isinstance
        raise NotTaken("has a time that is none")
    return value
