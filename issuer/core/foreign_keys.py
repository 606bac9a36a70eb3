"""Public keys of others, from their JWK Sets (RFC 7517), and what they verify."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from issuer.core.base64url import base64url_decoded
from issuer.core.jwk import MIN_RSA_BITS
from issuer.core.strict_json import strict_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_KEYS: Final = 64
"""Who rotates keys has next, active and retired ones: a handful."""
MAX_SET_BYTES: Final = 256 * 1024
MAX_RSA_BITS: Final = 8192
"""Verifying takes time with the square of it; nobody signs tokens with more."""
_MAX_EXPONENT_BYTES: Final = 4
"""65537 has three. A longer exponent makes verifying slow."""
_SECRETS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: a key that shows one is everybody's."""
_CURVES: Final = {"P-256": ("ES256", SECP256R1(), SHA256(), 32), "P-384": ("ES384", SECP384R1(), SHA384(), 48)}


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A public key that verifies signatures of one algorithm (RFC 8725 section 3.1).

    Attributes:
        key_id: Its ``kid``.
        algorithm: ES256, ES384 or RS256.
    """

    key_id: str
    algorithm: str
    _key: EllipticCurvePublicKey | RSAPublicKey = field(repr=False, compare=False)

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Return whether ``signature`` is this key's over ``signed``."""
        try:
            if isinstance(self._key, RSAPublicKey):
                self._key.verify(signature, signed, PKCS1v15(), SHA256())
                return True
            _, _, digest, half = _CURVES[_NAMES[self._key.curve.name]]
            if len(signature) != 2 * half:  # RFC 7518 section 3.4
                return False
            numbers = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
            self._key.verify(encode_dss_signature(*numbers), signed, ECDSA(digest))
        except InvalidSignature:
            return False
        return True


_NAMES: Final = {curve.name: name for name, (_, curve, _, _) in _CURVES.items()}


def foreign_keys(jwks: bytes, uses: frozenset[str]) -> dict[str, ForeignKey]:
    """Return the keys of a JWK Set that can be used, by ``kid``.

    One that cannot costs only itself: sets hold keys for other purposes, and of kinds yet to come. Where two have one
    ``kid`` neither is used, for verifiers would disagree on which of them counts.

    Args:
        jwks: The set, UTF-8 JSON.
        uses: What ``use`` may say where a key has one.

    Raises:
        ValueError: It is no JWK Set, or larger than anybody's.
    """
    listed = strict_object(jwks).get("keys") if len(jwks) <= MAX_SET_BYTES else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError("is no JWK Set")
    keys: dict[str, ForeignKey] = {}
    taken: set[str] = set()
    for jwk in listed:
        key = _key(jwk, uses)
        if key is not None and key.key_id in taken:
            keys.pop(key.key_id, None)
        elif key is not None:
            keys[key.key_id] = key
            taken.add(key.key_id)
    return keys


def _key(jwk: Any, uses: frozenset[str]) -> ForeignKey | None:  # noqa: ANN401 - any JSON
    try:
        if not (isinstance(jwk["kid"], str) and jwk["kid"] and _SECRETS.isdisjoint(jwk)):
            return None
        algorithm, key = _READERS[jwk["kty"]](jwk)
        fits = jwk.get("alg", algorithm) == algorithm and ("use" not in jwk or jwk["use"] in uses)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return ForeignKey(jwk["kid"], algorithm, key) if fits else None


def _elliptic(jwk: Mapping[str, Any]) -> tuple[str, EllipticCurvePublicKey]:
    algorithm, curve, _, size = _CURVES[jwk["crv"]]
    x, y = base64url_decoded(jwk["x"]), base64url_decoded(jwk["y"])
    if (len(x), len(y)) != (size, size):  # RFC 7518 section 6.2.1.2
        raise ValueError("is no key of its curve")
    # Refuses a point that is not on the curve: invalid-curve attacks (RFC 8725 section 3.4).
    return algorithm, EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), curve).public_key()


def _rsa(jwk: Mapping[str, Any]) -> tuple[str, RSAPublicKey]:
    n, e = base64url_decoded(jwk["n"]), base64url_decoded(jwk["e"])
    modulus = int.from_bytes(n)
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or len(e) > _MAX_EXPONENT_BYTES:
        raise ValueError("is no RSA key of a usual size")
    return "RS256", RSAPublicNumbers(int.from_bytes(e), modulus).public_key()


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[str, EllipticCurvePublicKey | RSAPublicKey]]]] = {
    "EC": _elliptic,
    "RSA": _rsa,
}
