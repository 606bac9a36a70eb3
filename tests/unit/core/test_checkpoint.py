"""Signed statements of how far a ledger has come, and what is passed off as one."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from issuer.core.base64url import base64url, base64url_decoded
from issuer.core.checkpoint import (
    CheckpointInvalid,
    LedgerCheckpoint,
    checkpoint_to_sign,
    ledger_keys,
    verified_checkpoint,
)
from issuer.core.hash_chain import WriterHead
from issuer.signing.es256 import Es256Signer

SIGNER = Es256Signer(generate_private_key(SECP256R1()))
KEYS = ledger_keys(SIGNER.public_keys().jwks.decode())
CHECKPOINT = LedgerCheckpoint("https://issuer.example", "store", WriterHead("writer", 7, b"\1" * 32), 1_000)
SAID = {"iss": "i", "ledger": "s", "writer": "w", "position": 1, "hash": "00" * 32, "time": 1}


def signed(to_sign: bytes, signer: Es256Signer = SIGNER) -> str:
    return f"{to_sign.decode()}.{base64url(signer.sign(to_sign))}"


def statement(payload: object = None, **header: object) -> str:
    usual = {"alg": "ES256", "kid": SIGNER.key_id, "typ": "ledger-checkpoint+jwt"}
    kept = {name: value for name, value in (usual | header).items() if value is not None}
    parts = (json.dumps(part).encode() for part in (kept, SAID if payload is None else payload))
    return signed(".".join(base64url(part) for part in parts).encode())


def test_what_was_stated_is_read_back() -> None:
    to_sign = checkpoint_to_sign(CHECKPOINT, SIGNER.algorithm, SIGNER.key_id)
    assert verified_checkpoint(signed(to_sign), KEYS) == CHECKPOINT
    assert verified_checkpoint(statement(), KEYS).head.writer == "w"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a checkpoint"),
        ("a.b", "is not a checkpoint"),
        ("a.b.c.d", "is not a checkpoint"),
        ("é.b.c", "is not a checkpoint"),
        (statement() + "x" * 5000, "is not a checkpoint"),
        (statement(alg="none"), "is not a checkpoint"),
        (statement(alg="HS256"), "is not a checkpoint"),
        (statement(typ="at+jwt"), "is not a checkpoint"),
        (statement(typ=None), "is not a checkpoint"),
        (statement(crit=["x"]), "is not a checkpoint"),
        (statement(jwk={}), "is not a checkpoint"),
        (statement(kid="another"), "is signed by a key that is not known: 'another'"),
        (statement(kid=["a"]), "is not a checkpoint"),
        (statement([]), "is not a checkpoint"),
        (statement({}), "is not a checkpoint"),
        (
            statement({"iss": "i", "ledger": "s", "writer": "w", "position": 0, "hash": "00" * 32, "time": 1}),
            "is not a",
        ),
        (statement({"iss": "i", "ledger": "s", "writer": "w", "position": 1, "hash": "00", "time": 1}), "is not a"),
        (statement() + "=", "is not a checkpoint"),
        (statement()[:-6], "has a signature that does not fit"),
        (statement()[:-12] + "AAAAAAAAAAAA", "has a signature that does not fit"),
    ],
)
def test_what_is_no_statement_of_ours_does_not_count(text: str, message: str) -> None:
    with pytest.raises(CheckpointInvalid, match=message):
        verified_checkpoint(text, KEYS)


def test_another_signature_over_the_same_words_does_not_count() -> None:
    other = Es256Signer(generate_private_key(SECP256R1()))
    with pytest.raises(CheckpointInvalid, match="does not fit"):
        verified_checkpoint(signed(checkpoint_to_sign(CHECKPOINT, "ES256", SIGNER.key_id), other), KEYS)


def test_keys_of_other_kinds_are_left_out() -> None:
    listed = json.loads(SIGNER.public_keys().jwks)["keys"]
    assert ledger_keys(
        json.dumps({"keys": [{"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}, *listed]})
    ).keys() == {SIGNER.key_id}


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": 1}', '{"keys": [1]}', '{"keys": [{"crv": "P-256"}]}', "x"])
def test_what_is_no_key_set_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ledger_keys(text)


def test_a_point_that_is_not_on_the_curve_is_no_key() -> None:
    point = {"kid": "k", "crv": "P-256", "kty": "EC", "x": base64url(b"\1" * 32), "y": base64url(b"\2" * 32)}
    with pytest.raises(ValueError, match=r"."):
        ledger_keys(json.dumps({"keys": [point]}))


@pytest.mark.parametrize("text", ["A", "AA==", "AB", " AA", "AA\n", "A+", "é"])
def test_base64url_has_one_text_for_each_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        base64url_decoded(text)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xfe", b"\xfb\xff\xfe"])
def test_base64url_leads_back(data: bytes) -> None:
    assert base64url_decoded(base64url(data)) == data
