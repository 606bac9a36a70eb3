"""``issuer intents`` as operators run it, against a real issuer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support.commands import issuer_command
from support.eventually import eventually
from support.intending import OPERATOR, OTHER, SCHEDULER, VIEWER, WORKER, Intending

from issuer_testing.spire.authority import utc_now

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def intending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Intending]:
    with Intending(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment


def run(deployment: Intending, *arguments: str, identity: str = VIEWER) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, "intents", *arguments, identity=identity)


def document(deployment: Intending, *arguments: str, identity: str = VIEWER) -> Any:
    ended = run(deployment, *arguments, "--output", "json", identity=identity)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_a_viewer_sees_what_became_of_an_intent(intending: Intending) -> None:
    intent = intending.register()
    decision = intending.redeem(intent.name).token.decision_id
    assert intent.name in run(intending, "list").stdout
    assert [each["name"] for each in document(intending, "list", "--mine", identity=WORKER)] == [intent.name]
    assert document(intending, "list", "--mine", identity=OTHER) == []
    card = run(intending, "show", intent.name).stdout
    for line in (
        f"intent    {intent.name}: redeemed\n",
        f"lets      {WORKER}\n",
        f"act for   {SCHEDULER}, application batch\n",
        "to do     settle-batch batch/17\n",
        f"with      {intent.parameters_digest}\n",
        "txn       tx-1\n",
        "uses      0 left of 1\n",
        f"redeemed  decision {decision}\n",
        f"decision {intent.decision_id}\n",
    ):
        assert line in card
    shown = document(intending, "show", intent.name, identity=SCHEDULER)
    assert (shown["state"], shown["redemptions"], shown["ended_by"]) == ("redeemed", [decision], None)


def test_an_operator_takes_one_back(intending: Intending) -> None:
    name = intending.register().name
    said = run(intending, "cancel", name, "--reason", "wrong batch", identity=OPERATOR).stdout
    assert f"{name}: cancelled" in said
    assert f"by {OPERATOR}\n" in said
    assert 'because   "wrong batch"\n' in said
    assert intending.outcome(name) == "INTENT_NOT_OPEN"


def test_those_that_nobody_redeemed_in_time_are_listed(intending: Intending) -> None:
    soon = Timestamp()
    soon.FromDatetime(utc_now())
    soon.seconds += 2
    name = intending.register(expire_time=soon).name
    assert eventually(lambda: intending.state(name) == "EXPIRED", within=20)
    [listed] = document(intending, "list", "--expired")
    assert (listed["name"], listed["state"], listed["uses_left"]) == (name, "expired", 1)


@pytest.mark.parametrize(
    ("arguments", "identity", "code", "said"),
    [
        (("show", "x"), VIEWER, 1, "REQUEST_INVALID"),
        (("show", "intents/x"), VIEWER, 1, "INTENT_UNKNOWN"),
        (("cancel", "NAME", "--reason", "x"), VIEWER, 1, "INTENT_NOT_YOURS"),
        (("cancel", "NAME"), OPERATOR, 2, "--reason"),
        (("list",), WORKER, 1, "RPC_NOT_ALLOWED"),
    ],
)
def test_what_does_not_work_says_why(
    intending: Intending, arguments: tuple[str, ...], identity: str, code: int, said: str
) -> None:
    name = intending.register().name
    ended = run(intending, *(name if each == "NAME" else each for each in arguments), identity=identity)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
