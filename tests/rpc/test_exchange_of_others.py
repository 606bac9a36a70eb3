"""Tokens of others as subject tokens on a real server: JWT-SVIDs, and ID tokens of an OpenID provider."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.eventually import eventually
from support.exchanging import EXCHANGE, FRONT, ORDERS, ORDERS_API, POLICY, STOCK, STOCK_API, Shop, claims_of, grant
from support.forging import Forge, fixed_forge
from support.key_server import key_server
from support.oidc import id_token, serve_oidc

from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.key_server import KeyServer

SVID, ID_TOKEN = pb.SUBJECT_TOKEN_TYPE_JWT_SVID, pb.SUBJECT_TOKEN_TYPE_ID_TOKEN
NIGHTLY = "spiffe://dev.test/ns/batch/sa/nightly"
SPIRE, EVIL = fixed_forge(21), fixed_forge(22)


def jwks(*forges: Forge) -> bytes:
    """Return a bundle as SPIRE's Workload API has it: without use and algorithm."""
    bare = [{name: value for name, value in forge.jwk.items() if name not in {"use", "alg"}} for forge in forges]
    return json.dumps({"keys": bare}).encode()


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyServer]:
    with key_server() as server:
        serve_oidc(server, [SPIRE.jwk])
        yield server


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, provider: KeyServer) -> Iterator[Shop]:
    named = {"subjects": f"['spiffe://dev.test/ns/batch/**', '{provider.issuer}#00u1']", **EXCHANGE}
    policy = POLICY + grant("batch", ORDERS, STOCK_API, "[items.audit]", **named)
    login = {"name": "people", "url": provider.issuer, "audience": "spiffe-issuer"}
    folder = tmp_path_factory.mktemp("shop")
    with Shop(folder, policy, exchange={"jwt_svids": True}, oidc={"issuers": [login]}) as deployment:
        deployment.identity.api.change(jwt_bundles={"dev.test": jwks(SPIRE), "evil.test": jwks(EVIL)})
        assert eventually(
            lambda: deployment.refusal(svid(deployment), ORDERS, STOCK_API, "items.audit", kind=SVID) == ""
        )
        yield deployment


def svid(shop: Shop, forge: Forge = SPIRE, header: dict[str, Any] | None = None, **changes: object) -> str:
    now = int(time.time())
    claims = {"sub": NIGHTLY, "aud": [shop.issuer.url], "exp": now + 120, "iat": now, **changes}
    return forge.sign(forge.header(**{"typ": "JWT", **(header or {})}), claims)


def exchanged(shop: Shop, token: str, kind: pb.SubjectTokenType.ValueType = SVID) -> dict[str, Any]:
    return claims_of(shop.exchange(token, ORDERS, STOCK_API, "items.audit", kind=kind).issued.token)


def refusal(shop: Shop, token: str, kind: pb.SubjectTokenType.ValueType = SVID, caller: str = ORDERS) -> str:
    return shop.refusal(token, caller, STOCK_API, "items.audit", kind=kind)


def test_a_workload_acts_for_another_by_its_jwt_svid(shop: Shop) -> None:
    claims = exchanged(shop, svid(shop))
    assert (claims["sub"], claims["client_id"], claims["scope"]) == (NIGHTLY, ORDERS, "items.audit")
    assert claims["act"] == {"sub": ORDERS, "iss": "spiffe://dev.test"}
    assert claims["exp"] <= int(time.time()) + 120


def test_a_workload_acts_for_a_person_by_an_id_token(shop: Shop, provider: KeyServer) -> None:
    answer = shop.exchange(id_token(SPIRE, provider.issuer), ORDERS, STOCK_API, "items.audit", kind=ID_TOKEN)
    assert answer.subject == claims_of(answer.issued.token)["sub"] == f"{provider.issuer}#00u1"
    assert claims_of(answer.issued.token)["client_id"] == ORDERS
    assert shop.is_active(answer.issued.token)


def test_what_came_of_a_token_of_others_goes_on_as_a_token_of_ours(shop: Shop, provider: KeyServer) -> None:
    """And only then: the chain and the subject are what this issuer wrote."""
    policy = shop.policy_file.read_text(encoding="utf-8")
    assert "stock-back" in policy
    token = shop.exchange(
        id_token(SPIRE, provider.issuer), ORDERS, STOCK_API, "items.audit", kind=ID_TOKEN
    ).issued.token
    assert shop.refusal(token, STOCK, ORDERS_API, "items.read") == "SCOPE_NOT_ALLOWED"


def test_policy_names_whose_tokens_and_whose_exchange(shop: Shop, provider: KeyServer) -> None:
    assert refusal(shop, svid(shop, sub="spiffe://dev.test/ns/other/sa/x")) == "GRANT_TYPE_NOT_ALLOWED"
    assert refusal(shop, svid(shop), caller=STOCK) == "AUDIENCE_NOT_ALLOWED"
    assert refusal(shop, id_token(SPIRE, provider.issuer, sub="00u2"), ID_TOKEN) == "GRANT_TYPE_NOT_ALLOWED"
    assert shop.refusal(svid(shop), ORDERS, STOCK_API, "items.read", kind=SVID) == "GRANT_TYPE_NOT_ALLOWED"


@pytest.mark.parametrize(
    "wrong",
    [
        {"forge": EVIL},
        {"forge": Forge(EVIL.key, kid=SPIRE.key_id)},
        {"forge": EVIL, "sub": "spiffe://evil.test/ns/batch/x"},
        {"sub": f"{ORDERS_API}#x"},
        {"aud": [STOCK_API]},
        {"aud": ["{issuer}", STOCK_API]},
        {"exp": 1},
        {"header": {"typ": "at+jwt"}},
        {"header": {"typ": "statuslist+jwt"}},
    ],
)
def test_a_jwt_svid_that_is_not_good_and_for_this_issuer_alone_is_not_taken(shop: Shop, wrong: dict[str, Any]) -> None:
    if isinstance(wrong.get("aud"), list):
        wrong = {**wrong, "aud": [each.format(issuer=shop.issuer.url) for each in wrong["aud"]]}
    assert refusal(shop, svid(shop, **wrong)) == "SUBJECT_TOKEN_NOT_TAKEN"


def test_no_kind_of_token_is_taken_for_another(shop: Shop, provider: KeyServer) -> None:
    tokens = {
        pb.SUBJECT_TOKEN_TYPE_ACCESS_TOKEN: shop.front_token().token,
        SVID: svid(shop),
        ID_TOKEN: id_token(SPIRE, provider.issuer),
    }
    for kind, token in tokens.items():
        for other in tokens.keys() - {kind}:
            assert refusal(shop, token, other) == "SUBJECT_TOKEN_NOT_TAKEN"


@pytest.mark.parametrize("act", ["spiffe://dev.test/x", [], {}, {"sub": FRONT, "iss": "spiffe://dev.test"}])
def test_a_chain_that_others_vouch_for_is_refused_and_not_dropped(shop: Shop, provider: KeyServer, act: object) -> None:
    assert refusal(shop, svid(shop, act=act)) == "ACTOR_CHAIN_ENDS"
    assert refusal(shop, id_token(SPIRE, provider.issuer, act=act), ID_TOKEN) == "ACTOR_CHAIN_ENDS"


def test_may_act_is_obeyed(shop: Shop, provider: KeyServer) -> None:
    for token, kind in ((svid, SVID), (lambda _, **claims: id_token(SPIRE, provider.issuer, **claims), ID_TOKEN)):
        assert refusal(shop, token(shop, may_act={"sub": ORDERS}), kind) == ""
        assert refusal(shop, token(shop, may_act={"sub": FRONT}), kind) == "SUBJECT_TOKEN_NOT_YOURS"
        assert refusal(shop, token(shop, may_act="x"), kind) == "SUBJECT_TOKEN_NOT_TAKEN"


def test_an_id_token_that_proves_an_approval_is_for_that_alone(shop: Shop, provider: KeyServer) -> None:
    token = id_token(SPIRE, provider.issuer, nonce="sha256:" + "0" * 64)
    assert refusal(shop, token, ID_TOKEN) == "SUBJECT_TOKEN_NOT_TAKEN"


def test_the_keys_of_a_trust_domain_rotate(shop: Shop) -> None:
    fresh = fixed_forge(23)
    assert refusal(shop, svid(shop, fresh)) == "SUBJECT_TOKEN_NOT_TAKEN"
    shop.identity.api.change(jwt_bundles={"dev.test": jwks(SPIRE, fresh)})
    assert eventually(lambda: refusal(shop, svid(shop, fresh)) == "")
    shop.identity.api.change(jwt_bundles={"dev.test": jwks(SPIRE)})
    assert eventually(lambda: refusal(shop, svid(shop, fresh)) == "SUBJECT_TOKEN_NOT_TAKEN")
    assert refusal(shop, svid(shop)) == ""


def test_jwt_svids_are_not_heard_unless_that_is_configured(tmp_path: Any) -> None:
    with Shop(tmp_path) as shop:
        shop.identity.api.change(jwt_bundles={"dev.test": jwks(SPIRE)})
        assert refusal(shop, svid(shop)) == "SUBJECT_TOKEN_NOT_TAKEN"
