"""More than the issuer can do: who is refused, how, and who is not. And clients that are slow on purpose."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from support.deployment import DEADLINE, LEDGER, POLICY, REQUEST, SETTLER, Deployment, reason_of
from support.flood import flood
from support.ledgers import rows
from support.raw_http2 import (
    PREFACE,
    acknowledged,
    call_headers,
    closed_within,
    message,
    no_window,
    ping,
    tcp_connection,
    tls_connection,
    told_to_go,
)

from agent_client import IssuerTimedOut, LimitExceeded, SyncIssuerClient
from issuer_api.v1 import admin_service_pb2 as admin_pb
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port
from issuer_testing.spire.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOODER = "spiffe://dev.test/ns/batch/sa/flooder"
VIEWER = "spiffe://dev.test/ns/sre/sa/viewer"
EVERYBODY = (
    POLICY
    + f"""\
  - id: everybody
    owner: x
    workloads: ["spiffe://dev.test/**"]
    audience: {LEDGER}
    scopes: [ledger.read]
"""
)
NOT_GRANTED = pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"])
ONE_TURN: dict[str, dict[str, object]] = {"server": {"max_turns": 1}, "admin": {"viewers": [VIEWER]}}
"""With one turn, whatever holds it stops everybody."""
TOO_MUCH = {"calls": 100, "items": 64}
"""6,400 requests at once, where 256 may wait: too much however fast the machine."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Deployment]:
    """An issuer that a small flood is too much for, however fast the machine."""
    options: dict[str, dict[str, object]] = {
        "server": {"max_turns": 4, "max_waiting": 256, "max_concurrent_streams": 1000},
        "metrics": {"listen": f"127.0.0.1:{free_port()}"},
    }
    with Deployment(tmp_path, policy=EVERYBODY, options=options) as running:
        yield running


@pytest.fixture(scope="module")
def one_turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("issuer"), policy=EVERYBODY, options=ONE_TURN) as running:
        yield running


def tokens(deployment: Deployment, times: int = 1, spiffe_id: str = SETTLER) -> list[str]:
    with deployment.stub(deployment.svid(spiffe_id)) as stub:
        return [stub.IssueToken(REQUEST, timeout=DEADLINE).token_id for _ in range(times)]


def metric(deployment: Deployment, name: str) -> float:
    listen = (deployment.settings.options or {})["metrics"]["listen"]
    lines = httpx.get(f"http://{listen}/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)


def refused_calls(deployment: Deployment) -> int:
    return int(metric(deployment, 'issuer_refused_calls_total{trust_domain="dev.test"}'))


def health(deployment: Deployment) -> Any:
    with deployment.channel(deployment.svid()) as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE).status


def test_who_floods_is_refused_and_who_does_not_is_served(small: Deployment, tmp_path: Path) -> None:
    with flood(small, FLOODER, tmp_path / "flood", **TOO_MUCH) as flooding:
        assert len(set(tokens(small, 20))) == 20, "no call of a modest caller is refused"
        assert health(small) == health_pb2.HealthCheckResponse.SERVING
        outcomes = flooding.stop()
    refused = outcomes.pop("RATE_LIMITED with RetryInfo")
    assert set(outcomes) == {"served"}
    wait_until(lambda: refused_calls(small) >= refused, what="those at the transport are counted", seconds=DEADLINE)
    told = [line for line in small.issuer.log() if line["event"] == "calls_refused"]
    assert told
    assert all(line["last_caller"] == FLOODER for line in told)
    assert len(told) < 100, "not one for each"


def test_after_a_flood_its_caller_is_served_as_before(small: Deployment, tmp_path: Path) -> None:
    with flood(small, FLOODER, tmp_path / "flood", **TOO_MUCH) as flooding:
        assert flooding.stop()["RATE_LIMITED with RetryInfo"] > 0
    wait_until(lambda: metric(small, "issuer_turns_taken") == 0, what="nothing runs", seconds=DEADLINE)
    assert metric(small, "issuer_waiting_requests") == 0
    assert tokens(small), "with it, what the transport refused is counted"
    before = refused_calls(small)
    assert len(tokens(small, 20, FLOODER)) == 20
    assert refused_calls(small) == before


def test_two_floods_share_and_neither_is_shut_out(small: Deployment, tmp_path: Path) -> None:
    with (
        flood(small, FLOODER, tmp_path / "flood", calls=300) as one,
        flood(small, f"{FLOODER}-2", tmp_path / "flood-2", calls=100) as other,
    ):
        tokens(small, 10)
        outcomes = [one.stop(), other.stop()]
    assert all(outcome["served"] > 0 for outcome in outcomes)


def test_our_client_comes_back_when_it_is_told_to_and_gets_its_token(small: Deployment, tmp_path: Path) -> None:
    """The client has the flooder's own SPIFFE ID, so that it has no share of its own."""
    workload = small.authority.workload(Entry(FLOODER))
    with flood(small, FLOODER, tmp_path / "flood", **TOO_MUCH) as flooding, small.issuer.client(workload) as client:
        limited = wait_until(lambda: refusal(client), what="it is refused", seconds=DEADLINE)
        assert limited.reason == "RATE_LIMITED"
        assert limited.retry_after is not None
        flooding.stop()
        assert client.issue_token(LEDGER, ["ledger.read"], timeout=DEADLINE)


def refusal(client: SyncIssuerClient) -> LimitExceeded | None:
    """Ask with little time to come back; ``None`` when there is a token, or no answer in time."""
    try:
        client.issue_token(LEDGER, ["ledger.read"], timeout=1.0)
    except LimitExceeded as error:
        return error
    except IssuerTimedOut:
        pass
    return None


def test_a_caller_that_is_refused_without_end_does_not_fill_the_ledger(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {"ledger": {"recorded_refusals": 5}}
    with Deployment(tmp_path, options=options) as deployment:
        batch = pb.BatchIssueTokensRequest(requests=[NOT_GRANTED] * 200)
        with deployment.stub() as stub:
            results = stub.BatchIssueTokens(batch, timeout=DEADLINE).results
            with pytest.raises(grpc.RpcError) as refused:
                stub.IssueToken(NOT_GRANTED, timeout=DEADLINE)
            assert stub.IssueToken(REQUEST, timeout=DEADLINE).token, "its grants go on"
        workload = deployment.authority.workload(Entry(SETTLER))
        started = time.monotonic()
        with deployment.issuer.client(workload) as client, pytest.raises(LimitExceeded) as limited:
            client.issue_token(LEDGER, ["ledger.refund"], timeout=5)
        assert time.monotonic() - started < 5, "what it is told to wait is more than it has: it does not ask again"
    assert reason_of(refused.value) == "RATE_LIMITED"
    status, retry = rpc_status.from_call(refused.value), RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.seconds == 10
    assert limited.value.retry_after == retry.retry_delay.ToTimedelta()
    assert sum(result.error.code == grpc.StatusCode.PERMISSION_DENIED.value[0] for result in results) == 5 + 1 + 50
    store = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
    assert rows(store, "SELECT outcome, count(*) FROM decision GROUP BY outcome") == [(1, 1), (2, 6)]
    [(detail,)] = rows(store, "SELECT detail FROM event WHERE kind = 'refusals_counted'")
    assert '"count":50' in str(detail)
    assert '"told_to_wait":146' in str(detail), "144 items of the batch, and two calls"


def test_handshakes_that_stall_hold_nobody_up_and_end(tmp_path: Path) -> None:
    with (
        Deployment(tmp_path, options={"server": {"handshake_timeout": "1s"}}) as deployment,
        ExitStack() as stack,
    ):
        stalled = [stack.enter_context(tcp_connection(deployment)) for _ in range(200)]
        for connection in stalled[:100]:
            connection.sendall(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
        assert tokens(deployment)
        assert all(closed_within(connection, DEADLINE) for connection in stalled)


@pytest.mark.usefixtures("not_on_h2corn")
def test_connections_beyond_the_limit_are_closed_and_those_within_it_are_served(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {"server": {"max_connections": 3}}
    with Deployment(tmp_path, options=options) as deployment, ExitStack() as stack:
        stub = stack.enter_context(deployment.stub())
        stub.IssueToken(REQUEST, timeout=DEADLINE)
        held = [stack.enter_context(tcp_connection(deployment)) for _ in range(2)]
        too_many = [stack.enter_context(tcp_connection(deployment)) for _ in range(10)]
        assert all(closed_within(connection, DEADLINE) for connection in too_many)
        assert stub.IssueToken(REQUEST, timeout=DEADLINE).token
        for connection in held:
            connection.close()
        wait_until(lambda: _served(deployment), what="a place is free again", seconds=DEADLINE)


def _served(deployment: Deployment) -> bool:
    try:
        return bool(tokens(deployment))
    except grpc.RpcError:
        return False


def test_a_client_that_never_speaks_http_after_its_handshake_is_disconnected(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    with (
        Deployment(tmp_path, options={"server": {"handshake_timeout": "1s"}}) as deployment,
        tls_connection(deployment, tmp_path / "client") as connection,
    ):
        assert tokens(deployment)
        assert closed_within(connection, DEADLINE)


def test_half_messages_hold_no_turn(one_turn: Deployment, tmp_path: Path) -> None:
    with tls_connection(one_turn, tmp_path) as connection:
        connection.sendall(PREFACE + no_window())
        for stream in range(1, 201, 2):
            connection.sendall(call_headers(stream) + message(stream, REQUEST.SerializeToString(), sent=9))
        assert len(tokens(one_turn, 5)) == 5


def test_answers_that_are_never_read_hold_no_turn(one_turn: Deployment, tmp_path: Path) -> None:
    before = issued(one_turn)
    with tls_connection(one_turn, tmp_path) as connection:
        connection.sendall(PREFACE + no_window())
        for stream in range(1, 21, 2):
            connection.sendall(call_headers(stream) + message(stream, REQUEST.SerializeToString()))
        wait_until(lambda: issued(one_turn) >= before + 10, what="its tokens were made", seconds=DEADLINE)
        assert len(tokens(one_turn, 5)) == 5


def issued(deployment: Deployment) -> int:
    return sum(line["event"] == "rpc" and line["code"] == "OK" for line in deployment.issuer.log())


def test_streams_that_are_never_read_hold_no_turn(one_turn: Deployment) -> None:
    with one_turn.channel(one_turn.svid(VIEWER)) as channel:
        stub = admin_grpc.AdminServiceStub(channel)
        streams = [stub.WatchDecisions(admin_pb.WatchDecisionsRequest(after_seq=0)) for _ in range(4)]
        for stream in streams:
            next(stream)
        assert len(tokens(one_turn, 5)) == 5
        for stream in streams:
            stream.cancel()


def test_health_is_watched_and_asked_however_much_waits(one_turn: Deployment, tmp_path: Path) -> None:
    with (
        flood(one_turn, FLOODER, tmp_path / "flood", calls=50) as flooding,
        one_turn.channel(one_turn.svid()) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        for _ in range(20):
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        listing = stub.List(health_pb2.HealthListRequest(), timeout=DEADLINE)
        assert listing.statuses[""].status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        flooding.stop()


def test_beyond_the_calls_that_are_held_nobody_is_verified(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {
        "server": {"max_calls": 2},
        "metrics": {"listen": f"127.0.0.1:{free_port()}"},
    }
    with (
        Deployment(tmp_path, options=options) as deployment,
        flood(deployment, SETTLER, tmp_path / "flood", calls=(callers := 50)) as flooding,
    ):
        wait_until(lambda: issued(deployment) > callers, what="one has its answer and asks again", seconds=DEADLINE)
        assert set(flooding.stop()) == {"served", "RATE_LIMITED with RetryInfo"}
        assert metric(deployment, 'issuer_refused_calls_total{trust_domain=""}') > 0


@pytest.mark.usefixtures("not_on_h2corn")
def test_a_client_that_pings_too_often_is_disconnected(one_turn: Deployment, tmp_path: Path) -> None:
    with tls_connection(one_turn, tmp_path) as connection:
        connection.sendall(PREFACE + no_window() + ping() * 10)
        assert closed_within(connection, DEADLINE)


@pytest.mark.usefixtures("not_on_h2corn")
def test_a_client_that_is_gone_without_a_word_is_disconnected(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    options: dict[str, dict[str, object]] = {"server": {"keepalive_time": "1s", "keepalive_timeout": "1s"}}
    with Deployment(tmp_path, options=options) as deployment, tls_connection(deployment, tmp_path / "client") as gone:
        gone.sendall(PREFACE + no_window() + acknowledged())
        assert closed_within(gone, DEADLINE), "it answers no ping"


def test_a_connection_without_calls_is_asked_to_go(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    options: dict[str, dict[str, object]] = {"server": {"max_connection_idle": "1s"}}
    with Deployment(tmp_path, options=options) as deployment, tls_connection(deployment, tmp_path / "client") as idle:
        idle.sendall(PREFACE + no_window() + acknowledged())
        assert told_to_go(idle, DEADLINE)
