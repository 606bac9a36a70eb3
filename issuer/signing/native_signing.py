"""Signatures by the native wheel: a list at once, on all cores, and without the interpreter's lock (ADR 25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.native_wheel import SigningKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from issuer.signing.es256 import SignAll


def signing_by_native_wheel(private_key: EllipticCurvePrivateKey) -> SignAll:
    """Return what signs by a P-256 key: an :data:`~issuer.signing.es256.Library`."""
    return SigningKey(private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).sign
