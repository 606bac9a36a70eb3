"""Tokens of any shape: what an attacker, another issuer or a defect could make."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from issuer.core.jwk import public_jwk
from support.minting import AUDIENCE, NOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

ISSUER = "https://issuer.prod.example"
SUBJECT = "spiffe://prod.example/ns/payments/sa/settler"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
OMIT = object()
"""The value of a claim or header member that is to be left out."""


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def as_json(value: object) -> bytes:
    """Return compact JSON; bytes stay as they are."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def without_omitted(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not to be left out."""
    return {name: value for name, value in members.items() if value is not OMIT}


def claims(**changes: object) -> dict[str, Any]:
    """Return the claims of a good token, changed."""
    return claims_at(NOW_SECONDS, **changes)


def claims_at(now: int, **changes: object) -> dict[str, Any]:
    """Return the claims of a good token that is issued now, changed."""
    good = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "client_id": SUBJECT,
        "aud": AUDIENCE,
        "exp": now + 90,
        "iat": now,
        "nbf": now - 5,
        "jti": "token-1",
        "scope": "ledger.read ledger.write",
    }
    return without_omitted({**good, **changes})


@cache
def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    """Return the RSA key of this size; it takes long to make."""
    return generate_rsa_key(65537, bits)


@dataclass(frozen=True)
class Forge:
    """Signs anything with one key.

    Attributes:
        key: P-256 or RSA.
        kid: What the header calls it; without it, its thumbprint.
    """

    key: EllipticCurvePrivateKey | RSAPrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    kid: str = ""

    @property
    def key_id(self) -> str:
        return self.kid or public_jwk(self.key.public_key()).key_id

    @property
    def algorithm(self) -> str:
        return public_jwk(self.key.public_key()).algorithm

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as a key set shows it."""
        return {**public_jwk(self.key.public_key()).as_dict(), "kid": self.key_id}

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk]}

    def header(self, **changes: object) -> dict[str, Any]:
        """Return the header of a good token, changed."""
        return without_omitted({"alg": self.algorithm, "kid": self.key_id, "typ": "at+jwt", **changes})

    def signature(self, signed: bytes) -> bytes:
        if isinstance(self.key, RSAPrivateKey):
            return self.key.sign(signed, PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self.key.sign(signed, ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def sign(
        self,
        header: dict[str, Any] | bytes | None = None,
        payload: dict[str, Any] | bytes | None = None,
        *,
        change: Callable[[str], str] = str,
    ) -> str:
        """Return a signed token; ``change`` is applied to the encoded payload before it is signed."""
        encoded_payload = change(encoded(as_json(claims() if payload is None else payload)))
        signed = f"{encoded(as_json(self.header() if header is None else header))}.{encoded_payload}"
        return f"{signed}.{encoded(self.signature(signed.encode()))}"

    def token(self, **changes: object) -> str:
        """Return a good token, with these claims changed."""
        return self.sign(payload=claims(**changes))


def fixed_forge(number: int = 1) -> Forge:
    """Return a forge whose key is always the same."""
    return Forge(derive_private_key(number, SECP256R1()))
