"""TokenVerifier against real tokens of the issuer's own minting, its real key set, and real faults of its HTTP side."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually, eventually_true
from support.forging import Forge, as_json, claims_at, encoded, fixed_forge
from support.key_server import JWKS_PATH, METADATA_PATH, KeyServer, answer_json, answer_status, key_server
from support.minting import AUDIENCE, Decision
from support.published import Published, published_issuer

from agent_client.answers import KeySet
from agent_client.clock import utc_now
from agent_client.verification import (
    ApplicationRejected,
    InsufficientScope,
    IssuerKeys,
    KeysUnavailable,
    MetadataKeys,
    RejectionReason,
    TokenRejected,
    TokenVerifier,
)
from agent_client.verification import verifier as verifier_module
from issuer.core.claims import TokenProfile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent_client.sync import SyncIssuerClient

CERTIFICATE = b"DER of a certificate"


@pytest.fixture(scope="module", params=["", "/sts/eu"], ids=["root", "path"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published_issuer(request.param, tmp_path_factory.mktemp("issuer") / "signing.pem") as published:
        yield published


def unbound(published: Published) -> Decision:
    """A decision of this moment on an ordinary token, not of a development authority."""
    decision = replace(published.decision(), profile=TokenProfile(published.issuer))
    return decision.with_grant(bind_certificate=False).with_request(bind_certificate=False)


def reason_of(verifier: TokenVerifier, token: str, **arguments: Any) -> RejectionReason:
    with pytest.raises(TokenRejected) as refused:
        verifier.verify(token, **arguments)
    return refused.value.reason


# --- the issuer's own tokens


def test_takes_what_the_issuer_mints_and_reads_what_it_wrote(published: Published) -> None:
    decision = unbound(published)
    with TokenVerifier(published.issuer, AUDIENCE, scopes=["ledger.read"]) as verifier:
        token = verifier.verify(published.token(decision), scopes=["ledger.write"], applications=["payments"])
    assert (verifier.issuer, verifier.audience) == (published.issuer, AUDIENCE)
    assert token.claims == json.loads(decision.payload())
    assert (token.subject, token.client_id) == (str(decision.caller.spiffe_id),) * 2
    assert token.expires_at - token.issued_at == decision.grant.lifetime
    assert token.application == "payments"


async def test_takes_it_in_an_event_loop(published: Published) -> None:
    async with TokenVerifier(published.issuer, AUDIENCE) as verifier:
        token = published.token(unbound(published))
        tasks = [verifier.verify_async(token, scopes=["ledger.read"]) for _ in range(20)]
        assert {verified.token_id for verified in await asyncio.gather(*tasks)} == {"token-1"}
        with pytest.raises(InsufficientScope):
            await verifier.verify_async(token, scopes=["ledger.admin"])
        with pytest.raises(ApplicationRejected):
            await verifier.verify_async(token, applications=[])


def test_binds_to_the_certificate_that_the_issuer_saw(published: Published) -> None:
    bound = replace(published.decision(), profile=TokenProfile(published.issuer))
    bound = bound.with_caller(certificate_sha256=sha256(CERTIFICATE).digest())
    with TokenVerifier(published.issuer, AUDIENCE, require_binding=True) as verifier:
        token = published.token(bound)
        assert verifier.verify(token, certificate=CERTIFICATE).certificate_thumbprint
        assert reason_of(verifier, token) is RejectionReason.CERTIFICATE_MISSING
        assert reason_of(verifier, token, certificate=b"another") is RejectionReason.CERTIFICATE_WRONG
        assert reason_of(verifier, published.token(unbound(published))) is RejectionReason.BINDING_REQUIRED


def test_refuses_bad_tokens_of_the_issuer(published: Published, tmp_path: Path) -> None:
    with TokenVerifier(published.issuer, AUDIENCE) as verifier:
        assert reason_of(verifier, published.tampered_token()) is RejectionReason.SIGNATURE_WRONG
        assert reason_of(verifier, published.foreign_token(tmp_path / "other.pem")) is RejectionReason.KEY_UNKNOWN
        assert reason_of(verifier, published.expired_token()) is RejectionReason.EXPIRED
        assert reason_of(verifier, published.token()) is RejectionReason.DEVELOPMENT_TOKEN
    with TokenVerifier(published.issuer, "https://payroll.prod.example") as verifier:
        assert reason_of(verifier, published.token(unbound(published))) is RejectionReason.AUDIENCE_WRONG


def test_refuses_the_tokens_of_an_issuer_that_shares_the_keys(published: Published) -> None:
    with TokenVerifier(published.issuer, AUDIENCE) as verifier:
        decision = replace(unbound(published), profile=TokenProfile("https://other.example"))
        assert reason_of(verifier, published.token(decision)) is RejectionReason.ISSUER_WRONG


# --- configuration


@pytest.mark.parametrize(
    "arguments",
    [
        {"issuer": ""},
        {"audience": ""},
        {"issuer": "http://issuer.example"},
        {"leeway": timedelta(seconds=-1)},
        {"leeway": timedelta(seconds=61)},
        {"keys_max_stale": timedelta(seconds=0.9)},
        {"keys_max_stale": timedelta(days=1, seconds=1)},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["ES256", "HS256"]},
        {"algorithms": ["es256"]},
    ],
)
def test_refuses_arguments_out_of_bounds(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"issuer|audience|leeway|stale|algorithms"):
        TokenVerifier(**{"issuer": "https://issuer.example", "audience": AUDIENCE, **arguments})


@pytest.mark.parametrize("name", ["scopes", "algorithms"])
def test_refuses_one_text_where_a_list_is_meant(name: str) -> None:
    """A text is a collection of its characters, none of which is a scope."""
    arguments: dict[str, Any] = {name: "ledger.read"}
    with pytest.raises(TypeError, match=name):
        TokenVerifier("https://issuer.example", AUDIENCE, **arguments)


@pytest.mark.parametrize("name", ["scopes", "applications"])
def test_refuses_one_text_in_a_call_too(name: str) -> None:
    arguments: dict[str, Any] = {name: "payments"}
    with pytest.raises(TypeError, match=name):
        TokenVerifier("https://issuer.example", AUDIENCE).verify("", **arguments)


def test_warns_when_it_takes_development_tokens(caplog: pytest.LogCaptureFixture) -> None:
    TokenVerifier("https://issuer.example", AUDIENCE)
    assert not caplog.records
    TokenVerifier("https://issuer.example", AUDIENCE, insecure_dev=True)
    assert "attest nobody" in caplog.text


# --- a real HTTP server, counting


class Workshop:
    """A verifier, the server where it finds keys, and who signs."""

    def __init__(self, server: KeyServer, **arguments: Any) -> None:
        self.server = server
        self.forge = fixed_forge()
        server.serve(self.forge.jwks)
        keys = MetadataKeys(server.issuer, timeout=arguments.pop("timeout", 5.0))
        self.verifier = TokenVerifier(server.issuer, AUDIENCE, keys=keys, **arguments)

    def token(self, forge: Forge | None = None, **changes: object) -> str:
        now = int(utc_now().timestamp())
        return (forge or self.forge).sign(payload=claims_at(now, **{"iss": self.server.issuer, **changes}))


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    with key_server() as server:
        yield Workshop(server)


def test_fetches_nothing_before_it_is_needed_and_once_for_many_tokens(workshop: Workshop) -> None:
    assert workshop.server.requests == []
    for _ in range(50):
        workshop.verifier.verify(workshop.token())
    assert workshop.server.requests == [METADATA_PATH, JWKS_PATH]


def test_garbage_that_cannot_be_a_token_fetches_nothing(workshop: Workshop) -> None:
    for token in ("", "a.b.c", "x" * 100_000, workshop.forge.sign(workshop.forge.header(alg="none"))):
        with pytest.raises(TokenRejected):
            workshop.verifier.verify(token)
    assert workshop.server.requests == []


def test_a_flood_of_unknown_keys_makes_few_fetches(workshop: Workshop) -> None:
    workshop.verifier.warm_up()
    for number in range(500):
        garbage = workshop.forge.sign(workshop.forge.header(kid=f"garbage-{number}"))
        assert reason_of(workshop.verifier, garbage) is RejectionReason.KEY_UNKNOWN
    assert workshop.server.fetches <= 3


async def test_a_flood_in_an_event_loop_makes_few_fetches_and_holds_up_nobody(workshop: Workshop) -> None:
    await asyncio.to_thread(workshop.verifier.warm_up)
    workshop.server.answers[METADATA_PATH] = workshop.server.hang
    flood = [
        asyncio.create_task(
            workshop.verifier.verify_async(workshop.forge.sign(workshop.forge.header(kid=f"g{number}")))
        )
        for number in range(200)
    ]
    await eventually_true(lambda: workshop.server.requests.count(METADATA_PATH) == 2)
    began = time.monotonic()
    assert (await workshop.verifier.verify_async(workshop.token())).token_id == "token-1"
    assert time.monotonic() - began < 1
    workshop.server.released.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {TokenRejected, KeysUnavailable}
    assert workshop.server.requests.count(METADATA_PATH) <= 3


def test_a_new_key_is_taken_at_once_and_a_withdrawn_one_no_more(workshop: Workshop) -> None:
    old, new = workshop.forge, fixed_forge(2)
    workshop.verifier.verify(workshop.token())
    workshop.server.serve({"keys": [new.jwk]})
    assert workshop.verifier.verify(workshop.token(new)).token_id == "token-1"
    assert reason_of(workshop.verifier, workshop.token(old)) is RejectionReason.KEY_UNKNOWN


def test_garbage_beside_the_good_key_does_no_harm(workshop: Workshop) -> None:
    evil = Forge(fixed_forge(3).key, kid="evil")
    oct_key = {"kty": "oct", "kid": "oct", "use": "sig", "alg": "HS256", "k": "AAAA"}
    workshop.server.serve({"keys": [None, {}, oct_key, {**evil.jwk, "use": "enc"}, workshop.forge.jwk]})
    assert workshop.verifier.verify(workshop.token()).token_id == "token-1"
    assert reason_of(workshop.verifier, workshop.token(evil)) is RejectionReason.KEY_UNKNOWN
    hs256 = workshop.forge.sign({"alg": "HS256", "kid": "oct", "typ": "at+jwt"})
    assert reason_of(workshop.verifier, hs256) is RejectionReason.ALGORITHM_NOT_ALLOWED


def test_an_issuer_that_goes_away_is_not_missed_until_its_keys_are_too_old() -> None:
    with key_server() as server:
        workshop = Workshop(server, keys_max_stale=timedelta(seconds=1.5))
        workshop.verifier.warm_up()
        warm = time.monotonic()
    taken, refused = 0, 0
    while time.monotonic() < warm + 1.3:
        taken += workshop.verifier.verify(workshop.token()).token_id == "token-1"
    assert taken > 100
    eventually(lambda: not _taken(workshop), within=5)
    for _ in range(20):
        with pytest.raises(KeysUnavailable, match="refused"):
            workshop.verifier.verify(workshop.token())
        refused += 1
    assert refused == 20


def _taken(workshop: Workshop) -> bool:
    with suppress(KeysUnavailable):
        return bool(workshop.verifier.verify(workshop.token()))
    return False


def test_an_issuer_that_comes_back_is_found() -> None:
    with key_server() as server:
        workshop = Workshop(server)
        server.answers[METADATA_PATH] = answer_status(503)
        with pytest.raises(KeysUnavailable, match="answered 503"):
            workshop.verifier.verify(workshop.token())
        server.serve(workshop.forge.jwks)
        assert eventually(lambda: _taken(workshop), within=5)
        assert server.requests.count(METADATA_PATH) == 2


@pytest.mark.parametrize("misdeed", ["hang", "drip"])
def test_a_hung_issuer_delays_no_longer_than_the_deadline(misdeed: str) -> None:
    with key_server() as server:
        workshop = Workshop(server, timeout=0.3)
        server.answers[JWKS_PATH] = getattr(server, misdeed)
        began = time.monotonic()
        with pytest.raises(KeysUnavailable, match="time"):
            workshop.verifier.verify(workshop.token())
        with pytest.raises(KeysUnavailable):  # at once, for the next fetch has to wait
            workshop.verifier.verify(workshop.token())
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("fault", ["redirect", "oversize", "another issuer"])
def test_keys_that_cannot_be_trusted_are_no_keys(workshop: Workshop, fault: str) -> None:
    server = workshop.server
    match fault:
        case "redirect":
            server.answers[JWKS_PATH] = answer_status(302, Location=f"{server.issuer}/evil")
        case "oversize":
            server.answers[JWKS_PATH] = answer_json({**workshop.forge.jwks, "padding": "x" * 300_000})
        case _:
            named = {"issuer": "https://issuer.prod.example", "jwks_uri": server.issuer + JWKS_PATH}
            server.answers[METADATA_PATH] = answer_json(named)
    with pytest.raises(KeysUnavailable):
        workshop.verifier.verify(workshop.token())


def test_closing_leaves_no_thread_and_verifies_nothing_more(workshop: Workshop) -> None:
    with workshop.verifier as verifier:
        verifier.verify(workshop.token())
    with pytest.raises(KeysUnavailable, match="closed"):
        verifier.verify(workshop.token())
    eventually(lambda: "issuer-keys" not in {thread.name for thread in threading.enumerate()})


# --- what is remembered


def test_remembers_only_headers_that_the_issuer_signed(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, forge = workshop.verifier, workshop.forge
    signature = forge.sign().rpartition(".")[2]
    for number in range(200):
        spaced = as_json(forge.header())[:-1] + b" " * number + b"}"
        with pytest.raises(TokenRejected):
            verifier.verify(f"{encoded(spaced)}.{encoded(b'{}')}.{signature}")
    assert verifier._headers == {}
    monkeypatch.setattr(verifier_module, "MAX_KNOWN_HEADERS", 2)
    now = int(utc_now().timestamp())
    good = claims_at(now, iss=workshop.server.issuer)
    for spaces in (b"", b" ", b"  ", b"   "):
        header = as_json(forge.header())[:-1] + spaces + b"}"
        assert verifier.verify(forge.sign(header, good)).token_id == "token-1"
    assert len(verifier._headers) == 2


def test_a_remembered_header_does_not_vouch_for_the_next_token(workshop: Workshop) -> None:
    good = workshop.token()
    workshop.verifier.verify(good)
    header, _, signature = good.split(".")
    forged = f"{header}.{encoded(as_json(claims_at(1)))}.{signature}"
    assert reason_of(workshop.verifier, forged) is RejectionReason.SIGNATURE_WRONG


# --- keys from the issuer's RPC


class Client:
    """As much of the issuer's client as is asked for keys."""

    def __init__(self, jwks: dict[str, Any]) -> None:
        self.jwks = jwks
        self.timeouts: list[float | None] = []

    def get_key_set(self, *, timeout: float | None = None) -> KeySet:
        self.timeouts.append(timeout)
        if not self.jwks:
            raise RuntimeError("this client was closed")
        return KeySet(self.jwks, timedelta(minutes=5))


def client_of(jwks: dict[str, Any]) -> SyncIssuerClient:
    client: Any = Client(jwks)
    issuer_client: SyncIssuerClient = client
    return issuer_client


def test_takes_keys_from_the_issuers_rpc() -> None:
    forge = fixed_forge()
    now = int(utc_now().timestamp())
    with TokenVerifier("https://issuer.prod.example", AUDIENCE, keys=IssuerKeys(client_of(forge.jwks))) as verifier:
        assert verifier.verify(forge.sign(payload=claims_at(now))).token_id == "token-1"


def test_a_client_that_was_closed_brings_no_keys() -> None:
    with (
        TokenVerifier("https://issuer.prod.example", AUDIENCE, keys=IssuerKeys(client_of({}))) as verifier,
        pytest.raises(KeysUnavailable, match="closed"),
    ):
        verifier.warm_up()
