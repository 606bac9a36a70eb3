"""Both clients against a real issuer: what one does, the other does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.clients import Clients, InItsLoop, claims_of
from support.deployment import LEDGER, READER, SETTLER, Deployment

from agent_client import (
    AudienceNotAllowed,
    ClientClosed,
    InvalidTokenRequest,
    IssuerClient,
    IssuerNotTrusted,
    IssuerUnavailable,
    ScopeNotAllowed,
    SpiffeIdNotGiven,
    SvidOutdated,
    SyncIssuerClient,
    TokenRequest,
    TrustBundleMissing,
    WorkloadApiError,
)
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port
from issuer_testing.spire.authority import Authority, utc_now
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from issuer_testing.spire.embedded import EmbeddedWorkload

READ = ["ledger.read"]


@pytest.fixture(params=[SyncIssuerClient, InItsLoop], ids=["sync", "asyncio"])
def clients(request: pytest.FixtureRequest) -> Clients:
    return Clients(request.param)


@pytest.fixture
def settler(deployment: Deployment) -> EmbeddedWorkload:
    return deployment.authority.workload(SETTLER)


def serial_of(client: Any) -> int:
    serial: int = client.svid.certificates[0].serial_number
    return serial


def test_a_workload_gets_a_token(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with clients.of(deployment, settler) as client:
        issued = client.issue_token(LEDGER, READ, ttl=timedelta(seconds=90), bind_certificate=True)
    claims = claims_of(issued)
    assert (claims["sub"], claims["aud"], claims["scope"]) == (SETTLER, LEDGER, "ledger.read")
    assert (issued.scopes, issued.application, issued.token_type) == (("ledger.read",), "payments", "Bearer")
    assert issued.expires_at == datetime.fromtimestamp(claims["exp"], UTC)
    assert issued.expires_at - timedelta(seconds=90) < issued.renew_at < issued.expires_at
    assert claims["cnf"]
    assert issued.token_id == claims["jti"]


def test_a_denial_is_typed_and_says_what_to_do(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with clients.of(deployment, settler) as client, pytest.raises(ScopeNotAllowed) as denied:
        client.issue_token(LEDGER, ["ledger.read", "ledger.refund"])
    error = denied.value
    assert (error.reason, error.scopes) == ("SCOPE_NOT_ALLOWED", ("ledger.refund",))
    assert deployment.issuer.wait_for("rpc", decision_id=error.decision_id)["request_id"] == error.request_id
    assert "ListAccess" in error.remedy
    assert error.__cause__ is not None


def test_a_malformed_request_names_its_fields(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with clients.of(deployment, settler) as client, pytest.raises(InvalidTokenRequest) as refused:
        client.issue_token("", ["a b"], ttl=timedelta(seconds=-1))
    assert [violation.field for violation in refused.value.violations] == ["audience", "scopes[0]", "ttl"]


def test_a_batch_has_a_result_for_each(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    requests = [
        TokenRequest(LEDGER, READ),
        TokenRequest(LEDGER, ["ledger.refund"]),
        TokenRequest("https://nowhere.test", READ),
        TokenRequest(LEDGER, ["ledger.refund", "ledger.read"], allow_partial=True),
    ]
    with clients.of(deployment, settler) as client:
        token, scope, audience, partial = client.issue_tokens(requests)
    assert claims_of(token)["aud"] == LEDGER
    assert isinstance(scope, ScopeNotAllowed)
    assert isinstance(audience, AudienceNotAllowed)
    assert scope.decision_id != audience.decision_id
    assert (partial.scopes, partial.refused_scopes) == (("ledger.read",), ("ledger.refund",))


def test_an_empty_batch_is_refused(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with clients.of(deployment, settler) as client, pytest.raises(InvalidTokenRequest):
        client.issue_tokens([])


def test_validate_only_brings_no_token(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with clients.of(deployment, settler) as client:
        decided = client.issue_token(LEDGER, READ, validate_only=True)
    assert not decided.token
    assert decided.decision_id
    with pytest.raises(ValueError, match="validate_only"):
        decided.token.reveal()


def test_a_workload_learns_what_it_may_ask_for(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with clients.of(deployment, settler) as client:
        (access,) = client.list_access()
        keys = client.get_key_set()
    assert (access.audience, access.application) == (LEDGER, "payments")
    assert [(scope.name, scope.max_ttl) for scope in access.scopes] == [
        ("ledger.read", timedelta(minutes=10)),
        ("ledger.write", timedelta(minutes=2)),
    ]
    assert keys.jwks["keys"][0]["kty"] == "EC"
    assert keys.max_age == timedelta(minutes=5)


def test_the_identity_is_picked_by_its_exact_spiffe_id(clients: Clients, deployment: Deployment) -> None:
    workload = deployment.authority.workload(READER, Entry(SETTLER, hint="ledger"))
    with clients.of(deployment, workload, spiffe_id=SETTLER) as client:
        assert claims_of(client.issue_token(LEDGER, READ))["sub"] == SETTLER
    with clients.of(deployment, workload) as client, pytest.raises(AudienceNotAllowed):
        client.issue_token(LEDGER, READ)
    with clients.of(deployment, workload, spiffe_id=SETTLER.upper()) as client:
        with pytest.raises(SpiffeIdNotGiven) as wrong:
            client.issue_token(LEDGER, READ)
        assert READER in str(wrong.value)
        assert SETTLER in str(wrong.value)


def test_a_server_without_the_issuers_dns_name_is_refused(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    started = time.monotonic()
    with (
        clients.of(deployment, settler, issuer_dns_name="other.workload.internal") as client,
        pytest.raises(IssuerNotTrusted, match="did not prove to be the issuer"),
    ):
        client.issue_token(LEDGER, READ)
    assert time.monotonic() - started < 5  # it is not retried


def test_a_server_of_another_trust_domain_is_refused_although_federated(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    """The workload trusts both domains for other purposes; only the issuer's own counts for the issuer."""
    settler.api.change(federated={"other.test": (Authority("other.test").root,)})
    with clients.of(deployment, settler, issuer_trust_domain="other.test") as client, pytest.raises(IssuerNotTrusted):
        client.issue_token(LEDGER, READ)
    with clients.of(deployment, settler, issuer_trust_domain="dev.test") as client:
        client.issue_token(LEDGER, READ)


def test_an_issuer_of_an_unknown_trust_domain_cannot_be_recognised(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with (
        clients.of(deployment, settler, issuer_trust_domain="unknown.test") as client,
        pytest.raises(TrustBundleMissing, match=r"unknown\.test"),
    ):
        client.issue_token(LEDGER, READ)


def test_a_bundle_that_becomes_empty_ends_trust_in_the_issuer(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with clients.of(deployment, settler) as client:
        client.issue_token(LEDGER, READ)
        settler.api.change(bundle=())
        wait_until(lambda: refused(client, TrustBundleMissing), what="the empty bundle arrives", seconds=10)


def refused(client: Any, error: type[Exception]) -> bool:
    try:
        client.issue_token(LEDGER, READ)
    except error:
        return True
    return False


def test_an_svid_rotates_between_calls(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with clients.of(deployment, settler) as client:
        before = claims_of(client.issue_token(LEDGER, READ, bind_certificate=True))["cnf"]
        serial = serial_of(client)
        deployment.authority.rotate(settler)
        wait_until(lambda: serial_of(client) != serial, what="the new SVID arrives", seconds=10)
        assert claims_of(client.issue_token(LEDGER, READ, bind_certificate=True))["cnf"] != before


def test_no_call_of_threads_fails_while_svids_rotate(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    seen = set()
    with (
        SyncIssuerClient(deployment.issuer.address, workload_api=settler.socket) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        for _ in range(10):
            calls = [pool.submit(client.issue_token, LEDGER, READ, bind_certificate=True) for _ in range(20)]
            deployment.authority.rotate(settler)
            seen |= {claims_of(call.result())["cnf"]["x5t#S256"] for call in calls}
        calls = [pool.submit(client.issue_token, LEDGER, READ)]
        calls[0].result()
        assert not client._core.channels._replaced
    assert len(seen) > 2


async def test_no_call_of_tasks_fails_while_svids_rotate(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    seen = set()
    async with IssuerClient(deployment.issuer.address, workload_api=settler.socket) as client:
        for _ in range(10):
            calls = [asyncio.ensure_future(client.issue_token(LEDGER, READ, bind_certificate=True)) for _ in range(20)]
            await asyncio.sleep(0)
            deployment.authority.rotate(settler)
            seen |= {claims_of(issued)["cnf"]["x5t#S256"] for issued in await asyncio.gather(*calls)}
        await client.issue_token(LEDGER, READ)
        assert not client._core.channels._replaced
    assert len(seen) > 2


def test_an_svid_that_expired_is_not_presented(clients: Clients, deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    workload.api.change(svids=(deployment.svid(not_after=utc_now() - timedelta(seconds=1)),))
    with clients.of(deployment, workload) as client, pytest.raises(SvidOutdated, match="expired at"):
        client.issue_token(LEDGER, READ)


def test_waits_for_an_identity_that_comes_within_the_deadline(clients: Clients, deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    workload.api.deny()
    later = threading.Timer(0.5, lambda: workload.api.change(refusal=None))
    later.start()
    with clients.of(deployment, workload) as client:
        client.issue_token(LEDGER, READ)
    later.join()


def test_a_workload_without_an_identity_is_told_so_in_time(clients: Clients, deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    workload.api.deny()
    started = time.monotonic()
    with clients.of(deployment, workload) as client, pytest.raises(WorkloadApiError, match="registration entry"):
        client.issue_token(LEDGER, READ, timeout=1)
    assert time.monotonic() - started < 4


def test_calls_go_on_while_the_workload_api_is_away(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    with clients.of(deployment, settler) as client:
        client.issue_token(LEDGER, READ)
        settler.api.stop()
        client.issue_token(LEDGER, READ)
        settler.api.start()


def test_an_issuer_that_is_away_is_a_typed_error_in_bounded_time(clients: Clients, settler: EmbeddedWorkload) -> None:
    started = time.monotonic()
    with (
        clients.kind(f"127.0.0.1:{free_port()}", workload_api=settler.socket, timeout=2) as client,
        pytest.raises(IssuerUnavailable, match="cannot be reached") as away,
    ):
        client.issue_token(LEDGER, READ)
    assert time.monotonic() - started < 6
    assert away.value.reason is None
    assert away.value.remedy


def test_the_next_call_works_after_the_issuer_was_restarted(clients: Clients, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Deployment(tmp_path, options={"server": {"listen": address}}) as deployment:
        workload = deployment.authority.workload(SETTLER)
        with clients.of(deployment, workload, timeout=30) as client:
            client.issue_token(LEDGER, READ)
            deployment.issuer.stop()
            with pytest.raises(IssuerUnavailable):
                client.issue_token(LEDGER, READ, timeout=0.5)
            deployment.issuer.spawn()
            client.issue_token(LEDGER, READ)  # made while it starts: retried until it serves
            deployment.issuer.wait_for("readiness", serving=True)


def test_a_closed_client_says_so(clients: Clients, deployment: Deployment, settler: EmbeddedWorkload) -> None:
    with clients.of(deployment, settler) as client:
        client.issue_token(LEDGER, READ)
        client.close()
        with pytest.raises(ClientClosed):
            client.issue_token(LEDGER, READ)
        client.close()


def test_a_client_that_is_not_entered_works_too(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    client = clients.kind(deployment.issuer.address, workload_api=settler.socket)
    with contextlib.closing(client):
        client.issue_token(LEDGER, READ)
    if isinstance(client, InItsLoop):
        client._runner.close()


def test_closing_ends_a_call_that_waits_for_an_identity(deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    workload.api.deny()
    client = SyncIssuerClient(deployment.issuer.address, workload_api=workload.socket, timeout=60)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(client.issue_token, LEDGER, READ)
        wait_until(lambda: client._core._watcher is not None, what="the call waits", seconds=10)
        client.close()
        with pytest.raises(ClientClosed):
            call.result(timeout=10)


async def test_closing_ends_a_task_that_waits_for_an_identity(deployment: Deployment) -> None:
    workload = deployment.authority.workload(SETTLER)
    workload.api.deny()
    client = IssuerClient(deployment.issuer.address, workload_api=workload.socket, timeout=60)
    call = asyncio.ensure_future(client.issue_token(LEDGER, READ))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosed):
        async with asyncio.timeout(10):
            await call


async def test_closing_ends_the_calls_of_other_tasks(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    client = IssuerClient(deployment.issuer.address, workload_api=settler.socket)
    await client.issue_token(LEDGER, READ)
    calls = [asyncio.ensure_future(client.issue_tokens([TokenRequest(LEDGER, READ)] * 256)) for _ in range(8)]
    await asyncio.sleep(0)
    await client.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(result, ClientClosed) for result in results)
    assert all(isinstance(result, ClientClosed | list) for result in results)


async def test_a_cancelled_task_stays_cancelled(deployment: Deployment, settler: EmbeddedWorkload) -> None:
    async with IssuerClient(deployment.issuer.address, workload_api=settler.socket) as client:
        await client.issue_token(LEDGER, READ)
        call = asyncio.ensure_future(client.issue_tokens([TokenRequest(LEDGER, READ)] * 256))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.issue_token(LEDGER, READ)


def test_closing_gives_back_threads_and_descriptors(
    clients: Clients, deployment: Deployment, settler: EmbeddedWorkload
) -> None:
    def use_one() -> None:
        with clients.of(deployment, settler) as client:
            client.issue_token(LEDGER, READ)
            deployment.authority.rotate(settler)
            client.issue_token(LEDGER, READ)

    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(threading.enumerate())  # noqa: PTH208 - only their number counts

    use_one()  # gRPC's own, once for each process
    wait_until(lambda: settled(held), what="gRPC settles", seconds=10)
    before = held()
    for _ in range(5):
        use_one()
    wait_until(lambda: held() <= before, what="everything is given back", seconds=10)


def settled(held: Callable[[], tuple[int, int]]) -> bool:
    """Whether nothing changed for a moment: streams that were closed end in threads of their own."""
    before = held()
    threading.Event().wait(0.3)
    return held() == before
