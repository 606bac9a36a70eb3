"""JWT-SVIDs: good ones are taken, and every way of making them wrong is refused, each by its own rule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.forging import OMIT, Forge, fixed_forge, rsa_key, without_omitted

from issuer.core.foreign_keys import ForeignKey, foreign_keys
from issuer.core.jwt_svid import MAX_BYTES, JwtSvid, NotTaken, verified_jwt_svid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from issuer.core.spiffe_id import TrustDomain

ISSUER = "https://issuer.prod.example"
NOW = 1_800_000_000
PROD, PARTNER, OURS = fixed_forge(11), fixed_forge(12), fixed_forge(13)
AUTHORITIES = {"prod.example": PROD, "partner.example": PARTNER}


def authorities(trust_domain: TrustDomain) -> Mapping[str, ForeignKey] | None:
    forge = AUTHORITIES.get(trust_domain.name)
    return None if forge is None else foreign_keys(json.dumps(forge.jwks).encode(), frozenset({"sig"}))


def svid(forge: Forge = PROD, header: dict[str, Any] | None = None, **changes: object) -> str:
    good = {"sub": "spiffe://prod.example/ns/batch/sa/nightly", "aud": [ISSUER], "exp": NOW + 300, "iat": NOW}
    claims = without_omitted({**good, **changes})
    return forge.sign(forge.header(**{"typ": "JWT", **(header or {})}), claims)


def taken(text: str, now: float = NOW) -> JwtSvid:
    return verified_jwt_svid(text, authorities, ISSUER, now)


def refusal(text: str, now: float = NOW) -> str:
    with pytest.raises(NotTaken) as refused:
        taken(text, now)
    return str(refused.value)


def test_takes_what_spire_makes() -> None:
    good = taken(svid())
    assert str(good.spiffe_id) == "spiffe://prod.example/ns/batch/sa/nightly"
    assert good.expires_at == NOW + 300
    assert good.claims["iat"] == NOW


@pytest.mark.parametrize("header", [{"typ": OMIT}, {"typ": "JOSE"}])
def test_takes_every_header_that_the_standard_has(header: dict[str, Any]) -> None:
    assert taken(svid(header=header))


def test_takes_one_audience_as_a_text() -> None:
    assert taken(svid(aud=ISSUER))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "at+jwt"},
        {"typ": "statuslist+jwt"},
        {"typ": "wit+jwt"},
        {"typ": ["JWT"]},
        {"kid": OMIT},
        {"kid": 7},
        {"alg": OMIT},
        {"crit": ["b64"]},
        {"jku": "https://evil.example/keys"},
        {"jwk": {}},
        {"x5c": []},
    ],
)
def test_refuses_the_header_of_anything_else(header: dict[str, Any]) -> None:
    assert refusal(svid(header=header)) == "has the header of something else"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "{}.{}.x",
        "ä.b.c",
        f"{PROD.sign(PROD.header(typ='JWT'), b'[]')}",
        f"{PROD.sign(PROD.header(typ='JWT'), b'{}')}=",
        "x" * (MAX_BYTES + 1),
        PROD.sign(PROD.header(typ="JWT"), b'{"sub":"spiffe://prod.example/a","sub":"spiffe://prod.example/b"}'),
    ],
)
def test_refuses_what_is_no_strict_token(text: str) -> None:
    assert refusal(text).startswith("is ")


@pytest.mark.parametrize(
    "sub", [OMIT, "", 7, "spiffe://prod.example", "https://prod.example/a", "spiffe://PROD.example/a"]
)
def test_refuses_a_subject_that_is_no_workload(sub: object) -> None:
    assert refusal(svid(sub=sub)) == "does not name a workload"


def test_refuses_a_trust_domain_that_is_not_heard() -> None:
    assert refusal(svid(sub="spiffe://evil.example/a")) == "its trust domain is not heard"


@pytest.mark.parametrize(
    ("forge", "header"),
    [
        (PARTNER, {}),  # one trust domain speaks for another
        (PARTNER, {"kid": PROD.key_id}),  # with the other's key id
        (OURS, {"kid": PROD.key_id}),
        (PROD, {"alg": "none"}),
        (PROD, {"alg": "HS256"}),
        (PROD, {"alg": "RS256"}),
        (PROD, {"kid": "unknown"}),
        (Forge(rsa_key(), kid=PROD.key_id), {"alg": "ES256"}),
    ],
)
def test_refuses_a_signature_of_anybody_but_its_trust_domain(forge: Forge, header: dict[str, Any]) -> None:
    assert refusal(svid(forge, header)) == "is not signed by an authority of its trust domain"


def test_refuses_a_changed_token() -> None:
    head, _, signature = svid().split(".")
    assert "not signed" in refusal(".".join([head, svid(sub="spiffe://prod.example/admin").split(".")[1], signature]))


@pytest.mark.parametrize(
    "aud",
    [
        OMIT,
        "",
        [],
        "https://ledger.prod.example",
        ["https://ledger.prod.example"],
        [ISSUER, "https://ledger.prod.example"],
        [ISSUER, ISSUER],
        f"{ISSUER}/token",
        f"{ISSUER}/",
        {"aud": ISSUER},
    ],
)
def test_refuses_one_that_is_not_for_this_issuer_alone(aud: object) -> None:
    assert refusal(svid(aud=aud)) == "is not for this issuer alone"


def test_has_expired_at_its_last_second() -> None:
    assert taken(svid(exp=NOW + 1))
    assert refusal(svid(exp=NOW)) == "has expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_is_not_valid_before_its_time_give_or_take_the_clock(claim: str) -> None:
    soon, too_far = {claim: NOW + 5}, {claim: NOW + 6}
    assert taken(svid(PROD, None, **soon))
    assert refusal(svid(PROD, None, **too_far)) == "is not valid yet"


@pytest.mark.parametrize("value", [OMIT, "1800000300", True, 1.8e9, -1, 10**15])
def test_refuses_an_end_that_is_none(value: object) -> None:
    assert refusal(svid(exp=value)) == "has a time that is none"


def test_a_refusal_has_nothing_of_the_token() -> None:
    text = svid(exp=NOW)
    assert text.split(".")[1] not in refusal(text)
