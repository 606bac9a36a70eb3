"""Attacks on what configured OIDC issuers say, against a real HTTP server of theirs."""

from __future__ import annotations

import hashlib
import hmac
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import joserfc.jwt
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, RSAKey
from support.forging import Forge, as_json, encoded, rsa_key
from support.https import write_certificate
from support.key_server import JWKS_PATH, OPENID_PATH, KeyServer, answer_json, answer_status, key_server
from support.oidc import AUDIENCE, OMIT, id_claims, id_token, serve_oidc, settings_of

from issuer.core.assertion import AssertionFault, AssertionRefused
from issuer.core.errors import Reason, TemporarilyUnavailable
from issuer.oidc.issuers import OidcIssuers, OidcNotConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from issuer.core.assertion import Assertion

FORGE = Forge()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as running:
        serve_oidc(running, [FORGE.jwk])
        yield running


async def verified(issuers: OidcIssuers, text: str) -> Assertion:
    return await issuers.verify(text, datetime.now(UTC))


async def fault_of(issuers: OidcIssuers, text: str) -> AssertionFault:
    with pytest.raises(AssertionRefused) as refused:
        await verified(issuers, text)
    assert text.rsplit(".", 1)[0] not in str(refused.value)
    return refused.value.fault


@pytest.fixture
def issuers(server: KeyServer) -> Iterator[OidcIssuers]:
    known = OidcIssuers([settings_of(server.issuer)])
    yield known
    known.close()


async def test_a_token_of_a_configured_issuer_counts(issuers: OidcIssuers, server: KeyServer) -> None:
    text = id_token(FORGE, server.issuer, nonce="n-1", acr="phr")
    found = await verified(issuers, text)
    assert (found.source, found.issuer, found.subject, found.nonce) == ("people", server.issuer, "00u1", "n-1")
    assert found.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert found.claims["acr"] == "phr"


@pytest.mark.parametrize("typ", ["JWT", "jwt", OMIT])
async def test_typ_may_be_jwt_or_absent(issuers: OidcIssuers, server: KeyServer, typ: object) -> None:
    assert await verified(issuers, id_token(FORGE, server.issuer, header={"typ": typ}))


async def test_keys_without_alg_and_use_are_used_as_their_kind_says(server: KeyServer, issuers: OidcIssuers) -> None:
    forge = Forge(rsa_key())
    serve_oidc(server, [{name: value for name, value in forge.jwk.items() if name not in {"alg", "use"}}])
    assert await verified(issuers, id_token(forge, server.issuer))


async def test_keys_are_fetched_once_for_many_tokens(issuers: OidcIssuers, server: KeyServer) -> None:
    for _ in range(5):
        await verified(issuers, id_token(FORGE, server.issuer))
    assert server.fetches == 1


async def test_nothing_is_fetched_for_a_token_that_cannot_count(issuers: OidcIssuers, server: KeyServer) -> None:
    await fault_of(issuers, id_token(FORGE, "https://elsewhere.example"))
    await fault_of(issuers, id_token(FORGE, server.issuer, aud="other"))
    await fault_of(issuers, id_token(FORGE, server.issuer, header={"alg": "none"}))
    assert server.requests == []


async def test_alg_none_is_refused(issuers: OidcIssuers, server: KeyServer) -> None:
    unsigned = f"{encoded(as_json({'alg': 'none', 'kid': FORGE.key_id}))}.{encoded(as_json(id_claims(server.issuer)))}."
    assert await fault_of(issuers, unsigned) is AssertionFault.MALFORMED
    for alg in ("none", "None", "NONE", ""):
        text = id_token(FORGE, server.issuer, header={"alg": alg})
        assert await fault_of(issuers, text) is AssertionFault.ALGORITHM_NOT_ALLOWED


async def test_hs256_with_the_public_key_is_refused(issuers: OidcIssuers, server: KeyServer) -> None:
    header = encoded(as_json({"alg": "HS256", "kid": FORGE.key_id, "typ": "JWT"}))
    signed = f"{header}.{encoded(as_json(id_claims(server.issuer)))}"
    for secret in (as_json(FORGE.jwk), as_json(FORGE.jwks), FORGE.jwk["x"].encode()):
        mac = hmac.new(secret, signed.encode(), "sha256").digest()
        assert await fault_of(issuers, f"{signed}.{encoded(mac)}") is AssertionFault.ALGORITHM_NOT_ALLOWED


async def test_an_algorithm_that_is_not_allowed_is_refused_though_the_key_is_published(server: KeyServer) -> None:
    forge = Forge(rsa_key())
    serve_oidc(server, [FORGE.jwk, forge.jwk])
    only = OidcIssuers([settings_of(server.issuer, algorithms=frozenset({"ES256"}))])
    assert await verified(only, id_token(FORGE, server.issuer))
    assert await fault_of(only, id_token(forge, server.issuer)) is AssertionFault.ALGORITHM_NOT_ALLOWED
    # Nor is that key there under the other algorithm.
    assert await fault_of(only, id_token(forge, server.issuer, header={"alg": "ES256"})) is AssertionFault.KEY_UNKNOWN
    only.close()


async def test_an_algorithm_that_is_not_the_keys_own_is_refused(issuers: OidcIssuers, server: KeyServer) -> None:
    text = id_token(FORGE, server.issuer, header={"alg": "RS256"})
    assert await fault_of(issuers, text) is AssertionFault.ALGORITHM_NOT_ALLOWED


async def test_another_issuers_key_of_the_same_kid_proves_nothing(server: KeyServer) -> None:
    theirs = Forge(kid=FORGE.key_id)
    with key_server() as other:
        serve_oidc(other, [theirs.jwk])
        both = OidcIssuers([settings_of(server.issuer), settings_of(other.issuer, name="others")])
        assert (await verified(both, id_token(theirs, other.issuer))).source == "others"
        assert await fault_of(both, id_token(theirs, server.issuer)) is AssertionFault.SIGNATURE_INVALID
        both.close()


async def test_two_audiences_of_one_issuer_are_kept_apart(server: KeyServer) -> None:
    both = OidcIssuers([settings_of(server.issuer), settings_of(server.issuer, name="pipelines", audience="ci")])
    assert (await verified(both, id_token(FORGE, server.issuer))).source == "people"
    assert (await verified(both, id_token(FORGE, server.issuer, aud=["ci"]))).source == "pipelines"
    assert await fault_of(both, id_token(FORGE, server.issuer, aud=["ci", AUDIENCE])) is AssertionFault.AUDIENCE_WRONG
    both.close()


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"iss": "https://login.elsewhere.example"}, AssertionFault.ISSUER_UNKNOWN),
        ({"iss": ["x"]}, AssertionFault.ISSUER_UNKNOWN),
        ({"aud": "another-client"}, AssertionFault.AUDIENCE_WRONG),
        ({"aud": [AUDIENCE, "another-client"]}, AssertionFault.AUDIENCE_WRONG),
        ({"exp": 1_700_000_000, "iat": 1_699_999_000, "auth_time": 1_699_999_000}, AssertionFault.EXPIRED),
        ({"iat": 4_000_000_000, "exp": 4_000_000_300}, AssertionFault.NOT_YET_VALID),
        ({"auth_time": 4_000_000_000}, AssertionFault.NOT_YET_VALID),
        ({"sub": OMIT}, AssertionFault.CLAIM_INVALID),
        ({"events": {}}, AssertionFault.TYPE_WRONG),
    ],
)
async def test_claims_that_do_not_count(
    issuers: OidcIssuers, server: KeyServer, claims: dict[str, Any], fault: AssertionFault
) -> None:
    assert await fault_of(issuers, id_token(FORGE, server.issuer, **claims)) is fault


@pytest.mark.parametrize("member", ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc"])
async def test_a_header_that_brings_a_key_or_a_wish_is_refused(
    issuers: OidcIssuers, server: KeyServer, member: str
) -> None:
    attack = FORGE.jwk if member == "jwk" else "https://attacker.example/keys"
    text = id_token(Forge(kid="mine"), server.issuer, header={member: attack})
    assert await fault_of(issuers, text) is AssertionFault.HEADER_NOT_ALLOWED
    assert server.requests == []


@pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt"])
async def test_another_kind_of_token_is_refused(issuers: OidcIssuers, server: KeyServer, typ: str) -> None:
    assert await fault_of(issuers, id_token(FORGE, server.issuer, header={"typ": typ})) is AssertionFault.TYPE_WRONG


async def test_duplicate_members_are_refused(issuers: OidcIssuers, server: KeyServer) -> None:
    claims = as_json(id_claims(server.issuer))
    doubled = claims[:-1] + b',"sub":"00u2"}'
    assert await fault_of(issuers, FORGE.sign(FORGE.header(typ="JWT"), doubled)) is AssertionFault.MALFORMED
    header = as_json(FORGE.header(typ="JWT"))
    assert await fault_of(issuers, FORGE.sign(header[:-1] + b',"alg":"none"}', claims)) is AssertionFault.MALFORMED


async def test_a_huge_token_is_refused_unread(issuers: OidcIssuers, server: KeyServer) -> None:
    text = id_token(FORGE, server.issuer, groups=["x" * 100] * 200)
    assert await fault_of(issuers, text) is AssertionFault.TOO_LARGE


@pytest.mark.parametrize("change", ["{}.", ".{}", "{}=", " {}", "{}\n", "{}.x", "é{}"])
async def test_another_spelling_is_refused(issuers: OidcIssuers, server: KeyServer, change: str) -> None:
    assert await fault_of(issuers, change.format(id_token(FORGE, server.issuer))) is AssertionFault.MALFORMED


@pytest.mark.parametrize("header", [{"kid": OMIT}, {"kid": 7}, {"kid": "a b"}, {"alg": OMIT}, {"typ": 1}])
async def test_a_header_without_its_members_is_refused(
    issuers: OidcIssuers, server: KeyServer, header: dict[str, Any]
) -> None:
    assert await fault_of(issuers, id_token(FORGE, server.issuer, header=header)) is AssertionFault.MALFORMED


async def test_a_changed_claim_breaks_the_signature(issuers: OidcIssuers, server: KeyServer) -> None:
    header, _, signature = id_token(FORGE, server.issuer).split(".")
    changed = encoded(as_json(id_claims(server.issuer, sub="00u2")))
    assert await fault_of(issuers, f"{header}.{changed}.{signature}") is AssertionFault.SIGNATURE_INVALID


async def test_unknown_kids_cost_one_fetch(issuers: OidcIssuers, server: KeyServer) -> None:
    await verified(issuers, id_token(FORGE, server.issuer))
    for number in range(20):
        text = id_token(Forge(kid=f"garbage-{number}"), server.issuer)
        assert await fault_of(issuers, text) is AssertionFault.KEY_UNKNOWN
    assert server.fetches == 2


async def test_keys_outlive_an_issuer_that_is_away_and_without_them_nothing_is_said() -> None:
    with key_server() as server:
        serve_oidc(server, [FORGE.jwk])
        known, other = (OidcIssuers([settings_of(server.issuer)]) for _ in range(2))
        text = id_token(FORGE, server.issuer)
        await verified(known, text)
    assert await verified(known, text)
    with pytest.raises(TemporarilyUnavailable) as unavailable:
        await verified(other, text)
    assert unavailable.value.reason is Reason.OIDC_ISSUER_UNAVAILABLE
    assert server.issuer not in unavailable.value.message
    known.close()
    other.close()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://login.elsewhere.example"},
        {"jwks_uri": OMIT},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": "http://localhost:1/keys"},
        {"jwks_uri": "https://attacker.example/keys"},
    ],
)
async def test_metadata_cannot_send_us_elsewhere(
    issuers: OidcIssuers, server: KeyServer, metadata: dict[str, Any]
) -> None:
    serve_oidc(server, [FORGE.jwk], **metadata)
    with pytest.raises(TemporarilyUnavailable):
        await verified(issuers, id_token(FORGE, server.issuer))
    assert server.requests == [OPENID_PATH]


async def test_no_redirect_is_followed(issuers: OidcIssuers, server: KeyServer) -> None:
    with key_server() as attacker:
        serve_oidc(attacker, [FORGE.jwk])
        server.answers[JWKS_PATH] = answer_status(302, Location=attacker.issuer + JWKS_PATH)
        with pytest.raises(TemporarilyUnavailable):
            await verified(issuers, id_token(FORGE, server.issuer))
        assert attacker.requests == []


@pytest.mark.parametrize(
    "jwks", [{"keys": {}}, {"no": "keys"}, {"keys": ["x", 7, {}]}, {"keys": [{"kty": ["EC"], "alg": 7}]}]
)
async def test_a_key_set_that_is_none_is_no_answer(
    issuers: OidcIssuers, server: KeyServer, jwks: dict[str, Any]
) -> None:
    server.answers[JWKS_PATH] = answer_json(jwks)
    with pytest.raises(TemporarilyUnavailable):
        await verified(issuers, id_token(FORGE, server.issuer))


async def test_a_hanging_issuer_holds_a_caller_for_its_timeout_only(server: KeyServer) -> None:
    server.answers[OPENID_PATH] = server.hang
    impatient = OidcIssuers([settings_of(server.issuer, timeout=timedelta(milliseconds=200))])
    with pytest.raises(TemporarilyUnavailable):
        await verified(impatient, id_token(FORGE, server.issuer))
    impatient.close()


async def test_a_jwks_uri_of_the_configuration_needs_no_metadata(server: KeyServer) -> None:
    server.answers.pop(OPENID_PATH)
    gateway = OidcIssuers([settings_of("https://gateway.example", jwks_uri=server.issuer + JWKS_PATH)])
    assert (await verified(gateway, id_token(FORGE, "https://gateway.example"))).issuer == "https://gateway.example"
    gateway.close()


def test_a_file_of_authorities_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("", encoding="utf-8")
    for name in ("empty.pem", "none.pem"):
        with pytest.raises(OidcNotConfigured, match="people: ca_file: cannot be used"):
            OidcIssuers([settings_of("https://login.example", ca_file=tmp_path / name)])


async def test_https_is_spoken_with_the_authorities_that_are_configured(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    with key_server(tls) as server:
        serve_oidc(server, [FORGE.jwk])
        trusting = OidcIssuers([settings_of(server.issuer, ca_file=certificate)])
        doubting = OidcIssuers([settings_of(server.issuer)])
        assert await verified(trusting, id_token(FORGE, server.issuer))
        with pytest.raises(TemporarilyUnavailable):
            await verified(doubting, id_token(FORGE, server.issuer))
        trusting.close()
        doubting.close()


@pytest.mark.parametrize("forge", [FORGE, Forge(rsa_key())], ids=["ES256", "RS256"])
async def test_tokens_that_other_libraries_made_count(server: KeyServer, issuers: OidcIssuers, forge: Forge) -> None:
    serve_oidc(server, [forge.jwk])
    claims = id_claims(server.issuer, nonce="n-1")
    pem = forge.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    by_pyjwt = jwt.encode(claims, pem.decode(), algorithm=forge.algorithm, headers={"kid": forge.key_id})
    key: Any = (RSAKey if forge.algorithm == "RS256" else ECKey).import_key(pem)
    by_joserfc = joserfc.jwt.encode({"alg": forge.algorithm, "kid": forge.key_id}, claims, key)
    for text in (by_pyjwt, by_joserfc):
        assert (await verified(issuers, text)).nonce == "n-1"
