"""Tokens of this issuer are read; everything else is none of them."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from issuer.core.base64url import base64url
from issuer.core.claims import Claims
from issuer.core.origin import Actor
from issuer.core.own_token import OwnTokens
from issuer.core.token import TOKEN_TYPE, compact_token, signing_input
from issuer.signing.es256 import Es256Signer

ISSUER = "https://issuer.example"
SIGNER = Es256Signer(ec.generate_private_key(ec.SECP256R1()))
OWN = OwnTokens(SIGNER.public_keys().jwks.decode(), ISSUER)
CLAIMS = Claims(
    issuer=ISSUER,
    subject="spiffe://prod.example/a",
    audience="https://a",
    expires_at=300,
    issued_at=100,
    not_before=95,
    token_id="jti-1",
    scopes=("read", "write"),
    application="payments",
    certificate_thumbprint="dGh1bWI",
    development=False,
)


def signed(payload: bytes, signer: Es256Signer = SIGNER, **header: str) -> str:
    to_sign = signing_input(
        header.get("alg", "ES256"), header.get("kid", signer.key_id), payload, header.get("typ", TOKEN_TYPE)
    )
    return compact_token(to_sign, signer.sign(to_sign)).reveal()


def with_header(header: object) -> str:
    to_sign = f"{base64url(json.dumps(header).encode())}.{base64url(CLAIMS.payload())}"
    return f"{to_sign}.{base64url(SIGNER.sign(to_sign.encode()))}"


def test_who_acts_for_whom_and_on_what_grounds_is_read() -> None:
    actors = (Actor("spiffe://prod.example/b", ISSUER), Actor("spiffe://prod.example/a", "https://other.example"))
    delegated = CLAIMS._replace(
        client="spiffe://prod.example/b", actors=actors, transaction="tx", grant_id="g", details='[{"type":"x"}]'
    )
    token = OWN.read(signed(delegated.payload()))
    assert token is not None
    assert (token.client_id, token.actors) == ("spiffe://prod.example/b", actors)
    assert (token.transaction, token.grant_id, json.loads(token.details)) == ("tx", "g", [{"type": "x"}])


def test_a_token_that_was_read_before_reads_the_same_and_one_that_is_none_stays_none() -> None:
    good = signed(CLAIMS.payload())
    assert OWN.read(good) is OWN.read(good)
    for text in (good + "x", good[:-2], good.replace(".", "?"), "\ud800"):
        assert OWN.read(text) is None
        assert OWN.read(text) is None


def test_what_we_issue_reads_as_it_was_issued() -> None:
    token = OWN.read(signed(CLAIMS.payload()))
    assert token is not None
    assert (token.key_id, token.issuer, token.subject, token.client_id) == (
        SIGNER.key_id, ISSUER, CLAIMS.subject, CLAIMS.subject,
    )  # fmt: skip
    assert (token.audience, token.scopes, token.token_id) == ("https://a", ("read", "write"), "jti-1")
    assert (token.issued_at, token.not_before, token.expires_at) == (100, 95, 300)
    assert (token.application, token.certificate_thumbprint) == ("payments", "dGh1bWI")
    plain = OWN.read(signed(CLAIMS._replace(application=None, certificate_thumbprint=None).payload()))
    assert plain is not None
    assert (plain.application, plain.certificate_thumbprint) == ("", "")


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "ledger-checkpoint+jwt"}, {"kid": "x"}])
def test_another_header_is_none_of_ours(header: dict[str, str]) -> None:
    assert OWN.read(signed(CLAIMS.payload(), **header)) is None  # type: ignore[arg-type] # none is the signer


def test_a_header_with_more_than_we_write_is_not_obeyed() -> None:
    ours = {"alg": "ES256", "kid": SIGNER.key_id, "typ": TOKEN_TYPE}
    assert OWN.read(with_header(ours)) is not None
    added: list[dict[str, object]] = [{"jku": "https://evil"}, {"crit": ["b64"]}, {"jwk": {}}]
    for more in added:
        assert OWN.read(with_header(ours | more)) is None
    assert OWN.read(with_header([])) is None
    assert OWN.read(with_header(ours | {"kid": []})) is None


def test_another_key_under_our_key_id_and_another_issuer_with_our_key_are_refused() -> None:
    other = Es256Signer(ec.generate_private_key(ec.SECP256R1()))
    assert OWN.read(signed(CLAIMS.payload(), other, kid=SIGNER.key_id)) is None
    assert OWN.read(signed(CLAIMS._replace(issuer="https://other").payload())) is None


def test_a_signature_of_another_length_is_refused() -> None:
    head, _, signature = signed(CLAIMS.payload()).rpartition(".")
    assert OWN.read(f"{head}.{signature[:-4]}") is None
    assert OWN.read(f"{head}.") is None


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"null", b"[" * 100_000])
def test_what_we_would_never_sign_is_refused_though_it_is_signed(payload: bytes) -> None:
    assert OWN.read(signed(payload)) is None


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,20}(\.[A-Za-z0-9_-]{0,20}){2}"))
def test_any_other_text_is_refused(text: str) -> None:
    assert OWN.read(text) is None


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_any_changed_character_is_noticed(place: int, character: str) -> None:
    text = signed(CLAIMS.payload())
    place %= len(text)
    changed = text[:place] + character + text[place + 1 :]
    assert (OWN.read(changed) is None) is (changed != text)


ACTOR = {"sub": "spiffe://prod.example/b", "iss": "spiffe://prod.example"}


def with_act(act: object) -> str:
    return signed(CLAIMS.payload()[:-1] + b',"act":' + json.dumps(act).encode() + b"}")


def test_reads_a_chain_of_actors_the_current_one_first() -> None:
    inner = {"sub": "spiffe://prod.example/a", "iss": "spiffe://prod.example"}
    token = OWN.read(with_act({**ACTOR, "act": inner}))
    assert token is not None
    assert token.actors == (tuple(ACTOR.values()), tuple(inner.values()))


@pytest.mark.parametrize(
    "act",
    [
        None,
        "spiffe://prod.example/b",
        [ACTOR],
        {},
        7,
        {"sub": "a"},
        {**ACTOR, "role": "admin"},
        {**ACTOR, "sub": ["a"]},
        {**ACTOR, "iss": 7},
        {**ACTOR, "act": None},
        {**ACTOR, "act": "x"},
        {**ACTOR, "act": {**ACTOR, "act": {"sub": "a"}}},
    ],
)
def test_a_chain_that_we_do_not_write_makes_it_none_of_ours(act: object) -> None:
    assert OWN.read(with_act(act)) is None


def test_a_member_that_occurs_twice_makes_it_none_of_ours() -> None:
    twice = b'{"sub":"a","sub":"b","iss":"i"}'
    assert OWN.read(signed(CLAIMS.payload()[:-1] + b',"act":' + twice + b"}")) is None
    assert OWN.read(signed(CLAIMS.payload()[:-1] + b',"sub":"b"}')) is None


def test_a_delegated_token_tells_who_acts() -> None:
    actors = (Actor("spiffe://prod.example/b", "spiffe://prod.example"), Actor("agent", "https://idp.example"))
    claims = CLAIMS._replace(client="spiffe://prod.example/b", actors=actors, details='[{"type":"t"}]')
    token = OWN.read(signed(claims._replace(transaction="tx-1", grant_id="g-1").payload()))
    assert token is not None
    assert (token.subject, token.client_id, token.actors) == (CLAIMS.subject, "spiffe://prod.example/b", actors)
    assert (token.transaction, token.grant_id, json.loads(token.details)) == ("tx-1", "g-1", [{"type": "t"}])


def test_a_token_whose_key_is_taken_away_is_not_ours_though_it_was_read_before() -> None:
    tokens, text = OwnTokens(SIGNER.public_keys().jwks.decode(), ISSUER), signed(CLAIMS.payload())
    assert tokens.read(text) is not None
    other = Es256Signer(ec.generate_private_key(ec.SECP256R1())).public_keys().jwks.decode()
    tokens.use(other)
    assert tokens.read(text) is None
