"""The exchange of tokens of this issuer on a real server: chains of APIs, and every way of misusing them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.duration_pb2 import Duration
from support.deployment import DEADLINE, reason_of
from support.exchanging import (
    EXCHANGE,
    FRONT,
    ORDERS,
    ORDERS_API,
    PARTS_API,
    POLICY,
    STOCK,
    STOCK_API,
    STRANGER,
    Shop,
    claims_of,
    grant,
)
from support.forging import Forge, encoded

from issuer.core.base64url import base64url, base64url_decoded
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all who leave it as it is: to start one takes seconds."""
    with Shop(tmp_path_factory.mktemp("shop")) as deployment:
        yield deployment


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as deployment:
        yield deployment


def test_a_server_acts_for_its_caller_at_the_next_api(shop: Shop) -> None:
    front = shop.front_token("items.read", "items.write")
    answer = shop.exchange(front.token)
    claims = claims_of(answer.issued.token)
    assert answer.subject == claims["sub"] == FRONT
    assert (claims["client_id"], claims["aud"], claims["scope"]) == (ORDERS, STOCK_API, "items.read")
    assert claims["act"] == {"sub": ORDERS, "iss": "spiffe://dev.test"}
    assert claims["exp"] <= front.expire_time.seconds
    assert claims["jti"] != front.token_id
    assert shop.is_active(answer.issued.token)


def test_the_chain_grows_outward_and_its_history_is_copied_unchanged(shop: Shop) -> None:
    second = shop.exchange(shop.front_token().token).issued.token
    third = claims_of(shop.exchange(second, STOCK, PARTS_API).issued.token)
    assert (third["sub"], third["client_id"]) == (FRONT, STOCK)
    assert third["act"] == {"sub": STOCK, "iss": "spiffe://dev.test", "act": claims_of(second)["act"]}


def test_a_holder_narrows_its_own_token_and_the_chain_stays_as_it_is(shop: Shop) -> None:
    claims = claims_of(shop.exchange(shop.front_token().token, FRONT).issued.token)
    assert (claims["sub"], claims["client_id"], claims["aud"]) == (FRONT, FRONT, STOCK_API)
    assert "act" not in claims
    second = shop.exchange(shop.front_token().token).issued.token
    continued = claims_of(shop.exchange(second, ORDERS, PARTS_API).issued.token)
    assert continued["act"] == claims_of(second)["act"]
    assert (continued["client_id"], continued["aud"]) == (ORDERS, PARTS_API)


def test_only_asking_mints_nothing(shop: Shop) -> None:
    answer = shop.exchange(shop.front_token().token, validate_only=True)
    assert (answer.issued.token, answer.issued.token_id, answer.subject) == ("", "", FRONT)
    assert answer.issued.decision_id


# --- Never wider, never longer


def test_a_scope_that_the_subject_token_lacks_is_refused_though_policy_would_give_it(shop: Shop) -> None:
    token = shop.front_token("items.read").token
    assert shop.refusal(token, ORDERS, STOCK_API, "items.write") == "SCOPE_NOT_ALLOWED"
    assert shop.refusal(token, ORDERS, STOCK_API, "items.read", "items.audit") == "SCOPE_NOT_ALLOWED"
    partly = shop.exchange(token, ORDERS, STOCK_API, "items.read", "items.audit", allow_partial=True)
    assert (list(partly.issued.scopes), list(partly.issued.refused_scopes)) == (["items.read"], ["items.audit"])


def test_a_scope_that_the_actor_may_not_have_is_refused_though_the_subject_has_it(shop: Shop) -> None:
    second = shop.exchange(shop.front_token("items.write").token, ORDERS, STOCK_API, "items.write").issued.token
    assert shop.refusal(second, STOCK, PARTS_API, "items.write") == "SCOPE_NOT_ALLOWED"


def test_a_scope_lost_on_the_way_does_not_come_back(shop: Shop) -> None:
    both = shop.front_token("items.read", "items.write").token
    narrowed = shop.exchange(both, ORDERS, STOCK_API, "items.read").issued.token
    assert shop.refusal(narrowed, ORDERS, STOCK_API, "items.write") == "SCOPE_NOT_ALLOWED"


def test_the_token_ends_with_the_subject_token(shop: Shop) -> None:
    front = shop.front_token(ttl=Duration(seconds=30))
    claims = claims_of(shop.exchange(front.token, ttl=Duration(seconds=300)).issued.token)
    assert claims["exp"] <= front.expire_time.seconds
    short = shop.front_token(ttl=Duration(seconds=10))
    assert shop.refusal(short.token) == "ORIGIN_EXPIRES_SOON"


def test_policy_has_to_allow_the_exchange_by_name(shop: Shop) -> None:
    token = shop.front_token().token
    assert shop.refusal(token, ORDERS, ORDERS_API) == "AUDIENCE_NOT_ALLOWED"
    with shop.stub(shop.svid(ORDERS)) as stub, pytest.raises(grpc.RpcError) as refused:
        stub.IssueToken(pb.IssueTokenRequest(audience=STOCK_API, scopes=["items.read"]), timeout=DEADLINE)
    assert reason_of(refused.value) == "GRANT_TYPE_NOT_ALLOWED", "the actor has nothing of its own there"


# --- Who may exchange


def test_a_stranger_exchanges_nothing_and_learns_nothing(shop: Shop) -> None:
    """The confused deputy, and a stolen token: whom the token was not given to cannot trade it."""
    front = shop.front_token()
    assert shop.refusal(front.token, STRANGER) == "SUBJECT_TOKEN_NOT_YOURS"
    assert shop.refusal(front.token, STOCK, PARTS_API) == "SUBJECT_TOKEN_NOT_YOURS", "a server of another audience"
    shop.revoke(token_id=front.token_id)
    assert shop.refusal(front.token, STRANGER) == "SUBJECT_TOKEN_NOT_YOURS", "be it alive or not"


def test_a_server_of_an_audience_that_lost_its_place_exchanges_no_more(own_shop: Shop) -> None:
    token = own_shop.front_token().token
    own_shop.policy_file.write_text(
        POLICY.replace(f"servers: [{ORDERS!r}]", f"servers: [{STRANGER!r}]"), encoding="utf-8"
    )
    with own_shop.administer() as stub:
        stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE)
    assert own_shop.refusal(token) == "SUBJECT_TOKEN_NOT_YOURS"


def test_what_was_bound_is_bound_to_the_actor(shop: Shop) -> None:
    front = shop.front_token(proof_binding=pb.PROOF_BINDING_TLS_CERTIFICATE)
    actor = shop.svid(ORDERS)
    claims = claims_of(shop.exchange(front.token, actor).issued.token)
    fingerprint = actor.leaf.fingerprint(SHA256())
    assert claims["cnf"] == {"x5t#S256": base64url(fingerprint)}


def test_a_holder_of_a_bound_token_presents_its_certificate(shop: Shop) -> None:
    svid = shop.svid(FRONT)
    bound = shop.front_token(svid=svid, proof_binding=pb.PROOF_BINDING_TLS_CERTIFICATE).token
    assert shop.refusal(bound, shop.svid(FRONT)) == "SUBJECT_TOKEN_NOT_YOURS"
    assert "cnf" in claims_of(shop.exchange(bound, svid).issued.token)


# --- The chain


def test_nobody_comes_twice_in_a_chain(shop: Shop) -> None:
    second = shop.exchange(shop.front_token().token).issued.token
    third = shop.exchange(second, STOCK, ORDERS_API).issued.token
    assert shop.refusal(third, ORDERS, STOCK_API) == "ACTOR_CHAIN_ENDS", "orders, stock, and orders again"
    own = shop.exchange(shop.front_token().token, FRONT).issued.token
    assert shop.refusal(own, STOCK, ORDERS_API) == ""


def test_nobody_acts_through_others_for_itself(own_shop: Shop) -> None:
    policy = POLICY.replace(f"servers: [{STOCK!r}]", f"servers: [{STOCK!r}, {FRONT!r}]", 1)
    assert policy != POLICY
    own_shop.policy_file.write_text(policy, encoding="utf-8")
    with own_shop.administer() as stub:
        stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE)
    second = own_shop.exchange(own_shop.front_token().token).issued.token
    assert own_shop.refusal(second, FRONT, STOCK_API) == "ACTOR_CHAIN_ENDS"


def test_the_chain_has_as_many_actors_as_is_configured(tmp_path: Path) -> None:
    with Shop(tmp_path, exchange={"max_depth": 1}) as shop:
        second = shop.exchange(shop.front_token().token).issued.token
        assert shop.refusal(second, STOCK, PARTS_API) == "ACTOR_CHAIN_ENDS"


def test_a_chain_whose_text_is_too_long_is_refused_and_never_cut(tmp_path: Path) -> None:
    long = [f"spiffe://dev.test/{number}/" + "x" * 2000 for number in range(5)]
    apis = [f"https://{number}.dev.test" for number in range(6)]
    policy = "version: 1\naudiences:\n" + "".join(
        f"  - {{name: {api!r}, application: a, servers: [{server!r}], scopes: [{{name: s, risk: low}}]}}\n"
        for api, server in zip(apis, [*long, STRANGER], strict=True)
    )
    policy += "grants:\n" + grant("first", FRONT, apis[0], "[s]")
    policy += "".join(grant(f"g{at}", who, apis[at + 1], "[s]", **EXCHANGE) for at, who in enumerate(long))
    with Shop(tmp_path, policy) as shop:
        with shop.stub(shop.svid(FRONT)) as stub:
            token = stub.IssueToken(pb.IssueTokenRequest(audience=apis[0], scopes=["s"]), timeout=DEADLINE).token
        for at in range(3):
            token = shop.exchange(token, long[at], apis[at + 1], "s").issued.token
        assert shop.refusal(token, long[3], apis[4], "s") == "ACTOR_CHAIN_ENDS"


# --- What is no subject token


def test_what_is_no_living_access_token_of_ours_is_not_taken(shop: Shop) -> None:
    front = shop.front_token()
    head, payload, signature = front.token.split(".")
    other = Forge(kid=json.loads(base64url_decoded(head))["kid"])
    claims = claims_of(front.token)
    wrong = [
        "x",
        "a.b.c",
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[::-1]}",
        other.sign(other.header(), claims),
        other.sign(other.header(alg="none"), claims),
        f"{encoded(json.dumps({'alg': 'none', 'typ': 'at+jwt'}).encode())}.{payload}.",
    ]
    for text in wrong:
        assert shop.refusal(text) == "SUBJECT_TOKEN_NOT_TAKEN"
    assert shop.refusal(front.token, kind=pb.SUBJECT_TOKEN_TYPE_JWT_SVID) == "SUBJECT_TOKEN_NOT_TAKEN"
    assert shop.refusal(front.token, kind=pb.SUBJECT_TOKEN_TYPE_ID_TOKEN) == "SUBJECT_TOKEN_NOT_TAKEN"


@pytest.mark.parametrize(
    ("typ", "change"),
    [
        ("statuslist+jwt", {}),
        ("JWT", {}),
        ("ledger-checkpoint+jwt", {}),
        ("at+jwt", {"iss": "https://another.dev.test"}),
        ("at+jwt", {"exp": 1}),
        ("at+jwt", {"nbf": 4_000_000_000}),
        ("at+jwt", {"jti": "never-recorded"}),
        ("at+jwt", {"act": "spiffe://dev.test/x"}),
        ("at+jwt", {"act": [{"sub": "a", "iss": "b"}]}),
        ("at+jwt", {"act": {"sub": "a"}}),
        ("at+jwt", {"act": {"sub": "a", "iss": "b", "act": 7}}),
        ("at+jwt", {"act": {"sub": ["a"], "iss": "b"}}),
        ("at+jwt", {"act": {"sub": "a", "iss": "b", "role": "admin"}}),
    ],
)
def test_what_our_own_key_signed_otherwise_is_not_taken(shop: Shop, typ: str, change: dict[str, Any]) -> None:
    """By a defect, or by whoever holds the key: another kind of token, or what was never recorded."""
    pem = (shop.settings.folder / "keys" / "signing-key.pem").read_bytes()
    key = load_pem_private_key(pem, None)
    ours = Forge(key)  # type: ignore[arg-type] # P-256
    front = shop.front_token()
    text = ours.sign(ours.header(typ=typ), {**claims_of(front.token), **change})
    assert shop.refusal(text) == "SUBJECT_TOKEN_NOT_TAKEN"


@pytest.mark.parametrize(
    "fields",
    [
        {"subject_token": ""},
        {"subject_token": "x" * 16_385},
        {"subject_token_type": pb.SUBJECT_TOKEN_TYPE_UNSPECIFIED},
        {"subject_token_type": 99},
        {"request": pb.IssueTokenRequest()},
        {"request": pb.IssueTokenRequest(audience=STOCK_API, scopes=["items.read"], request_approval=True)},
    ],
)
def test_a_request_that_cannot_be_read_names_its_fields(shop: Shop, fields: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "subject_token": "a.b.c",
        "subject_token_type": pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN,
        "request": pb.IssueTokenRequest(audience=STOCK_API, scopes=["items.read"]),
    }
    with shop.stub(shop.svid(ORDERS)) as stub, pytest.raises(grpc.RpcError) as refused:
        stub.ExchangeToken(pb.ExchangeTokenRequest(**{**good, **fields}), timeout=DEADLINE)
    assert reason_of(refused.value) == "REQUEST_INVALID"
    assert next(iter(fields)) in str(refused.value.details())


# --- The record


def decisions(shop: Shop) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(shop.settings.folder / "ledger" / "ledger.sqlite3")) as database:
        rows = database.execute("SELECT reason, origin, token_id FROM decision ORDER BY seq").fetchall()
    return [{"reason": reason, "origin": origin, "token_id": token} for reason, origin, token in rows]


def test_every_exchange_is_recorded_with_what_it_rests_on_and_every_refusal_with_its_reason(shop: Shop) -> None:
    front = shop.front_token()
    second = shop.exchange(front.token)
    shop.refusal(front.token, STRANGER)
    *_, granted, refused = decisions(shop)
    assert granted["token_id"] == second.issued.token_id
    assert granted["origin"] is not None
    assert refused["token_id"] is None
    assert front.token not in str(decisions(shop))
    config = str(shop.settings.folder / "issuer.toml")
    command = ("decisions", "show", second.issued.token_id, "--output", "json", "--config", config)
    shown = subprocess.run(
        [sys.executable, "-m", "issuer", *command],
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(shown.stdout)
    assert (told["caller"], told["grant_type"]) == (ORDERS, "token_exchange")
    assert told["origin"]["subject"] == FRONT
    assert told["origin"]["actors"] == [[ORDERS, "spiffe://dev.test"]]
    assert [above["token_id"] for above in told["origin"]["ancestors"]] == [front.token_id]
