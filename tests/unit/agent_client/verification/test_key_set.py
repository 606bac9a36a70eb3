"""The issuer's key set: what can be used is, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from support.forging import OMIT, Forge, encoded, fixed_forge, rsa_key, without_omitted

from agent_client.verification.key_set import MAX_KEYS, KeySetMalformed, KeySetReading, read_key_set

FORGE = fixed_forge()
SIGNED = b"header.payload"


def alone(**changes: object) -> KeySetReading:
    """Read a set with one P-256 key, changed."""
    return read_key_set({"keys": [without_omitted({**FORGE.jwk, **changes})]})


def alone_rsa(**changes: object) -> KeySetReading:
    return read_key_set({"keys": [without_omitted({**Forge(rsa_key()).jwk, **changes})]})


def uint(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8))


def test_reads_keys_of_both_algorithms() -> None:
    rsa = Forge(rsa_key())
    reading = read_key_set({"keys": [FORGE.jwk, rsa.jwk]})
    assert reading.faults == ()
    for forge in (FORGE, rsa):
        key = reading.keys[forge.key_id]
        assert (key.key_id, key.algorithm) == (forge.key_id, forge.algorithm)
        assert key.verifies(forge.signature(SIGNED), SIGNED)


@pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"key": []}])
def test_refuses_what_is_no_key_set(jwks: dict[str, Any]) -> None:
    with pytest.raises(KeySetMalformed, match="no JWK Set"):
        read_key_set(jwks)


def test_reads_as_many_keys_as_are_allowed_and_no_more() -> None:
    keys = [Forge(FORGE.key, kid=f"k{number}").jwk for number in range(MAX_KEYS + 1)]
    assert len(read_key_set({"keys": keys[:MAX_KEYS]}).keys) == MAX_KEYS
    with pytest.raises(KeySetMalformed, match="more than 64"):
        read_key_set({"keys": keys})


def test_garbage_beside_a_good_key_costs_only_itself() -> None:
    garbage: list[Any] = [None, 1, "x", [], {}, {"kid": 1}, {"kid": "a"}, {"kid": "b", "kty": "EC", "use": "sig"}]
    reading = read_key_set({"keys": [*garbage, FORGE.jwk, *garbage[:2]]})
    assert list(reading.keys) == [FORGE.key_id]
    assert len(reading.faults) == len(garbage) + 2


def test_uses_neither_of_two_keys_with_one_name() -> None:
    """Another issuer's key smuggled in under a name that is used."""
    other = Forge(fixed_forge(2).key, kid=FORGE.key_id)
    for pair in (
        [FORGE.jwk, other.jwk],
        [other.jwk, FORGE.jwk],
        [FORGE.jwk, FORGE.jwk],
        [{"kid": FORGE.key_id}, FORGE.jwk],
    ):
        reading = read_key_set({"keys": [*pair, fixed_forge(3).jwk]})
        assert list(reading.keys) == [fixed_forge(3).key_id]
        assert any("the kid of another key" in fault for fault in reading.faults)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kid": OMIT}, "kid"),
        ({"kid": ""}, "kid"),
        ({"kid": 7}, "kid"),
        ({"kid": "k" * 257}, "kid"),
        ({"kid": "a b"}, "kid"),
        ({"use": OMIT}, "not for signatures"),
        ({"use": "enc"}, "not for signatures"),
        ({"use": ["sig"]}, "not for signatures"),
        ({"key_ops": ["sign"]}, "not for signatures"),
        ({"key_ops": "verify"}, "not for signatures"),
        ({"alg": OMIT}, "no algorithm"),
        ({"alg": "es256"}, "no algorithm"),
        ({"alg": "none"}, "no algorithm"),
        ({"alg": "HS256"}, "no algorithm"),
        ({"alg": "RS256"}, "no algorithm"),
        ({"alg": ["ES256"]}, "no algorithm"),
        ({"kty": "oct", "alg": "HS256", "k": "AAAA"}, "not a public key"),
        ({"kty": "oct"}, "no algorithm"),
        ({"kty": OMIT}, "no algorithm"),
        ({"crv": "P-384"}, "no P-256 key"),
        ({"crv": "secp256k1"}, "no P-256 key"),
        ({"crv": OMIT}, "no P-256 key"),
        ({"x": OMIT}, "no x"),
        ({"x": ""}, "no x"),
        ({"x": 1}, "no x"),
        ({"y": "é" * 43}, "no y"),
        ({"y": "!" * 43}, "no y"),
        ({"x": FORGE.jwk["x"] + "="}, "no x"),
        ({"x": encoded(b"\1" * 31)}, "no P-256 key"),  # a leading zero left out
        ({"y": encoded(b"\0" + b"\1" * 32)}, "no P-256 key"),
        ({"x": encoded(b"\0" * 32), "y": encoded(b"\0" * 32)}, "no valid key"),
        ({"x": FORGE.jwk["y"], "y": FORGE.jwk["x"]}, "no valid key"),  # not on the curve
        ({"x": encoded(b"\xff" * 32)}, "no valid key"),
        *(({secret: "AAAA"}, "not a public key") for secret in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")),
    ],
)
def test_leaves_out_a_key_that_is_not_for_us(changes: dict[str, object], fault: str) -> None:
    reading = alone(**changes)
    assert reading.keys == {}
    (told,) = reading.faults
    assert told.startswith("keys[0] ")
    assert fault in told


@pytest.mark.parametrize("changes", [{"key_ops": ["verify"]}, {"x5c": ["AAAA"], "x5t": "x"}, {"exp": 1}])
def test_minds_no_member_that_says_nothing_else(changes: dict[str, object]) -> None:
    assert list(alone(**changes).keys) == [FORGE.key_id]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"n": uint(rsa_key(1024).public_key().public_numbers().n)}, "2048 to 8192"),
        ({"n": uint(2**2047 - 1)}, "2048 to 8192"),
        ({"n": uint(2**8192 + 1)}, "2048 to 8192"),
        ({"e": uint(2**32 + 1)}, "2048 to 8192"),
        ({"e": uint(2)}, "no valid key"),
        ({"e": uint(1)}, "no valid key"),
        ({"e": OMIT}, "no e"),
        ({"n": OMIT}, "no n"),
        ({"alg": "PS256"}, "no algorithm"),
        ({"alg": "ES256"}, "no algorithm"),
    ],
)
def test_leaves_out_an_rsa_key_that_is_weak_or_slow(changes: dict[str, object], fault: str) -> None:
    reading = alone_rsa(**changes)
    assert reading.keys == {}
    assert fault in reading.faults[0]


def test_leaves_out_a_key_of_another_curve() -> None:
    point = generate_private_key(SECP384R1()).public_key().public_numbers()
    assert alone(crv="P-384", x=encoded(point.x.to_bytes(48)), y=encoded(point.y.to_bytes(48))).keys == {}
    assert alone(x=encoded(point.x.to_bytes(48)), y=encoded(point.y.to_bytes(48))).keys == {}
