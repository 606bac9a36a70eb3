"""The rules that a token has to pass, in order. Pure: key and time come in. An auditor's first file.

The first four are :func:`read_token` and the verifier's look for the key, the rest is :func:`verified_token`, but for
the last two, which are the verifier's too.

1.  It is a JWS in compact serialisation, at most 16 KiB, in its one spelling (RFC 7515 section 7.1).
2.  Its header is ``alg``, ``kid`` and ``typ`` and nothing else, and ``typ`` is ``at+jwt`` (RFC 9068 section 4, RFC 8725
    section 3.11).
3.  Its ``alg`` is one that this verifier takes (RFC 8725 section 3.1).
4.  Its ``kid`` names a key of the issuer.
5.  Its ``alg`` is the one that this key is for.
6.  The signature holds. From here on it is the issuer who speaks, and the claims are parsed.
7.  The claims are one strict JSON object, and those of RFC 9068 section 2.2 are there and of their types. What cannot
    be read is refused here, with the reason of its own rule below where there is one. ``client_id`` is the subject, or
    the outermost of the ``act`` chain, which has a bounded length.
8.  ``iss`` is the issuer, exactly.
9.  ``aud`` is the audience, exactly, as one string: the issuer writes no lists, so a list is refused even of one entry.
10. ``exp`` is not over, ``nbf`` and ``iat`` are not ahead, give or take the leeway.
11. A token of a development authority is taken only by a verifier that is called insecure, and only in ``.test``.
12. ``cnf`` is met: the presented certificate is the one that the token is bound to (RFC 8705 section 3).
13. It has every scope that is needed.
14. It is for one of the applications that may come.
15. It was not revoked, where the verifier has a stream of revocations (:mod:`.revocations_state`).
16. The status list that it names, where it names one and the verifier looks, says that it is valid
    (:mod:`.status_lists`). Last, for it may have to be fetched, and for no token that is not good anyway.

Not checked: whether the token was seen before, and anything about the presented certificate but that it is this one.
TLS checks that its holder has the key.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_client.verification.base64url import base64url
from agent_client.verification.compact import parse_compact
from agent_client.verification.errors import ApplicationRejected, RejectionReason, TokenRejected
from agent_client.verification.strict_json import strict_object
from agent_client.verification.verified_token import Actor, VerifiedToken

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from agent_client.verification.algorithms import VerificationKey
    from agent_client.verification.compact import Header, UnverifiedToken

_LAST_MOMENT = 253402300799  # 9999-12-31T23:59:59Z, the last that a datetime can hold
_SPIFFE_ID = re.compile(r"spiffe://(?P<trust_domain>[a-z0-9._-]{1,255})(?:/(?!\.{1,2}(?:/|\Z))[a-zA-Z0-9._-]+)+")
"""SPIFFE-ID section 2, in canonical form: what the issuer lets call."""
_MAX_ID_BYTES = 2048  # SPIFFE-ID section 2.3
_OF_PROVIDER = re.compile(r"https?://[\x21\x22\x24-\x7e]+#[A-Za-z0-9_.~%-]+")
"""Whom an OpenID provider knows: its ``iss``, and after ``#`` the ``sub`` there, percent-encoded."""
MAX_ACTORS = 15
"""In one ``act`` chain; the issuer can be told to allow no more."""
_SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")  # RFC 6749 section 3.3
_NAME = re.compile(r"[\x21-\x7e]{1,256}")
"""What the issuer writes as ``jti`` and ``application``, with room."""
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 8705 section 3.1: SHA-256 in base64url


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a resource server expects of every token.

    Attributes:
        issuer: The ``iss``.
        audience: The ``aud``.
        algorithms: The ``alg`` values that are taken.
        leeway: Seconds by which this host's clock and the issuer's may differ.
        require_binding: A token that is bound to no certificate is refused.
        insecure_dev: Tokens of the development authority are taken, of trust domains in ``.test``.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    leeway: float
    require_binding: bool = False
    insecure_dev: bool = False


class Demand(NamedTuple):
    """What one request needs. A named tuple, because one is made for every token.

    Attributes:
        certificate: The DER of the leaf that the caller presented; ``None`` when it presented none.
        scopes: The scopes that are needed, all of them.
        applications: Who may come; ``None`` when that does not matter, and nobody when it is empty.
    """

    certificate: bytes | None = None
    scopes: tuple[str, ...] = ()
    applications: Collection[str] | None = None


def read_token(token: str, algorithms: frozenset[str], known_headers: Mapping[bytes, Header]) -> UnverifiedToken:
    """Apply the rules that need no key: 1 to 3.

    Raises:
        TokenRejected: One is broken.
    """
    unverified = parse_compact(token, known_headers)  # 1, 2
    if unverified.header.algorithm not in algorithms:  # 3
        raise TokenRejected(RejectionReason.ALGORITHM_NOT_ALLOWED)
    return unverified


def verified_token(
    token: UnverifiedToken, key: VerificationKey, expected: Expectations, demand: Demand, now: datetime
) -> VerifiedToken:
    """Apply the rules from 5 on, and return what the token says.

    Args:
        token: What :func:`read_token` returned.
        key: The issuer's key with the token's ``kid`` (rule 4).
        expected: What every token has to be.
        demand: What this request needs.
        now: The time, UTC.

    Raises:
        TokenRejected: A rule up to 12 is broken.
        InsufficientScope: Rule 13 is.
        ApplicationRejected: Rule 14 is.
    """
    if token.header.algorithm != key.algorithm:  # 5
        raise TokenRejected(RejectionReason.ALGORITHM_NOT_OF_KEY)
    if not key.verifies(token.signature, token.signing_input):  # 6
        raise TokenRejected(RejectionReason.SIGNATURE_WRONG)
    claims = strict_object(token.payload)  # 7
    if claims is None:
        raise TokenRejected(RejectionReason.CLAIMS_MALFORMED)
    verified = _read_claims(claims)
    if claims["iss"] != expected.issuer:  # 8
        raise TokenRejected(RejectionReason.ISSUER_WRONG)
    if claims["aud"] != expected.audience:  # 9
        raise TokenRejected(RejectionReason.AUDIENCE_WRONG)
    _check_times(claims, expected.leeway, now.timestamp())  # 10
    if verified.development:  # 11
        _check_development(verified, expected)
    _check_binding(verified, expected, demand.certificate)  # 12
    if demand.scopes:
        verified.require(*demand.scopes)  # 13
    if demand.applications is not None and verified.application not in demand.applications:  # 14
        raise ApplicationRejected
    return verified


def _read_claims(claims: dict[str, Any]) -> VerifiedToken:
    """Read rule 7's claims into a value. They are the issuer's, and nothing is compared yet."""
    actors = _actors(claims["act"]) if "act" in claims else ()
    if _seconds(claims, "exp") <= _seconds(claims, "iat"):
        raise _malformed("exp")
    if "nbf" in claims:
        _seconds(claims, "nbf")
    return VerifiedToken(  # by position, which takes half the time
        _text(claims, "iss"),
        _subject(claims, actors),
        _client_id(claims, actors),
        _audience(claims),
        _scopes(claims),
        _name(claims, "jti"),
        _name(claims, "application") if "application" in claims else None,
        _thumbprint(claims),
        _development(claims),
        MappingProxyType(claims),
        actors,
    )


def _check_times(claims: dict[str, Any], leeway: float, now: float) -> None:
    # RFC 7519 section 4.1.4: expired *on* or after exp; valid from nbf on.
    if now >= claims["exp"] + leeway:
        raise TokenRejected(RejectionReason.EXPIRED)
    if now < claims["iat"] - leeway or now < claims.get("nbf", 0) - leeway:
        raise TokenRejected(RejectionReason.NOT_YET_VALID)


def _check_development(verified: VerifiedToken, expected: Expectations) -> None:
    names = filter(None, map(_SPIFFE_ID.fullmatch, {verified.subject, verified.client_id}))
    # RFC 6761 section 6.2: nobody can own a name in .test.
    if not expected.insecure_dev or not all(name["trust_domain"].endswith(".test") for name in names):
        raise TokenRejected(RejectionReason.DEVELOPMENT_TOKEN)


def _check_binding(verified: VerifiedToken, expected: Expectations, certificate: bytes | None) -> None:
    if verified.certificate_thumbprint is None:
        if expected.require_binding:
            raise TokenRejected(RejectionReason.BINDING_REQUIRED)
        return
    if certificate is None:
        raise TokenRejected(RejectionReason.CERTIFICATE_MISSING)
    presented = base64url(sha256(certificate).digest())
    if not hmac.compare_digest(presented, verified.certificate_thumbprint.encode("ascii")):
        raise TokenRejected(RejectionReason.CERTIFICATE_WRONG)


def _thumbprint(claims: dict[str, Any]) -> str | None:
    """Return ``cnf.x5t#S256``. A confirmation that is not understood whole is refused, never skipped (RFC 7800)."""
    if "cnf" not in claims:
        return None
    match claims["cnf"]:
        case {"x5t#S256": str(thumbprint), **others} if not others and _THUMBPRINT.fullmatch(thumbprint):
            return thumbprint
    raise TokenRejected(RejectionReason.BINDING_UNKNOWN)


def _development(claims: dict[str, Any]) -> bool:
    if claims.get("dev", True) is not True:
        raise _malformed("dev")
    return "dev" in claims


def _scopes(claims: dict[str, Any]) -> tuple[str, ...]:
    return _split_scope(_text(claims, "scope")) if "scope" in claims else ()


@lru_cache(maxsize=256)  # an API sees few combinations, all of them written by the issuer; a refusal is not cached
def _split_scope(scope: str) -> tuple[str, ...]:
    scopes = tuple(scope.split(" "))
    if not _SCOPES.fullmatch(scope) or len(set(scopes)) != len(scopes):
        raise _malformed("scope")
    return scopes


def _audience(claims: dict[str, Any]) -> str:
    if isinstance(claims.get("aud"), list):
        raise TokenRejected(RejectionReason.AUDIENCE_WRONG)
    return _text(claims, "aud")


def _subject(claims: dict[str, Any], actors: tuple[Actor, ...]) -> str:
    """Return whom the caller acts as: a workload, or, where others act for it, whom an OpenID provider knows."""
    text = _text(claims, "sub")
    if _is_spiffe_id(text) or (actors and len(text) <= _MAX_ID_BYTES and _OF_PROVIDER.fullmatch(text)):
        return text
    raise _malformed("sub")


def _client_id(claims: dict[str, Any], actors: tuple[Actor, ...]) -> str:
    """Return who asked: the subject itself, or whom ``act`` lets act for it (RFC 8693 section 4.1)."""
    client_id = _spiffe_id(claims, "client_id")
    # RFC 9068 section 2.2, for client credentials; RFC 8693 section 4.1: the outermost is the current actor.
    if client_id == claims["sub"] or (actors and client_id == actors[0].subject):
        return client_id
    raise _malformed("client_id")


def _actors(act: object) -> tuple[Actor, ...]:
    """Return the chain of an ``act`` claim, the outermost first."""
    actors: list[Actor] = []
    while len(actors) < MAX_ACTORS:
        match act:
            case {"sub": str(subject), "iss": str(issuer), **others} if subject and issuer:
                actors.append(Actor(subject, issuer))
                if "act" not in others:
                    return tuple(actors)
                act = others["act"]
            case _:
                break
    raise _malformed("act")


def _spiffe_id(claims: dict[str, Any], claim: str) -> str:
    text = _text(claims, claim)
    if not _is_spiffe_id(text):
        raise _malformed(claim)
    return text


@lru_cache(maxsize=1024)  # callers come again; each name was written by the issuer
def _is_spiffe_id(text: str) -> bool:
    return len(text) <= _MAX_ID_BYTES and _SPIFFE_ID.fullmatch(text) is not None


def _name(claims: dict[str, Any], claim: str) -> str:
    text = _text(claims, claim)
    if not _NAME.fullmatch(text):
        raise _malformed(claim)
    return text


def _text(claims: dict[str, Any], claim: str) -> str:
    text = claims.get(claim)
    if not isinstance(text, str):
        raise _malformed(claim)
    return text


def _seconds(claims: dict[str, Any], claim: str) -> int:
    seconds = claims.get(claim)
    if type(seconds) is not int or not 0 < seconds <= _LAST_MOMENT:  # a bool is an int to isinstance
        raise _malformed(claim)
    return seconds


def _malformed(claim: str) -> TokenRejected:
    return TokenRejected(RejectionReason.CLAIMS_MALFORMED, claim)
