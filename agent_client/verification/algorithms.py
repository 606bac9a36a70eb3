"""The signature algorithms that are verified (RFC 7518 sections 3.3 and 3.4). Pure.

This is the only file that knows signatures. There is no symmetric algorithm and no ``none``, so there is nothing to
confuse a public key with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ALGORITHMS = frozenset({"ES256", "RS256"})
"""Every ``alg`` that can be verified, compared with regard to case (RFC 7515 section 4.1.1)."""
P256_BYTES = 32
"""A coordinate, and each half of a signature: always whole, leading zeros included (RFC 7518 sections 3.4, 6.2.1.2)."""

_SHA256 = SHA256()
_ECDSA = ECDSA(_SHA256)
_PKCS1 = PKCS1v15()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of the issuer.

    Attributes:
        key_id: Its ``kid``.
        algorithm: The one ``alg`` that it is for (RFC 8725 section 3.1).
    """

    key_id: str
    algorithm: str
    _verify: Callable[[bytes, bytes], None] = field(repr=False, compare=False)

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Return whether ``signature`` is this key's over ``signed``.

        ES256 has two signatures for each one that was made: ``(r, s)`` and ``(r, n - s)``. Both hold, as with every
        JOSE library, so the text of a token identifies nothing; its ``jti`` does.
        """
        try:
            self._verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


def es256_key(key_id: str, key: EllipticCurvePublicKey) -> VerificationKey:
    """Return a key for ES256. That it is of P-256 is for the caller to see to."""

    def verify(raw: bytes, signed: bytes) -> None:
        # RFC 7518 section 3.4: two halves of full size. OpenSSL refuses
        # halves of zero and beyond the group's order.
        if len(raw) != 2 * P256_BYTES:
            raise ValueError("an ES256 signature has 64 bytes")
        halves = _der_integer(raw[:P256_BYTES]) + _der_integer(raw[P256_BYTES:])
        key.verify(b"\x30%c%b" % (len(halves), halves), signed, _ECDSA)

    return VerificationKey(key_id, "ES256", verify)


def _der_integer(magnitude: bytes) -> bytes:
    """Return a number in DER (X.690 section 8.3): no zeros in front but for one that keeps it positive."""
    digits = magnitude.lstrip(b"\0") or b"\0"
    return b"\x02%c%b" % (len(digits), digits) if digits[0] < 0x80 else b"\x02%c\0%b" % (len(digits) + 1, digits)  # noqa: PLR2004 - the sign bit


def rs256_key(key_id: str, key: RSAPublicKey) -> VerificationKey:
    """Return a key for RS256. That it is large enough is for the caller to see to."""

    def verify(signature: bytes, signed: bytes) -> None:
        key.verify(signature, signed, _PKCS1, _SHA256)

    return VerificationKey(key_id, "RS256", verify)
