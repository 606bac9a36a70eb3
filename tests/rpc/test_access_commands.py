"""``issuer access`` as operators run it, and ``start_access`` as workloads use it, against a real issuer."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.accessible import FIX, Accessible
from support.approving import OPERATOR, VIEWER
from support.commands import issuer_command
from support.deployment import LEDGER, SETTLER

from agent_client import (
    AccessEnded,
    ApprovalRequired,
    FactMissing,
    Intent,
    InvalidTokenRequest,
    IssuerClient,
    ScopeNotAllowed,
    SyncIssuerClient,
)
from issuer_testing.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from issuer_testing.spire.embedded import EmbeddedWorkload


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accessible]:
    with Accessible(tmp_path_factory.mktemp("issuer")) as deployment:
        deployment.tell_risk(1)
        yield deployment


@pytest.fixture(scope="module")
def settler(issuer: Accessible) -> EmbeddedWorkload:
    return issuer.authority.workload(SETTLER)


def run(deployment: Accessible, *arguments: str, identity: str = VIEWER) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, "access", *arguments, identity=identity)


def document(deployment: Accessible, *arguments: str, identity: str = VIEWER) -> Any:
    ended = run(deployment, *arguments, "--output", "json", identity=identity)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_an_operator_lists_shows_and_ends_windows(issuer: Accessible) -> None:
    window = issuer.start(seconds=600)
    token = issuer.under(window)
    [listed] = document(issuer, "list")
    assert (listed["name"], listed["state"], listed["scopes"]) == (window.name, "open", list(FIX))
    assert window.name in run(issuer, "list", "--mine", identity=SETTLER).stdout
    card = run(issuer, "show", window.name).stdout
    for line in (
        f"window    {window.name}: open\n",
        f"who       {SETTLER}\n",
        f"what      {' '.join(FIX)} at {LEDGER}\n",
        'why       "incident 7"\n',
        "holds     1 living tokens\n",
    ):
        assert line in card
    assert document(issuer, "show", window.name)["living_tokens"] == 1
    assert "RPC_NOT_ALLOWED" in run(issuer, "end", window.name, "--reason", "x", identity=VIEWER).stderr
    ended = document(issuer, "end", window.name, "--reason", "the incident is over", identity=OPERATOR)
    assert (ended["state"], ended["ended_by"], ended["ended_reason"]) == ("ended", OPERATOR, "the incident is over")
    assert not issuer.is_active(token.token)
    assert run(issuer, "list").stdout == "nobody has access just in time\n"
    assert window.name in run(issuer, "list", "--ended").stdout
    card = run(issuer, "show", window.name).stdout
    assert f"by {OPERATOR}: the incident is over" in card
    missing = run(issuer, "show", "accessWindows/0199e2b4-6f1a-7cc1-9d3e-6a1f0d6c9b55")
    assert (missing.returncode, "ACCESS_UNKNOWN" in missing.stderr) == (1, True)


def test_each_window_is_shown_as_it_opens_and_as_it_ends(issuer: Accessible) -> None:
    arguments = [sys.executable, "-m", "issuer", "access", "watch", "--output", "json"]
    variables = {
        "SPIFFE_ENDPOINT_SOCKET": issuer.authority.workload(VIEWER).socket,
        "SPIFFE_ISSUER_ADDRESS": issuer.issuer.address,
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | variables) as watching:
        assert watching.stdout is not None
        window = issuer.start()
        while (told := json.loads(watching.stdout.readline()))["name"] != window.name:
            pass
        assert told["state"] == "open"
        issuer.complete(window.name)
        told = json.loads(watching.stdout.readline())
        assert (told["name"], told["state"]) == (window.name, "completed")
        watching.kill()


def test_what_a_client_starts_is_completed_at_the_end_and_its_tokens_with_it(
    issuer: Accessible, settler: EmbeddedWorkload
) -> None:
    with SyncIssuerClient(issuer.issuer.address, workload_api=settler.socket) as client:
        with client.start_access(LEDGER, FIX, reason="incident 7", duration=timedelta(minutes=5)) as access:
            source = access.tokens_for()
            first = source.get()
            assert source.get() is first, "kept like any other"
            assert first.scopes == FIX
            assert access.tokens_for(["ledger.read"]).get().scopes == ("ledger.read",)
            with pytest.raises(ScopeNotAllowed):
                access.tokens_for(["ledger.refund"]).get()
            assert access.window.state == "open"
        assert access.window.state == "completed"
        assert not issuer.is_active(first.token.reveal())
        with pytest.raises(AccessEnded):
            source.get()
        assert access.complete().state == "completed"


def test_a_client_hands_out_no_token_of_a_window_that_the_issuer_ended(
    issuer: Accessible, settler: EmbeddedWorkload
) -> None:
    with SyncIssuerClient(issuer.issuer.address, workload_api=settler.socket) as client:
        with client.start_access(LEDGER, FIX, reason="incident 7", bind_certificate=True) as access:
            source = access.tokens_for()
            refused = source.get()
            assert refused.certificate_bound
            issuer.end(access.window.name)
            source.invalidate(refused)  # as an adapter does when the API says 401
            with pytest.raises(AccessEnded):
                source.get()
        assert (access.window.state, access.window.ended_reason) == ("ended", "over")


def test_a_client_is_told_what_is_missing(issuer: Accessible, settler: EmbeddedWorkload) -> None:
    with SyncIssuerClient(issuer.issuer.address, workload_api=settler.socket) as client:
        with pytest.raises(FactMissing):
            client.start_access(LEDGER, ["ledger.change"], reason="x", intent=Intent(ticket="CHG-99"))
        with pytest.raises(ApprovalRequired) as asked:
            client.start_access(LEDGER, ["ledger.refund"], reason="x", request_approval=True)
        assert asked.value.approval_request is not None
        with pytest.raises(InvalidTokenRequest):
            client.start_access(LEDGER, FIX, reason="")
        with pytest.raises(InvalidTokenRequest):
            client.start_access(LEDGER, FIX, reason="\ud800")


def test_asyncio_does_it_likewise(issuer: Accessible, settler: EmbeddedWorkload) -> None:
    async def work() -> None:
        async with IssuerClient(issuer.issuer.address, workload_api=settler.socket) as client:
            async with await client.start_access(LEDGER, FIX, reason="incident 7") as access:
                source = access.tokens_for(["ledger.fix"])
                first = await source.get()
                assert await source.get() is first
            assert access.window.state == "completed"
            with pytest.raises(AccessEnded):
                await source.get()
            with pytest.raises(ZeroDivisionError):
                async with await client.start_access(LEDGER, FIX, reason="incident 7") as failing:
                    raise ZeroDivisionError
            assert failing.window.state == "completed"

    asyncio.run(work())


def test_what_cannot_be_completed_ends_by_itself_and_hides_no_error(
    issuer: Accessible, settler: EmbeddedWorkload, caplog: pytest.LogCaptureFixture
) -> None:
    with SyncIssuerClient(issuer.issuer.address, workload_api=settler.socket, timeout=0.5) as client:
        access = client.start_access(LEDGER, FIX, reason="incident 7", timeout=10)
        object.__setattr__(access.window, "name", "accessWindows/unknown")
        with pytest.raises(ZeroDivisionError), access:
            raise ZeroDivisionError
    wait_until(lambda: "could not be completed" in caplog.text, what="it is told", seconds=1)
