"""``issuer approvals`` as approvers run it, against a real issuer."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from support.approving import ALICE, BOB, PAYOUT, REFUND, VIEWER, Approvable
from support.commands import environment, issuer_command
from support.deployment import LEDGER, SETTLER

from issuer_api.v1 import issuer_service_pb2 as issuer_pb

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def approvable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Approvable]:
    with Approvable(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment


def run(
    deployment: Approvable, *arguments: str, identity: str = ALICE, said: str = ""
) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, "approvals", *arguments, identity=identity, said=said)


def document(deployment: Approvable, *arguments: str, identity: str = ALICE) -> Any:
    ended = run(deployment, *arguments, "--output", "json", identity=identity)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_an_approver_lists_reads_the_card_and_approves(approvable: Approvable) -> None:
    wanted = issuer_pb.IssueTokenRequest(
        audience=LEDGER, scopes=["ledger.payout"], intent=issuer_pb.Intent(operation="rent", ticket="CHG-7")
    )
    name = approvable.ask(wanted, why="rent is due").name
    assert name in run(approvable, "list").stdout
    assert document(approvable, "list", "--mine", identity=SETTLER)[0]["name"] == name
    assert document(approvable, "list", "--all", identity=VIEWER)[0]["intent"] == {
        "operation": "rent", "ticket": "CHG-7",
    }  # fmt: skip
    card = run(approvable, "show", name).stdout
    for line in (
        f"request   {name}: pending, until ",
        f"who       {SETTLER}\n",
        f"what      ledger.payout at {LEDGER}\n",
        "to do     operation rent, ticket CHG-7\n",
        'why now   "rent is due"\n',
        "impact    a token of at most 120 s\n",
        "ledger.payout: risk critical, approved by 0 of 2\n",
        "holds     no living token\n",
    ):
        assert line in card
    refused = run(approvable, "approve", name, said="n\n")
    assert refused.returncode == 1
    assert "who       " in refused.stderr
    agreed = run(approvable, "approve", name, "--reason", "it is", said="y\n")
    assert "approved by 1 of 2" in agreed.stdout
    made = document(approvable, "approve", name, "--ttl", "30s", "--yes", identity=BOB)
    assert (made["state"], made["max_ttl_seconds"], made["uses_left"]) == ("approved", 30, 3)
    assert [(each["approver"], each["reason"]) for each in made["given"]] == [(ALICE, "it is"), (BOB, "")]
    assert approvable.outcome(wanted) == "OK"
    assert "1 living tokens; the newest: " in run(approvable, "show", name).stdout
    taken_back = document(approvable, "deny", name, "--reason", "enough")
    assert (taken_back["state"], taken_back["ended_reason"]) == ("revoked", "enough")
    assert "shortened to 30 s" in run(approvable, "show", name).stdout


def test_part_of_it_is_approved(approvable: Approvable) -> None:
    both = issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund", "ledger.payout"])
    name = approvable.ask(both).name
    made = run(approvable, "approve", name, "--scope", "ledger.refund", "--yes")
    assert "ledger.payout: risk critical, approved by 0 of 2, left out" in made.stdout


def test_who_watches_sees_each_request_as_it_comes(approvable: Approvable) -> None:
    command = [sys.executable, "-m", "issuer", "approvals", "watch", "--output", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(approvable, BOB)) as watching:
        assert watching.stdout is not None
        try:
            name = approvable.ask(issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"])).name
            assert any(json.loads(line)["name"] == name for line in watching.stdout)
        finally:
            watching.kill()


@pytest.mark.parametrize(
    ("arguments", "identity", "code", "said"),
    [
        (("show", "x"), ALICE, 1, "REQUEST_INVALID"),
        (("show", "approvalRequests/x"), ALICE, 1, "APPROVAL_UNKNOWN"),
        (("approve", "NAME", "--yes"), SETTLER, 1, "APPROVER_NOT_ALLOWED"),
        (("approve", "NAME", "--yes", "--ttl", "soon"), ALICE, 2, "--ttl"),
        (("approve", "NAME", "--yes", "--scope", "ledger.read"), ALICE, 1, "REQUEST_INVALID"),
        (("deny", "NAME"), ALICE, 2, "--reason"),
        (("list", "--all"), ALICE, 1, "RPC_NOT_ALLOWED"),
    ],
)
def test_what_does_not_work_says_why(
    approvable: Approvable, arguments: tuple[str, ...], identity: str, code: int, said: str
) -> None:
    name = approvable.ask(
        issuer_pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.refund"], ttl=Duration(seconds=50))
    ).name
    ended = run(approvable, *(name if each == "NAME" else each for each in arguments), identity=identity)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr


def test_nothing_waits_when_nothing_does(approvable: Approvable) -> None:
    assert run(approvable, "list", identity=VIEWER).stdout == "nothing waits\n"
    assert run(approvable, "list", "--mine").stdout == "there is none\n"
    assert REFUND.audience == PAYOUT.audience
