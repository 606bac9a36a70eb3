"""The second pair of eyes: the finished token is read again, by other code than built it, before it is signed.

:func:`check_claims` holds the very bytes that will be signed against the decision. It shares no code with
:mod:`issuer.core.claims`, reads the JSON as a verifier would, and refuses what it does not know.

1. The header names our token type, a signature algorithm, a key, and nothing else (RFC 9068 section 2.1, RFC 8725
   sections 3.1 and 3.11).
2. The payload is one JSON object, no member twice (RFC 7519 section 4), with exactly the claims that this decision
   calls for.
3. ``iss``, ``jti`` and ``dev`` are ours; ``client_id`` is the verified caller, and so is ``sub``, unless what the token
   rests on names another subject: then the outermost ``act`` is the caller.
4. ``aud`` is one string: the audience that was asked for and granted.
5. ``scope`` is exactly what was granted, and nothing that was not asked for.
6. ``application`` is the granted one.
7. ``iat`` is not in the future, ``nbf`` not after it; the token is alive and lives no longer than the grant, the
   request and the caller's certificate allow. Only an exception of policy lets it outlive the certificate, and never
   a token that is bound to it.
8. ``cnf`` is there if and only if the grant binds, and names the caller's certificate.
9. ``act``, ``authorization_details``, ``txn`` and ``grant_id`` are those of what the token rests on; no scope and no
   second of life goes beyond it.
10. ``status`` is there if and only if the decision calls for one, and names the entry that is recorded with it.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from issuer.core.caller import Caller
    from issuer.core.claims import TokenProfile
    from issuer.core.decision import Grant
    from issuer.core.origin import Origin
    from issuer.core.token_request import TokenRequest

_ALGORITHMS = frozenset({"ES256", "RS256"})
_STRICT = bytes.maketrans(b"-_+/=", b"+/!!!")
"""From base64url to plain base64; what only plain base64 has becomes what neither has."""
_ALWAYS = frozenset({"iss", "sub", "client_id", "aud", "exp", "iat", "nbf", "jti", "scope"})
_MAX_NBF_BACKDATE = 5
_STATUSES = 1 << 53
"""More than there will ever be; other programs read the number as a float."""
_LAST_MOMENT = 253402300799  # 9999-12-31T23:59:59Z, the last that a datetime can hold


class ClaimsMismatch(Exception):
    """The finished token says something else than was decided: a defect of the issuer, and no token leaves.

    The message names the claim and never its value; it is for the log, the caller only learns INTERNAL.
    """

    def __init__(self, claim: str, fault: str) -> None:
        super().__init__(f"finished token refused: {claim} {fault}")
        self.claim = claim


def check_claims(
    signing_input: bytes,
    *,
    grant: Grant,
    caller: Caller,
    request: TokenRequest,
    profile: TokenProfile,
    token_id: str,
    now: datetime,
    status: int | None = None,
) -> None:
    """Hold the bytes about to be signed against what was decided; the steps are those of the module's docstring.

    Raises:
        ClaimsMismatch: The token would be wider, longer, for someone else or otherwise not what was decided.
    """
    header, _, payload = signing_input.partition(b".")
    _check_header(header)  # 1
    claims = _read_object(payload, "payload")
    _check_members(claims, grant, profile)  # 2
    _check_parties(claims, grant, caller, profile, token_id)  # 3
    _check_audience(claims, grant, request)  # 4
    _check_scope(claims, grant, request)  # 5
    _check_application(claims, grant, request)  # 6
    _check_times(claims, grant, caller, request, now)  # 7
    _check_binding(claims, grant, caller, request)  # 8
    if grant.origin is not None:
        _check_origin(claims, grant.origin, caller)  # 9
    _check_status(claims, grant, profile, status)  # 10


@lru_cache(maxsize=64)  # the same few headers for every token; a refusal is not cached
def _check_header(encoded: bytes) -> None:
    header = _read_object(encoded, "header")
    if header.keys() != {"alg", "kid", "typ"}:
        raise ClaimsMismatch("header", "does not have exactly alg, kid and typ")
    if header["typ"] != "at+jwt":
        raise ClaimsMismatch("typ", "is not at+jwt")
    if header["alg"] not in _ALGORITHMS:
        raise ClaimsMismatch("alg", "is not a signature algorithm of ours")
    if not (isinstance(header["kid"], str) and header["kid"]):
        raise ClaimsMismatch("kid", "is empty")


def _check_members(claims: dict[str, Any], grant: Grant, profile: TokenProfile) -> None:
    expected = set(_ALWAYS)
    if grant.application is not None:
        expected.add("application")
    if grant.bind_certificate:
        expected.add("cnf")
    if profile.development:
        expected.add("dev")
    if grant.status:
        expected.add("status")
    if (origin := grant.origin) is not None:
        optional = {"act": origin.actors, "authorization_details": origin.details, "txn": origin.transaction}
        optional["grant_id"] = origin.id if origin.kind.value == "access" else ""
        expected.update(claim for claim, value in optional.items() if value)
    if unexpected := claims.keys() ^ expected:
        raise ClaimsMismatch(", ".join(sorted(unexpected)), "is missing or not called for")


def _check_parties(claims: dict[str, Any], grant: Grant, caller: Caller, profile: TokenProfile, token_id: str) -> None:
    if claims["iss"] != profile.issuer:
        raise ClaimsMismatch("iss", "is not this issuer")
    if not token_id or claims["jti"] != token_id:
        raise ClaimsMismatch("jti", "is not the id of this decision's token")
    if claims.get("dev", True) is not True:
        raise ClaimsMismatch("dev", "is not true")
    identity = str(caller.spiffe_id)
    if claims["client_id"] != identity:
        raise ClaimsMismatch("client_id", "is not the verified caller")
    if claims["sub"] != (identity if grant.origin is None else grant.origin.subject):
        raise ClaimsMismatch("sub", "is not the verified caller or whom it acts for")


def _check_audience(claims: dict[str, Any], grant: Grant, request: TokenRequest) -> None:
    if not claims["aud"] == grant.audience == request.audience:
        raise ClaimsMismatch("aud", "is not the one audience that was asked for and granted")


def _check_scope(claims: dict[str, Any], grant: Grant, request: TokenRequest) -> None:
    value = claims["scope"]
    scopes = value.split(" ") if isinstance(value, str) else []
    if not scopes or sorted(scopes) != sorted(set(grant.scopes)):
        raise ClaimsMismatch("scope", "is not what was granted")
    if not request.allow_partial and len(scopes) != len(request.scopes):
        raise ClaimsMismatch("scope", "is less than what was asked for, without allow_partial")
    if not set(scopes).issubset(request.scopes):
        raise ClaimsMismatch("scope", "has what was not asked for")


def _check_application(claims: dict[str, Any], grant: Grant, request: TokenRequest) -> None:
    application = claims.get("application")
    if application != grant.application:
        raise ClaimsMismatch("application", "is not the granted one")
    if request.application is not None and application != request.application:
        raise ClaimsMismatch("application", "is not the one that was asked for")


def _check_times(claims: dict[str, Any], grant: Grant, caller: Caller, request: TokenRequest, now: datetime) -> None:
    issued, not_before, expires = _seconds(claims, "iat"), _seconds(claims, "nbf"), _seconds(claims, "exp")
    decided = now.timestamp()
    if not decided - 1 < issued <= decided:
        raise ClaimsMismatch("iat", "is not the second of the decision")
    if not issued - _MAX_NBF_BACKDATE <= not_before <= issued:
        raise ClaimsMismatch("nbf", "is after iat or far before it")
    if expires <= decided:
        raise ClaimsMismatch("exp", "is already over")
    lifetime = timedelta(seconds=expires - issued)
    if lifetime > grant.lifetime or (request.ttl is not None and lifetime > request.ttl):
        raise ClaimsMismatch("exp", "makes the token live longer than was asked for and granted")
    if expires > caller.not_after.timestamp() and (grant.bind_certificate or not grant.legacy):
        raise ClaimsMismatch("exp", "is after the end of the caller's certificate")


def _seconds(claims: dict[str, Any], claim: str) -> int:
    seconds = claims[claim]
    if type(seconds) is not int or not 0 < seconds <= _LAST_MOMENT:  # a bool is an int to isinstance
        raise ClaimsMismatch(claim, "is not a whole number of seconds")
    return seconds


def _check_binding(claims: dict[str, Any], grant: Grant, caller: Caller, request: TokenRequest) -> None:
    if request.bind_certificate and not grant.bind_certificate:
        raise ClaimsMismatch("cnf", "was asked for and not granted")
    if not grant.bind_certificate:
        return
    thumbprint = urlsafe_b64encode(caller.certificate_sha256).decode("ascii").rstrip("=")
    if len(caller.certificate_sha256) != 32 or claims["cnf"] != {"x5t#S256": thumbprint}:  # noqa: PLR2004 - SHA-256
        raise ClaimsMismatch("cnf", "is not the caller's certificate")


def _check_origin(claims: dict[str, Any], origin: Origin, caller: Caller) -> None:
    if not set(claims["scope"].split(" ")).issubset(origin.scopes):
        raise ClaimsMismatch("scope", "has what the token's origin does not have")
    if claims["exp"] * 1_000_000 > origin.until:
        raise ClaimsMismatch("exp", "is after the end of the token's origin")
    if origin.bind and "cnf" not in claims:
        raise ClaimsMismatch("cnf", "is missing, and the token's origin was bound")
    actors = _actors(claims.get("act"))
    if actors != [tuple(actor) for actor in origin.actors]:
        raise ClaimsMismatch("act", "is not the chain of the token's origin")
    if claims["sub"] != claims["client_id"] and (not actors or actors[0][0] != str(caller.spiffe_id)):
        raise ClaimsMismatch("act", "does not begin with the caller, who is not the subject")
    if claims.get("authorization_details") != (json.loads(origin.details) if origin.details else None):
        raise ClaimsMismatch("authorization_details", "are not those of the token's origin")
    if origin.application not in {None, claims.get("application", "")}:
        raise ClaimsMismatch("application", "is not that of the token's origin")
    if claims.get("txn", "") != origin.transaction:
        raise ClaimsMismatch("txn", "is not that of the token's origin")
    if claims.get("grant_id", origin.id) != origin.id:
        raise ClaimsMismatch("grant_id", "is not that of the token's origin")


def _check_status(claims: dict[str, Any], grant: Grant, profile: TokenProfile, status: int | None) -> None:
    if not grant.status:
        return
    if status is None or not 0 <= status < _STATUSES:
        raise ClaimsMismatch("status", "was called for, and no entry is recorded with the decision")
    match claims["status"]:
        case {"status_list": {"idx": index, "uri": uri, **other}, **others} if type(index) is int:
            # 2**17 entries a list: written out, for this shares no code with what built the claim.
            listed = f"{profile.issuer}/status-lists/{status >> 17}"
            if (index, uri, other, others) == (status & 0x1FFFF, listed, {}, {}):
                return
    raise ClaimsMismatch("status", "is not the entry that is recorded with the decision")


def _actors(act: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - what a JSON member holds
    """Return the chain of an ``act`` claim, the outermost first (RFC 8693 section 4.1)."""
    chain = []
    while act is not None:
        if not isinstance(act, dict) or not {"sub", "iss"} <= act.keys() <= {"sub", "iss", "act"}:
            raise ClaimsMismatch("act", "is not made of sub, iss and the act before")
        chain.append((act["sub"], act["iss"]))
        act = act.get("act")
    return chain


def _read_object(encoded: bytes, part: str) -> dict[str, Any]:
    try:
        data = a2b_base64(encoded.translate(_STRICT) + b"=" * (-len(encoded) % 4), strict_mode=True)
        text = data.decode("utf-8")
        value, end = _DECODER.raw_decode(text)
    except ValueError as error:
        raise ClaimsMismatch(part, "is not base64url of JSON with each member once") from error
    if not isinstance(value, dict) or end != len(text):
        raise ClaimsMismatch(part, "is not one JSON object")
    return value


def _members_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members_once)
