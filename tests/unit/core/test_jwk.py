import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey, RSAKey

from issuer.core.jwk import PublicJwk, PublicKeySet, public_jwk, thumbprint

RFC7638_RSA = {  # section 3.1
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
    "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6q"
    "MQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"
    "nqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC8037_OKP = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}  # appendix A.3
RFC9449_EC = {  # section 5, the key of the proof in figure 2
    "kty": "EC",
    "crv": "P-256",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
}


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (RFC7638_RSA, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (RFC8037_OKP, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        (RFC9449_EC, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"),  # section 6.1, its jkt
    ],
    ids=["rfc7638-rsa", "rfc8037-okp", "rfc9449-ec"],
)
def test_thumbprint_is_that_of_the_rfc(jwk: dict[str, str], expected: str) -> None:
    assert thumbprint(jwk) == expected


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "AA"}, {"kty": "EC", "crv": "P-256", "x": "AA"}])
def test_thumbprint_refuses_what_is_not_a_whole_public_key(jwk: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not a JWK"):
        thumbprint(jwk)


def p256(scalar: int) -> ec.EllipticCurvePublicKey:
    return ec.derive_private_key(scalar, ec.SECP256R1()).public_key()


@pytest.mark.parametrize(("scalar", "coordinate"), [(379, "x"), (43, "y")])
def test_coordinate_with_a_leading_zero_byte_keeps_it(scalar: int, coordinate: str) -> None:
    """RFC 7518 section 6.2.1.2. One key in 128 has such a coordinate, and four verifiers refuse 31 bytes."""
    value = base64.urlsafe_b64decode(public_jwk(p256(scalar)).members[coordinate] + "=")
    assert len(value) == 32
    assert value[0] == 0


@pytest.mark.parametrize("scalar", [1, 43, 379])
def test_another_library_reads_the_same_key_out_of_an_ec_jwk(scalar: int) -> None:
    jwk = public_jwk(p256(scalar))
    read = ECKey.import_key({**jwk.as_dict()})
    assert read.public_key.public_numbers() == p256(scalar).public_numbers()
    assert read.thumbprint() == jwk.key_id


def test_another_library_reads_the_same_key_out_of_an_rsa_jwk() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    jwk = public_jwk(key)
    read = RSAKey.import_key({**jwk.as_dict()})
    assert jwk.algorithm == "RS256"
    assert read.public_key.public_numbers() == key.public_numbers()
    assert read.thumbprint() == jwk.key_id


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ec.generate_private_key(ec.SECP256K1()).public_key(),
        rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(),  # noqa: S505 - to be refused
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ],
    ids=["p384", "secp256k1", "rsa1024", "ed25519"],
)
def test_refuses_a_key_that_no_algorithm_of_ours_uses(key: ec.EllipticCurvePublicKey) -> None:
    with pytest.raises(ValueError, match="P-256 or RSA"):
        public_jwk(key)


def test_key_set_shows_each_key_with_its_use_and_algorithm() -> None:
    first, second = public_jwk(p256(1)), public_jwk(p256(2))
    keys = json.loads(PublicKeySet((first, second)).jwks)["keys"]
    assert [key["kid"] for key in keys] == [first.key_id, second.key_id]
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in keys)
    assert {(key["use"], key["alg"]) for key in keys} == {("sig", "ES256")}


def test_key_set_has_nothing_private() -> None:
    assert '"d"' not in PublicKeySet((public_jwk(p256(1)),)).jwks.decode()


@pytest.mark.parametrize("count", [0, 2])
def test_key_set_is_neither_empty_nor_names_a_key_twice(count: int) -> None:
    with pytest.raises(ValueError, match="at least one key"):
        PublicKeySet((public_jwk(p256(1)),) * count)


def test_key_id_cannot_be_chosen() -> None:
    with pytest.raises(TypeError):
        PublicJwk("ES256", RFC9449_EC, "chosen")  # type: ignore[call-arg]
