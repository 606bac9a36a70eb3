"""Signatures by the native wheel: right, in order, on all cores, and with the interpreter left to others meanwhile."""

from __future__ import annotations

import copy
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from issuer.signing.es256 import Es256Signer
from issuer.signing.key_file import KeyFileSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from issuer.signing.es256 import Library

pytestmark = pytest.mark.native
KEY = generate_private_key(SECP256R1())


def private_bytes(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def library() -> Library:
    from issuer.signing.native_signing import signing_by_native_wheel  # noqa: PLC0415 - in a wheel of its own

    return signing_by_native_wheel


@pytest.fixture
def signer(library: Library) -> Es256Signer:
    return Es256Signer(KEY, library)


def verify(signature: bytes, signed: bytes) -> None:
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    KEY.public_key().verify(der, signed, ECDSA(SHA256()))


def distinct(count: int) -> list[bytes]:
    return [number.to_bytes(4) + os.urandom(300) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 64, 1000])
def test_each_signature_is_over_its_own_input(signer: Es256Signer, count: int) -> None:
    inputs = distinct(count)
    signatures = signer.sign_all(inputs)
    assert len(signatures) == count
    for signature, signed in zip(signatures, inputs, strict=True):
        assert len(signature) == 64
        verify(signature, signed)


def test_the_same_input_is_never_signed_by_the_same_number(signer: Es256Signer) -> None:
    """Two signatures with one ``k`` give the private key away; each thread has to have its own."""
    signatures = [each for _ in range(8) for each in signer.sign_all([b"the same"] * 64)]
    assert len({signature[:32] for signature in signatures}) == len(signatures)


def test_several_threads_sign_by_one_key(signer: Es256Signer) -> None:
    def signed(inputs: Sequence[bytes]) -> None:
        for signature, each in zip(signer.sign_all(inputs), inputs, strict=True):
            verify(signature, each)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(signed, [distinct(100) for _ in range(16)]))


def test_others_run_while_many_are_signed(signer: Es256Signer) -> None:
    many, over, stamps = distinct(30_000), Event(), []

    def run() -> None:
        while not over.wait(0.001):
            stamps.append(time.perf_counter())

    other = Thread(target=run)
    other.start()
    try:
        begun = time.perf_counter()
        signer.sign_all(many)
        ended = time.perf_counter()
    finally:
        over.set()
        other.join()
    margin = (ended - begun) / 4
    assert any(begun + margin < stamp < ended - margin for stamp in stamps)


@pytest.mark.parametrize(
    "pkcs8",
    [
        b"",
        b"\x30\x00",
        private_bytes(generate_private_key(SECP384R1())),
        private_bytes(KEY)[:-1],
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "no-key", "p-384", "cut", "pem"],
)
def test_what_is_no_p_256_key_is_refused(pkcs8: bytes) -> None:
    from issuer.native_wheel import SigningKey  # noqa: PLC0415 - in a wheel of its own

    with pytest.raises(ValueError, match=r"^not a P-256 key in PKCS #8$"):
        SigningKey(pkcs8)


def test_the_key_of_a_file_signs(tmp_path: Path, library: Library) -> None:
    KeyFileSigner.open_or_create(tmp_path / "key.pem")
    signer = KeyFileSigner.open(tmp_path / "key.pem", library)
    assert signer.key_id == KeyFileSigner.open(tmp_path / "key.pem").key_id
    assert len(signer.sign(b"x")) == 64


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_not_pickled_copied_or_shown(copied: Callable[[object], object]) -> None:
    from issuer.native_wheel import SigningKey  # noqa: PLC0415 - in a wheel of its own

    key = SigningKey(private_bytes(KEY))
    assert repr(key).startswith("<issuer_transport.SigningKey object at ")
    with pytest.raises(TypeError):
        copied(key)
