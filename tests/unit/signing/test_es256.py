import copy
import pickle
from collections.abc import Callable
from typing import cast

import pytest
from cryptography.exceptions import InternalError
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.signing.es256 import Es256Signer

KEY = generate_private_key(SECP256R1())


class _ChosenOutcome:
    """A key whose signature, or fault, the test chooses."""

    def __init__(self, outcome: bytes | Exception) -> None:
        self._outcome = outcome

    def sign(self, *_: object) -> bytes:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def public_key(self) -> EllipticCurvePublicKey:
        return KEY.public_key()


def signer_with(outcome: bytes | Exception) -> Es256Signer:
    return Es256Signer(cast("EllipticCurvePrivateKey", _ChosenOutcome(outcome)))


@given(st.binary(max_size=4096))
def test_signature_verifies(data: bytes) -> None:
    signature = Es256Signer(KEY).sign(data)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    KEY.public_key().verify(encode_dss_signature(r, s), data, ECDSA(SHA256()))


def test_signature_is_always_64_octets() -> None:
    """One r or s in 256 starts with a zero octet, which DER drops and RFC 7518 section 3.4 keeps."""
    signer = Es256Signer(KEY)
    assert {len(signer.sign(bytes([number % 256, number // 256]))) for number in range(2000)} == {64}


@pytest.mark.parametrize(
    ("r", "s"), [(1, 2), (2**248 - 1, 2**256 - 1), (2**255, 1), (255, 256)], ids=["tiny", "short-r", "short-s", "octet"]
)
def test_der_becomes_r_and_s_exactly(r: int, s: int) -> None:
    signature = signer_with(encode_dss_signature(r, s)).sign(b"")
    assert signature == r.to_bytes(32) + s.to_bytes(32)


@pytest.mark.parametrize(
    "outcome", [InternalError("openssl", []), ValueError("bad"), b"\x30\x00", encode_dss_signature(2**256, 1)]
)
def test_a_fault_of_the_key_is_a_refusal_and_says_nothing_about_it(outcome: bytes | Exception) -> None:
    with pytest.raises(TemporarilyUnavailable, match=r"^the signing key cannot be used$") as refusal:
        signer_with(outcome).sign(b"")
    assert refusal.value.reason is Reason.SIGNER_UNAVAILABLE


def test_publishes_its_key_under_the_id_it_signs_with() -> None:
    signer = Es256Signer(KEY)
    (jwk,) = signer.public_keys().keys
    assert (jwk.key_id, jwk.algorithm) == (signer.key_id, signer.algorithm) == (signer.key_id, "ES256")


def test_refuses_another_curve() -> None:
    with pytest.raises(ValueError, match="P-256"):
        Es256Signer(generate_private_key(SECP384R1()))


def test_shows_its_key_id_and_nothing_of_its_key() -> None:
    scalar = 0x1234567890ABCDEF
    signer = Es256Signer(derive_private_key(scalar, SECP256R1()))
    assert repr(signer) == str(signer) == f"Es256Signer(kid={signer.key_id!r})"


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_is_not_pickled_or_copied(copied: Callable[[Es256Signer], object]) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        copied(Es256Signer(KEY))
