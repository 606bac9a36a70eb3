from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.policies import AUDIENCES, grant, grants
from typer.testing import CliRunner

from issuer.cli.policy import policy_app

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

BROKEN = "version: 1\ngrant: []\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy_app, [*arguments])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(AUDIENCES + grants(grant("a"), grant("b")))
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    return path


def test_a_good_policy_is_counted_and_named(good: Path) -> None:
    result = run("check", str(good))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "good: 2 audiences, 2 grants, 0 prohibitions, 0 limits"
    assert result.stdout.splitlines()[1].startswith("digest sha256:")


def test_one_of_a_kind_is_counted_as_one(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(AUDIENCES + grants(grant("a")))
    assert run("check", str(tmp_path)).stdout.startswith("good: 2 audiences, 1 grant, 0 prohibitions, 0 limits\n")


def test_a_good_policy_as_json(good: Path) -> None:
    result = run("check", str(good), "--output", "json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document.pop("digest").startswith("sha256:")
    assert document == {"ok": True, "audiences": 2, "grants": 2, "prohibitions": 0, "limits": 0}


def test_a_fault_is_shown_in_its_line(broken: Path) -> None:
    result = run("check", str(broken))
    assert result.exit_code == 1
    assert result.stdout == (
        "broken.yaml:2:1: unknown key 'grant'; did you mean 'grants'?\n    2 | grant: []\n      | ^\n"
    )
    assert result.stderr == "issuer: the policy has 1 fault\n"


def test_a_fault_of_a_whole_file_is_shown_without_a_line(tmp_path: Path) -> None:
    result = run("check", str(tmp_path))
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1


def test_faults_as_json(broken: Path) -> None:
    result = run("check", str(broken), "-o", "json")
    assert result.exit_code == 1
    message = "unknown key 'grant'; did you mean 'grants'?"
    fault = {"file": "broken.yaml", "line": 2, "column": 1, "message": message}
    assert json.loads(result.stdout) == {"ok": False, "faults": [fault], "more": 0}


def test_many_faults_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\n" + "".join(f"k{number}: 1\n" for number in range(60)))
    result = run("check", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == "issuer: the policy has 60 faults, the first 50 of them shown\n"


def test_nothing_there_is_a_wrong_use(tmp_path: Path) -> None:
    result = run("check", str(tmp_path / "nowhere"))
    assert result.exit_code == 2
    assert "there is nothing at" in result.stderr


def test_an_unknown_output_is_a_wrong_use(good: Path) -> None:
    assert run("check", str(good), "--output", "xml").exit_code == 2
