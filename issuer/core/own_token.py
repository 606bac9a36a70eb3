"""Reads tokens that this issuer signed, strictly; of any other it only says that it is none."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from issuer.core.base64url import base64url_decoded
from issuer.core.checkpoint import ledger_keys
from issuer.core.origin import Actor
from issuer.core.remembered import Remembered
from issuer.core.strict_json import strict_object
from issuer.core.token import TOKEN_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_HALF: Final = 32
"""Octets of each of r and s on P-256 (RFC 7518 section 3.4)."""

REMEMBERED: Final = 10_000
"""Tokens whose signature need not be verified again: about 15 MB. Only who has a token of ours can put one there."""


class OwnToken(NamedTuple):
    """What a token of ours says. Times are Unix seconds; what is absent is empty."""

    key_id: str
    issuer: str
    subject: str
    client_id: str
    audience: str
    scopes: tuple[str, ...]
    token_id: str
    issued_at: int
    not_before: int
    expires_at: int
    application: str
    certificate_thumbprint: str
    actors: tuple[Actor, ...] = ()
    transaction: str = ""
    grant_id: str = ""
    details: str = ""


class OwnTokens:
    """The tokens of one issuer.

    Args:
        jwks: Its public keys, a JWK Set; those on P-256 count.
        issuer: Its ``iss``.

    Raises:
        ValueError: It is not a JWK Set.
    """

    def __init__(self, jwks: str, issuer: str) -> None:
        self._keys = ledger_keys(jwks)
        self._issuer = issuer
        self._read: Remembered[bytes, OwnToken] = Remembered(REMEMBERED)

    def use(self, jwks: str) -> None:
        """Take other keys from now on; tokens of keys that are not among them are not ours any more.

        Raises:
            ValueError: It is not a JWK Set.
        """
        self._keys = ledger_keys(jwks)

    def read(self, text: str) -> OwnToken | None:
        """Return what a token says; ``None`` when it was not signed by one of the keys, or is no access token.

        Not checked: that it is valid now, and everything that its claims mean. A token that was read before is known by
        its SHA-256; its text is not kept.
        """
        digest = sha256(text.encode("utf-8", "replace")).digest()
        if (known := self._read.get(digest)) is not None:
            return known if known.key_id in self._keys else None
        token = self._read_anew(text)
        if token is not None:
            self._read.put(digest, token)
        return token

    def _read_anew(self, text: str) -> OwnToken | None:
        try:
            header_text, payload_text, signature_text = text.split(".")
            header = json.loads(base64url_decoded(header_text))
            # Exactly these, as we write them (RFC 8725 sections 3.1 and 3.11): nothing that the header says is obeyed.
            if header.keys() != {"alg", "kid", "typ"} or header["alg"] != "ES256" or header["typ"] != TOKEN_TYPE:
                return None
            key = self._keys[header["kid"]]
            if not _fits(key, f"{header_text}.{payload_text}".encode("ascii"), base64url_decoded(signature_text)):
                return None
            return _token(header["kid"], strict_object(base64url_decoded(payload_text)), self._issuer)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _fits(key: EllipticCurvePublicKey, signed: bytes, signature: bytes) -> bool:
    if len(signature) != 2 * _HALF:
        return False
    try:
        key.verify(
            encode_dss_signature(int.from_bytes(signature[:_HALF]), int.from_bytes(signature[_HALF:])),
            signed,
            ECDSA(SHA256()),
        )
    except InvalidSignature:
        return False
    return True


def _token(key_id: str, claims: dict[str, Any], issuer: str) -> OwnToken | None:
    if claims["iss"] != issuer:  # another issuer that was given the same key
        return None
    return OwnToken(
        key_id=key_id,
        issuer=claims["iss"],
        subject=claims["sub"],
        client_id=claims["client_id"],
        audience=claims["aud"],
        scopes=tuple(claims["scope"].split(" ")),
        token_id=claims["jti"],
        issued_at=claims["iat"],
        not_before=claims["nbf"],
        expires_at=claims["exp"],
        application=claims.get("application", ""),
        certificate_thumbprint=claims.get("cnf", {}).get("x5t#S256", ""),
        actors=tuple(_actors(claims["act"])) if "act" in claims else (),
        transaction=claims.get("txn", ""),
        grant_id=claims.get("grant_id", ""),
        details=json.dumps(claims["authorization_details"]) if "authorization_details" in claims else "",
    )


def _actors(act: Any) -> Iterator[Actor]:  # noqa: ANN401 - what a JSON member holds
    """Yield a chain as we write it; of any other there is no telling what would be lost by going on without it."""
    while True:
        if not {"sub", "iss"} <= act.keys() <= {"sub", "iss", "act"}:
            raise ValueError("is no chain of ours")
        if not (isinstance(act["sub"], str) and isinstance(act["iss"], str)):
            raise TypeError("is no chain of ours")
        yield Actor(act["sub"], act["iss"])
        if "act" not in act:
            return
        act = act["act"]
