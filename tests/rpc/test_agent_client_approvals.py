"""Approvals as a workload asks for them, with both clients and ``spiffe-token``, against a real issuer."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.approving import ALICE, BOB, Approvable
from support.clients import Clients, InItsLoop
from support.deployment import LEDGER, SETTLER
from support.spiffe_token import PROGRAM, SpiffeToken, line_of

from agent_client import (
    ApprovalRequired,
    ApprovalState,
    ClientClosed,
    InvalidTokenRequest,
    IssuerClient,
    IssuerUnavailable,
    NotFound,
    SyncIssuerClient,
    TokenRequest,
)
from issuer_testing.deadline import wait_until
from issuer_testing.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUND = (LEDGER, ["ledger.refund"])
GET = ("get", "--audience", LEDGER, "--scope", "ledger.refund")
NOBODY = "approvalRequests/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55"


@pytest.fixture(scope="module")
def approvable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Approvable]:
    with Approvable(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment


@pytest.fixture(params=[SyncIssuerClient, InItsLoop], ids=["sync", "asyncio"])
def client(request: pytest.FixtureRequest, approvable: Approvable) -> Iterator[Any]:
    with Clients(request.param).of(approvable, approvable.authority.workload(SETTLER)) as client:
        yield client


@pytest.fixture
def command(approvable: Approvable) -> SpiffeToken:
    return SpiffeToken(approvable, approvable.authority.workload(SETTLER))


def test_the_refusal_names_what_was_asked_of_people(client: Any) -> None:
    with pytest.raises(ApprovalRequired) as required:
        client.issue_token(*REFUND, request_approval=True, approval_reason="charged twice")
    assert required.value.scopes == ("ledger.refund",)
    asked = client.request_approval(*REFUND)
    assert required.value.approval_request == asked.name
    assert required.value.approval_digest == asked.digest
    assert required.value.approval_expires_at == asked.expires_at.replace(microsecond=0)
    assert (asked.state, asked.scopes, asked.scopes_left) == (
        ApprovalState.PENDING, ("ledger.refund",), ("ledger.refund",),
    )  # fmt: skip
    assert client.cancel_approval(asked.name).state is ApprovalState.CANCELLED


def test_a_batch_item_asks_as_well(client: Any) -> None:
    (refused,) = client.issue_tokens([TokenRequest(*REFUND, request_approval=True, approval_reason="batch")])
    assert isinstance(refused, ApprovalRequired)
    assert refused.approval_request
    client.cancel_approval(refused.approval_request)


def test_what_is_waited_for_is_told_as_soon_as_it_is_decided(client: Any, approvable: Approvable) -> None:
    asked = client.request_approval(*REFUND, reason="customer 17")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.wait_for_approval, asked.name, timeout=60)
        approvable.answer("Approve", asked.name)
        approved = waiting.result(30)
    assert (approved.approved, approved.approvers, approved.name) == (True, (ALICE,), asked.name)
    issued = client.issue_token(*REFUND)
    assert issued.approval_request == asked.name
    with pytest.raises(ApprovalRequired):
        client.issue_token(*REFUND)
    assert client.wait_for_approval(asked.name, timeout=60).state is ApprovalState.USED_UP


def test_a_token_that_needs_no_approval_names_none(client: Any) -> None:
    assert client.issue_token(LEDGER, ["ledger.read"]).approval_request is None


def test_a_denial_is_told_with_who_and_why(client: Any, approvable: Approvable) -> None:
    asked = client.request_approval(LEDGER, ["ledger.refund"], reason="denied later", ttl=None, bind_certificate=True)
    approvable.answer("Deny", asked.name, BOB, reason="not today")
    denied = client.wait_for_approval(asked.name, timeout=60)
    assert (denied.state, denied.approved, denied.ended_by, denied.ended_reason) == (
        ApprovalState.DENIED, False, BOB, "not today",
    )  # fmt: skip


def test_the_wait_ends_in_time_and_tells_that_nobody_answered(client: Any) -> None:
    asked = client.request_approval(*REFUND)
    began = time.monotonic()
    assert client.wait_for_approval(asked.name, timeout=1.5).state is ApprovalState.PENDING
    assert time.monotonic() - began < 10
    client.cancel_approval(asked.name)


def test_what_is_not_the_callers_is_not_there(client: Any) -> None:
    for method in (lambda name: client.wait_for_approval(name, timeout=5), client.cancel_approval):
        with pytest.raises(NotFound):
            method(NOBODY)
    with pytest.raises(InvalidTokenRequest):
        client.wait_for_approval("nothing", timeout=5)
    with pytest.raises(ValueError, match="positive"):
        client.wait_for_approval(NOBODY, timeout=0)


def test_a_restart_in_between_is_survived(tmp_path_factory: pytest.TempPathFactory) -> None:
    listen: dict[str, object] = {"listen": f"127.0.0.1:{free_port()}"}
    with Approvable(tmp_path_factory.mktemp("restarted"), server=listen) as deployment:
        workload = deployment.authority.workload(SETTLER)
        with SyncIssuerClient(deployment.issuer.address, workload_api=workload.socket, timeout=2) as client:
            name = client.request_approval(*REFUND).name
            with ThreadPoolExecutor(1) as threads:
                waiting = threads.submit(client.wait_for_approval, name, timeout=60)
                deployment.issuer.signal(signal.SIGKILL)
                deployment.issuer.wait()
                deployment.issuer.start()
                deployment.answer("Approve", name)
                assert waiting.result(60).approved


def test_an_issuer_that_stays_away_is_told_when_the_time_is_over(approvable: Approvable) -> None:
    workload = approvable.authority.workload(SETTLER)
    with SyncIssuerClient("127.0.0.1:1", workload_api=workload.socket) as client, pytest.raises(IssuerUnavailable):
        client.wait_for_approval(NOBODY, timeout=1.5)


def test_a_kept_token_is_not_renewed_with_what_people_approved(client: Any, approvable: Approvable) -> None:
    maker = client._client if isinstance(client, InItsLoop) else client
    source = maker.tokens_for(LEDGER, ["ledger.payout"], keep_fresh=True)
    with pytest.raises(ApprovalRequired):
        _get(client, source)
    asked = client.request_approval(LEDGER, ["ledger.payout"])
    for approver in (ALICE, BOB):
        approvable.answer("Approve", asked.name, approver)
    # It is told apart at once from the refusal before, which is kept for a while otherwise.
    assert client.wait_for_approval(asked.name, timeout=60).approved
    assert _get(client, source).approval_request == asked.name
    assert source._entry.due_at is None
    client.cancel_approval(asked.name)  # two uses are left, for the next test that asks for the same


def _get(client: Any, source: Any) -> Any:
    return client._run(source.get) if isinstance(client, InItsLoop) else source.get()


def _under_way(client: SyncIssuerClient | IssuerClient) -> int:
    return sum(len(health.under_way) for health in client._core.balancer._health.values())


def test_closing_the_client_ends_the_wait_in_a_thread(approvable: Approvable) -> None:
    workload = approvable.authority.workload(SETTLER)
    client = SyncIssuerClient(approvable.issuer.address, workload_api=workload.socket)
    name = client.request_approval(*REFUND).name
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.wait_for_approval, name, timeout=60)
        wait_until(lambda: _under_way(client), what="it waits", seconds=10)
        client.close()
        with pytest.raises(ClientClosed):
            waiting.result(10)
    approvable.answer("Cancel", name, SETTLER)


async def test_closing_the_client_or_cancelling_ends_the_wait_in_a_task(approvable: Approvable) -> None:
    workload = approvable.authority.workload(SETTLER)
    client = IssuerClient(approvable.issuer.address, workload_api=workload.socket)
    name = (await client.request_approval(*REFUND)).name
    first, second = (asyncio.ensure_future(client.wait_for_approval(name, timeout=60)) for _ in range(2))
    await asyncio.to_thread(wait_until, lambda: _under_way(client) == 2, what="both wait", seconds=10)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await client.close()
    with pytest.raises(ClientClosed):
        await second
    approvable.answer("Cancel", name, SETTLER)


# --- spiffe-token


def test_the_command_asks_and_tells_the_name(command: SpiffeToken, approvable: Approvable) -> None:
    plain = command.run(*GET)
    assert (plain.returncode, plain.stdout) == (7, "")
    assert "approval:" not in plain.stderr
    asked = command.run(*GET, "--request-approval", "--reason", "charged twice", "--output", "json")
    assert (asked.returncode, asked.stdout) == (7, "")
    told = json.loads(asked.stderr)
    assert told["reason"] == "APPROVAL_REQUIRED"
    assert approvable.state(told["approval"]) == "PENDING"
    approvable.answer("Cancel", told["approval"], SETTLER)


def test_the_command_waits_for_people_and_prints_the_token(command: SpiffeToken, approvable: Approvable) -> None:
    arguments = (*GET, "--request-approval", "--reason", "charged twice", "--wait", "50s")
    with command.start(*arguments, "--output", "json") as process:
        waits = json.loads(line_of(process.stderr))
        assert "waits for approval" in waits["message"]
        assert waits["expires"]
        approvable.answer("Approve", waits["approval"])
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert ALICE in json.loads(told)["message"]
    assert json.loads(printed)["scope"] == "ledger.refund"


def test_the_command_ends_with_3_when_people_say_no(command: SpiffeToken, approvable: Approvable) -> None:
    with command.start(*GET, "--request-approval", "--wait", "50s", "--ttl", "30s", "--output", "json") as process:
        name = json.loads(line_of(process.stderr))["approval"]
        approvable.answer("Deny", name, BOB, reason="no way")
        printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (3, "")
    denied = json.loads(told)
    assert (denied["message"], denied["by"]) == ("the request for approval is denied", BOB)


def test_the_command_ends_with_7_when_nobody_answers(command: SpiffeToken) -> None:
    ended = command.run(*GET, "--request-approval", "--wait", "1s", "--ttl", "20s")
    assert (ended.returncode, ended.stdout) == (7, "")
    assert "nobody has answered in time" in ended.stderr


@pytest.mark.parametrize("option", [("--reason", "x"), ("--wait", "1m"), ("--request-approval", "--wait", "soon")])
def test_options_that_make_no_sense_are_refused(option: tuple[str, ...]) -> None:
    ended = subprocess.run([*PROGRAM, *GET, *option], check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert option[-2] in ended.stderr
