"""Keys of others: those that can be used verify what they signed, and nothing else; the rest is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP384R1,
    SECP521R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from support.forging import Forge, encoded, fixed_forge, rsa_key

from issuer.core.foreign_keys import MAX_KEYS, MAX_SET_BYTES, foreign_keys

P256 = fixed_forge(7)
RSA = Forge(rsa_key())
USES = frozenset({"sig"})


def keys_of(*jwks: Any) -> dict[str, Any]:
    return foreign_keys(json.dumps({"keys": jwks}).encode(), USES)


def p384_jwk(key: EllipticCurvePrivateKey, crv: str = "P-384") -> dict[str, str]:
    point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    x, y = encoded(point.x.to_bytes(size)), encoded(point.y.to_bytes(size))
    return {"kid": "p384", "kty": "EC", "crv": crv, "x": x, "y": y}


@pytest.mark.parametrize("forge", [P256, RSA])
def test_verifies_what_its_key_signed(forge: Forge) -> None:
    key = keys_of(forge.jwk)[forge.key_id]
    assert key.algorithm == forge.algorithm
    assert key.verifies(forge.signature(b"signed"), b"signed")
    assert not key.verifies(forge.signature(b"signed"), b"other")
    assert not key.verifies(b"", b"signed")
    assert not key.verifies(forge.signature(b"signed") + b"\0", b"signed")


def test_verifies_p384_as_spire_can_be_told_to_sign() -> None:
    private = generate_private_key(SECP384R1())
    key = keys_of(p384_jwk(private))["p384"]
    r, s = decode_dss_signature(private.sign(b"signed", ECDSA(SHA384())))
    assert key.algorithm == "ES384"
    assert key.verifies(r.to_bytes(48) + s.to_bytes(48), b"signed")


def test_a_key_may_leave_out_its_use_and_algorithm_as_spire_does() -> None:
    bare = {name: value for name, value in P256.jwk.items() if name not in {"use", "alg"}}
    assert keys_of(bare).keys() == {P256.key_id}


@pytest.mark.parametrize(
    "change",
    [
        {"kid": ""},
        {"kid": 7},
        {"kty": "oct"},
        {"kty": ["EC"]},
        {"crv": "P-521"},
        {"crv": "P-384"},
        {"x": "AA"},
        {"x": "not base64url!"},
        {"x": 7},
        {"y": encoded(bytes(32))},
        {"d": "AA"},
        {"k": "AA"},
        {"use": "enc"},
        {"use": ["sig"]},
        {"alg": "RS256"},
        {"alg": "none"},
    ],
)
def test_leaves_out_a_key_that_cannot_be_used_and_no_other(change: dict[str, Any]) -> None:
    assert keys_of({**P256.jwk, "kid": "it", **change}, RSA.jwk).keys() == {RSA.key_id}


@pytest.mark.parametrize("jwk", [None, "key", 7, [], {}, {"kty": "EC"}, {"kid": "a"}])
def test_leaves_out_what_is_no_key(jwk: Any) -> None:
    assert keys_of(jwk, P256.jwk).keys() == {P256.key_id}


def test_leaves_out_rsa_keys_that_are_weak_or_slow() -> None:
    assert keys_of({**RSA.jwk, "n": encoded(((1 << 2047) - 1).to_bytes(256))}) == {}
    assert keys_of({**RSA.jwk, "n": encoded(((1 << 8193) - 1).to_bytes(1025))}) == {}
    assert keys_of({**RSA.jwk, "e": encoded(bytes([1, 0, 0, 0, 1]))}) == {}


def test_uses_none_of_the_keys_with_one_kid() -> None:
    other = {**fixed_forge(8).jwk, "kid": P256.key_id}
    assert keys_of(P256.jwk, other, RSA.jwk).keys() == {RSA.key_id}
    assert keys_of(P256.jwk, other, other).keys() == set()


def test_a_curve_that_is_not_used_is_no_key() -> None:
    assert keys_of(p384_jwk(generate_private_key(SECP521R1()), "P-521")) == {}


@pytest.mark.parametrize(
    "jwks",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[],"keys":[]}',
        json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
        json.dumps({"keys": [], "padding": "x" * MAX_SET_BYTES}).encode(),
    ],
)
def test_refuses_what_is_no_set_or_larger_than_anybodys(jwks: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|JWK Set"):
        foreign_keys(jwks, USES)
