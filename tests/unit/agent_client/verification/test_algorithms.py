"""Signatures: only whole ones, of the one algorithm that a key is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from hypothesis import given
from hypothesis import strategies as st
from support.forging import P256_ORDER, Forge, fixed_forge, rsa_key

from agent_client.verification.algorithms import VerificationKey, _der_integer, es256_key, rs256_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

FORGE = fixed_forge()
SIGNED = b"header.payload"


def es256(forge: Forge = FORGE) -> VerificationKey:
    assert isinstance(forge.key, EllipticCurvePrivateKey)
    return es256_key("k", forge.key.public_key())


def rs256(key: RSAPrivateKey) -> VerificationKey:
    return rs256_key("k", key.public_key())


def test_verifies_its_own_signature_and_no_other() -> None:
    signature = FORGE.signature(SIGNED)
    assert es256().verifies(signature, SIGNED)
    assert not es256().verifies(signature, SIGNED + b"x")
    assert not es256(fixed_forge(2)).verifies(signature, SIGNED)


def test_takes_the_other_form_of_an_ecdsa_signature() -> None:
    """Documented: text identifies no token, ``jti`` does. JOSE has no low-s rule, nor keeps the issuer to one."""
    signature = FORGE.signature(SIGNED)
    mirrored = signature[:32] + (P256_ORDER - int.from_bytes(signature[32:])).to_bytes(32)
    assert es256().verifies(mirrored, SIGNED)


@pytest.mark.parametrize("half", [0, P256_ORDER, 2**256 - 1])
def test_refuses_halves_out_of_range(half: int) -> None:
    """Zeros made every message verify in Java (CVE-2022-21449)."""
    signature = FORGE.signature(SIGNED)
    assert not es256().verifies(half.to_bytes(32) + signature[32:], SIGNED)
    assert not es256().verifies(signature[:32] + half.to_bytes(32), SIGNED)
    assert not es256().verifies(half.to_bytes(32) * 2, SIGNED)


@given(st.integers(0, 2**256 - 1))
def test_writes_halves_as_the_library_does(half: int) -> None:
    written = _der_integer(half.to_bytes(32))
    assert encode_dss_signature(half, half)[2:] == written * 2


@given(st.binary(max_size=140))
def test_refuses_garbage_of_any_length(signature: bytes) -> None:
    assert not es256().verifies(signature, SIGNED)


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 96, 128])
def test_refuses_another_length(length: int) -> None:
    signature = FORGE.signature(SIGNED)
    assert not es256().verifies((signature * 2)[:length], SIGNED)
    assert not es256().verifies(b"\0" + signature, SIGNED)


def test_refuses_the_der_form() -> None:
    key = FORGE.key
    assert isinstance(key, EllipticCurvePrivateKey)
    assert not es256().verifies(key.sign(SIGNED, ECDSA(SHA256())), SIGNED)


def test_verifies_rsa_by_pkcs1_and_sha256_only() -> None:
    key = rsa_key()
    assert rs256(key).verifies(key.sign(SIGNED, PKCS1v15(), SHA256()), SIGNED)
    assert not rs256(key).verifies(key.sign(SIGNED, PKCS1v15(), SHA512()), SIGNED)
    assert not rs256(key).verifies(key.sign(SIGNED, PKCS1v15(), SHA1()), SIGNED)  # noqa: S303 - to be refused
    assert not rs256(key).verifies(key.sign(SIGNED, PSS(MGF1(SHA256()), 32), SHA256()), SIGNED)
    assert not rs256(key).verifies(b"\0" * 256, SIGNED)
    assert not rs256(key).verifies(b"\0" + key.sign(SIGNED, PKCS1v15(), SHA256()), SIGNED)
    assert not rs256(key).verifies(b"", SIGNED)


def test_keys_are_not_printed() -> None:
    assert repr(es256()) == "VerificationKey(key_id='k', algorithm='ES256')"
