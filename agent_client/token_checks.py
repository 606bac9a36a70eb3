"""Whether a token is the one that was asked for. A look at its claims, not a verification of its signature.

What reached us came over TLS from whoever proved to be the issuer; this finds an issuer that mixes up answers, a proxy
that serves another caller's, and clocks that disagree, before the token is used. A resource server verifies the
signature, with the issuer's keys.

**Clocks that disagree are dealt with here, once**, when the answer arrives: :data:`LEEWAY`. This is the only place of
the client that compares a time of the issuer with this host's clock. Whoever holds a token afterwards counts the time
that has passed since it was asked for against its lifetime, ``expires_at - issued_at``, which are two times of the
issuer's clock; no leeway is to be added or taken off again, and a clock that is set meanwhile changes nothing. A clock
that is behind the issuer's is no fault: a fresh token then seems to come from the future, and lives as long.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_client.requests import TokenRequest
    from issuer_api.v1 import issuer_service_pb2 as pb

MAX_TOKEN_BYTES = 16 * 1024
"""More does not fit into the headers that common HTTP servers accept."""
LEEWAY = timedelta(seconds=5)
"""How long ago a token may have ended by this host's clock, on arrival, and be taken all the same: so far may the
clock be ahead of the issuer's although the token lives but a moment. Verifiers have the same 5 s."""
TOKEN_TYPE = "at+jwt"  # noqa: S105 - RFC 9068 section 2.1, the header's typ and not a secret


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who asked: the SPIFFE ID and the SHA-256 of the leaf certificate of the connection."""

    spiffe_id: str
    certificate_sha256: bytes


def token_faults(
    answer: pb.IssueTokenResponse,
    request: TokenRequest,
    caller: CallerIdentity,
    now: datetime,
    on_behalf_of: str | None = None,
) -> Iterator[str]:
    """Yield what of an answer does not fit; nothing when all does. No text contains the token.

    1. The scopes: those asked for, in their order; fewer only with ``allow_partial``, and then the rest is named.
    2. With ``validate_only`` there is no token, otherwise there is one that can be read, of type ``at+jwt``.
    3. Its audience, subject, client and window of access are those of this request. On behalf of another, that one is
       the subject, and the outermost ``act`` is this caller (RFC 8693 section 4.1), unless it is that subject itself.
    4. It says of itself what the answer says of it: ``exp``, ``scope``, ``jti``, application.
    5. It has a lifetime, which has not ended (with ``LEEWAY``), and is no longer than asked.
    6. If bound, then to this caller's certificate; bound, when that was asked for.

    The signature is not verified.
    """
    yield from _scope_faults(answer, request)  # 1
    if request.validate_only:
        if answer.token:
            yield "it has a token although none was to be issued"
        return
    header, claims = _parts(answer.token)  # 2
    if header.get("typ") != TOKEN_TYPE or header.get("alg") in (None, "none"):
        yield "its token is no signed access token (RFC 9068)"
        return
    yield from _identity_faults(claims, request, caller, on_behalf_of)  # 3
    yield from _answer_faults(claims, answer, request)  # 4
    yield from _lifetime_faults(claims, request, now)  # 5
    yield from _binding_faults(claims, request, caller)  # 6


def issue_time(token: str) -> datetime:
    """Return when a token's lifetime began, by its ``iat`` (UTC).

    Raises:
        ValueError: It does not say; never for a token that :func:`token_faults` finds no fault with.
    """
    issued_at = _seconds(_parts(token)[1], "iat")
    if issued_at is None:
        raise ValueError("the token does not say when it was issued")
    return datetime.fromtimestamp(issued_at, UTC)


def is_bound(token: str) -> bool:
    """Return whether a token names a key or certificate that its presenter must have (RFC 7800)."""
    return _parts(token)[1].get("cnf") is not None


def unverified_claims(token: str) -> dict[str, Any]:
    """Return what a token claims, be it true or not; nothing where it cannot be read."""
    return _parts(token)[1]


def authorization_details(token: str) -> list[dict[str, Any]]:
    """Return what a token says may be done (RFC 9396); nothing where it does not say, or not readably."""
    details = unverified_claims(token).get("authorization_details")
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []


def _scope_faults(answer: pb.IssueTokenResponse, request: TokenRequest) -> Iterator[str]:
    granted, refused = list(answer.scopes), list(answer.refused_scopes)
    if granted != [scope for scope in request.scopes if scope in granted] or not granted:
        yield "its scopes are not those that were asked for"
    if sorted(granted + refused) != sorted(request.scopes):
        yield "it leaves out scopes without naming them"
    if refused and not request.allow_partial:
        yield "it leaves out scopes although all were needed"


def _identity_faults(
    claims: dict[str, Any], request: TokenRequest, caller: CallerIdentity, on_behalf_of: str | None
) -> Iterator[str]:
    if claims.get("aud") != request.audience:
        yield "its token is for another audience"
    if on_behalf_of is None and request.on_behalf_of is not None:
        on_behalf_of = request.on_behalf_of.name
    subject = on_behalf_of or caller.spiffe_id
    if claims.get("sub") != subject or claims.get("client_id") != caller.spiffe_id:
        yield "its token is for another workload"
    act = claims.get("act")
    actor = act.get("sub") if isinstance(act, dict) else None
    if on_behalf_of is None and act is not None:
        yield "its token says that somebody else acts"
    if caller.spiffe_id not in (subject, actor):
        yield "its token does not say that this workload acts for another"
    if request.access is not None and claims.get("grant_id") != request.access.rpartition("/")[2]:
        yield "its token is not of the window of access that was named"


def _answer_faults(claims: dict[str, Any], answer: pb.IssueTokenResponse, request: TokenRequest) -> Iterator[str]:
    if claims.get("scope") != " ".join(answer.scopes):
        yield "its token has other scopes than it says"
    if claims.get("exp") != answer.expire_time.seconds or answer.expire_time.nanos:
        yield "its token expires at another time than it says"
    if claims.get("jti") != answer.token_id or not answer.token_id:
        yield "its token has another identifier than it says"
    if claims.get("application", "") != answer.application:
        yield "its token names another application than it says"
    if request.application is not None and answer.application != request.application:
        yield "it is for another application"


def _lifetime_faults(claims: dict[str, Any], request: TokenRequest, now: datetime) -> Iterator[str]:
    expires_at, issued_at = _seconds(claims, "exp"), _seconds(claims, "iat")
    if expires_at is None or issued_at is None:
        yield "its token does not say when it was issued and when it expires"
        return
    if not 0 <= issued_at < expires_at:
        yield "its token ends before it begins"
    if expires_at + LEEWAY.total_seconds() <= now.timestamp():
        yield "its token has expired by the clock of this host"
    if request.ttl is not None and expires_at - issued_at > math.ceil(request.ttl.total_seconds()):
        yield "its token lives longer than asked"


def _binding_faults(claims: dict[str, Any], request: TokenRequest, caller: CallerIdentity) -> Iterator[str]:
    confirmation = claims.get("cnf")
    if confirmation is None:
        if request.bind_certificate:
            yield "its token is not bound to a certificate"
        return
    thumbprint = base64.urlsafe_b64encode(caller.certificate_sha256).rstrip(b"=").decode()
    if not isinstance(confirmation, dict) or confirmation.get("x5t#S256") != thumbprint:
        yield "its token is bound to another certificate"


def _seconds(claims: dict[str, Any], name: str) -> int | None:
    value = claims.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims; both empty when the token cannot be read."""
    parts = token.split(".")
    if len(token) > MAX_TOKEN_BYTES or len(parts) != 3 or not all(parts):  # noqa: PLR2004 - RFC 7515 section 7.1
        return {}, {}
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in parts[:2])
    except (ValueError, RecursionError):
        return {}, {}
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else ({}, {})
