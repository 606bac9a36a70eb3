"""The issuer's JWK Set (RFC 7517 section 5), read into keys by ``kid``. Pure.

A key that cannot be used costs only itself: sets hold keys for other purposes, and of kinds yet to come.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from agent_client.verification.algorithms import P256_BYTES, es256_key, rs256_key
from agent_client.verification.base64url import base64url_decoded
from agent_client.verification.compact import KEY_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from agent_client.verification.algorithms import VerificationKey

MAX_KEYS = 64
"""An issuer publishes next, active and retired keys: a handful."""
MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3."""
MAX_RSA_BITS = 8192
"""Verifying takes time with the square of it; nobody signs tokens with more."""
_MAX_EXPONENT_BYTES = 4
"""RSA's usual 65537 has three. A longer exponent makes verifying slow."""
_SECRETS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: a key that shows one is everybody's, or symmetric."""


class KeySetMalformed(ValueError):
    """It is no JWK Set, or larger than any issuer's."""


@dataclass(frozen=True, slots=True)
class KeySetReading:
    """What a JWK Set holds.

    Attributes:
        keys: The keys that can be used, by ``kid``.
        faults: Why each of the others cannot.
    """

    keys: Mapping[str, VerificationKey]
    faults: tuple[str, ...]


class _Unusable(ValueError):
    """This key is left out."""


def read_key_set(jwks: Mapping[str, Any]) -> KeySetReading:
    """Read a JWK Set.

    A key is used if it is public, says ``use: sig`` and its ``alg``, and is a key of that algorithm: P-256 for ES256,
    RSA of 2,048 to 8,192 bits for RS256. Where two have one ``kid`` neither is used, for verifiers would disagree on
    which of them counts.

    Raises:
        KeySetMalformed: There is no list of keys, or more than :data:`MAX_KEYS` of them.
    """
    entries = jwks.get("keys")
    if not isinstance(entries, list):
        raise KeySetMalformed("it is no JWK Set (RFC 7517 section 5)")
    if len(entries) > MAX_KEYS:
        raise KeySetMalformed(f"it has more than {MAX_KEYS} keys")
    times = Counter(_key_id(entry) for entry in entries)
    keys: dict[str, VerificationKey] = {}
    faults = []
    for position, entry in enumerate(entries):
        try:
            key = _verification_key(entry, times)
        except ValueError as error:
            faults.append(f"keys[{position}] {error if isinstance(error, _Unusable) else 'is no valid key'}")
        else:
            keys[key.key_id] = key
    return KeySetReading(keys, tuple(faults))


def _key_id(jwk: object) -> str | None:
    key_id = jwk.get("kid") if isinstance(jwk, dict) else None
    return key_id if isinstance(key_id, str) else None


def _verification_key(jwk: object, times: Counter[str | None]) -> VerificationKey:
    key_id = _key_id(jwk)
    if not isinstance(jwk, dict) or key_id is None or not KEY_ID.fullmatch(key_id):
        raise _Unusable("has no kid of 1 to 256 printable characters")
    if times[key_id] > 1:
        raise _Unusable("has the kid of another key")
    if not _SECRETS.isdisjoint(jwk):
        raise _Unusable("is not a public key: whoever sees it can sign")
    if jwk.get("use") != "sig" or not _may_verify(jwk.get("key_ops")):
        raise _Unusable("is not for signatures")
    match jwk.get("alg"), jwk.get("kty"):
        case "ES256", "EC":
            return es256_key(key_id, _p256(jwk))
        case "RS256", "RSA":
            return rs256_key(key_id, _rsa(jwk))
    raise _Unusable("is of no algorithm that is verified here")


def _may_verify(operations: object) -> bool:
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _p256(jwk: dict[str, Any]) -> EllipticCurvePublicKey:
    x, y = _octets(jwk, "x"), _octets(jwk, "y")
    if jwk.get("crv") != "P-256" or len(x) != P256_BYTES or len(y) != P256_BYTES:
        raise _Unusable("is no P-256 key")
    # Refuses a point that is not on the curve: invalid-curve attacks (RFC 8725 section 3.4).
    return EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()


def _rsa(jwk: dict[str, Any]) -> RSAPublicKey:
    n, e = _octets(jwk, "n"), _octets(jwk, "e")
    modulus = int.from_bytes(n)
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS or len(e) > _MAX_EXPONENT_BYTES:
        raise _Unusable(f"is no RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    return RSAPublicNumbers(int.from_bytes(e), modulus).public_key()


def _octets(jwk: dict[str, Any], member: str) -> bytes:
    text = jwk.get(member)
    octets = base64url_decoded(text.encode("ascii")) if isinstance(text, str) and text.isascii() else None
    if not octets:
        raise _Unusable(f"has no {member} in base64url")
    return octets
