"""Both clients before several real issuers: some of which are killed, hang, refuse, or are none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.clients import Clients, InItsLoop, claims_of
from support.deployment import ISSUER_ID, LEDGER, READER, SETTLER, Deployment

from agent_client import (
    ISSUER_DNS_NAME,
    IssuerClient,
    IssuerNotTrusted,
    IssuerTimedOut,
    IssuerUnavailable,
    ScopeNotAllowed,
    SyncIssuerClient,
)
from agent_client.clock import utc_now
from agent_client.credentials import channel_options, tls_credentials
from agent_client.endpoint import issuer_endpoint
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port
from issuer_testing.spire.authority import pem_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.issuer_process import IssuerProcess
    from issuer_testing.spire.authority import IssuedSvid
    from issuer_testing.spire.embedded import EmbeddedWorkload

READ = ["ledger.read"]


@pytest.fixture(scope="module")
def other(deployment: Deployment) -> Iterator[IssuerProcess]:
    with deployment.another_issuer("other") as issuer:
        yield issuer


@pytest.fixture
def mortal(deployment: Deployment) -> Iterator[IssuerProcess]:
    """An issuer to be broken; it starts again at the same address."""
    with deployment.another_issuer("mortal", listen=f"127.0.0.1:{free_port()}") as issuer:
        try:
            yield issuer
        finally:
            with contextlib.suppress(ProcessLookupError):
                issuer.signal(signal.SIGCONT)


@pytest.fixture(params=[SyncIssuerClient, InItsLoop], ids=["sync", "asyncio"])
def clients(request: pytest.FixtureRequest) -> Clients:
    return Clients(request.param)


@pytest.fixture
def settler(deployment: Deployment) -> EmbeddedWorkload:
    return deployment.authority.workload(SETTLER)


@pytest.fixture
def nobody() -> str:
    """An address that refuses connections."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@dataclass
class Counting(pb_grpc.IssuerServiceServicer):
    """Answers one method, and counts."""

    calls: int = 0

    def ListAccess(self, _: pb.ListAccessRequest, context: grpc.ServicerContext) -> pb.ListAccessResponse:  # noqa: N802
        self.calls += 1
        return pb.ListAccessResponse()

    IssueToken = BatchIssueTokens = GetKeySet = None  # type: ignore[assignment]  # nobody is to call them
    ExchangeToken = RevokeToken = IntrospectToken = WatchRevocations = None  # type: ignore[assignment]  # nor these


@contextlib.contextmanager
def serving(deployment: Deployment, svid: IssuedSvid, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, Counting]]:
    """Serve with this certificate, and count who calls."""
    counting = Counting()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_IssuerServiceServicer_to_server(counting, server)
    root = pem_bundle([deployment.authority.authority.root])
    credentials = grpc.ssl_server_credentials([(svid.key_pem(), svid.chain_pem())], root, require_client_auth=True)
    port = server.add_secure_port(listen, credentials)
    server.start()
    try:
        yield f"{listen.partition(':')[0]}:{port}", counting
    finally:
        server.stop(None).wait()


@pytest.fixture
def impostor(deployment: Deployment) -> Iterator[tuple[str, Counting]]:
    """A server of the trust domain without the issuer's name."""
    with serving(deployment, deployment.svid(READER, dns_names=("reader.test",))) as served:
        yield served


def issuer_of(client: Any, **options: Any) -> str:
    """Get a token, and return whose it is."""
    issuer: str = claims_of(client.issue_token(LEDGER, READ, **options))["iss"]
    return issuer


def test_calls_are_spread_over_the_issuers(
    clients: Clients, deployment: Deployment, other: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    addresses = f"{deployment.issuer.address}, {other.address}"
    with clients.kind(addresses, workload_api=settler.socket) as client:
        seen = [issuer_of(client) for _ in range(20)]
    assert seen.count(other.url) == seen.count(deployment.issuer.url) == 10


def test_calls_under_way_together_are_spread_too(
    deployment: Deployment, other: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    async def ask() -> list[str]:
        async with IssuerClient([deployment.issuer.address, other.address], workload_api=settler.socket) as client:
            issued = await asyncio.gather(*(client.issue_token(LEDGER, READ) for _ in range(40)))
            return [claims_of(one)["iss"] for one in issued]

    seen = asyncio.run(ask())
    assert seen.count(other.url) == 20


def test_no_call_of_threads_fails_when_an_issuer_is_killed(
    deployment: Deployment, mortal: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    with (
        SyncIssuerClient([deployment.issuer.address, mortal.address], workload_api=settler.socket) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        before = [issuer_of(client) for _ in range(4)]
        calls = [pool.submit(issuer_of, client) for _ in range(400)]
        mortal.signal(signal.SIGKILL)
        seen = [call.result() for call in calls]
        after = [issuer_of(client) for _ in range(4)]
    assert mortal.url in before
    assert deployment.issuer.url in seen
    assert set(after) == {deployment.issuer.url}


def test_an_issuer_that_is_back_takes_calls_again(
    clients: Clients, deployment: Deployment, mortal: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    addresses = [deployment.issuer.address, mortal.address]
    with clients.kind(addresses, workload_api=settler.socket) as client:
        mortal.signal(signal.SIGKILL)
        mortal.wait()
        assert {issuer_of(client) for _ in range(4)} == {deployment.issuer.url}
        mortal.spawn()
        mortal.wait_for("readiness", serving=True)
        wait_until(lambda: issuer_of(client) == mortal.url, what="it is asked again", seconds=20)


def test_an_issuer_that_hangs_costs_one_call_a_share_of_its_time(
    clients: Clients, deployment: Deployment, mortal: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    addresses = [deployment.issuer.address, mortal.address]
    with clients.kind(addresses, workload_api=settler.socket, timeout=10) as client:
        for _ in range(4):
            issuer_of(client)
        mortal.signal(signal.SIGSTOP)
        spans = []
        for _ in range(4):
            started = time.monotonic()
            assert issuer_of(client) == deployment.issuer.url
            spans.append(time.monotonic() - started)
        assert max(spans) < 6
        assert sorted(spans)[-2] < 2  # the others were not held up
        mortal.signal(signal.SIGCONT)
        wait_until(lambda: issuer_of(client) == mortal.url, what="it is asked again", seconds=20)


def test_an_address_that_accepts_and_never_answers_leaves_time_for_the_issuer(
    clients: Clients, deployment: Deployment, silent: str, settler: EmbeddedWorkload
) -> None:
    with clients.kind([silent, deployment.issuer.address], workload_api=settler.socket, timeout=6) as client:
        started = time.monotonic()
        assert {issuer_of(client) for _ in range(3)} == {deployment.issuer.url}
        assert time.monotonic() - started < 6


def test_addresses_that_all_hang_are_given_up_at_the_deadline(
    clients: Clients, silent: str, settler: EmbeddedWorkload
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        also = f"127.0.0.1:{listener.getsockname()[1]}"
        with clients.kind([silent, also], workload_api=settler.socket, timeout=3) as client:
            started = time.monotonic()
            with pytest.raises(IssuerTimedOut) as error:
                issuer_of(client)
            assert time.monotonic() - started < 5
    assert silent in error.value.message
    assert also in error.value.message


def test_an_address_that_refuses_is_passed_over(
    clients: Clients, deployment: Deployment, nobody: str, settler: EmbeddedWorkload
) -> None:
    with clients.kind([nobody, deployment.issuer.address], workload_api=settler.socket) as client:
        started = time.monotonic()
        assert {issuer_of(client) for _ in range(10)} == {deployment.issuer.url}
        assert time.monotonic() - started < 5


def test_an_impostor_beside_the_issuer_gets_nothing_and_is_told_of_once(
    clients: Clients,
    deployment: Deployment,
    impostor: tuple[str, Counting],
    settler: EmbeddedWorkload,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address, counting = impostor
    caplog.set_level(logging.WARNING, "agent_client")
    with clients.kind([address, deployment.issuer.address], workload_api=settler.socket) as client:
        end = time.monotonic() + 2  # its pause ends, and it is found out again
        while time.monotonic() < end:
            client.list_access()
    assert counting.calls == 0
    (told,) = [record.getMessage() for record in caplog.records if address in record.getMessage()]
    assert "did not prove to be the issuer" in told


def test_a_denial_is_not_asked_for_at_another_issuer(
    clients: Clients, deployment: Deployment, other: IssuerProcess, settler: EmbeddedWorkload
) -> None:
    issuers = (deployment.issuer, other)
    with clients.kind([issuer.address for issuer in issuers], workload_api=settler.socket) as client:
        with pytest.raises(ScopeNotAllowed) as denied:
            client.issue_token(LEDGER, ["ledger.refund"])
        assert f"issuer at {denied.value.address})" in str(denied.value)
    asked, not_asked = issuers if denied.value.address == deployment.issuer.address else reversed(issuers)
    line = asked.wait_for("rpc", decision_id=denied.value.decision_id)
    assert not [one for one in not_asked.log() if one.get("request_id") == line["request_id"]]


def test_the_error_names_every_address_and_is_the_one_that_helps_most(
    clients: Clients, nobody: str, impostor: tuple[str, Counting], settler: EmbeddedWorkload
) -> None:
    also = f"127.0.0.1:{free_port()}"
    with clients.kind([nobody, also], workload_api=settler.socket, timeout=1) as client:
        with pytest.raises(IssuerUnavailable, match="all 2 addresses") as away:
            client.list_access()
        assert nobody in away.value.message
        assert also in away.value.message
        assert away.value.__cause__ is not None
    with clients.kind([nobody, impostor[0]], workload_api=settler.socket, timeout=1) as client:
        with pytest.raises(IssuerNotTrusted, match="all 2 addresses") as refused:
            client.list_access()
        assert nobody in refused.value.message


def test_addresses_come_from_the_environment(
    clients: Clients,
    deployment: Deployment,
    nobody: str,
    settler: EmbeddedWorkload,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPIFFE_ISSUER_ADDRESS", f"{nobody},{deployment.issuer.address}")
    with clients.kind(workload_api=settler.socket) as client:
        assert issuer_of(client) == deployment.issuer.url


async def test_a_cancelled_task_leaves_no_call_counted(
    deployment: Deployment, silent: str, settler: EmbeddedWorkload
) -> None:
    async with IssuerClient([silent, deployment.issuer.address], workload_api=settler.socket, timeout=20) as client:
        for patience in (0.0, 0.001, 0.01, 0.1):
            calls = [asyncio.ensure_future(client.issue_token(LEDGER, READ)) for _ in range(20)]
            await asyncio.wait(calls, timeout=patience)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert not calls_under_way(client)


def calls_under_way(client: Any) -> list[object]:
    core = client._core
    leased = [attempt for channel in core.channels._newest.values() for attempt in channel.calls]
    return [*leased, *(attempt for health in core.balancer._health.values() for attempt in health.under_way)]


@pytest.mark.parametrize("second", ["issuer", "impostor"])
def test_one_dns_name_with_several_addresses_is_taken_in_turn(
    deployment: Deployment, settler: EmbeddedWorkload, second: str
) -> None:
    """What gRPC makes of a name's A records: our options, and its own resolver for addresses that are known."""
    names = {"issuer": (ISSUER_ID, (ISSUER_DNS_NAME,)), "impostor": (READER, ("reader.test",))}
    spiffe_id, dns_names = names[second]
    with contextlib.ExitStack() as stack:
        genuine = deployment.svid(ISSUER_ID, dns_names=(ISSUER_DNS_NAME,))
        one, first_calls = stack.enter_context(serving(deployment, genuine, "127.0.0.2:0"))
        port = one.partition(":")[2]
        svid = deployment.svid(spiffe_id, dns_names=dns_names)
        two, second_calls = stack.enter_context(serving(deployment, svid, f"127.0.0.3:{port}"))
        client = stack.enter_context(SyncIssuerClient(one, workload_api=settler.socket))
        client.list_access()
        channel = stack.enter_context(
            grpc.secure_channel(
                f"ipv4:{one},{two}",
                tls_credentials(client._core.material(utc_now())),
                channel_options(issuer_endpoint(one, ISSUER_DNS_NAME, None)),
            )
        )
        stub = pb_grpc.IssuerServiceStub(channel)

        def both_or_one() -> bool:
            for _ in range(10):
                stub.ListAccess(pb.ListAccessRequest(), timeout=5)
            return second == "impostor" or second_calls.calls > 0

        wait_until(both_or_one, what="calls reach the second", seconds=10)
    assert first_calls.calls > 1
    assert (second_calls.calls > 0) is (second == "issuer")
