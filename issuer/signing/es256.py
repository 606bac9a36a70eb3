"""ES256 (RFC 7518 section 3.4) with a private key in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Never

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.core.jwk import PublicKeySet, public_jwk

SignAll = Callable[[Sequence[bytes]], Sequence[bytes]]
"""Signs each: ``r || s``, 64 octets. Raises what its library raises; then for all."""
Library = Callable[[EllipticCurvePrivateKey], SignAll]
"""Takes a P-256 key to sign by."""

_HALF = 32
"""Octets of each of r and s on P-256, leading zeros included (RFC 7518 section 3.4)."""
_ECDSA_SHA256 = ECDSA(SHA256())


def signing_by_cryptography(private_key: EllipticCurvePrivateKey) -> SignAll:
    """Return what signs by a P-256 key, one after the other: ``cryptography`` keeps Python's lock meanwhile."""

    def signed(signing_input: bytes) -> bytes:
        r, s = decode_dss_signature(private_key.sign(signing_input, _ECDSA_SHA256))
        return r.to_bytes(_HALF) + s.to_bytes(_HALF)

    return lambda signing_inputs: [signed(each) for each in signing_inputs]


class Es256Signer:
    """Implements :class:`issuer.ports.Signer`. It prints as its ``kid`` and is never pickled.

    Args:
        private_key: A P-256 key.
        library: What signs by it.

    Raises:
        ValueError: The key is on another curve.
    """

    algorithm = "ES256"

    def __init__(self, private_key: EllipticCurvePrivateKey, library: Library = signing_by_cryptography) -> None:
        self.public_key = public_jwk(private_key.public_key())
        self.key_id = self.public_key.key_id
        self._public_keys = PublicKeySet((self.public_key,))
        self.__sign_all = library(private_key)

    def sign(self, signing_input: bytes) -> bytes:
        """Return ``r || s``, 64 octets.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, when the library cannot use the key.
        """
        return self.sign_all([signing_input])[0]

    def sign_all(self, signing_inputs: Sequence[bytes]) -> Sequence[bytes]:
        """Return that for each.

        Raises:
            TemporarilyUnavailable: SIGNER_UNAVAILABLE, as above; then there is no signature at all.
        """
        try:
            return self.__sign_all(signing_inputs)
        except (InternalError, UnsupportedAlgorithm, ValueError, OverflowError, RuntimeError) as error:
            raise TemporarilyUnavailable(Reason.SIGNER_UNAVAILABLE, "the signing key cannot be used") from error

    def active(self) -> Es256Signer:
        """Return itself: it is one key, which does not change."""
        return self

    def public_keys(self) -> PublicKeySet:
        """Return the key's public half, as the only key of its set."""
        return self._public_keys

    def known_keys(self) -> PublicKeySet:
        """Return the same: there was no key before."""
        return self._public_keys

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kid={self.key_id!r})"

    def __reduce__(self) -> Never:
        """Refuse to be pickled or copied: the private key stays where it was loaded."""
        raise TypeError("a signer is not pickled: its private key does not leave the process")
