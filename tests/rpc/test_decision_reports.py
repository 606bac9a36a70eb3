"""Reports on what a real issuer decided, as an operator reads them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.deployment import LEDGER, POLICY, READER, REQUEST, SETTLER, Deployment
from typer.testing import CliRunner

from issuer.cli.main import app
from issuer_api.v1 import issuer_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an issuer that gave two tokens and refused three requests."""
    folder = tmp_path_factory.mktemp("issuer")
    with Deployment(folder) as deployment:
        with deployment.stub() as stub:
            for _ in range(2):
                stub.IssueToken(REQUEST, timeout=10)
        with deployment.stub(deployment.svid(READER)) as stub:
            for _ in range(3):
                with pytest.raises(grpc.RpcError):
                    stub.IssueToken(pb.IssueTokenRequest(audience=LEDGER, scopes=["ledger.write"]), timeout=10)
    return folder


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    file = str(folder / "issuer" / "ledger" / "ledger.sqlite3")
    result = CliRunner().invoke(app, ["decisions", *arguments, "--file", file])
    return result.exit_code, result.stdout, result.stderr


def as_json(folder: Path, *arguments: str) -> Any:
    code, said, told = run(folder, *arguments, "--output", "json")
    assert code == 0, told
    return json.loads(said)


def test_refusals_come_with_what_would_have_to_change(folder: Path) -> None:
    (group,) = as_json(folder, "denials")
    assert (group["requests"], group["caller"], group["audience"]) == (3, READER, LEDGER)
    assert READER in group["change"] or "grant" in group["change"], group["change"]
    code, said, _ = run(folder, "denials")
    assert code == 0
    assert READER in said


def test_another_policy_shows_its_blast_radius(folder: Path, tmp_path: Path) -> None:
    edited = tmp_path / "policy.yaml"
    edited.write_text(POLICY.replace(SETTLER, READER), encoding="utf-8")
    found = as_json(folder, "replay", "--policy", str(edited))
    assert found["replayed"] == 5
    assert {(each["change"], each["caller"], each["requests"]) for each in found["changes"]} == {
        ("newly denied", SETTLER, 2),
        ("newly granted", READER, 3),
    }
    assert run(folder, "replay", "--policy", str(edited), "--fail-on-change")[0] == 1
    code, said, _ = run(folder, "replay", "--policy", str(edited))
    assert code == 0
    assert "5 requests replayed: 5 answers change" in said


def test_under_its_own_policy_nothing_changes(folder: Path) -> None:
    assert as_json(folder, "replay") == {"replayed": 5, "skipped": {}, "changes": []}


def test_unused_rights_are_named(folder: Path) -> None:
    (right,) = as_json(folder, "unused", "--policy", str(folder / "policy.yaml"))
    assert (right["grant"], right["scopes"], right["whole"]) == ("settlement", ["ledger.write"], False)
    assert "what was used before that is not known" in run(folder, "unused", "--policy", str(folder / "policy.yaml"))[2]


def test_the_rest_is_told_too(folder: Path) -> None:
    assert {row["name"] for row in as_json(folder, "top") if row["what"] == "caller"} == {SETTLER, READER}
    assert run(folder, "exceptions")[1] == "no exception was used\n"
    assert run(folder, "shared-identities")[1] == "no identity seems to be shared\n"
    assert len(as_json(folder, "shared-identities", "--min-score", "0")) == 2


def test_lists_are_csv_for_spreadsheets(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(folder, "list", "--output", "csv")[1])))
    assert [row["outcome"] for row in rows] == ["denied"] * 3 + ["granted"] * 2


def test_a_page_follows_another(folder: Path) -> None:
    first = as_json(folder, "list", "--limit", "3")
    rest = as_json(folder, "list", "--before", str(first[-1]["seq"]))
    assert [each["seq"] for each in first + rest] == [5, 4, 3, 2, 1]


def test_decisions_are_watched_as_they_are_made(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment, deployment.stub() as stub:
        file = tmp_path / "issuer" / "ledger" / "ledger.sqlite3"
        command = [sys.executable, "-m", "issuer", "decisions", "watch", "--file", str(file), "--after", "0"]
        with subprocess.Popen([*command, "--count", "2"], stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout
            for _ in range(2):
                token_id = stub.IssueToken(REQUEST, timeout=10).token_id
                assert json.loads(watching.stdout.readline())["token_id"] == token_id
            assert watching.wait(10) == 0


@pytest.mark.parametrize(
    "wrong",
    [("list", "--since", "soon"), ("list", "--flag", "x"), ("list", "--outcome", "x"), ("top", "--until", "x")],
)
def test_a_wrong_option_is_told(folder: Path, wrong: tuple[str, ...]) -> None:
    code, _, told = run(folder, *wrong)
    assert code == 2
    assert wrong[1] in told
