"""Public keys as JSON Web Keys (RFC 7517), their thumbprints (RFC 7638), and the set that verifiers fetch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from issuer.core.base64url import base64url

if TYPE_CHECKING:
    from collections.abc import Mapping

P256_COORDINATE_BYTES = 32
"""RFC 7518 section 6.2.1.2: a coordinate always has the full size of the field, leading zeros included."""
MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""

_REQUIRED_MEMBERS = {  # RFC 7638 section 3.2, RFC 8037 section 2
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}


@dataclass(frozen=True, slots=True)
class PublicJwk:
    """A public key that verifies tokens of one algorithm.

    Attributes:
        algorithm: The only JWS ``alg`` that this key is for (RFC 8725 section 3.1: one key, one algorithm).
        members: The members that RFC 7638 requires for its ``kty``, and no others.
        key_id: The RFC 7638 thumbprint, used as ``kid``.
    """

    algorithm: str
    members: Mapping[str, str]
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive the key's id from the key itself."""
        object.__setattr__(self, "key_id", thumbprint(self.members))

    def as_dict(self) -> dict[str, str]:
        """Return the JWK as a JWKS shows it."""
        return {**self.members, "kid": self.key_id, "use": "sig", "alg": self.algorithm}


@dataclass(frozen=True, slots=True)
class PublicKeySet:
    """Every key that a verifier should know, in the order in which it is published.

    Raises:
        ValueError: No key at all, or two with one ``kid`` (verifiers disagree on which of them counts).
    """

    keys: tuple[PublicJwk, ...]
    jwks: bytes = field(init=False, repr=False, compare=False)
    """The JWK Set (RFC 7517 section 5) as UTF-8 JSON."""

    def __post_init__(self) -> None:
        """Render the set once; it is served far more often than it changes."""
        key_ids = {key.key_id for key in self.keys}
        if not self.keys or len(key_ids) != len(self.keys):
            raise ValueError("a key set needs at least one key, and each key once")
        document = {"keys": [key.as_dict() for key in self.keys]}
        object.__setattr__(self, "jwks", json.dumps(document, separators=(",", ":")).encode())


def public_jwk(key: EllipticCurvePublicKey | RSAPublicKey) -> PublicJwk:
    """Return the JWK of a public key, for the one algorithm that we use keys of its kind for.

    Raises:
        ValueError: Neither a P-256 key (ES256) nor an RSA key of at least 2,048 bits (RS256).
    """
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return PublicJwk("RS256", _rsa_members(key))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return PublicJwk("ES256", _p256_members(key))
    raise ValueError(f"a signing key is P-256 or RSA of at least {MIN_RSA_BITS} bits")


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the RFC 7638 SHA-256 thumbprint of a JWK, base64url without padding.

    Members beyond those that its ``kty`` requires do not count. Their values are taken as they are, not checked.

    Raises:
        ValueError: The ``kty`` is not EC, OKP or RSA, or a required member is missing.
    """
    try:
        required = {name: jwk[name] for name in _REQUIRED_MEMBERS[jwk["kty"]]}
    except KeyError as missing:
        raise ValueError(f"not a JWK that can be named by its thumbprint: {missing}") from None
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return base64url(sha256(canonical.encode()).digest())


def _p256_members(key: EllipticCurvePublicKey) -> dict[str, str]:
    point = key.public_numbers()
    coordinates = {
        name: base64url(value.to_bytes(P256_COORDINATE_BYTES)) for name, value in (("x", point.x), ("y", point.y))
    }
    return {"kty": "EC", "crv": "P-256", **coordinates}


def _rsa_members(key: RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": _base64url_uint(numbers.n), "e": _base64url_uint(numbers.e)}


def _base64url_uint(value: int) -> str:
    """RFC 7518 section 2: big-endian, with the fewest octets that hold it."""
    return base64url(value.to_bytes((value.bit_length() + 7) // 8))
