"""Whatever we take, PyJWT and joserfc take too, and read the same: nobody is stricter, and nobody reads otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from support.forging import ISSUER, OMIT, P256_ORDER, Forge, as_json, claims_at, encoded, fixed_forge, rsa_key
from support.minting import AUDIENCE

from agent_client.clock import utc_now
from agent_client.verification.errors import TokenRejected
from agent_client.verification.key_set import read_key_set
from agent_client.verification.token_rules import Demand, Expectations, read_token, verified_token

FORGES = (fixed_forge(), Forge(rsa_key()))
JWKS = {"keys": [forge.jwk for forge in FORGES]}
KEYS = read_key_set(JWKS).keys
ALGORITHMS = ["ES256", "RS256"]
EXPECTED = Expectations(ISSUER, AUDIENCE, frozenset(ALGORITHMS), leeway=5)


def ours(token: str) -> dict[str, Any] | None:
    try:
        unverified = read_token(token, EXPECTED.algorithms, {})
        key = KEYS.get(unverified.header.key_id)
        return dict(verified_token(unverified, key, EXPECTED, Demand(), utc_now()).claims) if key else None
    except TokenRejected:
        return None


def with_pyjwt(token: str) -> dict[str, Any]:
    key = jwt.PyJWKSet.from_dict(JWKS)[jwt.get_unverified_header(token)["kid"]]
    options: Any = {"require": ["iss", "sub", "aud", "exp", "iat", "jti"], "strict_aud": True}
    read: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=ALGORITHMS,
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway=timedelta(seconds=5),
        options=options,
    )
    return read


def with_joserfc(token: str) -> dict[str, Any]:
    decoded = joserfc_jwt.decode(token, KeySet.import_key_set(JWKS), algorithms=ALGORITHMS)  # type: ignore[arg-type]
    rules = joserfc_jwt.JWTClaimsRegistry(
        leeway=5,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )
    rules.validate(decoded.claims)
    return dict(decoded.claims)


def now() -> int:
    return int(datetime.now(UTC).timestamp())


HERE: Any = st.sampled_from
TIMES = HERE([-3600, -60, 60, 3600]).map(lambda offset: now() + offset)
VALUES = TIMES | HERE(
    [
        OMIT,
        None,
        True,
        0,
        1,
        1.5,
        1e300,
        "",
        "x",
        [],
        {},
        ISSUER,
        [ISSUER],
        AUDIENCE,
        [AUDIENCE],
        [AUDIENCE, "x"],
        {"sub": "x"},
    ]
)
CLAIMS = st.dictionaries(
    HERE(["iss", "sub", "client_id", "aud", "exp", "iat", "nbf", "jti", "scope", "application", "act", "dev", "x"]),
    VALUES,
    max_size=2,
)
TYPES = ["JWT", "at+jwt", "AT+JWT", "application/at+jwt"]
KEY_IDS = [forge.key_id for forge in FORGES]
HEADERS = st.dictionaries(
    HERE(["alg", "kid", "typ", "crit", "b64", "jku", "x"]),
    HERE([OMIT, None, 1, "", "none", "ES256", "RS256", "HS256", False, ["exp"], *TYPES, *KEY_IDS]),
    max_size=2,
)


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Draw a good token that was changed: in its values before it was signed, or in its text afterwards."""
    forge = draw(HERE(FORGES))
    header = as_json(forge.header(**draw(HEADERS)))
    payload = as_json(claims_at(now(), **draw(CLAIMS)))
    if draw(st.booleans()):
        twice = draw(HERE([b',"aud":"x"}', b',"y":NaN}', b',"y":"\\ud800"}', b"}{}", b"} \n", b',"y":1e400}', b"}\0"]))
        payload = payload[:-1] + twice
    token: str = forge.sign(header, payload)
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(token)))
        gone = draw(st.integers(0, 1))
        token = token[:place] + draw(st.text(alphabet="A=. \n-_+/é", max_size=2)) + token[place + gone :]
    return token


@settings(max_examples=600)
@given(tokens())
def test_whatever_we_take_others_take_too_and_read_the_same(token: str) -> None:
    if (read := ours(token)) is not None:
        assert with_pyjwt(token) == read
        assert with_joserfc(token) == read


@pytest.mark.parametrize("forge", FORGES, ids=ALGORITHMS)
def test_all_three_take_a_good_token(forge: Forge) -> None:
    token = forge.sign(payload=claims_at(now(), custom={"a": [1, 2.5, None]}, name="é"))
    assert ours(token) == with_pyjwt(token) == with_joserfc(token) is not None


def test_all_three_take_the_other_form_of_an_ecdsa_signature() -> None:
    """Documented in algorithms.py: the text of a token identifies nothing."""
    signed = FORGES[0].sign(payload=claims_at(now())).rpartition(".")[0]
    signature = FORGES[0].signature(signed.encode())
    mirrored = signature[:32] + (P256_ORDER - int.from_bytes(signature[32:])).to_bytes(32)
    token = f"{signed}.{encoded(mirrored)}"
    assert ours(token) == with_pyjwt(token) == with_joserfc(token) is not None
