"""Every adapter, from a real issuer's tokens to a server that verifies them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from support.deployment import LEDGER, SETTLER, Deployment
from support.grpc_clients import GRPC_CLIENTS, GrpcClient
from support.grpc_resource_server import error_info, serving_grpc
from support.http_clients import CLIENTS, Client, Options
from support.https import write_certificate
from support.resource_server import serving

from agent_client import IssuerClient, ScopeNotAllowed, SyncIssuerClient
from agent_client.resource_errors import ScopeInsufficient
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    Sources = Callable[..., Any]


@pytest.fixture
async def sources(deployment: Deployment) -> AsyncIterator[Sources]:
    """Return how to make a source of the kind that a client takes."""
    workload = deployment.authority.workload(Entry(SETTLER))
    async with AsyncExitStack() as stack:
        sync = stack.enter_context(SyncIssuerClient(deployment.issuer.address, workload_api=workload.socket))
        aio = await stack.enter_async_context(IssuerClient(deployment.issuer.address, workload_api=workload.socket))

        def source(kind: type[Client | GrpcClient], *scopes: str) -> Any:
            return (sync if kind.threads else aio).tokens_for(LEDGER, scopes)

        yield source


@pytest.fixture
def verified(deployment: Deployment) -> Callable[[str], object]:
    """Return what returns the ``jti`` of a token that the issuer signed for this API, and fails for any other."""
    with deployment.stub() as stub:
        keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_json(stub.GetKeySet(pb.GetKeySetRequest()).jwks).keys}

    def token_id(authorization: str) -> object:
        token = authorization.removeprefix("Bearer ")
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return jwt.decode(token, key, ["ES256"], audience=LEDGER, issuer=deployment.issuer.url)["jti"]

    return token_id


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_server_that_verifies_gets_good_tokens_over_http_and_a_fresh_one_when_it_refuses_one(
    kind: type[Client], sources: Sources, verified: Callable[[str], object]
) -> None:
    with serving() as server:
        server.name = verified
        async with kind(Options(source=sources(kind, "ledger.read"))) as client:
            assert (await client.send("POST", server.origin, b"1")).text == "1"
            server.refused = {server.asked[0].token}
            assert (await client.send("POST", server.origin, b"2")).text == "2"
    first, again, fresh = (asked.token for asked in server.asked)
    assert first == again
    assert first != fresh


@pytest.mark.parametrize("kind", GRPC_CLIENTS)
async def test_a_server_that_verifies_gets_good_tokens_over_grpc_and_a_fresh_one_when_it_refuses_one(
    kind: type[GrpcClient], sources: Sources, verified: Callable[[str], object], tmp_path: Path
) -> None:
    certificate = write_certificate(tmp_path)
    with serving_grpc(certificate) as server:
        server.name = verified
        async with kind(server.address, certificate[0], source=sources(kind, "ledger.read")) as client:
            await client.call()
            server.refused = {server.tokens[0]}
            await client.call()
            server.sends = (grpc.StatusCode.PERMISSION_DENIED, error_info("SCOPE_INSUFFICIENT", scopes="ledger.write"))
            with pytest.raises(ScopeInsufficient):
                await client.call()
    first, again, fresh, last = server.tokens
    assert first == again
    assert first != fresh == last


@pytest.mark.parametrize("kind", CLIENTS)
async def test_what_the_issuer_denies_is_raised_by_the_request(kind: type[Client], sources: Sources) -> None:
    with serving() as server:
        async with kind(Options(source=sources(kind, "ledger.unknown"))) as client:
            with pytest.raises(ScopeNotAllowed):
                await client.send("GET", server.origin)
    assert not server.asked
