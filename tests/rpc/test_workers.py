"""An issuer of two worker processes: what they share, and what the end of one of them costs."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from support.approving import ALICE, FEEDER, REFUND, Approvable
from support.approving import POLICY as APPROVAL_POLICY
from support.deployment import DEADLINE, POLICY, REQUEST, SETTLER, Deployment, reason_of
from support.eventually import eventually
from support.ledgers import rows
from support.postgres import PostgresServer
from support.processes import writer_of
from support.revocations import OPERATOR, READS, Revocable
from support.scraping import scraped, value
from support.workers import (
    Load,
    answered_by,
    channel_to_each,
    children,
    is_alive,
    kill_and_await_the_next,
    reached,
    serving,
    workers_of,
)

from issuer.ledger.reading import LedgerReader
from issuer.ledger.verification import verify_ledger
from issuer_api.v1 import admin_service_pb2 as admin
from issuer_api.v1 import admin_service_pb2_grpc as admin_grpc
from issuer_api.v1 import approval_service_pb2 as approval_pb
from issuer_api.v1 import issuer_service_pb2 as pb
from issuer_api.v1 import issuer_service_pb2_grpc as pb_grpc
from issuer_testing.free_port import free_port
from issuer_testing.issuer_process import IssuerDidNotStart, IssuerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = "spiffe://dev.test/ns/ledger/sa/api"
OWNED = "    application: ledger\n"
SERVED = POLICY.replace(OWNED, f'{OWNED}    servers: ["{SERVER}"]\n', 1) + READS
TWO: dict[str, object] = {"workers": 2}


def file_of(folder: Path) -> Path:
    return folder / "issuer" / "ledger" / "ledger.sqlite3"


def in_ledger(file: Path) -> set[str]:
    return {token_id for (token_id,) in rows(file, "SELECT token_id FROM decision WHERE token_id IS NOT NULL")}


def assert_every_token_is_recorded_once(folder: Path, received: list[str]) -> None:
    assert len(set(received)) == len(received)
    assert set(received) <= in_ledger(file_of(folder))
    assert verify_ledger(LedgerReader.sqlite(file_of(folder))).faults == ()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Revocable]:
    with Revocable(tmp_path, SERVED, server=TWO) as deployment:
        yield deployment


def status(channel: grpc.Channel) -> admin.GetPolicyStatusResponse:
    answer: admin.GetPolicyStatusResponse = admin_grpc.AdminServiceStub(channel).GetPolicyStatus(
        admin.GetPolicyStatusRequest(), timeout=DEADLINE
    )
    return answer


def digests(channels: dict[int, grpc.Channel]) -> set[str]:
    return {status(channel).current.digest for channel in channels.values()}


def test_both_workers_answer_and_every_token_is_recorded(tmp_path: Path, transport: str) -> None:
    with Deployment(tmp_path, options={"server": {**TWO, "transport": transport}}) as deployment:
        with Load(deployment, callers=16) as load:
            load.wait_for_more(200)
        shares = Counter(answered_by(deployment.issuer, 0))
        assert shares.keys() == {1, 2}
        chains = rows(file_of(tmp_path), "SELECT DISTINCT writer FROM decision")
        assert len(chains) == 1, "the workers write one chain"
    assert load.failures == []
    assert_every_token_is_recorded_once(tmp_path, load.received)


def test_the_command_line_says_how_many_and_wins_over_the_configuration(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, options={"server": {"workers": 1}})
    with IssuerProcess(replace(deployment.settings, arguments=("--workers", "2"))) as issuer:
        assert workers_of(issuer).keys() == {1, 2}
        assert issuer.wait_for("serving")["workers"] == 2


def test_a_killed_worker_costs_its_calls_in_flight_and_nothing_else(tmp_path: Path, transport: str) -> None:
    callers = 8
    with Deployment(tmp_path, options={"server": {**TWO, "transport": transport}}) as deployment:
        with Load(deployment, callers) as load:
            for kills in (1, 2):
                load.wait_for_more()
                kill_and_await_the_next(deployment.issuer, place=kills)
                # grpcio's client may give its next call, too, to a connection that has just broken.
                assert len(load.failures) <= kills * callers * 2, load.failures
            load.wait_for_more()
        ended = [line for line in deployment.issuer.log() if line.get("event") == "worker_ended"]
        assert [line["exit_code"] for line in ended] == [-signal.SIGKILL] * 2
        assert not [line for line in deployment.issuer.log() if line.get("serving") is False], "one went on"
    assert {code for code, _, _ in load.failures} <= {grpc.StatusCode.UNAVAILABLE}
    assert {reason for _, reason, _ in load.failures} <= {""}, "no refusal of the issuer: the connection broke"
    assert_every_token_is_recorded_once(tmp_path, load.received)


def test_a_killed_ledger_process_costs_a_pause_and_neither_a_token_nor_a_row(tmp_path: Path) -> None:
    with Deployment(tmp_path, options={"server": TWO}) as deployment, Load(deployment) as load:
        for _ in range(2):
            load.wait_for_more()
            after, writer = len(deployment.issuer.log()), writer_of(deployment.issuer.pid)
            os.kill(writer, signal.SIGKILL)
            deployment.issuer.wait_for("ledger_process_ended", after=after)
            load.wait_for_more()
            assert writer_of(deployment.issuer.pid) != writer
    assert {reason for _, reason, _ in load.failures} <= {"LEDGER_UNAVAILABLE"}
    assert_every_token_is_recorded_once(tmp_path, load.received)


def test_on_sigterm_calls_end_and_no_process_stays(two: Revocable) -> None:
    processes = children(two.issuer.pid)
    assert len(processes) == 4, "two workers, the ledger's process, and the public one"
    batch = pb.BatchIssueTokensRequest(requests=[REQUEST] * 256)
    with ExitStack() as stack:
        stubs = [pb_grpc.IssuerServiceStub(channel) for channel in channel_to_each(two, stack).values()]
        after = len(two.issuer.log())
        calls = [stub.BatchIssueTokens.future(batch, timeout=DEADLINE) for stub in stubs for _ in range(3)]
        two.issuer.wait_for("rpc", after=after)
        two.issuer.signal(signal.SIGTERM)
        answered = [call.result() for call in calls if call.exception() is None]
        refused = {call.code() for call in calls if call.exception() is not None}
    assert refused <= {grpc.StatusCode.UNAVAILABLE}, "a call that had not arrived may be turned away"
    assert answered
    assert all(result.response.token for answer in answered for result in answer.results), "one that was taken is whole"
    assert two.issuer.wait() == 0
    assert not any(map(is_alive, processes))
    assert "worker_ended" not in [line.get("event") for line in two.issuer.log()]


def test_no_process_outlives_a_killed_supervisor(two: Revocable) -> None:
    processes = children(two.issuer.pid)
    two.issuer.signal(signal.SIGKILL)
    two.issuer.wait()
    eventually(lambda: not any(map(is_alive, processes)))
    two.issuer.start()
    assert two.outcome() == "OK", "the port and the ledger were given up"


def test_a_worker_that_dies_again_and_again_is_started_ever_later_and_loudly(tmp_path: Path) -> None:
    with Deployment(tmp_path, options={"server": TWO}) as deployment:
        issuer, killed = deployment.issuer, set[int]()

        def killed_another() -> bool:
            worker = workers_of(issuer).get(1)
            if worker is not None and worker not in killed:
                killed.add(worker)
                os.kill(worker, signal.SIGKILL)
            return len(killed) == 5

        eventually(killed_another, within=60)
        loop = issuer.wait_for("worker_crash_loop", short_lives=5)
        assert (loop["level"], loop["worker"], loop["left"]) == ("critical", 1, 1)
        pauses = [line["next_start_in_seconds"] for line in issuer.log() if line.get("event") == "worker_ended"]
        assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2]
        with deployment.stub() as stub:
            assert stub.IssueToken(REQUEST, timeout=DEADLINE).token, "the other one answers all the while"


def test_a_reload_or_rollback_asked_of_one_worker_is_in_force_in_all_when_it_returns(two: Revocable) -> None:
    with ExitStack() as stack:
        channels = channel_to_each(two, stack, OPERATOR)
        (before,) = digests(channels)
        for number, channel in enumerate(channels.values(), 1):
            two.policy_file.write_text(SERVED.replace("max_ttl: 10m", f"max_ttl: {number}m"))
            stub = admin_grpc.AdminServiceStub(channel)
            changed = stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE).current.digest
            assert digests(channels) == {changed}
            stub.RollbackPolicy(admin.RollbackPolicyRequest(digest=before), timeout=DEADLINE)
            assert digests(channels) == {before}
            assert all(status(each).pinned for each in channels.values())


def test_a_policy_that_is_refused_changes_no_worker_and_all_say_why(two: Revocable) -> None:
    with ExitStack() as stack:
        channels = channel_to_each(two, stack, OPERATOR)
        before = digests(channels)
        two.policy_file.write_text(SERVED.replace("grants:", "grantz:"))
        two.issuer.signal(signal.SIGHUP)
        two.issuer.wait_for("policy_reload_refused")
        eventually(lambda: all("grantz" in status(channel).last_fault for channel in channels.values()))
        assert digests(channels) == before


def test_a_worker_that_starts_during_reloads_has_the_policy_of_the_others(two: Revocable) -> None:
    with ExitStack() as stack:
        operator = channel_to_each(two, stack, OPERATOR)[1]
        after = len(two.issuer.log())
        os.kill(workers_of(two.issuer)[2], signal.SIGKILL)
        reloads = 0
        while 2 not in serving(two.issuer, after):
            reloads += 1
            two.policy_file.write_text(SERVED.replace("max_ttl: 10m", f"max_ttl: {10 + reloads}s"))
            stub = admin_grpc.AdminServiceStub(operator)
            stub.ReloadPolicy(admin.ReloadPolicyRequest(), timeout=DEADLINE)
        assert reloads
        two.policy_file.write_text(SERVED.replace("grants:", "grantz:"))  # what is in force is in no file any more
        kill_and_await_the_next(two.issuer, place=2)
        assert len(digests(channel_to_each(two, stack, OPERATOR))) == 1


def test_what_is_revoked_at_one_worker_is_dead_at_all_within_a_second(two: Revocable) -> None:
    with ExitStack() as stack:
        holders = channel_to_each(two, stack)
        servers = [pb_grpc.IssuerServiceStub(each) for each in channel_to_each(two, stack, SERVER).values()]
        operators = channel_to_each(two, stack, OPERATOR)
        issued = {
            place: pb_grpc.IssuerServiceStub(each).IssueToken(REQUEST, timeout=DEADLINE).token
            for place, each in holders.items()
        }

        def active() -> set[bool]:
            return {
                stub.IntrospectToken(pb.IntrospectTokenRequest(token=token), timeout=DEADLINE).active
                for stub in servers
                for token in issued.values()
            }

        assert active() == {True}
        request = admin.RevokeRequest(reason="a leak", selector=admin.TokenSelector(workload=SETTLER))
        admin_grpc.AdminServiceStub(operators[1]).Revoke(request, timeout=DEADLINE)
        for holder in holders.values():
            with pytest.raises(grpc.RpcError) as refused:
                pb_grpc.IssuerServiceStub(holder).IssueToken(REQUEST, timeout=DEADLINE)
            assert reason_of(refused.value) == "REVOKED", "at once: what was decided before is not written"
        eventually(lambda: active() == {False}, within=1)


def risk_of_settler(score: int) -> admin.PutFactsRequest:
    values = {"score": admin.FactValue(int_value=score)}
    return admin.PutFactsRequest(facts=[admin.Fact(type="risk", subject=SETTLER, values=values)])


def test_a_fact_told_to_one_worker_counts_in_all_when_it_was_told(tmp_path: Path) -> None:
    with Approvable(tmp_path, server=TWO) as deployment, ExitStack() as stack:
        feeders, callers = channel_to_each(deployment, stack, FEEDER), channel_to_each(deployment, stack)

        def outcomes() -> set[str]:
            return {outcome(pb_grpc.IssuerServiceStub(each)) for each in callers.values()}

        for feeder in feeders.values():
            put = admin_grpc.AdminServiceStub(feeder).PutFacts
            put(risk_of_settler(90), timeout=DEADLINE)
            assert "OK" not in outcomes()
            put(risk_of_settler(10), timeout=DEADLINE)
            assert outcomes() == {"OK"}
        put(risk_of_settler(90), timeout=DEADLINE)
        kill_and_await_the_next(deployment.issuer, place=1)
        stopped = workers_of(deployment.issuer)[2]
        os.kill(stopped, signal.SIGSTOP)
        fresh = reached(deployment, stack, 1, FEEDER)
        admin_grpc.AdminServiceStub(fresh).PutFacts(risk_of_settler(10), timeout=DEADLINE)
        assert not is_alive(stopped), "it did not answer, so it was ended: nobody decides from other facts"


def outcome(stub: pb_grpc.IssuerServiceStub) -> str:
    try:
        stub.IssueToken(REQUEST, timeout=DEADLINE)
    except grpc.RpcError as error:
        return reason_of(error)
    return "OK"


def test_an_approval_given_at_one_worker_is_used_at_another(tmp_path: Path) -> None:
    with Approvable(tmp_path, APPROVAL_POLICY, server=TWO) as deployment, ExitStack() as stack:
        callers = {place: pb_grpc.IssuerServiceStub(each) for place, each in channel_to_each(deployment, stack).items()}
        name = deployment.ask().name
        eventually(lambda: knows(deployment, name))
        assert deployment.answer("Approve", name, ALICE).name == name
        assert eventually(lambda: token_of(callers[1], REFUND), within=1)
        with pytest.raises(grpc.RpcError) as refused:
            callers[2].IssueToken(REFUND, timeout=DEADLINE)
        assert reason_of(refused.value) == "APPROVAL_REQUIRED", "one approval, one token, whichever worker is asked"


def knows(deployment: Approvable, name: str) -> bool:
    """Return whether each of several connections leads to a worker that has learned of a request."""
    return all(asked_for(deployment, name) for _ in range(6))


def asked_for(deployment: Approvable, name: str) -> bool:
    with deployment.approvals(ALICE) as stub:
        try:
            stub.GetApprovalRequest(approval_pb.GetApprovalRequestRequest(name=name), timeout=DEADLINE)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True


def token_of(stub: pb_grpc.IssuerServiceStub, request: pb.IssueTokenRequest) -> str:
    """Return a token; empty where approval is missing."""
    try:
        return str(stub.IssueToken(request, timeout=DEADLINE).token)
    except grpc.RpcError as error:
        if reason_of(error) != "APPROVAL_REQUIRED":
            raise
        return ""


def test_metrics_are_those_of_all_workers_and_keep_what_dead_ones_counted(tmp_path: Path) -> None:
    port = free_port()
    with Deployment(tmp_path, options={"server": TWO, "metrics": {"listen": f"127.0.0.1:{port}"}}) as deployment:
        with Load(deployment) as load:
            load.wait_for_more()
        received = len(load.received)

        def issued() -> float:
            return value(scraped(port), "issuer_tokens_issued_total")

        eventually(lambda: issued() == received)
        assert value(scraped(port), "issuer_workers", state="serving") == 2
        kill_and_await_the_next(deployment.issuer, place=1)
        assert issued() == received
        with deployment.stub() as stub:
            stub.IssueToken(REQUEST, timeout=DEADLINE)
        eventually(lambda: issued() == received + 1)
        assert value(scraped(port), "issuer_worker_restarts_total") == 1
        assert value(scraped(port), "issuer_ledger_writable") == 1


def test_the_decision_log_has_every_decision_once_and_no_torn_line(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {
        "server": TWO,
        "decision_log": {"path": "decisions.jsonl", "required": True},
    }
    with Deployment(tmp_path, options=options) as deployment, Load(deployment) as load:
        load.wait_for_more()
        deployment.issuer.signal(signal.SIGHUP)
        load.wait_for_more()
    lines = (tmp_path / "issuer" / "decisions.jsonl").read_text().splitlines()
    told = [json.loads(line)["spiffe_issuer"].get("token_id") for line in lines]
    assert Counter(filter(None, told)) == Counter(load.received)


def test_on_sigusr2_every_worker_is_replaced_one_after_another_under_load(tmp_path: Path) -> None:
    with Deployment(tmp_path, options={"server": TWO}) as deployment:
        before = workers_of(deployment.issuer)
        with Load(deployment, callers=4) as load:
            load.wait_for_more()
            deployment.issuer.signal(signal.SIGUSR2)
            for place in before:
                deployment.issuer.wait_for("worker_rolled", worker=place)
            load.wait_for_more()
        after = workers_of(deployment.issuer)
        assert after.keys() == before.keys()
        assert not set(after.values()) & set(before.values())
        assert not [line for line in deployment.issuer.log() if line.get("event") == "worker_ended"]
    # grpcio cancels a call that arrives at the very moment at which its server stops.
    assert {code for code, _, _ in load.failures} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert len(load.failures) <= len(before) * 4
    assert_every_token_is_recorded_once(tmp_path, load.received)


def test_two_issuers_do_not_share_a_port_without_a_word(two: Revocable) -> None:
    with (
        pytest.raises(IssuerDidNotStart, match="the address is in use"),
        two.another_issuer("other", two.issuer.address),
    ):
        pytest.fail("it started")


def test_what_is_wrong_with_a_worker_at_the_start_is_told_to_who_started_it(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {"server": TWO, "spire": {"spiffe_id": "spiffe://dev.test/another"}}
    deployment = Deployment(tmp_path, options=options)
    with pytest.raises(IssuerDidNotStart, match="has no SVID for"), deployment:
        pytest.fail("it started")


def test_on_postgresql_each_worker_writes_by_itself_and_obeys_what_another_revoked(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        place: dict[str, object] = {"file": None, "postgresql": (database := server.new_database())}
        with Revocable(tmp_path, SERVED, ledger=place, server=TWO) as deployment, ExitStack() as stack:
            with Load(deployment) as load:
                load.wait_for_more()
                kill_and_await_the_next(deployment.issuer, place=1)
                load.wait_for_more()
            callers = channel_to_each(deployment, stack)
            deployment.revoke(workload=SETTLER)
            assert {outcome(pb_grpc.IssuerServiceStub(each)) for each in callers.values()} == {"REVOKED"}
        reader = LedgerReader.postgres(database)
        with reader.connected() as connection:
            found = connection.exec_driver_sql("SELECT writer, token_id FROM decision WHERE token_id IS NOT NULL")
            recorded = [tuple(row) for row in found]
        assert len({writer for writer, _ in recorded}) >= 2
        assert set(load.received) <= {token_id for _, token_id in recorded}
        assert verify_ledger(reader).faults == ()


def test_the_listener_for_introspection_over_http_is_one_address_of_all_workers(tmp_path: Path) -> None:
    options: dict[str, dict[str, object]] = {
        "server": TWO,
        "oauth_http": {"listen": "127.0.0.1:0", "url": "https://issuer.example.org"},
    }
    with Deployment(tmp_path, options=options) as deployment:
        told = [line for line in deployment.issuer.log() if line.get("event") == "oauth_http_listening"]
        assert {line["worker"] for line in told} == {1, 2}
        assert len({line["address"] for line in told}) == 1
