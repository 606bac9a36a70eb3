"""``issuer revoke`` and ``issuer revocations`` as an operator runs them, against a real issuer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.commands import issuer_command
from support.deployment import LEDGER, SETTLER
from support.revocations import OPERATOR, VIEWER, Revocable

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def revocable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revocable]:
    with Revocable(tmp_path_factory.mktemp("issuer")) as deployment:
        yield deployment


def run(deployment: Revocable, *arguments: str, identity: str = OPERATOR) -> subprocess.CompletedProcess[str]:
    return issuer_command(deployment, *arguments, identity=identity)


def document(deployment: Revocable, *arguments: str, identity: str = OPERATOR) -> Any:
    ended = run(deployment, *arguments, "--output", "json", identity=identity)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_an_operator_looks_revokes_lists_and_lifts(revocable: Revocable) -> None:
    revocable.issued()
    options = ("--workload", SETTLER, "--audience", LEDGER, "--reason", "INC-7")
    tried = run(revocable, "revoke", *options, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.splitlines() == [
        f"would revoke: workload {SETTLER}, audience {LEDGER}",
        "tokens that would be dead: 1",
        f"  1 of {SETTLER}",
        "issuance: would be stopped until it is lifted",
    ]
    assert revocable.outcome() == "OK"
    made = document(revocable, "revoke", *options)
    assert made["revocation"]["selector"] == {"workload": SETTLER, "audience": LEDGER}
    assert [each["caller"] for each in made["tokens"]] == [SETTLER, SETTLER]
    assert revocable.outcome() == "REVOKED"
    name = made["revocation"]["revocation_id"]
    [listed] = document(revocable, "revocations", "list", "--stopping", identity=VIEWER)
    assert (listed["revocation_id"], listed["tokens_hit"], listed["actor"]) == (name, 2, OPERATOR)
    assert name in run(revocable, "revocations", "list").stdout
    assert run(revocable, "revocations", "lift", name).stdout == f"lifted: workload {SETTLER}, audience {LEDGER}\n"
    assert revocable.outcome() == "OK"
    assert run(revocable, "revocations", "list", "--stopping").stdout == "nothing is revoked\n"


def test_a_single_token_stops_nothing(revocable: Revocable) -> None:
    token = revocable.issued()
    told = run(revocable, "revoke", "--token", token.token_id, "--reason", "seen in a log").stdout.splitlines()
    assert told[0].endswith(f": token {token.token_id}, audience {LEDGER}")
    assert told[-1] == "issuance: goes on"


def test_times_and_their_words(revocable: Revocable) -> None:
    told = run(
        revocable, "revoke", "--audience", "https://x", "--issued-from", "2h", "--stop-for", "1h", "--reason", "x"
    ).stdout
    assert ", issued from 20" in told
    assert "issuance: stopped until 20" in told


@pytest.mark.parametrize(
    ("arguments", "identity", "code", "said"),
    [
        (("revoke", "--reason", "x"), OPERATOR, 1, "REQUEST_INVALID"),
        (("revoke", "--audience", "a"), OPERATOR, 2, "--reason"),
        (("revoke", "--audience", "a", "--reason", "x", "--stop-for", "soon"), OPERATOR, 2, "--stop-for"),
        (("revoke", "--audience", "a", "--reason", "x"), VIEWER, 1, "RPC_NOT_ALLOWED"),
        (("revocations", "lift", "x"), OPERATOR, 1, "REVOCATION_UNKNOWN"),
        (("revocations", "list"), SETTLER, 1, "RPC_NOT_ALLOWED"),
    ],
)
def test_what_does_not_work_says_why(
    revocable: Revocable, arguments: tuple[str, ...], identity: str, code: int, said: str
) -> None:
    ended = run(revocable, *arguments, identity=identity)
    assert ended.returncode == code
    assert said in ended.stderr
