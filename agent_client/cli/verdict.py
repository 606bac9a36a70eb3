"""Every reason for which a resource server would refuse a token, not only the first. Pure; looks at no signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_client.cli.telling_times import told_duration
from agent_client.cli.token_reading import seconds
from agent_client.token_checks import MAX_TOKEN_BYTES, TOKEN_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client.cli.token_reading import DecodedToken

LEEWAY_SECONDS = 5
"""What verifiers allow by default (docs: the product's clocks agree within it)."""
ALGORITHMS = ("ES256", "RS256")
_HEADER_MEMBERS = {"alg", "kid", "typ"}
_NEEDED = ("iss", "sub", "client_id", "aud", "exp", "iat", "jti")  # RFC 9068 section 2.2


@dataclass(frozen=True, slots=True)
class Expected:
    """What the resource server expects; ``None`` and empty: not told, so not looked at."""

    issuer: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    insecure_dev: bool = False
    certificate_sha256: str | None = None


def reasons(token: DecodedToken, expected: Expected, now: float) -> Iterator[str]:
    """Yield why the token would be refused, each in a few words; nothing when all fits.

    1. Its form: size, header, the claims that have to be there.
    2. Whose and for whom: issuer, audience, scopes.
    3. Its times, give or take the usual leeway.
    4. A development authority.
    5. Its binding, where a certificate is told.

    Whether it is signed by the issuer is **not** looked at.
    """
    yield from _form_reasons(token)  # 1
    if token.claims:
        yield from _party_reasons(token.claims, expected)  # 2
        yield from _time_reasons(token.claims, now)  # 3
        if "dev" in token.claims and not expected.insecure_dev:  # 4
            yield "it is of a development authority, which attests nobody; servers outside tests refuse it"
        bound_to = thumbprint(token.claims)
        if expected.certificate_sha256 is not None and bound_to not in (None, expected.certificate_sha256):  # 5
            yield "it is bound to another certificate than this one"


def thumbprint(claims: dict[str, Any]) -> str | None:
    """Return the SHA-256 of the certificate that a token is bound to (RFC 8705 section 3.1); ``None`` without one."""
    confirmation = claims.get("cnf")
    told = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    return told if isinstance(told, str) else None


def _form_reasons(token: DecodedToken) -> Iterator[str]:
    if len(token.text) > MAX_TOKEN_BYTES:
        yield f"it is larger than {MAX_TOKEN_BYTES} bytes"
    if not token.header or not token.claims:
        yield "it is no signed token: not three parts in base64url, the first two JSON objects"
        return
    if token.header.get("typ") != TOKEN_TYPE:
        yield f"its typ is {_shown(token.header.get('typ'))} and not {TOKEN_TYPE}, so it is no access token (RFC 9068)"
    if token.header.get("alg") not in ALGORITHMS:
        yield f"its alg is {_shown(token.header.get('alg'))} and none of {', '.join(ALGORITHMS)}"
    if not isinstance(token.header.get("kid"), str):
        yield "its header names no key (kid)"
    if others := sorted(token.header.keys() - _HEADER_MEMBERS):
        yield f"its header has what no verifier of ours takes: {', '.join(others)}"
    if missing := [name for name in _NEEDED if name not in token.claims]:
        yield f"it lacks {', '.join(missing)} (RFC 9068 section 2.2)"


def _party_reasons(claims: dict[str, Any], expected: Expected) -> Iterator[str]:
    if expected.issuer is not None and claims.get("iss") != expected.issuer:
        yield f"it is of another issuer: {_shown(claims.get('iss'))}, not {_shown(expected.issuer)}"
    if isinstance(claims.get("aud"), list):
        yield "its aud is a list; tokens of this issuer name one API"
    elif expected.audience is not None and claims.get("aud") != expected.audience:
        yield f"it is for another API: {_shown(claims.get('aud'))}, not {_shown(expected.audience)}"
    granted = claims.get("scope")
    held = granted.split(" ") if isinstance(granted, str) else []
    if lacking := [scope for scope in expected.scopes if scope not in held]:
        yield f"it does not have the scope {' '.join(lacking)}"


def _time_reasons(claims: dict[str, Any], now: float) -> Iterator[str]:
    for name in ("exp", "nbf", "iat"):
        if name in claims and seconds(claims, name) is None:
            yield f"its {name} is no time"
    expires_at = seconds(claims, "exp")
    if expires_at is not None and now >= expires_at + LEEWAY_SECONDS:
        yield f"it expired {told_duration(now - expires_at)} ago"
    for name in ("nbf", "iat"):
        begins_at = seconds(claims, name)
        if begins_at is not None and now < begins_at - LEEWAY_SECONDS:
            yield f"it is not valid yet: its {name} is {told_duration(begins_at - now)} ahead of this host's clock"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else "something that is no text" if value is not None else "missing"
